"""
How a mutant gets into a process that has imported the original.

A change inside of a function needs no new import: the functions that are alive get the code of the
mutant (``__code__``), whoever holds them. What runs at import (constants, defaults, the body of a class)
cannot be exchanged that way; it needs a process that imports the mutant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Final, NamedTuple

_OPTIMISED: Final = 0x1  # CO_OPTIMIZED: the code of a function, not of a module or class


class Place(NamedTuple):
    """
    Where a code object stands in its file.

    Attributes:
        name: Its qualified name.
        line: The number of its first line.
    """

    name: str
    line: int


class Change(NamedTuple):
    """
    What differs between two versions of a module.

    Attributes:
        functions: The functions whose code differs.
        at_import: Whether something differs that runs at import.
    """

    functions: frozenset[Place]
    at_import: bool


SAME: Final = Change(frozenset(), at_import=False)


def compiled(source: str, path: str) -> CodeType:
    """Compile a module as the import system does."""
    return compile(source, path, "exec", dont_inherit=True)


def compare(old: CodeType, new: CodeType) -> Change:
    """Return what differs between two versions of a module whose lines are the same."""
    if _key(old) == _key(new):
        return SAME
    before, after = list(_walk(old)), list(_walk(new))
    if len(before) != len(after):
        return Change(frozenset(), at_import=True)
    functions = set()
    at_import = False
    for was, now in zip(before, after, strict=True):
        if _place(was) != _place(now) or (not was.co_flags & _OPTIMISED and _own(was) != _own(now)):
            at_import = True
        elif was.co_flags & _OPTIMISED and _key(was) != _key(now):
            functions.add(_place(was))
    places = [_place(code) for code in after]
    twins = any(places.count(place) > 1 for place in functions)
    return Change(frozenset(functions), at_import or twins)


def exchange(functions: Iterable[FunctionType], new: CodeType, places: Iterable[Place]) -> bool:
    """
    Give functions the code of a new version of their module.

    Args:
        functions: All functions of the module that are alive.
        new: The new version of the module.
        places: Those that differ.

    Returns:
        Whether it could be done; if not, nothing is changed.
    """
    wanted = set(places)
    codes = {_place(code): code for code in _walk(new) if _place(code) in wanted}
    pairs = [(f, codes[at]) for f in functions if (at := _place(f.__code__)) in codes]
    if any(f.__code__.co_freevars != code.co_freevars for f, code in pairs):
        return False
    for function, code in pairs:
        function.__code__ = code
    return True


def exchange_script(was: str, now: str) -> None:
    """Give the Lua scripts that hold a text, by itself or in front of theirs, another one."""
    from syncer.ledger import lua  # noqa: PLC0415 - no sooner than its own mutant could be imported

    for script in vars(lua).values():
        if isinstance(script, lua.Script):
            script.plain = script.plain.replace(was, now)
            script.source = script.source.replace(was, now)
            script.sha = hashlib.sha1(script.source.encode(), usedforsecurity=False).hexdigest()


def _place(code: CodeType) -> Place:
    return Place(code.co_qualname, code.co_firstlineno)


def _walk(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _walk(constant)


def _own(code: CodeType) -> tuple[object, ...]:
    """Return what a code object does, without the code inside of it."""
    constants = tuple(
        _place(c) if isinstance(c, CodeType) else _constant(c) for c in code.co_consts
    )
    return (
        code.co_code,
        constants,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
    )


def _key(code: CodeType) -> tuple[object, ...]:
    """Return what a code object does; columns of the source do not count."""
    return *_own(code), tuple(_key(c) for c in code.co_consts if isinstance(c, CodeType))


def _constant(value: object) -> object:
    """Tell 1 from True and from 1.0."""
    if isinstance(value, tuple | frozenset):
        return type(value), frozenset(map(_constant, value)) if isinstance(
            value, frozenset
        ) else tuple(map(_constant, value))
    return type(value), repr(value)
