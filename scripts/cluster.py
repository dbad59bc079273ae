#!/usr/bin/env python3
"""
A real cluster of one node on this machine: for the chart, for its tests, and for people.

    scripts/cluster up [--dir DIR] [--image ARCHIVE]...   start it, images imported
    scripts/cluster run [--dir DIR] COMMAND...            run kubectl, helm, bash ... inside it
    scripts/cluster load [--dir DIR] ARCHIVE...           import images into it
    scripts/cluster status [--dir DIR]                    say what runs; exit code 3 if something does not
    scripts/cluster down [--dir DIR]                      end it and remove everything that it left
    scripts/cluster test [--keep-images DIR]              follow the pages, then try to lose something

Needs root, on Linux. For example:

    scripts/image build && scripts/image redis
    scripts/cluster up --image dist/notification-ledger.oci.tar --image dist/redis.oci.tar
    scripts/cluster run kubectl get nodes

Design
------
Everything runs in namespaces of its own: network, mounts, processes. The network has no way out, so
no packet of a test leaves it; that is also why commands have to be run *inside* it. The first process
of the process namespace starts all others. When it ends, the kernel ends every process in the namespace,
containers included, and with the last process the mounts, interfaces and packet filters are gone: there
is little to clean up and nothing to forget. Only one folder and one control group outlive it. The keeper,
a process outside, waits for the end, whoever caused it, and removes both. `down` does the same if the
keeper was killed. `test` is connected to the keeper by a pipe, which closes however `test` ends.

etcd and kube-apiserver are those of `scripts/controlplane`; the programs of a node are built in the same
way from `scripts/go/node`. containerd, runc and the network plugins are the distribution's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts import image
from scripts.gobuild import Problem, Programs, cache, say
from tests.cluster.recipe import NODE, PAUSE_IMAGE, Cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
KUBERNETES = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
PROGRAMS = Programs(
    name="node",
    module=ROOT / "scripts" / "go" / "node",
    packages={
        **{program: f"k8s.io/kubernetes/cmd/{program}" for program in KUBERNETES},
        "coredns": "./coredns",
        "pause": "./pause",
    },
    cost="about 4 minutes on 2 cores after the control plane",
    sources=("coredns/main.go", "pause/main.go"),
)
GROUPS = Path("/sys/fs/cgroup")
#: Folders with the machine's own state; the programs inside find these empty.
HIDDEN = ("/run", "/var/lib", "/var/log")

START_DEADLINE = 180.0
STOP_DEADLINE = 60.0
TEST_DEADLINE = 25 * 60.0
#: Modules that `test` runs: the commands of the pages, then the mistreatment of the product.
TRIAL = "tests.cluster.run"
PARTS = ("tests.cluster.documented", TRIAL)
POLL = 0.1

NOT_RUNNING = 3  # exit code of `status`, as for services


# ------------------------------------------------------------------------------ the programs


def programs() -> dict[str, Path]:
    """Return the folder of each program; build the programs that are missing."""
    found = dict.fromkeys(("etcd", "kube-apiserver"), control_plane())
    found |= dict.fromkeys(PROGRAMS.packages, PROGRAMS.ensure())
    for program in ("containerd", "ctr", "runc"):
        path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if path is None:
            msg = f"no {program} on PATH; on Debian: apt-get install containerd runc"
            raise Problem(msg)
        found[program] = Path(path).parent
    return found


def control_plane() -> Path:
    """Return the folder with etcd and kube-apiserver."""
    done = subprocess.run(
        [ROOT / "scripts" / "controlplane", "assets"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        msg = "`scripts/controlplane assets` failed; it said why above"
        raise Problem(msg)
    return Path(done.stdout.strip())


def helm(major: str = "4") -> Path:
    """Return Helm."""
    done = subprocess.run(
        [ROOT / "scripts" / "helm", "path", major], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        msg = f"`scripts/helm path {major}` failed; it said why above"
        raise Problem(msg)
    return Path(done.stdout.strip())


def plugins() -> Path:
    """Return the folder of the network plugins."""
    for folder in (Path("/usr/lib/cni"), Path("/opt/cni/bin")):
        if (folder / "bridge").exists():
            return folder
    msg = "no network plugins; on Debian: apt-get install containernetworking-plugins"
    raise Problem(msg)


# ---------------------------------------------------------------------- first process inside


class First:
    """The first process of the namespaces: starts all programs, and ends when one of them ends."""

    def __init__(self, cluster: Cluster) -> None:
        """Take a cluster whose files have been written."""
        self.cluster = cluster
        self.commands = cluster.commands()
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.began = time.monotonic()
        self.times: dict[str, float] = {}

    def run(self, archives: Sequence[str]) -> int:
        """Start the cluster, report that it is ready, and watch its programs."""
        self._prepare()
        self._start("etcd", "containerd")
        self._start("kube-apiserver")
        self._wait("containerd", self.cluster.containerd_socket.exists)
        for archive in (str(self.cluster.folder / "pause.tar"), *archives):
            self._call(self.cluster.ctr("images", "import", archive), within=120)
        self._reached("images")
        self._wait("kube-apiserver", lambda: self._kubectl("get", "--raw", "/readyz"))
        self._reached("kube-apiserver")
        self._start("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns")
        objects = str(self.cluster.folder / "objects.json")
        self._wait("kube-apiserver", lambda: self._kubectl("apply", "-f", objects))
        self._wait("kubelet", self._node_is_ready)
        self._reached("node")
        (self.cluster.folder / "ready").write_text(json.dumps(self.times))
        return self._watch()

    def _prepare(self) -> None:
        """Hide the machine's own state and set up the network."""
        for folder in HIDDEN:
            self._call(["mount", "-t", "tmpfs", "tmpfs", folder])
        for command in self.cluster.network:
            self._call(command)
        for name, value in self.cluster.switches.items():
            Path("/proc/sys", name).write_text(value)

    def _start(self, *names: str) -> None:
        for name in names:
            with self.cluster.log(name).open("ab") as log:
                self.children[name] = subprocess.Popen(
                    self.commands[name],
                    cwd=self.cluster.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def _reached(self, what: str) -> None:
        self.times[what] = round(time.monotonic() - self.began, 1)

    def _kubectl(self, *arguments: str) -> bool:
        kubectl = self.cluster.programs["kubectl"] / "kubectl"
        done = subprocess.run(
            [
                kubectl,
                "--kubeconfig",
                self.cluster.kubeconfig(),
                "--request-timeout=5s",
                *arguments,
            ],
            capture_output=True,
            check=False,
            timeout=30,
        )
        self.answer = done.stdout.decode()
        return done.returncode == 0

    def _node_is_ready(self) -> bool:
        condition = '{.status.conditions[?(@.type=="Ready")].status}'
        found = self._kubectl("get", "node", NODE, "-o", f"jsonpath={condition}")
        return found and self.answer == "True"

    def _call(self, command: Sequence[str], *, within: float = 30) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=within)
        if done.returncode != 0:
            msg = f"`{' '.join(command)}` failed: {done.stderr.strip()[-1000:]}"
            raise Problem(msg)

    def _wait(self, program: str, condition: Callable[[], bool]) -> None:
        """Wait for a condition that a program must meet."""
        while not condition():
            for name, child in self.children.items():
                if child.poll() is not None:
                    raise Problem(self._ended(name, child.returncode))
            if time.monotonic() - self.began > START_DEADLINE:
                msg = f"{program} is not ready after {START_DEADLINE:.0f} s"
                raise Problem(msg)
            time.sleep(POLL)

    def _ended(self, name: str, code: int) -> str:
        tail = self.cluster.log(name).read_text(errors="replace")[-2_000:].strip()
        return f"{name} ended with {code}; its log ends with:\n{tail}"

    def _watch(self) -> int:
        """Reap all processes that end, containers' shims included; run no subprocess after this."""
        names = {child.pid: name for name, child in self.children.items()}
        while True:
            pid, code = os.waitpid(-1, 0)
            if pid in names:
                raise Problem(self._ended(names[pid], os.waitstatus_to_exitcode(code)))


