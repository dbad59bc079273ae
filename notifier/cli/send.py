"""
`notifier send`: chooses a test notification, creates it, and watches it until it has ended.

It is an ordinary NotificationRequest with a label. The controller that watches its namespace delivers
it, and its status shows the result; Redis is not needed. If the answer to the create is lost, the
object is looked up by its name, which is random, so a second one is never created.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from notifier.cli.files import Loaded, files_of, load
from notifier.cli.sample import (
    attributes_for,
    attributes_of_manifest,
    doubtful,
    manifest_of,
    parse_attributes,
)
from notifier.routing.config import RoutingConfig, quoted
from notifier.routing.tree import resolve
from notifier.settings import Settings
from syncer.cli.access import kubeconfig_of, operator_name
from syncer.cli.exits import DIFFERENT, OK, Refused
from syncer.cli.output import write_answer, write_json, write_lines, write_remark
from syncer.cli.times import seconds_of
from syncer.kube.client import KubeClient
from syncer.kube.notification_requests import list_path, object_path, readable
from syncer.model.attempt import Attempt, AttemptState, FailureClass
from syncer.model.errors import (
    DENIED,
    Ambiguous,
    ConfigError,
    Gone,
    PortError,
    Unauthorised,
)
from syncer.model.resource import SENT, NotificationRequest
from syncer.model.times import format_time
from syncer.rules.text import plain
from syncer.settings import LABEL, own_namespace

#: Exit code if the notification has not ended within the timeout.
NOT_ENDED: Final = 7
#: Seconds for one call, and between two calls for the status.
_CALL: Final = 10.0
_LOOK: Final = 0.5
#: Calls for the status that may fail in a row.
_PATIENCE: Final = 20


@dataclass(frozen=True, slots=True)
class Chosen:
    """The notification to create, and who gets it; `receivers` is None if the routing is not known."""

    manifest: dict[str, Any]
    receivers: tuple[str, ...] | None
    channels: tuple[str, ...] = ()
    denials: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """`namespace/name`."""
        meta = self.manifest["metadata"]
        return f"{meta['namespace']}/{meta['name']}"


def run(options: argparse.Namespace) -> int:
    """Send a test notification; returns the exit code."""
    # The command itself reports everything that matters to its user.
    logging.getLogger("ledger").addHandler(logging.NullHandler())
    return asyncio.run(send(options))


async def send(options: argparse.Namespace) -> int:
    """Choose a notification, create it and follow it; returns the exit code."""
    timeout = seconds_of(options.timeout, "--timeout")
    chosen = choose(options, now=time.time(), token=secrets.token_hex(3))
    text = "its receivers are unknown here: name the routing file with --routing"
    if chosen.receivers is not None:
        text = f"receivers: {', '.join(chosen.receivers)}; channels: {', '.join(chosen.channels)}"
    for line in (text, *chosen.denials):
        write_remark(line, "notifier")
    if not options.dry_run:
        return await _create_and_follow(options, chosen, timeout)
    if options.output == "json":
        sys.stdout.write(json.dumps(chosen.manifest, indent=2) + "\n")
    else:
        sys.stdout.write(yaml.safe_dump(chosen.manifest, sort_keys=False, allow_unicode=False))
    return OK


# -- choosing -------------------------------------------------------------------------------------


def choose(options: argparse.Namespace, *, now: float, token: str) -> Chosen:
    """
    Choose the notification to create.

    Args:
        options: Options of the command.
        now: Unix seconds.
        token: Makes the notification's name unique.

    Raises:
        ConfigError: the usage is wrong, or a file cannot be used.
        Refused: the controller does not watch the namespace, or no notification reaches the requested
            receiver alone.
    """
    given = parse_attributes(options.attributes)
    for key in ("namespace", "type", "priority"):
        wanted = getattr(options, key)
        if wanted and given.setdefault(key, wanted) != wanted:
            raise ConfigError(f"--{key} and --attributes {key}=… contradict each other")
    if not (options.receiver or options.attributes):
        raise ConfigError(
            "name a receiver (--receiver NAME) or attributes (--attributes KEY=VALUE,…)"
        )
    for doubt in doubtful(given):
        write_remark(doubt, "notifier")
    settings, routing = _loaded(options)
    if options.receiver:
        if routing is None:
            raise ConfigError(
                "--receiver needs the routing file to choose attributes: --routing FILE"
            )
        given = _reaching(routing, options.receiver, given)
    if "namespace" not in given:
        home = own_namespace()
        if not home:
            raise ConfigError("name the namespace to create it in: -n NAMESPACE")
        given["namespace"] = home
    if not LABEL.fullmatch(given["namespace"]):
        raise ConfigError(f"{given['namespace']!r} is not a valid name of a namespace")
    _must_be_watched(settings, given["namespace"])
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    manifest = manifest_of(
        given,
        name=f"test-{stamp}-{token}",
        subject=options.subject,
        body=options.body
        or f"Sent by {operator_name(None)} with `notifier send` to see that it arrives. Nothing is wrong.",
    )
    if routing is None:
        return Chosen(manifest, None)
    found = resolve(routing, attributes_of_manifest(manifest))
    if options.receiver and found.receivers != (options.receiver,):
        others = ", ".join(found.receivers)
        raise Refused(
            f"receiver {quoted(options.receiver)} is not the only one; the notification reaches {others}"
        )
    denials = (routing.denial(channel, given["namespace"]) for channel in found.channels)
    return Chosen(
        manifest, found.receivers, found.channels, tuple(d for d in denials if d is not None)
    )


def _reaching(config: RoutingConfig, receiver: str, given: Mapping[str, str]) -> dict[str, str]:
    """Choose attributes, with the pod's own namespace unless routes or the receiver need another."""
    home = own_namespace()
    if home and "namespace" not in given:
        with contextlib.suppress(Refused):
            return attributes_for(config, receiver, {**given, "namespace": home})
    return attributes_for(config, receiver, given)


