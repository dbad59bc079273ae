"""
The system's authorities, read when a connection needs them and not when aiohttp is imported.

aiohttp makes two TLS contexts as it is imported, and each reads the bundle of the system: 0.1 s of CPU, a
quarter of a short command, for contexts that no session of ours uses (each has one of its own). There is no
import that leaves them out. Hence `postpone`: while the module that makes them is imported, nothing is
read, and the two read it when they are used for the first time. Contexts made by anybody else are as ever.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_CONNECTOR: Final = "aiohttp.connector"


def postpone() -> None:
    """Have the contexts of aiohttp read their bundle late; does nothing if they are there already."""
    if _CONNECTOR not in sys.modules and not any(isinstance(f, _Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds the one module, once, and has it run otherwise. `importlib.abc` takes time to import."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _CONNECTOR:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            run = loader.exec_module
            loader.exec_module = lambda module: _run_without_bundle(run, module)
        return spec


def _run_without_bundle(run: Callable[[ModuleType], None], module: ModuleType) -> None:
    import ssl  # noqa: PLC0415 - with aiohttp alone

    class Late(ssl.SSLContext):
        """One whose bundle is not read yet."""

        def wrap_bio(self, *args: Any, **options: Any) -> Any:
            # From now on it is like any other.
            self.__class__ = ssl.SSLContext  # type: ignore[assignment]  # noqa: V101 (read by all)
            self.set_default_verify_paths()
            return self.wrap_bio(*args, **options)

    made: list[ssl.SSLContext] = []

    def note(context: ssl.SSLContext) -> None:
        made.append(context)

    # The method is inherited, so what hides it can be taken away.
    ssl.SSLContext.set_default_verify_paths = note  # type: ignore[method-assign, assignment]  # bound when called
    try:
        run(module)
    finally:
        del ssl.SSLContext.set_default_verify_paths
    for context in made:
        context.__class__ = Late  # noqa: V101 (as above)
