"""
Every block of commands in the documentation: run by a test, or listed here with the reason why not.

A block is what is fenced or indented. Pages of YAML and diagrams are checked where they are made. What is
inline is not run; like all the rest it must name subcommands, options, resources and objects that exist:
those of the argument parsers, of a real API server, and of the releases that the pages install.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import redis

import notifier.cli
import syncer.cli.main
from syncer.cli.completion import _commands, _options
from tests.chart.helm import objects, template
from tests.docs.pages import ROOT
from tests.servers.controlplane import ControlPlane

#: Languages of blocks that hold no command.
DOCUMENTS: Final = {"yaml", "mermaid"}

_QUICK: Final = "tests/docs/test_quickstart.py::test_quick_start"
_USER: Final = "tests/integration/test_redis_users.py::test_no_user_may"
_REDIS: Final = "tests/docs/test_redis_page.py::test_recipe"
_MIGRATION: Final = "tests/e2e/test_migration.py::test_there_and_back_and_there_again"
_NODES: Final = "needs nodes: `scripts/cluster test` takes these steps with images of its own"
_UPSTREAM: Final = (
    "needs the replaced controller's Deployment; a writer plays it in tests/e2e/test_migration.py"
)
_BUILD: Final = "builds images, as root or for minutes: .ci/run does where CI_CLUSTER is set"
_LAYOUT: Final = "no command: the layout of a record"
_FORMULA: Final = (
    "no command: a formula, which tests/benchmarks/test_memory.py compares with the code"
)

#: By page: the first line of each block, and the test that runs it or the reason why none does.
BLOCKS: Final[dict[str, dict[str, str]]] = {
    "README.md": {
        "git clone <this repository> && cd notification-ledger": (
            "tests/e2e/test_demo.py::test_demo_on_the_stand_in"
        ),
        "scripts/test": "it runs this test",
        "scripts/image build": _NODES,
        "$ redis-cli LRANGE 'nl:{62455857-18ab-4120-b3ee-a088552fc77e}' 0 -1": (
            "shows what tests/docs/test_redis_page.py runs on logs of its own"
        ),
        "$ redis-cli EVAL ": ("shows what tests/docs/test_redis_page.py runs on logs of its own"),
    },
    "CONTRIBUTING.md": {
        "scripts/test  ": (
            "a table of commands; that each exists says tests/unit/test_repository.py"
        ),
    },
    "charts/notification-ledger/README.md": {
        "helm install ledger charts/notification-ledger -n notifications ": _NODES,
    },
    "docs/adr/0001-one-list-per-notification.md": {
        "nl1 object=<ns>/<name> epoch=<e> acked=<i> audited=<i>": _LAYOUT,
        "<kind> <id> <channel> <crc32> <chain> <msgpack map>": _LAYOUT,
    },
    "docs/adr/0003-status-is-a-fold.md": {
        "status = merge(fold(log), status of the object, spec)": "no command: the rule",
    },
    "docs/benchmarks/README.md": {
        "scripts/bench --quick  ": (
            "measures for minutes; every suite of it has a test in tests/benchmarks"
        ),
    },
    "docs/cli.md": {
        "syncer list  ": (
            "a table of commands; each is run by tests/integration/test_operate_*.py"
        ),
        "kubectl -n notifications exec deploy/ledger-notification-ledger -- \\": _NODES,
        "source <(syncer completion bash)": (
            "changes the shell it is typed in; tests/unit/syncer/cli/test_completion.py tries the scripts"
        ),
    },
    "docs/cluster.md": {
        "scripts/cluster test  ": _BUILD,
        "scripts/image build && scripts/image redis": _BUILD,
    },
    "docs/image.md": {
        "scripts/image build  ": _BUILD,
        "kubectl -n notifications exec deployment/ledger-notification-ledger -- \\": _NODES,
        "docker build ": "needs a container daemon; the page says what was tried",
    },
    "docs/install.md": {
        "scripts/image build": _BUILD,
        "helm install ledger charts/notification-ledger -n notifications ": _NODES,
        "helm test ledger -n notifications": _NODES,
        "kubectl -n notifications create secret generic slack ": _NODES,
        "kubectl -n notifications exec ledger-notification-ledger-redis-0 ": _NODES,
        "helm upgrade ledger charts/notification-ledger -n notifications --wait -f values.yaml": _NODES,
        "helm uninstall ledger -n notifications --wait": _NODES,
        "ACL SETUSER ledger ": _USER,
        "+cluster|slots ": _USER,
        "ACL SETUSER reader ": _REDIS,
        "kubectl -n notifications delete pvc,secret -l app.kubernetes.io/instance=ledger": _NODES,
        "notifier crd | kubectl apply --server-side -f -": _QUICK,
    },
    "docs/migration.md": {
        "kubectl get notificationrequests -A -o yaml ": "keeps a copy of what a cluster has",
        "kubectl -n kubernaut-system scale deployment notification-controller --replicas 0": _UPSTREAM,
        "notifier crd | kubectl apply --server-side --force-conflicts -f -": _MIGRATION,
        "redis:": "no command: two lines of the settings file",
        "kubectl -n kubernaut-system rollout status deployment notification-ledger": _NODES,
        "syncer inspect kubernaut-system/NAME --config /etc/notification/config.yaml": _MIGRATION,
        "kubectl -n kubernaut-system scale deployment notification-ledger --replicas 0": _NODES,
        "notifier crd --without-rules | kubectl apply --server-side --force-conflicts -f -": _MIGRATION,
        "kubectl -n kubernaut-system scale deployment notification-controller --replicas 1": _UPSTREAM,
        "redis-cli --scan --pattern 'nl:*' | xargs -r -n 500 redis-cli unlink": (
            "tests/docs/test_commands.py::test_old_logs_are_deleted_as_printed"
        ),
    },
    "docs/quickstart.md": {},
    "docs/recovery.md": {
        "syncer export --config OLD.yaml --output logs.jsonl": (
            "tests/docs/test_recovery.py::test_moving_to_another_cluster"
        ),
        "jq ": ("tests/docs/test_recovery.py::test_moving_to_another_cluster"),
        'redis-cli -u "$REDIS_URL" RENAMENX "$NL:{$NL_UID}" "damaged:{$NL_UID}"': (
            "tests/docs/test_recovery.py::test_a_log_is_damaged"
        ),
    },
    "docs/redis.md": {
        "export REDIS_URL=": "sets names, which the tests set to those of their server",
        "read -rs REDISCLI_AUTH; ": (
            "tests/docs/test_redis_page.py::test_the_page_says_how_to_log_in"
        ),
        "nl1 object=<namespace>/<name> epoch=<epoch> acked=<i> audited=<i>": _LAYOUT,
        "<kind> <id> <channel> <crc32> <chain> <msgpack map>": _LAYOUT,
        "$ kubectl get notificationrequest -n NAMESPACE NAME -o jsonpath='{.metadata.uid}'": (
            "asks for an object of yours; the resource is checked below"
        ),
    },
    "docs/scale.md": {
        ".venv/bin/python -m tests.benchmarks.capacity --write": (
            "tests/benchmarks/test_capacity.py::test_only_the_tables_are_replaced"
        ),
        "250 + 1.1 * (155 + route + name + channels * channel": _FORMULA,
        "98,000,000 + finished * 900": _FORMULA,
    },
}
#: Marks before a block, by page, and the test that runs every block with such a mark.
MARKED: Final = {
    ("docs/quickstart.md", "step"): _QUICK,
    ("docs/redis.md", "recipe"): _REDIS,
}


class Block(NamedTuple):
    """A block: its page, the mark before it, and its lines."""

    page: str
    mark: str
    lines: tuple[str, ...]


def pages() -> list[Path]:
    """Return what a reader may follow."""
    first = [ROOT / n for n in ("README.md", "CONTRIBUTING.md")]
    return [
        *first,
        ROOT / "charts/notification-ledger/README.md",
        *sorted(ROOT.glob("docs/**/*.md")),
    ]


_BLOCK: Final = re.compile(
    r"(?:^<!-- (?P<mark>\w+): .*? -->\n)?^(?P<in> *)```(?P<language>\w*)\n(?P<fenced>.*?)^ *```$"
    r"|(?<=\n\n)(?P<indented>(?: {4,}[^\n]*\n|\n(?= {4}))+)",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: Path) -> Iterator[Block]:
    """Return the blocks of a page that are neither YAML nor diagrams."""
    name = str(page.relative_to(ROOT))
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        text = found["fenced"] if found["indented"] is None else found["indented"]
        if found["language"] not in DOCUMENTS:
            yield Block(name, found["mark"] or "", tuple(text.strip().splitlines()))


def unlisted(found: list[Block]) -> list[str]:
    """Return the first lines of blocks that nobody runs and no reason is given for."""
    return [
        f"{b.page}: {b.lines[0]}"
        for b in found
        if (b.page, b.mark) not in MARKED
        and not any(b.lines[0].startswith(line) for line in BLOCKS.get(b.page, {}))
    ]


def test_every_block_is_run_or_says_why_not() -> None:
    """A block that is new is run by a test, or a reason is given."""
    found = [block for page in pages() for block in blocks(page)]
    assert len(found) > 70
    assert unlisted(found) == []
    new = Block("docs/cli.md", "", ("syncer list --new",))
    assert unlisted([new]) == ["docs/cli.md: syncer list --new"]


def test_the_list_holds_nothing_that_is_gone() -> None:
    """Each row belongs to a block, and each test that is named exists."""
    lines = {(b.page, b.lines[0]) for page in pages() for b in blocks(page)}
    rows = [(page, line, how) for page, row in BLOCKS.items() for line, how in row.items()]
    gone = [r for r in rows if not any(p == r[0] and line.startswith(r[1]) for p, line in lines)]
    assert gone == []
    named = [how for *_, how in rows if how.startswith("tests/")] + list(MARKED.values())
    assert [n for n in named if n.partition("::")[2] not in _tests_of(n.partition("::")[0])] == []


def _tests_of(file: str) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {n.name for n in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(n, kinds)}


# -- what commands name ---------------------------------------------------------------------------

_PROGRAMS: Final = ("kubectl", "helm", "syncer", "notifier")


def commands() -> Iterator[tuple[str, list[str]]]:
    """Return page and words of every command of these programs, in blocks and inline."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        texts = ["\n".join(b.lines) for b in blocks(page)]
        prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", text)
        texts += re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", prose)
        for found in texts:
            joined = re.sub(r"\\\n\s*", " ", found)
            for line in joined.splitlines() if joined in texts else [joined.replace("\n", " ")]:
                for part in re.split(r"[|;&]+|<\(|\$\(| -- ", line):
                    words = _words(part)
                    if words and words[0] in _PROGRAMS and len(words) > 1:
                        yield str(page.relative_to(ROOT)), words


