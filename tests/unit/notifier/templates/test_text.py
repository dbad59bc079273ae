"""Templates: what they find, and what is refused before anything is sent."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from typing import Any, Final

import orjson
import pytest

from notifier.templates.expressions import Unfit
from notifier.templates.text import Limit, Template
from notifier.templates.tree import Tree

VIEW: Final = {
    "status": "firing",
    "labels": {"team": "Storage", "empty": ""},
    "alerts": [{"n": 1}, {"n": 2}],
    "none": None,
}

FOUND: Final[dict[str, Any]] = {
    "plain": "plain",
    "": "",
    "{{ labels.team }}": "Storage",
    "team {{ lower(labels.team) }}!": "team storage!",
    "{{ upper(labels.team) }}": "STORAGE",
    "{{ labels.nobody }}": None,
    "a {{ labels.nobody }} b": "a  b",
    "{{ length(alerts) }} alerts": "2 alerts",
    "{{ alerts[].n }}": [1, 2],
    "n {{ alerts[].n }}": "n [1,2]",
    "{{ alerts[?n > `1`].n | [0] }}": 2,
    "{{ if(status == 'firing', 'Escalation', 'Completion') }}": "Escalation",
    "{{ if(labels.empty, 'a', 'b') }}": "b",
    "{{ default(labels.empty, 'x') }}": "x",
    "{{ default(none, labels.team) }}": "Storage",
    "{{ replace(labels.team, 'St', 'V') }}": "Vorage",
    "{{ truncate(labels.team, `3`) }}": "Sto",
    "{{ truncate(labels.team, `0`) }}": "",
    "{{ truncate(labels.team, `-3`) }}": "",
    "{{ truncate(none, `3`) }}": None,
    "{{ upper(none) }}": None,
    "{{ replace(none, 'a', 'b') }}": None,
    "{{ replace(labels.team, '', 'b') }}": "Storage",
    "{{ if(none, 'a', 'b') }}{{ if(`0`, 'a', 'b') }}": "ba",
    "{{ default(`0`, 'x') }}": 0,
    "{{ [?contains('a\\'}}b', 'x')] }}": None,
    "{{ {a: {b: status}}.a.b }}": "firing",
    "{{ 'it\\'' }}": "it'",
    "{{ match(labels.team, '^S.*e$') }}": True,
    "{{ match(none, 'x') }}": False,
    "{{ {a: status}.a }}": "firing",
    "{{ '}}' }} and {{ '{{' }} cost ${x}": "}} and {{ cost ${x}",
    "{{ list(alerts[].n, '|') }} {{ list(none, ',') }}": "1|2 ",
    "{{ lines(labels, ', ') }}": "empty=, team=Storage",
    "{{ url('a b/ü') }}": "a%20b%2F%C3%BC",
    "{{#each alerts}}{{ n }}{{#if last}}.{{else}}, {{/if}}{{/each}}": "1, 2.",
    "a\n{{#each alerts}}\n* {{ this.n }} {{ status }}\n{{/each}}\nb": "a\n* 1 firing\n* 2 firing\nb",
    "{{#if labels.nobody}}a{{else}}b{{/if}}{{#if none}}c{{/if}}": "b",
    "{{#each none}}x{{/each}}": "",
    "{{ lower(none) }}": None,
}


@pytest.mark.parametrize("template", FOUND)
def test_what_a_template_finds(template: str) -> None:
    """One hole yields a value, all else text, in which null is empty."""
    assert Template(template).value(VIEW) == FOUND[template]


def test_what_replaces_a_text_is_bounded() -> None:
    """One letter that becomes a page would make a payload a thousand times as large."""
    found = Template(f"{{{{ replace('aa', 'a', '{'x' * 300}') }}}}").value(VIEW)
    assert found == "x" * 512


def test_a_template_is_as_long_as_it_may_be() -> None:
    """Eight thousand characters are taken, and a text without a hole is told from one with a hole."""
    longest = Template("x" * 8000)
    assert (longest.value(VIEW), longest.constant) == ("x" * 8000, True)
    assert not Template("a {{ status }}").constant


def test_a_pattern_may_take_so_much_memory() -> None:
    """It may come from a payload; what would take more is no pattern."""
    fits, too_large = ("a{1000}" * count for count in (32, 100))
    assert Template(f"{{{{ match(status, '{fits}') }}}}").value(VIEW) is False
    with pytest.raises(ValueError, match="does not compile"):
        Template(f"{{{{ match(status, '{too_large}') }}}}")


def test_a_pattern_that_is_none_is_printed_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    """The library would write it to standard error, beside the lines of the log."""
    view = {"pattern": "secret("}
    with pytest.raises(Unfit):
        Template("{{ match('x', pattern) }}").value(view)
    assert capfd.readouterr() == ("", "")


WRONG: Final = {
    "{{ labels.": "character 1 has no closing braces",
    "ab {{ labels.}": "character 4 has no closing braces",
    "{{ a..b }}": "the expression 'a..b' cannot be read",
    "{{  }}": "cannot be read",
    "{{ shout(a) }}": "there is no function shout()",
    "{{ a | lower(a, b) }}": "lower() takes 1 arguments, not 2",
    "{{ [if(a, b)] }}": "if() takes 3 arguments, not 2",
    "{{ match(a, '(') }}": "the pattern of match() does not compile (RE2)",
    "x" * 8001: "must be at most 8000 characters",
    "{{" + "(" * 900 + "a" + ")" * 900 + "}}": "the expression is nested too deeply",
    "{{ state }}": "state: there is no such member",
    "{{ (labels.x || alerts[?n == 'x'].y | [0]) || stat }}": "stat: there is no such member",
    "{{ @.stat }}": "stat: there is no such member",
    "{{#each alerts}}{{ m }}{{/each}}": "m: there is no such member",
    "{{ range .Alerts }}x{{ end }}": "{{#each list}}…{{/each}}",
    "{{ .Status }}": "templates look like",
    '{{ if eq .Status "firing" }}x{{ end }}': "templates look like",
    "{{- status -}}": "{{- is no tag",
    "{% for a in alerts %}x{% endfor %}": "{% is no tag",
    "{{ labels.team | upper }}": "upper is a function: write upper(…)",
    "{{#with labels}}x{{/with}}": "blocks are #each and #if",
    "{{#each alerts}}x": "a block has no {{/each}}",
    "{{#if status}}x{{else}}y{{/each}}": "{{/each}} at character 25 ends nothing",
    "x{{/if}}": "{{/if}} at character 2 ends nothing",
    "{{#each alerts}}{{#each alerts}}{{/each}}{{/each}}": "stands within another one",
    "{{#if status}}" * 10 + "{{/if}}" * 10: "blocks are nested too deeply",
    "{{ to_string(alerts" + "|[@,@]" * 7 + ") }}": "up to 256 times; at most 64",
    "{{ " + "to_string([" * 7 + "status" + "])" * 7 + " }}": "up to 128 times; at most 64",
}


@pytest.mark.parametrize("template", WRONG, ids=[t[:20] for t in WRONG])
def test_what_is_wrong_is_found_when_the_file_is_read(template: str) -> None:
    """Syntax, functions, patterns, members, copies and other languages' tags are refused."""
    with pytest.raises(ValueError, match=r".") as refused:
        Template(template, names=frozenset({*VIEW, "a", "b"}), item=frozenset("n"))
    assert WRONG[template] in str(refused.value)