def first(folder: Path, archives: Sequence[str]) -> int:
    """Run as the first process; if it fails, the reason is left in a file."""
    try:
        return First(load(folder)).run(archives)
    except (Problem, OSError, subprocess.SubprocessError) as error:
        (folder / "failed").write_text(str(error))
        return 1


# ------------------------------------------------------------------------------- the keeper


def keep(folder: Path, archives: Sequence[str], *, follow: Path | None) -> int:
    """
    Start the first process, wait for its end or for a reason to end it, and clean up.

    Args:
        folder: the cluster's folder, with its files written.
        archives: archives of images to import.
        follow: end when standard input ends, and remove this folder, which contains the cluster's.
    """
    cluster = load(folder)
    ended = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    group_make(cluster.group)
    # If this process or unshare ends for any reason, the processes that they started end as well.
    child = subprocess.Popen(
        [
            "setpriv", "--pdeathsig", "KILL",
            "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc",
            sys.executable, __file__, "_first", str(folder), *archives,
        ],
        stdin=subprocess.DEVNULL,
        stdout=(folder / "first.log").open("ab"),
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    while child.poll() is None and not ended:
        if not (folder / "first.pid").exists():
            children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
            with contextlib.suppress(OSError, ValueError):
                (pid,) = map(int, children.read_text().split())
                if b"_first" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    (folder / "first.pid").write_text(str(pid))
        # Without a pipe to follow, this is a sleep that a signal ends early.
        readable, _, _ = select.select([sys.stdin] if follow else [], [], [], POLL)
        if readable and not os.read(sys.stdin.fileno(), 1024):
            ended = True
    asked = ended
    clear(folder, cluster.group, child)
    if asked:
        shutil.rmtree(follow or folder, ignore_errors=True)
    return 0 if asked else 1


def clear(folder: Path, group: str, child: subprocess.Popen[bytes] | None = None) -> None:
    """End every process of a cluster, and remove its control group."""
    pid = inside(folder)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if child is not None:
        if not pid:
            child.kill()
        child.wait(STOP_DEADLINE)
    end = time.monotonic() + STOP_DEADLINE
    while inside(folder) and time.monotonic() < end:
        time.sleep(POLL)
    while not group_remove(group) and time.monotonic() < end:
        time.sleep(POLL)


def hierarchies() -> list[Path]:
    """Return the roots of the control groups: one, or one for each controller."""
    if (GROUPS / "cgroup.controllers").exists():
        return [GROUPS]
    return [path for path in sorted(GROUPS.iterdir()) if path.is_dir() and not path.is_symlink()]


def group_make(name: str) -> None:
    """Create the control group for all pods."""
    for root in hierarchies():
        group = root / name
        with contextlib.suppress(PermissionError):  # a read-only hierarchy
            group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # empty at first, so that nothing could run
            if (group / file).exists() and root != GROUPS:
                (group / file).write_text((root / file).read_text())


def group_remove(name: str) -> bool:
    """Remove a control group with all below it; False if something still runs in it."""
    gone = True
    for root in hierarchies():
        group = root / name
        for path in sorted(group.rglob("*/"), key=lambda p: len(p.parts), reverse=True):
            if path.is_dir():
                with contextlib.suppress(OSError):
                    path.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()
        gone = gone and not group.exists()
    return gone


# -------------------------------------------------------------------------- up, down, status


def store(cluster: Cluster) -> None:
    """Write the file that `load` reads."""
    places = {name: str(path) for name, path in cluster.programs.items()}
    document = {"programs": places, "cni": str(cluster.cni)}
    (cluster.folder / "cluster.json").write_text(json.dumps(document, indent=2))


def load(folder: Path) -> Cluster:
    """Return the cluster of a folder."""
    try:
        document = json.loads((folder / "cluster.json").read_text())
    except FileNotFoundError:
        msg = f"there is no cluster in {folder}; `scripts/cluster up` starts one"
        raise Problem(msg) from None
    places = {name: Path(path) for name, path in document["programs"].items()}
    return Cluster(folder, places, Path(document["cni"]))


def process_of(folder: Path, file: str, word: str) -> int:
    """Return the pid in a file if it still is this cluster's process, else 0."""
    try:
        pid = int((folder / file).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return 0
    ours = word.encode() in words and str(folder).encode() in words
    return pid if ours and runs(pid) else 0


def runs(pid: int) -> bool:
    """Whether a process has not ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def inside(folder: Path) -> int:
    """Return the pid of the first process inside, 0 if it does not run."""
    return process_of(folder, "first.pid", "_first")


@dataclass(frozen=True)
class Started:
    """A cluster that is ready, and its keeper."""

    cluster: Cluster
    keeper: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End it, and wait until everything is removed."""
        if self.keeper.stdin:
            self.keeper.stdin.close()
        else:
            self.keeper.terminate()
        self.keeper.wait(2 * STOP_DEADLINE)


def start(folder: Path, archives: Sequence[Path], *, follow: Path | None = None) -> Started:
    """Start a cluster in a new folder and wait until its node is ready; `follow` as for `keep`."""
    places = programs()
    if folder.exists() and any(folder.iterdir()):
        msg = f"{folder} is not empty; `scripts/cluster down` clears it, or choose another --dir"
        raise Problem(msg)
    for hidden in HIDDEN:
        if folder.is_relative_to(hidden):
            msg = f"{folder} is below {hidden}, which the programs do not see; choose another --dir"
            raise Problem(msg)
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder, places, plugins())
    cluster.write()
    store(cluster)
    pause(cluster)
    arguments = [str(archive.resolve()) for archive in archives]
    with (folder / "keeper.log").open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, __file__, "_keep", *(["--follow", str(follow)] if follow else []), str(folder),
             *arguments],
            stdin=subprocess.PIPE if follow else subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    (folder / "keeper.pid").write_text(str(keeper.pid))
    started = Started(cluster, keeper)
    try:
        await_ready(folder, keeper)
    except BaseException:
        with contextlib.suppress(Exception):
            started.stop()
        raise
    times = json.loads((folder / "ready").read_text())
    say("ready: " + ", ".join(f"{what} after {seconds} s" for what, seconds in times.items()))
    return started


