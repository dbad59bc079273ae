"""
The routing file: text in, `RoutingConfig` out.

The format is the replaced controller's, and so are its errors: each text begins exactly as it was
worded there, then says where.

Some things that look as if they worked do not, and stay so for compatibility: `enabled: false`, a
receiver that configures nothing (it delivers to the console), a matching route without a receiver,
patterns that match anywhere in a value. They are accepted with a warning that names the path.
Unknown keys are warnings too. A key that nothing reads may be a slip that sends notifications elsewhere
than meant (`discordConfigs`, `match: {prioritty: ...}`): such warnings are doubts, which are counted, and
routes and receivers remember theirs for the notifications concerned.

No text made here quotes a value other than receiver names, keys and patterns: the file may hold
tokens.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import re2
import yaml

from notifier.routing.attributes import likely_meant
from notifier.routing.config import Pattern, Route, RoutingConfig, in_clear, quoted, sends_in_clear
from notifier.routing.document import MAX_DEPTH, MAX_NAME, Reader, Table, line_of
from notifier.routing.mail import (
    PORTS,
    Security,
    parse_recipients,
    parse_sender,
    parse_smarthost,
    recipient_tag,
)
from notifier.routing.receivers import (
    KINDS,
    SHARED,
    ChannelConfig,
    ConsoleConfig,
    EmailConfig,
    FileConfig,
    LogConfig,
    PagerDutyConfig,
    Receiver,
    SlackConfig,
    TeamsConfig,
    WebhookConfig,
)
from syncer.model.errors import ConfigError

_MAX_PATTERN: Final = 4096
#: Bytes that one compiled pattern and its caches may take.
_PATTERN_MEMORY: Final = 2 << 20
#: A namespace, or a pattern of some.
_NAMESPACES: Final = re.compile(r"[a-z0-9*?](?:[-a-z0-9*?]{0,61}[a-z0-9*?])?")


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
    reader = Reader()
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


# -- receivers ------------------------------------------------------------------------------------


def _receivers(top: Table, native: frozenset[str]) -> Iterator[Receiver]:
    for n, (node, path) in enumerate(top.items("receivers")):
        table = top.reader.table(node, path)
        if table is None:
            raise ConfigError(f"receivers[{n}] is empty{line_of(node)}")
        name = table.text("name")
        if not name:
            raise ConfigError(f"receiver name cannot be empty{line_of(node)}")
        if len(name) > MAX_NAME:
            raise ConfigError(f"receiver name is longer than {MAX_NAME} characters{line_of(node)}")
        if any(unicodedata.category(c) == "Cc" for c in name):
            # A plan on record has its channels line by line, and terminals obey some of these.
            raise ConfigError(f"receiver name holds a control character{line_of(node)}")
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
        if namespaces and (not entries or any(kind in SHARED for kind, _ in entries)):
            table.warn(
                "does not restrict console, file and log: they are no receiver's",
                "allowedNamespaces",
            )
        yield Receiver(name, tuple(entries), namespaces, unknown)


def _namespaces(table: Table) -> tuple[str, ...]:
    """Whose notifications a receiver takes; a list that could be read in two ways is refused."""
    key = "allowedNamespaces"
    node = table.node(key)
    patterns = table.texts(key)
    if node is not None and not patterns:
        raise ConfigError(
            f"{table.path}.{key} is empty: name a namespace, or leave the key out for all{line_of(node)}"
        )
    for pattern in patterns:
        if not _NAMESPACES.fullmatch(pattern):
            raise ConfigError(
                f"{table.path}.{key}: {quoted(pattern[:64])} is neither the name of a namespace nor"
                f" a pattern of one with * and ?{line_of(node) if node else ''}"
            )
    return tuple(dict.fromkeys(patterns))


def _entry(
    kind: str, node: yaml.Node, reader: Reader, path: str, native: frozenset[str]
) -> list[ChannelConfig]:
    table = reader.table(node, path) or Table(reader, path, {})
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


def _recipients(config: EmailConfig, table: Table, node: yaml.Node) -> list[ChannelConfig]:
    """One entry per recipient; upstream never reads these texts, so they are checked only here."""

    def refuse(key: str, why: str) -> ConfigError:
        return ConfigError(f"{table.path}.{key} {why}{line_of(node)}")

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


def _each_recipient_once(configs: list[ChannelConfig], table: Table) -> list[ChannelConfig]:
    """Without repeated recipients: a receiver sends a message to each once."""
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
        raise ConfigError(
            f"{where}: bearerToken and bearerTokenRef exclude each other{line_of(node)}"
        )
    if len(passwords) > 1:
        raise ConfigError(
            f"{where}.basicAuth: password and passwordRef exclude each other{line_of(node)}"
        )
    if bool(config.username) != bool(passwords) or ":" in config.username:
        raise ConfigError(
            f"{where}.basicAuth: needs a username without a colon, and a password{line_of(node)}"
        )
    if bearer and passwords:
        raise ConfigError(
            f"{where}: a bearer token and basicAuth exclude each other{line_of(node)}"
        )
    # A URL that is a credential is not known here; see `refused_in_clear`.
    if sends_in_clear(config, config.url):
        raise ConfigError(
            f"{where}: token or password would be sent over http://; use https://, or say"
            f" credentialsOverHttp: true{line_of(node)}"
        )


def _slack(table: Table) -> SlackConfig:
    return SlackConfig(
        table.text("credentialRef"),
        table.idle_text("channel"),
        table.idle_text("username"),
        table.idle_text("iconEmoji"),
    )


def _pagerduty(table: Table) -> PagerDutyConfig:
    config = PagerDutyConfig(
        table.text("credentialRef"), table.text("url"), table.idle_text("severity")
    )
    if in_clear(config.url):
        table.warn("has the routing key sent over http://, for all to read", "url")
    return config


def _email(table: Table) -> EmailConfig:
    return EmailConfig(
        table.text("to"),
        table.text("from"),
        table.text("smarthost"),
        table.flag("requireTls"),
        table.text("username"),
        table.text("credentialRef"),
        table.choice("tls", Security),
    )


def _webhook(table: Table) -> WebhookConfig:
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


_ENTRIES: Final[Mapping[str, Callable[[Table], ChannelConfig]]] = {
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
    reader: Reader, receivers: tuple[Receiver, ...], native: frozenset[str]
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
    reader: Reader,
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
    if depth > MAX_DEPTH:
        raise ConfigError(f"failed to parse YAML: routes are nested too deeply{line_of(node)}")
    table = reader.table(node, path)
    if table is None:
        return None
    receiver = table.text("receiver")
    if receiver and receiver not in names:
        raise ConfigError(f"receiver '{receiver}' not found in receivers list{line_of(node)}")
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
            raise ConfigError(f"route has an empty child route{line_of(child)}")
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
    table: Table, match: tuple[tuple[str, str], ...], match_re: tuple[Pattern, ...]
) -> tuple[tuple[str, str], ...]:
    """Keys that look like a known attribute without being it, and that attribute."""
    found: dict[str, str] = {}
    written = [("match", key) for key, _ in match] + [("matchRe", p.key) for p in match_re]
    for member, key in written:
        if likely := likely_meant(key):
            found[key] = likely
            table.doubt(f"is no attribute that is known: {likely} may be meant", f"{member}.{key}")
    return tuple(found.items())


def _warn_about_reach(reader: Reader, path: str, routes: list[Route]) -> None:
    for n, route in enumerate(routes[:-1]):
        if not route.goes_on and not route.match and not route.match_re:
            reader.warn(
                f"{path}.routes[{n + 1}]",
                f"is never reached: routes[{n}] matches everything and does not continue",
            )
            return


def _pattern(table: Table, key: str, text: str, node: yaml.Node) -> Pattern:
    options = re2.Options()
    # Else the library prints patterns to standard error.
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    where = f"invalid matchRe pattern for key {quoted(key)}: {quoted(text)}"
    if len(text) > _MAX_PATTERN:
        raise ConfigError(
            f"invalid matchRe pattern for key {quoted(key)}: {quoted(text[:64] + '…')}: "
            f"error parsing regexp: longer than {_MAX_PATTERN} characters{line_of(node)}"
        )
    try:
        regex = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "not a pattern"
        if isinstance(reason, bytes):
            reason = reason.decode("utf-8", "replace")
        raise ConfigError(f"{where}: error parsing regexp: {reason}{line_of(node)}") from None
    if not re.search(r"[$^]|\\[Az]", text):
        table.warn("is not anchored: it is found anywhere in the value", f"matchRe.{key}")
    return Pattern(key, text, regex)
