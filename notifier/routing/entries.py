"""
The receivers of a routing file: their entries, and warnings about entries that are never delivered.

The contents of e-mail and webhook entries are checked only if such entries are delivered here: the replaced
controller never read them, so existing files may hold anything.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic.alias_generators import to_camel

from notifier.routing.config import KINDS, SHARED, Fallback, Receiver, quoted, sends_in_clear
from notifier.routing.document import MAX_NAME, Reader
from notifier.routing.mail import (
    PORTS,
    Security,
    parse_recipients,
    parse_sender,
    parse_smarthost,
    recipient_tag,
)
from notifier.routing.models import (
    ChannelConfig,
    EmailConfig,
    LocalConfig,
    PagerDutyConfig,
    ReceiverSection,
    RouteSection,
    WebhookConfig,
)
from notifier.templates.request import WebhookSource, webhook_wording
from notifier.templates.wording import Wording, wording_of
from syncer.configfile import parse_duration
from syncer.model.finding import Severity
from syncer.runtime.proxies import in_clear

_MAIL_FIXES: Final = {
    "to": "write addresses, separated by commas: ops@example.org, on-call@example.org",
    "from": "write one address: Alerts <alerts@example.org>",
    "smarthost": "write a host, or host:port: mail.example.org:587",
}
_HEADER: Final = re.compile(r"[A-Za-z][-A-Za-z0-9]{0,63}")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{0,1000}")
_RESERVED: Final = frozenset(
    {
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
    }
    | {"proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"webhook-id", "webhook-signature", "webhook-timestamp"}
)
#: Seconds after which a fallback is used in any case: the default leaves time for all attempts of the usual
#: retry policy, and is the same if a circuit breaker prevents them. After a day a fallback is of no use.
_USUAL_WAIT: Final = 600.0
_LONGEST_WAIT: Final = 86_400.0
#: Name of a namespace, or a pattern for such names.
_NAMESPACES: Final = re.compile(r"[a-z0-9*?](?:[-a-z0-9*?]{0,61}[a-z0-9*?])?")


def receivers_of(
    reader: Reader, given: Sequence[ReceiverSection | None], native: frozenset[str]
) -> Iterator[Receiver]:
    """Yield the receivers of a file; the `native` kinds are delivered here."""
    for n, section in enumerate(given):
        path = f"receivers[{n}]"
        if section is None:
            reader.refuse(f"receivers[{n}] is empty", path, "remove the dash")
            continue
        if wrong := _wrong_name(section.name):
            reader.refuse(f"receiver name {wrong}", f"{path}.name", "write name: NAME")
        templates = {to_camel(k): v for k, v in section.templates if v is not None}
        entries: list[tuple[str, tuple[ChannelConfig, ...]]] = []
        for kind, key in KINDS.items():
            configs = [
                config
                for number, entry in enumerate(getattr(section, f"{kind}_configs"))
                for config in _entry(
                    reader, kind, entry, f"{path}.{key}[{number}]", native, templates=templates
                )
            ]
            if kind == "email" and kind in native:
                configs = _each_recipient_once(configs, reader, path)
            if configs:
                entries.append((kind, tuple(configs)))
        namespaces = _namespaces(reader, section, path)
        wordings = _wordings(reader, templates, path, [kind for kind, _ in entries])
        if not entries:
            reader.warn(
                path,
                "configures nothing: it delivers to the console",
                "add a list such as slackConfigs, or consoleConfigs: [{enabled: true}] if it is meant",
            )
        if namespaces and (not entries or any(kind in SHARED for kind, _ in entries)):
            reader.warn(
                f"{path}.allowedNamespaces",
                "does not restrict console, file and log: they belong to no receiver",
                "give those a receiver of their own, without allowedNamespaces",
            )
        unknown = reader.unknown.get(path, ())
        fallback = fallback_of(reader, section, path, section.name)
        yield Receiver(section.name, tuple(entries), namespaces, unknown, path, wordings, fallback)


def fallback_of(
    reader: Reader, section: ReceiverSection | RouteSection, path: str, instead_of: str
) -> Fallback | None:
    """Return the fallback that a receiver or route names; whether it exists is checked later."""
    name, text = section.fallback, section.fallback_after
    at, after = f"{path}.fallbackAfter", _USUAL_WAIT
    try:
        after = parse_duration(text) if text else after
    except ValueError as error:
        reader.refuse_key(at, str(error), "write a time: 5m")
    if text and not name:
        reader.refuse_key(at, "needs a fallback", "add fallback: NAME")
    if text and not 1 <= after <= _LONGEST_WAIT:
        reader.refuse_key(at, "must be from 1s to 24h", "write a time: 5m")
    if name and name == instead_of:
        reader.refuse_key(f"{path}.fallback", "names the receiver itself", "name another receiver")
    return Fallback(name, after) if name else None


def _wordings(
    reader: Reader, source: Mapping[str, Any], path: str, kinds: list[str]
) -> dict[str, Wording]:
    """Compile a receiver's templates for each kind of its channels."""
    wordings: dict[str, Wording] = {}
    for kind in kinds if source else ():
        if kind not in SHARED:
            try:
                wordings[kind] = wording_of(kind, source)
            except ValueError as error:
                place, _, reason = str(error).partition(": ")
                fix = "correct the template; docs/templates.md has the language"
                reader.refuse_key(f"{path}.templates.{place}", reason, fix)
    if source and not wordings:
        reader.warn(
            f"{path}.templates",
            "have no effect: the receiver has only console, file or log",
            "remove them, or put them into the receiver that they are for",
        )
    return wordings


