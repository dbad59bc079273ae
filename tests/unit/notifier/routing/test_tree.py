"""The walk through the tree, and the message about it."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.routing.config import console_fallback
from notifier.routing.parse import parse
from notifier.routing.tree import FALLBACK, RULE_MATCHED, _listed, resolve
from tests.examples import examples

RECEIVERS = """
receivers:
- {name: root, consoleConfigs: [{enabled: true}]}
- {name: a, slackConfigs: [{credentialRef: a}]}
- {name: b, slackConfigs: [{credentialRef: b}], consoleConfigs: [{enabled: true}]}
- {name: c, logConfigs: [{enabled: true}], consoleConfigs: [{enabled: true}]}
"""


def routed(routes: str, *, root: str = "root", **attributes: str) -> tuple[str, ...]:
    """Receivers for a list of routes under a root."""
    config = parse(f"route: {{receiver: '{root}', routes: {routes}}}\n{RECEIVERS}")
    return resolve(config, {k.replace("_", "-"): v for k, v in attributes.items()}).receivers


def said(attributes: dict[str, str]) -> str:
    """The message about a notification that goes to one receiver, whatever its attributes."""
    return resolve(parse(f"route: {{receiver: b}}\n{RECEIVERS}"), attributes).message


WALKS: dict[str, tuple[str, dict[str, str], tuple[str, ...]]] = {
    "no children: the root's receiver": ("[]", {}, ("root",)),
    "no child matches: the root's receiver": (
        "[{receiver: a, match: {team: x}}]",
        {"team": "y"},
        ("root",),
    ),
    "the first match ends the walk": (
        "[{receiver: a, match: {team: x}}, {receiver: b}]",
        {"team": "x"},
        ("a",),
    ),
    "continue adds the siblings": (
        "[{receiver: a, continue: true}, {receiver: b, continue: true}, {receiver: c}]",
        {},
        ("a", "b", "c"),
    ),
    "continue to the end does not add the root": (
        "[{receiver: a, continue: true}]",
        {},
        ("a",),
    ),
    "a deeper match replaces its parent": (
        "[{receiver: a, routes: [{receiver: b, match: {severity: critical}}]}]",
        {"severity": "critical"},
        ("b",),
    ),
    "no deeper match keeps the parent": (
        "[{receiver: a, routes: [{receiver: b, match: {severity: critical}}]}]",
        {"severity": "low"},
        ("a",),
    ),
    "a deeper match, and the parent continues": (
        "[{receiver: a, continue: true, routes: [{receiver: b}]}, {receiver: c}]",
        {},
        ("b", "c"),
    ),
    "the same receiver counts once": (
        "[{receiver: a, continue: true}, {receiver: b, continue: true}, {receiver: a}]",
        {},
        ("a", "b"),
    ),
    "a match without receiver ends at the fallback, not at the root": (
        "[{match: {team: x}}]",
        {"team": "x"},
        ("default-console-fallback",),
    ),
    "a match without receiver that continues leaves the root": (
        "[{match: {team: x}, continue: true}]",
        {"team": "x"},
        ("root",),
    ),
    "a deep match without receiver falls to the route above": (
        "[{receiver: a, routes: [{match: {team: x}}]}]",
        {"team": "x"},
        ("a",),
    ),
    "match asks for all pairs": (
        "[{receiver: a, match: {team: x, env: prod}}]",
        {"team": "x", "env": "dev"},
        ("root",),
    ),
    "an absent attribute equals the empty text": (
        "[{receiver: a, match: {team: ''}}]",
        {},
        ("a",),
    ),
    "a pattern wants the attribute there": (
        "[{receiver: a, matchRe: {team: '^$'}}]",
        {},
        ("root",),
    ),
    "a pattern matches a present empty value": (
        "[{receiver: a, matchRe: {team: '^$'}}]",
        {"team": ""},
        ("a",),
    ),
    "a pattern is found anywhere": (
        "[{receiver: a, matchRe: {team: re-p}}]",
        {"team": "sre-platform"},
        ("a",),
    ),
    "an anchored pattern is not": (
        "[{receiver: a, matchRe: {team: ^re-p}}]",
        {"team": "sre-platform"},
        ("root",),
    ),
    "match and pattern must both hold": (
        "[{receiver: a, match: {target: rca}, matchRe: {team: ^sre-.*}}]",
        {"target": "signal", "team": "sre-x"},
        ("root",),
    ),
    "values are case-sensitive": (
        "[{receiver: a, match: {type: escalation}}]",
        {"type": "Escalation"},
        ("root",),
    ),
    "a value with half a character is matched all the same": (
        "[{receiver: a, matchRe: {team: ^x}}]",
        {"team": "x\ud800"},
        ("a",),
    ),
}


@pytest.mark.parametrize("case", WALKS)
def test_a_walk_ends_where_upstreams_does(case: str) -> None:
    """Order, depth, continue and the quirks."""
    routes, attributes, receivers = WALKS[case]
    assert routed(routes, **attributes) == receivers


def test_channels_of_several_receivers_are_counted_once() -> None:
    """Three receivers with a console among them deliver to one console."""
    config = parse(
        "route: {routes: [{receiver: a, continue: true}, {receiver: b, continue: true}, "
        f"{{receiver: c}}]}}\n{RECEIVERS}"
    )
    resolution = resolve(config, {})
    assert resolution.channels == ("slack:a", "slack:b", "console", "log")
    assert resolution.receivers == ("a", "b", "c")
    assert resolution.reason == RULE_MATCHED


FALLBACKS: dict[str, tuple[str, dict[str, tuple[tuple[str, ...], int]]]] = {
    "a receiver's own": ("{receiver: x}", {"slack:a": (("slack:x",), 600_000)}),
    "the route's goes before it": (
        "{receiver: x, fallback: c, fallbackAfter: 90s}",
        {"console": (("slack:x",), 90_000), "log": (("slack:x",), 90_000)},
    ),
    "the route that gives a receiver first counts": (
        "{routes: [{receiver: x, continue: true, fallback: b}, {receiver: x, fallback: c}]}",
        {"slack:b": (("slack:x",), 600_000), "console": (("slack:x",), 600_000)},
    ),
    "a fallback's fallback is none": ("{receiver: y}", {"slack:x": (("slack:y",), 600_000)}),
    "what gets it anyway stands by for nothing": (
        "{routes: [{receiver: x, continue: true}, {receiver: a}]}", {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FALLBACKS)
def test_what_stands_by(case: str) -> None:
    """The channels of the fallback, for those of the receiver; the message names them."""
    route, wanted = FALLBACKS[case]
    more = "".join(
        f"- {{name: {name}, slackConfigs: [{{credentialRef: {name}}}], fallback: {fallback}}}\n"
        for name, fallback in (("x", "a"), ("y", "x"))
    )
    resolution = resolve(parse(f"route: {route}\n{RECEIVERS}{more}"), {})
    assert {f.channel: (f.of, f.after) for f in resolution.fallbacks} == wanted
    shown = f"; fallback: {', '.join(wanted)}" if wanted else f": {', '.join(resolution.channels)}"
    assert resolution.message.endswith(shown)


def test_the_message_names_rules_attributes_and_channels() -> None:
    """Upstream's text, with the attributes sorted."""
    config = parse(f"route: {{routes: [{{receiver: b, match: {{team: x}}}}]}}\n{RECEIVERS}")
    resolution = resolve(config, {"type": "Simple", "team": "x"})
    assert resolution.message == (
        "Matched rules [b] (attributes: team=x, type=Simple) → channels: slack:b, console"
    )


