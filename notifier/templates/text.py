"""
Templates: text with holes, `{{ … }}`, each with an expression, and two blocks.

`{{#each EXPR}}…{{/each}}` shows each item of a list, at most a hundred: there an item's members, `this`,
`first` and `last` are seen as well. `{{#if EXPR}}…{{else}}…{{/if}}` shows one of two texts. A tag that is
alone in its line takes the line along. There is no other language: what a page needs beyond that, the
expressions say.

A template that is one hole and nothing else yields the expression's value; any other yields text, in which
null is empty. Values are escaped for where they stand (`places`), and nothing switches that off.

A text that is longer than its field may be is cut in the vendor's unit. Only values are cut, before they
are escaped, so that neither an entity nor the template's own markup is cut in two: the last items of lists
go first, then the longest values get shorter. An address is never cut.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from notifier.templates.expressions import Find, Unfit, compiled, is_true, shown
from notifier.templates.places import ADDRESS, LANGUAGES, Language, Place, is_link

#: Characters of a template.
SIZE: Final = 8000
#: Items of a list that are shown.
ITEMS: Final = 100
#: Characters that a template yields before it is cut; more is refused.
OUTPUT: Final = 512 * 1024
_DEPTH: Final = 8
#: Units that a value keeps while further items of a list are shown.
_LEAST: Final = 200
_MORE: Final = "…"
_OTHERS: Final = re.compile(r"(?<!\{)\{[%#]|\{\{[-!>]|-\}\}")
_TAG: Final = re.compile(r"#(each|if)\s+(.+)|(else)|/(each|if)", re.DOTALL)
_LINE_END: Final = re.compile(r"[ \t]*(?:\r?\n|\Z)")
#: Stands for a value in a text of which only the markup matters.
_SOMETHING: Final = "https://x"


def utf16(text: str) -> int:
    """UTF-16 units of a text, as some vendors count."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def utf8(text: str) -> int:
    """Bytes of a text."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def json_bytes(text: str) -> int:
    """Bytes of a text as a JSON body holds it, quotes not counted: of a line end two."""
    return len(orjson.dumps(text.encode("utf-8", "replace").decode())) - 2


#: How a text is measured, by unit.
UNITS: Final[Mapping[str, Callable[[str], int]]] = {
    "chars": len, "utf16": utf16, "bytes": utf8, "json": json_bytes,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limit:
    """The longest text that a field may have."""

    most: int
    unit: str = "chars"


class _Sheet:
    """What a template has yielded: texts, and which of them are values."""

    __slots__ = ("items", "left", "parts", "values")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.values: list[tuple[int, Place]] = []
        #: Begin and end of each item of a list, how many it stands for, and what tells lists apart.
        self.items: list[tuple[int, int, int, int]] = []
        self.left = OUTPUT

    def add(self, text: str, place: Place | None = None) -> None:
        self.left -= len(text)
        if self.left < 0:
            raise Unfit(f"yields more than {OUTPUT} characters")
        if place is not None:
            self.values.append((len(self.parts), place))
        self.parts.append(text)


_Piece = Callable[[Any, _Sheet], None]


class Template:
    """
    One template, compiled.

    Attributes:
        text: As it is written.
        constant: Whether it has no tags.
    """

    def __init__(
        self,
        text: str,
        *,
        names: frozenset[str] | None = None,
        item: frozenset[str] = frozenset(),
        language: str = "text",
        limit: Limit | None = None,
    ) -> None:
        """
        Compile a template.

        Args:
            text: The template.
            names: What expressions see; None for anything.
            item: What the items of lists have beside that.
            language: Of the field.
            limit: How long the text may be.

        Raises:
            ValueError: it cannot be used; the text says where and why.
        """
        if len(text) > SIZE:
            raise ValueError(f"must be at most {SIZE} characters")
        if other := _OTHERS.search(text):
            raise ValueError(
                f"{other.group()} is no tag: templates have {{{{ … }}}}, {{{{#each …}}}} and {{{{#if …}}}}"
            )
        self.text = text
        self._limit = limit
        self._address = LANGUAGES[language].address
        compiler = _Compiler(text, item, LANGUAGES[language])
        self._pieces = compiler.body("", names, 0)
        self._hole = compiler.holes[0] if compiler.alone else None
        self.constant = not compiler.tags

    def value(self, view: object) -> Any:
        """
        Return the value of the template; null if it is one hole and the expression finds nothing.

        Raises:
            Unfit: an expression does not fit what it meets, or the text cannot be cut to size.
        """
        if self._hole is not None:
            value = self._hole(view)
            if not isinstance(value, str):
                return value
        return self.render(view)

    def render(self, view: object) -> str:
        """Return the text of the template; raises as `value` does."""
        sheet = _Sheet()
        for piece in self._pieces:
            piece(view, sheet)
        text = _finished(sheet, self._limit)
        if self._address and not is_link(text):
            raise Unfit("the address is none of http, https and mailto")
        return text


class _Compiler:
    """Compiles the pieces of one template."""

    def __init__(self, text: str, item: frozenset[str], language: Language) -> None:
        self.tokens = list(_tokens(text))
        self.tags = sum(tag for tag, _, _ in self.tokens)
        self.alone = (
            len(self.tokens) == 1 and self.tags == 1 and not _TAG.fullmatch(self.tokens[0][1])
        )
        self.holes: list[Find] = []
        self._item = item
        self._in_list = False
        self._language = language
        self._next = 0
        self._ended = ""
        #: The template's own text so far, which says where a hole stands.
        self._before = ""

    def body(self, until: str, names: frozenset[str] | None, depth: int) -> list[_Piece]:
        """Compile up to the end of a block, or of the template."""
        if depth > _DEPTH:
            raise ValueError("blocks are nested too deeply")
        pieces: list[_Piece] = []
        while self._next < len(self.tokens):
            tag, text, at = self.tokens[self._next]
            self._next += 1
            if not tag:
                self._before += text
                pieces.append(_literal(text))
                continue
            kind = _TAG.fullmatch(text)
            if kind is None:
                pieces.append(self._holes(text, names))
            elif kind[1]:
                build = self._each if kind[1] == "each" else self._if
                pieces.append(build(kind[2], names, depth, at))
            else:
                word = kind[3] or f"/{kind[4]}"
                if word not in until.split():
                    raise ValueError(f"{{{{{word}}}}} at character {at} ends nothing")
                self._ended = word
                return pieces
        if until:
            raise ValueError(f"a block has no {{{{{until.rsplit(maxsplit=1)[-1]}}}}}")
        return pieces

    def _holes(self, text: str, names: frozenset[str] | None) -> _Piece:
        if text.startswith(("#", "/", "^", "!", ">", "&")):
            raise ValueError(f"{{{{{text[:20]}}}}} is no tag: blocks are #each and #if")
        find = compiled(text, names)
        self.holes.append(find)
        place = self._language.at(self._before)
        self._before += _SOMETHING

        def piece(view: Any, sheet: _Sheet) -> None:
            value = find(view)
            if value is not None and value != "":
                sheet.add(value if isinstance(value, str) else shown(value), place)
            elif place.whole:
                place.escape("")  # what is all of an address may not be empty

        return piece

    def _block(self, until: str, names: frozenset[str] | None, depth: int) -> list[_Piece]:
        began = self._language.context(self._before)
        if began == ADDRESS:
            raise ValueError("a block may not stand within an address")
        pieces = self.body(until, names, depth + 1)
        if self._language.context(self._before) != began:
            raise ValueError("a block must end in the markup in which it begins")
        return pieces

    def _if(self, text: str, names: frozenset[str] | None, depth: int, _at: int) -> _Piece:
        find = compiled(text, names)
        then, otherwise = self._block("else /if", names, depth), list[_Piece]()
        if self._ended == "else":
            otherwise = self._block("/if", names, depth)

        def piece(view: Any, sheet: _Sheet) -> None:
            for inner in then if is_true(find(view)) else otherwise:
                inner(view, sheet)

        return piece

    def _each(self, text: str, names: frozenset[str] | None, depth: int, at: int) -> _Piece:
        if self._in_list:
            raise ValueError(f"{{{{#each}}}} at character {at} stands within another one")
        find = compiled(text, names)
        self._in_list = True
        inner = self._block("/each", seen_in(names, self._item), depth)
        self._in_list = False

        def piece(view: Any, sheet: _Sheet) -> None:
            items = find(view)
            if items is None:
                return
            if not isinstance(items, list):
                raise Unfit(f"{{{{#each {text.strip()}}}}} meets what is no list")
            for scope in scopes(view, items):
                start = len(sheet.parts)
                for part in inner:
                    part(scope, sheet)
                sheet.items.append((start, len(sheet.parts), 1, at))
            if more := len(items) - ITEMS > 0 and len(items) - ITEMS:
                sheet.add(_rest(more))
                sheet.items.append((len(sheet.parts) - 1, len(sheet.parts), more, at))

        return piece


def seen_in(names: frozenset[str] | None, item: frozenset[str]) -> frozenset[str] | None:
    """What expressions see within a list."""
    return None if names is None else names | item | {"this", "first", "last"}


def scopes(view: Any, items: list[Any]) -> list[dict[str, Any]]:
    """What is seen in each of the items of a list that are shown."""
    around = view if isinstance(view, dict) else {}
    last = min(len(items), ITEMS) - 1
    return [
        {
            **around,
            **(item if isinstance(item, dict) else {}),
            "this": item, "first": n == 0, "last": n == last,
        }
        for n, item in enumerate(items[:ITEMS])
    ]  # fmt: skip


def _rest(count: int) -> str:
    return f"… and {count} more"


def _literal(text: str) -> _Piece:
    return lambda _, sheet: sheet.add(text)


def _tokens(text: str) -> list[tuple[bool, str, int]]:
    """Texts and tags in turn; a block's tag that is alone in its line takes the line along."""
    found: list[tuple[bool, str, int]] = []
    place = 0
    while (start := text.find("{{", place)) >= 0:
        end = _end(text, start + 2)
        tag = text[start + 2 : end].strip()
        literal, place = text[place:start], end + 2
        line = text.rfind("\n", 0, start) + 1
        if _TAG.fullmatch(tag) and not text[line:start].strip(" \t"):
            rest = _LINE_END.match(text, place)
            if rest:
                literal, place = literal[: len(literal) - (start - line)], rest.end()
        if literal:
            found.append((False, literal, start))
        found.append((True, tag, start + 1))
    if place < len(text) or not found:
        found.append((False, text[place:], place))
    return found


