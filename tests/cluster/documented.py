"""
The commands of the pages, typed as they are printed, on a real Helm install.

`scripts/cluster test` runs this on its cluster of one node, before the product is treated badly there. Each
block that `tests/docs/blocks.py` has run here is given to bash with nothing changed but the reader's own
words, which `Turn.words` lists. The folder looks like a checkout. `kubectl`, `helm`, `syncer` and
`notifier` reach into the cluster's network, the rest is the machine's. The images lie on the node under the
names that the pages and the chart give them, so that an installation needs no registry.

What a page says in prose between two blocks, such as scaling to 0, is done in Python. What a block is for
is checked after it, and the end of an installation is that nothing of it is left.

`TURNS` holds the blocks in the order in which they are run. A block that is to be run here and is not among
them fails `tests/docs/test_commands.py`, which needs no cluster.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.cluster import enter, load, surroundings
from scripts.gobuild import cache
from tests.cluster.laptop import from_a_laptop, shows
from tests.cluster.reader import LEDGER, NAME, WAIT, Reader, StepFailed
from tests.docs.blocks import ROOT, Block, blocks
from tests.servers.definition import CRD_NAME

#: The images of the node, and what the pages and the chart's default values call them.
IMAGES: Final = {
    "localhost/notification-ledger:current": "localhost/notification-ledger:0.1.0",
    "localhost/redis:test": "docker.io/valkey/valkey:9.1",
}
#: The reader's registry: its name is all that is asked of it, the image being on the node.
REGISTRY: Final = {"REGISTRY": "localhost"}
#: The chart of a release, which `scripts/release --dry-run` installs from a registry.
RELEASE: Final = {
    "oci://ghcr.io/OWNER/charts/notification-ledger --version 0.1.0": (
        "charts/notification-ledger --set image.repository=localhost/notification-ledger"
    )
}
#: Programs that talk to the cluster.
_INSIDE: Final = ("kubectl", "helm", "syncer", "notifier", "chromium")

INSTALL: Final = "docs/install.md"
RECOVERY: Final = "docs/recovery.md"


# -- before and after the blocks ------------------------------------------------------------------


def installed(reader: Reader, _said: str) -> None:
    """Both replicas are ready."""
    reader.ready(LEDGER)


def stays(reader: Reader, _said: str) -> None:
    """What is to stay after an uninstallation stays, and nothing runs."""
    reader.wait(lambda: not reader.get("pods", "-n", LEDGER)["items"], "all pods are gone")
    reader.kubectl("get", "crd", CRD_NAME)
    reader.kubectl("get", "-n", LEDGER, "secret", f"{NAME}-redis-auth")
    for kind in ("pvc", "lease"):
        if not reader.get(kind, "-n", LEDGER)["items"]:
            raise StepFailed(f"no {kind} is left")


def gone(reader: Reader, _said: str) -> None:
    """Nothing is left of the installation."""
    reader.nothing_left()


def first_is_sent(reader: Reader, _said: str) -> None:
    """The notification of the page is sent, and its message is where the page says."""
    reader.sent(LEDGER, "first")
    logs = [
        reader.kubectl("logs", "-n", LEDGER, pod["metadata"]["name"])
        for pod in reader.pods(LEDGER, "controller")
    ]
    if not any("The first notification." in text for text in logs):
        raise StepFailed("the message is in no pod's log")


def holds(*patterns: str) -> Callable[[Reader, str], None]:
    """Return a check that what was printed matches each of these."""
    return lambda _, said: shows(said, *patterns)


def routed(reader: Reader, said: str) -> None:
    """The routing of the page is in force: a new notification goes to its receiver."""
    installed(reader, said)
    sample = Block(INSTALL, "", ("kubectl apply -f - <<'EOF'",))
    text = next(b.text for b in blocks(ROOT / INSTALL) if sample.lines[0] in b.text)
    manifest = text.partition("<<'EOF'\n")[2].partition("\nEOF")[0]
    reader.type(
        f"kubectl apply -f - <<'EOF'\n{manifest.replace('name: first', 'name: second')}\nEOF\n"
    )

    def attempted() -> bool:
        status = reader.get("notificationrequest", "-n", LEDGER, "second").get("status", {})
        return "slack:everyday" in {a["channel"] for a in status.get("deliveryAttempts", [])}

    reader.wait(attempted, "an attempt at slack:everyday is on record")


def old_cluster_gone(reader: Reader) -> None:
    """The controller has ended, its settings and objects are at hand; then the objects go."""
    reader.settings(LEDGER, "OLD.yaml")
    reader.scaled(LEDGER, 0)
    reader.type("kubectl get notificationrequests -A -o json > objects.json")
    old = reader.get("notificationrequest", "-n", LEDGER, "first")
    reader.kept["uid"] = old["metadata"]["uid"]
    reader.kubectl("delete", "notificationrequest", "-n", LEDGER, "--all")


def moved(reader: Reader, _said: str) -> None:
    """The objects are there again, new ones; with their statuses they are not sent again."""
    found = reader.get("notificationrequest", "-n", LEDGER, "first")
    if found["metadata"]["uid"] == reader.kept["uid"] or found["status"]["phase"] != "Sent":
        raise StepFailed(f"it is not a new object with its old status: {found}")
    reader.type("syncer verify --repair --moved --by somebody --config OLD.yaml")
    reader.scaled(LEDGER, 2)
    reader.sent(LEDGER, "first")


def again(reader: Reader, said: str) -> None:
    """What was sent by the installation before is not sent again."""
    installed(reader, said)
    reader.sent(LEDGER, "first")


def uninstalled(reader: Reader) -> None:
    """The release goes."""
    reader.type("helm uninstall ledger -n notifications --wait")
    stays(reader, "")


def without_rights(reader: Reader, _said: str) -> None:
    """The values of the section install the rest into one namespace."""
    values = values_of(INSTALL, "rbac: {scope: namespaced")
    (reader.folder / "namespaced.yaml").write_text(values)
    reader.type(
        "helm install ledger charts/notification-ledger -n notifications --wait"
        " --set image.repository=localhost/notification-ledger -f namespaced.yaml --skip-crds"
    )
    reader.ready(LEDGER)
    found = reader.get("clusterroles,clusterrolebindings")["items"]
    if any("ledger" in i["metadata"]["name"] for i in found):
        raise StepFailed("there are rights beyond the namespace")
    reader.type("helm uninstall ledger -n notifications --wait")
    reader.kubectl("delete", "namespace", LEDGER, within=WAIT)
    reader.kubectl("delete", "crd", CRD_NAME, "deliveryholds.notification-ledger.dev")


def own_cache(reader: Reader) -> None:
    """A cache folder of the reader's own, that has what was built: another cluster lies there."""
    own = reader.folder / "cache"
    own.mkdir()
    for entry in cache().iterdir():
        if entry.name != "cluster":
            (own / entry.name).symlink_to(entry)
    reader.env = {**os.environ, "NOTIFICATION_LEDGER_CACHE": str(own)}


