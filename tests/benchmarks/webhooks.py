"""
What a gateway is measured with, each in a process of its own so that its work is charged to nobody else.

    python -m tests.benchmarks.webhooks server|sender|crowd

`server` answers each create at once, as an API server would that costs nothing, and prints its port. The
others read their orders on standard input, one line of JSON. `sender` sends groups of alerts at a steady
rate, whether or not those before them are answered, and prints what came of it. `crowd` opens connections
that send nothing, half a head or half a body, prints a line when all are open, and keeps them until its
input ends.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.child import say
from tests.benchmarks.report import Json, percentile

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
#: In each group.
_ALERTS: Final = 5
#: In a body, what makes it another group.
_NUMBER: Final = b"########"


@dataclass(frozen=True, slots=True)
class Orders:
    """
    What is to be sent, or opened.

    Attributes:
        port: Of the gateway.
        token: Of the source `am`.
        per_second: Webhooks, or connections.
        seconds: For how long.
        first: Number of the first group.
        connections: Over which webhooks are sent; how many are opened.
    """

    port: int
    token: str
    per_second: float
    seconds: float = 0.0
    first: int = 0
    connections: int = 64


def request_of(orders: Orders) -> bytes:
    """Return the bytes of a webhook of Alertmanager's, with a mark where a number goes."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    number = _NUMBER.decode()
    labels = {"alertname": f"Group-{number}", "severity": "critical", "team": "storage"}
    group = {
        "version": "4", "receiver": "ledger", "status": "firing", "truncatedAlerts": 0,
        "groupKey": f'{{}}:{{alertname="Group-{number}"}}', "groupLabels": {},
        "commonLabels": labels, "commonAnnotations": {"summary": "disk is full"},
        "externalURL": "http://alertmanager.example:9093",
        "alerts": [
            {
                "status": "firing", "labels": {**labels, "instance": f"node-{n}:9100"},
                "annotations": {"summary": "disk is full"}, "startsAt": now,
                "endsAt": "0001-01-01T00:00:00Z", "fingerprint": f"{number}{n:08}",
                "generatorURL": "http://prometheus.example/graph?g0.expr=disk_full",
            }
            for n in range(_ALERTS)
        ],
    }  # fmt: skip
    body = json.dumps(group).encode()
    head = (
        f"POST /v1/am HTTP/1.1\r\nHost: 127.0.0.1:{orders.port}\r\nUser-Agent: Alertmanager/0.25.0\r\n"
        f"Authorization: Bearer {orders.token}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> int:
    """Send a request and read its answer whole; returns the status."""
    writer.write(request)
    head = (await reader.readuntil(_HEAD_END)).lower()
    await reader.readexactly(int(head.partition(_LENGTH)[2].split(b"\r\n")[0]))
    return int(head.split(b" ", 2)[1])


async def send(orders: Orders) -> Json:
    """Send at a steady rate; returns answers by status (0 is none), how long all took, and ms for each."""
    request = request_of(orders)
    codes: Counter[int] = Counter()
    took: list[float] = []
    total = round(orders.per_second * orders.seconds)
    begin = time.monotonic() + 0.2

    async def work(worker: int) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for n in range(worker, total, orders.connections):
            due = begin + n / orders.per_second
            await asyncio.sleep(due - time.monotonic())
            try:
                streams = streams or await asyncio.open_connection("127.0.0.1", orders.port)
                number = f"{orders.first + n:08}".encode()
                codes[await exchange(*streams, request.replace(_NUMBER, number))] += 1
            except (OSError, asyncio.IncompleteReadError):
                codes[0] += 1
                streams = None
            took.append((time.monotonic() - due) * 1000)
        if streams is not None:
            streams[1].close()

    async with asyncio.TaskGroup() as group:
        for worker in range(orders.connections):
            group.create_task(work(worker))
    return {
        "codes": codes,
        "elapsed": time.monotonic() - begin,
        "p50": percentile(took, 0.5),
        "p99": percentile(took, 0.99),
        "size": len(request.partition(_HEAD_END)[2]),
    }


class _Created(asyncio.Protocol):
    """Says of each object that it is created."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        assert self._transport is not None
        self._buffer += data
        while (end := self._buffer.find(_HEAD_END)) >= 0:
            head = self._buffer[:end].lower()
            length = head.partition(_LENGTH)[2].split(b"\r\n")[0].strip()
            whole = end + len(_HEAD_END) + int(length or 0)
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            self._transport.write(_ANSWER)


_OBJECT: Final = json.dumps({
    "apiVersion": "kubernaut.ai/v1alpha1", "kind": "NotificationRequest",
    "metadata": {
        "name": "am-0123456789abcdef0123456789abcdef-0", "namespace": "alerts",
        "uid": "62455857-18ab-4120-b3ee-a088552fc77e", "resourceVersion": "7",
    },
}).encode()  # fmt: skip
_ANSWER: Final = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n"
    + f"Content-Length: {len(_OBJECT)}\r\n\r\n".encode()
    + _OBJECT
)


async def serve() -> None:
    """Answer creates until standard input ends."""
    server = await asyncio.get_running_loop().create_server(_Created, "127.0.0.1", 0)
    say(server.sockets[0].getsockname()[1])
    await asyncio.to_thread(sys.stdin.read)


async def crowd(orders: Orders) -> None:
    """Open connections that never become a request, and keep them until standard input ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = orders.connections + 100
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    whole = request_of(orders)
    parts = (b"", b"POST /v1/am HTTP/1.1\r\nHost: x\r\n", whole[: len(whole) - 200])
    kept, begin = [], time.monotonic()
    loop = asyncio.get_running_loop()
    for n in range(orders.connections):
        await asyncio.sleep(begin + n / orders.per_second - time.monotonic())
        transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", orders.port)
        if part := parts[n % len(parts)]:
            transport.write(part)
        kept.append(transport)
    say(sum(not transport.is_closing() for transport in kept))
    await asyncio.to_thread(sys.stdin.read)


async def _main(role: str) -> None:
    if role == "server":
        await serve()
        return
    orders = Orders(**json.loads(sys.stdin.readline()))
    if role == "sender":
        say(await send(orders))
    else:
        await crowd(orders)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
