"""
A checked routing file: an immutable tree of routes, the receivers, and the target of each channel name.

`parse` creates it. Every channel has one name, the replaced controller's, because existing logs and objects
contain these names. A name leads to one entry of one receiver. All receivers are included, even if no route
leads to them, because an earlier plan may still need them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from notifier.routing.mail import recipient_tag
from notifier.routing.models import (
    ChannelConfig,
    EmailConfig,
    LocalConfig,
    PagerDutyConfig,
    UrlConfig,
    WebhookConfig,
)
from notifier.templates.wording import Wording
from syncer.model.finding import Finding
from syncer.runtime.proxies import in_clear

CONSOLE_FALLBACK: Final = "console-fallback"
DEFAULT_CONSOLE_FALLBACK: Final = "default-console-fallback"
#: Kinds in the order in which a receiver's channels are named, each with its key in the file.
KINDS: Final = {
    kind: f"{kind}Configs"
    for kind in ("slack", "pagerduty", "teams", "email", "webhook", "console", "file", "log")
}
ALWAYS_QUALIFIED: Final = frozenset({"slack", "pagerduty", "teams"})
QUALIFIED_IF_NATIVE: Final = frozenset({"email", "webhook"})
#: Kinds with one channel for all receivers.
SHARED: Final = frozenset({"console", "file", "log"})


def named_credentials(config: ChannelConfig) -> tuple[tuple[str, str], ...]:
    """Return the credentials that an entry names, each with the key that names it."""
    named: tuple[tuple[str, str], ...] = ()
    if isinstance(config, (UrlConfig, PagerDutyConfig, EmailConfig)):
        named = ((config.credential_ref, "credentialRef"),)
    elif isinstance(config, WebhookConfig):
        named = (
            (config.credential_ref, "credentialRef"),
            (config.http_config.bearer_token_ref, "httpConfig.bearerTokenRef"),
            (config.http_config.basic_auth.password_ref, "httpConfig.basicAuth.passwordRef"),
            *((ref, f"signingSecretRefs[{n}]") for n, ref in enumerate(config.signing_secret_refs)),
        )
    return tuple((ref, key) for ref, key in named if ref)


@dataclass(frozen=True, slots=True)
class Target:
    """
    Where a channel name leads.

    Attributes:
        kind: `slack`, `pagerduty`, `teams`, `email`, `webhook`, `console`, `file` or `log`.
        receiver: Name of the receiver.
        index: Position in that receiver's list of the kind.
        config: The entry.
        wording: The receiver's templates for the kind, None without any.
    """

    kind: str
    receiver: str
    index: int
    config: ChannelConfig
    wording: Wording | None = None

    @property
    def tag(self) -> str:
        """Distinguishes the recipients of one receiver's e-mail; empty for other kinds."""
        return recipient_tag(self.config.to) if isinstance(self.config, EmailConfig) else ""

    @property
    def credential_refs(self) -> tuple[str, ...]:
        """Credentials that a send needs, in no particular order and without empty names."""
        return tuple(dict.fromkeys(ref for ref, _ in named_credentials(self.config)))


@dataclass(frozen=True, slots=True)
class Fallback:
    """
    The receiver that is used once a channel of another one has ended without success.

    Attributes:
        receiver: Name of the receiver that is used instead.
        after: Seconds after which it is used although attempts on the other one continue.
    """

    receiver: str
    after: float


@dataclass(frozen=True, slots=True)
class Receiver:
    """
    A receiver.

    Attributes:
        name: As routes and channels call it.
        entries: Its entries by kind; kinds that the file does not name are absent.
        namespaces: Names, or patterns with `*` and `?`, of the namespaces whose notifications it
            accepts; empty for all.
        unknown: Paths of its keys that nothing reads.
        path: Its path in the file.
        wordings: Its templates by kind.
        fallback: Used once one of its channels has ended without success, unless the route names another.
    """

    name: str
    entries: tuple[tuple[str, tuple[ChannelConfig, ...]], ...] = ()
    namespaces: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    path: str = ""
    wordings: Mapping[str, Wording] = field(default_factory=dict)
    fallback: Fallback | None = None

    def accepts(self, namespace: str) -> bool:
        """Whether it accepts notifications of a namespace."""
        return not self.namespaces or any(fnmatchcase(namespace, p) for p in self.namespaces)

    def channels(self, native: frozenset[str] = frozenset()) -> tuple[tuple[str, Target], ...]:
        """
        Name this receiver's channels, in upstream's order.

        Kinds with a credential have one channel per entry, the others one bare name. E-mail and
        webhook have bare names unless they are delivered natively: then the targets of two receivers
        must not share a name, and they are named like Slack's. Several e-mail recipients are
        distinguished by tags instead of indexes. A receiver without entries gets `console`.
        """
        named: list[tuple[str, Target]] = []
        for kind, configs in self.entries:
            usual = self.wordings.get(kind)
            targets = [
                Target(
                    kind, self.name, n, c,
                    (c.wording if isinstance(c, WebhookConfig) else None) or usual,
                )
                for n, c in enumerate(configs)
            ]  # fmt: skip
            if kind not in ALWAYS_QUALIFIED | (native & QUALIFIED_IF_NATIVE):
                named.append((kind, targets[0]))
                continue
            for target in targets:
                name = f"{kind}:{self.name}"
                if len(targets) > 1:
                    name += f":{target.tag or target.index}"
                if kind in ALWAYS_QUALIFIED and not target.credential_refs:
                    name = kind
                named.append((name, target))
        if not named:
            named.append(("console", Target("console", self.name, 0, LocalConfig())))
        return tuple(named)


