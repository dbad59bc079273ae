"""
`kubectl ledger` on a laptop: kubectl, the plugin, a browser, and a kubeconfig that may do nothing else.

The account has the rights that `docs/cli.md` and `docs/explorer.md` name, and no more, so what works here
works with these. The commands run in the cluster's network, since nothing else reaches its API server; the
browser too, where the forwarded port is. What it showed last is kept as `dist/explorer.png`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playwright.sync_api import Error, Page, expect, sync_playwright

from tests.cluster.reader import LEDGER, WAIT, Reader, StepFailed

#: What the pages say is needed: to run commands, to create a test notification, to see the explorer.
RIGHTS: Final = (
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods/exec", "pods/portforward"], "verbs": ["create"]},
    {"apiGroups": ["kubernaut.ai"], "resources": ["notificationrequests"], "verbs": ["create", "get"]},
)  # fmt: skip
NAME: Final = "laptop"
#: Milliseconds for what the page is to show; a person is not quicker.
_SHOWN: Final = 30_000


def from_a_laptop(reader: Reader) -> None:
    """
    Send, ask, follow and look, by an account with these rights alone.

    Raises:
        StepFailed: something did not come about.
    """
    laptop = _laptop(reader)
    may = laptop.type(
        "kubectl auth can-i get secrets || true; kubectl auth can-i list pods -A || true"
    )
    if may.split() != ["no", "no"]:
        raise StepFailed(f"the account may more than it should: {may}")
    began = time.monotonic()
    key = _send(laptop)
    shows(laptop.type(f"kubectl ledger explain {key}"), r"^NEXT +nothing: ", r"success")
    print(f"  sent and explained from a laptop in {time.monotonic() - began:.1f} s", flush=True)
    _follow(laptop, key)
    _look(laptop, reader)


def _laptop(reader: Reader) -> Reader:
    """Return somebody with a home of its own, and a kubeconfig."""
    home = reader.folder / NAME
    home.mkdir()
    meta = {"name": NAME, "namespace": LEDGER}
    group = "rbac.authorization.k8s.io"
    objects = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": list(RIGHTS)},
        {
            "apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": meta,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
    ]  # fmt: skip
    (home / "rights.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    )
    reader.kubectl("apply", "-f", str(home / "rights.json"))
    token = reader.kubectl("create", "token", NAME, "-n", LEDGER, "--duration=1h").strip()
    config = json.loads(Path(reader.env["KUBECONFIG"]).read_text())
    authority = Path(config["clusters"][0]["cluster"].pop("certificate-authority")).read_bytes()
    config["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(
        authority
    ).decode()
    config["users"][0]["user"] = {"token": token}
    config["contexts"][0]["context"]["namespace"] = LEDGER
    kubeconfig = home / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(json.dumps(config))
    browser = home / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {home}/opened\n')
    browser.chmod(0o755)
    return Reader(
        home,
        {
            "HOME": str(home), "PATH": f"{reader.folder}/tools:/usr/bin:/bin", "TERM": "dumb",
            "KUBECONFIG": str(kubeconfig), "BROWSER": str(browser),
        },
    )  # fmt: skip


def _send(laptop: Reader) -> str:
    """Send a test notification, and wait for its end; returns `namespace/name`."""
    said = laptop.type("kubectl ledger send --receiver default-console --wait")
    shows(said, r"^created notifications/", r"success", r"^NEXT +nothing: ")
    return re.findall(r"^created (\S+)$", said, re.MULTILINE)[0]  # type: ignore[no-any-return]  # by the pattern


def shows(said: str, *patterns: str) -> None:
    """Check that what was printed matches each of these."""
    missing = [p for p in patterns if not re.search(p, said, re.MULTILINE)]
    if missing:
        raise StepFailed(f"{missing} is not in what was printed:\n{said[-2000:]}")


@contextmanager
def _running(laptop: Reader, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a command that a person ends, with its output in a file; killed at the end if it still runs."""
    out = laptop.folder / f"{words[0]}.txt"
    terminal, theirs = pty.openpty()
    with (
        out.open("wb") as file,
        subprocess.Popen(
            # A run in the background ignores what Ctrl-C sends, and so would its children.
            ["env", "--default-signal=INT", "kubectl", "ledger", *words],
            cwd=laptop.folder, env=laptop.env,
            stdin=theirs, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        ) as plugin,
    ):  # fmt: skip
        os.close(theirs)
        try:
            yield plugin, out
        finally:
            os.close(terminal)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(plugin.pid, signal.SIGKILL)


