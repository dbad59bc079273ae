"""
The files of the controller: named by options, or found where its pod has them.

Some files exist only in a pod (credentials, secret files); on a laptop or in CI they are missing without
anything being wrong. So it matters whether this process runs in the pod.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from notifier.routing.config import QUALIFIED_IF_NATIVE, RoutingConfig, console_fallback
from notifier.routing.parse import usable
from notifier.routing.reload import read_text
from notifier.settings import ROUTING_PATH, Settings
from syncer.cli.arguments import SETTINGS_FILES
from syncer.configfile import build, constants_of
from syncer.model.errors import ConfigError
from syncer.settings import NAMESPACE_FILE
from syncer.yamlfile import read_file


@dataclass(frozen=True, slots=True)
class Files:
    """
    The files that a command reads.

    Attributes:
        settings: The settings file, None if there is none to read.
        routing: The routing file, None if there is none to read.
        in_pod: Whether this process runs in a pod, where a missing file is a mistake.
        remarks: Which files are not checked, and why.
        gateway: The gateway's file, None if there is none to read.
    """

    settings: Path | None
    routing: Path | None
    in_pod: bool = False
    remarks: tuple[str, ...] = ()
    gateway: Path | None = None


def files_of(options: argparse.Namespace) -> Files:
    """
    Find the files.

    A file that an option or $ROUTING_CONFIG_PATH names is used, whether or not it exists. Otherwise the
    pod's own file is used, if there is one; outside a pod, only if no option names settings or routing. A
    gateway's file may be checked alone.

    Raises:
        ConfigError: there is neither a settings file nor a routing file.
    """
    in_pod = NAMESPACE_FILE.exists()
    named = options.config or options.routing
    gateway = Path(options.gateway) if vars(options).get("gateway") else None
    if gateway is not None and not named:
        return Files(None, None, in_pod, gateway=gateway)
    settings = Path(options.config) if options.config else None
    if settings is None and (in_pod or not named):
        settings = next((path for path in map(Path, SETTINGS_FILES) if path.exists()), None)
    said = options.routing or os.environ.get("ROUTING_CONFIG_PATH")
    routing = Path(said) if said else None
    if routing is None and (in_pod or not named):
        default = Path(ROUTING_PATH)
        routing = default if settings is not None or default.exists() else None
    if settings is None and routing is None:
        raise ConfigError("name a file: --config FILE, --routing FILE, or both")
    remarks = tuple(
        f"the {kind} file is not checked: name it with --{option}"
        for kind, option, file in (
            ("settings", "config", settings),
            ("routing", "routing", routing),
        )
        if file is None
    )
    return Files(settings, routing, in_pod, remarks, gateway)


def native_kinds(settings: Settings | None) -> frozenset[str]:
    """Return the channel kinds that are delivered here; without settings, all possible ones."""
    return settings.delivery.native if settings is not None else QUALIFIED_IF_NATIVE


#: Settings and routing as the controller would read them; None for those that are missing.
Loaded = tuple[Settings | None, RoutingConfig | None]


def load(files: Files) -> Loaded:
    """Read the files as the controller does; ConfigError if one cannot be used."""
    settings = None
    if files.settings is not None:
        source = read_file(files.settings)
        # The URL of Redis does not matter here, and the files that hold it may be out of reach.
        redis = {"url": "redis://unknown"}
        settings = build(
            Settings, {**source.values, "redis": redis}, source, constants=constants_of(os.environ)
        )
    if files.routing is None:
        return settings, None
    text, fault = read_text(files.routing)
    if text is None:
        raise ConfigError(fault)
    native = native_kinds(settings)
    if not text.strip():
        return settings, console_fallback(native)
    try:
        return settings, usable(text, native=native)
    except ConfigError as error:
        raise ConfigError(f"{files.routing}: {error}", line=error.line) from None


def routing_of(loaded: Loaded) -> RoutingConfig:
    """Return the routing; ConfigError if none was named."""
    if loaded[1] is None:
        raise ConfigError("name the routing file: --routing FILE")
    return loaded[1]