@dataclass(frozen=True, slots=True)
class Pattern:
    """
    One `matchRe` pair; `regex` is compiled once and searches in linear time.

    In a file that is only examined, `regex` is None if the pattern is invalid.
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
        meant: Keys of its matches that look like typos, each with the attribute that is probably meant.
        path: Its path in the file.
        fallback: Used in place of its receiver's own fallback.
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
    """A place that names a credential: the kind of channel, the path and the line."""

    ref: str
    kind: str
    path: str
    line: int


@dataclass(frozen=True)
class RoutingConfig:
    """
    A checked routing file.

    Attributes:
        route: The root; its conditions are ignored.
        receivers: Receivers in the order of the file. If several have one name, the last is used.
        native: Kinds among `email` and `webhook` that are delivered here.
        findings: Keys with no effect or an unexpected one, with paths and lines.
        lines: Lines of the routes, and of the receivers and everything in them, by path.
        doubts: Number of keys that look like typos: nothing reads them, or no known attribute has the name.
    """

    route: Route
    receivers: tuple[Receiver, ...]
    native: frozenset[str] = frozenset()
    # Two files that differ only in comments are the same routing, although their lines differ.
    findings: tuple[Finding, ...] = field(default=(), compare=False)
    doubts: int = 0
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _by_name(self) -> dict[str, Receiver]:
        return {receiver.name: receiver for receiver in self.receivers}

    @cached_property
    def targets(self) -> Mapping[str, Target]:
        """
        The target of every channel name of all receivers, even of those that no route leads to.

        Always contains `console`, and both possible names of the first entry of a list.
        """
        targets: dict[str, Target] = {}
        others: dict[str, Target] = {}
        for receiver in self._by_name.values():
            for name, target in receiver.channels(self.native):
                targets.setdefault(name, target)
                # When a list grows from one entry or shrinks to one, its first channel gets another name.
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
        """The findings as log lines."""
        return tuple(finding.text for finding in self.findings)

    def receiver(self, name: str) -> Receiver | None:
        """Return the receiver with a name, None if there is none."""
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

    def without_credential(self) -> Iterator[tuple[str, str, int]]:
        """Yield the entries that need a credential and name none: receiver and place, path, line."""
        for receiver, kind, place, config in _entries(self.receivers):
            if kind in ALWAYS_QUALIFIED and not named_credentials(config):
                path = f"{receiver.path}.{place}"
                yield f"{quoted(receiver.name)} {place}", path, self.lines.get(path, 0)

    def refused_in_clear(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Describe the webhooks that cannot send, because the URL in their credential is http://."""
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
                # E-mail has one entry per recipient here, so it may have more entries than in the file.
                line = self.lines.get(path) or self.lines.get(receiver.path, 0)
                yield Reference(ref, kind, path, line)

    def credential_refs(self) -> tuple[str, ...]:
        """Return the credentials that must exist, in file order; kinds not delivered need none."""
        return tuple(dict.fromkeys(reference.ref for reference in self.references()))


def _entries(
    receivers: Iterable[Receiver],
) -> Iterator[tuple[Receiver, str, str, ChannelConfig]]:
    """Yield every entry of some receivers: the receiver, the kind, the place in the receiver, the entry."""
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
        # Lone surrogates cannot be encoded in UTF-8; they match as a question mark.
        return pattern.regex.search(value.encode("utf-8", "replace").decode()) is not None


def console_fallback(native: frozenset[str] = frozenset()) -> RoutingConfig:
    """
    Return the routing that applies while the file is empty: everything goes to the console.

    As upstream, its receiver counts as matched by a rule, not as the fallback.
    """
    console = Receiver(CONSOLE_FALLBACK, (("console", (LocalConfig(),)),))
    return RoutingConfig(Route(receiver=CONSOLE_FALLBACK), (console,), native)


def quoted(text: str) -> str:
    """Quote a text as Go's `%q` quotes ordinary texts."""
    return json.dumps(text, ensure_ascii=False)


def sends_in_clear(config: WebhookConfig, url: str) -> bool:
    """Whether a token or password would be sent in clear text without a setting that allows it."""
    http = config.http_config
    if http.credentials_over_http or not in_clear(url):
        return False
    known = http.bearer_token or http.bearer_token_ref or http.basic_auth.username
    return bool(known or urlsplit(url).username or urlsplit(url).password)