def test_the_message_says_nothing_that_the_object_says() -> None:
    """Namespace and name are matched, and are no part of the text, which is upstream's."""
    config = parse(f"route: {{routes: [{{receiver: a, match: {{namespace: x}}}}]}}\n{RECEIVERS}")
    resolution = resolve(config, {"namespace": "x", "name": "y"})
    assert resolution.message == "Matched rules [a] (no attributes) → channels: slack:a"
    resolution = resolve(config, {"namespace": "x", "name": "y", "type": "Simple"})
    assert "(attributes: type=Simple)" in resolution.message


def test_an_empty_file_routes_to_the_console_by_rule() -> None:
    """Upstream's quirk: its built-in configuration counts as matched."""
    resolution = resolve(console_fallback(), {"type": "Simple"})
    assert resolution.reason == RULE_MATCHED
    assert resolution.receivers == ("console-fallback",)
    assert resolution.channels == ("console",)


def test_nothing_matched_is_a_fallback() -> None:
    """A root without receiver leads to the built-in console receiver."""
    config = parse(f"route: {{receiver: ''}}\n{RECEIVERS}")
    resolution = resolve(config, {"type": "Simple", "a": "b"})
    assert resolution.reason == FALLBACK
    assert resolution.channels == ("console",)
    assert resolution.receivers == ("default-console-fallback",)
    assert resolution.message == (
        "No routing rules matched (attributes: a=b, type=Simple), using console fallback"
    )
    assert resolve(config, {}).message == (
        "No routing rules matched (no attributes), using console fallback"
    )


