"""
Settings that both commands need, and how any settings file is read.

One YAML document configures everything; each command reads the groups it needs and leaves the rest
alone, so that both accept the same file. A group is a frozen model: field names here, camelCase in
the file (the name as written here is accepted too). Every field carries a description with unit,
default, reason and danger; the reference page is made from these.

Rules: an unknown key is a warning with its dotted path, never an error, since a file may be written
for another version. A wrong type or an impossible value is a `ConfigError` with the path. `null`
means default. Durations are Go's (`1m30s`) or plain seconds, and always seconds in the code.

No text made here quotes a value: values may be secrets, and a YAML error would like to print them.
"""

from __future__ import annotations

import difflib
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, Union

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from syncer.ledger.url import parse_redis_url, with_password, with_sentinel_password
from syncer.model.errors import ConfigError

#: Bytes of a settings file; a ConfigMap holds no more.
MAX_FILE: Final = 1 << 20
#: Anchors may be referred to this often. A settings file needs none, a bomb needs many.
_MAX_ALIASES: Final = 32
_MAX_SECONDS: Final = 10.0 * 365 * 86400
_WARNED_KEY: Final = 64
#: Characters of a file that holds one secret.
_MAX_SECRET: Final = 1 << 16
#: Keys of `redis` that name such files, in both spellings.
_SECRET_FILES: Final = {
    "urlFile": "url_file",
    "passwordFile": "password_file",
    "sentinelPasswordFile": "sentinel_password_file",
}

#: A name that a namespace can have.
LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_NUMBER: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{0,9})?")
_UNIT: Final = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip
_DURATION_HELP: Final = "must be a duration such as 500ms, 10s or 1m30s"


def parse_duration(value: object) -> float:
    """
    Read a duration: Go's text form, or a number of seconds. The result is in seconds.

    Raises:
        ValueError: neither form, negative, not finite or beyond ten years. Names the rule, not the
            value.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(_DURATION_HELP)  # noqa: TRY004 - pydantic reports ValueError with its path
    if isinstance(value, str):
        seconds = _text_duration(value.strip())
    else:
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
    if math.isnan(seconds) or seconds < 0:
        raise ValueError("must not be negative")
    if seconds > _MAX_SECONDS:
        raise ValueError("must not exceed ten years")
    return seconds


def _text_duration(text: str) -> float:
    if len(text) > 64:
        raise ValueError(_DURATION_HELP)
    if _NUMBER.fullmatch(text):
        return float(text)
    if text.startswith("-"):
        raise ValueError("must not be negative")
    text = text.removeprefix("+")
    end = 0
    seconds = 0.0
    for part in _PART.finditer(text):
        if part.start() != end:
            break
        seconds += float(part[1]) * _UNIT[part[2]]
        end = part.end()
    if not text or end != len(text):
        raise ValueError(_DURATION_HELP)
    # Sums of decimal fractions: 500ms + 1s is 1.5, not 1.5000000000000002.
    return round(seconds, 9)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Duration = Annotated[float, BeforeValidator(parse_duration)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Level = Annotated[Literal["DEBUG", "INFO", "WARN", "ERROR"], BeforeValidator(_upper)]


class Group(BaseModel):
    """Base of every group: frozen, strict about types, tolerant of unknown keys."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        # Cross-field checks are field validators; they must see defaults too.
        validate_default=True,
        hide_input_in_errors=True,
    )


class LoggingSettings(Group):
    """Where a person looks first."""

    level: Level = Field(
        default="INFO",
        description="DEBUG, INFO, WARN or ERROR; default INFO. DEBUG adds a line per decision and "
        "is loud under load. No level shows bodies or credentials.",
    )
    format: Literal["json", "console"] = Field(
        default="json",
        description="json (default) writes one object per line for collectors; console is for "
        "people at a terminal and has no stable form.",
    )


