"""
Hooks that `scripts/site` adds to MkDocs.

The pages are written to be read in the repository, where a link may lead to any file. On the site a link to
a page leads to that page, wherever its source lies, and a link to another file leads to the repository. The
script that draws diagrams is large, so only pages with a diagram load it.
"""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
#: Pages whose sources lie outside docs/.
ELSEWHERE: Final = {
    "chart.md": "charts/notification-ledger/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "reporting.md": "SECURITY.md",
}
_PAGES: Final = {source: page for page, source in ELSEWHERE.items()} | {
    "docs/README.md": "index.md"
}
#: Weights in a search: above 1 for pages that it shows first, below 1 for pages that it shows last.
_BOOST: Final = {
    "on-call.md": 4, "operations.md": 3, "install.md": 2,
    "adr/": 0.2, "benchmarks/": 0.2, "changelog.md": 0.2,
}  # fmt: skip
#: The head of a column without a name, which is not a heading.
_EMPTY_HEAD: Final = re.compile("<th([^>]*)></th>")
#: A part of the navigation; if the part is also a page, the theme's label for it has no text.
_PART: Final = re.compile(
    r'aria-labelledby="__nav_[0-9_]+_label"(?P<rest>[^>]*>\s*<label class="md-nav__title"[^>]*>\s*'
    r"<span[^>]*></span>\s*)(?P<name>[^<]+?)(?=\s*</label>)"
)
_LINK: Final = re.compile(r"(?<=\]\()(?P<path>[\w./-]+)(?P<rest>#[^)\s]*)?(?=\))")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages whose sources lie outside docs/."""
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_others: Any) -> str:
    """Make links lead to pages of the site or to the repository; set the page's weight in a search."""
    name = page.file.src_uri
    boost = next((factor for start, factor in _BOOST.items() if name.startswith(start)), 1)
    page.meta.setdefault("search", {"boost": boost})
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
    """Label the search and the navigation for screen readers; load the script if there are diagrams."""
    output = output.replace('role="dialog"', 'role="dialog" aria-label="Search"', 1)
    output = _PART.sub(r'aria-label="\g<name>"\g<rest>\g<name>', output)
    output = _EMPTY_HEAD.sub(r"<td\1></td>", output)
    if 'class="diagram"' not in output:
        return output
    script = get_relative_url("assets/javascripts/mermaid.min.js", page.url)
    return output.replace("</head>", f'<script src="{script}"></script></head>', 1)


def on_post_build(*, config: Any) -> None:
    """Add the script that draws diagrams to the site."""
    with tarfile.open(os.environ["MERMAID"]) as packed:
        script = packed.extractfile("package/dist/mermaid.min.js")
        if script is not None:
            Path(config.site_dir, "assets/javascripts/mermaid.min.js").write_bytes(script.read())
