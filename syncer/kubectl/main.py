"""
`kubectl ledger COMMAND`: find the release, run the command in one of its pods.

    kubectl ledger list --since 1h --channel slack:ops --error timeout
    kubectl ledger tail -f
    kubectl ledger explain payments/disk-full
    kubectl ledger ui
    kubectl ledger -n notifications doctor

The release is found by the labels of its pods: in `-n NAMESPACE`, with `-A` (the default) everywhere;
where that is forbidden, in the context's own namespace. `--release [NAMESPACE/]NAME` chooses among
several. These stand before the command's name; behind it, `-n` and `-A` are the notifications' namespaces
where the command knows them (list, tail, verify, doctor, repair, hold, holds, export, send), and where the
release is otherwise. Whoever may create pods may give one these labels, in a namespace of his own: what
was found in the whole cluster is said, and `import`, which uploads a file, wants the release named.
"""

from __future__ import annotations

import getpass
import os
import pkgutil
import shutil
import signal
import socket
import sys
import textwrap
from collections.abc import Sequence
from typing import IO, Final

from syncer.kubectl.client import SIGNALS, Kubectl
from syncer.kubectl.commands import COLOR, COMMANDS, ENDS, WIDTH, Command
from syncer.kubectl.exits import DIFFERENT, EPILOG, INTERRUPTED, NOT_ASKED, USAGE, PluginError
from syncer.kubectl.output import Output
from syncer.kubectl.release import EXPLORER, LABELS, Release, choose, pod_of, releases_of
from syncer.kubectl.sending import send
from syncer.kubectl.ui import HELP, serve
from syncer.kubectl.words import Words, split

#: Width of the help.
_COLUMNS: Final = 100
#: Name under which kubectl asks for the completion of a word.
COMPLETER: Final = "kubectl_complete-ledger"
#: Options of a command that reads a file, which have a value.
_VALUED: Final = ("--config", "--redis-url", "--redis-url-file", "--key-prefix", WIDTH, COLOR)


