"""The one place that writes HTML: a text stays a text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.cli.web.html import Safe, join, tag


class _Seen(HTMLParser):
    """What a parser makes of it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@given(
    st.text(
        alphabet=st.characters(
            exclude_categories=["Cc", "Cf", "Cs", "Zl"], exclude_characters="\u2029"
        )
    )
)
def test_any_text_is_read_back_as_it_was(text: str) -> None:
    """As a child and as an attribute, whatever it holds."""
    seen = _Seen(tag("p", text, title=text))
    assert seen.tags == [("p", {"title": text})]
    assert "".join(seen.texts) == text


def test_what_commands_a_terminal_or_turns_the_direction_is_replaced() -> None:
    """A name that reads as another one is no name."""
    assert tag("b", "a\u202eb\x1b[1m") == "<b>a\ufffdb\ufffd[1m</b>"


def test_only_markup_is_markup() -> None:
    """What `tag` made is not escaped again; a string that only looks so is."""
    assert tag("p", tag("b", "<"), ["<", None, 3]) == "<p><b>&lt;</b>&lt;3</p>"
    assert isinstance(join(["<i>"]), Safe)
    assert join(["<i>"]) == "&lt;i&gt;"
    assert tag("input", type="search", selected=True, value=None, title=False) == (
        '<input type="search" selected>'
    )
    assert tag("input", value=None, title=False, type="search") == '<input type="search">'


@pytest.mark.parametrize("name", ["onclick", "style", "srcdoc", "formaction", "target"])
def test_what_a_browser_runs_is_not_written(name: str) -> None:
    """Attributes are those of a list."""
    with pytest.raises(ValueError, match="is not written"):
        tag("a", "x", **{name: "alert(1)"})


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "//elsewhere",
        "/\\elsewhere",
        "https://elsewhere",
        "data:text/html,x",
        "",
    ],
)
def test_a_link_stays_on_this_server(address: str) -> None:
    """An address that leads elsewhere, or runs, is refused."""
    with pytest.raises(ValueError, match="leaves this server"):
        tag("a", "x", href=address)
