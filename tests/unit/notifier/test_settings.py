"""Settings: what a file may say, what is warned about, what ends the start."""

from __future__ import annotations

import math
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from notifier.settings import Settings, load, parse_address
from syncer import settings as syncer_settings
from syncer.configfile import build, parse_duration
from syncer.model.errors import ConfigError
from syncer.yamlfile import read_document
from tests.examples import examples

CANARY = "c4n4ry-s3cret"
ENV = {"KUBERNAUT_CONTROLLER_NAMESPACE": "alerts"}

CONTRACT = """
logging: {level: INFO, format: json}
controller:
  metricsAddr: 127.0.0.1:9191
  healthProbeAddr: 127.0.0.1:8181
  leaderElection: false
delivery:
  console: {enabled: true}
  file: {outputDir: /tmp/notifications, format: json}
  log: {enabled: true, format: json}
  slack: {timeout: 10s}
  credentials: {dir: /etc/notification/credentials}
datastorage:
  url: http://127.0.0.1:8080/
  timeout: 5s
  buffer: {bufferSize: 10000, batchSize: 100, flushInterval: 1s, maxRetries: 3}
redis: {url: redis://127.0.0.1:6379/0}
"""


def write(folder: Path, text: str) -> Path:
    """Write a settings file."""
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def controller(text: str) -> Settings:
    """Build the controller's settings from a text."""
    values = read_document(text).values
    return build(Settings, values, constants=values)


# -- durations ------------------------------------------------------------------------------------

DURATIONS: dict[str, tuple[object, float]] = {
    "seconds": ("10s", 10.0),
    "minutes and seconds": ("1m30s", 90.0),
    "milliseconds": ("500ms", 0.5),
    "a fraction": ("1.5h", 5400.0),
    "microseconds in either spelling": ("2us", 2e-6),
    "zero without a unit": ("0", 0.0),
    "a whole number is seconds": (5, 5.0),
    "a fraction is seconds": (0.25, 0.25),
    "a number as text is seconds": ("30", 30.0),
    "a leading plus": ("+2s", 2.0),
    "the longest, ten years": ("87600h", 315_360_000.0),
    "blanks around it": (" 2s ", 2.0),
}


@pytest.mark.parametrize("case", DURATIONS)
def test_a_duration_is_read(case: str) -> None:
    """Go's text forms and plain numbers of seconds are durations."""
    value, seconds = DURATIONS[case]
    assert parse_duration(value) == seconds


NO_DURATIONS: dict[str, tuple[object, str]] = {
    "a unit that does not exist": ("3d", "must be a duration"),
    "nothing": ("", "must be a duration"),
    "a unit without a number": ("s", "must be a duration"),
    "a number between units without one": ("1m30", "must be a duration"),
    "a blank inside": ("1m 30s", "must be a duration"),
    "a boolean, which Python takes for a number": (True, "must be a duration"),
    "a list": ([1], "must be a duration"),
    "a negative text": ("-1s", "must not be negative"),
    "a negative number": (-1, "must not be negative"),
    "not a number": (math.nan, "must not be negative"),
    "more than ten years": ("87600h1s", "must not exceed ten years"),
    "infinity": (math.inf, "must not exceed ten years"),
    "an integer that no float holds": (10**400, "must not exceed ten years"),
}


@pytest.mark.parametrize("case", NO_DURATIONS)
def test_what_is_no_duration_says_why(case: str) -> None:
    """Anything else is refused with the rule that it breaks."""
    value, reason = NO_DURATIONS[case]
    with pytest.raises(ValueError, match=reason):
        parse_duration(value)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(h: int, m: int, s: int, ms: int) -> None:
    """Hours, minutes, seconds and milliseconds add up."""
    expected = h * 3600 + m * 60 + s + ms / 1000
    assert parse_duration(f"{h}h{m}m{s}s{ms}ms") == pytest.approx(expected, abs=1e-9)