def _interrupt(plugin: subprocess.Popen[bytes], out: Path) -> str:
    """End it as Ctrl-C does; returns all that it said."""
    os.killpg(plugin.pid, signal.SIGINT)
    code = plugin.wait(WAIT)
    said = out.read_text()
    if code not in {130, -signal.SIGINT}:
        raise StepFailed(f"exit code {code} after an interrupt:\n{said[-2000:]}")
    return said


def _follow(laptop: Reader, earlier: str) -> None:
    """A new attempt shows as it happens; however the command ends, nothing of it stays in the pod."""
    words = ("tail", "-f", "--since", "10m")
    with _running(laptop, *words) as (plugin, out):
        laptop.wait(lambda: earlier in out.read_text(), "the past is shown")
        later = _send(laptop)
        laptop.wait(lambda: later in out.read_text(), "what happens is shown")
        _interrupt(plugin, out)
    laptop.wait(lambda: not _following(), "nothing is left of a command that was interrupted")
    with _running(laptop, *words) as (plugin, _):
        laptop.wait(_following, "the command follows in the pod")
        os.killpg(plugin.pid, signal.SIGKILL)
    laptop.wait(lambda: not _following(), "nothing is left of a plugin that was killed")


def _following() -> bool:
    """Whether a command follows in a pod."""
    # Not kubectl, which has the same words behind its own.
    words = [command.split(b"\0") for command in _commands()]
    return any({b"tail", b"--until-stdin-closes"} <= {*w} and b"exec" not in w for w in words)


def _commands() -> Iterator[bytes]:
    """Yield the command line of every process of the machine, those in pods among them."""
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit():
                yield (process / "cmdline").read_bytes()


def _look(laptop: Reader, reader: Reader) -> None:
    """The page at which the browser was opened shows what there is and what comes, whatever its pod."""
    opened, faults = laptop.folder / "opened", list[str]()
    with _running(laptop, "ui") as (_, out):
        laptop.wait(opened.exists, "a browser is opened")
        address = opened.read_text().strip()
        shows(out.read_text(), rf"^{re.escape(address)}$")
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=reader.folder / "tools" / "chromium")
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(_SHOWN)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on(
                "request",
                lambda r: (
                    None if r.url.startswith(address) else faults.append(f"asked for {r.url}")
                ),
            )
            try:
                _read(page, address, laptop)
            except (AssertionError, Error) as error:
                raise StepFailed(
                    f"in the browser: {error}; the plugin said:\n{out.read_text()}"
                ) from None
            finally:
                page.screenshot(path=reader.folder / "dist" / "explorer.png")
                browser.close()
    if faults:
        raise StepFailed(f"the page complains: {faults}")


def _read(page: Page, address: str, laptop: Reader) -> None:
    """Read the list, to which the first page leads, and see a notification arrive on it."""
    state, began = page.locator("#state"), time.monotonic()
    page.goto(address)
    page.get_by_role("link", name="Notifications", exact=True).click()
    _lists(page, lambda: f"{LEDGER}/first")
    print(f"  the list is there after {time.monotonic() - began:.1f} s", flush=True)
    expect(state).to_have_text("live", timeout=_SHOWN)
    _lists(page, lambda: _send(laptop))
    page.get_by_role("link", name=f"{LEDGER}/first", exact=True).click()
    expect(page.locator(".next")).to_contain_text("nothing: ", timeout=_SHOWN)
    page.go_back()
    expect(state).to_have_text("live", timeout=_SHOWN)


def _lists(page: Page, name: Callable[[], str]) -> None:
    """Wait until the list has a row of a notification."""
    expect(page.get_by_role("link", name=name(), exact=True)).to_be_visible(timeout=_SHOWN)
