"""
Take secrets out of texts before they leave the process.

What is found is `redaction`'s table of rules. **Cost**: the text may be written by anyone who can create a
notification, or by a receiver that answers:

- A long text is cleaned in pieces, so that whatever a rule costs is paid for a piece, not for the text.
  Pieces end where a line or a member does, never inside a block that one rule takes as a whole.
- A rule is skipped unless one of its needles occurs in the piece at all. RE2's wrapper costs 5 µs per
  replacement, the library's engine a sixth of that; without a needle neither costs anything.

**Spelling.** Letters of another width, invisible characters and blanks that do not break must not hide a
name from a rule. A piece that has such characters is cleaned in plain spelling as well, and shown so only
if more is found in that.

This is best effort: a secret without a known form and without a telling name beside it is not found.

Nothing here raises, whatever the input: lone surrogates become U+FFFD, trees are cut at a depth.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Final

from notifier.content.redaction import FLAG, REDACTED, RULES, SECRET_MEMBER

#: Deeper than any object that the API server's schema lets through.
MAX_DEPTH: Final = 64

#: Characters of a piece, and of one that holds a block which is not parted.
PIECE_CHARS: Final = 8 * 1024
BLOCK_CHARS: Final = 32 * 1024
_LEAST_PIECE: Final = 2 * 1024


#: Short texts that no rule changes: words of the schema, names of members, lines of the log. They come
#: again and again, and looking for a hundred needles in each is most of what composing a message costs.
#: A text that holds a secret is never kept.
_CLEAN: Final[set[str]] = set()
_CLEAN_CHARS: Final = 64
_CLEAN_TEXTS: Final = 4096


def sanitise(text: str) -> str:
    """Replace every secret that a rule knows; never raises, linear in the text's length."""
    if text in _CLEAN:
        return text
    found = "".join(sanitised_pieces(text))
    if found == text and len(text) <= _CLEAN_CHARS:
        if len(_CLEAN) >= _CLEAN_TEXTS:
            _CLEAN.clear()
        _CLEAN.add(text)
    return found


def sanitise_head(text: str, chars: int) -> str:
    """
    The beginning of a sanitised text, at least so many characters of it if there are as many.

    A secret of which only the head would be shown is recognised all the same: what is cleaned ends a good
    piece behind what is asked for.
    """
    size = max(_LEAST_PIECE, min(PIECE_CHARS, 2 * chars))
    if len(text) <= size:
        return sanitise(text)
    kept: list[str] = []
    for piece in sanitised_pieces(text, size):
        kept.append(piece)
        chars -= len(piece)
        if chars <= 0:
            break
    return "".join(kept)


def sanitised_pieces(text: str, size: int = PIECE_CHARS) -> Iterator[str]:
    """The sanitised text in pieces of about so many characters; each takes a few milliseconds at worst."""
    if not text.isascii():
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    start = 0
    while start < len(text):
        end = _end_of_piece(text, start, size)
        found = _cleaned(text[start:end])
        yield found
        if end < len(text) and found.endswith((REDACTED, f'{REDACTED}"')):
            # The rest of what was found up to the end of the piece.
            rest = _REST.match(text, end)
            end = rest.end() if rest else end
        start = end


#: What goes on behind a cut without a break.
_REST: Final = re.compile(r"""[^\s"',}<&]*+""")
#: No piece ends behind this: a value follows.
_UNFINISHED: Final = re.compile(
    rf"""(?:[:=>\\(-]|[:=]\s*+["']|\b(?:bearer|basic|digest|negotiate|apikey)|-(?:{FLAG}))\s*+\Z""",
    re.ASCII | re.IGNORECASE,
)
#: Or before this.
_GOES_ON: Final = re.compile(r"""\s*+["']?value\b|\s*+[:=]""", re.ASCII | re.IGNORECASE)
#: Looks for the last of these that is good, before the next kind is tried.
_CUTS: Final = ("\n", ",", " ")
_CUT_TRIES: Final = 8
#: Beginnings and ends of what one rule takes as a whole, of many lines.
_BLOCKS: Final = (("-----BEGIN ", "-----END "), ('"annotations"', "}"))


