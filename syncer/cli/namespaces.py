"""Which namespaces a command looks at, and whether those that were named exist."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final
from urllib.parse import quote

from syncer.cli.access import Access
from syncer.cli.output import write_remark
from syncer.cli.store import home_from_environment
from syncer.model.errors import Gone, PortError
from syncer.settings import own_namespace

_TIMEOUT: Final = 5.0


async def controller_namespace() -> str:
    """Return the controller's own namespace, as its pod has it; empty elsewhere."""
    return home_from_environment() or await asyncio.to_thread(own_namespace)


async def namespaces_of(at: Access, options: argparse.Namespace) -> tuple[str, ...]:
    """
    Return the namespaces to look at; empty for all.

    Those that were named, else those that the settings file has the controller watch: an account that
    may see these often may see no others.
    """
    named = getattr(options, "namespace", None) or ()
    if named or options.config is None or getattr(options, "all_namespaces", False):
        return tuple(named)
    watched = at.settings.controller.namespaces
    if watched == "*":
        return ()
    home = "" if watched else await controller_namespace()
    return tuple(watched) or ((home,) if home else ())


async def report_missing(at: Access, options: argparse.Namespace) -> bool:
    """Report each namespace that was named and does not exist; whether there is one."""
    missing = []
    for name in getattr(options, "namespace", None) or ():
        if at.kube is None:
            break
        try:
            await at.kube.request(
                "GET", f"/api/v1/namespaces/{quote(name, safe='')}", timeout=_TIMEOUT
            )
        except Gone:
            missing.append(name)
        except PortError:
            # Who may list objects in a namespace need not be allowed to read it.
            continue
    for name in missing:
        write_remark(f"there is no namespace {name!r}")
    return bool(missing)
