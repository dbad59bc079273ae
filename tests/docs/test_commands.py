"""
Every block of commands in the documentation is run by a test, or `tests/docs/blocks.py` says why not.

What is inline is not run; like all the rest it must name subcommands, options, resources and objects that
exist: those of the argument parsers, of a real API server, and of the releases that the pages install.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any, Final

import notifier.cli.main
import syncer.cli.main
from tests.chart.helm import objects, template
from tests.cluster.documented import TURNS
from tests.docs.blocks import BLOCKS, MARKED, ON_CLUSTER, ROOT, Block, blocks, fates, pages
from tests.docs.pages import commands_of, options_of
from tests.servers.controlplane import ControlPlane


def unlisted(found: list[Block]) -> list[str]:
    """Return the first lines of blocks that nobody runs and no reason is given for."""
    return [f"{b.page}: {b.lines[0]}" for b in found if not fates(b)]


def test_every_block_is_run_or_says_why_not() -> None:
    """A block that is new is run by a test, or a reason is given."""
    found = [block for page in pages() for block in blocks(page)]
    assert len(found) > 70
    assert unlisted(found) == []
    new = Block("docs/cli.md", "", ("syncer list --new",))
    assert unlisted([new]) == ["docs/cli.md: syncer list --new"]


def test_the_list_holds_nothing_that_is_gone() -> None:
    """Each row is for one block, so that a new one hides behind none, and each named test exists."""
    lines = [(b.page, b.lines[0]) for page in pages() for b in blocks(page)]
    rows = [(page, line, how) for page, row in BLOCKS.items() for line, how in row.items()]
    belong = [
        (r[0], r[1], sum(p == r[0] and line.startswith(r[1]) for p, line in lines)) for r in rows
    ]
    assert [b for b in belong if b[2] != 1] == []
    named = [how for *_, how in rows if how.startswith("tests/")] + list(MARKED.values())
    assert [n for n in named if n.partition("::")[2] not in _tests_of(n.partition("::")[0])] == []


def test_a_cluster_is_given_every_block_that_it_is_to_run() -> None:
    """The blocks that are listed as typed on a real cluster are those that have a turn there."""
    found = [block for page in pages() for block in blocks(page)]
    listed = {(b.page, b.lines[0]) for b in found if ON_CLUSTER in fates(b)}
    turns = [
        [
            (b.page, b.lines[0])
            for b in found
            if b.page == turn.page and b.lines[0].startswith(turn.line)
        ]
        for turn in TURNS
    ]
    assert [len(blocks_of) for blocks_of in turns] == [1] * len(TURNS)
    assert {block for blocks_of in turns for block in blocks_of} == listed
    assert len(listed) > 15


def test_no_excuse_for_a_command_to_a_cluster() -> None:
    """A block that calls `helm` or `kubectl` is run by a test; no reason is good enough."""
    called = re.compile(r"(?:^|[|;&] *)(?:\$ )?(?:helm|kubectl) ", re.MULTILINE)
    asked = [b for page in pages() for b in blocks(page) if called.search(b.text)]
    assert len(asked) > 20
    excused = [b for b in asked if not all(how.startswith("tests/") for how in fates(b))]
    assert [f"{b.page}: {b.lines[0]}" for b in excused] == []


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
    "notifier": notifier.cli.main._parser(),
}


#: What the plugin takes itself, and what of its commands another program than `syncer` serves.
_PLUGIN: Final = ("-n", "--release", "--context", "--kubeconfig")
_SERVED: Final = dict.fromkeys(("check", "routes", "send"), "notifier")


def _meant(words: list[str]) -> tuple[str, list[str]]:
    """Return the program that serves a command, and its words; that of `kubectl ledger` among them."""
    program, *rest = words
    if words[:2] == ["kubectl", "ledger"]:
        rest = rest[1:]
        while rest and rest[0] in _PLUGIN:
            rest = rest[2:]
        program = _SERVED.get(rest[0], "syncer") if rest else program
    return program, rest


def test_our_commands_have_what_the_pages_use() -> None:
    """Every subcommand and every option of `syncer`, `notifier` and `kubectl ledger` on a page exists."""
    wrong, seen = [], 0
    for page, typed in commands():
        program, words = _meant(typed)
        if (
            program not in PARSERS
            or not words
            or not words[0].isalpha()
            or words[0] in {"COMMAND", "ui"}
        ):
            continue
        known = commands_of(PARSERS[program])
        if words[0] not in known:
            wrong.append(f"{page}: {program} {words[0]}")
            continue
        seen += 1
        parser = known[words[0]]
        if len(words) > 1:
            parser = commands_of(parser).get(words[1], parser)
        options = options_of(parser)
        used = [w.partition("=")[0] for w in words[1:] if re.match("--?[a-z]", w)]
        wrong += [f"{page}: {program} {words[0]} {o}" for o in used if o not in options]
    assert seen > 60
    assert wrong == []


_ASKS: Final = {"get", "annotate", "delete", "patch", "scale", "exec", "wait", "rollout", "create"}
_ACTS: Final = {"status", "undo", "restart", "-n", "generic"}


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
KUBERNAUT: Final = ("kubernaut", "kubernaut-system")
UPSTREAM: Final = ("kubernaut-system", "notification-controller")


def test_objects_are_called_as_the_release_calls_them() -> None:
    """A Deployment, pod or Lease on a page is one of a release that the pages install, where it is."""
    made = {UPSTREAM}
    for release, namespace in RELEASES:
        for found in objects(template("4", {}, release=release, namespace=namespace)):
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
    """Every `helm` command on a page is about a documented release, or about Kubernaut's."""
    seen, wrong = 0, []
    for page, words in commands():
        if (
            words[0] == "helm"
            and words[1] in {"install", "upgrade", "uninstall", "test"}
            and "-n" in words
        ):
            seen += 1
            release = next(w for w in words[2:] if not w.startswith("-"))
            if (release, words[words.index("-n") + 1]) not in (*RELEASES, KUBERNAUT):
                wrong.append(f"{page}: {' '.join(words)}")
    assert seen >= 5
    assert wrong == []