def _end_of_piece(text: str, start: int, size: int) -> int:
    """Where the piece that begins here ends, behind its beginning."""
    limit = start + size
    if limit >= len(text):
        return len(text)
    end = _cut(text, start + size // 2, limit)
    for begins, ends in _BLOCKS:
        opened = text.rfind(begins, start, end)
        if opened < 0 or text.find(ends, opened, end) >= 0:
            continue
        if opened > start:
            return opened
        closed = text.find(ends, end, start + BLOCK_CHARS)
        if closed >= 0:
            # With the rest of the line, or what is like it: the block's end has words of its own.
            return min(len(text), closed + 64)
    return end


def _cut(text: str, low: int, high: int) -> int:
    for kind in _CUTS:
        at = high
        for _ in range(_CUT_TRIES):
            at = text.rfind(kind, low, at)
            if at < 0:
                break
            end = at + 1
            if _UNFINISHED.search(text, end - 64, end) is None and not _GOES_ON.match(text, end):
                return end
    return high


def _cleaned(piece: str) -> str:
    found = _replaced(piece)
    if piece.isascii():
        return found
    plain = piece.translate(_PLAIN_SPELLING)
    if plain == piece:
        return found
    better = _replaced(plain)
    if better == plain or found.translate(_PLAIN_SPELLING) == better:
        return found
    return better


class _Spelling(dict[int, str | None]):
    """How a character is spelt plainly; filled as characters come, up to a bound."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        spelt = _spelt(character)
        if len(self) < _CLEAN_TEXTS:
            self[code] = spelt
        return spelt


_PLAIN_SPELLING: Final = _Spelling()
#: Shown as nothing, though they are letters or marks to Unicode.
_INVISIBLE: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
)
_QUOTES: Final = dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"') | dict.fromkeys(
    "\u2018\u2019\u201a\u2039\u203a", "'"
)


def _spelt(character: str) -> str | None:
    """A character in ASCII where it is one of another width or form; None for an invisible one."""
    if character.isascii():
        return character
    kind = unicodedata.category(character)
    if kind == "Cf" or character in _INVISIBLE or 0xE0100 <= ord(character) <= 0xE01EF:
        return None
    if kind == "Zs":
        return " "
    if character in _QUOTES:
        return _QUOTES[character]
    # One by one: normalising a text as a whole sorts its combining marks, which takes quadratic time.
    plain = unicodedata.normalize("NFKC", character)
    return plain if plain.isascii() else character


#: Places in the table of the rules that a needle calls for.
_CALLED: Final = {
    needle: frozenset(n for n, rule in enumerate(RULES) if needle in rule.needles)
    for rule in RULES
    for needle in rule.needles
}
_NEEDLES: Final = tuple(_CALLED)


def _replaced(text: str) -> str:
    # All needles are looked for at once: a loop over rules and their needles takes four times as long.
    found = list(filter(text.lower().__contains__, _NEEDLES))
    for n in sorted(set().union(*map(_CALLED.__getitem__, found))) if found else ():
        text = RULES[n].pattern.sub(RULES[n].replacement, text)
    return text


def sanitise_tree(
    value: Any, *, depth: int = MAX_DEPTH, clean: Callable[[str], str] = sanitise
) -> Any:
    """
    Sanitise all texts of a JSON-like value, the names of members included.

    A text under the name of a secret (`password`, `apiKey`, ...) is replaced as a whole. What lies
    deeper than the bound goes whole as well. The value itself is left unchanged. `clean` stands for
    `sanitise`.
    """
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        if depth <= 0:
            return REDACTED
        out: dict[str, Any] = {}
        for name, member in value.items():
            key = clean(str(name))
            if member and isinstance(member, (str, int)) and is_secret_name(str(name)):
                out[key] = REDACTED if not isinstance(member, bool) else member
            else:
                out[key] = sanitise_tree(member, depth=depth - 1, clean=clean)
        return out
    if isinstance(value, (list, tuple)):
        if depth <= 0:
            return REDACTED
        return [sanitise_tree(member, depth=depth - 1, clean=clean) for member in value]
    return value


def is_secret_name(name: str) -> bool:
    """Whether a member of this name holds a secret, whatever its text looks like."""
    return SECRET_MEMBER.fullmatch(name) is not None
