"""
A hold that an operator has placed: what it holds back, until when, and who placed it.

A hold matches what nobody can change on an existing notification: receivers, which routing chose and
the plan froze, the namespace, and the type and severity of its spec, which the API server keeps
immutable. Labels and annotations are left out, because their author could escape a hold by changing
them.

A hold changes only once: when it is released. So two copies of one differ at most in that, and the
released one wins when they are joined.
"""

from __future__ import annotations

from syncer.model.immutable import immutable


@immutable
class Hold:
    """
    One hold; times are Unix milliseconds of the ledger.

    Patterns have `*` and `?`. Of each kind that is given one must match; a kind that is not given matches
    everything.

    Attributes:
        id: Eight hex digits, chosen when it is placed.
        until: When it ends by itself.
        receivers: Patterns of full channel names (`slack:ops`) or, without a colon, of receivers (`ops`).
        types: Patterns of `spec.type`, in any case.
        severities: Patterns of `spec.severity`, in any case.
        released: When it was let go, 0 if it was not.
        released_by: Who has let it go.
    """

    id: str
    at: int
    until: int
    by: str
    reason: str
    receivers: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    released: int = 0
    released_by: str = ""

    @property
    def over_at(self) -> int:
        """When it ends."""
        return min(self.until, self.released) if self.released else self.until

    def in_force(self, now: int) -> bool:
        """Whether it holds anything at `now`."""
        return not self.released and now < self.until
