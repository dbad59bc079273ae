"""
`kubectl ledger send`: a test notification, chosen in the pod and created by whoever asks for it.

The pod has routing and credentials at hand, so it chooses what reaches the receiver (a dry run of
`notifier send`). It has no right to create notifications, and nobody should gain one by `exec`: the
manifest comes back here, and kubectl creates it with the rights of this user, who also watches what
becomes of it. The pod is believed no further than that: nothing but a NotificationRequest is created, since
whoever serves the pod could otherwise have this user create anything.

A create whose answer was lost is looked up by its name, which is random, so that there is never a second
one; and a look that is not answered is repeated until the time is over.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from syncer.kubectl.client import Kubectl
from syncer.kubectl.exits import ABSENT, AWAY, NOT_ASKED, REFUSED, USAGE, PluginError
from syncer.kubectl.release import Pod, Release
from syncer.kubectl.terminal import UNSAFE
from syncer.model.carried import expand

_RESOURCE: Final = "notificationrequests.kubernaut.ai"
_GROUP: Final = "kubernaut.ai/"
_KIND: Final = "NotificationRequest"
#: Seconds for `--wait` unless it is said, and between two looks.
_TIMEOUT: Final = "2m"
_PAUSE: Final = 1.0
_ENDED: Final = ("Sent", "PartiallySent", "Failed")
#: Exit codes, as those of `notifier send`.
_SENT: Final = 0
_OTHERWISE: Final = 1
_NOT_ENDED: Final = 7
_SPAN: Final = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s?)?")


def send(
    kubectl: Kubectl,
    release: Release,
    pod: Pod,
    rest: Sequence[str],
    *,
    by: str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """
    Choose, create and, with `--wait`, follow; returns the exit code.

    Args:
        kubectl: The program.
        release: Whose routing chooses.
        pod: Of the release.
        rest: Words behind the command's name.
        by: Who sends it, for the body of the message.
        clock: Seconds.
        sleep: Lets time pass.

    Raises:
        PluginError: the pod did not answer with a manifest, or the usage is wrong.
    """
    words, wait, timeout, form = _own(rest)
    if not any(word.partition("=")[0] == "--body" for word in words):
        why = "to see that it arrives. Nothing is wrong."
        words += ["--body", f"Sent by {by} with `kubectl ledger send` {why}"]
    chosen = ["notifier", "send", "--dry-run", "-o", "json", *words]
    code, said = kubectl.answer(release, pod, chosen)
    if code != 0:
        return code
    code, meta = _create(kubectl, _manifest(said))
    if code != 0:
        return code
    key = f"{meta.get('namespace')}/{meta.get('name')}"
    if form == "json" and not wait:
        sys.stdout.write(json.dumps(_named(meta)) + "\n")
    elif form == "text":
        _show(f"created {key}")
    return _follow(kubectl, meta, timeout, form, clock=clock, sleep=sleep) if wait else _SENT


def _manifest(said: str) -> dict[str, Any]:
    """Return what the pod has chosen, if it is a notification."""
    try:
        found = json.loads(said)
    except ValueError:
        found = None
    if not (
        isinstance(found, dict)
        and str(found.get("apiVersion")).startswith(_GROUP)
        and found.get("kind") == _KIND
        and isinstance(found.get("metadata"), dict)
        and all(isinstance(found["metadata"].get(part), str) for part in ("namespace", "name"))
    ):
        raise PluginError(_OTHERWISE, f"the pod did not answer with a {_KIND}; nothing is created")
    return found


def _create(kubectl: Kubectl, manifest: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Create it; returns the exit code, and what names the object."""
    named = manifest["metadata"]
    try:
        code, made = kubectl.local(["create", "-f", "-", "-o", "json"], json.dumps(manifest))
    except PluginError as error:
        sys.stderr.write(f"kubectl ledger: {error}\n")
        code, made = error.code, ""
    if code == 0:
        return 0, _read(made).get("metadata") or {}
    if code == NOT_ASKED:
        # Perhaps the answer alone was lost.
        there, made = _look(kubectl, named, quiet=True)
        meta = (_read(made).get("metadata") or {}) if there == 0 else {}
        if meta.get("name") == named["name"]:
            return 0, meta
    return NOT_ASKED if code == ABSENT else code, {}


