"""The gateway as a process of its own, beside the product."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from syncer.model.resource import Json
from tests.e2e.harness import NotifierProcess
from tests.servers.ports import free_port

TOKEN: Final = "gw-canary-5f1e0c"


class GatewayProcess(NotifierProcess):
    """
    `notifier gateway` with a file.

    Attributes:
        port: Takes webhooks.
    """

    def __init__(self, folder: Path, kubeconfig: Path, sources: list[Json], **more: Any) -> None:
        """
        Write the file; nothing runs yet.

        Args:
            folder: For the file, the secret and the log.
            kubeconfig: Of who creates the objects.
            sources: Of the file; each is asked for `TOKEN`.
            more: Further members of the file.
        """
        folder.mkdir(exist_ok=True)
        (folder / "token").write_text(TOKEN)
        self.port, health, metrics = free_port(), free_port(), free_port()
        auth = {"bearer": {"tokenFiles": [str(folder / "token")]}}
        document = {
            "listen": f"127.0.0.1:{self.port}",
            "healthProbeAddr": f"127.0.0.1:{health}",
            "metricsAddr": f"127.0.0.1:{metrics}",
            "shutdownDelay": "200ms",
            "sources": [{"auth": auth, **source} for source in sources],
            **more,
        }
        config = folder / "gateway.yaml"
        config.write_text(json.dumps(document))
        super().__init__(
            config, folder / "gateway.log", {"KUBECONFIG": str(kubeconfig)}, health, metrics
        )
        self.command = "gateway"

    def url(self, source: str) -> str:
        """Where a source sends to."""
        return f"http://127.0.0.1:{self.port}/v1/{source}"
