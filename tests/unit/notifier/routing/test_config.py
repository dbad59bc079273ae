"""The routing file: what it means, what it gets wrong, what is warned about."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from notifier.routing.config import RoutingConfig, console_fallback, named_credentials
from notifier.routing.mail import recipient_tag
from notifier.routing.models import EmailConfig, LocalConfig, PagerDutyConfig, WebhookConfig
from notifier.routing.parse import parse, usable
from syncer.model.errors import ConfigError
from syncer.runtime.proxies import in_clear
from tests.examples import examples

CANARY = "c4n4ry-s3cret"


def said(config: RoutingConfig) -> tuple[str, ...]:
    """The warnings, without their lines."""
    return tuple(re.sub(r" \(line [0-9]+\)$", "", text) for text in config.warnings)


MINIMAL = "route: {receiver: x}\nreceivers: [{name: x, consoleConfigs: [{enabled: true}]}]\n"


def receivers(text: str) -> str:
    """A routing file with these receivers and a root route to the first."""
    return f"route: {{}}\nreceivers:\n{text}"


ERRORS: dict[str, tuple[str, str]] = {
    "nothing at all": ("", "empty configuration"),
    "blanks only": (" \n\n", "empty configuration"),
    "a list that is not closed": (
        "route: [unclosed\n  receivers: {",
        "failed to parse YAML: line 2: did not find expected ',' or ']'",
    ),
    "a comment only": ("# nothing\n", "route is required"),
    "no route": ("receivers: [{name: x}]", "route is required"),
    "a null route": ("route:\nreceivers: [{name: x}]", "route is required"),
    "no receivers": ("route: {receiver: x}", "at least one receiver is required"),
    "an empty list of receivers": ("route: {}\nreceivers: []", "at least one receiver is required"),
    "a null receiver": (
        "route: {}\nreceivers:\n- name: x\n-",
        "receivers[1] is empty (line 4)",
    ),
    "a receiver without name": (
        "route: {}\nreceivers:\n- name: ''",
        "receiver name cannot be empty (line 3)",
    ),
    "an empty list of allowed namespaces": (
        "route: {}\nreceivers:\n- name: x\n  allowedNamespaces: []",
        "receivers[0].allowedNamespaces is empty: name a namespace, or leave the key out for all (line 4)",
    ),
    "an allowed namespace that cannot be one": (
        "route: {}\nreceivers:\n- name: x\n  allowedNamespaces: [ops, 'Prod[a]']",
        'receivers[0].allowedNamespaces: "Prod[a]" is neither the name of a namespace nor a pattern of',
    ),
    "allowed namespaces that are no list": (
        "route: {}\nreceivers:\n- name: x\n  allowedNamespaces: ops",
        "failed to parse YAML",
    ),
    "a root receiver that is not there": (
        "route: {receiver: y}\nreceivers: [{name: x}]",
        "receiver 'y' not found in receivers list (line 1)",
    ),
    "a deep receiver that is not there": (
        "route:\n  routes:\n  - routes:\n    - receiver: y\nreceivers: [{name: x}]",
        "receiver 'y' not found in receivers list (line 4)",
    ),
    "a key of PagerDuty's that nobody knows": (
        "route: {}\nreceivers:\n- name: x\n  pagerdutyConfigs: [{credentialRef: p, dedupKey: mine}]",
        "failed to parse YAML: receivers[0].pagerdutyConfigs[0].dedupKey: must be '' or 'alertmanager'",
    ),
    "a fallback that is not there": (
        "route: {}\nreceivers:\n- name: x\n  fallback: y",
        "receiver 'y' not found in receivers list (line 4)",
    ),
    "a route's fallback that is not there": (
        "route:\n  receiver: x\n  fallback: y\nreceivers: [{name: x}]",
        "receiver 'y' not found in receivers list (line 3)",
    ),
    "a receiver that is its own fallback": (
        "route: {}\nreceivers:\n- name: x\n  fallback: x",
        "receivers[0].fallback: names the receiver itself (line 4)",
    ),
    "a route whose fallback is its receiver": (
        "route:\n  receiver: x\n  fallback: x\nreceivers: [{name: x}]",
        "route.fallback: names the receiver itself (line 3)",
    ),
    "a time without a fallback": (
        "route: {}\nreceivers:\n- name: x\n  fallbackAfter: 5m",
        "receivers[0].fallbackAfter: needs a fallback (line 4)",
    ),
    "a time that is none": (
        "route: {}\nreceivers:\n- name: x\n- name: y\n  fallback: x\n  fallbackAfter: soon",
        "receivers[1].fallbackAfter: must be a duration such as 500ms, 10s or 1m30s (line 6)",
    ),
    "no time at all": (
        "route: {}\nreceivers:\n- name: x\n- name: y\n  fallback: x\n  fallbackAfter: 0s",
        "receivers[1].fallbackAfter: must be from 1s to 24h (line 6)",
    ),
    "a null child": (
        "route:\n  routes:\n  -\nreceivers: [{name: x}]",
        "route has an empty child route (line 3)",
    ),
    "a pattern that is none": (
        "route:\n  routes:\n  - matchRe: {team: 'a('}\nreceivers: [{name: x}]",
        (
            'invalid matchRe pattern for key "team": "a(": error parsing regexp: missing ): a( '
            "(line 3)"
        ),
    ),
    "a backreference, which is not linear": (
        "route: {routes: [{matchRe: {team: '(a)\\1'}}]}\nreceivers: [{name: x}]",
        'invalid matchRe pattern for key "team"',
    ),
    "a pattern that explodes": (
        "route: {routes: [{matchRe: {team: '((a{100}){100}){100}'}}]}\nreceivers: [{name: x}]",
        'invalid matchRe pattern for key "team"',
    ),
    "a route that is a text": (
        "route: x\nreceivers: [{name: x}]",
        "failed to parse YAML: route: must be a mapping (line 1)",
    ),
    "a list that is a mapping": (
        "route: {routes: {a: b}}\nreceivers: [{name: x}]",
        "failed to parse YAML: route.routes: must be a list (line 1)",
    ),
    "a text that is a list": (
        "route: {receiver: [x]}\nreceivers: [{name: x}]",
        "failed to parse YAML: route.receiver: must be a string (line 1)",
    ),
    "a flag that is a text": (
        "route: {routes: [{continue: 'true'}]}\nreceivers: [{name: x}]",
        "failed to parse YAML: route.routes[0].continue: must be true or false (line 1)",
    ),
    "a key that is there twice": (
        "route: {}\nroute: {}\nreceivers: [{name: x}]",
        "failed to parse YAML: route is defined twice (line 2)",
    ),
    "a tag": (
        "route: {receiver: !!python/name:os.system x}\nreceivers: [{name: x}]",
        "failed to parse YAML: route.receiver: tags are not allowed (line 1)",
    ),
    "an alias that leads nowhere": (
        f"route: *{CANARY}",
        "failed to parse YAML: line 1: found undefined alias …",
    ),
    "routes that contain themselves": (
        "route: {routes: &r [{routes: *r}]}\nreceivers: [{name: x}]",
        "failed to parse YAML: nested too deeply",
    ),
    "a control character": ("route: \x01", "failed to parse YAML: unprintable character"),
    "half a character": (
        'route: {receiver: "\\ud800"}\nreceivers: [{name: x}]',
        "failed to parse YAML: line 1: found invalid Unicode character escape code",
    ),
    "brackets without end": ("[\n" * 5000, "failed to parse YAML: nested too deeply"),
    "more than a ConfigMap holds": ("#" * ((1 << 20) + 1), "failed to parse YAML: longer than"),
    "a name of two lines": (
        receivers(r'- name: "a\nb"'),
        "receiver name holds a control character",
    ),
    "a name that colours": (receivers(r'- name: "a\e[31m"'), "receiver name holds a control"),
    "a name without measure": (receivers(f"- name: {'x' * 257}"), "receiver name is longer than"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_bad_file_says_why(case: str) -> None:
    """Errors begin with upstream's text and say where."""
    text, reason = ERRORS[case]
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value).startswith(reason)
    assert CANARY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_longest_name_is_a_name() -> None:
    """As many characters as are shown of it."""
    name = "x" * 256
    assert parse(receivers(f"- name: {name}")).receiver(name) is not None


