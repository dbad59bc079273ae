"""
Reads a kubeconfig and checks it as kubectl does; kubernetes-asyncio gets one context of it.

The vendor's own reader raises whatever a malformed file leads to (TypeError, AssertionError), and its
texts show the user entry with its token. Of several files it takes the last `current-context`, kubectl
the first; it ignores a user that is missing, and takes `localhost` for a cluster without an address.
Here each of these is an error that names file and field and says what to do.

Only what kubectl refuses too is refused, and the only values quoted are names of contexts, clusters and
users, commands of plugins, and paths of files.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from yarl import URL

from syncer.model.errors import ConfigError, reason_of
from syncer.yamlfile import read_file

#: Bytes of a file. Tools write one of hundreds of clusters, each with its certificates.
_MAX_FILE: Final = 16 << 20
#: Names that an error lists, and characters of each.
_LISTED: Final = 8
_SHOWN: Final = 64

#: Stands for the user, also where the context names none: the vendor cannot do without.
_USER: Final = "user"

_SECTIONS: Final = {"contexts": "context", "clusters": "cluster", "users": "user"}


class _Entry(NamedTuple):
    """An entry of a section: the file that holds it, and what it says."""

    file: Path
    values: Mapping[str, Any]


class Kubeconfig:
    """The files of `$KUBECONFIG` or of an option, merged as kubectl merges them: the first one wins."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Read the files, which exist, in this order; ConfigError if one is not a readable kubeconfig."""
        self._files = files
        self._entries: dict[str, dict[str, _Entry]] = {section: {} for section in _SECTIONS}
        self._current = ""
        empty = True
        for file in files:
            values = read_file(file, max_bytes=_MAX_FILE).values
            empty = empty and not values
            current = values.get("current-context") or ""
            if not isinstance(current, str):
                raise ConfigError(f"{file}: current-context must be a text")
            self._current = self._current or current
            for section in _SECTIONS:
                self._read(file, section, values.get(section))
        if empty:
            raise ConfigError(
                f"{self._named} is empty: write the access to the cluster into it, or name another file"
            )

    @property
    def _named(self) -> str:
        """The files, as they are named."""
        return os.pathsep.join(map(str, self._files))

    def _read(self, file: Path, section: str, items: object) -> None:
        if items is None:
            return
        kind = _SECTIONS[section]
        if not isinstance(items, list):
            raise ConfigError(f"{file}: {section} must be a list")
        here = set()
        for n, item in enumerate(items):
            at = f"{file}: {section}[{n}]"
            if not isinstance(item, dict):
                raise ConfigError(f"{at} must be a mapping with name and {kind}")
            name = item.get("name")
            if not isinstance(name, str) or not name:
                raise ConfigError(f"{at}.name must be a text that is not empty")
            values = item.get(kind)
            # `user: {}` is often written as `user:`.
            if not isinstance(values, dict) and not (values is None and kind == "user"):
                raise ConfigError(f"{at}.{kind} must be a mapping")
            if name in here:
                raise ConfigError(f"{file}: {section} has two entries {_quoted(name)}: keep one")
            here.add(name)
            self._entries[section].setdefault(name, _Entry(file, values or {}))

    def chosen(self, context: str) -> dict[str, Any]:
        """
        Return a kubeconfig of one context (empty: the current one), checked and with whole paths.

        Raises:
            ConfigError: something that it needs is missing or wrong.
        """
        name = context or self._current
        if not name:
            raise ConfigError(
                f"{self._named} has no current-context: set it (kubectl config use-context NAME);"
                f" {self._there('contexts')}"
            )
        entry = self._entry("contexts", name, "" if context else "the file's current-context")
        at = f"{entry.file}: context {_quoted(name)}"
        cluster, user = entry.values.get("cluster"), entry.values.get("user") or ""
        if not isinstance(cluster, str) or not cluster:
            raise ConfigError(f"{at} names no cluster: set its cluster; {self._there('clusters')}")
        if not isinstance(user, str):
            raise ConfigError(f"{at}: user must be a text")
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


