"""
Logs: one JSON object per line on standard error, from every library alike.

Everything goes through the standard library's `logging`, so a line of aiohttp looks like any other. The
formatter is written here: a library took twice the CPU for each line, and a tenth of the CPU of a start.
What a caller passes as `extra` becomes members of the object. Texts that may quote foreign content (errors,
exceptions) pass through `redact` before they are rendered; the composition root passes it in, since this
package knows nothing of messages. Addresses of known servers stay (`syncer.runtime.places`).

Loggers are named `ledger.<area>`, an area being what an operator filters by (`ledger.delivery`,
`ledger.redis`, `ledger.kube`, `ledger.claim`), not a module. Only the console channel logs as
`notifier.console`: its lines are messages.

Foreign text cannot forge a line: in JSON, every character that controls a terminal or the direction of
writing is escaped; in the console form, line breaks are escaped as well and lines of a traceback indented.

Some loggers never log below INFO. Among them are two of vendors: `kubernetes_asyncio.client.rest` prints
response bodies at DEBUG, and aiohttp's access log repeats the metrics.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import orjson

from syncer.rules.text import escaped, escaped_json
from syncer.runtime.places import spare

_FOREIGN: Final = ("error", "reason", "exception", "detail", "event")
_TRACEBACK: Final = "exception"
#: Member of `extra` by which a caller marks that it has redacted its texts itself.
REDACTED: Final = "_redacted"
#: Attributes that every record has; any other was passed as `extra`.
_USUAL: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
#: A value that holds one of these is quoted on a terminal.
_QUOTED: Final = frozenset(" \t=\r\n\"'")
_QUIET: Final = ("kubernetes_asyncio.client.rest", "aiohttp.access", "asyncio")


def _json(line: dict[str, Any]) -> str:
    """A line as JSON; the standard library writes what orjson refuses, mainly lone surrogates."""
    try:
        text = orjson.dumps(line, default=repr).decode()
    except TypeError:
        text = json.dumps(line, ensure_ascii=False, default=repr)
    return escaped_json(text)


def _columns(line: dict[str, Any]) -> str:
    """A line for a terminal: time, level, event, logger, then members by name."""
    said = {k: escaped(v) if isinstance(v, str) else v for k, v in line.items()}
    traceback = line.get(_TRACEBACK)
    said.pop(_TRACEBACK, None)
    head = f"{said.pop('timestamp')} [{said.pop('level'):<9}] {said.pop('event'):<30}"
    members = [f"[{said.pop('logger')}]", *(f"{k}={_shown(said[k])}" for k in sorted(said))]
    tail = [f"    {escaped(part)}" for part in traceback.split("\n")] if traceback else []
    return "\n".join([" ".join([head, *members]).rstrip(" "), *tail])


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and not _QUOTED & set(value) else repr(value)


class _Lines(logging.Formatter):
    """Turns a record into members, and these into text."""

    def __init__(
        self, redact: Callable[[str], str], render: Callable[[dict[str, Any]], str]
    ) -> None:
        super().__init__()
        self._redact = redact
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        """Render a record; members of `extra` replace the usual ones, except the time."""
        line = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            **{k: v for k, v in vars(record).items() if k not in _USUAL and v is not None},
        }
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        line["timestamp"] = when.removesuffix("+00:00") + "Z"
        if record.exc_info and record.exc_info[0]:
            line[_TRACEBACK] = self.formatException(record.exc_info)
        if not line.pop(REDACTED, False):
            for key in _FOREIGN:
                if isinstance(value := line.get(key), str):
                    line[key] = spare(value, self._redact)
        return self._render(line)


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
    formatter = _Lines(redact, _json if form == "json" else _columns)
    # No line names its thread or process.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))
    # The lines of the archive are a product, not diagnostics: always on.
    logging.getLogger("ledger.archive").setLevel(logging.INFO)
