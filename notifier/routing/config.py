"""
The routing file: text in, frozen tree of routes and receivers out.

The format is the replaced controller's, and so are its errors: each text begins exactly as it was
worded there, then says where. Nothing is constructed by YAML itself. The text is composed into
nodes, which know their lines, and every value is read by what is wanted there: a `match` value
`5` is the text "5", as it is for Go. References to anchors and merge keys only name such values,
tags are refused, the number of nodes read is bounded: an alias bomb is an error.

Some things that look as if they worked do not, and stay so for compatibility: `enabled: false`, a
receiver that configures nothing (it delivers to the console), a matching route without a receiver,
patterns that match anywhere in a value. They are accepted with a warning that names the path.
Unknown keys are warnings too. A key that nothing reads may be a slip that sends notifications elsewhere
than meant (`discordConfigs`, `match: {prioritty: ...}`): such warnings are doubts, which are counted, and
routes and receivers remember theirs for the notifications concerned.

Every channel has one name, and a name leads to one entry of one receiver (`channel_targets`); it
knows all receivers, matched or not, because a plan that was frozen earlier may still need them.

No text made here quotes a value other than receiver names, keys and patterns: the file may hold
tokens.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import re2
import yaml

from notifier.routing.attributes import likely_meant
from notifier.routing.mail import (
    PORTS,
    Security,
    parse_recipients,
    parse_sender,
    parse_smarthost,
    recipient_tag,
)
from syncer.model.errors import ConfigError
from syncer.runtime.proxies import is_loopback

#: Characters of a routing file; a ConfigMap holds no more.
MAX_TEXT: Final = 1 << 20
#: Nodes that may be read, each reference to an anchor counted anew.
_MAX_NODES: Final = 100_000
_MAX_DEPTH: Final = 50
_MAX_WARNINGS: Final = 100
_MAX_NAME: Final = 256
#: Unknown keys that a route or a receiver remembers.
_MAX_UNKNOWN: Final = 3
_MAX_PATTERN: Final = 4096
#: Bytes that one compiled pattern and its caches may take.
_PATTERN_MEMORY: Final = 2 << 20

CONSOLE_FALLBACK: Final = "console-fallback"
DEFAULT_CONSOLE_FALLBACK: Final = "default-console-fallback"


@dataclass(frozen=True, slots=True)
class SlackConfig:
    """One Slack webhook. Only `credential_ref` (the URL) has an effect, as upstream."""

    credential_ref: str = ""
    channel: str = ""
    username: str = ""
    icon_emoji: str = ""  # noqa: V107 (accepted, has no effect)


@dataclass(frozen=True, slots=True)
class PagerDutyConfig:
    """One PagerDuty service; `credential_ref` names the routing key, `url` replaces the default."""

    credential_ref: str = ""
    url: str = ""
    severity: str = ""


@dataclass(frozen=True, slots=True)
class TeamsConfig:
    """One Teams workflow; `credential_ref` names its URL."""

    credential_ref: str = ""


@dataclass(frozen=True, slots=True)
class EmailConfig:
    """
    One e-mail recipient; where mail is delivered, an entry with a list of them becomes several.

    `security`, `username` and `credential_ref` (the password) are additions of ours. `host` and
    `port` are what `smarthost` says; like `sender_name` they are empty until mail is delivered.
    """

    to: str = ""
    sender: str = ""
    smarthost: str = ""
    require_tls: bool = False
    username: str = ""
    credential_ref: str = ""
    security: Security = Security.STARTTLS
    sender_name: str = ""
    host: str = ""
    port: int = 0

    @property
    def complete(self) -> bool:
        """Whether a native channel can be made of it."""
        return bool(self.to and self.sender and self.smarthost)


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """
    One generic webhook.

    Members that end in `_ref` name a credential and are additions of ours: `credential_ref` the
    URL, `bearer_token_ref` and `password_ref` what upstream keeps in the file, `signing_refs` the
    signing secrets (several while one is being replaced), `in_clear` whether token or password may
    be sent over http://.
    """

    url: str = field(default="", repr=False)
    credential_ref: str = ""
    bearer_token: str = field(default="", repr=False)
    bearer_token_ref: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    password_ref: str = ""
    signing_refs: tuple[str, ...] = ()
    in_clear: bool = False

    @property
    def complete(self) -> bool:
        """Whether a native channel can be made of it."""
        return bool(self.url or self.credential_ref)


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """Present means delivered; `enabled` has no effect."""

    enabled: bool = False


@dataclass(frozen=True, slots=True)
class FileConfig:
    """Present means delivered; neither member has an effect."""

    path: str = ""
    enabled: bool = False


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Present means delivered; `enabled` has no effect."""

    enabled: bool = False


