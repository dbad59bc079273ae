"""How many writers a slow namespace may keep, and who is slow."""

from __future__ import annotations

from syncer.sync.status_writer import Shares


class Bench:
    """Eight writers, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.shares = Shares(8, lambda: self.now)

    def begun(self, namespace: str) -> int:
        """Begin as many writes as may be, of twenty; returns how many."""
        n = 0
        while n < 20 and self.shares.may(namespace):
            self.shares.begin(namespace)
            n += 1
        return n

    def slow(self, *namespaces: str) -> None:
        """Have each of them write once, slowly."""
        for namespace in namespaces:
            self.shares.begin(namespace)
            self.shares.end(namespace, 1.0)


def test_a_slow_namespace_is_so_for_a_while() -> None:
    """A minute after its last slow write it is like any other, and forgotten with the next slow one."""
    here = Bench()
    here.slow("a")
    here.now += 40.0
    here.slow("a", "b")
    here.now += 40.0
    assert here.begun("a") == 4
    here.now += 21.0
    assert here.shares.may("a")
    here.slow("c")
    assert list(here.shares._slow) == ["b", "c"]
    here.slow("c")
    assert list(here.shares._slow) == ["c"]
