"""Names: what shares one, and when an occurrence begins."""

from __future__ import annotations

from typing import Any

from notifier.gateway.draft import Draft
from notifier.gateway.identity import Identity, identity_of
from notifier.gateway.kinds import KINDS

BEGAN = 1_000_000.0
WINDOW = 1800.0


def identity(draft: Draft, **more: Any) -> Identity:
    """The identity of a draft, at the moment that it began."""
    arguments: dict[str, Any] = {"given": "", "body": b"{}", "now": BEGAN, "window": WINDOW}
    return identity_of("src", KINDS["alertmanager"], draft, **{**arguments, **more})


REPEATING = Draft(identity=("x",), view={}, since=int(BEGAN * 1000), repeats=True)


def test_a_name_is_one_that_an_object_can_have() -> None:
    """Prefix, 32 hex digits of the hash, and the slot; the whole hash is kept beside it."""
    found = identity(REPEATING)
    assert found.name == f"am-{found.digest[:32]}-0"
    assert len(found.digest) == 64
    assert found.before == ""


def test_occurrences_follow_the_window() -> None:
    """Within the window it is the same occurrence, later the next one, which looks at the one before."""
    names = [identity(REPEATING, now=BEGAN + s).name[-2:] for s in (-5, 0, 1799.9, 1800, 3600)]
    assert names == ["-0", "-0", "-0", "-1", "-2"]
    later = identity(REPEATING, now=BEGAN + 1800)
    assert (later.before, later.window) == (identity(REPEATING).name, WINDOW)


def test_what_does_not_repeat_is_one_event_for_ever() -> None:
    """Without repeats, or with a window of 0, time has no part in the name."""
    once = Draft(identity=("x",), view={}, since=int(BEGAN * 1000))
    for draft, window in ((once, WINDOW), (REPEATING, 0.0)):
        found = {identity(draft, now=BEGAN + s, window=window).name for s in (0, 1e6)}
        assert len(found) == 1
        assert (identity(draft, window=window).before, identity(draft, window=window).window) == (
            "",
            0,
        )


def test_sources_share_no_event() -> None:
    """The source's name is part of the identity."""
    other = identity_of(
        "other", KINDS["alertmanager"], REPEATING, given="", body=b"", now=BEGAN, window=WINDOW
    )
    assert other.digest != identity(REPEATING).digest


def test_the_mapping_s_id_wins() -> None:
    """An id replaces what the source found, and has no occurrences."""
    assert identity(REPEATING, given="7") == identity(
        Draft(identity=None, view={}), given="7", now=BEGAN + 1e6
    )
    assert identity(REPEATING, given="7").digest != identity(REPEATING, given="8").digest


def test_a_window_that_somebody_asks_for_makes_repeats() -> None:
    """A kind whose events never repeat has occurrences where its source names a window."""
    event = Draft(identity=("x",), view={})
    for given in ("", "7"):
        names = {
            identity_of(
                "src", KINDS["cloudevents"], event, given=given, body=b"", now=now, window=60
            ).name
            for now in (0, 59, 60)
        }
        assert len(names) == 2


def test_equal_bytes_are_one_event_for_ten_minutes() -> None:
    """What has no identity is told by its bytes, and by the occurrence before."""
    unknown = Draft(identity=None, view={})
    first = identity(unknown, window=0.0)
    assert identity(unknown, window=0.0, now=BEGAN + 1).digest == first.digest
    assert identity(unknown, window=0.0, body=b"[]").digest != first.digest
    later = identity(unknown, window=0.0, now=BEGAN + 600)
    assert later.before == first.name
    assert later.window == 600


def test_without_a_proven_time_nothing_is_new_again() -> None:
    """A request that was overheard finds its own object at any time, whatever the window."""
    for draft in (REPEATING, Draft(identity=None, view={})):
        found = {
            identity(draft, now=BEGAN + s, timeless=True, window=w)
            for s in (0, 0.6 * 3600, 720 * 3600)
            for w in (0.0, WINDOW)
        }
        assert len(found) == 1
        assert not found.pop().before
