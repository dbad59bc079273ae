"""
What the replies of a server mean: error replies, INFO, and the metadata of the store.

An error reply is classified by its first word alone; the rest may quote keys or arguments and is dropped,
but for the command that a user may not run.
Words that mean *nothing was executed, a retry may help* become `Refused`, of which the router of a
cluster reads the word (`MOVED`, `ASK`), and which is `Unavailable` for everything else.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from redis.exceptions import AskError

from syncer.ledger.url import Address
from syncer.model.errors import ContractError, LedgerError, Rejected, Unauthorised, Unavailable

T = TypeVar("T")

#: What the vendor raises for a reply that follows no grammar, and what comes of one of another type.
MALFORMED: Final = (ValueError, TypeError, AttributeError, LookupError)
#: First words of error replies after which nothing was executed and a retry may help.
_NOT_EXECUTED: Final = frozenset(
    {
        "LOADING", "BUSY", "OOM", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "READONLY",
        "MASTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOSCRIPT",
    }
)  # fmt: skip
#: What such a word says of the server.
_SAYS: Final = {
    "BUSY": "a script runs for too long",
    "CLUSTERDOWN": "not every slot is served",
    "LOADING": "it still reads its data",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "MISCONF": "it cannot write to its disk",
    "NOREPLICAS": "too few replicas are connected",
    "OOM": "it is full (maxmemory)",
    "READONLY": "it is a replica",
}
_UNAUTHORISED: Final = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})
#: In the text of a NOPERM, which other versions begin otherwise.
_MAY_NOT_RUN: Final = re.compile(r"no permissions to run the '([a-z|]{1,40})' command")
_MAY_NOT_USE: Final = re.compile(r"(?i:no permissions to access) .*\b(key|channel)")
#: In the text of an error reply, which begins with ERR: a user may not run a command of a script. The
#: first is Redis 7.0's.
_INSIDE: Final = ("executing the script can't", "ACL failure in script")
#: redis-py strips the first word of some replies and turns it into the type.
_TYPES: Final = {
    "NoScriptError": "NOSCRIPT", "BusyLoadingError": "LOADING", "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM", "NoPermissionError": "NOPERM", "AuthenticationError": "NOAUTH",
    "AuthenticationWrongNumberOfArgsError": "NOAUTH", "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN", "TryAgainError": "TRYAGAIN", "MovedError": "MOVED",
    "AskError": "ASK",
}  # fmt: skip


#: Why nothing may be opened where the scripts get no stamp, with the fix.
NO_STAMP: Final = (
    "INFO replication shows no role and master_replid there; allow the user +info, do not rename INFO, and"
    " use no proxy that hides them"
)


class WrongType(Rejected):
    """The key holds something that is not a list, or no text where one is expected."""

    def __init__(self) -> None:
        super().__init__("Redis refuses the command (WRONGTYPE)", reason="WRONGTYPE")


class RefusedInside(Unauthorised):
    """The user may run a script, and not one of its commands; others may have been executed before."""

    def __init__(self, lacks: str = "", *, word: str = "NOPERM") -> None:
        lacks = lacks or "docs/install.md lists what the user needs"
        super().__init__(f"Redis refuses a command within a script ({word}): {lacks}", reason=word)


async def read_apart(
    read: Callable[[Sequence[str]], Awaitable[Sequence[T]]], uids: Sequence[str], stranger: T
) -> list[T]:
    """
    Read from logs, although some of the keys may hold something that is not a list.

    Args:
        read: Reads all at once; one such key has it refused.
        uids: Of the logs, one at least.
        stranger: Stands for such a key. Asked one by one, it is the only one that refuses.
    """
    try:
        return list(await read(uids))
    except WrongType:
        if len(uids) == 1:
            return [stranger]
        return [found for uid in uids for found in await read_apart(read, [uid], stranger)]


async def of_one_log(reply: Awaitable[T]) -> T:
    """
    Await a call about one log.

    Raises:
        ContractError: its key is not a list: it cannot be read, like a log with another header.
    """
    try:
        return await reply
    except WrongType:
        raise ContractError("the key is not a list: another program uses it") from None


class Refused(Unavailable):
    """An error reply that means not executed; `word` is its first word."""

    def __init__(self, word: str) -> None:
        super().__init__(f"Redis answers {word}" + (f": {_SAYS[word]}" if word in _SAYS else ""))
        self.word = word


class Redirected(Refused):
    """Not executed: ask the node at `address` (host empty: the same host), once only for `ASK`."""

    def __init__(self, word: str, address: Address) -> None:
        super().__init__(word)
        self.address = address


def is_malformed(error: BaseException | None) -> bool:
    """Whether a reply was none; a certificate that cannot be verified is a ValueError, too."""
    return isinstance(error, MALFORMED) and not isinstance(error, OSError)


def word_of(error: BaseException) -> str:
    """First word of an error reply."""
    name = type(error).__name__
    if name in _TYPES:
        return _TYPES[name]
    match = re.match(r"(?:-)?([A-Z]{2,})\b", str(error))
    return match[1] if match else "ERR"


def classify_reply(error: BaseException) -> LedgerError:
    """Map an error reply of the server; of its text only the first word is kept: it may quote keys."""
    word = word_of(error)
    text = str(error)
    if "NLFORMAT" in text:
        return ContractError("the key holds no log of this format")
    stampless = "NLSTAMP" in text
    if stampless or any(part in text for part in _INSIDE):
        return (
            RefusedInside(NO_STAMP, word="NLSTAMP") if stampless else RefusedInside(_denied(text))
        )
    if word in _UNAUTHORISED or "AUTH" in text[:24]:
        what = "the credentials", "check the user and the password"
        if word == "NOPERM":
            what = "the command", _denied(text) or "the user lacks a permission"
        return Unauthorised(f"Redis refuses {what[0]} ({word}): {what[1]}", reason=word)
    if "-OOM" in text or "OOM command" in text:
        word = "OOM"
    if isinstance(error, AskError):  # MOVED is one too
        return Redirected(word, (error.host, error.port))
    if word in _NOT_EXECUTED:
        return Refused(word)
    if word == "WRONGTYPE":
        return WrongType()
    if text.startswith(("DB index", "invalid DB index")):
        return Rejected(
            "the server has no database of the number in redis.url; correct the number after the last /",
            reason=word,
        )
    return Rejected(f"Redis refuses the command ({word})", reason=word)


def _denied(text: str) -> str:
    """Return which right a user lacks, empty if the reply does not say."""
    if run := _MAY_NOT_RUN.search(text):
        return f"the user may not run {run[1].upper().replace('|', ' ')}"
    if use := _MAY_NOT_USE.search(text):
        return f"the user may not use this {use[1]}"
    return ""


def text_of(value: Any) -> str:
    """A reply as text; bytes of another program may not be text, and are replaced."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def number_of(text: str | None) -> int:
    """A member of INFO as a number; 0 for one that is absent, or none."""
    return int(text) if text and text.isascii() and text.isdigit() else 0


def parse_info(reply: Any) -> dict[str, str]:
    """Members of INFO's reply, and of CLUSTER INFO's."""
    pairs = (line.split(":", 1) for line in text_of(reply).splitlines() if ":" in line)
    return {k: v.strip() for k, v in pairs if not k.startswith("#")}


def parse_pairs(reply: Any) -> dict[str, str]:
    """Settings from CONFIG GET's reply."""
    texts = [text_of(r) for r in reply] if isinstance(reply, list) else []
    return dict(zip(texts[::2], texts[1::2], strict=False))


def parse_meta(meta: bytes | None) -> dict[str, str]:
    """Members of the store's metadata, under `<prefix>:meta`."""
    text = text_of(meta) if isinstance(meta, bytes) else ""
    return dict(part.split("=", 1) for part in text.split(" ") if "=" in part)


def parse_version(info: Mapping[str, str]) -> tuple[int, ...]:
    """Version that decides about script flags; Valkey reports its Redis compatibility."""
    text = info.get("redis_version", "0")
    return tuple(int(p) for p in re.findall(r"\d+", text)[:3])