@given(st.one_of(st.text(max_size=80), st.floats(), st.integers(), st.none(), st.booleans()))
def test_any_value_is_a_bounded_duration_or_a_value_error(value: object) -> None:
    """Nothing but ValueError is raised, and a result is finite and not negative."""
    try:
        seconds = parse_duration(value)
    except ValueError:
        return
    assert 0 <= seconds <= 10 * 365 * 86400


# -- the file -------------------------------------------------------------------------------------


def test_the_documented_file_loads_without_warnings(tmp_path: Path) -> None:
    """Upstream's keys plus redis are understood as written."""
    loaded = load(write(tmp_path, CONTRACT), ENV)
    settings = loaded.settings
    assert loaded.warnings == ()
    assert settings.controller.metrics_addr == ("127.0.0.1", 9191)
    assert settings.controller.health_probe_addr == ("127.0.0.1", 8181)
    assert settings.delivery.file.output_dir == "/tmp/notifications"  # noqa: S108 - upstream's default, never made
    assert settings.delivery.log.enabled
    assert settings.datastorage is not None
    assert settings.datastorage.health_url == ""
    assert settings.datastorage.timeout == 5.0
    assert settings.redis.url.get_secret_value() == "redis://127.0.0.1:6379/0"


@pytest.mark.parametrize("level", ["debug", "Debug", "DEBUG"])
def test_a_level_in_any_case(level: str) -> None:
    """The level of the log is told in letters of any case."""
    text = f"redis: {{url: redis://h}}\nlogging: {{level: {level}}}"
    assert controller(text).logging.level == "DEBUG"


def test_the_lease_outlasts_the_longest_send() -> None:
    """LeaseDuration is renewDeadline, the largest timeout in use and the margin."""
    assert controller("redis: {url: redis://h}").lease_duration == 18.0
    longer = "redis: {url: redis://h}\ndelivery: {slack: {timeout: 1s}, file: {outputDir: /x}}"
    assert controller(longer).lease_duration == 5 + 5 + 3
    mail = "redis: {url: redis://h}\ndelivery: {email: {enabled: true, timeout: 40s}}"
    assert controller(mail).lease_duration == 5 + 40 + 3
    assert controller(mail).delivery.native == {"email"}


def test_both_spellings_of_a_key_are_taken() -> None:
    """The form in camelCase and the field's own name mean the same."""
    assert controller("redis: {url: redis://h, keyPrefix: a}").redis.key_prefix == "a"
    assert controller("redis: {url: redis://h, key_prefix: a}").redis.key_prefix == "a"


def test_null_means_default() -> None:
    """An empty group or key is as if it were not there."""
    settings = controller("redis: {url: redis://h}\nsharding:\nsync: {window: null}\ndatastorage:")
    assert settings.sharding.renew_deadline == 5.0
    assert settings.sync.window == 0.5
    assert settings.datastorage is None


