"""The README's code, commands, tables and links."""

import ast
import re
import shlex
from pathlib import Path

import pytest
from detectron2.config import get_cfg

from dnl_det import add_dnl_config
from dnl_det.__main__ import COMMANDS
from dnl_det.engine import argument_parser, load_config


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text()


def commands(readme):
    """Every indented ``python ...`` line, continued lines joined, comments and CONFIG resolved."""
    text = readme.replace("\\\n", " ")
    config = re.search(r"CONFIG=(\S+)", text)[1]
    lines = re.findall(r"^    ((?:python|torchrun) .*)$", text, re.MULTILINE)
    return [shlex.split(line.replace("$CONFIG", config), comments=True) for line in lines]


def test_python_examples_run(readme, capsys):
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 3
    spaces = [{}, {}, {}]
    for block, space in zip(blocks, spaces, strict=True):
        exec(compile(block, "README.md", "exec"), space)
    printed = capsys.readouterr().out
    assert "Instances(num_instances=" in printed
    assert spaces[1]["cfg"].MODEL.DNL.RES5 == [-3, -2, -1]
    assert Path(printed.splitlines()[-1]).is_file()
    assert hasattr(spaces[0]["model"].backbone.bottom_up.res4[4], "attention")
    assert hasattr(spaces[2]["resnet"].res5[0], "attention")


def test_training_commands_are_understood(readme, root, monkeypatch):
    monkeypatch.chdir(root)
    runs = [words for words in commands(readme) if "train_net.py" in words]
    assert len(runs) >= 8
    for words in runs:
        args = argument_parser().parse_args(words[words.index("train_net.py") + 1 :])
        load_config(args.config_file, args.opts)


def test_other_commands_exist(readme):
    named = {words[3] for words in commands(readme) if words[1:3] == ["-m", "dnl_det"]}
    assert named == set(COMMANDS)


def test_make_targets_exist(readme, root):
    makefile = (root / "Makefile").read_text()
    targets = set(re.findall(r"(?:^    |`)make ([a-z]+)\b", readme, re.MULTILINE))
    assert {"demo", "test", "help"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_config_reference_is_complete(readme):
    cfg = get_cfg()
    add_dnl_config(cfg)
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| `(.+?)` \|", readme, re.MULTILINE)
    assert {key: ast.literal_eval(value) for key, value in rows} == dict(cfg.MODEL.DNL)


def test_results_are_those_the_configs_expect(readme, root):
    rows = re.findall(r"\]\((configs/\S+)\) \| .* \| ([\d.]+) \| ([\d.]+) \|", readme)
    assert len(rows) == 7
    for file, box, mask in rows:
        expected = load_config(str(root / file)).TEST.EXPECTED_RESULTS
        assert [[row[0], row[2]] for row in expected] == [
            ["bbox", float(box)],
            ["segm", float(mask)],
        ]


def test_links_lead_somewhere(readme, root):
    links = [link for link in re.findall(r"\]\(([^)]+)\)", readme) if "://" not in link]
    headings = re.findall(r"^## (.+)$", readme, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
    assert len(links) >= 9
    for link in links:
        assert link in anchors if link.startswith("#") else (root / link).exists(), link


def test_tests_that_the_docs_name_exist(root):
    text = "".join(file.read_text() for file in (root / "docs").glob("*.md"))
    named = set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text))
    assert len(named) > 30
    for file, test in named:
        assert f"def {test}" in (root / file).read_text(), f"{file}::{test}"