def _wrong_name(name: str) -> str:
    """Return why a receiver cannot have a name, empty if it can."""
    if not name:
        return "cannot be empty"
    if len(name) > MAX_NAME:
        return f"is longer than {MAX_NAME} characters"
    # A recorded plan has one channel per line, and terminals obey some control characters.
    if any(unicodedata.category(c) == "Cc" for c in name):
        return "holds a control character"
    return ""


def _namespaces(reader: Reader, section: ReceiverSection, path: str) -> tuple[str, ...]:
    """Return the namespaces that a receiver accepts; an empty list, which is ambiguous, is refused."""
    patterns = section.allowed_namespaces
    path = f"{path}.allowedNamespaces"
    if "allowed_namespaces" in section.model_fields_set and not patterns:
        fix = "name a namespace, or leave the key out for all"
        reader.refuse(f"{path} is empty: {fix}", path, fix)
    for pattern in patterns:
        if not _NAMESPACES.fullmatch(pattern):
            reader.refuse(
                f"{path}: {quoted(pattern[:64])} is neither the name of a namespace nor"
                " a pattern of one with * and ?",
                path, "write the name of a namespace, or a pattern with * and ?",
            )  # fmt: skip
    return tuple(dict.fromkeys(patterns))


def _worded(
    reader: Reader, config: WebhookConfig, path: str, templates: Mapping[str, Any]
) -> WebhookConfig:
    """Check a webhook's headers, and compile its own requests, if it defines any."""
    for name, value in config.headers.items():
        wrong = not _HEADER.fullmatch(name) or not _HEADER_VALUE.fullmatch(value) or "{{" in value
        if wrong or name.lower() in _RESERVED:
            reader.refuse_key(
                f"{path}.headers.{name}",
                "is not a header that may be set, or its value is not plain text",
                "write a constant text; credentials go into httpConfig",
            )
    if not config.model_fields_set & set(WebhookSource.model_fields):
        return config
    try:
        return config.model_copy(update={"wording": webhook_wording(config, templates)})
    except ValueError as error:
        place, _, reason = str(error).partition(": ")
        fix = "correct it; docs/receivers.md has entries that work"
        reader.refuse_key(f"{path}.{place}", reason, fix)
        return config


