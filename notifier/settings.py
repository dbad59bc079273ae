"""
Every setting of the controller: the replaced controller's file and environment, plus ours.

The groups that the operators' command needs too are defined in `syncer.settings`; `syncer.configfile`
defines how a file is read. This module adds delivery, audit, egress and the process. Settings that the file
cannot know come from environment variables and are kept apart in `Environment`.

Two of the replaced controller's keys are accepted without effect, because existing files set
them: `controller.leaderElection` and `controller.leaderElectionId` (ownership is by shards).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from syncer.configfile import (
    Duration,
    Group,
    Names,
    build,
    constant,
    constants_of,
    parse_duration,
    repeated_keys,
    unknown_keys,
)
from syncer.model.errors import ConfigError
from syncer.model.finding import Finding, Severity
from syncer.runtime.proxies import in_clear
from syncer.settings import (
    CREDENTIALS_DIR,
    LABEL,
    AdoptionSettings,
    DeliveryRules,
    LoggingSettings,
    RedisSettings,
    ShardingSettings,
    SyncSettings,
    WatchRules,
    own_namespace,
    with_adoption,
    with_redis_secrets,
)
from syncer.yamlfile import Document, read_file

ROUTING_PATH: Final = "/etc/notification-routing/routing.yaml"
#: The pod's own token. It gives access to the API server, too.
API_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
#: Shortest grace period, in seconds, in which a process can end.
LEAST_GRACE: Final = 3.0
#: Formats of the log channel; any other value means the first.
LOG_FORMATS: Final = ("json", "text")

_HOST: Final = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_ADDRESS_HELP: Final = "must be `:port` or `host:port`"


class Address(NamedTuple):
    """Where to listen; an empty host is every interface, port 0 any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return the form that the settings file uses."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: object) -> Address:
    """
    Read `:9090`, `127.0.0.1:9090` or `[::1]:9090`.

    Raises:
        ValueError: another form, or a port above 65535.
    """
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError(_ADDRESS_HELP)  # noqa: TRY004 - pydantic reports ValueError with its path
    host, colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or (":" in host) != bracketed:
        raise ValueError(_ADDRESS_HELP)
    if int(port) > 65535:
        raise ValueError("port must be at most 65535")
    return Address(host, int(port))


ListenAddress = Annotated[Address, BeforeValidator(parse_address)]


class ControllerSettings(WatchRules):
    """The process itself."""

    metrics_addr: ListenAddress = Field(
        default=Address("", 9090),
        description="Where /metrics is served; default `:9090`.",
    )
    health_probe_addr: ListenAddress = Field(
        default=Address("", 8081),
        description="Where /healthz and /readyz are served; default `:8081`. Its port is part of "
        "the holder identity of leases: it distinguishes two processes on one host.",
    )
    leader_election: bool = Field(
        default=False,
        description="Accepted and ignored; replicas share the work by shards.",
    )
    leader_election_id: str = Field(  # noqa: V107 (accepted, has no effect)
        default="notification.kubernaut.ai",
        description="Accepted and ignored, see leaderElection.",
    )

    @field_validator("health_probe_addr")
    @classmethod
    def _another_address(cls, address: Address, info: ValidationInfo) -> Address:
        if address.port and address == info.data.get("metrics_addr"):
            raise ValueError("must differ from controller.metricsAddr")
        return address


class ConsoleSettings(Group):
    """The console channel."""

    enabled: bool = Field(
        default=True,
        description="Accepted without effect, as in the replaced controller: the console channel "
        "always exists, because routing falls back to it.",
    )


class FileSettings(Group):
    """The file channel."""

    output_dir: str = Field(
        default="",
        description="Directory of the files; default none, which disables the channel. It is "
        "created and write-tested at startup. Files are readable by everybody (0644), because "
        "others are meant to read them; restrict access with the permissions of the directory.",
    )
    format: Literal["json", "yaml"] = Field(default="json", description="json (default) or yaml.")
    timeout: Duration = Field(
        default=5.0,
        gt=0,
        le=300,
        description="Longest time of one write, including the sync to disk; default 5s. After "
        "that, it has failed, or the result is unknown if the file was being renamed.",
    )


