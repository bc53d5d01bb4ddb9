"""Every block as a script of ``torch.jit`` computes what it does in Python, once loaded too."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dnl_det.layers import BLOCKS, build_attention

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_script_is_the_block(variant: tuple[str, dict[str, Any]], build: Any, features: Any):
    name, kwargs = variant
    block = build(name, **kwargs)
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(block), file)
    file.seek(0)
    script = torch.jit.load(file)
    for shape in ((2, 8, 6, 5), (1, 8, 9, 4), (3, 8, 1, 7), (1, 8, 1, 1), (0, 8, 3, 3)):
        x = features(*shape)
        torch.testing.assert_close(script(x), block(x), rtol=0, atol=1e-12)
    x = features(2, 8, 6, 5).requires_grad_()
    gradients = [torch.autograd.grad(f(x).square().sum(), x)[0] for f in (script, block)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_script_under_autocast_is_as_exact(name: str, features: Any) -> None:
    torch.manual_seed(0)
    block, x = build_attention(name, 8), 3 * features(2, 8, 6, 5).float()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.2)
        script = torch.jit.script(block)
        exact = build_attention(name, 8).double()
        exact.load_state_dict(block.state_dict())
        with torch.autocast("cpu", torch.bfloat16):
            found, ours = script(x), block(x)
        error, allowed = ((y.double() - exact(x.double())).norm() for y in (found, ours))
        assert error <= 1.5 * allowed


def test_a_script_runs_where_this_package_is_not(tmp_path: Path, build: Any) -> None:
    torch.jit.script(build("dnl", backend="chunked")).save(tmp_path / "block.pt")
    code = (
        "import sys, torch; block = torch.jit.load('block.pt');"
        "print(block(torch.ones(1, 8, 3, 4, dtype=torch.float64)).shape);"
        "assert 'dnl_det' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