def test_a_long_value_is_cut_before_anything_else() -> None:
    """The rules, the channels and the short attributes stay whole."""
    message = said({"rootCause": "é" * 40_000, "zone": "eu"})
    assert len(message.encode()) <= 1024
    assert message.startswith("Matched rules [b] (attributes: rootCause=é")
    assert message.endswith("…, zone=eu) → channels: slack:b, console")


def test_many_attributes_are_counted_where_they_do_not_fit() -> None:
    """What is left out is said."""
    message = said({f"k{n:03}": "value" for n in range(500)})
    assert len(message.encode()) <= 1024
    assert message.startswith("Matched rules [b] (attributes: k000=value, ")
    shown = message.count("=value")
    assert f", … (+{500 - shown})) → channels: slack:b, console" in message


def test_many_receivers_keep_both_lists_readable() -> None:
    """Lists of names end with a count and leave space for each other."""
    names = [f"receiver-{n:04}-" + "x" * 40 for n in range(100)]
    config = parse(
        "route:\n  routes:\n"
        + "".join(f"  - {{receiver: {n}, continue: true}}\n" for n in names)
        + "receivers:\n"
        + "".join(f"- {{name: {n}, slackConfigs: [{{credentialRef: c}}]}}\n" for n in names)
    )
    resolution = resolve(config, {"type": "Simple"})
    assert len(resolution.channels) == 100
    assert len(resolution.message.encode()) <= 1024
    head, tail = resolution.message.split(" → channels: ")
    assert head.startswith(f"Matched rules [{names[0]}, ")
    assert head.endswith("] (attributes: type=Simple)")
    assert tail.startswith(f"slack:{names[0]}, ")
    assert tail.endswith(")")


def test_secrets_are_cleaned_out_before_the_cut() -> None:
    """The cleaner sees every pair whole, so a secret at the cut is recognised."""
    clean = Mock(wraps=lambda pair: pair.replace("s3cret" * 200, "[REDACTED]"))
    config = parse(f"route: {{receiver: root}}\n{RECEIVERS}")
    message = resolve(config, {"token": "s3cret" * 200}, clean=clean).message
    clean.assert_called_once_with("token=" + "s3cret" * 200)
    assert "token=[REDACTED]" in message
    assert "s3cret" not in message


ATTRIBUTES = st.dictionaries(
    st.text(max_size=40), st.text(st.characters(codec=None), max_size=300), max_size=40
)


@examples(150)
@given(ATTRIBUTES)
def test_any_attributes_give_a_stable_bounded_message(attributes: dict[str, str]) -> None:
    """At most 1,024 bytes, valid text, the same whatever the order, both parts intact."""
    config = parse(
        "route: {receiver: b, routes: [{receiver: a, matchRe: {team: x}}]}\n" + RECEIVERS
    )
    resolution = resolve(config, attributes)
    shuffled = dict(sorted(attributes.items(), reverse=True))
    assert resolve(config, shuffled) == resolution
    assert len(resolution.message.encode()) <= 1024
    assert resolution.message.startswith("Matched rules [")
    channels = ", ".join(resolution.channels)
    assert resolution.message.endswith(f") → channels: {channels}")


# -- slips ----------------------------------------------------------------------------------------

PAGER = "- {name: pager, slackConfigs: [{credentialRef: a}]}"
CRITICAL = {"priority": "Critical", "type": "Simple"}

