"""
The map of a Redis Cluster: which node holds which slot, read from CLUSTER SLOTS; no I/O.

Also what is decided for all servers of a cluster together (`weakest`), and which key a command has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS

from syncer.ledger.replies import number_of, parse_version, text_of
from syncer.ledger.url import Address

#: Commands without a key: any primary answers them, or the one that is named.
_KEYLESS: Final = frozenset({"PING", "PUBLISH", "TIME", "INFO", "CONFIG", "SCAN"})


@dataclass(frozen=True, slots=True)
class Primary:
    """A node that holds slots."""

    node: str
    address: Address


@dataclass(frozen=True, slots=True)
class Layout:
    """
    The holder of each slot, None where there is none.

    Attributes:
        healthy: False if the node that answered is cut off, or a slot is not served.
        primaries: Every holder once, in the order of their first slot.
        holes: Number of slots without a holder.
    """

    slots: tuple[Primary | None, ...] = (None,) * REDIS_CLUSTER_HASH_SLOTS
    healthy: bool = False
    # Read by every call, so not counted each time: there are 16384 slots.
    primaries: tuple[Primary, ...] = field(init=False, default=())
    holes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Count."""
        found: dict[Primary, None] = {}
        last = None
        for holder in self.slots:
            if holder is not None and holder is not last:
                found[holder] = None
            last = holder
        object.__setattr__(self, "primaries", tuple(found))
        object.__setattr__(self, "holes", self.slots.count(None))

    def over(self, earlier: Layout) -> Layout:
        """This layout, with the last known holder where it names none."""
        pairs = zip(self.slots, earlier.slots, strict=True)
        return Layout(tuple(new or old for new, old in pairs), self.healthy)


def parse_layout(reply: Any, asked: Address, *, healthy: bool) -> Layout:
    """
    Read the reply of CLUSTER SLOTS.

    Args:
        reply: Ranges: first slot, last slot, the primary (endpoint, port, node id, ...), replicas.
        asked: Address of the node that answered; used where it does not know its own endpoint.
        healthy: Whether that node is part of a working cluster.

    Raises:
        ValueError: it is something else.
    """
    slots: list[Primary | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    try:
        for first, last, primary, *_replicas in reply:
            endpoint, port, node = text_of(primary[0] or b""), int(primary[1]), text_of(primary[2])
            host = asked[0] if endpoint in {"", "?"} else endpoint
            holder = Primary(node, (host, port))
            for slot in range(int(first), int(last) + 1):
                slots[slot] = holder
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ValueError("the answer to CLUSTER SLOTS has an unknown form") from error
    return Layout(tuple(slots), healthy)


def weakest(infos: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """
    Merge the INFO of many servers into one, for decisions about all of them together.

    Of each member that the preflight checks, the result has the value that promises least: the oldest
    version, the fewest replicas, a setting that differs from the safe one if any server has it so.
    Every other member is the first server's.
    """
    rows = list(infos)
    if not rows:
        return {}
    merged = dict(rows[0])
    merged["redis_version"] = ".".join(str(p) for p in min(parse_version(r) for r in rows))
    merged["connected_slaves"] = str(min(number_of(r.get("connected_slaves")) for r in rows))
    merged["master_replid"] = min(r.get("master_replid", "") for r in rows)
    for name, safe in (
        ("appendfsync", "always"),
        ("maxmemory_policy", "noeviction"),
        ("aof_enabled", "1"),
        ("aof_last_write_status", "ok"),
    ):
        merged.pop(name, None)
        values = [r.get(name) for r in rows]
        worst = next((v for v in values if v != safe), safe)
        if worst is not None:
            merged[name] = worst
    return merged


def key_of(command: tuple[Any, ...]) -> bytes | None:
    """The key of a command as used here: the third argument of a script, else the first."""
    if command[0] in _KEYLESS:
        return None
    key = command[3] if command[0] == "EVALSHA" else command[1]
    return key if isinstance(key, bytes) else str(key).encode()


def name_of(address: Address) -> str:
    """Host and port as one text."""
    return f"{address[0]}:{address[1]}"