class RedisSettings(Group):
    """Where the log of attempts lives."""

    url: SecretStr = Field(
        description="Where Redis is, with user, password and database: redis://host:port/0, "
        "rediss:// (TLS) or unix:// for one server; redis+sentinel://host:port,host:port/SERVICE "
        "for the master that Sentinels name; redis+cluster://host:port,host:port for some nodes of "
        "a Redis Cluster; rediss+... for TLS. Options of the connection follow as a query "
        "(ssl_ca_certs, sentinel_password, ...). Required: without the log nothing may be sent. It "
        "is a secret as a whole and is never printed.",
    )
    url_file: str = Field(
        default="",
        description="File that holds the URL, in place of `url`; default none. For a URL that is "
        "kept as a Secret. Read at start only.",
    )
    password_file: str = Field(
        default="",
        description="File that holds the password of the user in `url`, which then has none; "
        "default none. Line ends at its end do not count. Read at start only.",
    )
    sentinel_password_file: str = Field(
        default="",
        description="The same for the Sentinels' own password; default none.",
    )
    key_prefix: str = Field(
        default="nl",
        description="First part of every key; default nl. One installation, one prefix: a prefix "
        "that another installation uses is refused at start. Letters, digits, `_`, `-` and `.`; no "
        "colon, or it would lie under the keys of a shorter prefix. Changing it hides all earlier "
        "logs.",
    )
    durability: Literal["relaxed", "strict"] = Field(
        default="relaxed",
        description="relaxed (default) takes the server's persistence as it is and says in "
        "readiness what it cannot hold; strict refuses to start unless every write is on disk "
        "before it is answered (appendfsync always), and sends only what a replica has confirmed, "
        "where there are any; without the replica it holds. With relaxed, a crash of Redis may lose its "
        "last second, and what was sent in it may be sent again.",
    )
    appendfsync: Literal["", "always", "everysec", "no"] = Field(
        default="",
        description="What the server's appendfsync is set to, said by whoever set it; default "
        "none. Only for a server whose user may not run CONFIG GET, as none should: it cannot be "
        "seen there, and durability strict needs it. What the server itself tells wins.",
    )
    timeout: Duration = Field(
        default=3.0,
        gt=0,
        le=60,
        description="Time for connecting and for each reply; default 3s. A reply that is later "
        "counts as lost, and the call is settled by asking again.",
    )

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
                "must hold no `:`, which would put its keys among another prefix's keys; choose one"
                " without, and move existing logs with `syncer export --key-prefix` and"
                " `syncer import`"
            )
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", prefix):
            raise ValueError("must be 1 to 64 of letters, digits, `_`, `-` and `.`")
        return prefix

    @property
    def warnings(self) -> list[str]:
        """What is allowed and not as safe as it looks, by dotted path."""
        target = parse_redis_url(self.url.get_secret_value())
        if not target.unverified:
            return []
        text = (
            "redis.url: ssl_cert_reqs=none lets anybody answer for Redis and read the password; name"
            " its authority in ssl_ca_certs instead"
        )
        return [text]

    def seen_in(self, info: Mapping[str, str]) -> dict[str, str]:
        """Members of INFO, with what the settings say where the server does not tell."""
        said = {"appendfsync": self.appendfsync} if self.appendfsync else {}
        return {**said, **info}


class ShardingSettings(Group):
    """
    How replicas share the work: one Lease per shard, one owner at a time.

    LeaseDuration is not a setting. It is derived, so that no send can outlive the tenure it began
    in: see `lease_duration`.
    """

    lease_name: str = Field(
        default="notification-ledger",
        description="Name of the Leases: `<name>-<shard>`, and `<name>-map` for the number of "
        "shards; default notification-ledger. Two installations in a namespace need two names.",
    )
    shards: int = Field(
        default=16,
        ge=1,
        le=256,
        description="Number of shards, hence the most replicas that can work at once; default 16. "
        "Fixed at install: another number is refused until the installation is scaled to 0.",
    )
    incarnation: int = Field(
        default=0,
        ge=0,
        le=9_999_999_999,
        description="First part of every epoch; default 0. Raise it by one after a restore of etcd "
        "or a move to another cluster, where resourceVersions start again; never lower it: logs "
        "with a higher one would not be touched.",
    )
    renew_deadline: Duration = Field(
        default=5.0,
        ge=0.5,
        le=300,
        description="Without a renewal for this long, a replica stops sending; default 5s. Shorter "
        "means a quicker takeover and less patience with a slow API server.",
    )
    retry_period: Duration = Field(
        default=2.0,
        ge=0.1,
        le=60,
        description="Time between renewals; default 2s. Must be shorter than renewDeadline.",
    )
    margin: Duration = Field(
        default=3.0,
        ge=0.1,
        le=300,
        description="Part of the lease in which nothing is begun any more; default 3s. It covers "
        "clock drift and the scheduling of a busy node. Too small a margin risks two owners that "
        "send at once.",
    )

    @field_validator("lease_name")
    @classmethod
    def _dns_name(cls, name: str) -> str:
        # Room for `-map` and `-255` within the 63 characters of a name.
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,56}[a-z0-9])?", name):
            raise ValueError("must be a DNS label of at most 58 characters")
        return name

    @field_validator("retry_period")
    @classmethod
    def _renews_in_time(cls, period: float, info: ValidationInfo) -> float:
        if period >= info.data.get("renew_deadline", math.inf):
            raise ValueError("must be shorter than sharding.renewDeadline")
        return period

    def lease_duration(self, largest_send_timeout: float) -> float:
        """LeaseDuration in seconds: renewDeadline + the longest that a send may take + margin."""
        return self.renew_deadline + largest_send_timeout + self.margin


