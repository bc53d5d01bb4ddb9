"""Versions and commands that are written down in two places are the same."""

import re

import yaml

import dnl_det


def test_pre_commit_runs_what_make_lint_runs(root):
    (repository,) = yaml.safe_load((root / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"].removeprefix(".venv/bin/python ") for hook in repository["hooks"]]
    recipe = (root / "Makefile").read_text().split("\nlint: ")[1].split("\n\n")[0]
    commands = [line.strip().removeprefix("$(RUN) ") for line in recipe.splitlines()[1:]]
    assert hooks == [command.removesuffix(" .") for command in commands]


def test_version_is_that_of_citation_and_changelog(root):
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert citation["version"] == dnl_det.__version__
    assert f"\n## [{dnl_det.__version__}]" in (root / "CHANGELOG.md").read_text()


def test_ci_runs_on_every_python_that_is_promised(root):
    project = (root / "pyproject.toml").read_text()
    promised = re.findall(r"Programming Language :: Python :: (3\.\d+)", project)
    workflow = yaml.safe_load((root / ".github/workflows/ci.yml").read_text())
    assert workflow["jobs"]["ci"]["strategy"]["matrix"]["python"] == promised
    assert f'requires-python = ">={promised[0]}"' in project