class LogChannelSettings(Group):
    """The log channel."""

    enabled: bool = Field(
        default=False,
        description="Whether the channel exists; default false. If it does not, routing to it "
        "fails permanently.",
    )
    format: str = Field(
        default="json",
        description="json (default): one object per line on standard output; text: one line of "
        "plain text. Any other value means json, with a warning.",
    )


class SlackSettings(Group):
    """All HTTP channels; the name is that of the replaced controller's file."""

    timeout: Duration = Field(
        default=10.0,
        gt=0,
        le=300,
        description="Longest time of one request to Slack, PagerDuty, Teams or a webhook, from "
        "resolving the name to the end of the answer; default 10s. The lease is derived from it: "
        "a longer timeout makes a takeover slower.",
    )


class PagerDutySettings(Group):
    """The PagerDuty channel."""

    dedup_namespace: bool = Field(
        default=False,
        description="Whether the deduplication key is `namespace/name`; default false, which is "
        "the replaced controller's plain name: two objects of the same name in two namespaces are "
        "then one incident. If it is not set, the chart sets it as soon as more than one "
        "namespace is watched.",
    )


class WebhookSettings(Group):
    """The native webhook channel."""

    enabled: bool = Field(
        default=False,
        description="Whether webhookConfigs are delivered; default false, as in the replaced "
        "controller: they fail permanently. If true, channels are named `webhook:<receiver>`.",
    )


class EmailSettings(Group):
    """The native e-mail channel."""

    enabled: bool = Field(
        default=False,
        description="Whether emailConfigs are delivered; default false, as in the replaced "
        "controller: they fail permanently. If true, channels are named `email:<receiver>`; with "
        "several recipients, each is `email:<receiver>:<tag>`.",
    )
    timeout: Duration = constant(10.0)


class CredentialsSettings(Group):
    """The files that credentialRefs name."""

    dir: str = Field(
        default=CREDENTIALS_DIR,
        description="Directory with one file for each credential; default "
        "/etc/notification/credentials/. Changes take effect within about a second.",
    )


class DeliverySettings(DeliveryRules):
    """What is sent, and how often."""

    log_outage: Literal["hold", "journal"] = Field(
        default="journal",
        description="What happens to due attempts while no replica reaches Redis. `journal` "
        "(default): they are recorded in the object's status before they are sent, if everything "
        "recorded earlier is known; `hold`: they wait.",
    )
    journal_after: Duration = constant(10.0)
    journal_per_second: float = constant(20.0)
    per_receiver: int = constant(32)
    total: int = constant(256)
    rate_per_second: float = Field(
        default=0.0,
        ge=0,
        le=100_000,
        description="Attempts per second of one receiver, evenly spaced, for each replica; "
        "default 0, no limit. It does not apply to console, file and log.",
    )
    explorer_url: str = Field(
        default="",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="Address of the explorer as its readers reach it; each message then has a link "
        "to the page of its notification, where a channel shows links. Default none.",
    )
    console: ConsoleSettings = ConsoleSettings()
    file: FileSettings = FileSettings()
    log: LogChannelSettings = LogChannelSettings()
    slack: SlackSettings = SlackSettings()
    pagerduty: PagerDutySettings = PagerDutySettings()
    webhook: WebhookSettings = WebhookSettings()
    email: EmailSettings = EmailSettings()
    credentials: CredentialsSettings = CredentialsSettings()

    @property
    def largest_timeout(self) -> float:
        """Longest time that one send may take, in seconds, over all channels that exist."""
        return max(
            self.slack.timeout,
            self.file.timeout if self.file.output_dir else 0.0,
            self.email.timeout if self.email.enabled else 0.0,
        )

    @property
    def native(self) -> frozenset[str]:
        """Channel kinds that are delivered here but not by the replaced controller."""
        switched = {"webhook": self.webhook.enabled, "email": self.email.enabled}
        return frozenset(kind for kind, enabled in switched.items() if enabled)


