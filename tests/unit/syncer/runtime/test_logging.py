"""Log lines: members in their order, what is redacted, and nothing that a text of others could forge."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from syncer.runtime.logging import REDACTED, configure

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


@pytest.mark.usefixtures("root")
def test_what_json_does_not_know_is_written_all_the_same() -> None:
    """A lone surrogate, and an object by its repr."""
    line = json.loads(said("json", "odd", extra={"s": "\ud800", "o": {1}}))
    assert (line["s"], line["o"]) == ("\ud800", "{1}")


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
    assert rest
    assert all(part.startswith("    ") for part in rest)


@pytest.mark.usefixtures("root")
def test_what_json_does_not_know_is_written_in_any_script() -> None:
    """The library's own way out leaves letters as they are."""
    assert '"s":"é' in said("json", "odd", extra={"s": "é", "o": {1}}).replace(": ", ":")
    assert "é" in said("json", "odd", extra={"s": "é\ud800"})


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