def _end(text: str, start: int) -> int:
    """Return where a hole's braces close; braces within quotes and of a hash do not count."""
    depth, quote, place = 0, "", start
    while place < len(text):
        sign = text[place]
        if quote:
            if sign == "\\":
                place += 1
            elif sign == quote:
                quote = ""
        elif sign in "'\"`":
            quote = sign
        elif sign == "{":
            depth += 1
        elif sign == "}":
            if not depth:
                if text.startswith("}}", place):
                    return place
                break
            depth -= 1
        place += 1
    raise ValueError(f"the hole that begins at character {start - 1} has no closing braces")


def _finished(sheet: _Sheet, limit: Limit | None) -> str:
    raw = list(sheet.parts) if limit else []
    parts = sheet.parts
    for n, place in sheet.values:
        parts[n] = place.escape(parts[n])
    text = "".join(parts)
    if limit is None or len(text) * 6 <= limit.most or UNITS[limit.unit](text) <= limit.most:
        return text
    measure = UNITS[limit.unit]
    sizes = list(map(measure, parts))
    loose = {n: place for n, place in sheet.values if not place.whole}
    tails = _leave_out(
        sheet, [min(s, _LEAST) if n in loose else s for n, s in enumerate(sizes)], limit
    )
    kept = [n for n in range(len(parts)) if n not in tails]
    fixed = sum(sizes[n] for n in kept if n not in loose) + sum(map(measure, tails.values()))
    if fixed > limit.most:
        raise Unfit(f"is longer than {limit.most} {limit.unit} without any value")
    most = _share(sorted(sizes[n] for n in kept if n in loose), limit.most - fixed)
    for n in kept:
        if n in loose and sizes[n] > most:
            parts[n] = _cut(raw[n], most, loose[n].escape, measure)
    return "".join(tails.get(n, part) for n, part in enumerate(parts))


