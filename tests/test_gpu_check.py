"""``make gpu-check``, as far as it goes without a GPU."""

import re

import pytest


@pytest.fixture(scope="module")
def gpu_check(load_tool):
    """``tools/gpu_check.py`` as a module."""
    return load_tool("gpu_check")


def test_without_a_gpu_it_says_so(gpu_check, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["gpu_check.py", "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="error: torch .* finds no CUDA device. Check nvidia-smi"):
        gpu_check.main()
    assert not (tmp_path / "out").exists()


def test_training_steps_are_timed(gpu_check, root, tiny, tmp_path, shapes, capfd):
    config = root / "configs/Shapes/disentangled.yaml"
    found = gpu_check.training_steps(
        config, False, tmp_path / "out", [*tiny, "DATASETS.TEST", "()"]
    )
    assert re.fullmatch(r"\d+\.\d{3} s a step \(\d+% waiting for data\), loss \d+\.\d\d", found)
    assert len((tmp_path / "out/metrics.json").read_text().splitlines()) == 1
    bad = [*tiny, "DATASETS.TRAIN", "('nowhere',)"]
    assert gpu_check.training_steps(config, False, tmp_path / "bad", bad) == "FAILED"
    assert "nowhere" in capfd.readouterr().err


@pytest.mark.parametrize(("line", "passes"), [("1 passed", True), ("FAILED: 1 failed", False)])
def test_the_table_holds_pytests_last_line(gpu_check, monkeypatch, tmp_path, line, passes):
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_one.py").write_text(
        f"import pytest\n\n@pytest.mark.gpu\ndef test_one():\n    assert {passes}\n\n"
        "def test_no_gpu():\n    assert False\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs a GPU\n")
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    assert gpu_check.run_tests(tmp_path).startswith(f"{line}, 1 deselected")


def test_a_benchmark_that_fails_is_a_row(gpu_check, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "BACKENDS", ("no backend",))
    assert list(gpu_check.benchmark(tmp_path)) == [("benchmark", "FAILED")]
