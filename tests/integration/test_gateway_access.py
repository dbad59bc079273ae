"""Who may send: tokens that a real API server reviews, and certificates of clients."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from notifier.gateway.reviews import REFUSED
from syncer.model.resource import Json
from tests.channels.receiver import Certificates
from tests.fakes.faults import Answer, Match
from tests.integration.accounts import bind, make, token_of
from tests.integration.running_gateway import (
    Clock,
    Outside,
    Running,
    gateway,
    group,
    outside,
    stamp,
    stored,
    token,
)
from tests.servers.controlplane import ControlPlane

__all__ = ["outside", "token"]

AUDIENCE: Final = "notification-gateway"


def document(namespace: str, auth: Json, **more: Any) -> Json:
    """A gateway's file with one source."""
    source = {"name": "am", "kind": "alertmanager", "namespace": namespace, "auth": auth}
    return {"sources": [source], **more}


async def test_a_token_of_kubernetes_with_the_right_lets_in(
    control_plane: ControlPlane, namespace: str
) -> None:
    """An account needs a token for the gateway, and the right to send to this source."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    make(control_plane, accounts, {"metadata": {"name": "sender"}})
    good = token_of(control_plane, namespace, "sender", AUDIENCE)
    other = token_of(control_plane, namespace, "sender", "https://kubernetes.default.svc")
    clock = Clock()
    async with gateway(
        control_plane.kubeconfig, document(namespace, {"tokenReview": {}}), clock=clock
    ) as here:

        async def sent(token: str) -> tuple[int, str]:
            code, answer, _ = await here.send(
                "am", group(("a", "firing", stamp())), Authorization=f"Bearer {token}"
            )
            return code, str(answer.get("error", ""))

        assert (await sent("no-token"))[0] == 401
        assert (await sent(other))[0] == 401
        code, reason = await sent(good)
        assert (code, reason) == (
            403,
            "the token's owner may not create notificationrequests/gateway am in " + namespace,
        )
        rule = {
            "apiGroups": ["kubernaut.ai"], "resources": ["notificationrequests/gateway"],
            "resourceNames": ["am"], "verbs": ["create"],
        }  # fmt: skip
        bind(control_plane, namespace, "sender", [rule])
        # The refusal holds for a while, and the server's own view of roles is a cache.
        assert (await sent(good))[0] == 403
        async with asyncio.timeout(30):
            while (await sent(good))[0] != 200:
                clock.now += REFUSED
                await asyncio.sleep(0.05)
        assert (await sent(other))[0] == 401


REVIEW: Final = Match(path="*tokenreviews*")
ACCESS: Final = Match(path="*subjectaccessreviews*")


def reviewed(**status: Any) -> Answer:
    """An answer of the API server."""
    return Answer(201, body={"kind": "Review", "status": status})


KNOWN: Final = reviewed(authenticated=True, audiences=[AUDIENCE], user={"username": "u"})
#: Answers to the two reviews, the gateway's own, and how many reviews two requests cost.
REVIEWS: Final[dict[str, tuple[Answer, Answer, int, int]]] = {
    "all is well": (KNOWN, reviewed(allowed=True), 200, 2),
    "the server is away": (Answer(503), reviewed(allowed=True), 503, 2),
    "the gateway may not ask": (Answer(403, "Forbidden"), reviewed(allowed=True), 503, 2),
    "the second review fails": (KNOWN, Answer(500), 503, 4),
    "nobody has the token": (
        reviewed(authenticated=False, error="x"), reviewed(allowed=True), 401, 1,
    ),
    "the server knows no audiences": (
        reviewed(authenticated=True, user={"username": "u"}), reviewed(allowed=True), 401, 1,
    ),
    "it is for somebody else": (
        reviewed(authenticated=True, audiences=["x"], user={"username": "u"}),
        reviewed(allowed=True), 401, 1,
    ),
    "he may not": (KNOWN, reviewed(allowed=False), 403, 2),
    "an authoriser is missing": (
        KNOWN, reviewed(allowed=False, evaluationError="role not found"), 403, 2,
    ),
    "an answer that is none": (Answer(201, body={}), reviewed(allowed=True), 401, 1),
}  # fmt: skip


@pytest.mark.parametrize("case", REVIEWS)
async def test_what_a_review_comes_to(
    outside: Outside, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage is 503, never 401; an answer is asked for once; the token is in no log and no answer."""
    first, second, expected, reviews = REVIEWS[case]
    outside.server.faults.add(REVIEW, first, times=None)
    outside.server.faults.add(ACCESS, second, times=None)
    given = document("default", {"tokenReview": {}})
    async with gateway(outside.kubeconfig, given, clock=Clock()) as here:
        for _ in range(2):
            code, answer, _ = await here.send("am", group(("a", "firing", stamp())))
            assert code == expected, answer
            assert "s3cret-token" not in json.dumps(answer)
    asked = [request for request in outside.server.faults.struck if "reviews" in str(request)]
    assert len(asked) == reviews
    assert "s3cret-token" not in caplog.text


async def test_many_requests_of_one_token_wait_for_one_review(
    outside: Outside,
) -> None:
    """Fifty at once: the API server is asked once who sends, and once what he may."""
    outside.server.faults.add(REVIEW, KNOWN, times=None)
    outside.server.faults.add(ACCESS, reviewed(allowed=True), times=None)
    async with gateway(outside.kubeconfig, document("default", {"tokenReview": {}})) as here:
        answers = await asyncio.gather(
            *(here.send("am", group((f"a{n}", "firing", stamp()))) for n in range(50))
        )
    assert {code for code, _, _ in answers} == {200}
    assert len(outside.server.faults.struck) == 2