#: Routes, further receivers, attributes, and what is doubted.
DOUBTS: dict[str, tuple[str, str, dict[str, str], tuple[str, ...]]] = {
    "a receiver of an unknown kind is the console": (
        "[{receiver: odd, match: {priority: Critical}}]",
        "- {name: odd, discordConfigs: [{url: x}]}",
        CRITICAL,
        ('receivers[4].discordConfigs is unknown and ignored, so receiver "odd" is the console',),
    ),
    "a part of a receiver is of an unknown kind": (
        "[{receiver: odd}]",
        "- {name: odd, discordConfigs: [{url: x}], slackConfigs: [{credentialRef: a}]}",
        CRITICAL,
        ("receivers[4].discordConfigs is unknown and ignored",),
    ),
    "such a receiver does not concern what goes elsewhere": (
        "[{receiver: odd, match: {priority: Low}}]",
        "- {name: odd, discordConfigs: [{url: x}]}",
        CRITICAL,
        (),
    ),
    "a match that looks like another": (
        "[{receiver: pager, match: {prioritty: Critical}}]",
        PAGER,
        CRITICAL,
        ('route.routes[0] matches "prioritty", where priority may be meant',),
    ),
    "a pattern that looks like another": (
        "[{receiver: pager, matchRe: {Priority: ^Crit}}]",
        PAGER,
        CRITICAL,
        ('route.routes[0] matches "Priority", where priority may be meant',),
    ),
    "a match that would not be met anyway": (
        "[{receiver: pager, match: {prioritty: Critical}}]",
        PAGER,
        {"priority": "Low"},
        (),
    ),
    "an author's own key is no slip": (
        "[{receiver: pager, match: {prioritty: Critical}}]",
        PAGER,
        {"priority": "Critical", "prioritty": "9"},
        (),
    ),
    "a key unlike any that is known is no slip": (
        "[{receiver: pager, match: {team: payments}}]",
        PAGER,
        CRITICAL,
        (),
    ),
    "a route that has lost its condition": (
        "[{receiver: pager, mtach: {priority: Critical}}]",
        PAGER,
        {"priority": "Low"},
        ("route.routes[0].mtach is unknown and ignored",),
    ),
    "no receiver on the way": (
        "[{match: {priority: Critical}}]",
        "",
        CRITICAL,
        ("no rule with a receiver matched",),
    ),
    "a slip behind a route that takes the notification": (
        "[{receiver: pager, match: {type: Simple}}, {receiver: pager, match: {prioritty: Critical}}]",
        PAGER,
        CRITICAL,
        (),
    ),
    "a slip behind a route that continues": (
        "[{receiver: pager, continue: true}, {receiver: pager, match: {prioritty: Critical}}]",
        PAGER,
        CRITICAL,
        ('route.routes[1] matches "prioritty", where priority may be meant',),
    ),
    "a deeper route that looks like another": (
        "[{receiver: pager, match: {type: Simple}, routes: [{receiver: b, match: {severty: high}}]}]",
        PAGER,
        {"type": "Simple", "severity": "high"},
        ('route.routes[0].routes[0] matches "severty", where severity may be meant',),
    ),
}


@pytest.mark.parametrize("case", DOUBTS)
def test_a_slip_is_doubted_where_it_matters(case: str) -> None:
    """What a slip of the file keeps from its receiver says so, and nothing else does."""
    routes, more, attributes, doubts = DOUBTS[case]
    config = parse(f"route: {{receiver: root, routes: {routes}}}\n{RECEIVERS}{more}\n")
    assert resolve(config, attributes).doubts == doubts


def test_doubts_are_bounded() -> None:
    """A file full of slips makes an event that can be read."""
    slips = ", ".join(f"{{receiver: a, match: {{prioritty: x, severty: {n}}}}}" for n in range(99))
    many = ", ".join(f"k{n}{'k' * 300}: 1" for n in range(50))
    config = parse(
        f"route: {{receiver: odd, routes: [{slips}]}}\nreceivers:\n"
        f"- {{name: odd, {many}}}\n- {{name: a}}\n"
    )
    doubts = resolve(config, {"priority": "x", "severity": "7"}).doubts
    assert len(doubts) == 3
    assert max(len(doubt.encode()) for doubt in doubts) <= 320
    assert config.doubts == 50 + 2 * 99


def test_names_that_are_listed() -> None:
    """Names are shown whole as far as they fit, a long one by its head, and the rest is counted."""
    assert _listed(["a", "b"]) == "a, b"
    assert _listed(["x" * 160, "b"]) == "x" * 160 + ", b"
    assert len(_listed(["x" * 161])) <= 160
    assert _listed([f"name-{n:03}" for n in range(100)]) == ", ".join(
        [*(f"name-{n:03}" for n in range(31)), "… (+69)"]
    )


def _longest(attributes: dict[str, str], key: str, lengths: range) -> int:
    """Bytes of the longest message of those with a value of these lengths."""
    return max(len(said({**attributes, key: "v" * n}).encode()) for n in lengths)


def test_a_message_uses_the_space_that_it_has() -> None:
    """Whole attributes where they fit, or as many as fit: the last byte may be taken."""
    few = {f"k{n}": "v" * 200 for n in range(4)}
    assert _longest(few, "last", range(60, 250)) == 1024
    many = {f"k{n:03}": "v" * 20 for n in range(100)}
    assert _longest(many, "a", range(30)) == 1024


def test_of_many_attributes_each_is_shown_in_short() -> None:
    """So that more of them can be shown."""
    message = said({f"k{n:03}": "v" * 200 for n in range(100)})
    pairs = message.partition("(attributes: ")[2].split(", ")[:-1]
    assert len(pairs) > 20
    assert {len(pair.encode()) for pair in pairs[:20]} == {32}