class BufferSettings(Group):
    """How the audit feed sends to the audit store."""

    buffer_size: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Notifications that may wait in memory for the audit store; default 10000. "
        "Further ones wait only in Redis, where a sweep finds them.",
    )
    batch_size: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Audit events in one request; default 100.",
    )
    flush_interval: Duration = Field(
        default=1.0,
        ge=0.01,
        le=300,
        description="How long an audit event may wait for others to share a request; default 1s.",
    )
    max_retries: int = Field(
        default=3,
        ge=0,
        le=100,
        description="How often a batch is sent again before it is read from the log again; "
        "default 3.",
    )

    @field_validator("batch_size")
    @classmethod
    def _fits_the_buffer(cls, size: int, info: ValidationInfo) -> int:
        if size > info.data.get("buffer_size", size):
            raise ValueError("must not exceed datastorage.buffer.bufferSize")
        return size


class AuditWebhookSettings(Group):
    """A webhook that gets every audit event, in batches of CloudEvents (JSON)."""

    url: str = Field(description="Where to POST; required within the group.")
    timeout: Duration = Field(
        default=10.0, gt=0, le=300, description="Longest time of one request; default 10s."
    )
    token_file: str = Field(
        default="",
        description="File with the bearer token, read for each request; needs an https:// URL. "
        "Default none.",
    )

    @property
    def token(self) -> Path | None:
        """The file with the bearer token, None if no token is sent."""
        return Path(self.token_file) if self.token_file else None

    @field_validator("token_file")
    @classmethod
    def _not_in_clear(cls, path: str, info: ValidationInfo) -> str:
        if path and in_clear(info.data.get("url", "")):
            raise ValueError(
                "must not be set with an http:// URL: the token could be read on the network"
            )
        return path

    @field_validator("url", "health_url", check_fields=False)
    @classmethod
    def _http_url(cls, url: str, info: ValidationInfo) -> str:
        if not url and info.field_name == "health_url":
            return url
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise ValueError("is not a URL") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be an http:// or https:// URL")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must not hold a user or password")
        return url


class DatastorageSettings(AuditWebhookSettings):
    """The audit store. Without this group and those of `audit`, nothing is audited."""

    url: str = Field(description="Base URL of the audit store; required within the group.")
    token_file: str = Field(
        default="",
        description="File with the bearer token for the audit store, read for each request; needs "
        "an https:// URL. Default, as in the replaced controller, the pod's own token, which gives "
        "access to the API server, too; `/dev/null` for none. Over http:// to another machine none "
        "is sent.",
    )
    health_url: str = Field(
        default="",
        description="URL that must answer 2xx before the process is ready; default none: readiness "
        "does not depend on the store. The answer 404 counts as none: this store has no such page.",
    )
    buffer: BufferSettings = BufferSettings()

    @property
    def token(self) -> Path | None:
        """The file with the bearer token, None if the token would be sent in clear text."""
        if self.token_file:
            return Path(self.token_file)
        return None if in_clear(self.url) else API_TOKEN


class AuditSettings(Group):
    """Settings for audit events of every destination; see datastorage for the audit store."""

    file: str = Field(
        default="",
        description="File to which every audit event is appended as a line of JSON; default none. "
        "Its directory must exist and be writable. Replicas must not share one file. A new file "
        "is readable only by its owner (0600); an existing one keeps its mode.",
    )
    webhook: AuditWebhookSettings | None = None
    max_age: Duration = constant(7 * 86400.0)

    @field_validator("file")
    @classmethod
    def _absolute(cls, path: str) -> str:
        if path and not Path(path).is_absolute():
            raise ValueError("must be an absolute path")
        return path


