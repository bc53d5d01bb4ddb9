"""Time and memory of calls whose time and memory are known."""

import json
import re
import time

import pytest
import torch

from dnl_det.__main__ import main
from dnl_det.analysis import benchmark_attention, extra_peak_memory, machine, time_together
from dnl_det.engine import Trainer, load_config
from dnl_det.layers import attend

MIB = 2**20


def touched(mebibytes):
    return torch.ones(mebibytes * MIB // 4)


def test_time_is_that_of_the_call():
    timings = time_together(
        {"short": lambda: time.sleep(0.01), "long": lambda: time.sleep(0.04)}, repeats=3
    )
    assert 0.01 <= timings["short"].shortest <= timings["short"].median
    assert 0.04 <= timings["long"].median <= timings["long"].longest
    assert timings["short"].median < timings["long"].median


def test_each_call_is_warmed_up_and_then_counted():
    calls = []
    time_together({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3


@pytest.mark.parametrize("mebibytes", [40, 200])
def test_memory_beyond_input_and_result(mebibytes):
    def run():
        temporary = touched(mebibytes)
        return temporary[: 10 * MIB // 4] + 1  # 10 MiB

    found = extra_peak_memory(run)
    if found is None:
        pytest.skip("needs Linux' account of memory")
    assert found == pytest.approx(mebibytes * MIB, rel=0.1)


def test_attention_in_chunks_is_linear_in_the_positions():
    def extra(positions, backend):
        query, key, value = (torch.randn(1, positions, 16) for _ in range(3))
        return extra_peak_memory(lambda: attend(query, key, value, scale=1.0, backend=backend))

    if extra(64, "plain") is None:
        pytest.skip("needs Linux' account of memory")
    small, large = extra(4096, "chunked"), extra(8192, "chunked")
    # 1024 rows of 4096, of 8192; and the whole map twice.
    assert small == pytest.approx(16 * MIB, rel=0.3)
    assert large == pytest.approx(32 * MIB, rel=0.3)
    assert extra(8192, "plain") > 8 * large


@pytest.mark.parametrize("training", [False, True])
def test_benchmark_of_attention(training):
    rows = benchmark_attention("res5", (96, 64), ["plain", "chunked"], training=training, repeats=1)
    by_name = {(row["what"], row["backend"]): row for row in rows}
    bare = {("attention res5", "bare")} if not training else set()
    assert by_name.keys() == bare | {
        (what, backend)
        for what in ("attention res5", "block res5")
        for backend in ("plain", "chunked")
    }
    attention = by_name["attention res5", "chunked"]
    assert attention["positions"] == 6
    assert attention["multiply_adds"] == 6 * 6 * (512 + 2048)
    assert attention["seconds_ratio"] > 0
    assert ("efficiency" in attention) is not training


def test_command_writes_a_table_its_json_and_a_plot(tmp_path, capsys):
    words = ["--stages", "res5", "--sizes", "64x64", "64x96", "--repeats", "1"]
    assert main(["benchmark", *words, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "attention res5" in printed
    assert "efficiency" in printed
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert content["machine"]["torch"] == torch.__version__
    assert content["machine"]["threads"] == torch.get_num_threads()
    assert (content["warm_up"], content["repeats"]) == (1, 1)
    assert {row["size"] for row in content["rows"]} == {"64x64", "64x96"}
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_command_compares_models(tmp_path, root, capsys):
    configs = [str(root / f"configs/Shapes/{name}.yaml") for name in ("baseline", "disentangled")]
    words = ["--stages", "--sizes", "64x64", "--repeats", "1", "--output", str(tmp_path)]
    assert main(["benchmark", *words, "--models", *configs]) == 0
    rows = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert [row["what"] for row in rows] == ["model baseline", "model disentangled"]
    assert rows[0]["seconds_ratio"] == 1
    assert rows[1]["multiply_adds"] > rows[0]["multiply_adds"]


def test_the_head_of_segmentation_models_and_whole_ones(tmp_path, root):
    names = [str(root / f"configs/Shapes/sem_seg_{name}.yaml") for name in ("none", "disentangled")]
    words = ["benchmark", "--stages", "head", "--sizes", "64x96", "--repeats", "1"]
    main([*words, "--models", *names, "--output", str(tmp_path)])
    rows = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    positions = 8 * 12
    products = positions**2 * (256 + 256)
    attention = [row for row in rows if row["what"] == "attention head"]
    assert {row["multiply_adds"] for row in attention} == {products}
    # Query, key, value, mask and output convolution, and the weighted sum of the unary term.
    convolutions = positions * (512 * (4 * 256 + 1) + 256)
    blocks = [row["multiply_adds"] for row in rows if row["what"] == "block head"]
    assert set(blocks) == {products + convolutions}
    none, dnl = (row["multiply_adds"] for row in rows if row["what"].startswith("model"))
    # A narrower head: 64 channels, a fourth of them in query and key, all in the value.
    assert dnl - none == positions * (64 * (16 + 16 + 64 + 1) + 64) + positions**2 * (16 + 64)


def test_command_loads_weights(tmp_path, root):
    config = str(root / "configs/Shapes/baseline.yaml")
    words = ["--stages", "--sizes", "64x64", "--repeats", "1", "--models", config, "--weights"]
    model = Trainer.build_model(load_config(config, ["MODEL.DEVICE", "cpu"]))
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    assert main(["benchmark", *words, str(tmp_path / "model.pth")]) == 0
    with pytest.raises(SystemExit, match=r"gone\.pth"):
        main(["benchmark", *words, str(tmp_path / "gone.pth")])


def test_plain_is_left_out_where_it_takes_too_much(capsys):
    words = ["--stages", "res5", "--sizes", "64x64", "--repeats", "1", "--memory", "0"]
    assert main(["benchmark", *words, "--backends", "plain", "auto"]) == 0
    printed = capsys.readouterr().out
    assert "plain is left out of res5 training: it needs 0.0 GiB (--memory)" in printed
    assert re.findall(r"inference +(\w+)", printed) == ["bare", "auto", "auto"]
    assert main(["benchmark", *words, "--backends", "plain"]) == 0
    assert "attention" not in capsys.readouterr().out


def test_memory_is_left_out_where_it_may_not_be_measured(monkeypatch):
    def refuse(self, text):
        raise PermissionError(f"{self}: not permitted")

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    assert extra_peak_memory(lambda: touched(1)) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["res5", "--backends"], "--backends: give at least one of auto, plain"),
        (["--repeats", "0"], "--repeats: 0 must be at least 1"),
        (["--device", "tpu"], "--device: 'tpu' must be cpu or cuda"),
        (["--models", "gone.yaml"], "gone.yaml"),
        (["--weights", "some.pth"], "--weights: 1 files for 0 models"),
    ],
)
def test_bad_words_are_named(words, message):
    with pytest.raises(SystemExit, match=message):
        main(["benchmark", "--stages", *words])


def test_a_size_of_another_form_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["benchmark", "--sizes", "800"])
    assert "'800' must be HEIGHTxWIDTH, as 800x1344" in capsys.readouterr().err


def test_machine_says_what_figures_depend_on():
    assert machine().keys() == {"device", "threads", "torch", "python", "system"}
