"""The ONNX exporter that traces: its files hold for other sizes than the example's."""

import io
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.filterwarnings("ignore")

SHAPES = ((2, 8, 6, 5), (3, 8, 9, 4), (1, 8, 7, 2), (1, 8, 1, 4), (2, 8, 4, 1), (1, 8, 1, 1))


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("nl", {}),
        ("dnl", {}),
        ("dnl", {"mode": "unary", "use_out": True}),
        ("dnl", {"backend": "chunked", "use_out": True}),
        ("dnl", {"downsample": True, "use_out": True}),
    ],
)
def test_no_size_of_an_inner_map_is_asked_for(
    name: str, kwargs: dict[str, Any], build: Any, features: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter knows that the input's sizes are free, and takes all others from the example."""
    monkeypatch.setattr("torch.onnx.is_in_onnx_export", lambda: True)
    graph = torch.jit.trace(build(name, **kwargs), features(2, 8, 6, 5)).inlined_graph
    (_, x) = graph.inputs()
    asked = [node.inputsAt(0).debugName() for node in graph.findAllNodes("aten::size")]
    assert set(asked) <= {x.debugName()}
    assert not graph.findAllNodes("dnl_det::chunked_attention")


def test_onnx_is_the_block(variant: tuple[str, dict[str, Any]], build: Any, features: Any) -> None:
    pytest.importorskip("onnx", reason="needs onnx, which writes the file")
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, which runs it")
    name, kwargs = variant
    block, file = build(name, **kwargs).float(), io.BytesIO()
    torch.onnx.export(
        block,
        (features(2, 8, 6, 5).float(),),
        file,
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "images", 2: "height", 3: "width"}},
    )
    session = runtime.InferenceSession(file.getvalue())
    for shape in SHAPES:
        x = features(*shape, seed=1).float()
        (found,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), block(x), rtol=1e-4, atol=2e-5)
