"""Log lines: members in their order, what is redacted, and nothing that a text of others could forge."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from notifier.content.sanitise import sanitise
from syncer.runtime.logging import REDACTED, configure
from syncer.runtime.places import own, spare

LOG = logging.getLogger("ledger.test")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was afterwards."""
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def said(form: str, message: str, **options: Any) -> str:
    """What one error looks like, its time replaced."""
    out = io.StringIO()
    configure(level="INFO", form=form, redact=lambda t: t.replace("hunter2", "***"), stream=out)
    LOG.error(message, **options)
    return TIME.sub("TIME", out.getvalue())


@pytest.mark.usefixtures("root")
def test_a_line_is_one_object_in_a_fixed_order() -> None:
    """What it says comes first, then members as they were given, the time, and no empty ones."""
    line = said("json", "it failed", extra={"uid": "u", "none": None, "n": 3, "more": {"a": 1.5}})
    assert line == (
        '{"event":"it failed","level":"error","logger":"ledger.test","uid":"u","n":3,'
        '"more":{"a":1.5},"timestamp":"TIME"}\n'
    )


@pytest.mark.usefixtures("root")
def test_secrets_are_taken_out_unless_the_caller_has() -> None:
    """Members that quote others are redacted, also a traceback; a caller may say that they are."""
    error = ValueError("hunter2")
    line = json.loads(said("json", "hunter2", exc_info=error, extra={"reason": "hunter2"}))
    assert (line["event"], line["reason"]) == ("***", "***")
    assert line["exception"] == "ValueError: ***"
    done = json.loads(said("json", "hunter2", extra={REDACTED: True}))
    assert done["event"] == "hunter2"
    assert REDACTED not in done


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> None:
    """No place of our servers is known."""
    monkeypatch.setattr("syncer.runtime.places._places", {})


@pytest.mark.usefixtures("root", "places")
def test_places_of_our_servers_are_shown() -> None:
    """Of a server of ours host and port are shown, of any other neither; a secret beside them is not."""
    for place in ("10.96.0.1:443", "service m of the Sentinels 10.0.0.1:26379, 10.0.0.2:26379"):
        text = f"cannot connect to {own(place)} (ECONNREFUSED), not 110.96.0.1:4430 or 10.0.0.9:443"
        wanted = text.replace("110.96.0.1:", "[REDACTED]:").replace("10.0.0.9", "[REDACTED]")
        out = io.StringIO()
        configure(level="INFO", form="json", redact=sanitise, stream=out)
        LOG.error(text, extra={"error": text})
        line = json.loads(out.getvalue())
        assert (line["event"], line["error"]) == (wanted, wanted)
    text = "password: 10.96.0.1:443, at 10.96.0.1:443"
    assert spare(text, sanitise) == "password: [REDACTED], at 10.96.0.1:443"


@pytest.mark.usefixtures("places")
def test_nobody_forges_a_place() -> None:
    """A text that has what stands for one meanwhile is redacted as any other."""
    for n in range(100):
        own(f"10.0.0.{n}:1")
    shown = [n for n in range(100) if spare(f"10.0.0.{n}:1", sanitise) == f"10.0.0.{n}:1"]
    assert shown == list(range(36, 100)), "64 are remembered"
    assert spare("\x007\x00 10.0.0.99:1", sanitise) == "\x007\x00 [REDACTED]:1"


@pytest.mark.usefixtures("root")
def test_what_json_does_not_know_is_written_all_the_same() -> None:
    """A lone surrogate, and an object by its repr; the library's own way out leaves letters as they are."""
    line = json.loads(said("json", "odd", extra={"s": "\ud800", "o": {1}}))
    assert (line["s"], line["o"]) == ("\ud800", "{1}")
    assert '"s":"é' in said("json", "odd", extra={"s": "é", "o": {1}}).replace(": ", ":")
    assert "é" in said("json", "odd", extra={"s": "é\ud800"})


@pytest.mark.usefixtures("root")
def test_a_terminal_gets_columns_and_nothing_that_commands_it() -> None:
    """Members stand by name, texts with blanks are quoted, what breaks lines is an escape."""
    line = said("console", "a\x1b[0m", extra={"z": "a\nb", "b": "two words", "a": "one", "n": 1})
    event = "a\\x1b[0m".ljust(30)
    assert line == (f"TIME [error    ] {event} [ledger.test] a=one b='two words' n=1 z=a\\nb\n")


@pytest.mark.usefixtures("root")
def test_a_traceback_on_a_terminal_is_indented() -> None:
    """No line of it looks like one of ours."""
    error = ValueError("x\nTIME [error    ] forged")
    first, *rest = said("console", "boom", exc_info=error).splitlines()
    assert first.startswith("TIME [error    ] boom")
    assert "exception" not in first, "it has lines of its own"
    assert rest
    assert all(part.startswith("    ") for part in rest)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("level", "own", "vendors"),
    [("DEBUG", 10, 20), ("INFO", 20, 20), ("WARN", 30, 30), ("ERROR", 40, 40)],
)
def test_levels(level: str, own: int, vendors: int) -> None:
    """As asked for; chatter of vendors never below INFO, and the archive's lines always."""
    for form in ("json", "console"):
        configure(level=level, form=form, stream=io.StringIO())
    logger = logging.getLogger()
    assert (logger.level, len(logger.handlers)) == (own, 1)
    for name in ("kubernetes_asyncio.client.rest", "aiohttp.access", "asyncio"):
        assert logging.getLogger(name).level == vendors
    assert logging.getLogger("ledger.archive").isEnabledFor(logging.INFO)


@pytest.mark.usefixtures("root")
def test_lines_go_to_standard_error_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing else is said; nothing is redacted where nobody says what."""
    configure(level="INFO", form="json")
    LOG.info("hunter2")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert json.loads(printed.err)["event"] == "hunter2"


@pytest.mark.usefixtures("places")
def test_as_many_places_are_remembered_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten first; one that is named again is no other one, and nothing is none."""
    monkeypatch.setattr("syncer.runtime.places._MOST", 2)
    for place in ("a:1", "", "a:1", "b:1", "a:1", "c:1"):
        assert own(place) == place
    assert spare("a:1 b:1 c:1", lambda text: text.replace(":1", "*")) == "a* b:1 c:1"