FAULTS: dict[str, tuple[str, str, str]] = {
    "redis is missing altogether": ("logging: {}", "redis.url", "is required"),
    "redis holds no url": ("redis: {keyPrefix: x}", "redis.url", "is required"),
    "the file is empty": ("", "redis.url", "is required"),
    "a group is a number": ("redis: 3", "redis", "must be a mapping"),
    "the url has another scheme": ("redis: {url: 'http://h'}", "redis.url", "must begin with"),
    "the url names no host": ("redis: {url: 'redis:///0'}", "redis.url", "names no host"),
    "the url has an impossible port": (
        "redis: {url: 'redis://h:x'}",
        "redis.url",
        "is not host:port",
    ),
    "a prefix would move the hash tag": (
        "redis: {url: redis://h, keyPrefix: 'a{b'}",
        "redis.keyPrefix",
        "must be 1 to 64",
    ),
    "a level does not exist": (
        "redis: {url: redis://h}\nlogging: {level: LOUD}",
        "logging.level",
        "'DEBUG', 'INFO', 'WARN' or 'ERROR'",
    ),
    "a flag is a text": (
        "redis: {url: redis://h}\ndelivery: {log: {enabled: 'yes please'}}",
        "delivery.log.enabled",
        "must be true or false",
    ),
    "the audit store's url has an impossible port": (
        "redis: {url: redis://h}\ndatastorage: {url: 'http://h:x'}",
        "datastorage.url",
        "is not a URL",
    ),
    "the audit store's url has another scheme": (
        "redis: {url: redis://h}\ndatastorage: {url: 'ftp://h'}",
        "datastorage.url",
        "must be an http:// or https:// URL",
    ),
    "the audit store's url holds a user": (
        "redis: {url: redis://h}\ndatastorage: {url: 'http://u@h'}",
        "datastorage.url",
        "must not hold a user or password",
    ),
    "the audit store's url names no host": (
        "redis: {url: redis://h}\ndatastorage: {url: 'http:///x'}",
        "datastorage.url",
        "must be an http:// or https:// URL",
    ),
    "a number is a text": (
        "redis: {url: redis://h}\nsync: {writers: '16'}",
        "sync.writers",
        "integer",
    ),
    "a duration is nonsense": (
        "redis: {url: redis://h}\ndelivery: {slack: {timeout: soon}}",
        "delivery.slack.timeout",
        "must be a duration such as 500ms, 10s or 1m30s",
    ),
    "a timeout is zero": (
        "redis: {url: redis://h}\ndelivery: {slack: {timeout: 0}}",
        "delivery.slack.timeout",
        "greater than 0",
    ),
    "a batch exceeds the buffer": (
        "redis: {url: redis://h}\ndatastorage: {url: 'http://d', buffer: {bufferSize: 5}}",
        "datastorage.buffer.batchSize",
        "must not exceed datastorage.buffer.bufferSize",
    ),
    "an audit store without url": (
        "redis: {url: redis://h}\ndatastorage: {timeout: 5s}",
        "datastorage.url",
        "is required",
    ),
    "an audit url with a password": (
        "redis: {url: redis://h}\ndatastorage: {url: 'http://u:p@d'}",
        "datastorage.url",
        "must not hold a user or password",
    ),
    "both servers on one address": (
        "redis: {url: redis://h}\ncontroller: {healthProbeAddr: ':9090'}",
        "controller.healthProbeAddr",
        "must differ from controller.metricsAddr",
    ),
    "an address without port": (
        "redis: {url: redis://h}\ncontroller: {metricsAddr: localhost}",
        "controller.metricsAddr",
        "must be `:port` or `host:port`",
    ),
    "namespaces as a text": (
        "redis: {url: redis://h}\ncontroller: {namespaces: a}",
        "controller.namespaces",
        "must be a list of namespaces, or `*`",
    ),
    "a namespace that cannot be": (
        "redis: {url: redis://h}\ncontroller: {namespaces: [A_b]}",
        "controller.namespaces",
        "holds a name that no namespace can have",
    ),
    "a network that is none": (
        "redis: {url: redis://h}\negress: {allow: [10.0.0.0/8, 10.0.0.0/99]}",
        "egress.allow",
        "entry 1 is neither a network",
    ),
    "an address that is none": (
        "redis: {url: redis://h}\negress: {allow: [hooks.example.com, 10.0.0.999]}",
        "egress.allow",
        "entry 1 is neither a network, an address nor a host",
    ),
    "words that are no host": (
        "redis: {url: redis://h}\negress: {allow: ['two words']}",
        "egress.allow",
        "entry 0 is neither a network, an address nor a host",
    ),
    "an unknown guarantee": (
        "redis: {url: redis://h}\ndelivery: {guarantee: exactlyOnce}",
        "delivery.guarantee",
        "'atLeastOnce' or 'atMostOnce'",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_ends_the_start_with_its_path(case: str) -> None:
    """Wrong values are refused, with the dotted path as the file spells it and the reason."""
    text, path, reason = FAULTS[case]
    with pytest.raises(ConfigError) as caught:
        controller(text)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_every_fault_is_named_at_once() -> None:
    """A second fault follows the first in the same text."""
    with pytest.raises(ConfigError, match=r"sync\.window: must not be.*; sync\.writers: "):
        controller("redis: {url: redis://h}\nsync: {window: -1s, writers: x}")


def test_unknown_keys_are_warnings_with_their_paths(tmp_path: Path) -> None:
    """A key of another version does not stop the process; a slip is guessed at."""
    text = CONTRACT + "future: {a: 1}\negress: {mod: strict}\nsync: {deep: {er: 1}}\n"
    line = CONTRACT.count("\n") + 1
    warnings = load(write(tmp_path, text), ENV).warnings
    assert warnings == (
        f"future is unknown and ignored (line {line})",
        f"egress.mod is unknown and ignored: did you mean mode? (line {line + 1})",
        f"sync.deep is unknown and ignored (line {line + 2})",
    )


def test_keys_without_effect_are_warned_about(tmp_path: Path) -> None:
    """Upstream's switches that do nothing here are accepted and said to do nothing."""
    text = (
        "redis: {url: redis://h}\ncontroller: {leaderElection: true}\n"
        "delivery: {console: {enabled: false}, log: {format: xml}}\n"
        "egress: {allow: [10.0.0.0/8]}\n"
    )
    warnings = load(write(tmp_path, text), ENV).warnings
    assert [w.split(" has no effect")[0] for w in warnings] == [
        "controller.leaderElection",
        "delivery.console.enabled",
        "delivery.log.format",
        "egress.allow",
    ]


def test_the_log_channel_may_write_text(tmp_path: Path) -> None:
    """A file of the replaced controller with `format: text` is taken as it is."""
    text = CONTRACT.replace("log: {enabled: true, format: json}", "log: {format: text}")
    loaded = load(write(tmp_path, text), ENV)
    assert loaded.settings.delivery.log.format == "text"
    assert loaded.warnings == ()


def test_the_operators_command_reads_the_same_file(tmp_path: Path) -> None:
    """Groups that it does not need are neither read nor warned about; its own are checked."""
    path = write(tmp_path, CONTRACT + "egress: {mode: 7}\nsharding: {leaseNme: x, shards: 4}\n")
    settings, (misspelt, constant) = syncer_settings.load(path)
    assert settings.redis.key_prefix == "nl"
    assert settings.sharding.shards == 16, "no setting"
    assert misspelt.startswith(
        "sharding.leaseNme is unknown and ignored: did you mean leaseName? (line "
    )
    assert constant.startswith("sharding.shards is unknown and ignored (line ")


def test_a_test_may_set_what_no_file_does(tmp_path: Path) -> None:
    """By a file of its own, which an environment variable names; nothing else of that file counts."""
    other = tmp_path / "constants.yaml"
    other.write_text("sharding: {shards: 4, leaseName: x}\naudit: {maxAge: 1h}\n")
    loaded = load(write(tmp_path, CONTRACT), ENV | {"LEDGER_TESTING": str(other)}).settings
    assert (loaded.sharding.shards, loaded.audit.max_age) == (4, 3600)
    assert loaded.sharding.lease_name == "notification-ledger"


def test_the_operators_command_needs_no_file() -> None:
    """A URL alone is enough, and wins over the file's."""
    settings, _ = syncer_settings.load(None, redis_url="rediss://h:6380/1")
    assert settings.redis.url.get_secret_value() == "rediss://h:6380/1"
    with pytest.raises(ConfigError, match=r"redis\.url: must begin with"):
        syncer_settings.load(None, redis_url="h:6380")


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "a list": (b"- 1", "the top level must be a mapping"),
    "broken YAML": (b"a: [1\nb: {", "not valid YAML: line 2: "),
    "an alias that leads nowhere": (b"a: *" + CANARY.encode(), "found undefined alias"),
    "a tag that would run code": (b"a: !!python/object/apply:os.system [x]", "not valid YAML: "),
    "a value that does not fit its tag": (b"a: !!bool x", "a value does not fit its type"),
    "bytes that are no text": (b"a: \xff", "is not UTF-8"),
    "a control character": (b"a: \x01", "unprintable character"),
    "nesting without end": (b"[\n" * 5000, "nested too deeply"),
    "more than a ConfigMap holds": (b"#" * (1 << 20) + b"#", "is larger than 1048576 bytes"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_file_says_why_and_quotes_nothing(case: str, tmp_path: Path) -> None:
    """Whatever is wrong with the text is a ConfigError that names the file, not its content."""
    raw, reason = UNREADABLE[case]
    path = tmp_path / "config.yaml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        load(path, ENV)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert CANARY not in str(caught.value)


# -- secrets --------------------------------------------------------------------------------------

WITH_SECRET: dict[str, str] = {
    "in a good file": f"redis: {{url: 'redis://u:{CANARY}@h'}}",
    "beside another fault": f"redis: {{url: 'redis://u:{CANARY}@h', timeout: x}}",
    "in a bad url": f"redis: {{url: 'http://{CANARY}@h'}}",
    "in a bad port": f"redis: {{url: 'redis://h:{CANARY}'}}",
    "as a list": f"redis: {{url: [{CANARY}]}}",
    "as an unknown key's value": f"redis: {{url: 'redis://h', password: {CANARY}}}",
    "in broken YAML": f"redis: {{url: 'redis://u:{CANARY}@h'",
    "as an undefined alias": f"redis: {{url: *{CANARY}}}",
    "as a tag": f"redis: {{url: !{CANARY} x}}",
    "in another group": f"datastorage: {{url: 'http://u:{CANARY}@h'}}\nredis: {{url: 'redis://h'}}",
}


@pytest.mark.parametrize("case", WITH_SECRET)
def test_a_secret_is_in_no_text(case: str, tmp_path: Path) -> None:
    """Neither repr, str, warnings nor errors show what the file holds."""
    try:
        loaded = load(write(tmp_path, WITH_SECRET[case]), ENV)
    except ConfigError as error:
        texts = "".join(traceback.format_exception(error)) + repr(error)
    else:
        texts = f"{loaded} {loaded!r} {loaded.settings.model_dump()} {loaded.settings.redis}"
    assert CANARY not in texts


def test_the_models_themselves_hide_what_they_refuse() -> None:
    """Code that validates without `build` cannot leak a value either."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"redis": {"url": f"http://{CANARY}@h"}, "events": CANARY})
    assert CANARY not in str(caught.value)


# -- environment ----------------------------------------------------------------------------------


def test_the_environment_has_upstreams_names(tmp_path: Path) -> None:
    """Paths and the namespace come from the variables that existing manifests set."""
    env = {
        **ENV,
        "ROUTING_CONFIG_PATH": "/r.yaml",
        "KUBECONFIG": "/k",
        "TLS_CA_FILE": "",
    }
    environment = load(write(tmp_path, CONTRACT), env).environment
    assert environment.namespace == "alerts"
    assert environment.routing_path == Path("/r.yaml")
    assert environment.kubeconfig == "/k"
    assert environment.tls_ca_file is None
    plain = load(write(tmp_path, CONTRACT), ENV).environment
    assert plain.routing_path == Path("/etc/notification-routing/routing.yaml")


def test_the_namespace_comes_from_the_service_account(tmp_path: Path) -> None:
    """Without the variable the pod's own namespace is used."""
    file = tmp_path / "namespace"
    file.write_text("from-the-pod\n")
    loaded = load(write(tmp_path, CONTRACT), {}, namespace_file=file)
    assert loaded.environment.namespace == "from-the-pod"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "not set and there is no service account"),
        ("Not_A_Namespace", "not the name of a namespace"),
    ],
)
def test_an_unknown_namespace_ends_the_start(name: str, why: str, tmp_path: Path) -> None:
    """Watching everything by accident is not an option."""
    env = {"KUBERNAUT_CONTROLLER_NAMESPACE": name}
    with pytest.raises(ConfigError, match=f"^KUBERNAUT_CONTROLLER_NAMESPACE is {why}"):
        load(write(tmp_path, CONTRACT), env, namespace_file=tmp_path / "none")


