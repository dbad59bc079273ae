"""The gateway's file: defaults, warnings, and errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from notifier.gateway.draft import Options
from notifier.gateway.kinds import KINDS
from notifier.gateway.settings import load, of_document
from notifier.gateway.translation import Rate, Source
from syncer.model.errors import ConfigError
from syncer.model.resource import Json


def source(**more: Any) -> Json:
    """A source that can be used."""
    return {
        "name": "am", "kind": "alertmanager", "namespace": "alerts", "auth": {"insecure": True},
        **more,
    }  # fmt: skip


def read(**more: Any) -> Source:
    """What a file of that one source comes to."""
    ((found, _),) = of_document({"sources": [source(**more)]}).sources.values()
    return found


def test_the_defaults_are_those_of_the_kind() -> None:
    """Patience, window and Retry-After fit the program that sends."""
    document = {
        "sources": [
            source(name=k, kind=k) for k in ("alertmanager", "grafana", "flux", "argocd", "github")
        ]
    }
    found = {
        name: (s.patience, s.window, s.retry_after)
        for name, (s, _) in of_document(document).sources.items()
    }
    assert found == {
        "alertmanager": (10, 1800, 10), "grafana": (25, 1800, 10), "flux": (6, 0, 3),
        "argocd": (10, 0, 15), "github": (8, 0, 10),
    }  # fmt: skip
    found_one = read(patience="3s", dedupWindow="1h", retryAfter=60)
    assert (found_one.patience, found_one.window, found_one.retry_after) == (3, 3600, 60)


def test_kinds_are_what_their_programs_can_do() -> None:
    """How large a body is, how long and how it is tried again, and who asks before it sends."""
    found = {
        name: (kind.max_body >> 20, kind.patience, kind.retry_after, kind.too_many, kind.handshake)
        for name, kind in KINDS.items()
    }
    assert found == {
        "alertmanager": (8, 10, 10, 503, False), "argocd": (1, 10, 15, 429, False),
        "cloudevents": (1, 20, 10, 429, True), "flux": (1, 6, 3, 429, False),
        "github": (1, 8, 10, 503, False), "grafana": (8, 25, 10, 503, False),
        "heartbeat": (1, 3, 10, 503, False), "json": (1, 20, 10, 503, False),
        "notification": (1, 20, 10, 429, False),
    }  # fmt: skip


def test_a_source_that_says_nothing_more() -> None:
    """One notification for a group, starts count, no rate, and it may be silent."""
    found = read()
    assert found.options == Options(each=False, ignore_starts_at=False, body_alone=False)
    assert (found.rate, found.expect_every) == (None, 0)
    assert found.namespaces == ("alerts",)
    found = read(
        per="alert", ignoreStartsAt=True, rate={"perMinute": 30}, expectEvery="10m", patience=1
    )
    assert found.options == Options(each=True, ignore_starts_at=True, body_alone=False)
    assert (found.rate, found.expect_every) == (Rate(30, 30, digest=True), 600)
    refusing = read(rate={"perMinute": 30, "burst": 5, "over": "refuse"})
    assert refusing.rate == Rate(30, 5, digest=False)


def test_a_hundred_sources_are_taken() -> None:
    """And not one more."""
    listed = [source(name=f"s{n}") for n in range(100)]
    assert len(of_document({"sources": listed}).sources) == 100
    with pytest.raises(ConfigError, match="sources: must be at most 100"):
        of_document({"sources": [*listed, source()]})


#: Keys with the least and the most that they may be, and what is beyond; None has no bound.
BOUNDS: Final[dict[str, tuple[Any, Any, Any, Any]]] = {
    "source.dedupWindow": (None, "0s", "12h", "43201s"),
    "source.patience": ("0s", "1ms", "60s", "61s"),
    "source.retryAfter": (0, 1, 600, 601),
    "source.expectEvery": ("29s", "30s", "168h", "604801s"),
    "source.rate.perMinute": (0, 1, 100_000, 100_001),
    "source.rate.burst": (0, 1, 100_000, 100_001),
    "source.retryPolicy.maxAttempts": (0, 1, 10, 11),
    "source.retryPolicy.initialBackoffSeconds": (0, 1, 300, 301),
    "source.retryPolicy.backoffMultiplier": (0, 1, 10, 11),
    "source.retryPolicy.maxBackoffSeconds": (59, 60, 3600, 3601),
}


@pytest.mark.parametrize("key", BOUNDS)
def test_bounds_are_taken_and_what_is_beyond_is_not(key: str) -> None:
    """Both ends are within; the error names the key."""

    def set_to(value: Any) -> None:
        document: Json = {"sources": [source()]}
        *groups, last = key.split(".")
        node = document
        if groups[:1] == ["source"]:
            node, groups = document["sources"][0], groups[1:]
        for group in groups:
            node = node.setdefault(group, {})
        if groups[:1] == ["rate"]:
            node["perMinute"] = 5
        node[last] = value
        of_document(document)

    below, least, most, above = BOUNDS[key]
    for value in (least, most):
        if value is not None:
            set_to(value)
    for value in (below, above):
        if value is not None:
            with pytest.raises(ConfigError, match=key.removeprefix("source.").replace(".", r"\.")):
                set_to(value)


def test_a_key_that_means_nothing_is_a_warning_with_its_path() -> None:
    """At the top, in a source, and within its groups."""
    loaded = of_document(
        {"lissten": ":1", "sources": [source(dedupWindo=1, mapping={"subjct": "x"})]}
    )
    assert loaded.warnings == (
        "lissten is unknown and ignored: did you mean listen?",
        "sources[0].dedupWindo is unknown and ignored: did you mean dedupWindow?",
        "sources[0].mapping.subjct is unknown and ignored: did you mean subject?",
    )


def test_which_headers_are_signed() -> None:
    """Standard Webhooks sign the id that plain JSON is told apart by; no scheme signs GitHub's."""
    found = {}
    for kind, scheme in (
        ("json", "standard-webhooks"), ("json", "github"), ("github", "github"),
        ("github", "standard-webhooks"), ("github", ""), ("cloudevents", "standard-webhooks"),
    ):  # fmt: skip
        auth = (
            {"signature": {"scheme": scheme, "keyFiles": ["f"]}} if scheme else {"insecure": True}
        )
        one = read(kind=kind, auth=auth, mapping={"subject": "s", "body": "b"})
        found[kind, scheme] = one.options.body_alone
    assert found == {
        ("json", "standard-webhooks"): False, ("json", "github"): True,
        ("github", "github"): True, ("github", "standard-webhooks"): True, ("github", ""): False,
        ("cloudevents", "standard-webhooks"): True,
    }  # fmt: skip


