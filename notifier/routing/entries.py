"""
The receivers of a routing file: their entries, and what can never be sent.

What an entry of mail or of a webhook holds is checked only where such entries are delivered here: the
replaced controller never read it, so files that exist may hold anything.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import yaml

from notifier.routing.config import in_clear, quoted, sends_in_clear
from notifier.routing.document import MAX_NAME, Reader, Table
from notifier.routing.keys import ALERTMANAGER, MAPPINGS, TEXT
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
    EmailConfig,
    Fallback,
    LocalConfig,
    PagerDutyConfig,
    Receiver,
    UrlConfig,
    WebhookConfig,
)
from notifier.templates.request import MEMBERS, webhook_wording
from notifier.templates.wording import Wording, wording_of
from syncer.configfile import parse_duration

_MAIL_FIXES: Final = {
    "to": "write addresses, separated by commas: ops@example.org, on-call@example.org",
    "from": "write one address: Alerts <alerts@example.org>",
    "smarthost": "write a host, or host:port: mail.example.org:587",
}
#: A namespace, or a pattern of some.
_HEADER: Final = re.compile(r"[A-Za-z][-A-Za-z0-9]{0,63}")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{0,1000}")
_RESERVED: Final = frozenset(
    {
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "idempotency-key",
    }
    | {"proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "webhook-id"}
)
#: Seconds until a fallback is used in any case: after the attempts of the usual retry policy, and no later
#: where a circuit breaker keeps those from being made. From a day on it would be none.
_USUAL_WAIT: Final = 600.0
_LONGEST_WAIT: Final = 86_400.0
_NAMESPACES: Final = re.compile(r"[a-z0-9*?](?:[-a-z0-9*?]{0,61}[a-z0-9*?])?")


def read_receivers(top: Table, native: frozenset[str]) -> Iterator[Receiver]:
    """Read the receivers of a file; the `native` kinds are delivered here."""
    for n, (node, path) in enumerate(top.items("receivers")):
        table = top.reader.table(node, path, MAPPINGS["receiver"])
        if table is None:
            top.reader.refuse(f"receivers[{n}] is empty", node, path=path, fix="remove the dash")
            continue
        name = table.text("name")
        if wrong := _wrong_name(name):
            top.reader.refuse(
                f"receiver name {wrong}", node, path=f"{path}.name", fix="write name: NAME"
            )
        entries = []
        for kind, key in KINDS.items():
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
        templates, wordings = _wordings(table, [kind for kind, _ in entries])
        entries = [
            (kind, _own_requests(configs, table, templates) if kind == "webhook" else configs)
            for kind, configs in entries
        ]
        fallback = read_fallback(table, name)
        unknown = table.close()
        if not entries:
            table.warn(
                "configures nothing: it delivers to the console",
                "add a list such as slackConfigs, or consoleConfigs: [{enabled: true}] if it is meant",
            )
        if namespaces and (not entries or any(kind in SHARED for kind, _ in entries)):
            table.warn(
                "does not restrict console, file and log: they belong to no receiver",
                "give those a receiver of their own, without allowedNamespaces",
                "allowedNamespaces",
            )
        yield Receiver(name, tuple(entries), namespaces, unknown, path, wordings, fallback)


def read_fallback(table: Table, instead_of: str) -> Fallback | None:
    """Read which receiver is used where another one cannot be reached; that it is one is checked later."""
    name, text = table.text("fallback"), table.text("fallbackAfter")

    def refuse(key: str, why: str, fix: str) -> None:
        path = f"{table.path}.{key}"
        table.reader.refuse(f"{path}: {why}", table.node(key), path=path, fix=fix)

    after = _USUAL_WAIT
    try:
        after = parse_duration(text) if text else after
    except ValueError as error:
        refuse("fallbackAfter", str(error), "write a time: 5m")
    if text and not name:
        refuse("fallbackAfter", "needs a fallback", "add fallback: NAME")
    if text and not 1 <= after <= _LONGEST_WAIT:
        refuse("fallbackAfter", "must be from 1s to 24h", "write a time: 5m")
    if name and name == instead_of:
        refuse("fallback", "names the receiver itself", "name another receiver")
    return Fallback(name, after) if name else None


def _own_requests(
    configs: tuple[ChannelConfig, ...], table: Table, templates: Mapping[str, Any]
) -> tuple[ChannelConfig, ...]:
    """Compile the requests of webhooks that have some of their own."""
    found: list[ChannelConfig] = []
    for n, config in enumerate(configs):
        found.append(config)
        if isinstance(config, WebhookConfig) and config.source:
            try:
                found[n] = replace(config, wording=webhook_wording(config.source, templates))
            except ValueError as error:
                place, _, reason = str(error).partition(": ")
                path = f"{table.path}.webhookConfigs[{n}].{place}"
                table.reader.refuse(
                    f"{path}: {reason}", table.node("webhookConfigs"), path=path,
                    fix="correct it; docs/receivers.md has entries that work",
                )  # fmt: skip
    return tuple(found)


def _wordings(table: Table, kinds: list[str]) -> tuple[dict[str, Any], dict[str, Wording]]:
    """Read a receiver's templates, and compile them for each kind of its channels."""
    templates = table.table("templates")
    found = {key: templates.tree(key) for key in MAPPINGS["templates"]}
    source = {key: value for key, value in found.items() if value is not None}
    templates.close()
    wordings: dict[str, Wording] = {}
    for key, value in source.items():
        node = templates.node(key)
        if node and MAPPINGS["templates"][key].kind == TEXT and not isinstance(value, str):
            table.reader.wrong(node, f"{templates.path}.{key}", "a text in quotes")
            return {}, {}
    for kind in kinds if source else ():
        if kind in SHARED:
            continue
        try:
            wordings[kind] = wording_of(kind, source)
        except ValueError as error:
            place, _, reason = str(error).partition(": ")
            path = f"{templates.path}.{place}"
            table.reader.refuse(
                f"{path}: {reason}", templates.node(place), path=path,
                fix="correct the template; docs/templates.md has the language",
            )  # fmt: skip
    if source and not wordings:
        table.warn(
            "have no effect: the receiver has only console, file or log",
            "remove them, or put them into the receiver that they are for",
            "templates",
        )
    return source, wordings