def _entry(
    reader: Reader,
    kind: str,
    config: ChannelConfig,
    path: str,
    native: frozenset[str],
    *,
    templates: Mapping[str, Any],
) -> list[ChannelConfig]:
    if isinstance(config, LocalConfig):
        if not config.enabled:
            reader.warn(
                f"{path}.enabled",
                "has no effect: what is listed is delivered",
                "remove the entry from its list",
            )
        return [LocalConfig()]
    if isinstance(config, PagerDutyConfig) and in_clear(config.url):
        reader.warn(
            f"{path}.url",
            "sends the routing key over http://, readable on the network",
            "use https://",
        )
    if not isinstance(config, (EmailConfig, WebhookConfig)):
        return [config]
    if kind not in native:
        reader.warn(
            path,
            f"is never delivered: delivery.{kind}.enabled is false",
            f"set delivery.{kind}.enabled: true in the settings file, or remove the entry",
            Severity.ERROR,
        )
    elif not config.complete:
        needed = "to, from and smarthost" if kind == "email" else "url or credentialRef"
        reader.warn(
            path,
            "is never delivered: it is not fully configured",
            f"add {needed}",
            Severity.ERROR,
        )
    elif isinstance(config, EmailConfig):
        return _recipients(reader, config, path)
    else:
        _check_authentication(reader, config, f"{path}.httpConfig")
        return [_worded(reader, config, path, templates)]
    return [config]


def _recipients(reader: Reader, config: EmailConfig, path: str) -> list[ChannelConfig]:
    """Return one entry per recipient; upstream never reads these texts, so they are checked here."""

    def refuse(key: str, why: str, fix: str) -> None:
        reader.refuse(f"{path}.{key} {why}", f"{path}.{key}", fix)

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
    security = config.security
    if bool(config.username) != bool(config.credential_ref):
        refuse("username", "and credentialRef (its password) go together", "add the other one")
    if security is Security.NONE and config.require_tls:
        refuse("tls", "must not be none where requireTls is true", "remove one of the two")
    if security is Security.NONE and config.credential_ref:
        refuse("tls", "must not be none where there is a password", "remove tls: none")
    written = config.model_fields_set
    if security is not Security.NONE and not config.require_tls and "require_tls" in written:
        reader.warn(
            f"{path}.requireTls",
            "has no effect: TLS is always required unless tls is none",
            "remove it; set tls: none for a server without TLS",
        )
    if port == PORTS[Security.IMPLICIT] and "security" not in written:
        # A server on this port expects TLS from the first byte; with STARTTLS both sides would wait.
        security = Security.IMPLICIT
    whole = {
        "sender": sender,
        "sender_name": name,
        "host": host,
        "port": port,
        "security": security,
    }
    return [config.model_copy(update={**whole, "to": recipient}) for recipient in recipients]


def _each_recipient_once(
    configs: list[ChannelConfig], reader: Reader, path: str
) -> list[ChannelConfig]:
    """Drop repeated recipients: a receiver sends a message to each recipient once."""
    once: dict[str, ChannelConfig] = {}
    for config in configs:
        if isinstance(config, EmailConfig):
            once.setdefault(recipient_tag(config.to), config)
    if len(once) < len(configs):
        reader.warn(
            f"{path}.emailConfigs",
            "names a recipient more than once: the first entry is used",
            "name each recipient once",
        )
    return list(once.values())


def _check_authentication(reader: Reader, config: WebhookConfig, path: str) -> None:
    http, basic = config.http_config, config.http_config.basic_auth
    refuse = reader.refuse_key
    bearer, passwords = (
        http.bearer_token or http.bearer_token_ref,
        basic.password or basic.password_ref,
    )
    if http.bearer_token and http.bearer_token_ref:
        refuse(path, "bearerToken and bearerTokenRef exclude each other", "keep bearerTokenRef")
    if basic.password and basic.password_ref:
        refuse(
            f"{path}.basicAuth", "password and passwordRef exclude each other", "keep passwordRef"
        )
    if bool(basic.username) != bool(passwords) or ":" in basic.username:
        refuse(
            f"{path}.basicAuth",
            "needs a username without a colon, and a password",
            "write username and passwordRef",
        )
    if bearer and passwords:
        refuse(path, "a token and basicAuth exclude each other", "keep one of the two")
    # A URL that is a credential is not known here; see `refused_in_clear`.
    if sends_in_clear(config, config.url):
        refuse(
            path,
            "token or password would be sent over http://; use https://, or say"
            " credentialsOverHttp: true",
            "use https://, or set credentialsOverHttp: true",
        )


def warn_about_names(
    reader: Reader, receivers: tuple[Receiver, ...], native: frozenset[str]
) -> None:
    """Warn about receivers that are not used, or whose channel name leads to another receiver."""
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