ChannelConfig: TypeAlias = (
    SlackConfig
    | PagerDutyConfig
    | TeamsConfig
    | EmailConfig
    | WebhookConfig
    | ConsoleConfig
    | FileConfig
    | LogConfig
)

#: Kinds in the order in which a receiver's channels are named, each with its key in the file.
KINDS: Final = (
    ("slack", "slackConfigs"),
    ("pagerduty", "pagerdutyConfigs"),
    ("teams", "teamsConfigs"),
    ("email", "emailConfigs"),
    ("webhook", "webhookConfigs"),
    ("console", "consoleConfigs"),
    ("file", "fileConfigs"),
    ("log", "logConfigs"),
)
_ALWAYS_QUALIFIED: Final = frozenset({"slack", "pagerduty", "teams"})
_QUALIFIED_IF_NATIVE: Final = frozenset({"email", "webhook"})
#: Kinds whose channel is one for all receivers.
_SHARED: Final = frozenset({"console", "file", "log"})
#: A namespace, or a pattern of some.
_NAMESPACES: Final = re.compile(r"[a-z0-9*?](?:[-a-z0-9*?]{0,61}[a-z0-9*?])?")


@dataclass(frozen=True, slots=True)
class Target:
    """
    Where a channel name leads.

    Attributes:
        kind: `slack`, `pagerduty`, `teams`, `email`, `webhook`, `console`, `file` or `log`.
        receiver: Name of the receiver.
        index: Position in that receiver's list of the kind.
        config: The entry.
    """

    kind: str
    receiver: str
    index: int
    config: ChannelConfig

    @property
    def tag(self) -> str:
        """What tells a recipient of e-mail from the receiver's others; empty for other kinds."""
        return recipient_tag(self.config.to) if isinstance(self.config, EmailConfig) else ""

    @property
    def credential_refs(self) -> tuple[str, ...]:
        """Credentials that a send needs, in no particular order and without empty names."""
        config = self.config
        refs: tuple[str, ...] = ()
        if isinstance(config, (SlackConfig, PagerDutyConfig, TeamsConfig, EmailConfig)):
            refs = (config.credential_ref,)
        elif isinstance(config, WebhookConfig):
            refs = (
                config.credential_ref,
                config.bearer_token_ref,
                config.password_ref,
                *config.signing_refs,
            )
        return tuple(ref for ref in dict.fromkeys(refs) if ref)


