"""Links in Markdown: three schemes, whatever the spelling."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.channels.teams import teams_payload
from notifier.content.links import only_safe_links
from notifier.templates.places import is_link
from tests.channels.messages import message
from tests.examples import examples

CASES = {
    "plain words": ("a [b] (c): d < e", "a [b] (c): d < e"),
    "to the web": ("[a](https://b.c) <http://d.e>", "[a](https://b.c) <http://d.e>"),
    "to a mailbox": ("[a](MAILTO:b@c)", "[a](MAILTO:b@c)"),
    "to a program": ("[a](ms-appinstaller:?source=x)", r"[a]\(ms-appinstaller:?source=x)"),
    "to a script, encoded": ("[a](&#106;avascript:b)", r"[a]\(&#106;avascript:b)"),
    "to a file, in brackets": ("[a]( <file:///etc>)", r"[a]\( \<file:///etc>)"),
    "an automatic one behind a bracket": ("](<file:a>", r"]\(\<file:a>"),
    "one that is escaped already": (r"\<file:a>", r"\<file:a>"),
    "one behind an escaped backslash": (r"\\<file:a>", r"\\\<file:a>"),
    "one that is escaped behind an escaped backslash": (r"\\\<file:a>", r"\\\<file:a>"),
    "an image": ("![a](data:b)", r"![a]\(data:b)"),
    "a definition": ("[a][1]\n\n[1]: msteams:b", "[a][1]\n\n[1]\\: msteams:b"),
    "an automatic one": ("<tel:1> <https://a>", r"\<tel:1> <https://a>"),
    "to nothing": ("[a](https://) [b]()", r"[a](https://) [b]\()"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_only_safe_links(case: str) -> None:
    """What leads elsewhere is shown as it was written, and is no link."""
    text, wanted = CASES[case]
    assert only_safe_links(text) == wanted


@pytest.mark.parametrize(
    ("target", "wanted"),
    [("https://a", True), ("!channel", False), ("https:", False), (" https://a", False)],
)
def test_is_link(target: str, wanted: bool) -> None:
    """A target is judged by how it begins."""
    assert is_link(target) is wanted


@examples(300)
@given(
    st.lists(
        st.sampled_from(
            ["[", "](", "]:", " ", "\n", "<", ">", ")", "file:", "https://a", "x", "\\", "("]
        ),
        max_size=12,
    ).map("".join)
)
def test_a_card_links_nowhere_else(text: str) -> None:
    """No text of a card has an unescaped link to anything but the web and mailboxes."""
    card = teams_payload(
        message(subject=text, body=text, context={"analysis": {"rootCause": text}})
    )
    for shown in _texts(card["attachments"][0]["content"]["body"]):
        assert "](file:" not in shown
        assert not re.search(r"(?<!\\)(?:\\\\)*<file:", shown)


def _texts(value: object) -> list[str]:
    """Return every text of a card as it is, without the escapes of a representation."""
    if isinstance(value, str):
        return [value]
    members = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    return [text for member in members for text in _texts(member)]


@pytest.mark.parametrize("unit", ["](", "]( ", "]:", "<a", "<a:", "[a](b", "](\n"])
def test_adversarial_links_take_linear_time(unit: str) -> None:
    """Half a mebibyte made to provoke backtracking takes no quadratic time."""
    text = (unit * (524_288 // len(unit) + 1))[:524_288]
    start = time.process_time()
    only_safe_links(text)
    assert time.process_time() - start < 2.0
