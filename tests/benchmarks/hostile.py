"""
Objects and answers made to be expensive, of about a mebibyte and of 64 KiB.

    python -m tests.benchmarks.hostile

reads orders and creates or deletes the objects in a process of its own: what it costs to write a mebibyte
of JSON again and again must not be charged to the clock of whoever measures.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.child import say
from tests.integration.api import Api, notification

Json = dict[str, Any]

#: Seconds for which an answer is waited for: a busy API server needs more than twenty for some of them.
_PATIENCE: Final = 60.0
#: Bytes of an object, below what etcd takes with its status; of an answer that is read.
OBJECT_BYTES: Final = 1_000_000
ANSWER_BYTES: Final = 64 * 1024


def _of(unit: str, size: int) -> str:
    return unit * (size // len(unit.encode()))


#: Members of the spec, or of the metadata, by shape, for a size in bytes.
SHAPES: Final[dict[str, Callable[[int], Json]]] = {
    "thousands of extensions": lambda size: {
        "extensions": {f"key-{n:05}": f"v{n}" for n in range(size * 45 // 1_000)}
    },
    "a body of prose": lambda size: {"body": _of("The rollout of app is stuck at step 4. ", size)},
    "a body of secrets": lambda size: {"body": _of("password=oak31 token: x sk-aaaa ", size)},
    "a body of `eyJ-`": lambda size: {"body": _of("eyJ-", size)},
    "a body of combining marks": lambda size: {"body": "a" + _of("\u0345\u0300", size)},
    "a body of letters of full width": lambda size: {
        "body": _of("\uff50\uff41\uff53\uff53\uff1d", size)
    },
    "one long fact": lambda size: {
        "context": {"analysis": {"rootCause": _of('"password":"\\ ', size)}}
    },
    "hundreds of links": lambda size: {
        "actionLinks": [
            {"service": "s", "label": "l", "url": "https://x.example/" + "a" * 1_900}
        ] * (size // 2_000)
    },
    "long annotations": lambda size: {
        "metadata": {
            "annotations": {f"k{n}": "token: x " * 50 for n in range(size // 2_000)},
            "labels": {f"k{n}": "v" for n in range(size // 2_000)},
        }
    },
    "many managed fields": lambda size: {
        "metadata": {
            "managedFields": [
                {
                    "manager": f"m{n}", "operation": "Update", "apiVersion": "kubernaut.ai/v1alpha1",
                    "fieldsType": "FieldsV1", "time": "2026-01-01T00:00:00Z",
                    "fieldsV1": {"f:metadata": {f"f:x{m}": {} for m in range(150)}},
                }
                for n in range(size * 3 // 10_000)
            ]
        },
        "body": _of("```\n", size // 5),
    },
}  # fmt: skip

#: Texts of answers, each repeated to the bound.
ANSWERS: Final = (
    "eyJ-",
    "sk-aaaa ",
    "password=x ",
    '"token":"\\',
    "a@",
    "-----BEGIN PRIVATE KEY-----\n",
)


@dataclass(frozen=True, slots=True)
class Orders:
    """
    What the process is to create.

    Attributes:
        server: URL of the API server.
        token: Of an administrator.
        ca_file: Certificate of the server.
        namespace: Where.
        prefix: Of the names.
        attributes: Extensions of each object, which route it.
        seconds: Over which the creations are spread.
        create: False deletes what was created.
    """

    server: str
    token: str
    ca_file: str
    namespace: str
    prefix: str
    attributes: dict[str, str]
    seconds: float
    create: bool = True


def objects(orders: Orders) -> list[tuple[str, str]]:
    """Names and bodies of the objects."""
    out = []
    for n, shape in enumerate(SHAPES):
        members = SHAPES[shape](OBJECT_BYTES)
        metadata = members.pop("metadata", {})
        extensions = {**members.pop("extensions", {}), **orders.attributes}
        made = notification(f"{orders.prefix}-{n}", extensions=extensions, **members)
        made["metadata"].update(metadata)
        out.append((made["metadata"]["name"], json.dumps(made, ensure_ascii=False)))
    return out


async def carry_out(orders: Orders, made: Sequence[tuple[str, str]]) -> None:
    """
    Create one object of each shape, or delete them.

    Raises:
        RuntimeError: the server refuses one.
    """
    begin = time.monotonic()
    ca_file = Path(orders.ca_file)
    async with Api(orders.server, orders.token, ca_file, orders.namespace, _PATIENCE) as api:
        for n, (name, text) in enumerate(made):
            if orders.create:
                await asyncio.sleep(begin + n * orders.seconds / len(made) - time.monotonic())
                answer = await api.ask("POST", api.requests, text)
            else:
                answer = await api.ask("DELETE", f"{api.requests}/{name}")
            if answer.code not in {200, 201}:
                raise RuntimeError(f"{name}: {answer.code} {str(answer.body)[:500]}")


def _main() -> None:
    while line := sys.stdin.readline():
        orders = Orders(**json.loads(line))
        made = objects(orders)
        say("ready")
        if not sys.stdin.readline():
            return
        asyncio.run(carry_out(orders, made))
        say("done")


if __name__ == "__main__":
    _main()
