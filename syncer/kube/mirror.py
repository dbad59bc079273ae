"""
A mirror of the objects that the API server has shown; it passes their changes to a sink.

A mirror keeps only uid and resourceVersion of each object; the objects belong to the sink. It turns lists
and watches into one history:

- Events may come twice or late. An event older than the known version of its uid is dropped, and so is
  any event of a deleted uid.
- The same name with a new uid is a delete and an add.
- An object that does not parse still exists: it is logged, and not deleted.
- Objects of a lost shard are released, which is not a deletion. An object that the sink must keep for a
  while stays known without a version, so that a later list of its shard reports it again, or its
  deletion.

No I/O, no clock.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from syncer.kube.notification_requests import Meta, Unreadable
from syncer.model.resource import NotificationRequest, version_key

#: Deleted uids that are remembered because events may come late; far more than are ever under way.
_TOMBSTONES: Final = 4096
#: Objects that do not parse and are remembered because that was logged already.
_REPORTED: Final = 1024

logger = logging.getLogger("ledger.kube")


class Sink(Protocol):
    """The receiver of changes. The calls are synchronous; an error in one ends the reflector."""

    def upsert(self, obj: NotificationRequest, *, first_seen_by_watch: bool) -> None:
        """
        Take an object that is new or has changed.

        A finished object from a list may come in outline: identity, version, phase and retention,
        without `raw`. `first_seen_by_watch` is True only in the call that introduces an object, and only
        if an ADDED event of a watch did so, not a list.
        """

    def has(self, uid: str, resource_version: str) -> bool:
        """Return whether this version of an object is known already; it is then not handed over."""

    def delete(
        self,
        uid: str,
        namespace: str,
        name: str,
        last: Callable[[], NotificationRequest | Unreadable] | None = None,
    ) -> None:
        """
        Forget an object; it may be one that was never handed over because it did not parse.

        `last` parses its last state, if an event has brought one.
        """

    def release(self, uid: str) -> bool:
        """Release an object that another replica follows; return whether the sink keeps nothing of it."""


class _Version(NamedTuple):
    uid: str
    resource_version: str
    shard: int


def _remember(entry: str, among: OrderedDict[str, None], most: int) -> None:
    """Add an entry; if there are more than `most`, forget the oldest."""
    among[entry] = None
    if len(among) > most:
        among.popitem(last=False)


@dataclass(slots=True, eq=False)
class Shared:
    """State that the mirrors of several namespaces share."""

    sink: Sink
    shard_of: Callable[[str], int]
    tombstones: OrderedDict[str, None] = field(default_factory=OrderedDict)
    reported: OrderedDict[str, None] = field(default_factory=OrderedDict)


class Mirror:
    """The objects of one namespace, or of all of them, as the API server has shown them."""

    def __init__(self, shared: Shared) -> None:
        """Start empty."""
        self._shared = shared
        self._sink = shared.sink
        #: By namespace, then by name: after a delete another object may have the same name. A combined key
        #: would be one more Python object for each of a hundred thousand.
        self._known: dict[str, dict[str, _Version]] = {}

    def version_of(self, meta: Meta) -> str | None:
        """Return the known resourceVersion of an object; None if the object is not known."""
        known = self._find(meta.namespace, meta.name)
        return known.resource_version if known is not None and known.uid == meta.uid else None

    def is_missing(self, meta: Meta) -> bool:
        """Return whether an existing object was never shown in this version or a later one."""
        known = self._find(meta.namespace, meta.name)
        if known is not None and version_key(known.resource_version) >= version_key(
            meta.resource_version
        ):
            return False
        return meta.uid not in self._shared.tombstones and not self.sink_has(meta)

    def sink_has(self, meta: Meta) -> bool:
        """Return whether the sink has this very version; it then need not be parsed or handed over."""
        if not self._sink.has(meta.uid, meta.resource_version):
            return False
        self._note(meta)
        return True

    def upsert(self, found: NotificationRequest | Unreadable, *, added: bool) -> None:
        """Take an object from a list or an event; `added` if an ADDED event of a watch brought it."""
        if isinstance(found, Unreadable):
            self._report(found)
            self._note(found)
            return
        first = added and self._find(found.namespace, found.name) is None
        if self._note(found):
            self._sink.upsert(found, first_seen_by_watch=first)

    def delete(
        self, meta: Meta, last: Callable[[], NotificationRequest | Unreadable] | None = None
    ) -> None:
        """Take a DELETED event; `last` parses the object in it."""
        _remember(meta.uid, self._shared.tombstones, _TOMBSTONES)
        known = self._find(meta.namespace, meta.name)
        if known is not None and known.uid == meta.uid:
            self._forget(meta.namespace, meta.name, last)

    def keep_only(self, present: AbstractSet[str], shards: Container[int]) -> None:
        """Take the uids in a complete list of some shards; objects of these shards not in it are gone."""
        missing = [
            (namespace, name) for namespace, name, v in self._of(shards) if v.uid not in present
        ]
        for namespace, name in missing:
            self._forget(namespace, name)

    def release(self, shards: Container[int]) -> None:
        """Release the objects of some shards; they exist, and other replicas follow them."""
        for namespace, name, known in list(self._of(shards)):
            if self._sink.release(known.uid):
                self._drop(namespace, name)
            else:
                self._known[namespace][name] = _Version(known.uid, "", known.shard)

    def _of(self, shards: Container[int]) -> Iterator[tuple[str, str, _Version]]:
        """Yield namespace, name and version of each known object of some shards."""
        for namespace, there in self._known.items():
            for name, known in there.items():
                if known.shard in shards:
                    yield namespace, name, known

    def _find(self, namespace: str, name: str) -> _Version | None:
        there = self._known.get(namespace)
        return None if there is None else there.get(name)

    def _note(self, meta: Meta | NotificationRequest) -> bool:
        """Note that an object exists in a version; return False if that is not news."""
        known = self._find(meta.namespace, meta.name)
        if meta.uid in self._shared.tombstones:
            return False
        if known is not None:
            if version_key(meta.resource_version) <= version_key(known.resource_version):
                return False
            if known.uid != meta.uid:
                self._forget(meta.namespace, meta.name)
        # Each version brings its own copy of the uid; the first copy is kept.
        uid = known.uid if known is not None and known.uid == meta.uid else meta.uid
        self._known.setdefault(meta.namespace, {})[meta.name] = _Version(
            uid, meta.resource_version, self._shared.shard_of(uid)
        )
        return True

    def _forget(
        self,
        namespace: str,
        name: str,
        last: Callable[[], NotificationRequest | Unreadable] | None = None,
    ) -> None:
        self._sink.delete(self._drop(namespace, name).uid, namespace, name, last)

    def _drop(self, namespace: str, name: str) -> _Version:
        there = self._known[namespace]
        known = there.pop(name)
        if not there:
            del self._known[namespace]
        return known

    def _report(self, found: Unreadable) -> None:
        if found.key not in self._shared.reported:
            _remember(found.key, self._shared.reported, _REPORTED)
            logger.warning("%s cannot be parsed (%s) and is skipped", found.key, found.problem)