def test_what_is_shown_of_a_routing_names_each_receiver_once() -> None:
    """What is made of them is left out, so a log line has a measure."""
    shown = repr(parse(receivers("- name: first\n- name: second")))
    assert (shown.count("'first'"), shown.count("'second'")) == (1, 1)


def test_routes_may_be_nested_fifty_deep() -> None:
    """Below that the file is refused as a whole."""

    def nested(depth: int) -> str:
        return f"route: {'{routes: [' * depth}{{}}{']}' * depth}\nreceivers: [{{name: x}}]"

    assert parse(nested(50)).receiver("x") is not None
    with pytest.raises(ConfigError, match="routes are nested too deeply"):
        parse(nested(51))


def test_a_remark_makes_no_other_routing() -> None:
    """What differs in its lines alone, or where nothing has an effect, need not be taken anew."""
    text = "route: {receiver: x}\nreceivers: [{name: x, consoleConfigs: [{enabled: false}]}]"
    one, other = parse(text), parse(f"# a remark\n{text}")
    assert one.findings != other.findings
    assert one == other
    assert one == parse(text.replace("false", "true"))
    assert one != parse(text.replace("console", "log"))


def test_a_pattern_that_is_none_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    """The library would print it to standard error, beside the error that names its place."""
    with pytest.raises(ConfigError, match="invalid matchRe pattern"):
        parse("route: {routes: [{matchRe: {a: '(x'}}]}\nreceivers: [{name: x}]")
    assert capfd.readouterr().err == ""


