"""
Reads a kubeconfig and checks it as kubectl does; kubernetes-asyncio is given one context of it.

The vendor's own reader raises whatever a malformed file leads to (TypeError, AssertionError), and its
texts show the user entry with its token. Of several files it takes the last `current-context`, kubectl
the first; it ignores a user that is missing, and takes `localhost` for a cluster without an address.
Here files are merged as kubectl merges them, and each mistake is an error that names file and field and
says what to do.

Nothing is refused that kubectl accepts. The only values quoted are names of contexts, clusters and users,
commands of plugins, and paths of files.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from yarl import URL

from syncer.model.errors import ConfigError, reason_of
from syncer.yamlfile import read_file

#: Largest file in bytes. Tools write files of hundreds of clusters, each with its certificates.
_MAX_FILE: Final = 16 << 20
#: Names that an error lists, and characters of each.
_LISTED: Final = 8
_SHOWN: Final = 64

#: Name given to the user, even if the context names none: kubernetes-asyncio requires a user.
_USER: Final = "user"

_SECTIONS: Final = {"contexts": "context", "clusters": "cluster", "users": "user"}


class _Entry(NamedTuple):
    """An entry of a section: the file that holds it, and its values."""

    file: Path
    values: Mapping[str, Any]


class Kubeconfig:
    """The files of `$KUBECONFIG` or of an option, merged as kubectl merges them: the first one wins."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Read the files, which exist, in this order; ConfigError if one is not a readable kubeconfig."""
        self._files = files
        self._entries: dict[str, dict[str, _Entry]] = {section: {} for section in _SECTIONS}
        self._current = ""
        found = {file: read_file(file, max_bytes=_MAX_FILE).values for file in files}
        _demand(
            any(found.values()),
            f"{self._named} is empty: add a cluster, a user and a context, or name another file",
        )
        for file, values in found.items():
            current = values.get("current-context") or ""
            _demand(isinstance(current, str), f"{file}: current-context must be a string")
            self._current = self._current or current
            for section in _SECTIONS:
                self._read(file, section, values.get(section))

    @property
    def _named(self) -> str:
        """The paths of the files, as in `$KUBECONFIG`."""
        return os.pathsep.join(map(str, self._files))

    def _read(self, file: Path, section: str, items: Any) -> None:
        kind, here = _SECTIONS[section], set[str]()
        _demand(items is None or isinstance(items, list), f"{file}: {section} must be a list")
        for n, item in enumerate(items or ()):
            at = f"{file}: {section}[{n}]"
            _demand(isinstance(item, dict), f"{at} must be a mapping with name and {kind}")
            name, values = item.get("name"), item.get(kind)
            _demand(isinstance(name, str) and name, f"{at}.name must be a string that is not empty")
            # `user: {}` is often written as `user:`.
            fits = isinstance(values, dict) or (values is None and kind == "user")
            _demand(fits, f"{at}.{kind} must be a mapping")
            _demand(
                name not in here, f"{file}: {section} has two entries {_quoted(name)}: keep one"
            )
            here.add(name)
            self._entries[section].setdefault(name, _Entry(file, values or {}))

    def chosen(self, context: str) -> dict[str, Any]:
        """
        Return a kubeconfig of one context (empty: the current one), checked and with absolute paths.

        Raises:
            ConfigError: something that the context needs is missing or wrong.
        """
        name = context or self._current
        _demand(
            name,
            f"{self._named} has no current-context: set it (kubectl config use-context NAME);"
            f" {self._there('contexts')}",
        )
        entry = self._entry("contexts", name, "" if context else "the file's current-context")
        at = f"{entry.file}: context {_quoted(name)}"
        cluster, user = entry.values.get("cluster") or "", entry.values.get("user") or ""
        clusters = self._there("clusters")
        _demand(
            isinstance(cluster, str) and cluster,
            f"{at} names no cluster: set its cluster; {clusters}",
        )
        _demand(isinstance(user, str), f"{at}: user must be a string")
        server = _cluster_of(cluster, self._entry("clusters", cluster, at))
        account = _user_of(user, self._entry("users", user, at)) if user else {}
        return {
            "current-context": name,
            "contexts": [{"name": name, "context": {"cluster": cluster, "user": _USER}}],
            "clusters": [{"name": cluster, "cluster": server}],
            "users": [{"name": _USER, "user": account}],
        }

    def _entry(self, section: str, name: str, by: str) -> _Entry:
        entry = self._entries[section].get(name)
        if entry is None:
            named = f", which {by} names" if by else ""
            raise ConfigError(
                f"{self._named} has no {_SECTIONS[section]} {_quoted(name)}{named};"
                f" {self._there(section)}"
            )
        return entry

    def _there(self, section: str) -> str:
        names = sorted(self._entries[section])
        shown = ", ".join(map(_quoted, names[:_LISTED]))
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        return f"its {section} are {shown}{more}" if names else f"it has no {section}"


