"""Templates: what they find, and what is refused before anything is sent."""

from __future__ import annotations

import time
from typing import Any, Final

import orjson
import pytest

from notifier.gateway.draft import Refused
from notifier.gateway.expressions import Template

VIEW: Final = {
    "status": "firing",
    "labels": {"team": "Storage", "empty": ""},
    "alerts": [{"n": 1}, {"n": 2}],
    "none": None,
}

FOUND: Final[dict[str, Any]] = {
    "plain": "plain",
    "": "",
    "${labels.team}": "Storage",
    "team ${lower(labels.team)}!": "team storage!",
    "${upper(labels.team)}": "STORAGE",
    "${labels.nobody}": None,
    "a ${labels.nobody} b": "a  b",
    "${length(alerts)} alerts": "2 alerts",
    "${alerts[].n}": [1, 2],
    "n ${alerts[].n}": "n [1,2]",
    "${alerts[?n > `1`].n | [0]}": 2,
    "${if(status == 'firing', 'Escalation', 'Completion')}": "Escalation",
    "${if(labels.empty, 'a', 'b')}": "b",
    "${default(labels.empty, 'x')}": "x",
    "${default(none, labels.team)}": "Storage",
    "${replace(labels.team, 'St', 'V')}": "Vorage",
    "${truncate(labels.team, `3`)}": "Sto",
    "${truncate(labels.team, `0`)}": "",
    "${truncate(labels.team, `-3`)}": "",
    "${truncate(none, `3`)}": None,
    "${upper(none)}": None,
    "${replace(none, 'a', 'b')}": None,
    "${replace(labels.team, '', 'b')}": "Storage",
    "${if(none, 'a', 'b')}${if(`0`, 'a', 'b')}": "ba",
    "${default(`0`, 'x')}": 0,
    "${[?contains('a\\'}b', 'x')]}": None,
    "${{a: {b: status}}.a.b}": "firing",
    "${'it\\''}": "it'",
    "${match(labels.team, '^S.*e$')}": True,
    "${match(none, 'x')}": False,
    "${{a: status}.a}": "firing",
    "${'}'} and ${'${'}": "} and ${",
    "$${labels.team} costs $5": "${labels.team} costs $5",
    "${lower(none)}": None,
}


@pytest.mark.parametrize("template", FOUND)
def test_what_a_template_finds(template: str) -> None:
    """One hole yields a value, all else text, in which null is empty."""
    assert Template(template).value(VIEW, "mapping.x") == FOUND[template]


def test_what_replaces_a_text_is_bounded() -> None:
    """One letter that becomes a page would make a payload a thousand times as large."""
    found = Template(f"${{replace('aa', 'a', '{'x' * 300}')}}").value(VIEW, "m")
    assert found == "x" * 512


def test_a_template_is_as_long_as_it_may_be() -> None:
    """Two thousand characters are taken, and a text without a hole is told from one with a hole."""
    longest = Template("x" * 2000)
    assert (longest.value(VIEW, "m"), longest.constant) == ("x" * 2000, True)
    assert not Template("a ${status}").constant


def test_a_pattern_may_take_so_much_memory() -> None:
    """It may come from a payload; what would take more is no pattern."""
    fits, too_large = ("a{1000}" * count for count in (32, 100))
    assert Template(f"${{match(status, '{fits}')}}").value(VIEW, "m") is False
    with pytest.raises(ValueError, match="does not compile"):
        Template(f"${{match(status, '{too_large}')}}")


def test_a_pattern_that_is_none_is_printed_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    """The library would write it to standard error, beside the lines of the log."""
    view = {"pattern": "secret("}
    with pytest.raises(Refused):
        Template("${match('x', pattern)}").value(view, "m")
    assert capfd.readouterr() == ("", "")


WRONG: Final = {
    "${labels.": "character 1 has no closing brace",
    "ab ${labels.": "character 4 has no closing brace",
    "${a..b}": "the expression 'a..b' cannot be read",
    "${}": "cannot be read",
    "${shout(a)}": "there is no function shout()",
    "${a | lower(a, b)}": "lower() takes 1 arguments, not 2",
    "${[if(a, b)]}": "if() takes 3 arguments, not 2",
    "${match(a, '(')}": "the pattern of match() does not compile (RE2)",
    "x" * 2001: "must be at most 2000 characters",
    "${" + "(" * 900 + "a" + ")" * 900 + "}": "the expression is nested too deeply",
}


@pytest.mark.parametrize("template", WRONG, ids=[t[:20] for t in WRONG])
def test_what_is_wrong_is_found_when_the_file_is_read(template: str) -> None:
    """Syntax, functions, arguments and patterns are checked at once."""
    with pytest.raises(ValueError, match=r".") as refused:
        Template(template)
    assert WRONG[template] in str(refused.value)


def test_an_expression_that_does_not_fit_the_payload_is_refused_with_its_place() -> None:
    """A function of texts that meets a list is 422, with the path and the expression."""
    with pytest.raises(Refused) as refused:
        Template("${lower(alerts)}").value(VIEW, "sources[0].mapping.subject")
    assert refused.value.status == 422
    assert refused.value.path == "sources[0].mapping.subject"
    assert "${lower(alerts)}" in refused.value.reason
    with pytest.raises(Refused):
        Template("${match(status, labels.pattern)}").value(
            {"status": "x", "labels": {"pattern": "("}}, "m"
        )


@pytest.mark.parametrize("expression", ["to_string(a)", "a == b", "contains(a, b)"])
def test_a_payload_that_is_nested_too_deeply_for_an_expression_is_refused(expression: str) -> None:
    """As deep as the parser takes is deeper than what compares and shows values: 422, no crash."""
    deep = "[" * 1000 + "]" * 1000
    view = orjson.loads(f'{{"a": {deep}, "b": {deep}}}')
    with pytest.raises(Refused, match="RecursionError"):
        Template(f"${{{expression}}}").value(view, "m")


def test_a_large_payload_takes_linear_time() -> None:
    """Ten times the alerts take no more than thirty times as long: nothing is quadratic."""
    template = Template("${alerts[?labels.severity == 'critical'].labels.instance | join(', ', @)}")

    def seconds(count: int) -> float:
        view = {"alerts": [{"labels": {"severity": "critical", "instance": "i"}}] * count}
        best = 1e9
        for _ in range(5):
            began = time.process_time()
            template.value(view, "m")
            best = min(best, time.process_time() - began)
        return best

    assert seconds(5000) < 30 * max(seconds(500), 1e-4)
