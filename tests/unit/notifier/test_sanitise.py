"""The sanitiser: what is replaced, what is left alone, and that no text can slow it down."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.content.sanitise import MAX_DEPTH, REDACTED, RULES, sanitise, sanitise_tree

R = REDACTED
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"

UPSTREAM = {
    "a generator URL": ('{"generatorURL": "http://prom/x"}', f'{{"generatorURL":"{R}"}}'),
    "annotations in JSON": ('{"annotations": {"a": "b"}}', f'{{"annotations":{R}}}'),
    "a password in JSON": ('{"password":"oak31"}', f'{{"password":"{R}"}}'),
    "a password in JSON with a quote": (r'{"pwd": "a\"b"}', f'{{"pwd":"{R}"}}'),
    "a password at the start": ("password=oak31 and more", f"password: {R} and more"),
    "a password at the end": ("more and password=oak31", f"more and password: {R}"),
    "two passwords": (
        "password=oak31 twice password=oak31", f"password: {R} twice password: {R}",
    ),
    "a quoted password": ('password="b!rch$$9@"', f"password: {R}"),
    "a quoted password with blanks": ('password="two words" x', f"password: {R} x"),
    "the key keeps its case": ("PassWd: oak31", f"PassWd: {R}"),
    "a value ends at a comma": ("pwd: oak31, next", f"pwd: {R}, next"),
    "a password in a URL": ("https://svc:oak31@example.com", f"https://svc:{R}@example.com"),
    "a password with an at sign": ("https://a:o@k@example.com/x", f"https://a:{R}@example.com/x"),
    "an API key in JSON": ('{"apiKey":"q"}', f'{{"apiKey":"{R}"}}'),
    "an API key": ('API_KEY="oak31"', f"API_KEY: {R}"),
    "an OpenAI key": ("model key sk-proj-Zed900", f"model key {R}"),
    "a bearer token": ("bearer abc.def", f"Bearer {R}"),
    "a GitHub token": ("at ghp_" + "a1" * 18, f"at {R}"),
    "a token": ("access_token=ya29.oak31", f"access_token: {R}"),
    "a token in JSON": ('{"token" : "x"}', f'{{"token":"{R}"}}'),
    "a secret": ("client_secret: x1", f"client_secret: {R}"),
    "a secret in JSON": ('{"secret":"x"}', f'{{"secret":"{R}"}}'),
    "an authorization header": ("Authorization: oak31", f"Authorization: {R}"),
    "an AWS key id": ("AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", f"AWS_ACCESS_KEY_ID={R}"),
    "an AWS secret": (
        "aws_secret_key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", f"aws_secret_key={R}",
    ),
    "a PostgreSQL URL": ("postgresql://u:oak31@db/x", f"postgresql://u:{R}@db/x"),
    "a MySQL URL": ("mysql://svc:oak31@db/orders", f"mysql://svc:{R}@db/orders"),
    "a MongoDB URL": ("mongodb+srv://s:oak31@db/x", f"mongodb+srv://s:{R}@db/x"),
    "a Redis URL without a user": ("redis://:oak31@db:6379/0", f"redis://:{R}@db:6379/0"),
    "a certificate": (
        "a\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\nb", f"a\n{R}\nb",
    ),
    "an RSA key": ("-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----", R),
    "data of a Kubernetes Secret": (
        "data:\n    username: b3BlcmF0b3I=\n", f"data:\n  username: {R}\n",
    ),
    "an e-mail address": ("mail jo.doe+x@mail.example.org now", f"mail {R} now"),
    "an IPv4 address": ("at 10.20.30.40:80", f"at {R}:80"),
}  # fmt: skip

ADDED = {
    "basic credentials": ("Authorization: Basic dXNlcjpwYXNz", f"Authorization: {R} {R}"),
    "JSON inside JSON": (r'{\"password\":\"hunter2\"}', rf'{{\"password\":\"{R}\"}}'),
    "a number as a password": ('{"pwd": 12345}', f'{{"pwd":"{R}"}}'),
    "a refresh token": ("refresh_token=abc", f"refresh_token: {R}"),
    "a variable named after a token": ("GITLAB_TOKEN=abc", f"GITLAB_TOKEN: {R}"),
    "a camel-case name": (
        '{"accessToken": "x", "dbPassword": "y"}',
        f'{{"accessToken":"{R}", "dbPassword":"{R}"}}',
    ),
    "an authorization in JSON": ('{"authorization":"abc"}', f'{{"authorization":"{R}"}}'),
    "a Slack token": ("xoxb-1-2-abc", R),
    "a Slack hook": (
        "see https://hooks.slack.com/services/T0/B0/xyz", f"see https://hooks.slack.com/{R}",
    ),
    "a Teams hook": ("https://x.webhook.office.com/webhookb2/a@b/c", f"https://x.webhook.office.com/{R}"),
    "a signature in a query": ("https://x.example/y?sig=abc&b=1", f"https://x.example/y?sig={R}&b=1"),
    "a web token": (f"got {JWT} here", f"got {R} here"),
    "a GitHub server token": ("ghs_" + "a" * 36, R),
    "a fine-grained GitHub token": ("github_pat_" + "a_" * 20, R),
    "a GitLab token": ("glpat-" + "a" * 20, R),
    "an AWS key id alone": ("key ASIAIOSFODNN7EXAMPLE.", f"key {R}."),
    "an AWS session token": ("aws_session_token=IQoJb3", f"aws_session_token={R}"),
    "a Google key": ("AIza" + "a" * 35, R),
    "an Azure account key": ("AccountKey=abcdefgh==;End", f"AccountKey={R};End"),
    "a webhook secret": ("whsec_abcdefghijkl", R),
    "an OpenSSH key": (
        "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----", R,
    ),
    "an encrypted key": (
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nx\n-----END ENCRYPTED PRIVATE KEY-----", R,
    ),
    "an RSA key with PEM headers": (
        "-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: A,0A\n\nx\n-----END RSA PRIVATE KEY-----", R,
    ),
    "a PGP key": (
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ==\n-----END PGP PRIVATE KEY BLOCK-----", R,
    ),
    "a key whose end is missing": ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE", R),
    "a name without value before another": (
        "PASSWORD=\nDB_TOKEN: oak31\npwd:\n'secret': 'elm'\ntoken:\nBearer ash",
        f"PASSWORD=\nDB_TOKEN: {R}\npwd:\n'secret': '{R}'\ntoken:\nBearer {R}",
    ),
    "a dictionary as Python shows it": (
        "{'user': 'jo', 'db_password': 'oak\\'31', 'token': ''}",
        f"{{'user': 'jo', 'db_password': '{R}', 'token': '{R}'}}",
    ),
    "a name before an escaped one": (
        'pwd=\n\\"token\\":\\"oak31\\"', f'pwd=\n\\"token\\":\\"{R}\\"',
    ),
    "a name before an object": (
        'password= {"token": "oak31"} pwd={ "pwd": "elm"}',
        f'password= {{"token":"{R}"}} pwd={{ "pwd":"{R}"}}',
    ),
    "a bearer token by name": ("bearer token: oak31", f"bearer token: {R}"),
    "an authorization before a password": (
        "authorization:\nDEPLOY_TOKEN=oak31", f"authorization:\nDEPLOY_TOKEN: {R}",
    ),
    "an IPv6 address": ("at 2001:db8::8:800 now", f"at {R} now"),
}  # fmt: skip

REPLACED: dict[str, tuple[str, str]] = {**UPSTREAM, **ADDED}

UNTOUCHED = {
    "an ordinary setting": "environment: production",
    "a URL": "https://example.com/api/v1",
    "an image with a version": "rollout stuck, image reg.example.com/app:v1.2.3 not found",
    "a word that holds sk-": "disk-pressure on a node, task-force",
    "a word with token in it": "tokenizer failed, 512 tokens",
    "a count of tokens": "max_tokens=512, prompt_tokens: 7",
    "a reference to a Secret": "secretKeyRef missing, secretName: tls-cert",
    "a time": "at 12:34:56, since 2026-01-02T03:04:05Z",
    "a key of prose": "key: important message for you",
    "a C++ name": "std::vector<int> overflow",
    "a MAC address": "de:ad:be:ef:00:01",
    "a JSON of harmless members": '{"name":"x","count":3}',
    "a GUID": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "a public key": "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----",
    "a short e-mail look-alike": "look @ this, a@b",
}


@pytest.mark.parametrize("case", REPLACED)
def test_replaced(case: str) -> None:
    """A secret is replaced exactly, and a second pass changes nothing."""
    text, wanted = REPLACED[case]
    assert sanitise(text) == wanted
    assert sanitise(wanted) == wanted


@pytest.mark.parametrize("case", UNTOUCHED)
def test_untouched(case: str) -> None:
    """What only looks like a secret is left alone."""
    assert sanitise(UNTOUCHED[case]) == UNTOUCHED[case]


def test_only_clean_texts_are_remembered() -> None:
    """What is kept to be told at once next time is bounded, and none of it ever held a secret."""
    module = sys.modules[sanitise.__module__]
    for text, _ in REPLACED.values():
        sanitise(text)
    for n in range(5_000):
        sanitise(f"plain words {n}")
    kept: set[str] = module._CLEAN
    assert 0 < len(kept) <= 4_096
    assert not kept.intersection(text for text, wanted in REPLACED.values() if wanted != text)
    assert max(map(len, kept)) <= 64


def test_name_before_a_private_key() -> None:
    """The head of a key is not taken for the value of a name, which would leave the key."""
    key = "-----BEGIN RSA PRIVATE KEY-----\noak31\n-----END RSA PRIVATE KEY-----"
    assert sanitise(f"secret:\n{key}\nend") == f"secret:\n{R}\nend"


def test_no_rule_is_idle() -> None:
    """Each rule changes at least one of the samples, so none is dead weight."""
    samples = [text for text, _ in REPLACED.values()] + [
        "bot123456789:" + "a" * 35,
        "https://x.example/api/webhooks/12/abc",
        "https://abcdefghijklmnopqrst@sentry.example/1",
        "ya29.abcdefgh",
        "abc8Q~" + "d" * 31,
        "sk_live_abcdefghij",
        "SG." + "a" * 16 + "." + "b" * 16,
        "hvs." + "a" * 24,
        "npm_" + "a" * 36,
        "pypi-" + "a" * 40,
        "dop_v1_" + "a" * 64,
        "hf_" + "a" * 34,
        "AGE-SECRET-KEY-" + "1A" * 20,
        '{"refresh_token":"x"}',
    ]
    idle = [r.name for r in RULES if not any(r.pattern.search(s) for s in samples)]
    assert idle == []


def test_needles_are_lower_case() -> None:
    """A needle is looked for in the lowered text, so it must be lower case itself."""
    assert [n for r in RULES for n in r.needles if n != n.lower()] == []


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([text for text, _ in REPLACED.values()]), st.text(max_size=20))
def test_needles_never_hide_a_match(secret: str, around: str) -> None:
    """Skipping rules by their needles gives the same result as trying them all."""
    text = f"{around} {secret} {around}"
    by_all = text
    for rule in RULES:
        by_all = rule.pattern.sub(rule.replacement, by_all)
    assert sanitise(text) == by_all.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


UNITS = [
    "a_", "a_token", "a_token ", '"a_token', "a", "-",
    "pwd=a ", 'pwd="', "pwd='", '"password":"', '"annotations":{', "://a:", "://a:b@",
    "a@", "a@a.", "1.", "-----BEGIN PRIVATE KEY-----", "-----BEGIN CERTIFICATE-----\n-",
    "eyJaaaaa.", "sk-aaaa ", "bearer ", "token: ", "authorization: basic ", '\\"token\\":\\"',
    '"token":"\\', "\n key:", "a:", "aa::", "?sig=", "postgres://a:", "AccountKey=", "é",
    "-----BEGIN A B C PRIVATE KEY-----", "\ud800", "postgres://a:b@",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_adversarial_text_takes_linear_time(unit: str) -> None:
    """Half a mebibyte made to provoke backtracking takes no quadratic time."""
    text = (unit * (524_288 // len(unit) + 1))[:524_288]
    start = time.process_time()
    sanitise(text)
    assert time.process_time() - start < 2.0


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=400))
def test_any_text(text: str) -> None:
    """Any text comes back as text that UTF-8 takes, NUL and lone surrogates included."""
    sanitise(text).encode()
    sanitise(text + "\ud800\0").encode()


_fragments = st.sampled_from([
    "password", "=", ":", '"', "'", " ", "\n", "token", "\\", "@", "://", "a", "1.", ".", "{", "}",
    "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "Bearer ", "sk-", "eyJ", R,
])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(_fragments, max_size=40))
def test_any_mixture_of_fragments(parts: list[str]) -> None:
    """Whatever the rules' own words are combined to, the result is bounded."""
    text = "".join(parts)
    assert len(sanitise(text)) <= 4 * len(text) + 32


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(JSON)
def test_any_tree(value: Any) -> None:
    """Any JSON value comes back with its shape."""
    result = sanitise_tree(value)
    assert type(result) is type(value)


def test_tree_by_name() -> None:
    """A text is secret by the name of its member, whatever it looks like."""
    tree = {"extensions": {"apiKey": "x", "note": "pwd=a"}, "pwd": 7, "token": "", "secret": False}
    assert sanitise_tree(tree) == {
        "extensions": {"apiKey": R, "note": f"pwd: {R}"},
        "pwd": R,
        "token": "",
        "secret": False,
    }


def test_tree_is_left_unchanged() -> None:
    """The tree given is not written to."""
    tree = {"a": ["pwd=x", {"b": "pwd=y"}]}
    sanitise_tree(tree)
    assert tree == {"a": ["pwd=x", {"b": "pwd=y"}]}


def test_deep_tree_is_cut() -> None:
    """A tree deeper than any real object is cut instead of ending the process."""
    tree: Any = "pwd=x"
    for _ in range(5000):
        tree = {"a": [tree]}
    shown = repr(sanitise_tree(tree))
    assert shown.count("{") == MAX_DEPTH // 2
    assert R in shown