class SyncSettings(Group):
    """How the record is copied from the log into the objects' status."""

    window: Duration = Field(
        default=0.5,
        le=60,
        description="How long news of an object is collected before its status is written; default "
        "500ms. Terminal states are written at once. Longer saves writes to the API server; until "
        "a write the status is behind the log, which loses nothing.",
    )
    writers: int = Field(
        default=16,
        ge=1,
        le=256,
        description="Status writes at the same time; default 16. More needs more of the API "
        "server's priority level.",
    )
    max_status_bytes: int = Field(
        default=65_536,
        ge=16_384,
        le=524_288,
        description="Largest status, in bytes of JSON; default 65536. Above it, error texts are "
        "shortened, then old failures are folded into counts; successes always stay.",
    )
    resync: Duration = Field(
        default=10.0,
        ge=1,
        le=30,
        description="How often every unfinished notification is checked for whether it needs a look; "
        "default 10s. It bounds how long anything due can wait when the event that should have brought "
        "it about got lost. It asks no server, and takes a quarter of a second of CPU per 100,000 "
        "notifications.",
    )
    live_sweep: Duration = Field(
        default=30.0,
        ge=1,
        le=3600,
        description="How often the lengths of unfinished logs are compared with what is known; "
        "default 30s. It is what finds facts that others appended when a notice got lost.",
    )
    finished_sweep: Duration = Field(
        default=600.0,
        ge=1,
        le=86_400,
        description="The same for finished logs; default 10m.",
    )
    hold_notice: Duration = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="An object whose due send was held for this long because Redis is away gets "
        "the condition LogUnavailable; default 60s.",
    )
    scrub_rate: float = Field(
        default=2.0,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Unfinished notifications per second and replica that the self-audit looks at "
        "again, at most; default 2, and 0 switches it off. Each look reads one log and one object.",
    )
    scrub_pause: Duration = Field(
        default=60.0,
        ge=0.1,
        le=86_400,
        description="Rest between two rounds of the self-audit; default 60s. It keeps a small "
        "installation from being looked at all the time.",
    )

    @field_validator("finished_sweep")
    @classmethod
    def _not_more_often(cls, period: float, info: ValidationInfo) -> float:
        if period < info.data.get("live_sweep", 0.0):
            raise ValueError("must not be shorter than sync.liveSweep")
        return period


