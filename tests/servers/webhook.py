"""An admission webhook, as a cluster's own might be: for the statuses of one namespace, over TLS."""

from __future__ import annotations

import asyncio
import base64
import ssl
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from .ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from .controlplane import ControlPlane

_CONFIGURATIONS: Final = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


@asynccontextmanager
async def webhook(
    plane: ControlPlane,
    namespace: str,
    folder: Path,
    answer: Callable[[str], Awaitable[dict[str, Any] | None]],
) -> AsyncIterator[None]:
    """
    Have the API server ask about each status write in a namespace; it does so within a second or so.

    Args:
        plane: Has the API server.
        namespace: Whose statuses are asked about.
        folder: For the certificate.
        answer: Returns the status of a refusal, None to admit, for the name of an object.
    """
    certificate, key, port = folder / "webhook.crt", folder / "webhook.key", free_port()
    await asyncio.to_thread(_make_certificate, certificate, key)

    async def handle(request: web.Request) -> web.Response:
        review = (await request.json())["request"]
        refusal = await answer(review["name"])
        response = {"uid": review["uid"], "allowed": refusal is None, "status": refusal or {}}
        body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        return web.json_response({**body, "response": response})

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    authority = base64.b64encode(certificate.read_bytes()).decode()
    body = {
        "metadata": {"name": f"{namespace}.example.com"},
        "webhooks": [
            {
                "name": f"{namespace}.example.com",
                "clientConfig": {"url": f"https://127.0.0.1:{port}/", "caBundle": authority},
                "rules": [
                    {
                        "apiGroups": ["kubernaut.ai"], "apiVersions": ["*"],
                        "operations": ["UPDATE"], "resources": ["notificationrequests/status"],
                    }
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 30,
            }
        ],
    }  # fmt: skip
    code, text = await plane.request("POST", _CONFIGURATIONS, body)
    assert code == 201, text
    try:
        yield
    finally:
        await plane.request("DELETE", f"{_CONFIGURATIONS}/{namespace}.example.com")
        await runner.cleanup()


def _make_certificate(certificate: Path, key: Path) -> None:
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1",
        ],
        stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=30,
    )  # fmt: skip
