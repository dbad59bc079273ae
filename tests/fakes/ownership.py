"""Who owns a shard, for tests in which that is not the matter: this process, for ever."""

from __future__ import annotations

from collections.abc import Collection

from syncer.model.attempt import Epoch


class Held:
    """A lease term that never ends."""

    def __init__(self, epoch: Epoch = Epoch("0.9")) -> None:  # noqa: B008 - a text
        """Hold it under an epoch."""
        self.epoch = epoch
        self.since = 0

    def valid(self, now: float) -> bool:
        """Yes."""
        return True

    def may_send(self, now: float, send_timeout: float) -> bool:
        """Yes."""
        return True


class Ours(Held):
    """Owns everything but what is given away; it is the lease term, too."""

    def __init__(self, epoch: Epoch = Epoch("0.9"), *, others: Collection[str] = ()) -> None:  # noqa: B008 - a text
        """Own everything but some uids."""
        super().__init__(epoch)
        self.others = set(others)

    def term_of(self, uid: str) -> Held | None:
        """Return itself for what is ours."""
        return None if uid in self.others else self

    def accepts(self, uid: str) -> bool:
        """Whether it is ours."""
        return uid not in self.others