def _words(text: str) -> list[str]:
    try:
        return shlex.split(re.sub(r"\s{2,}.*", "", text.strip().removeprefix("$ ")), comments=True)
    except ValueError:
        return text.split()


PARSERS: Final[dict[str, argparse.ArgumentParser]] = {
    "syncer": syncer.cli.main._parser(),
    "notifier": notifier.cli._parser(),
}


def test_our_commands_have_what_the_pages_use() -> None:
    """Every subcommand and every option of `syncer` and `notifier` on a page exists."""
    wrong, seen = [], 0
    for page, (program, *words) in commands():
        if program not in PARSERS or words[0].startswith(("-", "crd.")) or not words[0].isalpha():
            continue
        known = _commands(PARSERS[program])
        if words[0] not in known and words[0] != "COMMAND":
            wrong.append(f"{page}: {program} {words[0]}")
            continue
        seen += 1
        options = _options(known[words[0]]) if words[0] in known else {"--help": None}
        used = [w.partition("=")[0] for w in words if w.startswith("--")]
        wrong += [f"{page}: {program} {words[0]} {o}" for o in used if o not in options]
    assert seen > 30
    assert wrong == []


_ASKS: Final = {"get", "annotate", "delete", "patch", "scale", "exec", "wait", "rollout", "create"}
_ACTS: Final = {"status", "undo", "-n", "generic"}