JSON: Final = {"kind": "json", "mapping": {"subject": "s", "body": "b"}}
WRONG: Final[dict[str, tuple[Any, str]]] = {
    "no sources": ({}, "sources: is required"),
    "no list": ({"sources": {}}, "sources: is required: a list"),
    "an entry that is no mapping": ({"sources": [1]}, "sources[0]: must be a mapping"),
    "a name that is none": (
        {"sources": [source(name="A b")]}, "sources[0].name: must be lower-case letters"
    ),
    "a name twice": ({"sources": [source(), source()]}, "sources[1].name: is the name of a source"),
    "a kind that nobody knows": (
        {"sources": [source(kind="slack")]}, "sources[0].kind: must be one of alertmanager, argocd"
    ),
    "no proof asked for": (
        {"sources": [source(auth={})]},
        (
            "sources[0].auth.insecure: one of bearer, basic, signature, tokenReview and"
            " clientCertificate is required, or `auth: {insecure: true}`"
        ),
    ),
    "two proofs that share a header": (
        {"sources": [source(auth={"bearer": {"tokenFiles": ["f"]}, "tokenReview": {}})]},
        "sources[0].auth.insecure: bearer, basic and tokenReview exclude each other",
    ),
    "a certificate of a client without TLS": (
        {"sources": [source(auth={"clientCertificate": {"caFiles": ["f"]}})]},
        "sources[0].auth.clientCertificate: needs `tls`",
    ),
    "a name of a certificate without its kind": (
        {"sources": [source(auth={"clientCertificate": {"caFiles": ["f"], "names": ["a"]}})]},
        "sources[0].auth.clientCertificate.names: must each begin with cn:",
    ),
    "no audience": (
        {"sources": [source(auth={"tokenReview": {"audiences": []}})]},
        "sources[0].auth.tokenReview.audiences",
    ),
    "insecure beside a token": (
        {"sources": [source(auth={"insecure": True, "bearer": {"tokenFiles": ["f"]}})]},
        "sources[0].auth.insecure: excludes bearer",
    ),
    "no file of a token": (
        {"sources": [source(auth={"bearer": {"tokenFiles": []}})]},
        "sources[0].auth.bearer.tokenFiles",
    ),
    "no auth": (
        {"sources": [{"name": "a", "kind": "json", "namespace": "n"}]}, "sources[0].auth"
    ),
    "a heartbeat that nobody expects": (
        {"sources": [source(kind="heartbeat")]},
        "sources[0].expectEvery: is required for kind heartbeat",
    ),
    "an interval that is too short": (
        {"sources": [source(expectEvery="10s")]}, "sources[0].expectEvery"
    ),
    "a prefix of Leases that is none": (
        {"leases": {"prefix": "A b"}, "sources": [source()]},
        "leases.prefix: must be lower-case letters",
    ),
    "a namespace that is none": (
        {"sources": [source(namespace="A")]}, "sources[0].namespace: must be the name of a namespace"
    ),
    "a template without its namespaces": (
        {"sources": [source(namespace="{{ a }}")]},
        "sources[0].namespaces: is required where namespace is a template",
    ),
    "a list of namespaces with one that is none": (
        {"sources": [source(namespace="{{ a }}", namespaces=["a", "A b"])]},
        "sources[0].namespaces[1]: must be lower-case letters",
    ),
    "an expression that cannot be read": (
        {"sources": [source(mapping={"subject": "{{ a..b }}"})]},
        "sources[0].mapping.subject: the expression 'a..b' cannot be read",
    ),
    "an extension's expression": (
        {"sources": [source(mapping={"extensions": {"a": "{{ f(x) }}"}})]},
        "sources[0].mapping.extensions.a: there is no function f()",
    ),
    "a link's expression": (
        {"sources": [source(mapping={"links": [{"service": "a", "url": "{{ a", "label": "b"}]})]},
        "sources[0].mapping.links[0].url: the hole that begins at character 1",
    ),
    "a type that is none": (
        {"sources": [source(mapping={"type": "Page"})]}, "sources[0].mapping.type: must be one of"
    ),
    "plain JSON without a subject": (
        {"sources": [source(kind="json", mapping={"body": "b"})]},
        "sources[0].mapping.subject: is required for kind json",
    ),
    "two faults of one source, and one of another": (
        {"sources": [source(kind="x", per="day"), source(name="b", patience="2m")]},
        (
            "sources[0].kind: must be one of alertmanager, argocd, cloudevents, flux, github, grafana,"
            " heartbeat, json, notification; sources[0].per: must be 'group' or 'alert';"
            " sources[1].patience: must be less than or equal to 60"
        ),
    ),
    "too much patience": ({"sources": [source(patience="2m")]}, "sources[0].patience"),
    "an address that is none": ({"listen": "x", "sources": [source()]}, "listen: must be `:port`"),
    "one address twice": (
        {"listen": ":9090", "sources": [source()]}, "metricsAddr: must differ from listen"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_refused_with_its_path(case: str) -> None:
    """The error begins with the dotted path of the key."""
    document, text = WRONG[case]
    with pytest.raises(ConfigError) as refused:
        of_document(document)
    assert str(refused.value).startswith(text)


def test_lines_are_named_where_there_is_a_file(tmp_path: Path) -> None:
    """Errors and warnings of a file end in the line of the key."""
    file = tmp_path / "gateway.yaml"
    text = (
        "lissten: 1\nsources:\n- name: a\n  kind: json\n  namespace: n\n"
        "  auth: {insecure: true}\n  mapping:\n    subject: '{{ a..b }}'\n    body: b\n"
    )
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"^sources\[0\]\.mapping\.subject: .* \(line 8\)$"):
        load(file, {})
    file.write_text(text.replace("kind: json", "kind: odd"))
    with pytest.raises(ConfigError, match=r"^sources\[0\]\.kind: must be one of .* \(line 4\)$"):
        load(file, {})
    file.write_text(text.replace("{{ a..b }}", "x"))
    assert load(file, {}).warnings == (
        "lissten is unknown and ignored: did you mean listen? (line 1)",
    )
    file.write_text(text + "  patience: 2m\n- {name: b}\n")
    with pytest.raises(
        ConfigError,
        match=r"^sources\[0\]\.patience: .* \(line 10\); sources\[1\]\.kind: .* \(line 11\)",
    ):
        load(file, {})
    file.write_text(text.replace("{{ a..b }}", "x") + "  kind: flux\n")
    assert load(file, {}).warnings[0] == (
        "sources[0].kind is written twice; only the last one counts (line 10)"
    )