class EgressSettings(Group):
    """Where requests may go. Targets come only from operators' files, never from a notification."""

    mode: Literal["operator", "strict"] = Field(
        default="operator",
        description="operator (default) trusts the files that name targets, and allows private "
        "and loopback addresses; strict denies these unless they are listed. Both deny link-local "
        "and metadata addresses.",
    )
    allow: Names = Field(
        default=(),
        description="Networks (CIDR), addresses or host names (`*.example.com` for everything "
        "below it) that strict mode allows; default none.",
    )
    ca_bundle: str = Field(
        default="",
        description="File with additional certificate authorities (PEM) for receivers; default "
        "none. The system's are trusted as well. Read only at startup.",
    )

    @field_validator("allow")
    @classmethod
    def _networks_or_hosts(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for n, entry in enumerate(entries):
            try:
                ipaddress.ip_network(entry, strict=False)
            except ValueError:
                # Digits, dots and a slash were meant as a network, not as a name.
                if re.fullmatch(r"[0-9./]+", entry) or not _HOST.fullmatch(entry):
                    raise ValueError(
                        f"entry {n} is neither a network, an address nor a host name"
                    ) from None
        return entries


class EventsSettings(Group):
    """Kubernetes Events about notifications; best effort, after the record unless Redis is away."""

    enabled: bool = Field(default=True, description="Whether Events are written; default true.")
    per_second: float = constant(50.0)
    burst: int = constant(1_000)


class RetentionSettings(Group):
    """What happens to a notification after its `retentionDays`."""

    delete_objects: bool | Literal["asCancelled"] = Field(
        default=False,
        description="Whether a finished NotificationRequest is deleted once its retentionDays "
        "have passed since its end; default false: only its log in Redis expires. It is deleted "
        "only if its whole log is published and audited. Needs the permission to delete "
        "notificationrequests; programs that read finished objects must do so within that time. "
        "Where Kubernaut is installed, true deletes nothing, because its webhook records each "
        "deletion as a cancellation; asCancelled deletes there, too.",
    )


class Settings(Group):
    """The whole file."""

    logging: LoggingSettings = LoggingSettings()
    tls_profile: Literal["", "Old", "Intermediate", "Modern"] = Field(
        default="",
        description="Old, Intermediate or Modern: TLS versions and ciphers towards the audit "
        "store; default the runtime's.",
    )
    controller: ControllerSettings = ControllerSettings()
    delivery: DeliverySettings = DeliverySettings()
    datastorage: DatastorageSettings | None = None
    audit: AuditSettings = AuditSettings()
    redis: RedisSettings
    sharding: ShardingSettings = ShardingSettings()
    egress: EgressSettings = EgressSettings()
    events: EventsSettings = EventsSettings()
    sync: SyncSettings = SyncSettings()
    retention: RetentionSettings = RetentionSettings()
    adoption: AdoptionSettings = AdoptionSettings()

    @property
    def auditing(self) -> bool:
        """Whether audit events go anywhere."""
        elsewhere = self.audit.webhook is not None or bool(self.audit.file)
        return self.datastorage is not None or elsewhere

    @property
    def audit_limit(self) -> int | None:
        """Number of notifications that may wait for the audit feed, None without a feed."""
        return self.buffer.buffer_size if self.auditing else None

    @property
    def buffer(self) -> BufferSettings:
        """Bounds of the audit feed, with or without an audit store."""
        return self.datastorage.buffer if self.datastorage else BufferSettings()

    @property
    def lease_duration(self) -> float:
        """LeaseDuration in seconds; derived, never set."""
        return self.sharding.lease_duration(self.delivery.largest_timeout)


@dataclass(frozen=True, slots=True)
class Environment:
    """
    Settings from outside the file.

    Attributes:
        namespace: The controller's own namespace: it holds the Leases and is watched by default.
        routing_path: The routing file.
        kubeconfig: Path of a kubeconfig, None inside a pod.
        tls_ca_file: File with additional certificate authorities for the audit store; default the system's
            alone.
        grace_period: Seconds from SIGTERM to SIGKILL, as in the pod's `terminationGracePeriodSeconds`.
            Sends that have not ended by then are given up and recorded as unknown. None for as long as the
            work may take; 10 in place of Kubernaut's controller.
    """

    namespace: str
    routing_path: Path
    kubeconfig: str | None = None
    tls_ca_file: str | None = None
    grace_period: float | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, warnings about them, the environment, and the file they came from."""

    settings: Settings
    warnings: tuple[str, ...]
    environment: Environment
    path: Path | None = None

    @property
    def namespaces(self) -> tuple[str, ...] | None:
        """Namespaces to watch; None is all of them."""
        wanted = self.settings.controller.namespaces
        if wanted == "*":
            return None
        return wanted or (self.environment.namespace,)


def load(
    path: Path | str,
    env: Mapping[str, str],
    *,
    namespace_file: Path | None = None,
    grace: str = "",
) -> Loaded:
    """
    Read the settings file and the environment.

    Args:
        path: The settings file.
        env: Environment variables of the process; an empty one counts as unset.
        namespace_file: File with the pod's namespace, None for the path that Kubernetes uses.
        grace: The grace period if the environment sets none; empty for as long as the work may take.

    Raises:
        ConfigError: the file cannot be used, or the process's own namespace is not known. The text names
            the dotted path and never a value.
    """
    source = read_file(path)
    document = with_adoption(with_redis_secrets(source.values, env), env)
    settings = build(Settings, document, source, constants=constants_of(env))
    environment = Environment(
        namespace=_home(env, namespace_file),
        routing_path=Path(env.get("ROUTING_CONFIG_PATH") or ROUTING_PATH),
        kubeconfig=env.get("KUBECONFIG") or None,
        tls_ca_file=env.get("TLS_CA_FILE") or None,
        grace_period=_grace(env.get("GRACE_PERIOD") or grace),
    )
    warnings = tuple(remark.text for remark in remarks(source, settings))
    return Loaded(settings, warnings, environment, Path(path))


def remarks(source: Document, settings: Settings | None) -> list[Finding]:
    """
    Find settings that have no effect, or another effect than intended.

    If `settings` is None, because the file cannot be used, only its keys are checked.
    """
    found = repeated_keys(source)
    found += unknown_keys(Settings, source.values, source)
    if settings is None:
        return found

    delivery, store = settings.delivery, settings.datastorage
    for wrong, path, message, fix in (
        (
            settings.controller.leader_election,
            "controller.leaderElection",
            "has no effect: replicas share work by shards",
            "set it to false, or remove it",
        ),
        (
            not delivery.console.enabled,
            "delivery.console.enabled",
            "has no effect: the console channel is always on",
            "remove it; route to no receiver with consoleConfigs instead",
        ),
        (
            delivery.log.format not in LOG_FORMATS,
            "delivery.log.format",
            "has no effect: it is neither json nor text",
            "write json or text",
        ),
        (
            settings.egress.mode == "operator" and settings.egress.allow,
            "egress.allow",
            "has no effect unless egress.mode is strict",
            "set egress.mode: strict, or remove the list",
        ),
        (
            store is not None and store.token is None,
            "datastorage.url",
            (
                "is http://, so no token is sent, because it could be read on the network; a store"
                " that requires one answers 401"
            ),
            "use https://, or ignore this if the store asks for no token",
        ),
    ):
        if wrong:
            found.append(Finding(Severity.WARNING, path, message, fix, source.line(path)))
    return [*found, *settings.redis.remarks(source)]


def _grace(text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"GRACE_PERIOD {error}") from None
    if not seconds >= LEAST_GRACE:
        raise ConfigError(f"GRACE_PERIOD must be at least {LEAST_GRACE:g}s")
    return seconds


def _home(env: Mapping[str, str], namespace_file: Path | None) -> str:
    name = env.get("KUBERNAUT_CONTROLLER_NAMESPACE", "").strip() or own_namespace(namespace_file)
    if not name:
        raise ConfigError(
            "KUBERNAUT_CONTROLLER_NAMESPACE is not set and there is no service account"
        )
    if not LABEL.fullmatch(name):
        raise ConfigError("KUBERNAUT_CONTROLLER_NAMESPACE is not the name of a namespace")
    return name