def _leave_out(sheet: _Sheet, least: list[int], limit: Limit) -> dict[int, str]:
    """
    Leave out items of lists until the rest can be cut to size: by part, what stands there.

    Those that take more than half of the space go first, since an address cannot be cut; then the last.
    """
    total = sum(least)
    tails: dict[int, str] = {}
    counts: dict[int, int] = {}
    ends: dict[int, int] = {}
    budget = limit.most - len({number for *_, number in sheet.items}) * UNITS[limit.unit](
        _rest(10**6)
    )
    sizes = [sum(least[start:end]) for start, end, *_ in sheet.items]
    space = budget - total + sum(sizes)
    order = sorted(range(len(sizes)), key=lambda n: (sizes[n] > space // 2, n), reverse=True)
    for start, end, count, number, size in ((*sheet.items[n], sizes[n]) for n in order):
        if total <= budget:
            break
        total -= size
        tails |= dict.fromkeys(range(start, end), "")
        counts[number] = counts.get(number, 0) + count
        ends[number] = max(start, ends.get(number, 0))
    return tails | {start: _rest(counts[number]) for number, start in ends.items()}


def _share(sizes: list[int], budget: int) -> int:
    """The size to which the longest of some values are cut, so that all take no more than there is."""
    for n, size in enumerate(sizes):
        share = budget // (len(sizes) - n)
        if size > share:
            return share
        budget -= size
    return budget


def _cut(raw: str, most: int, escape: Callable[[str], str], measure: Callable[[str], int]) -> str:
    budget = most - measure(_MORE)
    if budget < 0:
        return ""
    raw = raw[:most]
    fits = bisect_right(range(len(raw) + 1), budget, key=lambda n: measure(escape(raw[:n]))) - 1
    return escape(raw[:fits]) + _MORE