@pytest.mark.parametrize(
    "text", ["{{ join(body, alerts) }}", "{{ list(alerts, body) }}", "{{ lines(labels, body) }}"]
)
def test_what_stands_between_items_is_bounded(text: str) -> None:
    """A notification's text between the items of a list does not multiply."""
    view = {"body": "x" * 9999, "alerts": ["a", "b"], "labels": {"a": 1, "b": 2}}
    assert len(Template(text).render(view)) <= 110


def test_an_expression_that_does_not_fit_is_told_without_what_it_meets() -> None:
    """A function of texts that meets a list, a pattern that is none, a block without a list."""
    with pytest.raises(Unfit, match=r"lower\(alerts\) does not fit what it meets"):
        Template("{{ lower(alerts) }}").value(VIEW)
    with pytest.raises(Unfit):
        Template("{{ match(status, labels.pattern) }}").value(
            {"status": "x", "labels": {"pattern": "("}}
        )
    with pytest.raises(Unfit, match="meets what is no list"):
        Template("{{#each labels}}x{{/each}}").value(VIEW)
    with pytest.raises(Unfit, match="more than 524288 characters"):
        Template("{{#each alerts}}{{ body }}{{/each}}").value(
            {"alerts": [{}] * 9, "body": "x" * 60_000}
        )