@dataclass(frozen=True, slots=True)
class Receiver:
    """
    A receiver.

    Attributes:
        name: As routes and channels call it.
        entries: Its entries by kind; kinds that the file does not name are absent.
        namespaces: Names, or patterns with `*` and `?`, of the namespaces whose notifications it
            takes; empty for all.
        unknown: Paths of its keys that nothing reads.
    """

    name: str
    entries: tuple[tuple[str, tuple[ChannelConfig, ...]], ...] = ()
    namespaces: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def takes(self, namespace: str) -> bool:
        """Whether it takes notifications of a namespace."""
        return not self.namespaces or any(fnmatchcase(namespace, p) for p in self.namespaces)

    def channels(self, native: frozenset[str] = frozenset()) -> tuple[tuple[str, Target], ...]:
        """
        Name this receiver's channels, in upstream's order.

        Kinds with a credential have one channel per entry, the others one bare name. E-mail and
        webhook have bare names until they are delivered natively: then two receivers' targets must
        not share a name, and they are named like Slack's; several recipients of e-mail are told
        apart by their tags instead of an index. A receiver without entries is `console`.
        """
        named: list[tuple[str, Target]] = []
        for kind, configs in self.entries:
            targets = [Target(kind, self.name, n, config) for n, config in enumerate(configs)]
            if kind not in _ALWAYS_QUALIFIED | (native & _QUALIFIED_IF_NATIVE):
                named.append((kind, targets[0]))
                continue
            for target in targets:
                name = f"{kind}:{self.name}"
                if len(targets) > 1:
                    name += f":{target.tag or target.index}"
                if kind in _ALWAYS_QUALIFIED and not target.credential_refs:
                    name = kind
                named.append((name, target))
        if not named:
            named.append(("console", Target("console", self.name, 0, ConsoleConfig())))
        return tuple(named)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One `matchRe` pair; `regex` is compiled once and searches in linear time."""

    key: str
    text: str
    regex: Any = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """
    A node of the tree; `goes_on` is the file's `continue`.

    Attributes:
        unknown: Paths of its keys that nothing reads.
        meant: Keys of its matches that look like a known attribute: as written, what is meant.
        path: Where it stands in the file.
    """

    receiver: str = ""
    match: tuple[tuple[str, str], ...] = ()
    match_re: tuple[Pattern, ...] = ()
    goes_on: bool = False
    routes: tuple[Route, ...] = ()
    unknown: tuple[str, ...] = ()
    meant: tuple[tuple[str, str], ...] = ()
    path: str = ""


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """
    A checked routing file.

    Attributes:
        route: The root; its match is not looked at.
        receivers: As in the file. Of equal names the last one is used.
        native: Kinds among `email` and `webhook` that are delivered here.
        warnings: What has no effect or an unexpected one, with paths.
        doubts: How many keys look like a slip: nothing reads them, or they match no known attribute.
    """

    route: Route
    receivers: tuple[Receiver, ...]
    native: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    doubts: int = 0
    _by_name: Mapping[str, Receiver] = field(init=False, repr=False, compare=False)
    _targets: Mapping[str, Target] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index receivers and channels."""
        by_name = {receiver.name: receiver for receiver in self.receivers}
        object.__setattr__(self, "_by_name", MappingProxyType(by_name))
        targets: dict[str, Target] = {}
        others: dict[str, Target] = {}
        for receiver in by_name.values():
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
        targets.setdefault(
            "console", Target("console", DEFAULT_CONSOLE_FALLBACK, 0, ConsoleConfig())
        )
        object.__setattr__(self, "_targets", MappingProxyType(targets))

    def receiver(self, name: str) -> Receiver | None:
        """Return the receiver of a name, None for an unknown one."""
        return self._by_name.get(name)

    def channel_targets(self) -> Mapping[str, Target]:
        """
        Where every channel name leads, of all receivers, matched or not.

        Holds `console` always, and for the first entry of a list both of its possible names.
        """
        return self._targets

    def denial(self, channel: str, namespace: str) -> str | None:
        """
        Say why a namespace may not be heard on a channel, None if it may.

        The bare channels (console, file, log) are the controller's own and belong to no receiver.
        """
        target = self._targets.get(channel)
        receiver = self._by_name.get(target.receiver) if target and channel != target.kind else None
        if receiver is None or receiver.takes(namespace):
            return None
        return (
            f"receiver {quoted(receiver.name)} takes no notifications of namespace {namespace}"
            " (allowedNamespaces)"
        )

    def missing_refs(self) -> tuple[str, ...]:
        """Entries that need a credential and name none, as `receiver "<r>" slackConfigs[<i>]`."""
        keys = dict(KINDS)
        return tuple(
            f"receiver {quoted(receiver.name)} {keys[kind]}[{n}]"
            for receiver in self.receivers
            for kind, configs in receiver.entries
            if kind in _ALWAYS_QUALIFIED
            for n, config in enumerate(configs)
            if not Target(kind, receiver.name, n, config).credential_refs
        )

    def refused_in_clear(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Webhooks by which nothing can be sent, since their URL among the credentials is http://."""
        if "webhook" not in self.native:
            return ()
        return tuple(
            f"receiver {quoted(receiver.name)} webhookConfigs[{n}]: its URL, a credential, is http://, so"
            " all that it is to get fails: token or password would be sent over http://; use https://, or"
            " say credentialsOverHttp: true"
            for receiver in self._by_name.values()
            for _, configs in receiver.entries
            for n, config in enumerate(configs)
            if isinstance(config, WebhookConfig)
            and _tells(config, values.get(config.credential_ref, ""))
        )

    def credential_refs(self) -> tuple[str, ...]:
        """Credentials that must exist, in file order; those of kinds not delivered are not."""
        refs: dict[str, None] = {}
        for receiver in self.receivers:
            for kind, configs in receiver.entries:
                if kind in _QUALIFIED_IF_NATIVE - self.native:
                    continue
                for n, config in enumerate(configs):
                    target = Target(kind, receiver.name, n, config)
                    refs.update(dict.fromkeys(target.credential_refs))
        return tuple(refs)


def console_fallback(native: frozenset[str] = frozenset()) -> RoutingConfig:
    """
    Return the routing that holds while the file is empty: everything goes to the console.

    Its receiver counts as matched by a rule, not as the fallback, as upstream.
    """
    console = Receiver(CONSOLE_FALLBACK, (("console", (ConsoleConfig(enabled=True),)),))
    return RoutingConfig(Route(receiver=CONSOLE_FALLBACK), (console,), native)


def parse(text: str, *, native: frozenset[str] = frozenset()) -> RoutingConfig:
    """
    Read a routing file.

    Args:
        text: The whole file.
        native: Kinds among `email` and `webhook` that are delivered here.

    Raises:
        ConfigError: with upstream's text as prefix, and the line where there is one.
    """
    if not text.strip():
        raise ConfigError("empty configuration")
    reader = _Reader()
    root = reader.compose(text)
    top = reader.table(root, "")
    if top is None:
        raise ConfigError("route is required")
    route_node = top.node("route")
    if route_node is None:
        raise ConfigError("route is required")
    receivers = tuple(_receivers(top, native))
    top.close()
    if not receivers:
        raise ConfigError("at least one receiver is required")
    names = [receiver.name for receiver in receivers]
    root_route = _route(reader, route_node, "route", frozenset(names), depth=0, console=True)
    if root_route is None:
        raise ConfigError("route is required")
    _warn_about_names(reader, receivers, native)
    return RoutingConfig(root_route, receivers, native, reader.warnings(), reader.doubts)


def quoted(text: str) -> str:
    """Quote a text as Go's `%q` does for ordinary ones."""
    return json.dumps(text, ensure_ascii=False)


# -- receivers ------------------------------------------------------------------------------------


def _receivers(top: _Table, native: frozenset[str]) -> Iterator[Receiver]:
    for n, (node, path) in enumerate(top.items("receivers")):
        table = top.reader.table(node, path)
        if table is None:
            raise ConfigError(f"receivers[{n}] is empty{_at(node)}")
        name = table.text("name")
        if not name:
            raise ConfigError(f"receiver name cannot be empty{_at(node)}")
        if len(name) > _MAX_NAME:
            raise ConfigError(f"receiver name is longer than {_MAX_NAME} characters{_at(node)}")
        if any(unicodedata.category(c) == "Cc" for c in name):
            # A plan on record has its channels line by line, and terminals obey some of these.
            raise ConfigError(f"receiver name holds a control character{_at(node)}")
        entries = []
        for kind, key in KINDS:
            configs = [
                config
                for entry, where in table.items(key)
                for config in _entry(kind, entry, table.reader, where, native)
            ]
            if kind == "email" and kind in native:
                configs = _each_recipient_once(configs, table)
            if configs:
                entries.append((kind, tuple(configs)))
        namespaces = _namespaces(table)
        unknown = table.close()
        if not entries:
            table.warn("configures nothing: it delivers to the console")
        if namespaces and (not entries or any(kind in _SHARED for kind, _ in entries)):
            table.warn(
                "does not restrict console, file and log: they are no receiver's",
                "allowedNamespaces",
            )
        yield Receiver(name, tuple(entries), namespaces, unknown)


def _namespaces(table: _Table) -> tuple[str, ...]:
    """Whose notifications a receiver takes; a list that could be read in two ways is refused."""
    key = "allowedNamespaces"
    node = table.node(key)
    patterns = table.texts(key)
    if node is not None and not patterns:
        raise ConfigError(
            f"{table.path}.{key} is empty: name a namespace, or leave the key out for all{_at(node)}"
        )
    for pattern in patterns:
        if not _NAMESPACES.fullmatch(pattern):
            raise ConfigError(
                f"{table.path}.{key}: {quoted(pattern[:64])} is neither the name of a namespace nor"
                f" a pattern of one with * and ?{_at(node) if node else ''}"
            )
    return tuple(dict.fromkeys(patterns))


def _entry(
    kind: str, node: yaml.Node, reader: _Reader, path: str, native: frozenset[str]
) -> list[ChannelConfig]:
    table = reader.table(node, path) or _Table(reader, path, {})
    config = _ENTRIES[kind](table)
    table.close()
    if not isinstance(config, (EmailConfig, WebhookConfig)):
        return [config]
    if kind not in native:
        table.warn(f"is never delivered: delivery.{kind}.enabled is false")
    elif not config.complete:
        table.warn("is never delivered: it is not fully configured")
    elif isinstance(config, EmailConfig):
        return _recipients(config, table, node)
    else:
        _check_authentication(config, path, node)
    return [config]


def _recipients(config: EmailConfig, table: _Table, node: yaml.Node) -> list[ChannelConfig]:
    """One entry per recipient; upstream never reads these texts, so they are checked only here."""

    def refuse(key: str, why: str) -> ConfigError:
        return ConfigError(f"{table.path}.{key} {why}{_at(node)}")

    key = "to"
    try:
        recipients = parse_recipients(config.to)
        key = "from"
        name, sender = parse_sender(config.sender)
        key = "smarthost"
        host, port = parse_smarthost(config.smarthost, config.security)
    except ValueError as error:
        raise refuse(key, str(error)) from None
    if bool(config.username) != bool(config.credential_ref):
        raise refuse("username", "and credentialRef (its password) go together")
    if config.security is Security.NONE and config.require_tls:
        raise refuse("tls", "must not be none where requireTls is true")
    if config.security is Security.NONE and config.credential_ref:
        raise refuse("tls", "must not be none where there is a password")
    if config.security is not Security.NONE and not config.require_tls and table.node("requireTls"):
        table.warn("has no effect: TLS is always required unless tls is none", "requireTls")
    if port == PORTS[Security.IMPLICIT] and table.node("tls") is None:
        # A server on this port speaks TLS from the first byte; it would wait for us in silence.
        config = replace(config, security=Security.IMPLICIT)
    whole = replace(config, sender=sender, sender_name=name, host=host, port=port)
    return [replace(whole, to=recipient) for recipient in recipients]


def _each_recipient_once(configs: list[ChannelConfig], table: _Table) -> list[ChannelConfig]:
    """Without what names a recipient again: nobody gets a message twice from one receiver."""
    once: dict[str, ChannelConfig] = {}
    for config in configs:
        if isinstance(config, EmailConfig):
            once.setdefault(recipient_tag(config.to), config)
    if len(once) < len(configs):
        table.warn("names a recipient more than once: the first entry is used", "emailConfigs")
    return list(once.values())


def _check_authentication(config: WebhookConfig, path: str, node: yaml.Node) -> None:
    where = f"{path}.httpConfig"
    bearer = [key for key in (config.bearer_token, config.bearer_token_ref) if key]
    passwords = [key for key in (config.password, config.password_ref) if key]
    if len(bearer) > 1:
        raise ConfigError(f"{where}: bearerToken and bearerTokenRef exclude each other{_at(node)}")
    if len(passwords) > 1:
        raise ConfigError(
            f"{where}.basicAuth: password and passwordRef exclude each other{_at(node)}"
        )
    if bool(config.username) != bool(passwords) or ":" in config.username:
        raise ConfigError(
            f"{where}.basicAuth: needs a username without a colon, and a password{_at(node)}"
        )
    if bearer and passwords:
        raise ConfigError(f"{where}: a bearer token and basicAuth exclude each other{_at(node)}")
    # A URL that is a credential is not known here; see `refused_in_clear`.
    if _tells(config, config.url):
        raise ConfigError(
            f"{where}: token or password would be sent over http://; use https://, or say"
            f" credentialsOverHttp: true{_at(node)}"
        )


def _tells(config: WebhookConfig, url: str) -> bool:
    """Whether a token or password would be sent to a URL for all to read, and nobody said that it may."""
    if config.in_clear or not _in_clear(url):
        return False
    known = config.bearer_token or config.bearer_token_ref or config.username
    return bool(known or urlsplit(url).username or urlsplit(url).password)


def _in_clear(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host = parts.hostname or ""
    return parts.scheme == "http" and host != "localhost" and not is_loopback(host)


def _slack(table: _Table) -> SlackConfig:
    return SlackConfig(
        table.text("credentialRef"),
        table.idle_text("channel"),
        table.idle_text("username"),
        table.idle_text("iconEmoji"),
    )


def _pagerduty(table: _Table) -> PagerDutyConfig:
    config = PagerDutyConfig(
        table.text("credentialRef"), table.text("url"), table.idle_text("severity")
    )
    if _in_clear(config.url):
        table.warn("has the routing key sent over http://, for all to read", "url")
    return config


def _email(table: _Table) -> EmailConfig:
    return EmailConfig(
        table.text("to"),
        table.text("from"),
        table.text("smarthost"),
        table.flag("requireTls"),
        table.text("username"),
        table.text("credentialRef"),
        table.choice("tls", Security),
    )


def _webhook(table: _Table) -> WebhookConfig:
    http = table.table("httpConfig")
    basic = http.table("basicAuth")
    config = WebhookConfig(
        url=table.text("url"),
        credential_ref=table.text("credentialRef"),
        bearer_token=http.text("bearerToken"),
        bearer_token_ref=http.text("bearerTokenRef"),
        username=basic.text("username"),
        password=basic.text("password"),
        password_ref=basic.text("passwordRef"),
        signing_refs=tuple(ref for ref in table.texts("signingSecretRefs") if ref),
        in_clear=http.flag("credentialsOverHttp"),
    )
    http.close()
    basic.close()
    return config


_ENTRIES: Final[Mapping[str, Callable[[_Table], ChannelConfig]]] = {
    "slack": _slack,
    "pagerduty": _pagerduty,
    "teams": lambda table: TeamsConfig(table.text("credentialRef")),
    "email": _email,
    "webhook": _webhook,
    "console": lambda table: ConsoleConfig(table.enabled()),
    "file": lambda table: FileConfig(table.idle_text("path"), table.enabled()),
    "log": lambda table: LogConfig(table.enabled()),
}


def _warn_about_names(
    reader: _Reader, receivers: tuple[Receiver, ...], native: frozenset[str]
) -> None:
    last = {receiver.name: n for n, receiver in enumerate(receivers)}
    owners: dict[str, str] = {}
    for n, receiver in enumerate(receivers):
        if last[receiver.name] != n:
            reader.warn(f"receivers[{n}]", "is not used: a later receiver has the same name")
            continue
        for name, target in receiver.channels(native):
            bare = name == target.kind
            if not bare and owners.setdefault(name, receiver.name) != receiver.name:
                reader.warn(
                    f"receivers[{n}]",
                    f"shares the channel name {name} with receiver {owners[name]}, which gets it",
                )


# -- routes ---------------------------------------------------------------------------------------


def _route(
    reader: _Reader,
    node: yaml.Node,
    path: str,
    names: frozenset[str],
    *,
    depth: int,
    console: bool,
) -> Route | None:
    """
    Read a node of the tree; None if it is null.

    `console` tells where a notification goes that ends in a child without a receiver: to the
    console fallback, because no route above it, except the root, has a receiver.
    """
    if depth > _MAX_DEPTH:
        raise ConfigError(f"failed to parse YAML: routes are nested too deeply{_at(node)}")
    table = reader.table(node, path)
    if table is None:
        return None
    receiver = table.text("receiver")
    if receiver and receiver not in names:
        raise ConfigError(f"receiver '{receiver}' not found in receivers list{_at(node)}")
    match = tuple(table.pairs("match"))
    match_re = tuple(_pattern(table, key, text, at) for key, text, at in table.marked("matchRe"))
    goes_on = table.flag("continue")
    table.idle("groupBy")
    routes = []
    for child, where in table.items("routes"):
        inner = _route(
            reader,
            child,
            where,
            names,
            depth=depth + 1,
            console=console and (depth == 0 or not receiver),
        )
        if inner is None:
            raise ConfigError(f"route has an empty child route{_at(child)}")
        routes.append(inner)
    unknown = table.close()
    if depth == 0:
        for key in ("match", "matchRe", "continue"):
            if table.node(key) is not None:
                table.warn("has no effect on the root route", key)
    elif not receiver:
        end = "the console fallback" if console else "a route above"
        table.warn(
            f"names no receiver: a notification that ends here goes to {end}"
            if not goes_on
            else "names no receiver: it adds none of its own"
        )
    _warn_about_reach(reader, path, routes)
    meant = () if depth == 0 else _meant(table, match, match_re)
    return Route(
        receiver, match, match_re, goes_on, tuple(routes), unknown=unknown, meant=meant, path=path
    )


def _meant(
    table: _Table, match: tuple[tuple[str, str], ...], match_re: tuple[Pattern, ...]
) -> tuple[tuple[str, str], ...]:
    """Keys that look like a known attribute without being it, and that attribute."""
    found: dict[str, str] = {}
    written = [("match", key) for key, _ in match] + [("matchRe", p.key) for p in match_re]
    for member, key in written:
        if likely := likely_meant(key):
            found[key] = likely
            table.doubt(f"is no attribute that is known: {likely} may be meant", f"{member}.{key}")
    return tuple(found.items())


def _warn_about_reach(reader: _Reader, path: str, routes: list[Route]) -> None:
    for n, route in enumerate(routes[:-1]):
        if not route.goes_on and not route.match and not route.match_re:
            reader.warn(
                f"{path}.routes[{n + 1}]",
                f"is never reached: routes[{n}] matches everything and does not continue",
            )
            return


def _pattern(table: _Table, key: str, text: str, node: yaml.Node) -> Pattern:
    options = re2.Options()
    # Else the library prints patterns to standard error.
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    where = f"invalid matchRe pattern for key {quoted(key)}: {quoted(text)}"
    if len(text) > _MAX_PATTERN:
        raise ConfigError(
            f"invalid matchRe pattern for key {quoted(key)}: {quoted(text[:64] + '…')}: "
            f"error parsing regexp: longer than {_MAX_PATTERN} characters{_at(node)}"
        )
    try:
        regex = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "not a pattern"
        if isinstance(reason, bytes):
            reason = reason.decode("utf-8", "replace")
        raise ConfigError(f"{where}: error parsing regexp: {reason}{_at(node)}") from None
    if not re.search(r"[$^]|\\[Az]", text):
        table.warn("is not anchored: it is found anywhere in the value", f"matchRe.{key}")
    return Pattern(key, text, regex)


# -- YAML -----------------------------------------------------------------------------------------

_YAML: Final = "tag:yaml.org,2002:"
_SCALARS: Final = frozenset(
    _YAML + tag for tag in ("str", "int", "float", "bool", "null", "timestamp", "value")
)
#: What Go's YAML takes for a boolean where one is wanted.
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "yes", "on", "y"), True),
    **dict.fromkeys(("false", "no", "off", "n"), False),
}
_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
#: Punctuation, and the parser's names for ends and beginnings.
_HARMLESS: Final = re.compile(r"[^A-Za-z0-9]{1,2}|\\.|<[a-z ]+>")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _unquoted(quote: re.Match[str]) -> str:
    # What the parser quotes may be a piece of a token.
    return quote[0] if _HARMLESS.fullmatch(quote[0][1:-1]) else "…"