def _look(kubectl: Kubectl, meta: dict[str, Any], *, quiet: bool) -> tuple[int, str]:
    """Get the object; returns the exit code, and the answer."""
    name, namespace = str(meta.get("name")), str(meta.get("namespace"))
    try:
        return kubectl.local(
            ["get", f"{_RESOURCE}/{name}", "-n", namespace, "-o", "json"], quiet=quiet
        )
    except PluginError as error:
        if not quiet:
            sys.stderr.write(f"kubectl ledger: {error}\n")
        return error.code, ""


def _own(rest: Sequence[str]) -> tuple[list[str], bool, float, str]:
    """Remove the options that apply here: whether to wait, how long, and the output format."""
    words: list[str] = []
    wait, timeout, form, left = False, _TIMEOUT, "text", list(rest)
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=")
        if word[:2] == "-o" and len(word) > 2 and not equals:
            name, equals, value = "-o", "=", word[2:]
        if word == "--wait":
            wait = True
        elif name in {"--timeout", "-o", "--output"}:
            if not equals and not left:
                raise PluginError(USAGE, f"{name} needs a value")
            value = value if equals else left.pop(0)
            timeout, form = (value, form) if name == "--timeout" else (timeout, value)
        else:
            words.append(word)
    span = _SPAN.fullmatch(timeout)
    if span is None or not timeout or form not in {"text", "json"}:
        raise PluginError(
            USAGE, "--timeout must be a time such as 90s or 2m, -o must be text or json"
        )
    hours, minutes, seconds = (int(part or 0) for part in span.groups())
    return words, wait, 3600.0 * hours + 60.0 * minutes + seconds, form


def _follow(
    kubectl: Kubectl,
    meta: dict[str, Any],
    timeout: float,
    form: str,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> int:
    deadline, away = clock() + timeout, False
    shown: dict[str, object] = {}
    while True:
        code, said = _look(kubectl, meta, quiet=away)
        if code == ABSENT:
            raise PluginError(_OTHERWISE, "it was deleted before it ended")
        if code == REFUSED:
            return code
        if away := code != 0:
            if clock() >= deadline:
                return AWAY
            sleep(_PAUSE)
            continue
        status = expand(_read(said).get("status") or {})
        attempts = status.get("deliveryAttempts") or []
        if form == "text":
            _show_new(attempts, shown)
        phase = str(status.get("phase") or "")
        over = phase in _ENDED
        if over or clock() >= deadline:
            if form == "json":
                sys.stdout.write(json.dumps({**_named(meta), "status": status}) + "\n")
            elif over:
                _show(f"{phase}: {status.get('message') or ''}")
            if over:
                return _SENT if phase == "Sent" else _OTHERWISE
            sys.stderr.write(
                f"kubectl ledger: it has not ended within {timeout:g} s: it is {phase or 'not picked up'}\n"
            )
            return _NOT_ENDED
        sleep(_PAUSE)


def _show_new(attempts: list[dict[str, Any]], shown: dict[str, object]) -> None:
    """Show each attempt once for each state; older ones may be folded, and unknown ones become known."""
    for number, attempt in enumerate(attempts):
        key, state = str(attempt.get("id") or number), attempt.get("status")
        if shown.get(key) != state:
            shown[key] = state
            why = f": {attempt['error']}" if attempt.get("error") else ""
            _show(f"{attempt.get('channel')}  attempt {attempt.get('attempt')}  {state}{why}")


def _named(meta: dict[str, Any]) -> dict[str, Any]:
    """Return what names an object."""
    return {name: meta.get(name) for name in ("namespace", "name", "uid")}


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise PluginError(_OTHERWISE, "kubectl did not answer in JSON") from None
    return found if isinstance(found, dict) else {}


def _show(text: str) -> None:
    sys.stdout.write(UNSAFE.sub(" ", " ".join(text.splitlines())) + "\n")
    sys.stdout.flush()