def main(arguments: Sequence[str] | None = None, program: str = "") -> int:
    """Run a command, by default this process's; returns the exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if os.path.basename(program or sys.argv[0]) == COMPLETER:  # noqa: PTH119 - a name, not a file
            return _complete(typed)
        code = _run(split(typed))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has enough; the interpreter must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except PluginError as error:
        sys.stderr.write(f"kubectl ledger: {error}\n")
        return error.code
    except OSError as error:
        # Such as a kubectl that is not a program of this machine.
        sys.stderr.write(f"kubectl ledger: {error.filename or 'kubectl'}: {error.strerror}\n")
        return NOT_ASKED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def entry() -> int:
    """Run as a program, which a signal ends in an orderly way; returns the exit code."""
    for number in SIGNALS:
        signal.signal(number, _ended)
    return main()


def _ended(_number: int, _frame: object) -> None:
    raise SystemExit(INTERRUPTED)


def _run(words: Words) -> int:
    if words.version:
        sys.stdout.write(f"kubectl-ledger {_version()}\n")
        return 0
    if words.help or not words.command:
        (sys.stdout if words.help else sys.stderr).write(_help())
        return 0 if words.help else USAGE
    command = COMMANDS.get(words.command)
    if command is None:
        known = ", ".join(COMMANDS)
        raise PluginError(
            USAGE, f"no command {words.command!r}; the commands are {known}; see --help"
        )
    if not command.program and {"-h", "--help"} & set(words.rest):
        sys.stdout.write(HELP)
        return 0
    kubectl = Kubectl(words.kubectl)
    if not command.program:
        return serve(kubectl, lambda: _explorer(kubectl, words), words.rest)
    rest, feed, out = _files(words, command)
    code = NOT_ASKED
    try:
        release = find(kubectl, words)
        _must_be_named(command, words, release)
        pod = pod_of(release)
        if not pod.ready:
            sys.stderr.write(
                f"kubectl ledger: no pod of {release.key} is ready; asking {pod.name} anyway\n"
            )
        if command.creates and not {"--dry-run", "-h", "--help"} & set(rest):
            return send(kubectl, release, pod, rest, by=_person())
        if command.asks and not _confirmed(rest, release, words.command):
            return DIFFERENT
        added = _added(command, rest, held=feed is None)
        asked = [command.program, words.command, *added, *rest]
        code = kubectl.run(release, pod, asked, feed=feed, out=None if out is None else out.file)
        if code == USAGE:
            _compare(kubectl.ask(release, pod, [command.program, "--version"]), pod.name)
        return code
    finally:
        if feed is not None:
            feed.close()
        if out is not None:
            out.end(kept=code == 0)


def _compare(told: str, pod: str) -> None:
    """Say so if the pod has another version, as it tells: it may lack a command or an option."""
    its, ours = told.split()[1:2], _version()
    if its and its != [ours]:
        sys.stderr.write(
            f"kubectl ledger: {pod} runs version {its[0]}, and this plugin is {ours}; `--help` behind the"
            " command shows what the pod's version takes\n"
        )


def _explorer(kubectl: Kubectl, words: Words) -> Release:
    release = find(kubectl, words, labels=EXPLORER)
    pod_of(release)
    return release


def find(kubectl: Kubectl, words: Words, *, labels: str = LABELS) -> Release:
    """
    Return the release that is meant.

    Args:
        kubectl: Lists its pods.
        words: That were typed.
        labels: Of the pods.

    Raises:
        PluginError: there is none, or several might be meant, or it cannot be looked for.
    """
    namespace = words.namespace or words.release.rpartition("/")[0]
    if namespace and not words.everywhere:
        listed = kubectl.pods(namespace, everywhere=False, labels=labels)
        where = f"in namespace {namespace}"
    else:
        listed, where = kubectl.pods(None, everywhere=True, labels=labels), "in the cluster"
        if listed is None and not words.everywhere:
            # Whoever may not look everywhere may look at home.
            listed = kubectl.pods(None, everywhere=False, labels=labels)
            where = "in the context's namespace (in all of them it is forbidden)"
    if listed is None:
        raise PluginError(
            NOT_ASKED,
            f"listing pods {where} is forbidden; name a namespace where it is allowed with -n",
        )
    try:
        releases = releases_of(listed)
    except (AttributeError, TypeError, ValueError):
        raise PluginError(NOT_ASKED, "kubectl did not answer with a list of pods") from None
    found = choose(releases, wanted=words.release, where=where, labels=labels)
    if where.startswith("in the context's"):
        # Who may create pods there may put these labels on one of his own.
        sys.stderr.write(
            f"kubectl ledger: listing pods in all namespaces is forbidden; using {found.key}, in the"
            " context's namespace (-n NAMESPACE selects the controller's)\n"
        )
    elif sys.stderr.isatty() and not (namespace or words.release or words.everywhere):
        sys.stderr.write(
            f"kubectl ledger: using {found.key}, found by the labels of its pods in the whole cluster"
            " (-n NAMESPACE selects the controller's)\n"
        )
    return found


def _must_be_named(command: Command, words: Words, release: Release) -> None:
    if command.reads and not (words.namespace or words.release):
        raise PluginError(
            USAGE,
            f"{words.command}: a file would go to whatever pod has the labels; name the release:"
            f" --release {release.key}",
        )


def _added(command: Command, rest: Sequence[str], *, held: bool) -> list[str]:
    """Return the options that the plugin adds from this side; typed ones win."""
    if command.program != "syncer":
        return []
    added = [ENDS] if held else []
    terminal = sys.stdout.isatty()
    if terminal or os.environ.get("COLUMNS"):
        added += [WIDTH, str(shutil.get_terminal_size().columns)]
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    added += [COLOR, "always" if terminal and not plain else "never"]
    if command.by and not any(word.partition("=")[0] == "--by" for word in rest):
        added += ["--by", _person()]
    return added


def _confirmed(rest: Sequence[str], release: Release, command: str) -> bool:
    """Ask on a terminal, as the command itself would: in the pod it has none."""
    if {"--yes", "--dry-run", "-h", "--help"} & set(rest) or not sys.stdin.isatty():
        return True
    sys.stderr.write(f"{command} in {release.key}? (--dry-run shows what would be done) [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _person() -> str:
    try:
        name = getpass.getuser()
    except Exception:  # noqa: BLE001 - KeyError, OSError or ImportError, by version and system
        name = "unknown"
    return f"{name}@{socket.gethostname()}"


def _files(words: Words, command: Command) -> tuple[list[str], IO[bytes] | None, Output | None]:
    """Open the files that a command names, here and not in the pod; PluginError if one cannot be."""
    rest, feed, out = list(words.rest), None, None
    try:
        if command.reads and not {"-h", "--help"} & set(rest):
            named = [
                n
                for n, word in enumerate(rest)
                if not word.startswith("-") and (n == 0 or rest[n - 1] not in _VALUED)
            ]
            if len(named) != 1:
                raise PluginError(USAGE, f"{words.command}: name one file")
            feed = open(rest[named[0]], "rb")  # noqa: SIM115, PTH123 - closed by the caller
            rest[named[0]] = "-"
        if command.writes:
            for n, word in enumerate(rest):
                name, equals, path = word.partition("=")
                if name == "--output" and (equals or n + 1 < len(rest)):
                    path = path if equals else rest[n + 1]
                    del rest[n : n + (1 if equals else 2)]
                    # As for the command itself, `-` is standard output.
                    out = None if path == "-" else Output(path)
                    break
    except OSError as error:
        raise PluginError(USAGE, f"{error.filename}: {error.strerror}") from None
    return rest, feed, out


def _complete(typed: Sequence[str]) -> int:
    """Print what the last word may become, a word a line, and that nothing else is to be offered."""
    words, current = list(typed[:-1]), typed[-1] if typed else ""
    found: list[str] = []
    try:
        asked = split(words)
        command = COMMANDS.get(asked.command)
        if not asked.command:
            found = [name for name in COMMANDS if name.startswith(current)]
        elif command is not None and not command.program:
            found = [word for word in ("--no-open", "--port", "--help") if word.startswith(current)]
        elif command is not None and command.program == "syncer":
            kubectl = Kubectl(asked.kubectl)
            release = find(kubectl, asked)
            line = ["syncer", "complete", "--", asked.command, *asked.rest, current]
            found = kubectl.ask(release, pod_of(release), line).split()
    except PluginError:
        # Whoever completes a word wants no error; the command itself says what is wrong.
        found = []
    sys.stdout.write("".join(f"{word}\n" for word in found) + ":4\n")
    return 0


def _version() -> str:
    """Return the version: of the file that was built, else of the package that is installed."""
    try:
        baked = pkgutil.get_data("syncer.kubectl", "VERSION")
    except OSError:
        baked = None
    if baked is not None:
        return baked.decode().strip()
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - seldom asked

    try:
        return version("notification-ledger")
    except PackageNotFoundError:
        return "0+unknown"


def _help() -> str:
    text = (__doc__ or "").strip()
    commands = "".join(f"  {name:<10}{command.about}\n" for name, command in COMMANDS.items())
    options = (
        "options: -n NAMESPACE, -A, --release [NAMESPACE/]NAME, --version; of kubectl: --context,"
        " --kubeconfig, --cluster, --user, --as, --as-group"
    )
    return (
        f"usage: kubectl ledger [OPTIONS] COMMAND ...\n\n{text}\n\n"
        f"commands (`kubectl ledger COMMAND --help` lists the options of each):\n{commands}\n"
        f"{textwrap.fill(options, _COLUMNS)}\n\n{textwrap.fill(EPILOG, _COLUMNS)}\n"
    )
