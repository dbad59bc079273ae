"""
kubernetes-asyncio's configuration and transport, without its generated API.

Importing the vendor's package imports a client class for every API group and a model class for every
type of Kubernetes: on the machine where it was measured two thirds of this program's start and half of
its memory (docs/adr/0002). None of it is used here. Yet the vendor's packages name all of it in
their `__init__`, so there is no import that leaves it out. Hence two packages and the models are entered
as empty modules that know where their submodules lie; every submodule imported after that is the
vendor's own code, unchanged.

If the vendor's package was imported before, the full package is used here too. Afterwards it cannot be
imported any more: an attribute that the empty packages lack raises an AttributeError that names this
module. The version is pinned, and a test compares what is used here with the full package.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any, Final

_PACKAGE: Final = "kubernetes_asyncio"


def _enter(name: str, path: list[str]) -> ModuleType:
    def missing(member: str) -> Any:
        raise AttributeError(f"{name}.{member} is left out by {__name__}")

    module = ModuleType(name, "Left empty on purpose; see syncer.kube.transport.")
    module.__path__ = path  # noqa: V101 (makes it a package)
    module.__dict__["__getattr__"] = missing
    sys.modules[name] = module
    return module


def _enter_packages() -> None:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.submodule_search_locations is None:
        raise ImportError(f"{_PACKAGE} is not installed", name=_PACKAGE)
    roots = list(found.submodule_search_locations)
    top = _enter(_PACKAGE, roots)
    client = _enter(f"{_PACKAGE}.client", [f"{root}/client" for root in roots])
    top.client = client  # type: ignore[attr-defined]  # as the import system would
    client.models = _enter(f"{_PACKAGE}.client.models", [])  # type: ignore[attr-defined]  # noqa: V101


if _PACKAGE not in sys.modules:
    _enter_packages()
    from kubernetes_asyncio.client.api_client import ApiClient
    from kubernetes_asyncio.client.configuration import Configuration

    # The vendor's configuration loaders import these two from the package.
    for _class in (ApiClient, Configuration):
        setattr(sys.modules[f"{_PACKAGE}.client"], _class.__name__, _class)
else:
    from kubernetes_asyncio.client import ApiClient, Configuration

from kubernetes_asyncio.config import (  # noqa: E402 - needs the packages above
    load_incluster_config,
    load_kube_config_from_dict,
)
from kubernetes_asyncio.config.config_exception import ConfigException  # noqa: E402 - as above
from kubernetes_asyncio.config.incluster_config import (  # noqa: E402 - as above
    SERVICE_TOKEN_FILENAME,
)

__all__ = [
    "SERVICE_TOKEN_FILENAME",
    "ApiClient",
    "ConfigException",
    "Configuration",
    "load_incluster_config",
    "load_kube_config_from_dict",
]
