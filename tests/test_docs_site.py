"""The documentation site: built without a warning, complete, and nothing of it from the net."""

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("merm")
pytest.importorskip("mkdocstrings_handlers.python")

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """The anchors of a page, the addresses it names, and those that a browser loads at once."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.named: set[str] = set()
        self.loaded: set[str] = set()
        self.text = file.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {key: value for key, value in attrs if value}
        self.anchors |= {of[key] for key in ("id", "name") if key in of}
        addresses = {of[key] for key in ("href", "src") if key in of}
        self.named |= addresses
        if tag != "a":
            self.loaded |= addresses


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in sorted(site.rglob("*.html"))}


def test_every_document_has_its_page_in_the_navigation(
    root: Path, site: Path, pages: dict[Path, Page]
) -> None:
    for file in [*(root / "docs").glob("*.md"), root / "CONTRIBUTING.md", root / "CHANGELOG.md"]:
        address = file.relative_to(root).with_suffix(".html").as_posix()
        assert site / address in pages
        assert address in pages[site / "index.html"].named


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    for file, page in pages.items():
        for link in page.named:
            address = urlsplit(link)
            if address.scheme:
                continue
            path = unquote(address.path)
            target = site / path[1:] if path.startswith("/") else file.parent / path
            target = Path(os.path.normpath(target if path else file))
            target = target / "index.html" if target.is_dir() else target
            where = f"{file.relative_to(site)}: {link}"
            assert target.is_file(), where
            anchor = unquote(address.fragment)
            assert not anchor or target not in pages or anchor in pages[target].anchors, where


def test_nothing_is_loaded_from_the_net(site: Path, pages: dict[Path, Page]) -> None:
    for file, page in pages.items():
        assert not {link for link in page.loaded if re.match(r"(https?:)?//", link)}, file
        # The theme would load a script for these.
        assert 'class="mermaid"' not in page.text, file
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text()), sheet


def test_pictures_are_shown(site: Path, pages: dict[Path, Page]) -> None:
    home = pages[site / "index.html"]
    assert {"docs/architecture.svg", "docs/detections.png", "docs/explorer.png"} <= home.loaded
    architecture = pages[site / "docs" / "ARCHITECTURE.html"]
    assert any(link.startswith("data:image/svg+xml") for link in architecture.loaded)


def test_nested_lists_are_lists_on_the_site_too(root: Path) -> None:
    """GitHub takes items of nested lists indented by two or three spaces; the site's takes four."""
    for file in [*root.glob("*.md"), *(root / "docs").glob("*.md")]:
        assert not re.search(r"^ {1,3}([-*+]|\d+\.) ", file.read_text(), re.MULTILINE), file


def test_reference_has_all_that_the_packages_export(
    root: Path, site: Path, pages: dict[Path, Page]
) -> None:
    anchors = set().union(*(page.anchors for page in pages.values()))
    packages = [
        ".".join(file.relative_to(root).parent.parts)
        for file in (root / "dnl_det").glob("*/**/__init__.py")
        if "\n__all__ = " in file.read_text()
    ]
    assert len(packages) > 10
    for package in packages:
        assert site / "api" / f"{package}.html" in pages
        for name in importlib.import_module(package).__all__:
            # engine.export is a package, and the function in it.
            full = f"{package}.{name}"
            assert full in anchors or f"{full}.{name}" in anchors


def test_reference_is_that_of_the_docstrings(site: Path, pages: dict[Path, Page]) -> None:
    text = re.sub(r"<[^>]+>", "", pages[site / "api" / "dnl_det.layers.html"].text)
    for part in ("DisentangledNonLocal2d(", "temperature: float = 0.05", "(N, C, H, W)"):
        assert part in text
    # Of reStructuredText; the pages are Markdown.
    for file, page in pages.items():
        assert not re.search(r":[a-z]+:(`|<code>)", page.text), file
