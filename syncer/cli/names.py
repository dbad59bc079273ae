"""
Names of existing notifications, for a shell that completes one.

A shell waits for the answer and shows no error. So a name that cannot be read within a few seconds is
left out; the command itself reports what is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from typing import Final

from syncer.cli.access import kubeconfig_of
from syncer.cli.arguments import where_to_look
from syncer.kube.client import KubeClient
from syncer.kube.notification_requests import list_path
from syncer.model.errors import LedgerError

_SECONDS: Final = 3.0
_MOST: Final = "500"
_METADATA: Final = (
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
)


async def names(typed: Sequence[str]) -> list[str]:
    """
    Return the notifications that begin as the last word does; nothing where they cannot be had in time.

    `typed` are the words of the line, the one that is being written last; how the API server is found is
    read from those before it.
    """
    *before, current = typed
    try:
        options, _ = where_to_look().parse_known_args([w for w in before if w != "--"])
        async with asyncio.timeout(_SECONDS):
            found = await _notifications(options, current)
    except (LedgerError, TimeoutError, SystemExit):
        return []
    return sorted(name for name in found if name.startswith(current))


async def _notifications(options: argparse.Namespace, current: str) -> list[str]:
    namespace, slash, _ = current.partition("/")
    kubeconfig, _source = kubeconfig_of(options.kubeconfig)
    client = await KubeClient.connect(
        kubeconfig, user_agent="syncer", context=options.context or ""
    )
    async with client:
        found = await client.request(
            "GET", list_path(namespace if slash else None), params={"limit": _MOST},
            accept=_METADATA, timeout=_SECONDS,
        )  # fmt: skip
    return [
        f"{meta.get('namespace')}/{meta.get('name')}"
        for item in found.get("items") or ()
        if isinstance(meta := item.get("metadata"), dict)
    ]
