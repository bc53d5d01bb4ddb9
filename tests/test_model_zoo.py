"""docs/MODEL_ZOO.md: its numbers are those of the models, its commands and links work."""

import re
import shlex

import pytest
import torch

from dnl_det.__main__ import build_parser
from dnl_det.checkpoint.conversion import recognise
from dnl_det.checkpoint.layouts import BOTTLENECK_DEPTHS
from dnl_det.checkpoint.segmentation_layouts import mmseg_layout
from dnl_det.engine import argument_parser, load_config

BOTTLENECKS = {depth: blocks for blocks, depth in BOTTLENECK_DEPTHS.items()}
ROW = re.compile(
    r"\]\(\.\./(configs/\S+)\) \| (.+?) \| ([\d.]+) \| ([\d.]+) "
    r"\| ([\d,]+) \| ([\d.]+) G \| (.+) \|"
)


_SEGMENTATION = r"\]\(\.\./(configs/\S+Semantic\S+)\) \| (.+?) \| ([\d.]+) \|"
SEGMENTATION_ROW = re.compile(_SEGMENTATION + r" (?:[\d.]+|-) \| \[`(\S+)`\]\((\S+)\) \|")
AUTHORS_ROW = re.compile(_SEGMENTATION + "$", re.MULTILINE)


@pytest.fixture(scope="module")
def whole_page(root):
    return (root / "docs" / "MODEL_ZOO.md").read_text()


@pytest.fixture(scope="module")
def page(whole_page):
    """What is of detectors."""
    return whole_page.split("\n## Semantic segmentation\n")[0]


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("model_zoo")


def test_each_model_s_size_and_ap(page, root, tool):
    rows = ROW.findall(page)
    assert len(rows) == 7
    for config, _, box, mask, parameters, multiply_adds, _ in rows:
        cfg = load_config(str(root / config))
        expected = [["bbox", "AP", float(box), 0.3], ["segm", "AP", float(mask), 0.3]]
        assert expected == cfg.TEST.EXPECTED_RESULTS, config
        count, operations = tool.measure(str(root / config))
        assert (f"{count:,}", f"{operations / 1e9:.1f}") == (parameters, multiply_adds), config


def test_multiply_adds_count_both_products_of_the_attention(root, tool):
    positions = 50 * 84  # of res4 in an image of 800 x 1344
    projections = positions * 1024 * (256 + 256 + 1024 + 1)
    products = positions**2 * (256 + 1024)
    unary = positions * 1024
    folder = root / "configs/COCO-InstanceSegmentation"
    plain, with_dnl = (
        tool.measure(str(folder / f"mask_rcnn_R_50_FPN_{name}1x.yaml"))[1]
        for name in ("", "dnl_c4_")
    )
    assert with_dnl - plain == pytest.approx(projections + products + unary, rel=1e-3)
    assert products == pytest.approx(22.6e9, rel=2e-3)


def test_two_commands_for_each_released_model(page, root, monkeypatch):
    monkeypatch.chdir(root)
    released = [row[0] for row in ROW.findall(page) if "sharepoint" in row[6]]
    assert len(released) == 6
    lines = re.findall(r"^    (python .*)$", page.replace("\\\n", " "), re.MULTILINE)
    assert len(lines) == 12
    used = []
    for convert, evaluate in zip(lines[::2], lines[1::2], strict=True):
        words = shlex.split(convert)
        assert words[:3] == ["python", "-m", "dnl_det"]
        converted = build_parser().parse_args(words[3:]).output
        args = argument_parser().parse_args(shlex.split(evaluate)[2:])
        assert args.eval_only
        assert args.opts == ["MODEL.WEIGHTS", str(converted)]
        used.append(args.config_file)
    assert used == released


def test_each_segmentation_config_is_there_with_its_miou(whole_page, root):
    rows = [row[:3] for row in SEGMENTATION_ROW.findall(whole_page)]
    rows += AUTHORS_ROW.findall(whole_page)
    files = [
        str(file.relative_to(root))
        for file in root.glob("configs/*-SemanticSegmentation/*.yaml")
        if not file.name.startswith("Base")
    ]
    assert len(rows) == len(files) == 40
    assert {config for config, _, _ in rows} == set(files)
    blocks = {"none": "none", "nl": "NL", "gc": "GC", "snl": "unary"}
    modes = {"disentangled": "DNL", "add_shared": "both"}
    for config, attention, miou in rows:
        cfg = load_config(str(root / config))
        assert cfg.TEST.EXPECTED_RESULTS == [["sem_seg", "mIoU", float(miou), 0.3]], config
        dnl = cfg.MODEL.SEM_SEG_HEAD.DNL
        assert attention.startswith(blocks.get(dnl.BLOCK) or modes.get(dnl.MODE, dnl.MODE)), config


def test_the_file_of_each_segmentation_model_is_converted_for_its_config(whole_page):
    rows = SEGMENTATION_ROW.findall(whole_page)
    assert len(rows) == 34
    for config, attention, _, name, address in rows:
        block = {"NL": "nl_block", "GC": "gc_block", "DNL": "dnl_block"}.get(attention, "")
        depths = BOTTLENECKS[101 if "r101" in name else 50]
        entries = mmseg_layout(depths, block, 150 if "ade20k" in name else 19)
        state = {e.theirs: torch.empty(e.shape or (1,), device="meta") for e in entries}
        file = address.rsplit("/", 1)[1]
        assert re.fullmatch(rf"{name}_20\d{{6}}_\d{{6}}-[0-9a-f]{{8}}\.pth", file)
        layout = recognise(state, file)
        assert (layout.config, layout.overrides) == (config, ())


def test_the_commands_of_segmentation_are_understood(whole_page, page, root, monkeypatch):
    monkeypatch.chdir(root)
    text = whole_page[len(page) :].replace("\\\n", " ")
    commands = re.findall(r"^    (python .*)$", text, re.MULTILINE)
    lines = [shlex.split(command, comments=True) for command in commands]
    assert len(lines) == 4
    for words in lines:
        if words[1] == "train_net.py":
            load_config(argument_parser().parse_args(words[2:]).config_file)
        else:
            assert build_parser().parse_args(words[3:]).output


def test_links_lead_somewhere(whole_page, root):
    links = [link for link in re.findall(r"\]\(([^)]+)\)", whole_page) if "://" not in link]
    assert len(links) >= 8
    for link in links:
        assert (root / "docs" / link.split("#")[0]).exists(), link