# -- certificates ---------------------------------------------------------------------------------


class Pki:
    """An authority, and one that nobody knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("known", "other"):
            (folder / name).mkdir()
        self.known, self.other = (
            Certificates(folder / "known"),
            Certificates(folder / "other"),
        )
        self.known.context("server")
        for own in (self.known, self.other):
            own.context("client", san="DNS:client.example,URI:spiffe://cluster/sender")

    @property
    def tls(self) -> Json:
        """Of the gateway's file."""
        folder = self.folder / "known"
        return {"certFile": str(folder / "server.pem"), "keyFile": str(folder / "server.key")}

    def client(self, authority: str = "known", *, bare: bool = False) -> ssl.SSLContext:
        """What a client shows and trusts."""
        context = ssl.create_default_context(cafile=str(self.known.ca))
        if not bare:
            folder = self.folder / authority
            context.load_cert_chain(folder / "client.pem", folder / "client.key")
        return context


@pytest.fixture(scope="module")
def pki_template(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates for this file."""
    return Pki(tmp_path_factory.mktemp("pki"))


async def post(here: Running, tls: ssl.SSLContext) -> int:
    """Send over a connection of its own; 0 where the handshake or the connection fails."""
    connector = aiohttp.TCPConnector(ssl=tls, force_close=True)
    try:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(
                f"https://127.0.0.1:{here.port}/v1/am", json=group(("a", "firing", stamp()))
            ) as answer,
        ):
            return answer.status
    except aiohttp.ClientError:
        return 0


#: Names that the source asks for, and the answer to a client with a certificate.
NAMES: Final = {
    "any": ([], 200),
    "its URI": (["uri:spiffe://cluster/sender"], 200),
    "one of several": (["dns:else.example", "dns:client.example"], 200),
    "its common name": (["cn:client"], 200),
    "another one": (["uri:spiffe://cluster/other"], 401),
    "the same of another kind": (["cn:client.example"], 401),
}


@pytest.mark.parametrize("case", NAMES)
async def test_a_client_has_a_certificate_with_a_name(
    outside: Outside, pki_template: Pki, case: str
) -> None:
    """Signed by the source's authority, with one of its names; without a certificate it is 401."""
    names, expected = NAMES[case]
    auth = {"clientCertificate": {"caFiles": [str(pki_template.known.ca)], "names": names}}
    given = document("default", auth, tls=pki_template.tls)
    async with gateway(outside.kubeconfig, given) as here:
        assert await post(here, pki_template.client()) == expected
        assert await post(here, pki_template.client(bare=True)) == 401
        assert await post(here, pki_template.client("other")) == 0
    assert len(stored(outside.server)) == (1 if expected == 200 else 0)


async def test_no_connection_is_resumed(outside: Outside, pki_template: Pki) -> None:
    """A resumed one shows no certificate: whoever has proven himself once would be refused then."""
    auth = {"clientCertificate": {"caFiles": [str(pki_template.known.ca)], "names": []}}
    given = document("default", auth, tls=pki_template.tls)

    def ticket(port: int) -> bool:
        address = ("127.0.0.1", port)
        with (
            socket.create_connection(address, 5) as raw,
            pki_template.client().wrap_socket(raw, server_hostname="127.0.0.1") as made,
        ):
            made.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while made.recv(4096):
                pass
            return made.session is not None and made.session.has_ticket

    async with gateway(outside.kubeconfig, given) as here:
        assert not await asyncio.to_thread(ticket, here.port)


async def test_an_authority_of_another_source_vouches_for_nobody_here(
    outside: Outside, pki_template: Pki
) -> None:
    """Both authorities pass the handshake of the shared port; each source takes its own alone."""
    given = document(
        "default", {"clientCertificate": {"caFiles": [str(pki_template.known.ca)]}},
        tls=pki_template.tls,
    )  # fmt: skip
    given["sources"].append({
        "name": "else", "kind": "alertmanager", "namespace": "default",
        "auth": {"clientCertificate": {"caFiles": [str(pki_template.other.ca)]}},
    })  # fmt: skip
    async with gateway(outside.kubeconfig, given) as here:
        assert await post(here, pki_template.client()) == 200
        assert await post(here, pki_template.client("other")) == 401


async def test_certificates_are_followed(
    outside: Outside, pki_template: Pki, tmp_path: Path
) -> None:
    """A replaced authority counts for new connections; a broken file changes nothing."""
    files = {name: tmp_path / name for name in ("ca.pem", "server.pem", "server.key")}
    for name, file in files.items():
        shutil.copy(pki_template.folder / "known" / name, file)
    given = document(
        "default", {"clientCertificate": {"caFiles": [str(files["ca.pem"])]}},
        tls={"certFile": str(files["server.pem"]), "keyFile": str(files["server.key"])},
    )  # fmt: skip
    clock = Clock()
    async with gateway(outside.kubeconfig, given, clock=clock) as here:
        assert await post(here, pki_template.client()) == 200
        files["ca.pem"].write_text("no certificate")
        clock.now += 5
        assert await post(here, pki_template.client()) == 200
        shutil.copy(pki_template.other.ca, files["ca.pem"])
        clock.now += 5
        assert await post(here, pki_template.client()) == 0
        assert await post(here, pki_template.client("other")) == 200
