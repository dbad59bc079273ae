"""
Settings that both commands need.

One YAML document configures everything; each command reads the groups it needs and leaves the rest
alone, so that both accept the same file. `configfile` reads it and says what it accepts. Every field
carries a description with unit, default, reason and danger; the reference page is made from these.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import Field, SecretStr, field_validator

from syncer.configfile import (
    Duration,
    Group,
    Level,
    Names,
    build,
    constant,
    constants_of,
    keys_of,
    secret_of,
    unknown_keys,
)
from syncer.ledger.url import parse_redis_url, with_password, with_sentinel_password
from syncer.model.errors import ConfigError
from syncer.model.finding import Finding, Severity
from syncer.yamlfile import Document, read_file

#: Keys of `redis` that name files with secrets, in both spellings.
_SECRET_FILES: Final = {
    "urlFile": "url_file",
    "passwordFile": "password_file",
    "sentinelPasswordFile": "sentinel_password_file",
}

#: The default directory of credentials, and the file in it that may hold the URL of Redis: a credential can
#: be mounted even where nothing else can.
CREDENTIALS_DIR: Final = "/etc/notification/credentials/"
REDIS_CREDENTIAL: Final = "notification-ledger.redis-url"
_ADOPTION: Final = "notification-ledger.adoption-before"
#: How far the clock that `adoption.before` was read from may be ahead. Local time labelled as UTC is
#: further off; if it were accepted, the statuses of the hours to come would be believed.
_FAST: Final = timedelta(minutes=5)

#: A name that a namespace can have.
LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
#: File with the namespace of the pod's service account.
NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class LoggingSettings(Group):
    """Logs, on standard error."""

    level: Level = Field(
        default="INFO",
        description="DEBUG, INFO, WARN or ERROR; default INFO. DEBUG adds a line for each "
        "decision and is verbose under load. No level shows bodies or credentials.",
    )
    format: Literal["json", "console"] = Field(
        default="json",
        description="json (default) writes one object per line for collectors; console is for "
        "people at a terminal and has no stable form.",
    )


class RedisSettings(Group):
    """The Redis that holds the attempt logs."""

    url: SecretStr = Field(
        description="URL of Redis, with user, password and database: redis://host:port/0, "
        "rediss:// (TLS) or unix:// for one server; redis+sentinel://host:port,host:port/SERVICE "
        "for the master that the Sentinels report; redis+cluster://host:port,host:port for some nodes "
        "of a Redis Cluster; rediss+... for TLS. Options of the connection follow as a query "
        "(ssl_ca_certs, sentinel_password, ...). Default the variable REDIS_URL, else the file "
        "notification-ledger.redis-url in the credentials directory; one of them is required. The "
        "whole URL is a secret and is never printed.",
    )
    url_file: str = Field(
        default="",
        description="File that holds the URL, in place of `url`; default none. Use it for a URL "
        "from a Secret. Read only at startup.",
    )
    password_file: str = Field(
        default="",
        description="File that holds the password of the user in `url`, which must not contain "
        "one then; default none. Trailing line ends are ignored. Read only at startup.",
    )
    sentinel_password_file: str = Field(
        default="",
        description="The same for the Sentinels' own password; default none.",
    )
    key_prefix: str = Field(
        default="nl",
        description="Prefix of every key; default nl. Each installation needs its own: a prefix "
        "that another installation uses is refused at startup. Letters, digits, `_`, `-` and `.`; "
        "no colon, because its keys could then collide with those of a shorter prefix. Changing "
        "it hides all earlier logs.",
    )
    durability: Literal["relaxed", "strict"] = Field(
        default="relaxed",
        description="relaxed (default) accepts the server's persistence: a crash of Redis may lose its "
        "last second (or more, without an append-only file, which is logged at startup), and what "
        "was sent in that time may be sent again. strict refuses to start unless every write is on "
        "disk before it is answered (appendfsync always). If there are replicas, it sends only "
        "what one has confirmed, and holds attempts while none does.",
    )
    appendfsync: Literal["", "always", "everysec", "no"] = Field(
        default="",
        description="The server's appendfsync, as its operator states it; default none. Needed "
        "with durability strict if the user may not run CONFIG GET, which no user should: the "
        "setting is then not visible. What the server itself reports takes precedence.",
    )
    timeout: Duration = constant(3.0)

    @field_validator("url")
    @classmethod
    def _usable_url(cls, url: SecretStr) -> SecretStr:
        parse_redis_url(url.get_secret_value())
        return url

    @field_validator("key_prefix")
    @classmethod
    def _plain_prefix(cls, prefix: str) -> str:
        # Braces would move the hash tag, and with it the slot, away from the uid. A Redis user is
        # given `~<prefix>:*`, which must cover the keys of no other installation.
        if ":" in prefix:
            raise ValueError(
                "must hold no `:`, which would put its keys among another prefix's keys"
            )
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", prefix):
            raise ValueError("must be 1 to 64 of letters, digits, `_`, `-` and `.`")
        return prefix

    def remarks(self, source: Document) -> list[Finding]:
        """Return findings about settings that are allowed but less safe than they look."""
        if not parse_redis_url(self.url.get_secret_value()).unverified:
            return []
        return [
            Finding(
                Severity.WARNING,
                "redis.url",
                "has ssl_cert_reqs=none, which lets any server pose as Redis and read the password;"
                " name its authority in ssl_ca_certs instead",
                fix="name its authority in ssl_ca_certs instead",
                line=source.line("redis.url"),
            )
        ]

    def seen_in(self, info: Mapping[str, str]) -> dict[str, str]:
        """Return the members of INFO; the settings fill in what the server does not report."""
        said = {"appendfsync": self.appendfsync} if self.appendfsync else {}
        return {**said, **info}


class ShardingSettings(Group):
    """
    How replicas share the work: each replica has a session, each shard a Lease and one owner at a time.

    LeaseDuration is not a setting. It is derived, so that no send can outlive the lease term in which it
    began: see `lease_duration`.
    """

    lease_name: str = Field(
        default="notification-ledger",
        description="Name of the Leases: `<name>-<shard>`, `<name>-session-<hash>` for each "
        "replica, and `<name>-map` for the number of shards; default notification-ledger. Two "
        "installations in one namespace need different names.",
    )
    shards: int = constant(16)
    incarnation: int = Field(
        default=0,
        ge=0,
        le=9_999_999_999,
        description="First part of every epoch; default 0. Raise it by one after a restore of "
        "etcd or a move to another cluster, where resourceVersions start again. Never lower it: "
        "logs with a higher one would not be used.",
    )
    renew_deadline: Duration = constant(5.0)
    retry_period: Duration = constant(2.0)
    margin: Duration = constant(3.0)

    @field_validator("lease_name")
    @classmethod
    def _dns_name(cls, name: str) -> str:
        # `-map` and `-255` must fit within the 63 characters of a name.
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,56}[a-z0-9])?", name):
            raise ValueError("must be a DNS label of at most 58 characters")
        return name

    def lease_duration(self, largest_send_timeout: float) -> float:
        """LeaseDuration in seconds: renewDeadline + the longest that a send may take + margin."""
        return self.renew_deadline + largest_send_timeout + self.margin


class SyncSettings(Group):
    """How the record is copied from the log into the objects' status."""

    window: Duration = constant(0.5)
    writers: int = constant(8)
    max_status_bytes: int = constant(65_536)
    resync: Duration = constant(10.0)
    live_sweep: Duration = constant(30.0)
    finished_sweep: Duration = constant(600.0)
    hold_notice: Duration = constant(60.0)
    scrub_rate: float = constant(2.0)
    scrub_pause: Duration = constant(60.0)

    status_policy: str = Field(
        default="",
        description="Name of the ValidatingAdmissionPolicy, and of its binding, by which the API server "
        "lets nobody else write statuses; default none. The controller checks once a minute whether "
        "it is in force, which needs permission to get both.",
    )