def _at(node: yaml.Node) -> str:
    return f" (line {node.start_mark.line + 1})"


class _Reader:
    """Reads nodes by wanted type; counts what it reads and collects warnings."""

    def __init__(self) -> None:
        self._nodes = 0
        self._warnings: list[str] = []
        self._left_out = 0
        self.doubts = 0

    def compose(self, text: str) -> yaml.Node | None:
        """
        Compose the first document; None if there is none.

        Raises:
            ConfigError: not YAML, too long or too deep. The text quotes nothing.
        """
        if len(text) > MAX_TEXT:
            raise ConfigError(f"failed to parse YAML: longer than {MAX_TEXT} characters")
        try:
            loader = yaml.SafeLoader(text)
        except yaml.YAMLError:
            raise ConfigError("failed to parse YAML: unprintable character") from None
        try:
            if not loader.check_node():
                return None
            root: yaml.Node | None = loader.get_node()
            if loader.check_node():
                self.warn("", "only the first document is read")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f"line {mark.line + 1}: " if mark else ""
            problem = _QUOTED.sub(_unquoted, error.problem or "syntax error")
            raise ConfigError(f"failed to parse YAML: {line}{problem}") from None
        except yaml.YAMLError:
            raise ConfigError("failed to parse YAML: unprintable character") from None
        except RecursionError:
            raise ConfigError("failed to parse YAML: nested too deeply") from None
        except (ValueError, OverflowError):
            # Escapes beyond Unicode, versions with impossible numbers.
            raise ConfigError("failed to parse YAML: a value does not fit its type") from None
        finally:
            loader.dispose()
        return root

    def warn(self, path: str, message: str) -> None:
        """Collect a warning, up to a bound."""
        if len(self._warnings) < _MAX_WARNINGS:
            self._warnings.append(f"{path} {message}" if path else message)
        else:
            self._left_out += 1

    def doubt(self, path: str, message: str) -> None:
        """Warn about what looks like a slip."""
        self.doubts += 1
        self.warn(path, message)

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings; a last one counts those that were left out."""
        more = (f"{self._left_out} further warnings were left out",) if self._left_out else ()
        return (*self._warnings, *more)

    def count(self, node: yaml.Node) -> None:
        """Count a node as read, each time that it is."""
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise ConfigError(f"failed to parse YAML: more than {_MAX_NODES} values{_at(node)}")

    def table(self, node: yaml.Node | None, path: str) -> _Table | None:
        """Read a mapping; None for an absent or null one."""
        if node is None or self.null(node):
            return None
        return _Table(self, path, self._entries(node, path, depth=0))

    def null(self, node: yaml.Node) -> bool:
        """Whether a node is null."""
        return isinstance(node, yaml.ScalarNode) and node.tag == _YAML + "null"

    def scalar(self, node: yaml.Node, path: str) -> str:
        """Read a text; null is empty, and numbers are as they are written."""
        self.count(node)
        if not isinstance(node, yaml.ScalarNode):
            raise self.wrong(node, path, "a text")
        if node.tag not in _SCALARS:
            raise ConfigError(f"failed to parse YAML: {path}: tags are not allowed{_at(node)}")
        if self.null(node):
            return ""
        value = str(node.value)
        if _SURROGATE.search(value):
            raise ConfigError(f"failed to parse YAML: {path}: not a valid text{_at(node)}")
        return value

    def sequence(self, node: yaml.Node | None, path: str) -> list[tuple[yaml.Node, str]]:
        """Read a list; absent and null are empty."""
        if node is None or self.null(node):
            return []
        if not isinstance(node, yaml.SequenceNode) or node.tag != _YAML + "seq":
            raise self.wrong(node, path, "a list")
        for item in node.value:
            self.count(item)
        return [(item, f"{path}[{n}]") for n, item in enumerate(node.value)]

    def wrong(self, node: yaml.Node, path: str, wanted: str) -> ConfigError:
        """Make the error for a value of another type."""
        where = f"{path}: " if path else ""
        return ConfigError(f"failed to parse YAML: {where}must be {wanted}{_at(node)}")

    def _entries(
        self, node: yaml.Node, path: str, *, depth: int
    ) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode) or node.tag != _YAML + "map":
            raise self.wrong(node, path, "a mapping")
        if depth > _MAX_DEPTH:
            raise ConfigError(f"failed to parse YAML: {path}: merged too deeply{_at(node)}")
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value in node.value:
            self.count(key_node)
            if key_node.tag == _YAML + "merge":
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for part in parts:
                    for key, entry in self._entries(part, path, depth=depth + 1).items():
                        merged.setdefault(key, entry)
                continue
            key = self.scalar(key_node, f"{path} key".strip())
            if key in own:
                raise ConfigError(
                    f"failed to parse YAML: {f'{path}.{key}'.lstrip('.')} is defined twice"
                    f"{_at(key_node)}"
                )
            own[key] = (key_node, value)
        return {**merged, **own}


class _Table:
    """A mapping being read: every key that nobody asked for becomes a warning on `close`."""

    def __init__(
        self, reader: _Reader, path: str, entries: dict[str, tuple[yaml.Node, yaml.Node]]
    ) -> None:
        self.reader = reader
        self.path = path
        self._entries = entries
        self._asked: set[str] = set()

    def node(self, key: str) -> yaml.Node | None:
        """Return the node of a key, None for an absent or null one."""
        self._asked.add(key)
        entry = self._entries.get(key)
        return None if entry is None or self.reader.null(entry[1]) else entry[1]

    def text(self, key: str) -> str:
        """Return a text, empty if absent."""
        node = self.node(key)
        return "" if node is None else self.reader.scalar(node, self._at(key))

    def idle_text(self, key: str) -> str:
        """Return a text that has no effect."""
        text = self.text(key)
        if text:
            self.warn("has no effect", key)
        return text

    def idle(self, key: str) -> None:
        """Accept a list that has no effect."""
        if self.reader.sequence(self.node(key), self._at(key)):
            self.warn("has no effect", key)

    def flag(self, key: str) -> bool:
        """Return a boolean, false if absent."""
        node = self.node(key)
        if node is None:
            return False
        word = self.reader.scalar(node, self._at(key)).lower()
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        if not plain or word not in _BOOLEANS:
            raise self.reader.wrong(node, self._at(key), "true or false")
        return _BOOLEANS[word]

    def choice(self, key: str, words: type[Security]) -> Security:
        """Return one of a few words, the first if absent."""
        node = self.node(key)
        first, *_ = words
        if node is None:
            return first
        try:
            return words(self.reader.scalar(node, self._at(key)))
        except ValueError:
            raise self.reader.wrong(node, self._at(key), " or ".join(words)) from None

    def enabled(self) -> bool:
        """Return `enabled`, which has no effect when it is false."""
        enabled = self.flag("enabled")
        if not enabled and self.node("enabled") is not None:
            self.warn("has no effect: what is listed is delivered", "enabled")
        return enabled

    def items(self, key: str) -> list[tuple[yaml.Node, str]]:
        """Return the nodes of a list with their paths."""
        return self.reader.sequence(self.node(key), self._at(key))

    def texts(self, key: str) -> list[str]:
        """Return a list of texts."""
        return [self.reader.scalar(node, path) for node, path in self.items(key)]

    def table(self, key: str) -> _Table:
        """Return an inner mapping, empty if absent."""
        inner = self.reader.table(self.node(key), self._at(key))
        return inner or _Table(self.reader, self._at(key), {})

    def marked(self, key: str) -> list[tuple[str, str, yaml.Node]]:
        """Return a mapping of texts, with the node of each."""
        inner = self.table(key)
        return [
            (name, self.reader.scalar(node, inner._at(name)), key_node)  # noqa: SLF001 - same class
            for name, (key_node, node) in inner._entries.items()  # noqa: SLF001 - own
        ]

    def pairs(self, key: str) -> list[tuple[str, str]]:
        """Return a mapping of texts."""
        return [(name, text) for name, text, _ in self.marked(key)]

    def warn(self, message: str, key: str = "") -> None:
        """Warn about this mapping, or about one of its keys."""
        self.reader.warn(self._at(key) if key else self.path, message)

    def doubt(self, message: str, key: str) -> None:
        """Warn about a key that looks like a slip."""
        self.reader.doubt(self._at(key), message)

    def close(self) -> tuple[str, ...]:
        """Warn about every key that was not asked for; returns the paths of the first of them."""
        unknown = [key[:_MAX_NAME] for key in self._entries if key not in self._asked]
        for key in unknown:
            self.doubt("is unknown and ignored", key)
        return tuple(self._at(key) for key in unknown[:_MAX_UNKNOWN])

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key