@pytest.mark.parametrize("expression", ["to_string(a)", "a == b", "contains(a, b)"])
def test_a_payload_that_is_nested_too_deeply_for_an_expression_is_refused(expression: str) -> None:
    """As deep as the parser takes is too deep for Python 3.11 to compare or show: 422, no crash."""
    deep = "[" * 1000 + "]" * 1000
    view = orjson.loads(f'{{"a": {deep}, "b": {deep}}}')
    refused = pytest.raises(Unfit, match="RecursionError")
    with refused if sys.version_info < (3, 12) else nullcontext():
        Template(f"{{{{{expression}}}}}").value(view)


def test_a_large_payload_takes_linear_time() -> None:
    """Ten times the alerts take no more than thirty times as long: nothing is quadratic."""
    template = Template(
        "{{ alerts[?labels.severity == 'critical'].labels.instance | join(', ', @) }}"
    )

    def seconds(count: int) -> float:
        view = {"alerts": [{"labels": {"severity": "critical", "instance": "i"}}] * count}
        best = 1e9
        for _ in range(5):
            began = time.process_time()
            template.value(view)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(5000) < 30 * max(seconds(500), 1e-4)


#: A language, a template, what it sees, how much its field holds, and the text.
RENDERED: Final[dict[str, tuple[str, str, dict[str, Any], Limit | None, str]]] = {
    # A value is escaped for where it stands, and what the template itself says is not.
    "mrkdwn in a text": (
        "mrkdwn",
        "*{{ v }}*",
        {"v": "<!channel> & >"},
        None,
        "*&lt;!channel&gt; &amp; &gt;*",
    ),
    "mrkdwn in a link": (
        "mrkdwn",
        "<{{ v }}|R>",
        {"v": "https://a/?b|c>"},
        None,
        "<https://a/?b%7Cc%3E|R>",
    ),
    "mrkdwn in an address": (
        "mrkdwn",
        "<https://a/{{ v }}|R>",
        {"v": "b|c>"},
        None,
        "<https://a/b%7Cc%3E|R>",
    ),
    "html in a text": (
        "html",
        "<b>{{ v }}</b>",
        {"v": "<a href='x'>&"},
        None,
        "<b>&lt;a href=&#x27;x&#x27;&gt;&amp;</b>",
    ),
    "html in an attribute": (
        "html",
        '<td title="{{ v }}">',
        {"v": '"><x'},
        None,
        '<td title="&quot;&gt;&lt;x">',
    ),
    "html in a link": (
        "html",
        '<a href="{{ v }}">',
        {"v": 'https://a/"&b'},
        None,
        '<a href="https://a/%22&amp;b">',
    ),
    "html in an address": (
        "html",
        '<a href="https://a/?{{ v }}">',
        {"v": '"b'},
        None,
        '<a href="https://a/?%22b">',
    ),
    "markdown in a text": (
        "markdown",
        "**{{ v }}**",
        {"v": "[x](y) @all"},
        None,
        "**\\[x\\]\\(y\\) @\u200ball**",
    ),
    "markdown in a link": (
        "markdown",
        "[R]({{ v }})",
        {"v": "https://a/)(b"},
        None,
        "[R](https://a/%29%28b)",
    ),
    "an address": ("link", "https://a/{{ v }}/c", {"v": "b d"}, None, "https://a/b%20d/c"),
    "a whole address": ("link", "{{ v }}", {"v": "https://a/b"}, None, "https://a/b"),
    "text": ("text", "{{ v }}!", {"v": "<b>&*"}, None, "<b>&*!"),
    # A text is cut to what its field holds: markup of the template stays whole, and each escaped character.
    "values, before they are escaped": (
        "html",
        "<b>{{ a }}</b>",
        {"a": "<&" * 9},
        Limit(22),
        "<b>&lt;&amp;&lt;…</b>",
    ),
    "the longest value first": (
        "text",
        "{{ a }}/{{ b }}",
        {"a": "aaa", "b": "b" * 9},
        Limit(9),
        "aaa/bbbb…",
    ),
    "by bytes": ("text", "{{ a }}", {"a": "üüüü"}, Limit(7, "bytes"), "üü…"),
    "by JSON": ("text", "{{ a }}", {"a": '"\n\\\x01'}, Limit(8, "json"), '"\n…'),
    "that fits as JSON": ("text", "{{ a }}", {"a": '"\n\\\x01'}, Limit(12, "json"), '"\n\\\x01'),
    "by UTF-16": ("text", "{{ a }}", {"a": "😀😀😀"}, Limit(5, "utf16"), "😀😀…"),
    "what fits": ("text", "{{ a }}", {"a": "😀😀😀"}, Limit(6, "utf16"), "😀😀😀"),
    "the last items of a list": (
        "text",
        "{{#each a}}({{ this }}){{/each}}!",
        {"a": ["x" * 250] * 9},
        Limit(700),
        f"({'x' * 226}…)" * 3 + "… and 6 more!",
    ),
    "an item with an address that leaves no space for the others": (
        "html",
        '{{#each a}}<a href="{{ this }}">x</a>\n{{/each}}',
        {"a": ["https://e/1", f"https://e/{'x' * 900}", "https://e/3"]},
        Limit(600),
        '<a href="https://e/1">x</a>\n… and 1 more<a href="https://e/3">x</a>\n',
    ),
    "all that is not shown": (
        "text",
        "{{#each a}}({{ this }}){{/each}}",
        {"a": ["x"] * 150},
        Limit(200),
        "(x)" * 60 + "… and 90 more",
    ),
}


