#!/usr/bin/env python3
"""
This controller in place of Kubernaut's, and Kubernaut's own tests on it.

    scripts/kubernaut test [--version v1.5.7|main]     replace, upgrade, go back and replace again, under
        [--helm 3|4] [image|chart]                     load: in each of the two ways, with each Helm
    scripts/kubernaut suites [--version v1.5.7|main]   Kubernaut's end-to-end and integration suites
        [e2e|integration] [-- -ginkgo.focus=...]

Kubernaut's sources come from a Git repository: --source DIR, else the folder that KUBERNAUT_SOURCE names,
else a clone of the public repository, made once. Needs root, on Linux.

Design
------
Nothing of Kubernaut is kept in this tree. The needed files of a version are exported into the cache folder,
under the name of its commit, and its controller is built there, once.

Builds have the machine's network. Everything after them runs in namespaces of its own, as in
`scripts/cluster`: addresses, ports and paths are then those of a pod, and everything ends when the first
process of the namespaces ends. The tests themselves are in `tests/kubernaut`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts import cluster
from scripts.gobuild import BUILD_FLAGS, Problem, Programs, cache, find_go, locked, run_visibly, say

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = "https://github.com/jordigilh/kubernaut"
VERSIONS = ("v1.5.7", "main")
WAYS = ("image", "chart")
MAJORS = ("3", "4")
#: Paths that are exported; the rest are documents and pictures.
PATHS = (
    "api",
    "charts",
    "cmd",
    "config",
    "go.mod",
    "go.sum",
    "internal",
    "migrations",
    "pkg",
    "test",
)
KUBECTL = Programs(
    name="kubectl",
    module=ROOT / "scripts" / "go" / "node",
    packages={"kubectl": "k8s.io/kubernetes/cmd/kubectl"},
    cost="a minute on 2 cores after the control plane",
)
SUITES = {"e2e": "test/e2e/notification", "integration": "test/integration/notification"}
FETCH_DEADLINE = 20 * 60.0


class Upstream:
    """One version of Kubernaut: its tree, and the programs built from it."""

    def __init__(self, repository: Path, version: str) -> None:
        """Find the commit of a version."""
        self.version = version
        self._repository = repository
        for name in (
            f"refs/tags/{version}",
            f"refs/heads/{version}",
            f"refs/remotes/origin/{version}",
        ):
            done = self._git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
            if done.returncode == 0:
                break
        else:
            msg = f"{repository} has no {version}"
            raise Problem(msg)
        self.commit = done.stdout.decode().strip()
        self.folder = cache() / f"kubernaut-{self.commit[:16]}"
        self.tree = self.folder / "tree"

    def _git(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        command = ["git", "-C", str(self._repository), *words]
        return subprocess.run(command, capture_output=True, check=False, timeout=FETCH_DEADLINE)

    def export(self) -> None:
        """Export its tree into the cache folder, if it is not there yet."""
        if self.tree.exists():
            return
        with locked(self.folder.name, "another export", FETCH_DEADLINE):
            if self.tree.exists():
                return
            part = self.folder / "part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            archive = self._git("archive", self.commit, "--", *PATHS)
            if archive.returncode != 0:
                msg = f"git archive of {self.version}: {archive.stderr.decode()[-500:]}"
                raise Problem(msg)
            command = ["tar", "-x", "-C", str(part)]
            subprocess.run(command, input=archive.stdout, check=True, timeout=FETCH_DEADLINE)
            part.rename(self.tree)

    def controller(self) -> Path:
        """Return its controller, built once."""
        program = self.folder / "notification"
        self._go("build", "./cmd/notification", program)
        return program

    def suite(self, name: str) -> Path:
        """Return a suite as a program, with our set-up in place of its own."""
        replaced = overlay(self.tree, SUITES[name])
        digest = hashlib.sha256("".join(replaced.values()).encode()).hexdigest()[:16]
        program = self.folder / f"{name}-{digest}.test"
        with tempfile.TemporaryDirectory() as folder:
            files = {}
            for n, (path, text) in enumerate(replaced.items()):
                file = Path(folder, f"{n}.go")
                file.write_text(text)
                files[path] = str(file)
            listed = Path(folder, "overlay.json")
            listed.write_text(json.dumps({"Replace": files}))
            self._go("test", f"./{SUITES[name]}", program, "-c", f"-overlay={listed}")
        return program

    def _go(self, verb: str, package: str, program: Path, *flags: str) -> None:
        if program.exists():
            return
        with locked(self.folder.name, "another build", FETCH_DEADLINE):
            if program.exists():
                return
            go = find_go(self.tree)
            say(f"building {package} of {self.version} once, about 3 minutes on 2 cores")
            part = program.with_suffix(".part")
            run_visibly(
                ["nice", str(go), verb, *flags, *BUILD_FLAGS, "-ldflags=-s -w", "-o", str(part), package],
                what=package,
                log=self.folder / "build.log",
                cwd=self.tree,
                env={
                    "HOME": str(Path.home()), **os.environ,
                    "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOWORK": "off",
                },
                deadline=FETCH_DEADLINE,
                hint="It needs the Go module proxy. Run it again: what was compiled is kept.",
            )  # fmt: skip
            part.rename(program)


def repository(given: Path | None) -> Path:
    """Return the Git repository of Kubernaut."""
    named = given or (
        Path(os.environ["KUBERNAUT_SOURCE"]) if os.environ.get("KUBERNAUT_SOURCE") else None
    )
    if named is not None:
        if not named.is_dir():
            msg = f"--source or KUBERNAUT_SOURCE names {named}, which is no folder"
            raise Problem(msg)
        return named.resolve()
    folder = cache() / "kubernaut.git"
    with locked(folder.name, "another clone", FETCH_DEADLINE):
        if not folder.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            wanted = [f"refs/tags/{v}:refs/tags/{v}" for v in VERSIONS if v != "main"]
            say(f"fetching {', '.join(VERSIONS)} from {PUBLIC} once")
            subprocess.run(["git", "init", "--quiet", "--bare", part], check=True)
            done = subprocess.run(
                ["git", "-C", part, "fetch", "--quiet", "--depth", "1", PUBLIC, *wanted,
                 "refs/heads/main:refs/heads/main"],
                check=False, timeout=FETCH_DEADLINE,
            )  # fmt: skip
            if done.returncode != 0:
                msg = f"{PUBLIC} cannot be fetched; name a Git repository of it with --source"
                raise Problem(msg)
            part.rename(folder)
    return folder


def main() -> int:
    """Read the command line and do it."""
    usage, _, _ = (__doc__ or "").partition("\nDesign\n")
    parser = argparse.ArgumentParser(
        prog="kubernaut", description=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (("test", WAYS), ("suites", SUITES)):
        command = commands.add_parser(name)
        command.add_argument("--version", choices=VERSIONS, help="default: each in turn")
        command.add_argument("--source", type=Path, metavar="DIR")
        command.add_argument("what", nargs="?", choices=what, help="default: each in turn")
        if name == "test":
            command.add_argument("--helm", choices=MAJORS, help="default: each in turn")
        else:
            command.add_argument("arguments", nargs="*", help="after `--`: for the suite")
    options = parser.parse_args()
    try:
        found = repository(options.source)
        return max(
            [run(options, Upstream(found, v)) for v in VERSIONS if options.version in (None, v)]
        )
    except (Problem, OSError, subprocess.SubprocessError) as error:
        say(str(error))
        return 1


def run(options: argparse.Namespace, upstream: Upstream) -> int:
    """Build everything that is missing, then run a test in namespaces of its own."""
    if ROOT.is_relative_to("/tmp"):  # noqa: S108 (the folder itself)
        msg = f"{ROOT} is in /tmp, which pods have of their own: use a checkout elsewhere"
        raise Problem(msg)
    upstream.export()
    given: dict[str, object] = {
        "version": upstream.version,
        "tree": str(upstream.tree),
        "assets": str(cluster.control_plane()),
        "kubectl": str(KUBECTL.ensure() / "kubectl"),
        "helm": str(cluster.helm("4")),
    }
    if options.command == "suites":
        given["arguments"] = options.arguments
        return max(
            [
                inside("tests.kubernaut.suites", {**given, "suite": s, "program": str(upstream.suite(s))})
                for s in SUITES if options.what in (None, s)
            ]
        )  # fmt: skip
    # Each test upgrades to the newer version.
    both = {v: Upstream(repository(options.source), v) for v in VERSIONS}
    for each in both.values():
        each.export()
    given["controllers"] = {v: str(each.controller()) for v, each in both.items()}
    given["newer"] = str(both["main"].tree)
    return max(
        [
            inside("tests.kubernaut.run", {**given, "way": w, "major": m, "helm": str(cluster.helm(m))})
            for m in MAJORS if options.helm in (None, m)
            for w in WAYS if options.what in (None, w)
        ]
    )  # fmt: skip


def overlay(tree: Path, folder: str) -> dict[str, str]:
    """
    Return the files of a suite with our set-up, by path; Kubernaut's compiles, but is never called.

    The rest of the file with Kubernaut's set-up, receivers and helpers of the tests, stays.
    """
    (suite,) = (tree / folder).glob("*suite_test.go")
    text = suite.read_text()
    for name in ("SynchronizedBeforeSuite", "SynchronizedAfterSuite", "ReportAfterEach"):
        text = text.replace(f"var _ = {name}(", f"var _ = instead{name}(")
    ours = ROOT / "tests" / "kubernaut" / "suites"
    replaced = {str(suite): text}
    name = Path(folder).parent.name
    replaced[str(suite.with_name("ledger_test.go"))] = (ours / f"{name}.go").read_text()
    if name == "e2e":  # their manifest of the controller is not exported
        path = tree / "test" / "infrastructure" / "ledger.go"
        replaced[str(path)] = (ours / "infrastructure.go").read_text()
    return replaced


def inside(module: str, given: dict[str, object]) -> int:
    """Run a module in namespaces of its own, which end with it."""
    return subprocess.run(
        [
            "setpriv", "--pdeathsig", "KILL",
            "unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child=KILL", "--mount-proc",
            sys.executable, "-m", module, json.dumps(given),
        ],
        cwd=ROOT, check=False, stdin=subprocess.DEVNULL,
    ).returncode  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
