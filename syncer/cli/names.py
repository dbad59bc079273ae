"""Names of notifications, for a shell that completes one."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from typing import Final

from syncer.cli.access import Where, home_directory, kubeconfig_of
from syncer.cli.arguments import where_to_look
from syncer.kube.client import KubeClient
from syncer.kube.notification_requests import list_path
from syncer.model.errors import LedgerError

#: A person waits for it.
_SECONDS: Final = 3.0
_MOST: Final = "500"
_METADATA: Final = (
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
)


async def names(words: Sequence[str], current: str) -> list[str]:
    """
    Return `namespace/name` of notifications that begin so; nothing where they cannot be had in time.

    Args:
        words: What stands on the line before; how the API server is found is read from it.
        current: The word that is being written.
    """
    try:
        options, _ = where_to_look().parse_known_args([w for w in words if w != "--"])
        async with asyncio.timeout(_SECONDS):
            return await _names(options, current)
    except (LedgerError, TimeoutError, SystemExit):
        # Whoever completes a word wants no error; the command itself says what is wrong.
        return []


async def _names(options: argparse.Namespace, current: str) -> list[str]:
    namespace, slash, _ = current.partition("/")
    where = Where(kubeconfig=options.kubeconfig)
    kubeconfig, _source = kubeconfig_of(where, os.environ, home_directory())
    client = await KubeClient.connect(
        kubeconfig, user_agent="syncer", context=options.context or ""
    )
    async with client:
        found = await client.request(
            "GET", list_path(namespace if slash else None), params={"limit": _MOST},
            accept=_METADATA, timeout=_SECONDS,
        )  # fmt: skip
    keys = [
        f"{meta.get('namespace')}/{meta.get('name')}"
        for item in found.get("items") or ()
        if isinstance(meta := item.get("metadata"), dict)
    ]
    return sorted(key for key in keys if key.startswith(current))