NAMESPACES: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "the own one by default": ("", ("alerts",)),
    "a list, each once": ("controller: {namespaces: [a, b, a]}", ("a", "b")),
    "all of them": ("controller: {namespaces: '*'}", None),
    "an empty list is the default": ("controller: {namespaces: []}", ("alerts",)),
}


@pytest.mark.parametrize("case", NAMESPACES)
def test_namespaces_to_watch(case: str, tmp_path: Path) -> None:
    """The own namespace, those listed, or all."""
    text, namespaces = NAMESPACES[case]
    loaded = load(write(tmp_path, f"redis: {{url: redis://h}}\n{text}"), ENV)
    assert loaded.namespaces == namespaces


# -- addresses ------------------------------------------------------------------------------------

ADDRESSES = {":9090": ("", 9090), "127.0.0.1:0": ("127.0.0.1", 0), "[::1]:80": ("::1", 80)}


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_is_host_and_port(text: str) -> None:
    """What the file says comes back as host and port, and prints as it was."""
    assert parse_address(text) == ADDRESSES[text]
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "9090", "h:", "h:x", "::1:80", "[::1:80", "::1]:80", "h:65536", "h:-1", 9090],
)
def test_what_is_no_address_is_refused(text: object) -> None:
    """Ports out of range and bare IPv6 addresses are no addresses."""
    with pytest.raises(ValueError, match="port"):
        parse_address(text)