def await_ready(folder: Path, keeper: subprocess.Popen[bytes]) -> None:
    """Wait until a cluster's node is ready."""
    end = time.monotonic() + START_DEADLINE + 10
    while not (folder / "ready").exists():
        if keeper.poll() is not None:
            failed = folder / "failed"
            why = failed.read_text() if failed.exists() else (folder / "first.log").read_text()
            msg = f"the cluster did not start: {why.strip()}\nIts logs are in {folder}"
            raise Problem(msg)
        if time.monotonic() > end:
            msg = f"the cluster is not ready in time; its logs are in {folder}"
            raise Problem(msg)
        time.sleep(POLL)


def pause(cluster: Cluster) -> None:
    """Pack the program that holds a pod's namespaces into an image."""
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary)
        shutil.copy(cluster.programs["pause"] / "pause", tree / "pause")
        image.archive_of(
            tree, PAUSE_IMAGE, {"Entrypoint": ["/pause"]}, cluster.folder / "pause.tar"
        )


def up(folder: Path, archives: Sequence[Path]) -> int:
    """Start a cluster that stays."""
    if inside(folder):
        say(f"it runs already, in {folder}")
        return 0
    start(folder, archives)
    say("`scripts/cluster run kubectl get pods -A` looks inside, `scripts/cluster down` ends it")
    return 0


