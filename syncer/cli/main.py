"""
The operators' command line. It reads, it appends facts, it pokes the owner; it never claims.

    syncer list | inspect | explain | verify | doctor            look
    syncer repair | resolve | resend                             mend, or say what is to be done
    syncer export | import                                       move logs
    syncer completion bash|zsh|fish                              complete words in a shell

Where to look is told by the controller's own settings file (`--config`), or by `--redis-url` and
`--kubeconfig`. Exit codes: 0 all is as it should be; 1 something is not, or was refused; 2 wrong usage,
configuration or input; 3 there is no such notification; 4 Redis or the API server does not answer; 5 part
of what was asked for could not be read or compared, and the answer names it; 6 Redis or the API server
refuses the account.

Only the parser is made when this module is imported: what a command needs is imported when it runs, which
keeps `--help` and completion quick.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from syncer.model.errors import (
    ConfigError,
    ContractError,
    LedgerError,
    PortError,
    Rejected,
    Unauthorised,
)

OK: Final = 0
DIFFERENT: Final = 1
USAGE: Final = 2
ABSENT: Final = 3
UNAVAILABLE: Final = 4
NOT_COMPARED: Final = 5
REFUSED: Final = 6
_INTERRUPTED: Final = 130
#: Seconds for which `inspect` waits for an object: it can do without.
_OBJECT_TIMEOUT: Final = 5.0

_EPILOG: Final = (
    "exit codes: 0 all is as it should be; 1 something is not, or was refused; 2 wrong usage,"
    " configuration or input; 3 no such notification; 4 Redis or the API server does not answer;"
    " 5 something could not be read or compared, and the answer names it; 6 Redis or the API server"
    " refuses the account"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["complete"]:
        from syncer.cli.completion import candidates  # noqa: PLC0415 - not for other commands

        asked = words[2:] if words[1:2] == ["--"] else words[1:]
        sys.stdout.writelines(f"{word}\n" for word in candidates(_parser(), asked))
        return OK
    try:
        return asyncio.run(execute(words))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough; the interpreter must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


async def execute(arguments: Sequence[str]) -> int:
    """
    Run a command on the running loop; returns the exit code.

    Raises:
        SystemExit: the usage is wrong (code 2), or help was asked for (code 0).
    """
    options = _parser().parse_args(arguments)
    if options.command == "completion":
        from syncer.cli.completion import script  # noqa: PLC0415 - as above

        sys.stdout.write(script(options.shell))
        return OK
    try:
        options.redis_url = _redis_url(options)
    except ConfigError as error:
        sys.stderr.write(f"syncer: {error}\n")
        return USAGE
    if options.command == "inspect":
        return await _guarded(_inspect, options)
    from syncer.cli import commands  # noqa: PLC0415 - half a second of imports

    return await _guarded(commands.HANDLERS[options.command], options)


def _redis_url(options: argparse.Namespace) -> str | None:
    """
    Return the URL of Redis that is to be used in place of the settings file's, None for that one.

    Raises:
        ConfigError: it is said twice, or its file cannot be used.
    """
    url: str | None = options.redis_url
    if options.redis_url_file:
        if url:
            raise ConfigError("--redis-url and --redis-url-file exclude each other")
        from syncer.configfile import secret_of  # noqa: PLC0415 - slow to import

        return secret_of(options.redis_url_file, "--redis-url-file")
    if url:
        from syncer.ledger.url import holds_password  # noqa: PLC0415 - as above

        if holds_password(url):
            sys.stderr.write(
                "syncer: whoever may list processes here can read the password in --redis-url; use"
                " $REDIS_URL or --redis-url-file\n"
            )
        return url
    return None if options.config else os.environ.get("REDIS_URL") or None


async def _guarded(
    handler: Callable[[argparse.Namespace], Awaitable[int]], options: argparse.Namespace
) -> int:
    try:
        code = await handler(options)
    except (PortError, TimeoutError) as error:
        named = "".join(f" ({line})" for line in getattr(error, "__notes__", ()))
        sys.stderr.write(f"syncer: {str(error) or 'no answer in time'}{named}\n")
        if isinstance(error, Unauthorised):
            return REFUSED
        return DIFFERENT if isinstance(error, Rejected) else UNAVAILABLE
    except (ConfigError, ContractError) as error:
        sys.stderr.write(f"syncer: {error}\n")
        return USAGE
    except LedgerError as error:
        sys.stderr.write(f"syncer: {error}\n")
        return USAGE if type(error).__name__ == "BadExport" else DIFFERENT
    except Exception as error:
        if type(error).__name__ != "Absent":
            raise
        sys.stderr.write(f"syncer: {error}\n")
        return ABSENT
    return code


# -- the parser -----------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="syncer", description=(__doc__ or "").split("\n")[1], epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=_version(), help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    where = _where()

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, description=text, epilog=_EPILOG, parents=[where]
        )

    _list(command("list", "list notifications, and which of them want a look"))
    inspect = command("inspect", "log, fold and status of one notification")
    _object(inspect)
    inspect.add_argument("--uid", default="", help="look at this log, whatever bears the name now")
    inspect.add_argument("--log-only", action="store_true", help="do not ask the API server")
    _object(command("explain", "why it was sent, why not, what comes next and when"))
    verify = command("verify", "fold every log anew and compare it with its status")
    _namespaces(verify)
    _judging(verify)
    _repair(command("repair", "mend what verify finds, by facts alone"))
    _resolve(command("resolve", "say what became of an attempt whose result is not known"))
    _resend(command("resend", "have a channel that ended without success tried once more"))
    _export(command("export", "write logs as JSON lines"))
    _import(command("import", "read logs from JSON lines"))
    _doctor(command("doctor", "check Redis, API server, rights, definition, leases and clocks"))
    completion = commands.add_parser("completion", help="print the completion script of a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    return parser


def _version() -> str:
    try:
        number = version("notification-ledger")
    except PackageNotFoundError:  # a bare checkout on the path
        number = "0+unknown"
    return f"notification-ledger {number} (Python {sys.version.split()[0]})"


def _where() -> argparse.ArgumentParser:
    where = argparse.ArgumentParser(add_help=False)
    group = where.add_argument_group("where to look")
    group.add_argument("--config", metavar="FILE", help="the controller's settings file")
    group.add_argument(
        "--redis-url", metavar="URL",
        help="instead of the file's redis.url; without a password, which everybody could read here",
    )  # fmt: skip
    group.add_argument(
        "--redis-url-file",
        metavar="FILE",
        help="file that holds it; without this, --redis-url and --config: $REDIS_URL",
    )
    group.add_argument("--key-prefix", metavar="PREFIX", help="instead of redis.keyPrefix")
    group.add_argument(
        "--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, else the pod's own account"
    )
    where.add_argument("--json", action="store_true", help="answer in JSON, one object per line")
    return where


def _object(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("object", metavar="NAMESPACE/NAME")


def _namespaces(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-n", "--namespace", action="append", metavar="NAMESPACE",
        help="only this one; may be given again (default: those that --config has watched, else all)",
    )  # fmt: skip


def _list(parser: argparse.ArgumentParser) -> None:
    _namespaces(parser)
    parser.add_argument(
        "--phase", action="append", metavar="PHASE", type=str.lower,
        choices=("none", "pending", "sending", "retrying", "sent", "partiallysent", "failed"),
        help="only this phase, `none` for none yet; may be given again",
    )  # fmt: skip
    parser.add_argument("--name", metavar="PATTERN", help="only names like this (`*` and `?`)")
    parser.add_argument(
        "--older-than", metavar="TIME", default="0", help="at least so old (`72h`, `3d`)"
    )
    parser.add_argument("--unsynced", action="store_true", help="only with unpublished records")
    parser.add_argument("--unknown", action="store_true", help="only with unknown results")
    parser.add_argument("--quarantined", action="store_true", help="only held for their log's sake")
    parser.add_argument("--held", action="store_true", help="only held back by annotation")
    parser.add_argument("--limit", type=_count, default=0, metavar="N", help="at most so many")


def _judging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--class", dest="cls", action="append", choices=_CLASSES, metavar="CLASS",
        help="only this class of divergence; may be given again",
    )  # fmt: skip
    _time(parser, "--settle", "10s", "time that a record may take to be published")
    _time(parser, "--stuck", "2m", "time after which an open attempt is nobody's")
    parser.add_argument(
        "--pause", type=float, default=2.0, metavar="SECONDS",
        help="before what looks wrong is read a second time (default %(default)s)",
    )  # fmt: skip


def _repair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "object", nargs="*", metavar="NAMESPACE/NAME", help="default: all that diverge"
    )
    _namespaces(parser)
    _judging(parser)
    _dry_run(parser, "what would be done, do nothing")
    parser.add_argument(
        "--limit", type=_count, default=1000, metavar="N",
        help="notifications in one run, 0 for all (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--rebuild", action="store_true",
        help="put a legible log in the place of one that cannot be read; the old one is kept aside",
    )  # fmt: skip
    parser.add_argument(
        "--accept-loss", action="store_true",
        help="even where of a record nothing is legible: what it said may be sent again",
    )  # fmt: skip
    _time(parser, "--wait", "30s", "for the owner to do its part")
    parser.add_argument("--yes", action="store_true", help="do not ask on a terminal")
    _by(parser)


def _resolve(parser: argparse.ArgumentParser) -> None:
    _object(parser)
    parser.add_argument(
        "--as",
        dest="verdict",
        required=True,
        choices=("delivered", "failed"),
        help="what became of it",
    )
    _reason(parser, "how that is known")
    parser.add_argument("--attempt", metavar="ID", help="default: all whose result is unknown")
    parser.add_argument("--channel", metavar="CHANNEL", help="only on this one")
    parser.add_argument(
        "--even-open", action="store_true", help="also attempts that may still be on the wire"
    )
    _dry_run(parser, "what would be recorded")
    _by(parser)


def _resend(parser: argparse.ArgumentParser) -> None:
    _object(parser)
    _reason(parser, "why")
    parser.add_argument(
        "--channel", action="append", metavar="CHANNEL",
        help="may be given again (default: all that ended without success)",
    )  # fmt: skip
    _dry_run(parser, "what would be recorded")
    _by(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    _namespaces(parser)
    parser.add_argument(
        "--uid", action="append", metavar="UID", help="only this log; may be given again"
    )
    parser.add_argument("--output", metavar="FILE", help="default: standard output")


def _import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="an export; it is read twice")
    parser.add_argument(
        "--by-name", action="store_true",
        help="give each log to the object that bears its name now, whatever its uid",
    )  # fmt: skip
    parser.add_argument(
        "--join", action="store_true",
        help="where a log has another history, append the attempts to it as facts",
    )  # fmt: skip
    _dry_run(parser, "what would be written")


def _doctor(parser: argparse.ArgumentParser) -> None:
    _namespaces(parser)
    parser.add_argument(
        "--controller-namespace", metavar="NAMESPACE",
        help="home of the leases (default: $KUBERNAUT_CONTROLLER_NAMESPACE, else the pod's own)",
    )  # fmt: skip
    parser.add_argument(
        "--service-account", metavar="NAMESPACE/NAME",
        help="ask about the rights of this account instead of one's own",
    )  # fmt: skip


def _dry_run(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--dry-run", action="store_true", help=f"say {what}")
    parser.add_argument(
        "--unchecked-store", action="store_true",
        help="write even where whose store it is cannot be checked",
    )  # fmt: skip


def _reason(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--reason", required=True, help=f"{what}; it is put on record")


def _time(parser: argparse.ArgumentParser, option: str, default: str, what: str) -> None:
    parser.add_argument(
        option, default=default, metavar="TIME", help=f"{what} (default %(default)s)"
    )


def _by(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", metavar="WHO", help="put on record (default: user@host)")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


#: As `syncer.cli.check.Class`, which is slow to import.
_CLASSES: Final = (
    "foreign", "unreadable", "misnamed", "mark-beyond", "log-missing", "log-behind", "plan-missing",
    "expiring", "status-behind", "acked", "status-differs", "open-attempt", "unacked", "no-expiry",
    "orphan", "epoch-ahead", "two-open", "conflict", "phase", "numbers", "object",
)  # fmt: skip


# -- inspect --------------------------------------------------------------------------------------


async def _inspect(options: argparse.Namespace) -> int:
    namespace, _, name = options.object.partition("/")
    if not (namespace and name):
        sys.stderr.write("syncer inspect: NAMESPACE/NAME expected\n")
        return USAGE
    from syncer.cli.access import Where, access  # noqa: PLC0415 - as above
    from syncer.cli.inspect import as_json, as_text, inspect  # noqa: PLC0415 - as above
    from syncer.cli.output import say_json  # noqa: PLC0415 - as above
    from syncer.cli.store import Whose, check_store, told_home  # noqa: PLC0415 - as above
    from syncer.kube.notification_requests import StatusStore  # noqa: PLC0415 - slow to import

    where = Where(options.config, options.redis_url, options.key_prefix, options.kubeconfig)
    async with access(where, cluster=not options.log_only) as at:
        whose = await check_store(at, home=told_home())
        store = StatusStore(at.kube, timeout=_OBJECT_TIMEOUT) if at.kube is not None else None
        if store is None and not options.log_only:
            sys.stderr.write(f"syncer: the API server is not asked: {at.problem}\n")
        found = await inspect(at.log, store, namespace=namespace, name=name, uid=options.uid)
    if whose.whose is not Whose.OURS:
        sys.stderr.write(f"syncer: {whose.remark}\n")
    if found is None:
        asked = (
            "neither an object nor a log"
            if store is not None
            else "no log (objects were not asked)"
        )
        sys.stderr.write(f"syncer: {asked} {namespace}/{name}\n")
        return ABSENT if store is not None or options.log_only else NOT_COMPARED
    now = time.time_ns() // 1_000_000
    if options.json:
        say_json(as_json(found, now=now))
    else:
        sys.stdout.write(as_text(found, now=now))
    if whose.whose is Whose.NEW:
        return NOT_COMPARED
    if found.differences:
        return DIFFERENT
    return OK if found.compared else NOT_COMPARED