class WatchRules(Group):
    """Which notifications the controller watches; the operators' command looks there as well."""

    namespaces: Names | Literal["*"] = Field(
        default=(),
        description="Namespaces to watch: a list, or `*` for all; default only the controller's "
        "own. All namespaces need a ClusterRoleBinding.",
    )

    @field_validator("namespaces", mode="before")
    @classmethod
    def _list_or_star(cls, value: object) -> object:
        if value == "*":
            return value
        if not isinstance(value, (list, tuple)) or not all(isinstance(n, str) for n in value):
            raise ValueError("must be a list of namespaces, or `*`")
        if not all(LABEL.fullmatch(n) for n in value):
            raise ValueError("holds a name that no namespace can have")
        return tuple(dict.fromkeys(value))


class DeliveryRules(Group):
    """Settings for whether and how often something is sent, which the operators' command explains."""

    guarantee: Literal["atLeastOnce", "atMostOnce"] = Field(
        default="atLeastOnce",
        description="atLeastOnce (default) sends again if a result cannot be known; atMostOnce "
        "stops there, so a message may be missing but is never duplicated.",
    )
    on_operator_error: Literal["fail", "hold"] = Field(
        default="fail",
        description="What happens if a receiver refuses something that an operator configured: a refused "
        "certificate or login, an unknown URL or routing key, an empty credential, an unknown host. "
        "`fail` (default of a file, as of the replaced controller) fails the channel for good; `hold` "
        "(default of the chart) waits, and sends once it is corrected, within 24 hours.",
    )
    paused: bool = Field(
        default=False,
        description="true holds back every delivery until it is false again; default false. A "
        "change takes effect within about a second, without a restart. Attempts under way finish; "
        "the log of each waiting notification says why it waits.",
    )
    max_age: Duration = Field(
        default=0.0,
        description="A notification older than this is not sent any more: its due channels fail "
        "permanently, and log and status say why; default 0, no limit. After a long outage, it "
        "prevents pages about old events. Age counts from the object's creation, so "
        "the clocks of API server and Redis must agree well enough.",
    )

    @property
    def at_most_once(self) -> bool:
        """Whether an attempt whose result is unknown ends its channel."""
        return self.guarantee == "atMostOnce"


