"""What ``make demo`` runs, on a small data set and for a few iterations."""

from PIL import Image


def test_demo_trains_scores_draws_and_reuses(start, data_root, tmp_path):
    command = ["tools/shapes/demo.py", "--iterations", "3", "--output", tmp_path / "demo"]

    def run():
        return start(*command, DETECTRON2_DATASETS=str(data_root)).finish()

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