def _demand(good: object, text: str) -> None:
    if not good:
        raise ConfigError(text)


def _demand_texts(values: Mapping[str, Any], fields: Sequence[str], at: str) -> None:
    for field in fields:
        _demand(isinstance(values.get(field, ""), str), f"{at}{field} must be a string")


def _cluster_of(name: str, entry: _Entry) -> dict[str, Any]:
    at = f"{entry.file}: cluster {_quoted(name)}: "
    values = _said(entry)
    server = values.get("server")
    _demand(isinstance(server, str), f"{at}server is missing: set the address of the API server")
    usable = False
    with contextlib.suppress(ValueError):
        url = URL(str(server))
        usable = url.scheme in ("http", "https") and bool(url.host)
    _demand(usable, f"{at}server must be a URL such as https://HOST:6443")
    _demand_texts(values, ("tls-server-name", "proxy-url"), at)
    unverified = values.get("insecure-skip-tls-verify", False)
    _demand(isinstance(unverified, bool), f"{at}insecure-skip-tls-verify must be true or false")
    _resolve(values, entry.file, "certificate-authority", at)
    return values


def _user_of(name: str, entry: _Entry) -> dict[str, Any]:
    at = f"{entry.file}: user {_quoted(name)}: "
    values = _said(entry)
    for field in ("client-certificate", "client-key"):
        _resolve(values, entry.file, field, at)
    if "tokenFile" in values:
        values["tokenFile"] = _readable(entry.file, values["tokenFile"], f"{at}tokenFile")
        values.pop("token", None)
    _demand_texts(values, ("token", "username", "password"), at)
    provider = values.get("auth-provider", {})
    _demand(
        isinstance(provider, dict) and isinstance(provider.get("config") or {}, dict),
        f"{at}auth-provider must be a mapping with name and config",
    )
    if "exec" in values:
        values["exec"] = _plugin_of(values["exec"], entry.file, at)
    return values


def _plugin_of(plugin: Any, file: Path, at: str) -> dict[str, Any]:
    _demand(isinstance(plugin, dict), f"{at}exec must be a mapping with command and apiVersion")
    for field in ("command", "apiVersion"):
        said = plugin.get(field)
        _demand(
            isinstance(said, str) and said, f"{at}exec.{field} must be a string that is not empty"
        )
    args, env = plugin.get("args") or [], plugin.get("env") or []
    _demand(
        isinstance(args, list) and all(isinstance(each, str) for each in args),
        f"{at}exec.args must be a list of texts",
    )
    _demand(
        isinstance(env, list)
        and all(
            isinstance(each, dict) and all(isinstance(each.get(k), str) for k in ("name", "value"))
            for each in env
        ),
        f"{at}exec.env must be a list of mappings with name and value",
    )
    command = plugin["command"]
    # A command with a slash is relative to the kubeconfig's folder; any other is looked up in $PATH.
    if "/" in command:
        command = str(file.absolute().parent / command)
    return {**plugin, "command": command, "args": args, "env": env}


def _said(entry: _Entry) -> dict[str, Any]:
    """Copy an entry without its empty members."""
    return {key: value for key, value in entry.values.items() if value not in (None, "")}


def _quoted(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…")


def _resolve(values: dict[str, Any], file: Path, field: str, at: str) -> None:
    """Check a field that is a path, or the base64 content that the file holds in its place."""
    data = values.get(f"{field}-data")
    if data is not None:
        try:
            base64.b64decode("".join(data.split()), validate=True)
        except (AttributeError, ValueError):
            raise ConfigError(f"{at}{field}-data is not base64") from None
    elif field in values:
        values[field] = _readable(file, values[field], f"{at}{field}")


def _readable(file: Path, named: object, at: str) -> str:
    """Return the absolute path of a readable file; a relative one starts at the kubeconfig's folder."""
    _demand(isinstance(named, str), f"{at} must be the path of a file")
    path = file.absolute().parent / str(named)
    try:
        with path.open("rb") as opened:
            opened.read(1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{at}: cannot read {path}: {reason_of(error)}") from None
    return str(path)