def second_cluster(reader: Reader, said: str) -> None:
    """The cluster of the page has its node, and the release is installed; then it goes."""
    reader.type("scripts/cluster down")
    shows(said, r"^node1 +Ready", r"^STATUS: deployed")


def plugged(reader: Reader, said: str) -> None:
    """The plugin has answered, and does so for somebody with a kubeconfig alone."""
    shows(
        said, r"notifications/first .*Sent", r"^NEXT +nothing: ", r"notifications/first .* success"
    )
    from_a_laptop(reader)


def let_go(reader: Reader, said: str) -> None:
    """A test notification has arrived; the one that was held says why, and is sent once it is let go."""
    shows(
        said,
        r"^created notifications/",
        r"^NEXT +nothing: .*held: .* says: to see why it waits",
    )
    reader.sent(LEDGER, "held")


def values_of(page: str, line: str) -> str:
    """Return the YAML block of a page that has this line."""
    found = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    (text,) = (f for f in found if line in f)
    return str(text)


def with_values(reader: Reader) -> None:
    """The values file of the page."""
    values = values_of(INSTALL, "repository: REGISTRY").replace("REGISTRY", REGISTRY["REGISTRY"])
    (reader.folder / "values.yaml").write_text(values)


# -- the blocks -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """
    A block and what belongs to it.

    Attributes:
        page: where it is printed.
        line: how its first line begins, as in the list of blocks.
        check: what holds afterwards; it gets what the block has printed.
        before: what the page has in prose before it.
        words: the reader's own words in the place of the page's.
    """

    page: str
    line: str
    check: Callable[[Reader, str], None]
    before: Callable[[Reader], None] | None = None
    words: Mapping[str, str] = field(default_factory=dict)


TURNS: Final = (
    Turn("README.md", "helm install ledger oci://", installed, words=RELEASE),
    Turn(INSTALL, "helm uninstall ledger -n notifications --wait", stays),
    Turn(INSTALL, "kubectl -n notifications delete pvc,secret ", gone),
    Turn("charts/notification-ledger/README.md", "helm install ledger ", installed, words=REGISTRY),
    Turn(INSTALL, "helm test ledger -n notifications", first_is_sent),
    Turn(
        "docs/cli.md", "install syncer/kubectl-ledger ~/.local/bin/", plugged,
        words={"~/.local/bin/": "tools/"},
    ),
    Turn(INSTALL, "kubectl ledger send --receiver default-console --wait", let_go),
    Turn("docs/cli.md", "kubectl -n notifications exec deploy/", holds(r"notifications/first .*Sent")),
    Turn(
        "docs/image.md", "kubectl -n notifications exec deployment/", holds("log and status agree"),
        words={"NAMESPACE/NAME": "notifications/first"},
    ),
    Turn(
        "docs/redis.md", "$ kubectl get notificationrequest ", holds(r"^[0-9a-f]{8}-[-0-9a-f]{27}$"),
        words={"$ kubectl": "kubectl", "NAMESPACE NAME": "notifications first"},
    ),
    Turn(
        INSTALL, "kubectl -n notifications exec ledger-notification-ledger-redis-0 ",
        holds("used_memory:"),
    ),
    Turn(INSTALL, "kubectl -n notifications create secret generic slack ", routed, before=with_values),
    Turn(RECOVERY, "jq ", moved, before=old_cluster_gone),
    Turn(INSTALL, "helm upgrade ledger charts/notification-ledger -n notifications ", again),
    Turn(INSTALL, "helm install ledger charts/", again, before=uninstalled, words=REGISTRY),
    Turn(INSTALL, "helm install ledger oci://", again, before=uninstalled, words=RELEASE),
    Turn(INSTALL, "kubectl -n notifications delete pvc,secret ", gone, before=uninstalled),
    Turn(INSTALL, "notifier show crd | kubectl apply --server-side -f -", without_rights),
    Turn("docs/cluster.md", "scripts/image build && scripts/image redis", second_cluster, before=own_cache),
)  # fmt: skip


def run_block(reader: Reader, turn: Turn) -> None:
    """Type a block as it is printed, and check what it is for."""
    (block,) = (b for b in blocks(ROOT / turn.page) if b.lines[0].startswith(turn.line))
    text = block.text
    for printed, own in turn.words.items():
        if printed not in text:
            raise StepFailed(f"the block has no {printed!r} any more")
        text = text.replace(printed, own)
    if turn.before is not None:
        turn.before(reader)
    turn.check(reader, reader.type(text))


# -- the frame ------------------------------------------------------------------------------------


def prepare(cluster_folder: Path, folder: Path) -> Reader:
    """Give the node its images and the reader a folder and a PATH."""
    cluster = load(cluster_folder)
    for present, printed in IMAGES.items():
        command = cluster.ctr("images", "tag", "--force", present, printed)
        subprocess.run(
            enter(cluster_folder, command, "--net", "--mount", "--pid"),
            check=True, timeout=60, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    (ROOT / "dist").mkdir(exist_ok=True)  # pictures are kept there
    for name in ("charts", "dist", "syncer"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("scripts", "tools"):
        (folder / name).mkdir()
    for name in (
        "cluster",
        "image",
        "plugin",
    ):  # no links: the scripts would take the folder for their checkout
        _program(folder / "scripts" / name, [str(ROOT / "scripts" / name)])
    env = surroundings(cluster)
    for name in _INSIDE:
        program = shutil.which(name, path=env["PATH"])
        if program is None:
            raise StepFailed(f"there is no {name} on PATH")
        _program(folder / "tools" / name, enter(cluster_folder, [program]))
    return Reader(folder, {**env, "PATH": f"{folder / 'tools'}:{env['PATH']}"})


def _program(file: Path, words: list[str]) -> None:
    file.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    file.chmod(0o755)


def run(cluster_folder: Path) -> int:
    """Follow the pages; returns the exit code."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="documented-") as temporary:
        reader = prepare(cluster_folder, Path(temporary))
        for turn in TURNS:
            start = time.monotonic()
            try:
                run_block(reader, turn)
            except (StepFailed, subprocess.TimeoutExpired) as error:
                print(f"\nFAILED at {turn.page}: {turn.line}: {error}", flush=True)
                return 1
            print(
                f"{turn.page + ': ' + turn.line:<112.112} {time.monotonic() - start:6.1f} s",
                flush=True,
            )
    print(f"\n{len(TURNS)} blocks as printed; {time.monotonic() - began:.0f} s in all", flush=True)
    return 0


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="tests.cluster.documented", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of a running cluster")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return run(parser.parse_args().folder)


if __name__ == "__main__":
    sys.exit(main())
