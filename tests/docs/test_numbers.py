"""
The bounds and times that the pages name are those of the code.

Other tests judge what a bound does, by its name: they would pass with any number. Here the number itself
is judged, since somebody has read it: each sentence is made of the constants and looked up on its page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from notifier.channels.http import _WIRE_BYTES, IDLE_SECONDS
from notifier.channels.http_answers import BODY_BYTES, RETRY_AFTER_MAX
from notifier.channels.mail_message import FACT_CHARS, LINKS
from notifier.channels.mail_message import MESSAGE_BYTES as MAIL_BYTES
from notifier.channels.slack import HEADER_CHARS, SECTION_CHARS
from notifier.channels.transport_errors import EXCERPT_BYTES
from notifier.content.trim import BODY_CHARS, OBJECT_CHARS, REST_CHARS, TEXT_CHARS
from notifier.dispatch.breaker import FAILURES, OPEN_FIRST, OPEN_MOST, WINDOW
from notifier.dispatch.receiver_queue import QUIET_MOST
from notifier.gateway import access, alertgroups, draft, manifest, rating, reviews, silence
from notifier.gateway import server as gateway
from notifier.gateway.auth import TOLERANCE
from notifier.gateway.identity import BYTES_WINDOW
from notifier.gateway.kinds import KINDS
from notifier.reconciler import operator_holds
from notifier.routing.document import MAX_NAME
from notifier.routing.mail import MAX_RECIPIENTS
from syncer.cli import known, receivers
from syncer.cli.tail import _PAST, _PERIOD, _RESTS, MOST
from syncer.cli.web import index, search
from syncer.cli.web import pages as told
from syncer.cli.web import server as explorer
from syncer.model.hold import LONGEST
from syncer.rules.backoff import RETRY_AFTER_MOST
from syncer.rules.journal import BORN_MARGIN
from syncer.runtime import connections

ROOT: Final = Path(__file__).resolve().parents[2]


def said(number: float) -> str:
    """A number as the pages write it."""
    return f"{number:,g}" if number == int(number) else f"{number:g}"


def kibi(number: int) -> str:
    """A number in units of 1024, which it must be a multiple of."""
    assert number % 1024 == 0
    return said(number // 1024)


def patience(*names: str) -> str:
    """Seconds for which a request of these kinds of sources may wait: of each of them as long."""
    (seconds,) = {KINDS[name].patience for name in names}
    return said(seconds)


def mebi(kind: str) -> str:
    """How large a body of this kind of sources may be, in MiB."""
    return said(KINDS[kind].max_body / 2**20)


_WORDS: Final = {
    0.5: "half a",
    1: "a",
    2: "two",
    3: "three",
    4: "four",
    5: "five",
    8: "eight",
    10: "ten",
}


def word(number: float) -> str:
    """A number that the pages do not write in digits."""
    return _WORDS.get(number, said(number))


#: Sentences of a page, made of the constants.
NUMBERS: Final[dict[str, tuple[str, ...]]] = {
    "channels.md": (
        f"A mail has at most {kibi(MAIL_BYTES)} KiB, or what the server",
        f"Facts and links are cut at {said(FACT_CHARS)} characters, and at most {LINKS} links are shown",
    ),
    "compatibility.md": (
        f"at most {kibi(EXCERPT_BYTES)} KiB of the answer, without secrets",
        f"Bodies of answers are read without a limit | up to {kibi(BODY_BYTES)} KiB |",
        f"for {word(IDLE_SECONDS)} second, and only while they are silent",
        f"for at most {said(QUIET_MOST)} s | a burst uses up no attempts",
        f"{word(FAILURES)} *different* notifications failed within {said(WINDOW)} s and nothing",
        f"It is open for {said(OPEN_FIRST)} s at first, instead of 30 s",
        f"each failed probe doubles the time, up to {said(OPEN_MOST)} s",
        f"At most {kibi(BODY_CHARS)} Ki characters of the body, {kibi(TEXT_CHARS)} Ki of any other text",
        f"and {kibi(REST_CHARS)} Ki of all texts except subject and body are sent",
        f"the file channel writes at most {kibi(OBJECT_CHARS)} Ki of an object",
        f"header and section are cut at {said(HEADER_CHARS)} and {said(SECTION_CHARS)} characters",
    ),
    "security.md": (
        f"at most {kibi(BODY_BYTES)} KiB of an answer's body are read",
        f"answers without an end is cut off after {kibi(_WIRE_BYTES)} KiB",
    ),
    "routing.md": (
        f"At most {said(MAX_NAME)} characters. If two receivers have one name",
        f"Addresses, separated by commas, at most {said(MAX_RECIPIENTS)}.",
    ),
    "gateway.md": (
        f"the body is larger than {mebi('json')} MiB ({mebi('grafana')} MiB for alert groups)",
        f"more than {said(draft._PARTS)} objects and lists, {said(draft._MEMBERS)} members",
        f"members, {said(draft._COMMAS)} commas, or {said(alertgroups._MOST)} alerts",
        f"An alert group below {mebi('alertmanager')} MiB is never refused",
        f"{patience('alertmanager', 'argocd')} s for Alertmanager and Argo CD",
        f"{patience('grafana')} s for Grafana, {patience('flux')} s for Flux",
        f"{patience('github')} s for GitHub, {patience('cloudevents', 'json')} s for the rest",
        f"else equal bytes within {word(BYTES_WINDOW / 60)} minutes",
        f"`dedupWindow` is {said(KINDS['grafana'].window / 60)} minutes for Alertmanager and Grafana",
        f"A changed file takes effect within {word(access._FRESH)} seconds",
        f"off by more than {word(TOLERANCE / 60)} minutes is refused",
        f"caches an approval for {word(reviews.ALLOWED / 60)} minute",
        f"a refusal for {word(reviews.REFUSED)} seconds",
        f"Bounds: {draft.ALERTS} alerts are listed and the rest counted",
        f"a body has at most {kibi(manifest._BODY)} KiB",
        f"{manifest._EXTENSIONS} extensions of {manifest._VALUE} characters are kept",
        f"what arrived within {word(rating._SHARE * 5)} fifths of the `patience`",
        f"(at least {said(silence._LEAST)} s, at most {word(silence._MOST / 60)} minute)",
        f"one every {word(gateway._LOG_EVERY)} seconds, with the number left out",
    ),
    "explorer.md": (
        f"up to {said(index.MOST)} rows, above which the oldest are not shown",
        f"asks a silent server again after {word(known._REST)} seconds",
        (
            f"Bounds: {connections._CONNECTIONS} connections, {explorer.MOST} open pages that update"
            " themselves"
        ),
        f"{word(explorer._TOGETHER)} pages in preparation, {said(explorer._SECONDS)} seconds for each",
        f"{said(explorer._ANSWER)} seconds for a request to a server",
        f"{search.TEXT} characters of a filter, {receivers.MOST} channels, and {told.MOST} moments",
    ),
    "cli.md": (
        f"or a time, at most {LONGEST // 86_400_000} days away",
        f"the next one begins after {word(_PERIOD)} second, or after {word(_RESTS)} times as long",
        f"the last {_PAST} records of each log, and the newest {said(MOST)} attempts",
        f"The replicas watch the holds and obey one within {word(operator_holds.PERIOD)} seconds",
    ),
    "guarantees.md": (
        f"created up to {said(BORN_MARGIN / 1000)} s after the shard's Lease first announced the outage",
        f"its change and its end within {said(operator_holds.PERIOD)} s",
    ),
}  # fmt: skip


@pytest.mark.parametrize("page", NUMBERS)
def test_a_page_names_the_bounds_of_the_code(page: str) -> None:
    """Who changes a number changes the page, and who changes the page the number."""
    text = " ".join((ROOT / "docs" / page).read_text().split())
    assert [sentence for sentence in NUMBERS[page] if sentence not in text] == []


def test_a_wait_that_a_receiver_asks_for_has_one_bound() -> None:
    """What is read of an answer is what a retry waits for at most: the page names one hour."""
    assert RETRY_AFTER_MAX == RETRY_AFTER_MOST == 3600
    assert (
        "it lengthens the wait, by at most an hour" in (ROOT / "docs/compatibility.md").read_text()
    )
