"""The code, commands, tables and links of README and docs."""

import ast
import re
import shlex
from operator import attrgetter
from pathlib import Path

import pytest
from detectron2.config import get_cfg

from dnl_det import add_dnl_config
from dnl_det.__main__ import COMMANDS
from dnl_det.engine import argument_parser, load_config

# What a user types from; the README comes first.
GUIDES = [
    "README.md",
    *(
        f"docs/{name}.md"
        for name in ("CONFIG", "TRAINING", "SHAPES", "SPEED", "EXPORT", "TROUBLESHOOTING")
    ),
]


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text()


@pytest.fixture(scope="module")
def guides(root):
    return "".join((root / file).read_text() for file in GUIDES)


def commands(guides):
    """Every indented ``python ...`` line, continued lines joined, comments and CONFIG resolved."""
    text = guides.replace("\\\n", " ")
    config = re.search(r"CONFIG=(\S+)", text)[1]
    lines = re.findall(r"^    ((?:python|torchrun) .*)$", text, re.MULTILINE)
    return [shlex.split(line.replace("$CONFIG", config), comments=True) for line in lines]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_python_examples_run(guides, capsys):
    blocks = re.findall(r"```python\n(.*?)```", guides, re.DOTALL)
    assert len(blocks) == 5
    first, zoo, by_hand, lazy = {}, {}, {}, {}
    # The last, an export, goes on from the first.
    for block, space in zip(blocks, (first, zoo, by_hand, lazy, first), strict=True):
        exec(compile(block, "README.md", "exec"), space)
    printed = capsys.readouterr().out
    assert "Instances(num_instances=" in printed
    assert zoo["cfg"].MODEL.DNL.RES5 == [-3, -2, -1]
    assert Path(printed.splitlines()[-2]).is_file()
    assert re.fullmatch(r"\d+ boxes", printed.splitlines()[-1])
    assert hasattr(first["model"].backbone.bottom_up.res4[4], "attention")
    assert hasattr(by_hand["resnet"].res5[0], "attention")
    assert hasattr(lazy["detector"].backbone.bottom_up.res5[0], "attention")


def test_training_commands_are_understood(guides, root, monkeypatch):
    monkeypatch.chdir(root)
    runs = [words for words in commands(guides) if "train_net.py" in words]
    assert len(runs) >= 8
    for words in runs:
        args = argument_parser().parse_args(words[words.index("train_net.py") + 1 :])
        load_config(args.config_file, args.opts)


def test_other_commands_exist(guides):
    named = {words[3] for words in commands(guides) if words[1:3] == ["-m", "dnl_det"]}
    assert named == set(COMMANDS)


def test_make_targets_exist(guides, root):
    makefile = (root / "Makefile").read_text()
    targets = set(re.findall(r"(?:^    |`)make ([a-z-]+)", guides, re.MULTILINE))
    assert {"demo", "test", "help"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_config_reference_is_complete(root):
    cfg = get_cfg()
    add_dnl_config(cfg)
    reference = (root / "docs/CONFIG.md").read_text()
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| `(.+?)` \|", reference, re.MULTILINE)
    assert {key: ast.literal_eval(value) for key, value in rows} == dict(cfg.MODEL.DNL)


def test_defaults_in_the_config_reference_are_those_of_the_program(root):
    cfg = get_cfg()
    add_dnl_config(cfg)
    reference = (root / "docs/CONFIG.md").read_text()
    rows = re.findall(r"^\| `([A-Z0-9_]+\.[A-Z0-9_.]+)` \| `(.+?)` \|", reference, re.MULTILINE)
    assert len(rows) > 20
    for key, value in rows:
        assert attrgetter(key)(cfg) == ast.literal_eval(value), key


def test_results_are_those_the_configs_expect(readme, root):
    rows = re.findall(r"\]\((configs/\S+)\) \| .* \| ([\d.]+) \| ([\d.]+) \|", readme)
    assert len(rows) == 7
    for file, box, mask in rows:
        expected = load_config(str(root / file)).TEST.EXPECTED_RESULTS
        assert [[row[0], row[2]] for row in expected] == [
            ["bbox", float(box)],
            ["segm", float(mask)],
        ]


def anchors(text):
    headings = re.findall(r"^##+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_links_lead_somewhere(root):
    documents = [root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").glob("*.md")]
    for document in documents:
        text = document.read_text()
        links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
        assert len(links) >= 9 or document.name != "README.md"
        for link in links:
            file, _, anchor = link.partition("#")
            target = document.parent / file if file else document
            assert target.exists(), f"{document.name}: {link}"
            assert not anchor or anchor in anchors(target.read_text()), f"{document.name}: {link}"


def test_tests_that_the_docs_name_exist(root):
    text = "".join(file.read_text() for file in (root / "docs").glob("*.md"))
    named = set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text))
    assert len(named) > 30
    for file, test in named:
        assert f"def {test}" in (root / file).read_text(), f"{file}::{test}"


def test_files_that_the_architecture_names_exist(root):
    text = (root / "docs/ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", text))
    named -= {name for name in named if "NAME" in name or "OUTPUT_DIR" in name}
    assert len(named) > 50
    paths = [
        f"/{path.relative_to(root)}{'/' * path.is_dir()}"
        for folder in ("configs", "dnl_det", "tests", "tools")
        for path in (root / folder, *(root / folder).rglob("*"))
    ]
    for name in named - {"train_net.py"}:
        assert any(path.endswith(f"/{name}") for path in paths), name
