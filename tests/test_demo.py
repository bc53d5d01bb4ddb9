"""What ``make demo`` runs, on a small data set and for a few iterations."""

import os
import subprocess
import sys

from PIL import Image


def test_demo_trains_scores_draws_and_reuses(root, data_root, tmp_path):
    environment = {**os.environ, "DETECTRON2_DATASETS": str(data_root)}
    command = [sys.executable, "-W", "ignore", "tools/shapes/demo.py", "--iterations", "3"]
    command += ["--output", str(tmp_path / "demo")]

    def run():
        result = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=400
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    first = run()
    model = tmp_path / "demo" / "model_final.pth"
    written = model.stat().st_mtime_ns
    for line in ("AP on shapes_val", "all classes", "tag classes", "beacon classes", str(model)):
        assert line in first
    pictures = sorted((tmp_path / "demo" / "pictures").iterdir())
    assert len(pictures) == 6
    assert Image.open(pictures[0]).size == (480 + 8 + 480, 480)

    second = run()
    assert "trained before" in second
    assert model.stat().st_mtime_ns == written