def _cluster_of(name: str, entry: _Entry) -> dict[str, Any]:
    at = f"{entry.file}: cluster {_quoted(name)}: "
    values = _said(entry)
    server = values.get("server")
    if not isinstance(server, str):
        raise ConfigError(f"{at}server is missing: set the address of the API server")
    try:
        url = URL(server)
        usable = url.scheme in ("http", "https") and bool(url.host)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{at}server must be a URL such as https://HOST:6443")
    for field in ("tls-server-name", "proxy-url"):
        if not isinstance(values.get(field, ""), str):
            raise ConfigError(f"{at}{field} must be a text")
    if not isinstance(values.get("insecure-skip-tls-verify", False), bool):
        raise ConfigError(f"{at}insecure-skip-tls-verify must be true or false")
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
    for field in ("token", "username", "password"):
        if not isinstance(values.get(field, ""), str):
            raise ConfigError(f"{at}{field} must be a text")
    provider = values.get("auth-provider", {})
    if not isinstance(provider, dict) or not isinstance(provider.get("config") or {}, dict):
        raise ConfigError(f"{at}auth-provider must be a mapping with name and config")
    if "exec" in values:
        values["exec"] = _plugin_of(values["exec"], entry.file, at)
    return values


def _plugin_of(plugin: object, file: Path, at: str) -> dict[str, Any]:
    if not isinstance(plugin, dict):
        raise ConfigError(f"{at}exec must be a mapping with command and apiVersion")
    for field in ("command", "apiVersion"):
        if not isinstance(plugin.get(field), str) or not plugin[field]:
            raise ConfigError(f"{at}exec.{field} must be a text that is not empty")
    args, env = plugin.get("args") or [], plugin.get("env") or []
    if not isinstance(args, list) or not all(isinstance(each, str) for each in args):
        raise ConfigError(f"{at}exec.args must be a list of texts")
    if not isinstance(env, list) or not all(
        isinstance(each, dict) and all(isinstance(each.get(k), str) for k in ("name", "value"))
        for each in env
    ):
        raise ConfigError(f"{at}exec.env must be a list of mappings with name and value")
    command = plugin["command"]
    # One with a slash is relative to the kubeconfig, any other is looked for in $PATH.
    if "/" in command:
        command = str(file.absolute().parent / command)
    return {**plugin, "command": command, "args": args, "env": env}


def _said(entry: _Entry) -> dict[str, Any]:
    """Copy an entry without its empty members."""
    return {key: value for key, value in entry.values.items() if value not in (None, "")}


def _quoted(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…")


def _resolve(values: dict[str, Any], file: Path, field: str, at: str) -> None:
    """Check a field that is a path, unless the content stands in the file in base64."""
    data = values.get(f"{field}-data")
    if data is not None:
        try:
            base64.b64decode("".join(data.split()), validate=True)
        except (AttributeError, ValueError):
            raise ConfigError(f"{at}{field}-data is not base64") from None
    elif field in values:
        values[field] = _readable(file, values[field], f"{at}{field}")


def _readable(file: Path, named: object, at: str) -> str:
    """Return an absolute path; a relative one starts at the folder of the kubeconfig."""
    if not isinstance(named, str):
        raise ConfigError(f"{at} must be the path of a file")
    path = file.absolute().parent / named
    try:
        with path.open("rb") as opened:
            opened.read(1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{at}: cannot read {path}: {reason_of(error)}") from None
    return str(path)


def tls_problem(ca: str | None, certificate: str | None, key: str | None) -> str:
    """
    Return why a TLS context cannot be made of these files, empty if it can.

    Args:
        ca: Of the authority.
        certificate: Of the client.
        key: Of that certificate.
    """
    if ca:
        try:
            ssl.create_default_context(cafile=ca)
        except OSError:
            return "the certificate authority of the API server is not a certificate in PEM"
    if certificate:
        try:
            ssl.create_default_context().load_cert_chain(certificate, key or None, "")
        except OSError:
            return "the client certificate and its key are not in PEM, or do not match"
    return ""
