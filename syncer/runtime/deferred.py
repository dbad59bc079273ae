"""
Packages whose `__init__` runs only when something of it is asked for.

Some vendors' packages import all of themselves: `import redis` brings a client class for every topology
and a method for every command, a fifth of the CPU of a start, where a connection, a pool and the errors are
what is used. `defer` enters such a package into `sys.modules` before it runs. Submodules load as ever;
any other name that the package is asked for runs its `__init__` first, so nothing is missing.

`from package import member` asks at once, even where nobody uses the member. Members that are named to
`defer` stand there beforehand as empty classes, which run the package when they are called. The importer
keeps the empty class for good: name only what nobody looks into and only unused classes derive from.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from typing import Any


def defer(name: str, *members: str) -> None:
    """
    Enter a package without running it or its parent; does nothing if it is there already.

    `members` are functions and classes of it that others import and hardly ever use.

    Raises:
        ImportError: it is not installed.
    """
    if name in sys.modules:
        return
    spec = _found(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} is not installed", name=name)
    module, loader = module_from_spec(spec), spec.loader
    inside = spec.submodule_search_locations or ()

    def missing(member: str) -> Any:
        # The import system looks for dunders, and for a submodule here before it imports it.
        internal = member.startswith("__") and member != "__version__"
        if internal or PathFinder.find_spec(f"{name}.{member}", inside):
            raise AttributeError(member)
        module.__dict__.pop("__getattr__", None)
        loader.exec_module(module)
        return getattr(module, member)

    def at_call(member: str) -> type:
        def call(made: type, *args: Any, **options: Any) -> Any:
            if vars(module)[member] is made:
                missing(member)
            return vars(module)[member](*args, **options)

        return type(member, (), {"__new__": call})

    module.__dict__.update({member: at_call(member) for member in members})
    module.__dict__["__getattr__"] = missing
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], last, module)


def _found(name: str) -> ModuleSpec | None:
    """Find a module without an import of its parent."""
    parent = name.rpartition(".")[0]
    if not parent:
        return PathFinder.find_spec(name)
    if parent in sys.modules:
        return PathFinder.find_spec(name, sys.modules[parent].__path__)
    above = _found(parent)
    return above and PathFinder.find_spec(name, above.submodule_search_locations)
