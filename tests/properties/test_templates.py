"""Templates: whatever stands in a hole stays a value, a limit is a limit, and time grows with the text."""

from __future__ import annotations

import html.parser
import re
import time
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.templates.expressions import Unfit
from notifier.templates.text import UNITS, Limit, Template
from notifier.templates.tree import Tree
from tests.examples import examples

#: What breaks out of one language or another.
HOSTILE: Final = st.lists(
    st.sampled_from(
        [
            "<",
            ">",
            '"',
            "'",
            "&",
            "<!channel>",
            "<@U1>",
            "](",
            ")",
            "[x](javascript:1)",
            "`",
            "```",
            "|",
            "\\",
            "\n",
            "{{",
            "}}",
            "$each",
            "</td>",
            "<script>",
            '" onclick="x',
            "javascript:",
            "https://a/",
            "@all",
            "\u202e",
            "\u0000",
            "😀",
            "ü",
            "x" * 40,
            " ",
            "*",
            "_",
            "{#",
            "{%",
            "-->",
            "mailto:a",
        ]
    ),
    max_size=14,
).map("".join)
PAGE: Final = (
    '<table>{{#each rows}}<tr title="{{ a }}"><td><a href="https://g/?q={{ a }}&amp;r={{ url(b) }}">'
    "{{ a }}</a>"
    "</td>{{#if b}}<td>{{ b }}</td>{{/if}}</tr>{{/each}}</table>{{ a }}"
)
CHAT: Final = (
    "{{#if a}}<!here> {{/if}}{{#each rows}}*{{ a }}*: <https://g/{{ a }}|{{ b }}>\n{{/each}}{{ a }}"
)
TAGS: Final = re.compile(r"<[^>]*>")


class Structure(html.parser.HTMLParser):
    """The elements and attributes of a page, without values."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(f"{tag} {' '.join(name for name, _ in attrs)}")

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"/{tag}")


def view(a: str, b: str, rows: int) -> dict[str, Any]:
    """Such a value in each hole."""
    return {"a": a, "b": b, "rows": [{"a": a, "b": b}] * rows}


@examples(400)
@given(HOSTILE, HOSTILE.filter(bool), st.integers(0, 3), st.sampled_from([None, 900, 400]))
def test_a_value_changes_no_structure(a: str, b: str, rows: int, most: int | None) -> None:
    """A page has the elements that it has with harmless values; a chat's message mentions nobody else."""
    limit = Limit(most) if most else None
    page = Template(PAGE, language="html", limit=limit).render(view(a, b, rows))
    chat = Template(CHAT, language="mrkdwn", limit=limit).render(view(a, b, rows))
    assert "<!" not in page
    count = page.count("</tr>")
    assert Structure(page).found == Structure(Template(PAGE).render(view("x", "y", count))).found
    assert count == rows or "… and" in page
    told = [tag for tag in TAGS.findall(chat) if not tag.startswith("<https://g/")]
    assert told == (["<!here>"] if a else [])
    for tag in TAGS.findall(chat)[bool(a) :]:
        assert re.fullmatch(r"<https://g/[^|\s]*\|[^>]*>", tag)


@examples(200)
@given(
    HOSTILE,
    st.integers(1, 400),
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["text", "html", "mrkdwn"]),
)
def test_a_limit_is_kept(value: str, most: int, unit: str, language: str) -> None:
    """In each unit, with whole characters and entities; only what the template says itself does not fit."""
    template = Template(
        "<b>{{ v }}</b>",
        language="text" if language == "text" else language,
        limit=Limit(most, unit),
    )
    try:
        text = template.render({"v": value * 9})
    except Unfit:
        assert most < len("<b></b>") + 4
        return
    assert UNITS[unit](text) <= most
    text.encode()
    assert not re.search(r"&[a-z#0-9]*(?![a-z#0-9;])", text) or language == "text"


@examples(200)
@given(HOSTILE, HOSTILE)
def test_a_payload_is_json_of_the_same_shape(a: str, b: str) -> None:
    """A value adds no member, and is read back as it was."""
    tree = Tree(
        {"t": "{{ a }}", "x": "-{{ b }}-", "l": [{"$each": "rows", "$do": {"v": "{{ a }}"}}]},
        names=frozenset({"a", "b", "rows"}),
        item=frozenset({"a", "b"}),
    )
    found = orjson.loads(orjson.dumps(tree.render(view(a, b, 2))))
    assert found == {"t": a, "x": f"-{b}-", "l": [{"v": a}, {"v": a}]}


@pytest.mark.parametrize("language", ["html", "mrkdwn", "markdown", "text"])
def test_time_grows_with_the_text(language: str) -> None:
    """Eight times the value and the items take no more than thirty times as long."""
    for limit in (None, Limit(2000)):
        template = Template(
            "{{#each rows}}{{ b }} {{/each}}{{ a }}", language=language, limit=limit
        )

        def seconds(size: int, template: Template = template) -> float:
            seen = {"a": "<&*" * size, "rows": [{"b": "<&*" * 9}] * (size // 40)}
            times = []
            for _ in range(5):
                began = time.process_time()
                template.render(seen)
                times.append(time.process_time() - began)
            return min(times)

        assert seconds(3200) < 30 * max(seconds(400), 1e-4)
