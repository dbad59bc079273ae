"""
What a status holds of ours, carried in the message of one condition.

Upstream's schema has no place for ids, classes and start times of attempts, for results that cannot be
known, for channels, folded attempts and the marks of log and journal. It has conditions, whose
messages may have 32,768 characters, and every client keeps conditions that it does not know. So a status is
*folded* where it is written and *expanded* where it is read, and everything in between knows the
expanded form alone.

- **The list decides which attempts there are; the condition only says more about them.** An entry is one of
  ours if channel, number, second and result agree, and each is taken once. What another writer added
  or changed carries nothing and is another's. What another writer removed is not brought back from here:
  the log has it.
- An attempt whose result cannot be known is `failed` in the list, for readers that know no other word.
- The members of the expanded form are written as well, for a CRD that has a place for them. They
  are for people: nothing that is in them is ever read.
- A message that is damaged, of another version or made by hand counts as absent, as a whole: the entries
  are then compared with the log (`syncer.rules.recognise`), and no attempt counts as journaled.
- A message that would be too long carries the mark of the log alone, and our members are not written
  either. Attempts are cut to fit before that happens (`syncer.rules.compact`): what remains are hundreds
  of channels.

The message is JSON, with what is not empty of

    {"v": 1, "names": [...], "epochs": [...],
     "attempts": [[name, number, seconds after the entry before, epoch, counter, class,
                   start in milliseconds after its second or null, code unless it is 0], ...],
     "channels": [[name, state, attempts, time of the next one in milliseconds], ...],
     "rollup": [through, [name, failed, epoch, counter, number, not sent], ...],
     "journal": name of the outage, "log": [position, epoch, store]}

`name` and `epoch` are places in the lists of that name. `class` is a place in `_CLASSES`: 0 for a success,
negative where the result is unknown.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, Final

from syncer.model.packing import packed
from syncer.model.times import second_text, time_of

TYPE: Final = "notification-ledger/Record"
#: Characters that the schema allows for a message, and those that the mark of the log takes at most.
MESSAGE_CHARS: Final = 32_768
_LOG_CHARS: Final = 512

#: Members of a status, and of an entry of its attempts, that are ours.
MEMBERS: Final = ("channels", "rollup", "uncertainAttempts", "log", "journal")
ENTRY_MEMBERS: Final = ("id", "class", "startedAt", "code")

_VERSION: Final = 1
_ORIGIN: Final = "1970-01-01T00:00:00Z"
_CLASSES: Final = ("", "transient", "permanent", "notSent", "uncertain", "operator", "superseded")
_TRANSIENT, _UNCERTAIN = 1, 4
_INT64: Final = 2**63

#: What reading a message raises that none of ours has written.
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
)

Json = dict[str, Any]
#: Channel, number, second and result of an entry: what every writer keeps of it.
_Key = tuple[str, int, str, bool]


# -- writing ----------------------------------------------------------------------------------------


def fold(status: Json, message: str | None = None) -> Json:
    """Return an expanded status as it is written; `message` is that of `message_of`, where it is known."""
    message = message_of(status) if message is None else message
    if not fits(message):
        status, message = bare(status), ""
    if log := status.get("log"):
        mark = _packed([log.get("position", 0), log.get("epoch", ""), log.get("store", "")])
        message = f'{(message or _packed({"v": _VERSION}))[:-1]},"log":{mark}}}'
    if not message:
        return status
    out = dict(status)
    if entries := status.get("deliveryAttempts"):
        out["deliveryAttempts"] = [
            {**e, "status": "failed"} if e.get("status") == "unknown" else e for e in entries
        ]
    queued = status.get("queuedAt")
    carrier = {
        "type": TYPE, "status": "True", "reason": "Recorded", "message": message,
        # Its status never changes, and a fold has no clock.
        "lastTransitionTime": f"{queued[:19]}Z" if queued else _ORIGIN,
    }  # fmt: skip
    out["conditions"] = [c for c in status.get("conditions") or () if c.get("type") != TYPE]
    out["conditions"].append(carrier)
    return out


def fits(message: str) -> bool:
    """Whether what `message_of` gave leaves space for the mark of the log."""
    return len(message) <= MESSAGE_CHARS - _LOG_CHARS


def bare(status: Json) -> Json:
    """Return a status without what is ours, the mark of the log aside."""
    out = {k: v for k, v in status.items() if k not in MEMBERS or k == "log"}
    if entries := status.get("deliveryAttempts"):
        out["deliveryAttempts"] = [_bare(e) for e in entries]
    return out


def message_of(status: Json) -> str:
    """What is carried of an expanded status, the mark of the log aside; empty for nothing."""
    names: dict[str, int] = {}
    epochs: dict[str, int] = {}
    attempts = []
    before = 0
    for entry in status.get("deliveryAttempts") or ():
        if not (identity := entry.get("id")):
            continue
        second = time_of(entry.get("timestamp")) // 1000
        begun = time_of(entry.get("startedAt"))
        attempt = [
            _place(names, entry.get("channel", "")), entry.get("attempt") or 0, second - before,
            *_split(epochs, identity), 0 if entry.get("status") == "success" else _class_of(entry),
            begun - second * 1000 if begun else None,
        ]  # fmt: skip
        attempts.append([*attempt, code] if (code := entry.get("code")) else attempt)
        before = second
    channels = [
        [
            _place(names, c["name"]), c.get("state", ""), c.get("attempts", 0),
            time_of(c.get("nextRetryTime")),
        ]
        for c in status.get("channels") or ()
    ]  # fmt: skip
    rollup = status.get("rollup")
    folded = [
        [
            _place(names, c["name"]), c["failed"], *_split(epochs, c["lastId"]), c["number"],
            c.get("notSent", 0),
        ]
        for c in (rollup or {}).get("channels") or ()
    ]  # fmt: skip
    parts: Json = {
        "names": list(names), "epochs": list(epochs), "attempts": attempts, "channels": channels,
        "rollup": [rollup.get("through", 0), *folded] if rollup else None,
        "journal": (status.get("journal") or {}).get("outage"),
    }  # fmt: skip
    parts = {name: part for name, part in parts.items() if part}
    return _packed({"v": _VERSION, **parts}) if parts else ""


def _packed(value: object) -> str:
    return packed(value).decode("utf-8", "surrogatepass")


def _place(known: dict[str, int], text: str) -> int:
    return known.setdefault(text, len(known))


def _split(epochs: dict[str, int], identity: str) -> tuple[int, int]:
    epoch, _, counter = identity.rpartition("-")
    return _place(epochs, epoch), int(counter)


def _class_of(entry: Json) -> int:
    unknown = entry.get("status") == "unknown"
    word = entry.get("class")
    place = (
        _CLASSES.index(word) if word in _CLASSES[1:] else (_UNCERTAIN if unknown else _TRANSIENT)
    )
    return -place if unknown else place


# -- reading ----------------------------------------------------------------------------------------


def expand(status: Json) -> Json:
    """Return a status that was read with what its condition carries; never raises for what that says."""
    out = {k: v for k, v in status.items() if k not in MEMBERS}
    carried = _carried(status)
    if conditions := status.get("conditions"):
        out["conditions"] = [c for c in conditions if c.get("type") != TYPE]
    of_key: dict[_Key, list[Json]] = defaultdict(list)
    for key, members in reversed(carried.pop("attempts", ())):
        of_key[key].append(members)
    entries = [_bare(e) for e in status.get("deliveryAttempts") or ()]
    for entry in entries if of_key else ():
        if known := of_key.get(_key_of(entry)):
            entry.update(known.pop())
    if entries:
        out["deliveryAttempts"] = entries
    if unknown := sum(e.get("status") == "unknown" for e in entries):
        out["uncertainAttempts"] = unknown
    return out | carried


def journaled(status: Json) -> bool:
    """
    Whether attempts may be journaled in a status that was read: it says so, or cannot be read.

    Of a hundred thousand statuses at a start, hence without a look at what else is carried.
    """
    if (message := _message_in(status)) is None:
        return False
    try:
        carried = json.loads(message)
        return carried["v"] != _VERSION or "journal" in carried
    except _UNREADABLE:
        return True


def _message_in(status: Json) -> str | None:
    """The message of the first condition of the type, None without one."""
    found = (c for c in status.get("conditions") or () if c.get("type") == TYPE)
    return next((c.get("message") or "" for c in found), None)


def _bare(entry: Json) -> Json:
    out = {k: v for k, v in entry.items() if k not in ENTRY_MEMBERS}
    if out.get("status") == "unknown":
        out["status"] = "failed"
    return out


def _key_of(entry: Json) -> _Key:
    """What an entry is recognised by; the second as it is spelt in UTC, by all who write it."""
    at = str(entry.get("timestamp") or _ORIGIN)
    second = at[:19] if at.endswith("Z") else at
    success = entry.get("status") == "success"
    return str(entry.get("channel", "")), entry.get("attempt") or 0, second, success


def _carried(status: Json) -> Json:
    """What the condition carries, in the form of the expanded status but for its attempts."""
    if (message := _message_in(status)) is None:
        return {}
    try:
        return _read(json.loads(message))
    except _UNREADABLE:
        return {}


def _read(message: Json) -> Json:
    """Read a message; ValueError, or another error of its shape, for one that none of ours has written."""
    if _int(message["v"]) != _VERSION:
        raise ValueError("another version")
    names = [_text(n) for n in message.get("names", [])]
    epochs = [_text(e, 64) for e in message.get("epochs", [])]
    out: Json = {}
    second, attempts = 0, []
    for name, number, later, epoch, counter, place, begun, *code in message.get("attempts", []):
        second = _int(second + _int(later))
        unknown, word = _int(place) < 0, _CLASSES[abs(place)]
        members: Json = {"id": f"{epochs[_at(epoch)]}-{_at(counter)}"}
        if unknown:
            members["status"] = "unknown"
        if word:
            members["class"] = word
        if begun is not None:
            members["startedAt"] = _time(second * 1000 + _int(begun))
        if code:
            (members["code"],) = map(_int, code)
        key = names[_at(name)], _int(number), second_text(second), not place
        attempts.append((key, members))
    out["attempts"] = attempts
    if "channels" in message:
        out["channels"] = _once([
            {
                "name": names[_at(name)], "state": _text(state, 64), "attempts": _at(made),
                **({"nextRetryTime": _time(_int(later))} if later else {}),
            }
            for name, state, made, later in message["channels"]
        ])  # fmt: skip
    if "rollup" in message:
        through, *folded = message["rollup"]
        out["rollup"] = {
            "through": _at(through),
            "channels": _once([
                {
                    "name": names[_at(name)], "failed": _at(failed), "number": _at(number),
                    "lastId": f"{epochs[_at(epoch)]}-{_at(counter)}", "notSent": _at(unsent),
                }
                for name, failed, epoch, counter, number, unsent in folded
            ]),
        }  # fmt: skip
    if "journal" in message:
        out["journal"] = {"outage": _text(message["journal"], 64)}
    if "log" in message:
        position, term, store = message["log"]
        out["log"] = {
            "position": _at(position), "epoch": _text(term, 64), "store": _text(store, 128),
        }  # fmt: skip
    return out


def _int(value: object) -> int:
    if type(value) is not int or not -_INT64 <= value < _INT64:
        raise ValueError("not an integer of 64 bits")
    return value


def _at(value: object) -> int:
    if (number := _int(value)) < 0:
        raise ValueError("not a place")
    return number


def _text(value: object, most: int = MESSAGE_CHARS) -> str:
    """A text within what our definition allows there, and none of half characters, which JSON can spell."""
    if not isinstance(value, str) or len(value) > most:
        raise TypeError("not a text, or too long a one")
    value.encode()
    return value


def _once(rows: list[Json]) -> list[Json]:
    """Rows of which no two have the same name: ten thousand of one would be a thousand times as long."""
    if len({row["name"] for row in rows}) < len(rows):
        raise ValueError("a name twice")
    return rows


def _time(millis: int) -> str:
    """The time of Unix milliseconds; OverflowError beyond the calendar."""
    return f"{second_text(millis // 1000)}.{millis % 1000:03}Z"