class WatchRules(Group):
    """Which notifications the controller watches; the operators' command looks there as well."""

    namespaces: Names | Literal["*"] = Field(
        default=(),
        description="Namespaces to watch: a list, or `*` for all; default the own namespace only. "
        "All namespaces need a ClusterRoleBinding.",
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
    """What decides whether, and how often, something is sent; the operators' command explains it."""

    guarantee: Literal["atLeastOnce", "atMostOnce"] = Field(
        default="atLeastOnce",
        description="atLeastOnce (default) sends again when a result cannot be known; atMostOnce "
        "stops there, so that a message may be missing rather than doubled.",
    )
    paused: bool = Field(
        default=False,
        description="true holds back every delivery until it is false again; default false. Taken "
        "up from the file within about a second, without a restart. Attempts under way end as they "
        "do; the log of each notification that waits says why.",
    )
    max_age: Duration = Field(
        default=0.0,
        description="A notification older than this is not sent any more: its channels that are "
        "due then fail for good, and log and status say why; default 0, no limit. It keeps the end "
        "of a long outage from paging people about what is long over. Age counts from the object's "
        "creation, so the clocks of API server and Redis must agree to within it.",
    )

    @property
    def at_most_once(self) -> bool:
        """Whether an attempt whose result is unknown ends its channel."""
        return self.guarantee == "atMostOnce"


class SyncerSettings(Group):
    """What the operators' command takes from the file."""

    logging: LoggingSettings = LoggingSettings()
    controller: WatchRules = WatchRules()
    delivery: DeliveryRules = DeliveryRules()
    redis: RedisSettings
    sharding: ShardingSettings = ShardingSettings()
    sync: SyncSettings = SyncSettings()


@dataclass(frozen=True, slots=True)
class LoadedSyncer:
    """The settings, and what to warn about."""

    settings: SyncerSettings
    warnings: tuple[str, ...] = ()


def load(path: Path | str | None, *, redis_url: str | None = None) -> LoadedSyncer:
    """
    Read what the operators' command needs: from a file, from a URL, or from both.

    Args:
        path: The settings file, or None; groups of other commands in it are left alone.
        redis_url: Wins over the file's `redis.url`.

    Raises:
        ConfigError: as `load_file` and `build`.
    """
    document = load_file(path) if path is not None else {}
    if redis_url is not None:
        redis = document.get("redis")
        kept = redis if isinstance(redis, dict) else {}
        # The URL given is complete: what the file says about secrets belongs to the other one.
        kept = {
            key: kept[key] for key in kept if key not in {*_SECRET_FILES, *_SECRET_FILES.values()}
        }
        document = {**document, "redis": {**kept, "url": redis_url}}
    document = with_redis_secrets(document)
    known = {
        name: document[name] for name in _keys_of(SyncerSettings) if document.get(name) is not None
    }
    # Most of these is another command's.
    shared = {"controller", "delivery"}
    judged = {name: group for name, group in known.items() if name not in shared}
    settings = build(SyncerSettings, known)
    warnings = [*unknown_keys(SyncerSettings, judged), *settings.redis.warnings]
    return LoadedSyncer(settings, tuple(warnings))


def with_redis_secrets(document: Mapping[str, Any]) -> dict[str, Any]:
    """
    Put what the files of `redis` hold into its URL.

    Args:
        document: A settings file as it was read.

    Returns:
        The document, `redis.url` complete.

    Raises:
        ConfigError: a file cannot be read or is empty, or the URL says already what a file says.
    """
    out = dict(document)
    redis = out.get("redis")
    if not isinstance(redis, Mapping):
        return out
    redis = dict(redis)

    def given(key: str) -> object:
        value = redis.get(key)
        return redis.get(_SECRET_FILES[key]) if value is None else value

    if isinstance(path := given("urlFile"), str) and path:
        if redis.get("url"):
            raise ConfigError("must not be set beside redis.url", path="redis.urlFile")
        redis["url"] = secret_of(path, "redis.urlFile")
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


def secret_of(path: str, key: str) -> str:
    """
    Read a file that holds one secret; line ends at its end do not count.

    Args:
        path: The file.
        key: What names it, for errors, which quote nothing of it.

    Raises:
        ConfigError: it cannot be read, is empty, too long or no text.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_SECRET + 1).decode("utf-8").rstrip("\r\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"cannot be read: {reason}", path=key) from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8", path=key) from None
    if not text or len(text) > _MAX_SECRET:
        raise ConfigError(
            "names a file that is empty" if not text else "names a file that is too long", path=key
        )
    return text


G = TypeVar("G", bound=Group)


def build(model: type[G], document: Mapping[str, Any]) -> G:
    """
    Make settings from a document.

    A required group that is missing is reported by its required key (`redis.url`).

    Raises:
        ConfigError: with the dotted path of the first fault; further faults follow in the text.
    """
    try:
        return model.model_validate(_without_nulls(model, document))
    except ValidationError as error:
        faults = [(_dotted(e["loc"]), _reason(e)) for e in error.errors(include_url=False)]
    path, message = faults[0]
    more = "".join(f"; {p}: {m}" for p, m in faults[1:9])
    raise ConfigError(message + more, path=path)


def unknown_keys(model: type[BaseModel], document: object, path: str = "") -> list[str]:
    """One warning per key of the document that means nothing to the model, with its dotted path."""
    if not isinstance(document, Mapping):
        return []
    keys = _keys_of(model)
    warnings = []
    for key, value in document.items():
        name = str(key)[:_WARNED_KEY]
        where = f"{path}.{name}" if path else name
        field = keys.get(key) if isinstance(key, str) else None
        if field is None:
            near = difflib.get_close_matches(name, keys, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            warnings.append(f"unknown key {where} is ignored{hint}")
            continue
        inner = _group_of(model.model_fields[field].annotation)
        if inner is not None:
            warnings += unknown_keys(inner, value, where)
    return warnings


def load_file(path: Path | str) -> dict[str, Any]:
    """
    Read a YAML file whose top level is a mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: unreadable, larger than 1 MiB, not UTF-8, not YAML (with the line), or no
            mapping.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"cannot read {path}: {reason}") from None
    if len(raw) > MAX_FILE:
        raise ConfigError(f"{path} is larger than {MAX_FILE} bytes")
    try:
        return parse_document(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_document(text: str) -> dict[str, Any]:
    """
    Read the text of a settings file.

    Only plain YAML types are made, references to anchors are few.

    Raises:
        ConfigError: as `load_file`.
    """
    try:
        loader = _Loader(text)
    except yaml.YAMLError:
        raise ConfigError("not valid YAML: unprintable character") from None
    try:
        document = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"not valid YAML: {line}{yaml_problem(error)}") from None
    except yaml.YAMLError:
        raise ConfigError("not valid YAML: unprintable character") from None
    except RecursionError:
        raise ConfigError("not valid YAML: nested too deeply") from None
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError):
        # The vendor's constructors let these through for values such as `!!bool x`.
        raise ConfigError("not valid YAML: a value does not fit its type") from None
    finally:
        loader.dispose()
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError("the top level must be a mapping")
    return document


