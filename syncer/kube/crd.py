"""
The CustomResourceDefinition of this version.

The only source is the chart's file. The build of the wheel puts it beside this module, so that an
installation can print it; a source checkout and an editable installation read the chart's file itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

# Not through `importlib.resources`, which imports readers of archives.
_PACKAGED: Final = Path(__file__).with_name("crd.yaml")
#: The CRD in a source checkout.
_SOURCE: Final = Path(__file__).parents[2] / "charts" / "notification-ledger" / "files" / "crd.yaml"


def render_crd() -> str:
    """Return the CustomResourceDefinition as YAML, ready to be applied."""
    return (_PACKAGED if _PACKAGED.is_file() else _SOURCE).read_text("utf-8")
