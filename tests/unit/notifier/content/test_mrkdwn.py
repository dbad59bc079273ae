"""Markdown to mrkdwn, and cutting it without breaking it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.content.mrkdwn import shorten, shorten_plain, to_mrkdwn
from tests.examples import examples

CASES = {
    "plain words": ("plain words", "plain words"),
    "bold by asterisks": ("**one** plus **two**", "*one* plus *two*"),
    "bold by underscores": ("a __loud__ word", "a *loud* word"),
    "underscores inside words": ("the_one__and__only.py", "the_one__and__only.py"),
    "strike-through": ("now ~~gone~~ word", "now ~gone~ word"),
    "italics stay": ("an _inclined_ word", "an _inclined_ word"),
    "a link": ("[open it](https://example.com)", "<https://example.com|open it>"),
    "a link with an ampersand": (
        "[cpu & memory](https://k8s.io)", "<https://k8s.io|cpu &amp; memory>",
    ),
    "a link with parentheses": ("[w](https://x.y/a_(b))", "<https://x.y/a_(b)|w>"),
    "an address that stands alone": (
        "see https://x.y/a?b=1&c=2. (http://z) <https://q>", "see <https://x.y/a?b=1&amp;c=2>. (<http://z>) &lt;<https://q>&gt;",
    ),
    "an address in bold, in code and of another kind": (
        "**https://x.y** `https://c` ftp://d xhttps://e", "*<https://x.y>* `https://c` ftp://d xhttps://e",
    ),
    "an image": ("![graph](https://i.x/g.png)", "<https://i.x/g.png|graph>"),
    "an image without a text": ("![](https://i.x/g.png)", "<https://i.x/g.png>"),
    "a link of the other schemes": (
        "[a](HTTP://x.y) [b](mailto:a@b.c)", "<HTTP://x.y|a> <mailto:a@b.c|b>",
    ),
    "a link that would be a mention of the channel": ("[hi](!channel)", "[hi](!channel)"),
    "an image that would be one of everyone": ("![](!everyone)", "![](!everyone)"),
    "a link that would be one of a person": ("[hi](@U012AB3CD)", "[hi](@U012AB3CD)"),
    "a link that would be one of a group": ("[x](!subteam^S1)", "[x](!subteam^S1)"),
    "a link that would be a date": ("[x](!date^0^{date}^https://a.b)", "[x](!date^0^{date}^https://a.b)"),
    "a link that would be a channel": ("[x](#C012)", "[x](#C012)"),
    "a link that starts a program": ("[x](slack://open)", "[x](slack://open)"),
    "an image that would run a script": ("![y](javascript:a)", "![y](javascript:a)"),
    "a heading": ("# Top", "*Top*"),
    "a deep heading": ("### Third level", "*Third level*"),
    "a bold heading": ("## **Top**", "*Top*"),
    "a heading of one bold letter": ("# **A**", "*A*"),
    "a heading of two marks": ("# **", "****"),
    "a heading with closing marks": ("## Top ##", "*Top*"),
    "seven marks are no heading": ("####### no", "####### no"),
    "inline code": ("run `a **b** c` now", "run `a **b** c` now"),
    "inline code is escaped": ("run `<!channel>`", "run `&lt;!channel&gt;`"),
    "a fence with a language": ("```yaml\nkey: value\n```", "```\nkey: value\n```"),
    "a fence on one line": ("```a < b```", "```a &lt; b```"),
    "a fence between two backticks": ("`a ```b``` c`", "`a ```b``` c`"),
    "reserved characters": ("x < 3 but y > 2", "x &lt; 3 but y &gt; 2"),
    "a mention is no mention": ("<!channel>", "&lt;!channel&gt;"),
    "a quote": ("> quoted line", "> quoted line"),
    "an empty fence": ("up\n```\n```\ndown", "up\n\ndown"),
    "an open fence": (
        "missing ```json block", "missing `\u200b`\u200b`json block",
    ),
    "many blank lines": ("a\n\n\n\n\nb", "a\n\nb"),
    "line ends of Windows": ("a\r\nb", "a\nb"),
    "all at once": (
        "**Bad** output of `kubectl top`:\n```\n**no metrics**\n```\nRead [this](https://k8s.io).",
        "*Bad* output of `kubectl top`:\n```\n**no metrics**\n```\nRead <https://k8s.io|this>.",
    ),
    "a NUL cannot forge a hole": ("\x000\x00 `x`", "\ufffd0\ufffd `x`"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_conversion(case: str) -> None:
    """Each element comes out as Slack writes it."""
    text, wanted = CASES[case]
    assert to_mrkdwn(text) == wanted


SHORTEN = {
    "a text that fits stays": ("abc", 60, "abc"),
    "a text is cut with a mark": ("a" * 80, 60, "a" * 42 + "\n… (truncated)"),
    "an entity is not cut in two": (
        "a" * 39 + "&amp;" + "b" * 80, 60, "a" * 39 + "\n… (truncated)",
    ),
    "an entity that begins the text is not either": ("&amp;" * 5, 21, "\n… (truncated)"),
    "a link is not cut in two": (
        "a" * 20 + "<https://example.com/long|x>" + "b" * 80, 60, "a" * 20 + "\n… (truncated)",
    ),
    "a code block that was closed already": (
        "```\na\n```\n" + "b" * 80, 60, "```\na\n```\n" + "b" * 32 + "\n… (truncated)",
    ),
    "the second code block is closed": (
        "```\na\n```\n```\n" + "b" * 80, 60,
        "```\na\n```\n```\n" + "b" * 28 + "\n```\n… (truncated)",
    ),
    "a code block is closed": (
        "```\n" + "a" * 80, 60, "```\n" + "a" * 38 + "\n```\n… (truncated)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SHORTEN)
def test_shorten(case: str) -> None:
    """A cut text stays valid, and says that it was cut."""
    text, limit, wanted = SHORTEN[case]
    assert shorten(text, limit) == wanted
    assert len(wanted) <= limit


@pytest.mark.parametrize(("character", "fits"), [("🚨", 10), ("\uffff", 20)])
def test_shorten_counts_like_slack(character: str, fits: int) -> None:
    """A character beyond the first plane counts twice."""
    assert shorten_plain(character * fits, 20) == character * fits
    assert shorten_plain(character * (fits + 1), 20) == character * (fits - 1) + "…"


@examples(300)
@given(st.text(alphabet="`*_~[]()<>&#!\n a\0|😀", max_size=200))
def test_any_markup(text: str) -> None:
    """Any markup is converted, leaves an even number of fences, cut or not."""
    result = to_mrkdwn(text)
    assert result.count("```") % 2 == 0
    short = shorten(result, 80)
    assert len(short.encode("utf-16-le")) // 2 <= 80
    assert short.count("```") % 2 == 0


#: What Slack reads as a command or a link of its own.
PARTS = st.sampled_from([
    "[", "]", "(", ")", "](", "![", "<", ">", "|", "!channel", "!here", "@U012", "#C012", "!subteam^S1",
    "!date^0^x^https://a.b", "https://a.b", "mailto:a@b.c", "slack://x", "`", "```", "**", "__", "~~",
    "# ", "\n", "a", "&lt;", "\0", "0",
])  # fmt: skip


@examples(600)
@given(st.lists(PARTS, max_size=14).map("".join), st.integers(40, 90))
def test_no_markup_becomes_a_mention(text: str, limit: int) -> None:
    """Whatever is written, an angle bracket in the result begins a link to the web or to a mailbox."""
    result = to_mrkdwn(text)
    assert "\0" not in result  # a piece of code that did not come back
    for made in (result, shorten(result, limit)):
        for begun in made.split("<")[1:]:
            assert re.match("(https://a|mailto:a)", begun), made


UNITS = [
    "`", "``` ", "**", "** a", "__", " __a", "~~", "[", "![", "[a](", "[a](b(", "# ", "# a ", "<",
    "[a](!b)", "![](!", "[a](https://b",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_adversarial_markup_takes_linear_time(unit: str) -> None:
    """Half a mebibyte made to provoke backtracking takes no quadratic time."""
    text = (unit * (524_288 // len(unit) + 1))[:524_288]
    start = time.process_time()
    shorten(to_mrkdwn(text), 3000)
    assert time.process_time() - start < 2.0