def _wrong_name(name: str) -> str:
    """Say why a receiver cannot have a name, empty if it can."""
    if not name:
        return "cannot be empty"
    if len(name) > MAX_NAME:
        return f"is longer than {MAX_NAME} characters"
    # A plan on record has its channels line by line, and terminals obey some of these.
    if any(unicodedata.category(c) == "Cc" for c in name):
        return "holds a control character"
    return ""


def _namespaces(table: Table) -> tuple[str, ...]:
    """Whose notifications a receiver takes; a list that could be read in two ways is refused."""
    key = "allowedNamespaces"
    node = table.node(key)
    patterns = table.texts(key)
    path = f"{table.path}.{key}"
    if node is not None and not patterns:
        table.reader.refuse(
            f"{path} is empty: name a namespace, or leave the key out for all", node, path=path,
            fix="name a namespace, or leave the key out for all",
        )  # fmt: skip
    for pattern in patterns:
        if not _NAMESPACES.fullmatch(pattern):
            table.reader.refuse(
                f"{path}: {quoted(pattern[:64])} is neither the name of a namespace nor"
                " a pattern of one with * and ?",
                node, path=path, fix="write the name of a namespace, or a pattern with * and ?",
            )  # fmt: skip
    return tuple(dict.fromkeys(patterns))


def _entry(
    kind: str, node: yaml.Node, reader: Reader, path: str, native: frozenset[str]
) -> list[ChannelConfig]:
    keys = MAPPINGS[KINDS[kind]]
    reader.lines[path] = node.start_mark.line + 1
    table = reader.table(node, path, keys) or Table(reader, path, {}, keys)
    table.idle()
    config = _ENTRIES[kind](table)
    table.close()
    if not isinstance(config, (EmailConfig, WebhookConfig)):
        return [config]
    if kind not in native:
        table.lost(
            f"is never delivered: delivery.{kind}.enabled is false",
            f"set delivery.{kind}.enabled: true in the settings file, or remove the entry",
        )
    elif not config.complete:
        needed = "to, from and smarthost" if kind == "email" else "url or credentialRef"
        table.lost("is never delivered: it is not fully configured", f"add {needed}")
    elif isinstance(config, EmailConfig):
        return _recipients(config, table, node)
    else:
        _check_authentication(config, reader, path, node)
    return [config]


def _recipients(config: EmailConfig, table: Table, node: yaml.Node) -> list[ChannelConfig]:
    """One entry per recipient; upstream never reads these texts, so they are checked only here."""

    def refuse(key: str, why: str, fix: str) -> None:
        path = f"{table.path}.{key}"
        table.reader.refuse(f"{path} {why}", table.node(key) or node, path=path, fix=fix)

    key = "to"
    try:
        recipients = parse_recipients(config.to)
        key = "from"
        name, sender = parse_sender(config.sender)
        key = "smarthost"
        host, port = parse_smarthost(config.smarthost, config.security)
    except ValueError as error:
        refuse(key, str(error), _MAIL_FIXES[key])
        return [config]
    if bool(config.username) != bool(config.credential_ref):
        refuse("username", "and credentialRef (its password) go together", "add the other one")
    if config.security is Security.NONE and config.require_tls:
        refuse("tls", "must not be none where requireTls is true", "remove one of the two")
    if config.security is Security.NONE and config.credential_ref:
        refuse("tls", "must not be none where there is a password", "remove tls: none")
    if config.security is not Security.NONE and not config.require_tls and table.node("requireTls"):
        table.warn(
            "has no effect: TLS is always required unless tls is none",
            "remove it; set tls: none for a server without TLS",
            "requireTls",
        )
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
        table.warn(
            "names a recipient more than once: the first entry is used",
            "name each recipient once",
            "emailConfigs",
        )
    return list(once.values())


