"""
Logs: one JSON object per line on standard error, from every library alike.

Everything goes through the standard library's `logging`, rendered by structlog, so a line of aiohttp
looks like one of ours. What a caller passes as `extra` becomes members of the object. Texts that may
quote others (errors, exceptions) pass through `redact` before they are rendered; the composition root
passes it in, since this package knows nothing of messages.

Loggers are named `ledger.<area>`, an area being what an operator filters by (`ledger.delivery`,
`ledger.redis`, `ledger.kube`, `ledger.claim`), not a module. The console channel alone logs as
`notifier.console`: its lines are messages.

No text of others forges a line: in JSON every character that commands a terminal or turns the direction of
writing is an escape, in the console form line breaks are as well, and lines of a traceback are indented.

Two loggers of vendors are silenced: `kubernetes_asyncio.client.rest` prints response bodies at DEBUG, and
aiohttp's access log repeats the metrics.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TextIO

import orjson
import structlog

from syncer.rules.text import escaped, escaped_json

_LEVELS: Final = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
}
_FOREIGN: Final = ("error", "why", "exception", "detail", "event")
_TRACEBACK: Final = "exception"
#: Member of `extra` by which a caller marks that it has redacted its texts itself.
REDACTED: Final = "_redacted"
_QUIET: Final = ("kubernetes_asyncio.client.rest", "aiohttp.access", "asyncio")


def _json(line: Any, **options: Any) -> str:
    """A line as JSON; what orjson does not write, lone surrogates above all, the library does."""
    try:
        text = orjson.dumps(line, default=options["default"]).decode()
    except TypeError:
        text = json.dumps(line, ensure_ascii=False, **options)
    return escaped_json(text)


def _harmless(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Texts on one line each, for who reads them on a terminal."""
    out: dict[str, Any] = {}
    for key, value in event.items():
        if not isinstance(value, str):
            out[key] = value
        elif key == _TRACEBACK:
            out[key] = "\n".join(f"    {escaped(line)}" for line in value.split("\n"))
        else:
            out[key] = escaped(value)
    return out


def configure(
    *,
    level: str,
    form: str,
    redact: Callable[[str], str] = lambda text: text,
    stream: TextIO | None = None,
) -> None:
    """
    Set up the root logger.

    Args:
        level: DEBUG, INFO, WARN or ERROR.
        form: `json` or `console`.
        redact: Takes secrets out of a text.
        stream: Where lines go; standard error by default.
    """

    def redacted(
        _logger: Any, _name: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        if event.pop(REDACTED, False):
            return event
        for key in _FOREIGN:
            value = event.get(key)
            if isinstance(value, str):
                event[key] = redact(value)
        return event

    def lean(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {k: v for k, v in event.items() if v is not None}

    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer(serializer=_json)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redacted,
            lean,
            *([] if form == "json" else [_harmless]),
            renderer,
        ],
    )
    # No line names its thread or process.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.INFO, _LEVELS[level]))
    # The log channel's and archive's lines are products, not chatter: always on.
    logging.getLogger("ledger.archive").setLevel(logging.INFO)
