"""The message of the e-mail channel: how much of it is shown, to the byte."""

from __future__ import annotations

from email.header import decode_header, make_header

import pytest

from notifier.channels.mail_message import (
    LINKS,
    MESSAGE_BYTES,
    mail,
    mail_facts,
    subject_header,
)
from notifier.content.trim import TRUNCATED
from notifier.contract import Message
from tests.channels.messages import mail_entry, message, untrimmed

NOW = 1_700_000_000
OPS = mail_entry("alerts@sender.example", "ops@receiver.example", "Alerts")
MARK = f"\r\n{TRUNCATED}".encode()


def _head(made: Message) -> bytes:
    """The headers, with the empty line behind them."""
    head, empty, _ = mail(made, OPS, NOW).partition(b"\r\n\r\n")
    return head + empty


def test_message_that_just_fits_is_whole() -> None:
    """A message of exactly as many bytes as there may be is not cut; with one byte less it is."""
    made = message(body="short line\n" * 200)
    whole = mail(made, OPS, NOW)
    assert mail(made, OPS, NOW, limit=len(whole)) == whole
    cut = mail(made, OPS, NOW, limit=len(whole) - 1)
    assert MARK in cut
    assert len(cut) < len(whole)


@pytest.mark.parametrize("limit", range(2_000, 2_080))
def test_cut_message_fills_its_limit(limit: int) -> None:
    """What is cut is no longer than it may be, and no more than a few bytes shorter."""
    content = mail(message(body="x" * 5_000), OPS, NOW, limit=limit)
    assert limit - 3 <= len(content) <= limit
    assert MARK in content


def test_least_space_beside_the_headers() -> None:
    """A kilobyte beside the headers is served; with less there is no message."""
    made = message(body="x" * 5_000)
    least = len(_head(made)) + 1_024 + len(b"\r\n")
    assert MARK in mail(made, OPS, NOW, limit=least)
    with pytest.raises(ValueError, match="cannot be cut to size"):
        mail(made, OPS, NOW, limit=least - 1)


def test_facts_get_half_of_what_there_is() -> None:
    """Facts that are long leave the other half to the body."""
    context = {"analysis": {"rootCause": "é" * 900}}
    made = message(body="x" * 5_000, context=context)
    space = 2_000
    content = mail(made, OPS, NOW, limit=len(_head(made)) + space + len(b"\r\n"))
    body, mark, below = content.removeprefix(_head(made)).partition(MARK)
    assert mark
    assert below.endswith(MARK + b"\r\n")
    facts = len(below.removesuffix(b"\r\n"))
    assert space // 2 - 60 < facts <= space // 2
    assert space - 3 <= len(body) + len(mark) + facts <= space


def test_facts_that_are_short_leave_the_rest_to_the_body() -> None:
    """A body may have all that headers and facts leave."""
    made = untrimmed(body="x" * 600_000)
    content = mail(made, OPS, NOW)
    assert MESSAGE_BYTES - 3 <= len(content) <= MESSAGE_BYTES
    assert content.endswith(mail_facts(made).encode() + b"\r\n")


def test_fact_of_a_thousand_characters_is_whole() -> None:
    """A fact is cut beyond a thousand characters, with a mark."""
    for length, wanted in ((1_000, "é" * 1_000), (1_001, f"{'é' * 1_000} {TRUNCATED}")):
        facts = mail_facts(message(context={"analysis": {"rootCause": "é" * length}}))
        assert f"Root cause: {wanted}" in facts.split("\r\n")


def test_subject_of_five_hundred_characters_is_whole() -> None:
    """A subject is cut beyond five hundred characters; a short one of plain text is as it is."""
    assert "…" not in _decoded(subject_header("é" * 500))
    assert _decoded(subject_header("é" * 501)) == "é" * 499 + "…"
    assert subject_header(" a subject ") == "a subject"
    assert _decoded(subject_header("\n")) == "(no subject)"


def _decoded(value: str) -> str:
    return str(make_header(decode_header(value)))


@pytest.mark.parametrize("more", [0, 1])
def test_links_that_are_left_out_are_counted(more: int) -> None:
    """A mail says how many it does not show, and nothing where it shows all."""
    link = {"service": "s", "url": "https://x.example/", "label": "l"}
    facts = mail_facts(message(actionLinks=[link] * (LINKS + more)))
    assert facts.count("https://x.example/") == LINKS
    assert facts.endswith(f"({more} further links are left out)") is bool(more)
