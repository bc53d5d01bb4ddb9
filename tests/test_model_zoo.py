"""docs/MODEL_ZOO.md: its numbers are those of the models, its commands and links work."""

import importlib.util
import re
import shlex

import pytest

from dnl_det.__main__ import build_parser
from dnl_det.engine import argument_parser, load_config

ROW = re.compile(
    r"\]\(\.\./(configs/\S+)\) \| (.+?) \| ([\d.]+) \| ([\d.]+) "
    r"\| ([\d,]+) \| ([\d.]+) G \| (.+) \|"
)


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "MODEL_ZOO.md").read_text()


@pytest.fixture(scope="module")
def tool(root):
    spec = importlib.util.spec_from_file_location("model_zoo", root / "tools" / "model_zoo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def test_links_lead_somewhere(page, root):
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page) if "://" not in link]
    assert len(links) >= 8
    for link in links:
        assert (root / "docs" / link.split("#")[0]).exists(), link
