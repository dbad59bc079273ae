"""
The gateway's file: where it listens, and its sources.

It is read by the rules of every settings file of this project (`syncer.configfile`): an unknown key is a
warning with its path, and a wrong value ends the process with its path. Expressions are compiled here, so
that an error is not found only by the first page. Secrets are files, which the settings only name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from notifier.gateway.draft import Options
from notifier.gateway.kinds import KINDS
from notifier.gateway.manifest import PRIORITIES, TYPES, Rules
from notifier.gateway.proofs import AuthSettings
from notifier.gateway.translation import Rate, Source
from notifier.settings import Address, ListenAddress
from notifier.templates.text import Template
from syncer.configfile import (
    NOWHERE,
    Duration,
    Fault,
    Group,
    Listed,
    constant,
    constants_of,
    read_into,
    refusal,
    repeated_keys,
    unknown_keys,
)
from syncer.model.errors import ConfigError
from syncer.model.finding import Finding
from syncer.settings import LABEL, LoggingSettings
from syncer.yamlfile import Document, read_file

#: Most sources of a file.
MOST_SOURCES: Final = 100


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _label(text: str) -> str:
    if not LABEL.fullmatch(text):
        raise ValueError("must be lower-case letters, digits and dashes, at most 63")
    return text


Label = Annotated[str, AfterValidator(_label)]


class LimitSettings(Group):
    """What the gateway handles at once."""

    requests: int = constant(2000)
    connections: int = constant(4096)
    buffered_bytes: int = constant(64 << 20)
    body_seconds: Duration = constant(10.0)


class LinkSettings(Group):
    """A link of a notification."""

    service: str = Field(
        description="Service of the link in the spec's actionLinks; a template, like `url` and `label`."
    )
    url: str = Field(description="Address; a link without an http or https address is left out.")
    label: str = Field(description="Text of the link.")


class MappingSettings(Group):
    """
    How a payload becomes a notification: templates in which `{{ … }}` holds a JMESPath expression over it.

    A field without a template, or whose template finds nothing, has the source's default.
    """

    type: str | None = Field(default=None, description=f"One of {', '.join(TYPES)}.")
    priority: str | None = Field(default=None, description=f"One of {', '.join(PRIORITIES)}.")
    severity: str | None = Field(default=None, description="Free text; routes match on it.")
    subject: str | None = Field(default=None, description="The title; cut to 500 characters.")
    body: str | None = Field(default=None, description="The text; cut to 32 KiB.")
    cluster_id: str | None = Field(
        default=None, alias="clusterID", description="The cluster that the notification is about."
    )
    id: str | None = Field(
        default=None,
        description="Identifies an event, in place of the source's own identity: requests with the same id "
        "make one notification.",
    )
    incident: str | None = Field(
        default=None,
        description="What the notifications of one incident share, in place of the source's own; a "
        "receiver that keeps incidents (PagerDuty) then has one, which `state: resolved` closes.",
    )
    state: str | None = Field(
        default=None,
        description="Whether the incident is `firing` or `resolved`; default the source's, else firing.",
    )
    retention_days: Annotated[str, BeforeValidator(_as_text)] | None = Field(
        default=None, description="Days for which the record is kept, 1 to 90."
    )
    extensions: dict[str, str] = Field(
        default_factory=dict,
        description="Further attributes, by name; routes match on them. They are added to the source's "
        "own; one whose template finds nothing is left out.",
    )
    links: Listed[LinkSettings] = Field(
        default=(), max_length=16, description="Each with `service`, `url` and `label`."
    )


class RetryPolicySettings(Group):
    """How often and how soon a channel is tried again; a missing key has the API server's default."""

    max_attempts: int | None = Field(
        default=None, ge=1, le=10, description="Attempts for each channel."
    )
    initial_backoff_seconds: int | None = Field(  # noqa: V107 (dumped as a whole)
        default=None, ge=1, le=300, description="Seconds before the second attempt."
    )
    backoff_multiplier: int | None = Field(  # noqa: V107 (dumped as a whole)
        default=None, ge=1, le=10, description="Factor by which each wait grows."
    )
    max_backoff_seconds: int | None = Field(  # noqa: V107 (dumped as a whole)
        default=None, ge=60, le=3600, description="Longest wait, in seconds."
    )