@pytest.mark.parametrize("case", RENDERED)
def test_a_text_is_escaped_and_cut(case: str) -> None:
    """For where each value stands, and to what the field holds."""
    language, template, view, limit, wanted = RENDERED[case]
    assert Template(template, language=language, limit=limit).render(view) == wanted


@pytest.mark.parametrize(
    ("language", "template"),
    [
        ("mrkdwn", "<{{ v }}|R>"),
        ("html", '<a href="{{ v }}">'),
        ("markdown", "[R]({{ v }})"),
        ("link", "{{ v }}"),
    ],
)
@pytest.mark.parametrize(
    "value", ["javascript:alert(1)", "!channel", "", None, "//a.b", " https://a"]
)
def test_an_address_of_another_scheme_is_none(language: str, template: str, value: object) -> None:
    """No escaping would help: the template does not fit."""
    with pytest.raises(Unfit, match="address"):
        Template(template, language=language).render({"v": value})


@pytest.mark.parametrize(
    ("language", "template"),
    [
        ("html", '<a onclick="{{ v }}">'),
        ("html", "<a href='{{ v }}'>"),
        ("html", "<a {{ v }}>"),
        ("html", "<script>{{ v }}</script>"),
        ("html", '<p style="{{ v }}">'),
        ("html", "<!-- {{ v }} -->"),
        ("html", '<a href="javascript:{{ v }}">'),
        ("html", '<a href="{{#if v}}https://a/{{/if}}{{ v }}">'),
        ("html", '<a{{#if v}} href="{{/if}}{{ v }}">'),
        ("html", '<iframe srcdoc="{{ v }}">'),
        ("mrkdwn", "<!subteam^{{ v }}>"),
        ("mrkdwn", "<{{#if v}}https://a/{{/if}}{{ v }}|R>"),
        ("mrkdwn", "<@{{ v }}>"),
        ("markdown", "[R](tel:{{ v }})"),
        ("link", "https://{{ v }}.example.org/"),
        ("html", '<a href="https://a{{ v }}">'),
        ("mrkdwn", "<https://a{{ v }}/b|R>"),
        ("markdown", "[R](https://a:{{ v }}/)"),
    ],
)
def test_a_hole_where_no_escaping_helps_is_refused_when_the_file_is_read(
    language: str, template: str
) -> None:
    """A script, a style, an attribute without quotes, the name of somebody to be called, a host."""
    with pytest.raises(ValueError, match=r"hole|block|may not be used|scheme"):
        Template(template, language=language)


