"""Every place where a text of an author or a receiver reaches a terminal shows it without harm."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import unicodedata
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any, Final, Literal

import pytest
import yaml

from notifier.channels.base import classify_http
from notifier.channels.console import ConsoleChannel
from notifier.channels.file import file_content
from notifier.channels.log import LogChannel
from notifier.channels.mail_message import Envelope, mail
from notifier.channels.transport_errors import excerpt
from notifier.content.sanitise import sanitise
from notifier.routing.tree import fallback_message, matched_message
from syncer.cli import main as cli
from syncer.cli import output
from syncer.rules.plan import hold_of
from syncer.rules.text import escaped, escaped_json, neutral, plain
from syncer.runtime.logging import configure
from tests.channels.messages import message

#: Everything that commands a terminal, ends a line, or turns the direction of writing.
UNSAFE: Final = frozenset(
    c
    for c in map(chr, [*range(0x20000), *range(0xE0000, 0xE1000)])  # the other planes have none
    if unicodedata.category(c) in {"Cc", "Zl", "Zp"}
    or unicodedata.bidirectional(c)
    in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    or c in "\u200e\u200f\u061c"
)
FORGED: Final = '{"event":"attempt recorded","state":"success","logger":"ledger.delivery"}'
HOSTILE: Final = (
    f"a\x1b[2J\x1b]0;title\x07b\u202ekcab\u2066c\r{FORGED}\n{FORGED}\n"
    f"2026-01-01T00:00:00Z [info] forged\x85{FORGED}\u2028{''.join(sorted(UNSAFE))}end"
)


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def _logged(form: Literal["json", "console"], say: Callable[[logging.Logger], None]) -> str:
    stream = io.StringIO()
    configure(level="INFO", form=form, redact=sanitise, stream=stream)
    say(logging.getLogger("ledger.delivery"))
    return stream.getvalue()


def _fail() -> None:
    raise ValueError(HOSTILE)


def _raise(logger: logging.Logger) -> None:
    try:
        _fail()
    except ValueError:
        logger.exception("a channel raised")


def _sent(form: str) -> str:
    stream = io.StringIO()
    channel = LogChannel(form, clock=lambda: 0, stream=stream)
    made = message(
        subject=HOSTILE, body=HOSTILE, extensions={HOSTILE: HOSTILE},
        metadata={"annotations": {"a": HOSTILE}},
    )  # fmt: skip
    assert asyncio.run(channel.send(made)).state.word == "success"
    return stream.getvalue()


def _console(form: Literal["json", "console"]) -> str:
    return _logged(
        form, lambda _: asyncio.run(_send_console()),
    )  # fmt: skip


async def _send_console() -> None:
    await ConsoleChannel().send(message(subject=HOSTILE, body=HOSTILE))


def _printed(write: Callable[[], None], capture: pytest.CaptureFixture[str]) -> str:
    write()
    return capture.readouterr().out


#: By place: what it shows of the hostile text, and how many lines that may be.
PLACES: Final[dict[str, tuple[Callable[[], str], int]]] = {
    "log channel, json": (lambda: _sent("json"), 1),
    "log channel, text": (lambda: _sent("text"), 1),
    "console channel, json log": (lambda: _console("json"), 1),
    "console channel, console log": (lambda: _console("console"), 1),
    "log line, json": (
        lambda: _logged("json", lambda log: log.info(HOSTILE, extra={"error": HOSTILE, "x": HOSTILE})),
        1,
    ),
    "log line, console": (
        lambda: _logged(
            "console",
            lambda log: log.info(HOSTILE, extra={"error": HOSTILE, "x": HOSTILE, "y": [HOSTILE]}),
        ),
        1,
    ),
    "condition of a fallback": (
        lambda: fallback_message({"a": HOSTILE, HOSTILE: "b"}, sanitise) + "\n", 1,
    ),
    "condition of a match": (
        lambda: matched_message(["r"], ["slack:r"], {"a": HOSTILE}, sanitise) + "\n", 1,
    ),
    "why an object is held": (lambda: hold_of(HOSTILE, paused=False) + "\n", 1),
    "table of the command line": (lambda: plain(HOSTILE) + "\n", 1),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_text_commands_a_terminal_or_forges_a_line(place: str) -> None:
    """Nothing unsafe is left, and what is shown is as many lines as it is supposed to be."""
    make, lines = PLACES[place]
    shown = make()
    assert shown.count("\n") == lines
    assert not UNSAFE.intersection(shown) - {"\n", "\t"}
    assert "end" in shown or "…" in shown or "held" in shown


def test_answer_in_a_status() -> None:
    """Of what a receiver answered, lines and tabs stay, so that it can be read; nothing else does."""
    outcome = classify_http("slack", 400, excerpt(HOSTILE))
    assert not UNSAFE.intersection(outcome.error) - {"\n", "\t"}
    assert "\n2026-01-01T00:00:00Z [info] forged" in outcome.error


def test_traceback_in_the_console_form() -> None:
    """A traceback stays readable, and no line of it begins as a log line does."""
    shown = _logged("console", _raise)
    first, *rest = shown.rstrip("\n").split("\n")
    assert "a channel raised" in first
    assert len(rest) > 3
    assert not [line for line in rest if line and not line.startswith("    ")]
    assert not UNSAFE.intersection(shown) - {"\n", "\t"}


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_file_of_a_notification(form: str) -> None:
    """A file may be shown on a terminal as it is; it reads back as it was."""
    document = {"spec": {HOSTILE: HOSTILE, "plain": "Größe 部署"}}
    content = file_content(document, form).decode()
    assert not UNSAFE.intersection(content) - {"\n", "\t"}
    assert (json.loads if form == "json" else yaml.safe_load)(content) == document
    assert "Größe 部署" in file_content({"spec": {"plain": "Größe 部署"}}, form).decode()


def test_one_place_writes_json_of_the_command_line() -> None:
    """No command writes JSON to standard output past the place that escapes it."""
    sources = [
        p for p in Path(cli.__file__).parent.rglob("*.py") if "stdout.write(json" in p.read_text()
    ]
    assert sources == [], "output.write_json writes it"


def test_body_of_mail() -> None:
    """A body in a terminal's mail reader commands nothing."""
    text = mail(message(body="a\x9b2Jb\x85c\x1bd"), Envelope("a@b.example", "c@d.example"), 0)
    body = message_from_bytes(text).get_payload(decode=True)
    assert isinstance(body, bytes)
    assert not {c for c in UNSAFE if c < "\xa0"}.intersection(body.decode()) - {"\n", "\r"}


def test_json_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A JSON document reads back as it was."""
    shown = _printed(lambda: output.write_json({HOSTILE: [HOSTILE]}), capsys)
    assert not UNSAFE.intersection(shown) - {"\n"}
    assert json.loads(shown) == {HOSTILE: [HOSTILE]}


def test_log_lines_in_json_lose_nothing() -> None:
    """Escapes of JSON stand for the text as it was."""
    line: Any = json.loads(_logged("json", lambda log: log.info("x", extra={"detail2": HOSTILE})))
    assert line["detail2"] == HOSTILE


def test_ordinary_texts_stay() -> None:
    """Letters of any script, emoji and tabs are no harm."""
    text = "Развёртывание 部署 نص 👨\u200d👩\u200d👧 é\t„x“"
    assert escaped(text) == escaped_json(text) == neutral(text) == text
    assert escaped("a\nb\x1b") == "a\\nb\\x1b"
    assert neutral("a\nb\x1b") == "a\nb\ufffd"