def _check_authentication(
    config: WebhookConfig, reader: Reader, path: str, node: yaml.Node
) -> None:
    where = f"{path}.httpConfig"

    def refuse(at: str, why: str, fix: str) -> None:
        reader.refuse(f"{at}: {why}", node, path=at, fix=fix)

    bearer = [key for key in (config.bearer_token, config.bearer_token_ref) if key]
    passwords = [key for key in (config.password, config.password_ref) if key]
    if len(bearer) > 1:
        refuse(where, "bearerToken and bearerTokenRef exclude each other", "keep bearerTokenRef")
    if len(passwords) > 1:
        refuse(
            f"{where}.basicAuth", "password and passwordRef exclude each other", "keep passwordRef"
        )
    if bool(config.username) != bool(passwords) or ":" in config.username:
        refuse(
            f"{where}.basicAuth",
            "needs a username without a colon, and a password",
            "write username and passwordRef",
        )
    if bearer and passwords:
        refuse(where, "a token and basicAuth exclude each other", "keep one of the two")
    # A URL that is a credential is not known here; see `refused_in_clear`.
    if sends_in_clear(config, config.url):
        refuse(
            where,
            "token or password would be sent over http://; use https://, or say"
            " credentialsOverHttp: true",
            "use https://, or set credentialsOverHttp: true",
        )


def _url(table: Table) -> UrlConfig:
    return UrlConfig(table.text("credentialRef"))


def _local(table: Table) -> LocalConfig:
    table.enabled()
    return LocalConfig()


def _pagerduty(table: Table) -> PagerDutyConfig:
    key = table.text("dedupKey")
    if key not in {"", ALERTMANAGER}:
        path = f"{table.path}.dedupKey"
        fix = f"write {ALERTMANAGER}, or remove it"
        table.reader.refuse(f"{path}: must be {ALERTMANAGER}", None, path=path, fix=fix)
    config = PagerDutyConfig(table.text("credentialRef"), table.text("url"), groups=bool(key))
    if in_clear(config.url):
        table.warn(
            "sends the routing key over http://, readable on the network", "use https://", "url"
        )
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
        scheme=http.text("scheme"),
        headers=_headers(table),
        source={k: v for k in sorted(MEMBERS) if (v := table.tree(k)) is not None},
    )
    http.close()
    basic.close()
    return config


def _headers(table: Table) -> tuple[tuple[str, str], ...]:
    """Read headers, which are the same for all notifications."""
    found = table.pairs("headers")
    for name, value in found:
        wrong = not _HEADER.fullmatch(name) or not _HEADER_VALUE.fullmatch(value) or "{{" in value
        if wrong or name.lower() in _RESERVED:
            path = f"{table.path}.headers.{name}"
            table.reader.refuse(
                f"{path}: is no header that may be set, or no plain text", table.node("headers"),
                path=path, fix="write a constant text; credentials go into httpConfig",
            )  # fmt: skip
    return tuple(found)


_ENTRIES: Final[Mapping[str, Callable[[Table], ChannelConfig]]] = {
    "slack": _url,
    "pagerduty": _pagerduty,
    "teams": _url,
    "email": _email,
    "webhook": _webhook,
    "console": _local,
    "file": _local,
    "log": _local,
}


def warn_about_names(
    reader: Reader, receivers: tuple[Receiver, ...], native: frozenset[str]
) -> None:
    """Warn about receivers that are not used, or not by the channel's name that they seem to have."""
    last = {receiver.name: n for n, receiver in enumerate(receivers)}
    owners: dict[str, str] = {}
    for n, receiver in enumerate(receivers):
        if last[receiver.name] != n:
            reader.warn(
                receiver.path,
                "is not used: a later receiver has the same name",
                "remove it, or give it a name of its own",
            )
            continue
        for name, target in receiver.channels(native):
            bare = name == target.kind
            if not bare and owners.setdefault(name, receiver.name) != receiver.name:
                reader.warn(
                    receiver.path,
                    f"shares the channel name {name} with receiver {owners[name]}, which gets it",
                    "rename one of the two receivers",
                )
