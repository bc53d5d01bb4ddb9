"""``python -m dnl_det predict`` on videos: every frame, both files, and what it refuses."""

import json
import os
import re
import signal

import cv2
import numpy as np
import pytest
import torch

from dnl_det.__main__ import main
from dnl_det.checkpoint import Checkpointer
from dnl_det.engine import Predictor, Trainer, load_config

CONFIGS = {"detector": "gc", "segmentor": "sem_seg_disentangled"}


@pytest.fixture
def model(root, shapes, tiny, tmp_path):
    """From a kind of model to the words of its config and weights, and its predictor."""

    def make(kind="detector"):
        file = str(root / f"configs/Shapes/{CONFIGS[kind]}.yaml")
        keys = ["MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
        cfg = load_config(file, [*(tiny if kind == "detector" else []), *keys])
        torch.manual_seed(0)
        Checkpointer(Trainer.build_model(cfg), str(tmp_path)).save(kind)
        cfg.MODEL.WEIGHTS = str(tmp_path / f"{kind}.pth")
        (tmp_path / "config.yaml").write_text(cfg.dump())
        words = ["--config-file", tmp_path / "config.yaml", "--weights", cfg.MODEL.WEIGHTS]
        return [*map(str, words), "--output", str(tmp_path / "out")], Predictor(cfg)

    return make


def write(file, frames, rate=10.0, code="mp4v"):
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*code), rate, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return file


def read(file):
    opened, frames = cv2.VideoCapture(str(file)), []
    while (answer := opened.read())[0]:
        frames.append(answer[1])
    return frames, opened.get(cv2.CAP_PROP_FPS)


@pytest.fixture
def frames(shapes):
    return [cv2.imread(str(file)) for file in sorted((shapes / "val").iterdir())[:5]]


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("crop", [128, 101], ids=["even", "odd"])
def test_every_frame_is_what_its_image_gives(model, frames, tmp_path, shapes, crop, capsys):
    words, predictor = model()
    clip = write(tmp_path / "clip.mp4", [frame[:crop, :120] for frame in frames])
    photo = min((shapes / "val").iterdir())
    assert main(["predict", str(clip), str(photo), *words, "--threshold", "0"]) == 0
    out = {file.name for file in (tmp_path / "out").iterdir()}
    assert out == {"clip.mp4", "clip.jsonl", "detections.json", f"{photo.stem}.png"}
    decoded, _ = read(clip)
    lines = lines_of(tmp_path / "out/clip.jsonl")
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["seconds"] for line in lines] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert sum(len(line["detections"]) for line in lines) > 0
    for frame, line in zip(decoded, lines, strict=True):
        instances = predictor(frame)["instances"]
        scores = [one["score"] for one in line["detections"]]
        assert scores == pytest.approx(instances.scores.tolist())
        assert not {"image_id", "file_name"} & {key for one in line["detections"] for key in one}
    drawn, rate = read(tmp_path / "out/clip.mp4")
    assert rate == pytest.approx(10)
    assert len(drawn) == 5
    assert min(drawn[0].shape[:2]) == 480
    assert not any(np.array_equal(drawn[0], frame) for frame in drawn[1:])
    assert "5 frames: " in capsys.readouterr().out


def test_the_pixels_of_semantic_classes_are_counted(model, frames, tmp_path):
    words, predictor = model("segmentor")
    clip = write(tmp_path / "clip.avi", frames, code="MJPG")
    assert main(["predict", str(clip), *words]) == 0
    labels = predictor(read(clip)[0][3])["sem_seg"].argmax(0)
    pixels = lines_of(tmp_path / "out/clip.jsonl")[3]["pixels"]
    assert list(pixels.values()) == torch.bincount(labels.flatten(), minlength=11).tolist()
    assert len(read(tmp_path / "out/clip.mp4")[0]) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both_files_at_a_frame(model, frames, tmp_path, start, number):
    words, _ = model()
    clip = write(tmp_path / "clip.mp4", frames * 200)
    process = start("-m", "dnl_det", "predict", clip, *words)
    process.wait_until(lambda: re.search(r"\| [3-9]\d*/1000", process.printed()))
    os.kill(process.pid, number)
    printed = process.finish(128 + number)
    assert f"Stopped by {number.name}; both files end there." in printed
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"clip.mp4", "clip.jsonl"}
    count = len(lines_of(tmp_path / "out/clip.jsonl"))
    assert 3 <= count < 1000
    assert len(read(tmp_path / "out/clip.mp4")[0]) == count


def test_a_truncated_video_gives_what_it_has(model, frames, tmp_path, capsys):
    words, _ = model()
    clip = write(tmp_path / "clip.avi", frames, code="MJPG")
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    kept = len(read(clip)[0])
    assert 0 < kept < 5
    assert main(["predict", str(clip), *words]) == 0
    assert len(lines_of(tmp_path / "out/clip.jsonl")) == kept
    assert f"{kept} frames: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"IMAGE: there is no file .*clip\.mp4"),
        (b"", r"IMAGE: .*clip\.mp4 cannot be read as a video"),
        (b"no video at all" * 100, r"IMAGE: .*clip\.mp4 cannot be read as a video"),
    ],
)
def test_what_is_no_video_is_named_and_nothing_written(model, tmp_path, content, message):
    words, _ = model()
    if content is not None:
        (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        main(["predict", str(tmp_path / "clip.mp4"), *words])
    assert not (tmp_path / "out").exists()


def test_no_video_is_written_over(model, frames, tmp_path):
    words, _ = model()
    (tmp_path / "out").mkdir()
    clip = write(tmp_path / "out/clip.mp4", frames)
    before = clip.read_bytes()
    with pytest.raises(SystemExit, match=r"clip.mp4 would be overwritten"):
        main(["predict", str(clip), *words])
    assert clip.read_bytes() == before