def down(folder: Path) -> int:
    """End a cluster and remove what it left."""
    if not (folder / "cluster.json").exists():
        say(f"there is none in {folder}")
        return 0
    cluster = load(folder)
    keeper = process_of(folder, "keeper.pid", "_keep")
    if keeper:
        os.kill(keeper, signal.SIGTERM)
        end = time.monotonic() + STOP_DEADLINE
        # Not checked by its pid file, which is among the first files that it removes.
        while runs(keeper) and time.monotonic() < end:
            time.sleep(POLL)
    if folder.exists():  # there was no keeper
        clear(folder, cluster.group)
        shutil.rmtree(folder)
    say("ended, and everything of it removed")
    return 0


def status(folder: Path) -> int:
    """Print what runs."""
    pid = inside(folder)
    print(f"cluster: {folder} ({'running' if pid else 'not running'})")
    if not pid:
        return NOT_RUNNING
    ready = (folder / "ready").exists()
    print(f"ready: {'yes' if ready else 'not yet'}")
    done = run(folder, ["kubectl", "get", "nodes,pods", "--all-namespaces"])
    return done if ready else NOT_RUNNING


def run(folder: Path, command: Sequence[str]) -> int:
    """Run a command in the network of a cluster."""
    return subprocess.run(
        enter(folder, command), env=surroundings(load(folder)), check=False
    ).returncode


def enter(folder: Path, command: Sequence[str], *namespaces: str) -> list[str]:
    """Return a command line that runs a command inside."""
    pid = inside(folder)
    if not pid:
        msg = f"there is no running cluster in {folder}"
        raise Problem(msg)
    return ["nsenter", f"--target={pid}", *(namespaces or ("--net",)), "--", *command]


def surroundings(cluster: Cluster) -> dict[str, str]:
    """Return the environment of commands inside: kubectl and helm first, no proxies."""
    # Linked, because helm has its version in its name in the cache folder.
    tools = cluster.folder / "tools"
    if not tools.exists():
        tools.mkdir()
        for name, path in (
            ("kubectl", cluster.programs["kubectl"] / "kubectl"),
            ("helm", helm("4")),
            ("helm3", helm("3")),
        ):
            (tools / name).symlink_to(path)
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return {
        **kept,
        "PATH": f"{tools}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "KUBECONFIG": str(cluster.kubeconfig()),
    }


