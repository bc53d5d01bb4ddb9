"""``make gpu-check``, as far as it goes without a GPU."""

import importlib.util
import re

import pytest


@pytest.fixture(scope="module")
def gpu_check(root):
    """``tools/gpu_check.py`` as a module."""
    spec = importlib.util.spec_from_file_location("gpu_check", root / "tools/gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    assert re.fullmatch(r"0\.\d{3} s a step \(\d+% waiting for data\), loss \d+\.\d\d", found)
    assert len((tmp_path / "out/metrics.json").read_text().splitlines()) == 1
    bad = [*tiny, "DATASETS.TRAIN", "('nowhere',)"]
    assert gpu_check.training_steps(config, False, tmp_path / "bad", bad) == ""
    assert "nowhere" in capfd.readouterr().err


@pytest.mark.parametrize(("mark", "passes"), [("passed", True), ("failed", False)])
def test_the_table_holds_pytests_last_line(gpu_check, monkeypatch, tmp_path, mark, passes):
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_one.py").write_text(
        f"import pytest\n\n@pytest.mark.gpu\ndef test_one():\n    assert {passes}\n\n"
        "def test_no_gpu():\n    assert False\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs a GPU\n")
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    found, line = gpu_check.run_tests(tmp_path)
    assert found is passes
    assert line.startswith(f"1 {mark}, 1 deselected")