class AdoptionSettings(Group):
    """Which notifications another controller has handled."""

    before: str = Field(
        default="",
        description="Notifications created before this time (RFC 3339) are taken as their status shows "
        "them; default the variable ADOPTION_BEFORE, else the file "
        "notification-ledger.adoption-before in the credentials directory, else when this "
        "installation was founded. When another controller has worked since then, set the time at "
        "which it was stopped. `syncer verify` goes by it, and where no admission policy protects "
        "statuses, the controller does.",
    )

    @field_validator("before", mode="before")
    @classmethod
    def _a_time(cls, value: object) -> str:
        # YAML turns an unquoted time into a datetime.
        text = value.isoformat() if isinstance(value, datetime) else str(value or "").strip()
        return _moment(text) if text else ""

    @property
    def moment(self) -> int:
        """Unix milliseconds, 0 if there is none."""
        return round(datetime.fromisoformat(self.before).timestamp() * 1000) if self.before else 0


def _moment(text: str) -> str:
    """Return the text of a past time, stripped; ValueError for any other text."""
    with contextlib.suppress(ValueError):
        when = datetime.fromisoformat(text.strip())
        if when.tzinfo is not None and when - datetime.now(UTC) < _FAST:
            return text.strip()
    raise ValueError("must be a time in the past, such as 2026-01-31T12:00:00Z")


class SyncerSettings(Group):
    """The settings that the operators' command reads from the file."""

    logging: LoggingSettings = LoggingSettings()
    controller: WatchRules = WatchRules()
    delivery: DeliveryRules = DeliveryRules()
    adoption: AdoptionSettings = AdoptionSettings()
    redis: RedisSettings
    sharding: ShardingSettings = ShardingSettings()
    sync: SyncSettings = SyncSettings()


