"""
Redact secrets in texts before they leave the process.

The rules are the table in `redaction`.

**Cost.** A text may come from anyone who can create a notification, or from a receiver's answer:

- A long text is cleaned in pieces, so that the cost of a rule depends on the size of a piece, not of the
  text. Pieces end at the end of a line or member, never inside a block that one rule matches as a whole.
- A rule is skipped unless one of its needles occurs in the piece. RE2's wrapper costs 5 µs per replacement,
  the standard library's engine a sixth of that; without a needle neither costs anything.

**Spelling.** Full-width letters, invisible characters and non-breaking spaces must not hide a name from a
rule. A piece with such characters is cleaned in plain spelling as well; the plain result is used only if
more secrets were found in it.

This is best effort: a secret without a known form and without a telltale name next to it is not found.

Nothing here raises, whatever the input: lone surrogates become U+FFFD, trees are cut at a depth.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Final

from notifier.content.redaction import FLAG, REDACTED, RULES, SECRET_MEMBER

#: Deeper than any object that the API server's schema allows.
MAX_DEPTH: Final = 64

#: Characters of a piece, and of a piece with a block that must not be split.
PIECE_CHARS: Final = 8 * 1024
BLOCK_CHARS: Final = 32 * 1024
_LEAST_PIECE: Final = 2 * 1024


#: Cache of short texts that no rule changes: words of the schema, names of members, log messages. They
#: recur, and searching each for a hundred needles is most of the cost of composing a message. A text in
#: which a secret was found is never cached.
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
    Return the beginning of a sanitised text: at least `chars` characters, if there are as many.

    A secret at the end of the requested part is still recognised, because the text that is cleaned extends
    well beyond that part.
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
    """Yield the sanitised text in pieces of about `size` characters, each in a few milliseconds at most."""
    if not text.isascii():
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    start = 0
    while start < len(text):
        end = _end_of_piece(text, start, size)
        found = _cleaned(text[start:end])
        yield found
        if end < len(text) and found.endswith((REDACTED, f'{REDACTED}"')):
            # Skip the rest of the secret that was found at the end of the piece.
            rest = _REST.match(text, end)
            end = rest.end() if rest else end
        start = end


#: The rest of a token after a cut.
_REST: Final = re.compile(r"""[^\s"',}<&]*+""")
#: A piece does not end after this, because a value follows.
_UNFINISHED: Final = re.compile(
    rf"""(?:[:=>\\(-]|[:=]\s*+["']|\b(?:bearer|basic|digest|negotiate|apikey)|-(?:{FLAG}))\s*+\Z""",
    re.ASCII | re.IGNORECASE,
)
#: A piece does not end before this.
_GOES_ON: Final = re.compile(r"""\s*+["']?value\b|\s*+[:=]""", re.ASCII | re.IGNORECASE)
#: Separators to cut at, in order of preference, and how many of each are tried, the last one first.
_CUTS: Final = ("\n", ",", " ")
_CUT_TRIES: Final = 8
#: Beginnings and ends of blocks of many lines that one rule matches as a whole.
_BLOCKS: Final = (("-----BEGIN ", "-----END "), ('"annotations"', "}"))


def _end_of_piece(text: str, start: int, size: int) -> int:
    """Return the end of the piece that begins at `start`; always greater than `start`."""
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
            # Include about the rest of the line, because the end marker of a block has further words.
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
    """The plain spelling of characters; filled as characters occur, up to a bound."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        spelt = _spelt(character)
        if len(self) < _CLEAN_TEXTS:
            self[code] = spelt
        return spelt


_PLAIN_SPELLING: Final = _Spelling()
#: Invisible characters that Unicode classifies as letters or marks.
_INVISIBLE: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
)
_QUOTES: Final = dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"') | dict.fromkeys(
    "\u2018\u2019\u201a\u2039\u203a", "'"
)


def _spelt(character: str) -> str | None:
    """Return a character in ASCII if it is only another width or form; None for an invisible one."""
    if character.isascii():
        return character
    kind = unicodedata.category(character)
    if kind == "Cf" or character in _INVISIBLE or 0xE0100 <= ord(character) <= 0xE01EF:
        return None
    if kind == "Zs":
        return " "
    if character in _QUOTES:
        return _QUOTES[character]
    # Per character: normalising a whole text sorts its combining marks, which takes quadratic time.
    plain = unicodedata.normalize("NFKC", character)
    return plain if plain.isascii() else character


#: Indexes in the table of the rules that a needle activates.
_CALLED: Final = {
    needle: frozenset(n for n, rule in enumerate(RULES) if needle in rule.needles)
    for rule in RULES
    for needle in rule.needles
}
_NEEDLES: Final = tuple(_CALLED)


def _replaced(text: str) -> str:
    # Search for all needles first: a loop over rules and their needles takes four times as long.
    found = list(filter(text.lower().__contains__, _NEEDLES))
    for n in sorted(set().union(*map(_CALLED.__getitem__, found))) if found else ():
        text = RULES[n].pattern.sub(RULES[n].replacement, text)
    return text


def sanitise_tree(
    value: Any, *, depth: int = MAX_DEPTH, clean: Callable[[str], str] = sanitise
) -> Any:
    """
    Sanitise all texts of a JSON-like value, including the names of members.

    A text or number under the name of a secret (`password`, `apiKey`, ...) is replaced as a whole, and so
    is everything deeper than `depth`. The value itself is left unchanged. `clean` is used in place of
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
