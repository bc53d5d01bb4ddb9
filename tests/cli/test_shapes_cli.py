"""``python -m dnl_det shapes``."""

import argparse
import dataclasses
import json

import pytest

from dnl_det.cli import shapes
from dnl_det.data import THING_CLASSES, ShapesOptions


def call(*words: object) -> int:
    parser = argparse.ArgumentParser()
    shapes.add_arguments(parser)
    return shapes.run(parser.parse_args([str(word) for word in words]))


def test_writes_what_was_asked_and_counts_it(tmp_path, capsys):
    folder = tmp_path / "made"
    few = ("--num-train", 3, "--num-val", 1)
    assert call("--output", folder, *few, "--noise", 5, "--no-balance-tags", "--seed", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Wrote {folder}"
    table = {line.split()[0]: line.split()[1:] for line in lines[2:]}
    assert table.pop("images") == ["3", "1"]
    assert tuple(table) == THING_CLASSES
    for column, split in enumerate(("train", "val")):
        data = json.loads((folder / f"annotations/instances_{split}.json").read_text())
        for number, name in enumerate(THING_CLASSES, start=1):
            here = sum(annotation["category_id"] == number for annotation in data["annotations"])
            assert int(table[name][column]) == here
        expected = ShapesOptions(num_train=3, num_val=1, noise=5, balance_tags=False, seed=3)
        assert data["info"]["options"] == dataclasses.asdict(expected)

    assert call("--output", folder, *few, "--noise", 5, "--no-balance-tags", "--seed", 3) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"Already there: {folder}"
    with pytest.raises(SystemExit, match="--overwrite"):
        call("--output", folder, *few, "--noise", 6)
    assert call("--output", folder, *few, "--noise", 6, "--overwrite") == 0


def test_every_option_has_a_flag_with_its_default(tmp_path):
    parser = argparse.ArgumentParser()
    shapes.add_arguments(parser)
    args = vars(parser.parse_args([]))
    for option in dataclasses.fields(ShapesOptions):
        assert args[option.name] == option.default
        assert type(args[option.name]) is option.type


def test_default_folder_is_where_detectron2_looks(monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    parser = argparse.ArgumentParser()
    shapes.add_arguments(parser)
    assert parser.parse_args([]).output == tmp_path / "shapes"


def test_help_shows_an_example():
    parser = argparse.ArgumentParser()
    shapes.add_arguments(parser)
    assert "python -m dnl_det shapes --output" in parser.format_help()


def test_wrong_values_are_named(tmp_path):
    with pytest.raises(SystemExit, match="noise is 65: must be between 0 and 64"):
        call("--output", tmp_path / "x", "--noise", 65)
    assert list(tmp_path.iterdir()) == []
