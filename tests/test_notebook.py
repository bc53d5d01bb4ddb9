"""The notebook: without outputs in git, and run from its first cell to its last."""

import json
import re
import time
from pathlib import Path

import pytest


@pytest.fixture
def path(root: Path) -> Path:
    return root / "docs/tutorial.ipynb"


def test_it_is_kept_without_outputs(path: Path) -> None:
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert len(cells) > 5
    for cell in cells:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_trains_evaluates_and_shows_attention(path: Path, tmp_path: Path) -> None:
    """Within five minutes of a CPU core."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, 4)
    start = time.monotonic()
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    assert time.monotonic() - start < 300

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs).replace("\r\n", "\n")
    box, mask = map(float, re.findall(r"box AP ([\d.]+), mask AP ([\d.]+)\n", printed)[0])
    # At chance, the classes alone divide it by ten.
    assert 15 < box < 70
    assert 10 < mask < 70
    # Images, the loss, detections, and the attention of two blocks.
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
    # Its own data: checked, and trained on.
    assert "50 images, 191 annotations, 10 categories\n  nothing found" in printed
    assert (tmp_path / "output/tutorial/own/model_final.pth").is_file()