def _resources(words: list[str]) -> list[str]:
    """Return the resources that a `kubectl` command names, `kind/name` without the name."""
    rest = iter(words)
    out: list[str] = []
    for word in rest:
        if word in {"-n", "-l", "-o", "-f", "-p", "--field-selector", "--namespace", "--replicas"}:
            next(rest, None)
        elif not word.startswith("-") and word not in _ACTS:
            out.append(word)
    verb, *named = out
    if verb not in _ASKS or not named:
        return []
    if verb == "exec":  # a pod, where no kind is named
        return [named[0].partition("/")[0]] if "/" in named[0] else []
    return [kind.partition("/")[0] for kind in named[0].split(",")]


def test_kubectl_is_asked_for_resources_that_exist(control_plane: ControlPlane) -> None:
    """Every resource that a page names is one that the API server knows by that name."""
    known = _discovered(control_plane)
    assert {"notif", "notificationrequest", "deploy", "leases"} <= known
    assert "nr" not in known
    asked = [
        (page, r)
        for page, words in commands()
        if words[0] == "kubectl"
        for r in _resources(words[1:])
    ]
    assert len(asked) > 20
    assert [f"{page}: kubectl {r}" for page, r in asked if r not in known and not r.isupper()] == []


def _discovered(plane: ControlPlane) -> set[str]:
    def read(path: str) -> Any:
        return plane.api.request("GET", path).json

    groups = [f"/apis/{g['preferredVersion']['groupVersion']}" for g in read("/apis")["groups"]]
    out: set[str] = set()
    for path in ("/api/v1", *groups):
        for found in read(path)["resources"]:
            if "/" not in found["name"]:
                out |= {found["name"], found.get("singularName", ""), *found.get("shortNames", ())}
    return out - {""}


