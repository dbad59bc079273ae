"""
Packages whose `__init__` runs only when something of it is asked for.

Some vendors' packages import all of themselves: `import redis` brings a client class for every topology
and a method for every command, a fifth of the CPU of a start, where a connection, a pool and the errors are
what is used. `defer` enters such a package into `sys.modules` before it runs. Submodules load as ever;
any other name that the package is asked for runs its `__init__` first, so nothing is missing.

`from package import function` asks at once, even where nobody calls the function. Functions that are named
to `defer` stand there beforehand, and run the package when they are called.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import Any


def defer(name: str, *functions: str) -> None:
    """
    Enter a package without running it; does nothing if it is there already.

    `functions` are those of it that others import and hardly ever call.

    Raises:
        ImportError: it is not installed.
    """
    if name in sys.modules:
        return
    parent, _, last = name.rpartition(".")
    spec = PathFinder.find_spec(name, sys.modules[parent].__path__ if parent else None)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} is not installed", name=name)
    module, loader = module_from_spec(spec), spec.loader

    def missing(member: str) -> Any:
        # The import system looks for dunders, and for a submodule here before it imports it.
        internal = member.startswith("__") and member != "__version__"
        if internal or PathFinder.find_spec(f"{name}.{member}", module.__path__):
            raise AttributeError(member)
        module.__dict__.pop("__getattr__", None)
        loader.exec_module(module)
        return getattr(module, member)

    def at_call(member: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if vars(module)[member] is call:
                missing(member)
            return vars(module)[member](*args, **options)

        return call

    module.__dict__.update({member: at_call(member) for member in functions})
    module.__dict__["__getattr__"] = missing
    sys.modules[name] = module
    if parent:
        setattr(sys.modules[parent], last, module)