class RateSettings(Group):
    """How fast a source may create notifications in one namespace; each replica counts for itself."""

    per_minute: int = Field(ge=1, le=100_000, description="Notifications per minute.")
    burst: int | None = Field(
        default=None, ge=1, le=100_000, description="Notifications at once; default: `perMinute`."
    )
    over: Literal["digest", "refuse"] = Field(
        default="digest",
        description="What happens above the rate. digest: what arrives within two fifths of "
        "`patience` becomes one notification that lists it, routed by the attributes that all of "
        "it shares. refuse: 503, or 429 for senders that retry after a 429.",
    )


class SourceSettings(Group):
    """One program that sends; its address is `/v1/<name>`."""

    name: Label = Field(
        description="Part of the address, of metrics and of a label of the objects."
    )
    kind: str = Field(description=f"The program that sends: {', '.join(sorted(KINDS))}.")
    namespace: str = Field(
        description="Where its notifications are created. It may be a template if `namespaces` lists the "
        "allowed results.",
    )
    namespaces: Listed[Label] = Field(
        default=(), description="Allowed namespaces, if `namespace` is a template."
    )
    auth: AuthSettings = Field(description="Who may send.")
    per: Literal["group", "alert"] = Field(
        default="group",
        description="Alertmanager, Grafana: one notification for each group, or for each alert.",
    )
    ignore_starts_at: bool = Field(
        default=False,
        description="Alertmanager: leave the alerts' start out of the identity of an event. For alerts "
        "that are posted without `startsAt` to highly available peers, which each set their own.",
    )
    dedup_window: Duration | None = Field(
        default=None, le=12 * 3600,
        description="Within this time, an equal event is a duplicate; after it, an intended "
        "repeat. Default: 30m for alertmanager and grafana, unlimited for others. Choose it "
        "longer than twice `group_interval`, and no longer than the shortest `repeat_interval`.",
    )  # fmt: skip
    patience: Duration | None = Field(
        default=None, gt=0, le=60,
        description="How long a request waits for the API server. The default depends on the kind "
        "and is shorter than the time for which its sender waits for an answer.",
    )  # fmt: skip
    retry_after: int | None = Field(
        default=None, ge=1, le=600,
        description="Longest `Retry-After` of a 503, in seconds: each has a time of its own, from half of "
        "it on, so that senders do not come back together.",
    )  # fmt: skip
    expect_every: Duration | None = Field(
        default=None, ge=30, le=7 * 86_400,
        description="Interval within which the source sends. When it has been silent for that "
        "long and a tenth more, one notification says so, and another when it sends again. "
        "Default: it may be silent.",
    )  # fmt: skip
    rate: RateSettings | None = Field(default=None, description="Limits storms.")
    retry_policy: RetryPolicySettings | None = Field(
        default=None, description="Retry policy of its notifications."
    )
    mapping: MappingSettings = Field(
        default_factory=MappingSettings, description="What becomes what."
    )

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"must be one of {', '.join(sorted(KINDS))}")
        return kind


class TlsSettings(Group):
    """TLS of the gateway's own. The files are followed while it runs."""

    cert_file: str = Field(min_length=1, description="The certificate with its chain, in PEM.")
    key_file: str = Field(min_length=1, description="The key, in PEM, not encrypted.")


class LeaseSettings(Group):
    """The Leases that hold when sources with `expectEvery` were heard last."""

    namespace: str = Field(
        default="",
        description="Their namespace; default that of the pod. Whoever may write Leases there can "
        "hide a silence.",
    )
    prefix: Label = Field(
        default="notification-gateway",
        description="Prefix of their names, followed by a dash and the source's name; replicas "
        "share it, other gateways of the namespace must not.",
    )