#: What the pages install, by release and namespace, and what is there before.
RELEASES: Final = (("ledger", "notifications"), ("notification-ledger", "kubernaut-system"))
UPSTREAM: Final = ("kubernaut-system", "notification-controller")


def test_objects_are_called_as_the_release_calls_them() -> None:
    """A Deployment, pod or Lease on a page is one of a release that the pages install, where it is."""
    made = {UPSTREAM}
    for release, namespace in RELEASES:
        values: dict[str, Any] = {"image": {"repository": "REGISTRY/notification-ledger"}}
        for found in objects(template("4", values, release=release, namespace=namespace)):
            name = found["metadata"]["name"]
            made.add((namespace, name))
            if found["kind"] == "Deployment":  # its Leases are called after it
                made |= {(namespace, f"{name}-map"), (namespace, f"{name}-<shard>")}
            if found["kind"] == "StatefulSet":
                made.add((namespace, f"{name}-0"))
    wrong, seen = [], 0
    for page, words in commands():
        named = [w.rpartition("/")[2] for w in words if "notification-" in w]
        named = [
            n for n in named if re.fullmatch(r"(\w+-)?notification-(ledger|controller)[\w<>-]*", n)
        ]
        if words[0] != "kubectl" or not named:
            continue
        seen += 1
        namespace = words[words.index("-n") + 1] if "-n" in words else ""
        wrong += [f"{page}: {' '.join(words)}" for n in named if (namespace, n) not in made]
    assert seen >= 5
    assert wrong == []


def test_helm_is_given_the_documented_release() -> None:
    """Every `helm` command on a page is about one of the two documented releases."""
    seen, wrong = 0, []
    for page, words in commands():
        if (
            words[0] == "helm"
            and words[1] in {"install", "upgrade", "uninstall", "test"}
            and "-n" in words
        ):
            seen += 1
            if (words[2], words[words.index("-n") + 1]) not in RELEASES:
                wrong.append(f"{page}: {' '.join(words)}")
    assert seen >= 5
    assert wrong == []


@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
def test_old_logs_are_deleted_as_printed(redis_url: str, tmp_path: Path) -> None:
    """The command of docs/migration.md deletes the logs of its prefix, and no other key."""
    program = shutil.which("redis-cli")
    assert program, "redis-cli is missing; it comes with redis-server"
    stand_in = tmp_path / "redis-cli"  # the page's goes to the standard port
    stand_in.write_text(f'#!/bin/sh\nexec {program} -u {redis_url} "$@"\n')
    stand_in.chmod(0o755)
    keys = [f"nl:{{{n}}}" for n in range(1200)]
    with redis.Redis.from_url(redis_url) as plain:
        for key in (*keys, "nl2:{1}", "other"):
            plain.rpush(key, "x")
        (block,) = (b for b in blocks(ROOT / "docs/migration.md") if "unlink" in b.lines[0])
        answer = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(block.lines)],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
        assert sorted(plain.keys()) == [b"nl2:{1}", b"other"]