def yaml_problem(error: yaml.MarkedYAMLError) -> str:
    """Say what is wrong with a YAML text, without quoting more of it than punctuation."""
    return _QUOTED.sub(
        lambda quoted: quoted[0] if _HARMLESS.fullmatch(quoted[0][1:-1]) else "'…'",
        error.problem or "syntax error",
    )


_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_HARMLESS: Final = re.compile(r"[^A-Za-z0-9]{1,2}|\\.|<[a-z ]+>")


class _Loader(yaml.SafeLoader):
    """The safe loader, which also counts references: each may multiply what a merge key copies."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > _MAX_ALIASES:
                raise yaml.MarkedYAMLError(
                    problem="too many references to anchors", problem_mark=self.get_mark()
                )
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


def _keys_of(model: type[BaseModel]) -> dict[str, str]:
    """Keys that a document may use, each with the field it sets."""
    keys: dict[str, str] = {}
    for name, field in model.model_fields.items():
        keys[field.alias or name] = name
        keys.setdefault(name, name)
    return keys


def _group_of(annotation: object) -> type[BaseModel] | None:
    options = (
        typing.get_args(annotation)
        if typing.get_origin(annotation) in {Union, types.UnionType}
        else (annotation,)
    )
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _without_nulls(model: type[BaseModel], document: object) -> object:
    """Drop what is null, and put an empty group where a required one is missing."""
    if not isinstance(document, Mapping):
        return document
    keys = _keys_of(model)
    out: dict[Any, Any] = {}
    for key, value in document.items():
        field = keys.get(key) if isinstance(key, str) else None
        if value is None or field is None:
            continue
        inner = _group_of(model.model_fields[field].annotation)
        out[key] = _without_nulls(inner, value) if inner else value
    for name, required in model.model_fields.items():
        key = required.alias or name
        if required.is_required() and _group_of(required.annotation) and not {key, name} & set(out):
            out[key] = {}
    return out


def _dotted(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        # Faults in defaults come with the field's name, faults in the file with the file's.
        name = f"[{part}]" if isinstance(part, int) else to_camel(part)
        path += f".{name}" if path and not isinstance(part, int) else name
    return path


def _reason(error: Any) -> str:
    cause = (error.get("ctx") or {}).get("error")
    if error["type"] == "value_error" and cause is not None:
        return str(cause)
    if error["type"] == "missing":
        return "is required"
    if error["type"] in {"model_type", "model_attributes_type"}:
        return "must be a mapping"
    message = str(error["msg"])
    return message[:1].lower() + message[1:]
