"""
A checked routing file: a frozen tree of routes, the receivers, and where each channel name leads.

`parse` makes it. A channel name leads to one entry of one receiver (`targets`), of all receivers,
matched or not, because a plan that was frozen earlier may still need them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from notifier.routing.models import ChannelConfig, LocalConfig, WebhookConfig
from notifier.routing.receivers import (
    ALWAYS_QUALIFIED,
    KINDS,
    QUALIFIED_IF_NATIVE,
    Fallback,
    Receiver,
    Target,
    named_credentials,
)
from syncer.model.finding import Finding
from syncer.runtime.proxies import in_clear

CONSOLE_FALLBACK: Final = "console-fallback"
DEFAULT_CONSOLE_FALLBACK: Final = "default-console-fallback"


@dataclass(frozen=True, slots=True)
class Pattern:
    """
    One `matchRe` pair; `regex` is compiled once and searches in linear time.

    It is None for a pattern that is none, in a file that is only examined.
    """

    key: str
    text: str
    regex: Any = field(compare=False)


@dataclass(frozen=True, slots=True)
class Route:
    """
    A node of the tree; `goes_on` is `continue` in the file.

    Attributes:
        unknown: Paths of its keys that nothing reads.
        meant: Keys of its matches that look like a known attribute: as written, what is meant.
        path: Where it stands in the file.
        fallback: Used where its receiver cannot be reached, in place of the receiver's own.
    """

    receiver: str = ""
    match: tuple[tuple[str, str], ...] = ()
    match_re: tuple[Pattern, ...] = ()
    goes_on: bool = False
    routes: tuple[Route, ...] = ()
    unknown: tuple[str, ...] = ()
    meant: tuple[tuple[str, str], ...] = ()
    path: str = ""
    fallback: Fallback | None = None


class Reference(NamedTuple):
    """A place that names a credential: of a kind of channel, at a path, in a line."""

    ref: str
    kind: str
    path: str
    line: int


@dataclass(frozen=True)
class RoutingConfig:
    """
    A checked routing file.

    Attributes:
        route: The root; its match is not looked at.
        receivers: As in the file. Of equal names the last one is used.
        native: Kinds among `email` and `webhook` that are delivered here.
        findings: What has no effect or an unexpected one, with paths and lines.
        lines: Where routes, receivers and what is in those stand, by path.
        doubts: How many keys look like a slip: nothing reads them, or they match no known attribute.
    """

    route: Route
    receivers: tuple[Receiver, ...]
    native: frozenset[str] = frozenset()
    # Two files that differ by a remark are the same routing, although their lines differ.
    findings: tuple[Finding, ...] = field(default=(), compare=False)
    doubts: int = 0
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _by_name(self) -> dict[str, Receiver]:
        return {receiver.name: receiver for receiver in self.receivers}

    @cached_property
    def targets(self) -> Mapping[str, Target]:
        """
        Where every channel name leads, of all receivers, matched or not.

        Holds `console` always, and for the first entry of a list both of its possible names.
        """
        targets: dict[str, Target] = {}
        others: dict[str, Target] = {}
        for receiver in self._by_name.values():
            for name, target in receiver.channels(self.native):
                targets.setdefault(name, target)
                # A list that grew or shrank to one entry renames its first channel.
                short = f"{target.kind}:{receiver.name}"
                if target.tag and name.startswith(short):
                    others[f"{short}:{target.tag}"] = target
                    others.setdefault(short, target)
                elif target.index == 0 and name in {short, f"{short}:0"}:
                    others[short] = others[f"{short}:0"] = target
        for name, target in others.items():
            targets.setdefault(name, target)
        targets.setdefault("console", Target("console", DEFAULT_CONSOLE_FALLBACK, 0, LocalConfig()))
        return MappingProxyType(targets)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The findings as lines of a log."""
        return tuple(finding.text for finding in self.findings)

    def receiver(self, name: str) -> Receiver | None:
        """Return the receiver of a name, None for an unknown one."""
        return self._by_name.get(name)

    def denial(self, channel: str, namespace: str) -> str | None:
        """
        Return why a namespace may not use a channel, None if it may.

        The bare channels (console, file, log) are the controller's own and belong to no receiver.
        """
        target = self.targets.get(channel)
        receiver = self._by_name.get(target.receiver) if target and channel != target.kind else None
        if receiver is None or receiver.accepts(namespace):
            return None
        return (
            f"receiver {quoted(receiver.name)} takes no notifications of namespace {namespace}"
            " (allowedNamespaces)"
        )

    def missing_refs(self) -> tuple[str, ...]:
        """Entries that need a credential and name none, as `receiver "<r>" slackConfigs[<i>]`."""
        return tuple(
            f"receiver {name}" + (f" (line {line})" if line else "")
            for name, _, line in self.without_credential()
        )

    def without_credential(self) -> Iterator[tuple[str, str, int]]:
        """Yield the entries that need a credential and name none: receiver and place, path, line."""
        for receiver, kind, place, config in _entries(self.receivers):
            if kind in ALWAYS_QUALIFIED and not named_credentials(config):
                path = f"{receiver.path}.{place}"
                yield f"{quoted(receiver.name)} {place}", path, self.lines.get(path, 0)

    def refused_in_clear(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Webhooks by which nothing can be sent, since their URL among the credentials is http://."""
        if "webhook" not in self.native:
            return ()
        return tuple(
            f"receiver {quoted(receiver.name)} {place}: its URL, a credential, is http://, so"
            " all that it is to get fails: token or password would be sent over http://; use https://, or"
            " set credentialsOverHttp: true"
            for receiver, _, place, config in _entries(self._by_name.values())
            if isinstance(config, WebhookConfig)
            and sends_in_clear(config, values.get(config.credential_ref, ""))
        )

    def references(self) -> Iterator[Reference]:
        """Yield every place that names a credential, in the order of `credential_refs`."""
        for receiver, kind, place, config in _entries(self.receivers):
            if kind in QUALIFIED_IF_NATIVE - self.native:
                continue
            for ref, key in named_credentials(config):
                path = f"{receiver.path}.{place}.{key}"
                # Entries of mail are one for each recipient, and may be more than the file has.
                line = self.lines.get(path) or self.lines.get(receiver.path, 0)
                yield Reference(ref, kind, path, line)

    def credential_refs(self) -> tuple[str, ...]:
        """Credentials that must exist, in file order; those of kinds not delivered are not."""
        return tuple(dict.fromkeys(reference.ref for reference in self.references()))


def _entries(
    receivers: Iterable[Receiver],
) -> Iterator[tuple[Receiver, str, str, ChannelConfig]]:
    """Yield every entry of some receivers: its receiver, its kind, its place in there, what it holds."""
    for receiver in receivers:
        for kind, configs in receiver.entries:
            for n, config in enumerate(configs):
                yield receiver, kind, f"{KINDS[kind]}[{n}]", config


def routes_of(root: Route) -> Iterator[Route]:
    """Yield all routes of a tree, level by level."""
    waiting = deque([root])
    while waiting:
        route = waiting.popleft()
        yield route
        waiting.extend(route.routes)


def found(pattern: Pattern, value: str) -> bool:
    """Whether a pattern is found in a value."""
    try:
        return pattern.regex.search(value) is not None
    except UnicodeEncodeError:
        # Lone surrogates have no UTF-8; they match as a question mark.
        return pattern.regex.search(value.encode("utf-8", "replace").decode()) is not None


def console_fallback(native: frozenset[str] = frozenset()) -> RoutingConfig:
    """
    Return the routing that holds while the file is empty: everything goes to the console.

    Its receiver counts as matched by a rule, not as the fallback, as upstream.
    """
    console = Receiver(CONSOLE_FALLBACK, (("console", (LocalConfig(),)),))
    return RoutingConfig(Route(receiver=CONSOLE_FALLBACK), (console,), native)


def quoted(text: str) -> str:
    """Quote a text as Go's `%q` does for ordinary ones."""
    return json.dumps(text, ensure_ascii=False)


def sends_in_clear(config: WebhookConfig, url: str) -> bool:
    """Whether a token or password would be sent in clear text, and no setting allows it."""
    http = config.http_config
    if http.credentials_over_http or not in_clear(url):
        return False
    known = http.bearer_token or http.bearer_token_ref or http.basic_auth.username
    return bool(known or urlsplit(url).username or urlsplit(url).password)
