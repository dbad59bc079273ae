"""
A client of the API server: the program needs the right to create and get notifications in one namespace.

The object is the one that a gateway would create for the same call, by the same code. Its name is a hash of
the key, so the API server's own "already exists" makes a repeated call harmless.
"""

from __future__ import annotations

import time
from typing import Self

import orjson

from notifier.client.base import Client, Made
from notifier.gateway.draft import Incoming, Options, Refused
from notifier.gateway.manifest import Rules
from notifier.gateway.report import report
from notifier.gateway.sources.notification import KIND
from notifier.gateway.submit import KubeObjects, Submitter
from notifier.gateway.translation import Source, translate
from notifier.version import USER_AGENT
from syncer.kube.client import KubeClient
from syncer.model.errors import Rejected
from syncer.model.resource import Json


class ApiServer(Client):  # noqa: V102 (for importers)
    """Talks to an API server; use it as an async context manager."""

    def __init__(
        self,
        namespace: str,
        *,
        source: str = "client",
        kubeconfig: str | None = None,
        context: str = "",
    ) -> None:
        """
        Create notifications in a namespace.

        Args:
            namespace: Namespace of the notifications.
            source: Name of the program that sends them. It is an attribute that routes match on; equal keys
                of two sources are different events.
            kubeconfig: Path; None takes `$KUBECONFIG`, else the service account of the pod.
            context: Context of the kubeconfig, empty for its current one.
        """
        self._source = Source(
            source, KIND, Options(), Rules(), (namespace,), window=0.0, patience=KIND.patience,
            retry_after=KIND.retry_after,
        )  # fmt: skip
        self._kubeconfig = kubeconfig
        self._context = context
        self._client: KubeClient | None = None

    async def __aenter__(self) -> Self:
        """Read the configuration; ConfigError if there is none."""
        self._client = await KubeClient.connect(
            self._kubeconfig, user_agent=f"{USER_AGENT} (client)", context=self._context
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections to the API server."""
        if self._client is not None:
            await self._client.close()

    async def _make(self, given: Json, traceparent: str, until: float) -> Made:
        submitter = Submitter(self._objects(), time.time)
        try:
            incoming = Incoming({"traceparent": traceparent}, orjson.dumps(given))
            ((desired,), _) = translate(self._source, incoming, time.time())
            made = await submitter.submit(desired, until)
        except Refused as error:
            raise Rejected(str(error), reason=f"HTTP{error.status}") from None
        finally:
            await submitter.close()
        if made.taken:
            raise Rejected("key: an object that is not this event's has its name")
        return Made(made.name, made.namespace, made.uid, made.duplicate)

    async def _look(self, namespace: str, name: str, _seconds: float) -> Json:
        return report(await self._objects().get(namespace, name))

    def _objects(self) -> KubeObjects:
        if self._client is None:
            raise RuntimeError("use the client as a context: `async with ApiServer(…) as ledger`")
        return KubeObjects(self._client)
