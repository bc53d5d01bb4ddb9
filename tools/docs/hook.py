"""A hook of MkDocs: the pages of the site are files of the repository, where they are.

A page's address is its file's path, so the links between the files hold on the site too.
"""

import base64
import re
from pathlib import Path
from typing import Any

import merm
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# Pages, their pictures, and what they link to; a link to anything else stops the build.
FILES = (
    "README.md CONTRIBUTING.md CHANGELOG.md docs/*.* dnl_det/data/checks/FAULTS.md "
    "configs/**/*.yaml configs/**/*.py "
    "dnl_det/layers/disentangled_non_local.py dnl_det/analysis/statistics/block_statistics.py "
    "LICENSE CITATION.cff tools/docs/site.css"
)


def on_config(config: MkDocsConfig) -> None:
    """Draw fences of ``mermaid`` here: in a browser it takes a script from the net."""
    fence = {"name": "mermaid", "class": "mermaid", "format": _mermaid}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}


def _mermaid(source: str, *_: Any, **__: Any) -> str:
    picture = base64.b64encode(merm.render_diagram(source).encode()).decode()
    return f'<p><img alt="Diagram" src="data:image/svg+xml;base64,{picture}"></p>'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of ``docs/`` by ``FILES``; add the pages ``api/PACKAGE.md`` of the nav."""
    root = Path(config.config_file_path).parent
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for path in sorted(path for pattern in FILES.split() for path in root.glob(pattern)):
        name = path.relative_to(root).as_posix()
        files.append(File(name, str(root), config.site_dir, config.use_directory_urls))
    for package in re.findall(r"api/([\w.]+)\.md", str(config.nav)):
        text = f"# {package}\n\n::: {package}\n"
        files.append(File.generated(config, f"api/{package}.md", content=text))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Drop what docstrings have for Sphinx alone: roles such as ``:func:``, and ``::``."""
    html = re.sub(r":[a-z]+:<code>~?[\w.]*?(\w+)</code>", r"<code>\1</code>", html)
    return html.replace("::</p>", ":</p>")