# -- the reference page ---------------------------------------------------------------------------


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(["redis", "sharding", "sync", "delivery", "controller", "egress", "x"])


@examples(150)
@given(
    st.dictionaries(
        KEYS,
        st.dictionaries(
            st.sampled_from(
                ["url", "window", "namespaces", "allow", "slack", "shards", "metricsAddr"]
            ),
            JSON,
        )
        | JSON,
    )
)
def test_any_document_is_settings_or_a_config_error(document: dict[str, Any]) -> None:
    """No value of any type raises anything else."""
    path = ""
    try:
        build(Settings, document)
    except ConfigError as error:
        path = error.path
    assert path or "url" in document["redis"]


@pytest.mark.parametrize("text", ["soon", "2.9s", "-1s", "0"])
def test_a_grace_period_in_which_nothing_can_end_is_refused(text: str, tmp_path: Path) -> None:
    """The variable is named; it is a duration of some seconds."""
    with pytest.raises(ConfigError, match=r"^GRACE_PERIOD must "):
        load(write(tmp_path, "redis: {url: redis://h}\n"), ENV | {"GRACE_PERIOD": text})


@pytest.mark.parametrize(
    "url", ["http://store.kubernaut-system:8080", "https://h", "http://[::1]:1"]
)
def test_a_store_that_gets_no_token_is_warned_about(url: str, tmp_path: Path) -> None:
    """Over http:// to another machine anybody on the way would read it."""
    text = f"redis: {{url: redis://h}}\ndatastorage: {{url: '{url}'}}\n"
    warnings = load(write(tmp_path, text), ENV).warnings
    named = [w for w in warnings if w.startswith("datastorage.url is http://, so no token is sent")]
    assert (len(named), len(warnings)) == ((1, 1) if "store" in url else (0, 0))