class GatewaySettings(Group):
    """The gateway's process."""

    listen: ListenAddress = Field(
        default=Address("", 8080), description="Where webhooks are received."
    )
    health_probe_addr: ListenAddress = Field(
        default=Address("", 8081), description="Where /healthz and /readyz are served."
    )
    metrics_addr: ListenAddress = Field(
        default=Address("", 9090), description="Where /metrics is served."
    )
    shutdown_delay: Duration = constant(5.0)
    logging: LoggingSettings = Field(
        default_factory=LoggingSettings, description="Logs, on standard error."
    )
    limits: LimitSettings = constant(LimitSettings())
    tls: TlsSettings | None = Field(
        default=None, description="TLS for the webhooks' port; default none, plain HTTP."
    )
    leases: LeaseSettings = Field(
        default_factory=LeaseSettings,
        description="Leases of the sources that are expected to send.",
    )

    @field_validator("metrics_addr")
    @classmethod
    def _apart(cls, address: Address, info: ValidationInfo) -> Address:
        others = (info.data.get("listen"), info.data.get("health_probe_addr"))
        if address.port and address in others:
            raise ValueError("must differ from listen and healthProbeAddr")
        return address


@dataclass(frozen=True, slots=True)
class Loaded:
    """A gateway's file: settings, sources with the proofs they require, and warnings of unused keys."""

    settings: GatewaySettings
    sources: Mapping[str, tuple[Source, AuthSettings]]
    warnings: tuple[str, ...]


def load(path: Path | str, env: Mapping[str, str]) -> Loaded:
    """Read a file; a ConfigError has the path of the key at fault, and the key's line."""
    source = read_file(path)
    return of_document(source.values, source, constants=constants_of(env))


def of_document(
    document: dict[str, Any],
    source: Document = NOWHERE,
    *,
    constants: Mapping[str, Any] = MappingProxyType({}),
) -> Loaded:
    """
    Make settings from a document; `source` is its file, for lines; `constants` are overrides by tests.

    Raises:
        ConfigError: with the path of the key at fault; further faults follow in the text.
    """
    found, unknown = examine(document, source, constants=constants)
    if isinstance(found, list):
        raise refusal(found, source)
    return replace(found, warnings=tuple(finding.text for finding in unknown))


def examine(
    document: dict[str, Any],
    source: Document = NOWHERE,
    *,
    constants: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Loaded | list[Fault], list[Finding]]:
    """
    Make settings from a document, or return all of its faults; also return the keys that have no effect.

    `source` is its file, for the lines of the findings.
    """
    rest = {key: value for key, value in document.items() if key != "sources"}
    unknown = repeated_keys(source)
    unknown += unknown_keys(GatewaySettings, rest, source)
    settings = read_into(GatewaySettings, rest, constants)
    faults = settings if isinstance(settings, list) else []
    sources: dict[str, tuple[Source, AuthSettings]] = {}
    listed = document.get("sources")
    if not isinstance(listed, list) or not listed:
        faults.append(
            Fault("sources", "is required: a list with an entry for each sender", GatewaySettings)
        )
        listed = []
    elif len(listed) > MOST_SOURCES:
        faults.append(Fault("sources", f"must be at most {MOST_SOURCES}", GatewaySettings))
    for number, entry in enumerate(listed):
        at = f"sources[{number}]"
        unknown += unknown_keys(SourceSettings, entry, source, at=at)
        given = _entry(entry, at)
        if isinstance(given, list):
            faults += given
            continue
        made, auth = given
        if made.name in sources:
            faults.append(Fault(f"{at}.name", "is the name of a source before it", SourceSettings))
        if auth.client_certificate and document.get("tls") is None:
            faults.append(Fault(f"{at}.auth.clientCertificate", "needs `tls`", AuthSettings))
        sources[made.name] = (made, auth)
    if faults or isinstance(settings, list):
        return faults, unknown
    return Loaded(settings, sources, ()), unknown