def load_images(folder: Path, archives: Sequence[Path]) -> int:
    """Import images into a running cluster."""
    for archive in archives:
        command = load(folder).ctr("images", "import", str(archive.resolve()))
        done = subprocess.run(enter(folder, command, "--net", "--mount", "--pid"), check=False)
        if done.returncode != 0:
            return 1
    return 0


# --------------------------------------------------------------------------------- the test


def test(images: Path | None, modules: Sequence[str], arguments: Sequence[str]) -> int:
    """Build the images, start a cluster, and run the tests on it."""
    with tempfile.TemporaryDirectory(
        prefix="cluster-test-", ignore_cleanup_errors=True
    ) as temporary:  # the keeper removes it as well, if this process cannot
        built = images or Path(temporary) / "images"
        wanted = {
            "current": ["build", "--reference", "localhost/notification-ledger:current"],
            "raised": [
                "build",
                "--successor",
                "--reference",
                "localhost/notification-ledger:raised",
            ],
            "redis": ["redis", "--reference", "localhost/redis:test"],
        }
        for name, command in wanted.items():
            archive = built / f"{name}.oci.tar"
            if not archive.exists():
                subprocess.run([ROOT / "scripts" / "image", *command, "--out", archive], check=True)
        folder = Path(temporary) / "cluster"
        started = start(
            folder, [built / f"{name}.oci.tar" for name in wanted], follow=Path(temporary)
        )
        try:
            # The first module runs the commands of the pages from outside, the second runs inside.
            for module in modules:
                command = [sys.executable, "-m", module, "--folder", str(folder)]
                if module == TRIAL:
                    command = enter(folder, [*command, *arguments])
                done = subprocess.run(
                    ["setpriv", "--pdeathsig", "KILL", *command],
                    cwd=ROOT,
                    env=surroundings(started.cluster) if module == TRIAL else None,
                    check=False,
                    timeout=TEST_DEADLINE,
                )
                if done.returncode != 0:
                    return done.returncode
            return 0
        except subprocess.TimeoutExpired:
            say(f"a test took more than {TEST_DEADLINE:.0f} s")
            return 1
        finally:
            started.stop()


def main() -> int:
    """Read the command line and do it."""
    options = parser().parse_args()
    if options.command != "_keep":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return dispatch(options)
    except (Problem, OSError, subprocess.SubprocessError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 128 + signal.SIGINT


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    usage, _, _ = (__doc__ or "").partition("\nDesign\n")
    out = argparse.ArgumentParser(
        prog="cluster", description=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = out.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in ("up", "run", "load", "status", "down"):
        command = commands.add_parser(name)
        command.add_argument("--dir", type=Path, help="its folder (default: in the cache folder)")
        if name == "up":
            command.add_argument("--image", type=Path, action="append", default=[])
        if name == "load":
            command.add_argument("archives", type=Path, nargs="+", metavar="ARCHIVE")
        if name == "run":
            command.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    tests = commands.add_parser("test")
    tests.add_argument("--keep-images", type=Path, metavar="DIR", help="use and keep images there")
    tests.add_argument("--part", choices=PARTS, help="only this one")
    tests.add_argument("arguments", nargs="*", help=f"for {TRIAL}, after `--`")
    keeper = commands.add_parser("_keep")
    keeper.add_argument("--follow", type=Path)
    for hidden in (keeper, commands.add_parser("_first")):
        hidden.add_argument("folder", type=Path)
        hidden.add_argument("archives", nargs="*")
    return out


def dispatch(options: argparse.Namespace) -> int:
    """Do what the command line says."""
    if options.command == "_keep":
        return keep(options.folder, options.archives, follow=options.follow)
    if options.command == "_first":
        return first(options.folder, options.archives)
    if options.command == "test":
        images = options.keep_images.resolve() if options.keep_images else None
        return test(images, [options.part] if options.part else PARTS, options.arguments)
    folder = (options.dir or cache() / "cluster").resolve()
    if options.command == "up":
        return up(folder, options.image)
    if options.command == "load":
        return load_images(folder, options.archives)
    if options.command == "run":
        return run(folder, options.words)
    return {"status": status, "down": down}[options.command](folder)


if __name__ == "__main__":
    sys.exit(main())