BOMBS: dict[str, str] = {
    "routes of routes": "k0: &k0 {routes: [{}, {}]}\n"
    + "".join(f"k{n}: &k{n} {{routes: [*k{n - 1}, *k{n - 1}]}}\n" for n in range(1, 40))
    + "route: *k39\nreceivers: [{name: x}]\n",
    "merges of merges": "k0: &k0 {receiver: x}\n"
    + "".join(f"k{n}: &k{n} {{<<: [*k{n - 1}, *k{n - 1}]}}\n" for n in range(1, 40))
    + "route: *k39\nreceivers: [{name: x}]\n",
    "empty merges of empty merges": "k0: &k0 {}\n"
    + "".join(f"k{n}: &k{n} {{<<: [{', '.join([f'*k{n - 1}'] * 9)}]}}\n" for n in range(1, 40))
    + "route: *k39\nreceivers: [{name: x}]\n",
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_is_refused(case: str) -> None:
    """References that multiply end at the bound on values; without it nothing would end."""
    with pytest.raises(ConfigError, match="more than 100000 values"):
        parse(BOMBS[case])


def test_values_are_read_as_go_reads_them() -> None:
    """Numbers, dates and booleans are texts where a text is wanted; null is empty."""
    config = parse(
        "route: {routes: [{match: {a: 5, b: true, c: 2024-01-02, d: ~, e: 0x1F}}]}\n"
        "receivers: [{name: 7}]\n"
    )
    assert dict(config.route.routes[0].match) == {
        "a": "5",
        "b": "true",
        "c": "2024-01-02",
        "d": "",
        "e": "0x1F",
    }
    assert config.receivers[0].name == "7"


def test_only_the_first_document_is_read() -> None:
    """A second one is left alone, with a warning."""
    config = parse(MINIMAL + "---\nroute: 5\n")
    assert config.warnings == ("only the first document is read (line 3)",)


# -- channels -------------------------------------------------------------------------------------

NAMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "one entry is named by its receiver": ("slackConfigs: [{credentialRef: a}]", ("slack:r",)),
    "several entries carry their index": (
        "teamsConfigs: [{credentialRef: a}, {credentialRef: b}]",
        ("teams:r:0", "teams:r:1"),
    ),
    "an entry without credential has a bare name": ("pagerdutyConfigs: [{url: u}]", ("pagerduty",)),
    "kinds without credentials have one bare name": (
        "consoleConfigs: [{enabled: true}, {enabled: true}]",
        ("console",),
    ),
    "email and webhook are bare": ("emailConfigs: [{to: a}, {to: b}]", ("email",)),
    "no entry at all is the console": ("slackConfigs: []", ("console",)),
    "a null entry counts": ("logConfigs: [~]", ("log",)),
    "all kinds in upstream's order": (
        ("logConfigs: [{}], fileConfigs: [{}], consoleConfigs: [{}], webhookConfigs: [{}], "
        "emailConfigs: [{}], teamsConfigs: [{credentialRef: t}], "
        "pagerdutyConfigs: [{credentialRef: p}], slackConfigs: [{credentialRef: s}]"),
        (
            "slack:r", "pagerduty:r", "teams:r", "email", "webhook", "console", "file", "log",
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMES)
def test_a_receiver_names_its_channels(case: str) -> None:
    """Names are upstream's, and each leads back to its entry."""
    entries, names = NAMES[case]
    config = parse(f"route: {{receiver: r}}\nreceivers: [{{name: r, {entries}}}]")
    channels = config.receivers[0].channels()
    assert tuple(name for name, _ in channels) == names
    for name, target in channels:
        assert config.targets[name] == target
        assert name.partition(":")[0] == target.kind


def test_native_kinds_are_named_by_receiver() -> None:
    """Two receivers' mail must not share a channel once it is really delivered."""
    whole = "from: n@x, smarthost: 'mail:25'"
    text = (
        "route: {receiver: a}\nreceivers:\n"
        f"- {{name: a, emailConfigs: [{{to: a@x, {whole}}}], webhookConfigs: [{{url: u}}]}}\n"
        f"- {{name: b, emailConfigs: [{{to: 'b@x', {whole}}}, {{to: c@x, {whole}}}]}}\n"
    )
    a, b, c = (recipient_tag(each) for each in ("a@x", "b@x", "c@x"))
    targets = parse(text, native=frozenset({"email"})).targets
    mails = {n: t.config.to for n, t in targets.items() if isinstance(t.config, EmailConfig)}
    assert mails == {
        "email:a": "a@x", f"email:a:{a}": "a@x", f"email:b:{b}": "b@x", "email:b": "b@x",
        f"email:b:{c}": "c@x",
    }  # fmt: skip
    assert "webhook" in targets


def test_targets_know_receivers_that_no_route_names() -> None:
    """A frozen plan finds its channel although no rule leads there any more."""
    config = parse(
        "route: {receiver: a}\nreceivers:\n- {name: a}\n"
        "- {name: b, slackConfigs: [{credentialRef: s1, channel: '#c'}, {credentialRef: s2}]}\n"
    )
    target = config.targets["slack:b:1"]
    assert (target.receiver, target.index) == ("b", 1)
    assert named_credentials(target.config) == (("s2", "credentialRef"),)


def _slack(name: str, *refs: str) -> str:
    entries = ", ".join(f"{{credentialRef: {ref}}}" for ref in refs)
    return f"- {{name: '{name}', slackConfigs: [{entries}]}}"


#: Receivers, and the credential of each channel that a plan may name.
LEADS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "an only channel has two names": ((_slack("b", "s"),), {"slack:b": "s", "slack:b:0": "s"}),
    "as the first of a list that has grown": (
        (_slack("b", "s", "t"),), {"slack:b": "s", "slack:b:0": "s", "slack:b:1": "t"},
    ),
    "a real name beats a second name": (
        (_slack("b", "one"), _slack("b:0", "two")), {"slack:b:0": "two"},
    ),
    "a shared name leads to the first receiver": (
        (_slack("a", "s", "t"), _slack("a:1", "u")), {"slack:a:1": "t"},
    ),
    "of equal names the last receiver is used": (
        (_slack("a", "old"), _slack("a", "new")), {"slack:a": "new"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LEADS)
def test_a_name_leads_to_a_channel(case: str) -> None:
    """A frozen plan finds its channel, whatever has become of the list."""
    entries, wanted = LEADS[case]
    targets = parse(receivers("\n".join(entries))).targets
    assert {name: targets[name].credential_refs for name in wanted} == {
        name: (ref,) for name, ref in wanted.items()
    }


def test_the_console_is_always_a_target() -> None:
    """The fallback channel exists whatever the file says."""
    config = parse(receivers("- {name: a, slackConfigs: [{credentialRef: s}]}"))
    assert config.targets["console"].config == LocalConfig()
    assert console_fallback().targets["console"].receiver == "console-fallback"


def test_a_pagerduty_url_is_kept() -> None:
    """The one member besides the credential that has an effect."""
    config = parse(
        receivers("- {name: a, pagerdutyConfigs: [{credentialRef: k, url: 'http://p'}]}")
    )
    assert config.targets["pagerduty:a"].config == PagerDutyConfig(
        credential_ref="k", url="http://p"
    )


def test_inline_tokens_are_read_and_not_shown() -> None:
    """A webhook's secrets reach the channel and no repr."""
    config = parse(
        receivers(
            f"- {{name: a, webhookConfigs: [{{url: 'http://h/{CANARY}', httpConfig: {{bearerToken: "
            f"{CANARY}, basicAuth: {{username: u, password: {CANARY}}}}}}}]}}"
        )
    )
    webhook = config.targets["webhook"].config
    assert isinstance(webhook, WebhookConfig)
    http, basic = webhook.http_config, webhook.http_config.basic_auth
    assert (http.bearer_token, basic.username, basic.password) == (CANARY, "u", CANARY)
    assert webhook.complete
    assert CANARY not in repr(config)


# -- namespaces -----------------------------------------------------------------------------------

DENIALS: dict[str, tuple[str, str, bool]] = {
    "named": ("slack:pay", "prod-payments", False),
    "by a pattern": ("slack:pay", "team-7-prod", False),
    "another one": ("slack:pay", "prod-payments-2", True),
    "one that only begins so": ("slack:pay", "prod", True),
    "one of a list of entries": ("teams:pay:1", "dev", True),
    "the first entry under its short name": ("teams:pay", "dev", True),
    "a channel that belongs to no receiver": ("console", "dev", False),
    "a receiver without a list": ("slack:all", "dev", False),
    "a channel that is not there": ("slack:gone", "dev", False),
}


@pytest.mark.parametrize("case", DENIALS)
def test_a_receiver_takes_the_namespaces_it_names(case: str) -> None:
    """A name is one namespace, a pattern some, no list all; every channel of it is meant."""
    channel, namespace, denied = DENIALS[case]
    config = parse(
        receivers(
            "- {name: pay, allowedNamespaces: [prod-payments, 'team-?-*'], consoleConfigs: [{}],"
            " slackConfigs: [{credentialRef: a}],"
            " teamsConfigs: [{credentialRef: a}, {credentialRef: b}]}\n"
            "- {name: all, slackConfigs: [{credentialRef: c}]}"
        )
    )
    why = f'receiver "pay" takes no notifications of namespace {namespace} (allowedNamespaces)'
    assert config.denial(channel, namespace) == (why if denied else None)


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("http://h/x", None),
        ("HTTP://10.0.0.1/x", None),
        ("https://h/x", ""),
        ("http://127.0.0.1:8080/x", ""),
        ("http://[::1]/x", ""),
        ("http://localhost/x", ""),
        ("http://h/x", ", credentialsOverHttp: true"),
    ],
)
def test_credentials_over_http_need_a_word(url: str, more: str | None) -> None:
    """A token goes over TLS, to this machine, or where the file says so; a password as well."""
    for credential in ("bearerTokenRef: t", "basicAuth: {username: u, password: p}"):
        http = f"{{{credential}{more or ''}}}"
        text = receivers(f"- {{name: x, webhookConfigs: [{{url: '{url}', httpConfig: {http}}}]}}")
        if more is None:
            with pytest.raises(ConfigError, match=r"\[0\]\.httpConfig: token .* over http://"):
                parse(text, native=frozenset({"webhook"}))
            continue
        config = parse(text, native=frozenset({"webhook"}))
        assert config.warnings == ()
        webhook = config.targets["webhook:x"].config
        assert isinstance(webhook, WebhookConfig)
        assert webhook.http_config.credentials_over_http is bool(more)


def test_a_user_in_a_url_is_a_credential() -> None:
    """A URL with a user in it is refused when it is read, not when the first message is lost by it."""
    text = "- {{name: x, webhookConfigs: [{{url: '{url}'{more}}}]}}"
    native = frozenset({"webhook"})
    for url in ("http://u:p@h/x", "http://u@h/x"):
        with pytest.raises(ConfigError, match=r"webhookConfigs\[0\]\.httpConfig: .* over http://"):
            parse(receivers(text.format(url=url, more="")), native=native)
        allowed = text.format(url=url, more=", httpConfig: {credentialsOverHttp: true}")
        assert parse(receivers(allowed), native=native).warnings == ()
    for url in ("https://u:p@h/x", "http://u:p@127.0.0.1/x"):
        parse(receivers(text.format(url=url, more="")), native=native)


# -- credentials ----------------------------------------------------------------------------------


def test_entries_without_credential_are_listed_as_upstream_does() -> None:
    """Each is named by receiver, key and index, then by its line."""
    text = receivers(
        "- {name: a, slackConfigs: [{credentialRef: s}, {channel: '#x'}]}\n"
        "- {name: 'b c', teamsConfigs: [{}], pagerdutyConfigs: [{}], emailConfigs: [{to: x}]}"
    )
    with pytest.raises(ConfigError) as caught:
        usable(text)
    assert str(caught.value) == (
        'credentialRef is required: receiver "a" slackConfigs[1] (line 3); receiver "b c"'
        ' pagerdutyConfigs[0] (line 4); receiver "b c" teamsConfigs[0] (line 4)'
    )


def test_needed_credentials_are_listed_once_in_order() -> None:
    """Kinds that are not delivered need none."""
    text = receivers(
        "- {name: a, slackConfigs: [{credentialRef: s}], emailConfigs: [{credentialRef: m}]}\n"
        "- {name: b, teamsConfigs: [{credentialRef: t}], slackConfigs: [{credentialRef: s}],\n"
        "   webhookConfigs: [{credentialRef: w, signingSecretRefs: [k1, k2],\n"
        "     httpConfig: {bearerTokenRef: bt}},\n"
        "     {url: u, httpConfig: {basicAuth: {username: n, passwordRef: pw}}}]}"
    )
    assert parse(text).credential_refs() == ("s", "t")
    native = frozenset({"email", "webhook"})
    assert parse(text, native=native).credential_refs() == (
        "s", "m", "t", "w", "bt", "k1", "k2", "pw",
    )  # fmt: skip


# -- warnings -------------------------------------------------------------------------------------

#: A file, the warning, and the kinds of channels that are really delivered.
WARNINGS: dict[str, tuple[str, ...]] = {
    "an unknown key deep in a webhook": (
        receivers("- {name: x, webhookConfigs: [{url: u, httpConfig: {proxy: p}}]}"),
        "receivers[0].webhookConfigs[0].httpConfig.proxy is unknown and ignored",
        "webhook",
    ),
    "mail that is incomplete": (
        receivers("- {name: x, emailConfigs: [{to: a}]}"),
        "receivers[0].emailConfigs[0] is never delivered: it is not fully configured",
        "email",
    ),
    "a routing key over http": (
        receivers(
            "- {name: x, pagerdutyConfigs: [{credentialRef: a, url: 'http://pd.svc/x'},"
            " {credentialRef: a, url: 'http://127.0.0.1/x'}, {credentialRef: a, url: 'https://pd/x'}]}"
        ),
        "receivers[0].pagerdutyConfigs[0].url sends the routing key over http://, readable on the network",
    ),
    "allowed namespaces of what belongs to no receiver": (
        receivers("- {name: x, allowedNamespaces: [a], logConfigs: [{enabled: true}]}"),
        (
            "receivers[0].allowedNamespaces does not restrict console, file and log: they belong to no"
            " receiver"
        ),
    ),
    "an unknown key of a route": (
        "route: {groupWait: 30s}\nreceivers: [{name: x, logConfigs: [{}]}]",
        "route.groupWait is unknown and ignored",
    ),
    "an unknown key at the top": (
        "inhibitRules: []\nroute: {}\nreceivers: [{name: x, logConfigs: [{}]}]",
        "inhibitRules is unknown and ignored",
    ),
    "an unknown key of an entry": (
        receivers("- {name: x, pagerdutyConfigs: [{credentialRef: k, serviceKey: s}]}"),
        "receivers[0].pagerdutyConfigs[0].serviceKey is unknown and ignored",
    ),
    "a match on the root": (
        "route: {match: {a: b}}\nreceivers: [{name: x, logConfigs: [{}]}]",
        "route.match has no effect on the root route",
    ),
    "a disabled channel": (
        receivers("- {name: x, consoleConfigs: [{enabled: false}]}"),
        "receivers[0].consoleConfigs[0].enabled has no effect: what is listed is delivered",
    ),
    "a silent receiver": (
        receivers("- {name: x}"),
        "receivers[0] configures nothing: it delivers to the console",
    ),
    "a route without receiver": (
        "route: {routes: [{match: {a: b}}]}\nreceivers: [{name: x, logConfigs: [{}]}]",
        (
            "route.routes[0] names no receiver: a notification that ends here goes to the console "
            "fallback"
        ),
    ),
    "a route without receiver below one that has one": (
        (
            "route: {routes: [{receiver: x, routes: [{match: {a: b}}]}]}\n"
            "receivers: [{name: x, logConfigs: [{}]}]"
        ),
        (
            "route.routes[0].routes[0] names no receiver: a notification that ends here goes to a "
            "route above"
        ),
    ),
    "a route without receiver below none that has one": (
        "route: {routes: [{match: {a: b}}]}\nreceivers: [{name: x, logConfigs: [{}]}]",
        (
            "route.routes[0] names no receiver: a notification that ends here goes to the console "
            "fallback"
        ),
    ),
    "a route behind one that takes all": (
        "route: {routes: [{receiver: x}, {receiver: x}]}\nreceivers: [{name: x, logConfigs: [{}]}]",
        "route.routes[1] is never reached: routes[0] matches everything and does not continue",
    ),
    "a pattern without anchors": (
        (
            "route: {routes: [{receiver: x, matchRe: {team: sre}}]}\n"
            "receivers: [{name: x, logConfigs: [{}]}]"
        ),
        "route.routes[0].matchRe.team is not anchored: it is found anywhere in the value",
    ),
    "mail that is switched off": (
        receivers("- {name: x, emailConfigs: [{to: a}]}"),
        "receivers[0].emailConfigs[0] is never delivered: delivery.email.enabled is false",
    ),
    "a webhook that is switched off, whatever it holds": (
        receivers(
            "- {name: x, webhookConfigs: [{url: u, headers: {Host: h}, success: {when: '('}}]}"
        ),
        "receivers[0].webhookConfigs[0] is never delivered: delivery.webhook.enabled is false",
    ),
    "a receiver whose name a later one has": (
        receivers("- {name: a, consoleConfigs: [{}]}\n- {name: a, logConfigs: [{}]}"),
        "receivers[0] is not used: a later receiver has the same name",
    ),
    "two receivers that share a channel name": (
        receivers(
            "- {name: a, slackConfigs: [{credentialRef: s}, {credentialRef: t}]}\n"
            "- {name: 'a:1', slackConfigs: [{credentialRef: u}]}"
        ),
        "receivers[1] shares the channel name slack:a:1 with receiver a, which gets it",
    ),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_what_has_no_effect_is_warned_about(case: str) -> None:
    """Exactly one warning, with the path."""
    text, warning, *native = WARNINGS[case]
    assert said(parse(text, native=frozenset(native))) == (warning,)


@pytest.mark.parametrize(
    "first",
    ["match: {a: b}", "matchRe: {a: ^b$}", "continue: true", "match: {a: b}, continue: true"],
)
def test_a_route_that_leaves_others_their_turn(first: str) -> None:
    """What follows a route that takes only some, or that continues, can be reached."""
    text = f"route: {{routes: [{{receiver: x, {first}}}, {{receiver: x}}]}}\n"
    config = parse(text + "receivers: [{name: x, logConfigs: [{}]}]")
    assert not [warning for warning in config.warnings if "never reached" in warning]


#: What is written, and how many of its keys look like a slip.
SLIPS: dict[str, tuple[str, int]] = {
    "an unknown kind": ("- {name: y, discordConfigs: [{url: x}]}", 1),
    "a kind in the letters of another": ("- {name: y, slackconfigs: [{credentialRef: s}]}", 1),
    "a member of an entry": ("- {name: y, slackConfigs: [{credentialRef: s, chanel: c}]}", 1),
    "no effect is no slip": ("- {name: y, consoleConfigs: [{enabled: false}]}", 0),
    "nothing configured is no slip": ("- {name: y}", 0),
}


@pytest.mark.parametrize("case", SLIPS)
def test_a_key_that_nothing_reads_is_counted(case: str) -> None:
    """What cannot be meant is counted; what is merely odd is not."""
    text, doubts = SLIPS[case]
    assert parse(receivers(text)).doubts == doubts


def test_a_match_of_no_known_attribute_is_warned_about() -> None:
    """A misspelt attribute is named with the one that it looks like."""
    config = parse(
        "route: {receiver: x, routes: [{receiver: x, match: {prioritty: High, team: a}}]}\n"
        "receivers: [{name: x, consoleConfigs: [{enabled: true}]}]\n"
    )
    assert said(config) == (
        "route.routes[0].match.prioritty is not a known attribute: did you mean priority?",
    )
    assert config.doubts == 1


# -- anything -------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
WORDS = st.sampled_from(
    ["route", "receivers", "routes", "receiver", "name", "x", "match", "matchRe", "continue",
     "slackConfigs", "webhookConfigs", "httpConfig", "credentialRef", "enabled", "<<"]
)  # fmt: skip
DOCUMENTS = st.recursive(
    SCALARS | st.just("x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | SCALARS, inner, max_size=4),
    max_leaves=15,
)


def parsed(text: str) -> RoutingConfig | None:
    """Parse, taking a ConfigError for an answer."""
    try:
        return parse(text)
    except ConfigError:
        return None


@examples(200)
@given(DOCUMENTS)
def test_any_yaml_is_a_config_or_a_config_error(document: object) -> None:
    """Documents of every shape raise nothing else."""
    parsed(yaml.safe_dump(document))


@examples(200)
@given(DOCUMENTS, DOCUMENTS)
def test_any_json_is_a_config_or_a_config_error(route: object, entry: object) -> None:
    """Neither do documents that are almost right."""
    receiver = {"name": "x", **(entry if isinstance(entry, dict) else {"slackConfigs": entry})}
    document = {"route": route, "receivers": [receiver]}
    try:
        text = json.dumps(document)
    except (TypeError, ValueError):
        return
    config = parsed(text)
    if config is not None:
        assert config.targets


@examples(300)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"\\%@#,?~<= \n\t0")))
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    """Nor does noise made of YAML's own characters."""
    parsed(text)


@pytest.mark.parametrize(
    ("url", "readable"),
    [
        ("http://h/x", True), ("https://h/x", False), ("http://localhost/x", False),
        ("http://127.0.0.1/x", False), ("http://[::1]/x", False), ("http://[::1", False), ("", False),
    ],
)  # fmt: skip
def test_what_can_be_read_on_its_way(url: str, readable: bool) -> None:
    """Only over http, and not to this machine; of what is no URL nothing is sent."""
    assert in_clear(url) is readable