def test_a_hundred_items_are_shown() -> None:
    """And how many more there are."""
    shown = Template("{{#each a}}x{{/each}}").render({"a": [1] * 123})
    assert shown == "x" * 100 + "… and 23 more"


@pytest.mark.parametrize(
    "template", ["<p>" + "x" * 99 + "{{ a }}</p>", "{{ 'x' }}<https://a/{{ a }}|x>"]
)
def test_what_cannot_be_cut_does_not_fit(template: str) -> None:
    """The template's own text, and an address."""
    with pytest.raises(Unfit, match="longer than 50 chars without any value"):
        Template(template, language="mrkdwn", limit=Limit(50)).render({"a": "x" * 99})


def test_a_payload_is_rendered_with_its_types() -> None:
    """What finds nothing is left out; lists grow by blocks."""
    names = frozenset(VIEW)
    tree = Tree(
        {
            "n": "{{ length(alerts) }}",
            "labels": "{{ labels }}",
            "gone": "{{ none }}",
            "t": [True, 1.5, None],
            "list": [
                "a",
                {"$each": "alerts", "$do": {"n": "{{ n }}", "first": "{{ first }}"}},
                "{{ none }}",
            ],
            "own": {"$each": "none", "$do": 1},
            "if": {"$if": "status == 'firing'", "$then": "on", "$else": "off"},
            "else": {"$if": "none", "$then": 1, "$else": [2]},
            "never": {"$if": "none", "$then": 1},
            "s": "{{ status }}",
        },
        names=names,
        item=frozenset("n"),
        limit=lambda path, _: Limit(3) if path == "s" else None,
    )
    assert tree.render(VIEW) == {
        "n": 2,
        "labels": VIEW["labels"],
        "t": [True, 1.5, None],
        "own": [],
        "if": "on",
        "else": [2],
        "s": "fi…",
        "list": ["a", {"n": 1, "first": True}, {"n": 2, "first": False}],
    }


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"a": {"$each": "status"}}, "a: a mapping with a $ is"),
        ({"a": {"$each": "status", "$do": 1, "b": 2}}, "a: a mapping with a $ is"),
        ({"a": {"$map": "status"}}, "a: a mapping with a $ is"),
        ({"a": {"$if": 1, "$then": 2}}, "a: a mapping with a $ is {$each, $do}"),
        ({"a": {"$if": "nobody", "$then": 2}}, "a.$if: nobody: there is no such member"),
        ({"a": {"b": ["{{ nobody }}"]}}, "a.b: nobody: there is no such member"),
        ({"a": [0] * 2001}, "a: the payload is too large"),
    ],
)
def test_what_is_wrong_with_a_payload_is_told_with_its_path(source: Any, reason: str) -> None:
    """As for a template."""
    with pytest.raises(ValueError, match=r".") as refused:
        Tree(source, names=frozenset(VIEW))
    assert str(refused.value).startswith(reason)


def test_a_payload_is_bounded() -> None:
    """A list of lists does not become a million values."""
    row = {"$each": "alerts", "$do": {str(n): n for n in range(30)}}
    with pytest.raises(Unfit, match="more than 2000 values"):
        Tree([row], names=frozenset(VIEW)).render({"alerts": [{}] * 100})
    nothing = {"$each": "alerts", "$do": {"$each": "alerts", "$do": {"$if": "status", "$then": 1}}}
    with pytest.raises(Unfit, match="more than 2000 values"):
        Tree([nothing], names=frozenset(VIEW)).render({"alerts": [{}] * 100})
