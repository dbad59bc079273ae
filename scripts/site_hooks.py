"""
What `scripts/site` adds to MkDocs.

The pages are written to be read in the repository, where a link may lead to any file. On the site a link to
a page leads to that page, wherever its source lies, and one to another file leads to the repository. The
script that draws diagrams is large, so only pages that have one load it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
#: Pages whose sources lie elsewhere.
ELSEWHERE: Final = {
    "chart.md": "charts/notification-ledger/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "reporting.md": "SECURITY.md",
}
_PAGES: Final = {source: page for page, source in ELSEWHERE.items()} | {
    "docs/README.md": "index.md"
}
_LINK: Final = re.compile(r"(?<=\]\()(?P<path>[\w./-]+)(?P<rest>#[^)\s]*)?(?=\))")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages from elsewhere."""
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_others: Any) -> str:
    """Lead links that leave the pages to where their targets are."""
    name = page.file.src_uri
    folder = (ROOT / ELSEWHERE.get(name, f"docs/{name}")).parent

    def lead(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / link["path"]))
        if not target.exists() or not target.is_relative_to(ROOT):
            return link[0]
        found = target.relative_to(ROOT).as_posix()
        if found in _PAGES or target.is_relative_to(DOCS):
            to = _PAGES.get(found, found.removeprefix("docs/"))
            return f"{os.path.relpath(to, Path(name).parent)}{link['rest'] or ''}"
        return f"{os.environ['RELEASE_URL']}/blob/main/{found}{link['rest'] or ''}"

    return _LINK.sub(lead, markdown)


def on_post_page(output: str, *, page: Any, **_others: Any) -> str:
    """Name the search for who hears the page; load the script that draws where it is needed."""
    output = output.replace('role="dialog"', 'role="dialog" aria-label="Search"', 1)
    if 'class="diagram"' not in output:
        return output
    script = get_relative_url("assets/javascripts/mermaid.min.js", page.url)
    return output.replace("</head>", f'<script src="{script}"></script></head>', 1)