def load(
    path: Path | str | None,
    *,
    redis_url: str | None = None,
    env: Mapping[str, str] = MappingProxyType({}),
) -> tuple[SyncerSettings, tuple[str, ...]]:
    """
    Read the operators' settings from a file, a URL of Redis or both; the URL takes precedence.

    If neither says where Redis is, it is looked up as the controller does, with `env` as the environment.
    Groups of other commands in the file are ignored.

    Returns:
        The settings, and warnings.

    Raises:
        ConfigError: as `read_file` and `build`.
    """
    source = read_file(path) if path is not None else Document({})
    document = source.values
    if redis_url is not None:
        redis = document.get("redis")
        kept = redis if isinstance(redis, dict) else {}
        # The given URL is complete; the secrets in the file belong to the file's own URL.
        kept = {
            key: kept[key] for key in kept if key not in {*_SECRET_FILES, *_SECRET_FILES.values()}
        }
        document = {**document, "redis": {**kept, "url": redis_url}}
    document = with_adoption(with_redis_secrets(document, env), env)
    known = {
        name: document[name] for name in keys_of(SyncerSettings) if document.get(name) is not None
    }
    # Most keys of these groups belong to another command.
    shared = {"controller", "delivery"}
    checked = {name: group for name, group in known.items() if name not in shared}
    settings = build(SyncerSettings, known, source, constants=constants_of(env))
    remarks = [*unknown_keys(SyncerSettings, checked, source), *settings.redis.remarks(source)]
    return settings, tuple(remark.text for remark in remarks)


def own_namespace(file: Path | None = None) -> str:
    """Return the namespace of the pod that this process runs in, empty outside a pod."""
    try:
        return (file or NAMESPACE_FILE).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def with_redis_secrets(document: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """
    Return a settings file's document with the complete URL of Redis.

    The URL comes from `redis` in the file, else from the variable REDIS_URL, else from a file in the
    directory of credentials. Passwords from further files are put into it.

    Raises:
        ConfigError: a file cannot be read or is empty, the URL already holds what a file adds, or nothing
            says where Redis is.
    """
    out = dict(document)
    redis = out.get("redis")
    if redis is not None and not isinstance(redis, Mapping):
        return out
    redis = dict(redis or {})

    def given(key: str) -> object:
        value = redis.get(key)
        return redis.get(_SECRET_FILES[key]) if value is None else value

    if isinstance(path := given("urlFile"), str) and path:
        if redis.get("url"):
            raise ConfigError("must not be set beside redis.url", path="redis.urlFile")
        redis["url"] = secret_of(path, "redis.urlFile")
    if not redis.get("url"):
        in_env = "REDIS_URL", env.get("REDIS_URL", "")
        source, found = in_env if in_env[1] else _redis_credential(document)
        redis["url"] = found
        try:
            parse_redis_url(found)
        except ValueError as error:  # names `source`, because the file has no `redis.url`
            raise ConfigError(str(error), path=source) from None
    for key, put in (
        ("passwordFile", with_password),
        ("sentinelPasswordFile", with_sentinel_password),
    ):
        path, url = given(key), redis.get("url")
        if not isinstance(path, str) or not path or not isinstance(url, str):
            continue
        try:
            redis["url"] = put(url, secret_of(path, f"redis.{key}"))
        except ValueError as error:
            raise ConfigError(str(error), path=f"redis.{key}") from None
    out["redis"] = redis
    return out


def with_adoption(document: dict[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """Return a settings file's document with `adoption.before` from any of its three places."""
    adoption = document.get("adoption") or {}
    if not isinstance(adoption, Mapping) or adoption.get("before"):
        return document
    file = _credential(document, _ADOPTION)
    source, before = "ADOPTION_BEFORE", env.get("ADOPTION_BEFORE")
    if not before and file.exists():
        source, before = str(file), secret_of(str(file), str(file))
    if not before:
        return document
    try:
        return document | {"adoption": {**adoption, "before": _moment(before)}}
    except ValueError as error:
        raise ConfigError(str(error), path=source) from None


def _credential(document: Mapping[str, Any], name: str) -> Path:
    """Return the path of a file in the directory of credentials that a settings file names."""
    folder: Any = document
    for key in ("delivery", "credentials", "dir"):
        folder = folder.get(key) if isinstance(folder, Mapping) else None
    return Path(folder if isinstance(folder, str) and folder else CREDENTIALS_DIR) / name


def _redis_credential(document: Mapping[str, Any]) -> tuple[str, str]:
    """Return the credential that holds the URL of Redis, and the URL; ConfigError if there is none."""
    file = _credential(document, REDIS_CREDENTIAL)
    if not file.exists():
        raise ConfigError(
            "is not set, and neither is the variable REDIS_URL, nor is there a file"
            f" {file}: one of the three must hold the URL of Redis",
            path="redis.url",
        )
    return str(file), secret_of(str(file), str(file))