def _entry(entry: object, at: str) -> tuple[Source, AuthSettings] | list[Fault]:
    """Read the settings of a source, or return their faults."""
    if not isinstance(entry, dict):
        return [Fault(at, "must be a mapping", SourceSettings)]
    given = read_into(SourceSettings, entry)
    if isinstance(given, list):
        return [fault._replace(path=f"{at}.{fault.path}") for fault in given]
    try:
        return _source(given, at), given.auth
    except ConfigError as error:
        message = str(error).removeprefix(f"{error.path}: ")
        return [Fault(error.path, message, SourceSettings)]


def _source(given: SourceSettings, path: str) -> Source:
    kind, rate, rules = KINDS[given.kind], given.rate, _rules(given, path)
    if given.kind == "heartbeat" and given.expect_every is None:
        raise ConfigError("is required for kind heartbeat", path=f"{path}.expectEvery")
    templated = "namespace" in rules.texts
    if templated and not given.namespaces:
        raise ConfigError("is required where namespace is a template", path=f"{path}.namespaces")
    if not templated and not LABEL.fullmatch(given.namespace):
        raise ConfigError("must be the name of a namespace", path=f"{path}.namespace")
    return Source(
        name=given.name,
        kind=kind,
        options=Options(
            each=given.per == "alert",
            ignore_starts_at=given.ignore_starts_at,
            body_alone=_body_alone(given),
            timeless=_timeless(given),
        ),
        rules=rules,
        namespaces=given.namespaces if templated else (given.namespace,),
        window=kind.window if given.dedup_window is None else given.dedup_window,
        patience=given.patience or kind.patience,
        retry_after=given.retry_after or kind.retry_after,
        rate=Rate(rate.per_minute, rate.burst or rate.per_minute, rate.over == "digest")
        if rate
        else None,
        expect_every=given.expect_every or 0.0,
    )


def _body_alone(given: SourceSettings) -> bool:
    """Whether the headers that identify events are unsigned; Standard Webhooks sign only `webhook-id`."""
    signature = given.auth.signature
    return signature is not None and (
        signature.scheme != "standard-webhooks" or given.kind in {"github", "cloudevents"}
    )


def _timeless(given: SourceSettings) -> bool:
    """Whether anybody who has recorded a request can replay it at any time."""
    signature = given.auth.signature
    return (
        signature is not None
        and signature.scheme != "standard-webhooks"
        and not signature.timestamp_header
        and given.auth.client_certificate is None
    )


def _rules(given: SourceSettings, path: str) -> Rules:
    mapping, place = given.mapping, f"{path}.mapping"
    given_texts = mapping.model_dump(
        by_alias=True, exclude_none=True, exclude={"extensions", "links"}
    )
    texts = {key: _template(text, f"{place}.{key}") for key, text in given_texts.items()}
    for key, words in (("type", TYPES), ("priority", PRIORITIES)):
        template = texts.get(key)
        if template and template.constant and template.text not in words:
            raise ConfigError(f"must be one of {', '.join(words)}", path=f"{place}.{key}")
    if given.kind == "json":
        for key in ("subject", "body"):
            if key not in texts:
                raise ConfigError("is required for kind json", path=f"{place}.{key}")
    if "{{" in given.namespace:
        texts["namespace"] = _template(given.namespace, f"{path}.namespace")
    extensions = {
        key: _template(text, f"{place}.extensions.{key}")
        for key, text in mapping.extensions.items()
    }
    links = tuple(
        (
            _template(link.service, f"{place}.links[{number}].service"),
            _template(link.url, f"{place}.links[{number}].url"),
            _template(link.label, f"{place}.links[{number}].label"),
        )
        for number, link in enumerate(mapping.links)
    )
    policy = given.retry_policy
    retries = policy.model_dump(by_alias=True, exclude_none=True) if policy else {}
    return Rules(texts, extensions, links, retries, place)


def _template(text: str, path: str) -> Template:
    try:
        return Template(text)
    except ValueError as error:
        raise ConfigError(str(error), path=path) from None