def _loaded(options: argparse.Namespace) -> Loaded:
    try:
        files = files_of(options)
    except ConfigError:
        return None, None
    return load(files)


def _must_be_watched(settings: Settings | None, namespace: str) -> None:
    if settings is None:
        return
    watched = settings.controller.namespaces
    if watched and watched != "*" and namespace not in watched:
        raise Refused(
            f"nobody would send it: the controller does not watch namespace {namespace}, but"
            f" {', '.join(watched)} (controller.namespaces)"
        )


# -- creating and following -----------------------------------------------------------------------


async def _create_and_follow(options: argparse.Namespace, chosen: Chosen, timeout: float) -> int:
    kubeconfig, source = kubeconfig_of(options.kubeconfig)
    try:
        kube = await KubeClient.connect(
            kubeconfig, user_agent="notifier send", context=options.context or ""
        )
    except ConfigError as error:
        raise ConfigError(f"{error} ({source})") from None
    async with kube:
        try:
            made = await _create(kube, chosen.manifest)
        except Unauthorised as error:
            if error.reason == DENIED:
                raise
            raise Unauthorised(
                f"{error}: {source} may not create NotificationRequests; with --dry-run the manifest is"
                " printed, for `kubectl create -f -`"
            ) from None
        except (PortError, TimeoutError) as error:
            error.add_note(f"the API server at {kube.address}, by {source}")
            raise
        if options.wait and options.output == "json":
            return await _follow(options, kube, chosen, timeout)
        meta, receivers = made.get("metadata") or {}, chosen.receivers
        document = {key: meta.get(key) for key in ("namespace", "name", "uid")}
        document["receivers"] = None if receivers is None else list(receivers)
        write_answer(document, [f"created {chosen.key}"], as_json=options.output == "json")
        return await _follow(options, kube, chosen, timeout) if options.wait else OK


async def _create(kube: KubeClient, manifest: dict[str, Any]) -> dict[str, Any]:
    meta = manifest["metadata"]
    try:
        return await kube.request(
            "POST", list_path(meta["namespace"]), body=manifest, timeout=_CALL
        )
    except Ambiguous as error:
        try:
            return await kube.request(
                "GET", object_path(meta["namespace"], meta["name"]), timeout=_CALL
            )
        except Gone:
            raise error from None


async def _follow(
    options: argparse.Namespace, kube: KubeClient, chosen: Chosen, timeout: float
) -> int:
    meta = chosen.manifest["metadata"]
    shown: dict[str, AttemptState] = {}
    failures = 0
    deadline = asyncio.get_running_loop().time() + timeout
    seen: NotificationRequest | None = None
    while True:
        try:
            path = object_path(meta["namespace"], meta["name"])
            seen = readable(await kube.request("GET", path, timeout=_CALL))
            failures = 0
        except Gone:
            raise Refused(f"{chosen.key} was deleted before it ended") from None
        except Unauthorised:
            raise
        except PortError:
            failures += 1
            over = asyncio.get_running_loop().time() >= deadline
            if failures > _PATIENCE or (seen is None and over):
                raise
        if seen is not None:
            for attempt in seen.status.attempts:
                if shown.get(attempt.id) is not attempt.state:
                    shown[attempt.id] = attempt.state
                    if options.output == "text":
                        write_lines([plain(line_of(attempt, seen))])
            if seen.status.terminal:
                said = [plain(f"{seen.status.phase}: {seen.status.message}")]
                write_answer(_document(seen), said, as_json=options.output == "json")
                return OK if seen.status.phase == SENT else DIFFERENT
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return _not_ended(options, chosen, seen, timeout)
        await asyncio.sleep(min(_LOOK, left))


def line_of(attempt: Attempt, seen: NotificationRequest) -> str:
    """Return one line about an attempt, with the time of the next one if there is one."""
    moment = format_time(attempt.ended or attempt.started, millis=False).partition("T")[2]
    text = f"{moment or '-':<10}{attempt.channel}  attempt {attempt.number}  {attempt.state.word}"
    if attempt.state is not AttemptState.SUCCESS:
        good = " for good" if attempt.failure is FailureClass.PERMANENT else ""
        text += f"{good}: {attempt.error}" if attempt.error else good
        retry = next((c.next_retry for c in seen.status.channels if c.name == attempt.channel), 0)
        if retry and not good:
            text += f" (next at {format_time(retry, millis=False).partition('T')[2]})"
    elif attempt.duration:
        text += f" in {attempt.duration / 1000:.2g} s"
    return text


def _not_ended(
    options: argparse.Namespace, chosen: Chosen, seen: NotificationRequest | None, timeout: float
) -> int:
    if options.output == "json" and seen is not None:
        write_json(_document(seen))
    state = "no controller has picked it up"
    if seen is not None and seen.status.phase:
        state = f"it is {seen.status.phase}: {seen.status.message}".removesuffix(": ")
    write_remark(f"{chosen.key} has not ended within {timeout:g} s: {state}", "notifier")
    return NOT_ENDED


def _document(seen: NotificationRequest) -> dict[str, Any]:
    status = seen.status
    return {
        "namespace": seen.namespace, "name": seen.name, "uid": seen.uid,
        "phase": status.phase or None, "reason": status.reason, "message": status.message,
        "attempts": [
            {
                "channel": a.channel, "attempt": a.number, "status": a.state.word,
                "class": a.failure.value if a.failure else None, "error": a.error or None,
                "timestamp": format_time(a.ended or a.started) or None,
                "durationSeconds": a.duration / 1000,
            }
            for a in status.attempts
        ],
    }  # fmt: skip
