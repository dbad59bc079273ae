"""
Finds all mistakes in the gateway's file, where the gateway stops at the first.

The file, its expressions and its secrets are read with the gateway's own code. Files of secrets usually
exist only in its pod, so elsewhere a missing one is not a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from notifier.cli.check import of_fault, of_unread
from notifier.gateway.access import read_secrets
from notifier.gateway.auth import standard_key
from notifier.gateway.process import tls_of
from notifier.gateway.settings import Loaded, examine
from syncer.configfile import Fault
from syncer.model.errors import ConfigError
from syncer.model.finding import Finding, Severity
from syncer.yamlfile import Document, read_file

_PAGE: Final = "docs/gateway-configuration.md"
#: Fixes, by a part of the message.
_FIXES: Final = {
    "an entry for each sender": "add it: sources: [{name: NAME, kind: KIND, namespace: NS, auth: …}]",
    "must be one of": "write one of these",
    "name of a source before it": "choose another name: it is the last part of the address",
    "the name of a namespace": "write lower-case letters, digits and dashes, at most 63",
    "needs `tls`": "add tls: {certFile: FILE, keyFile: FILE}, or ask for another proof",
    "or `auth: {insecure: true}`": "name a proof under auth; `insecure: true` there lets everybody send",
    "for kind": "add it",
    "where namespace is a template": "add it: a list of all namespaces that the template may yield",
    "the expression": f"correct the expression; {_PAGE} has the functions",
    "there is no function": f"use one of the functions of JMESPath, or of {_PAGE}",
    "the hole that begins": "close it with }}, or write {{ '{{' }} for two literal braces",
}


def of_gateway(path: Path, *, in_pod: bool) -> tuple[list[Finding], list[str]]:
    """
    Return findings about a gateway's file, and which files were not checked, and why.

    In a pod (`in_pod`) a missing file is a mistake.
    """
    try:
        source = read_file(path)
    except ConfigError as error:
        return [of_unread(error, path, "--gateway")], []
    loaded, unknown = examine(source.values, source)
    if isinstance(loaded, list):
        return [*(_of(fault, source) for fault in loaded), *unknown], []
    found, unread = [*unknown, *_weak(loaded, source)], []
    for at, files, check in _named(loaded):
        if all(Path(file).exists() for file in files) or in_pod:
            found += _secrets(at, files, check, source)
        else:
            unread.append(f"{at} is not checked: its file does not exist here")
    certificates = [named for named in _certificates(loaded) if not Path(named[1]).exists()]
    if certificates and not in_pod:
        unread += [f"{at} is not checked: its file does not exist here" for at, _ in certificates]
        return found, unread
    try:
        tls_of(loaded)
    except ConfigError as error:
        text = str(error).removeprefix(f"{error.path}: ")
        fix = "put a certificate in PEM into it, and its key into keyFile"
        line = source.line(error.path)
        found.append(Finding(Severity.ERROR, error.path, text, fix, line))
    return found, unread


def _weak(loaded: Loaded, source: Document) -> Iterator[Finding]:
    """Yield warnings about what a source's signature does not prove."""
    keys: dict[str, str] = {}
    for number, (read, auth) in enumerate(loaded.sources.values()):
        given, at = auth.signature, f"sources[{number}].auth.signature"
        if given is None:
            continue
        warning = partial(Finding, Severity.WARNING, at, line=source.line(at))
        if read.kind.name == "cloudevents":
            text = "covers no ce- headers, so only structured events are taken"
            yield warning(text, "have the sender use structured mode, or ask for another proof")
        if read.options.timeless and read.window:
            fix = "have the sender sign the time (timestampHeader), or ask for another proof"
            yield warning(
                "covers no timestamp, so an intended repeat never creates a new notification", fix
            )
        if others := {keys[file] for file in given.key_files if file in keys}:
            text = f"shares a key with {min(others)}: what was sent to one can be sent to the other"
            yield warning(text, "give each source a key of its own")
        keys |= dict.fromkeys(given.key_files, f"sources[{number}]")


def _of(fault: Fault, source: Document) -> Finding:
    fix = next((fix for part, fix in _FIXES.items() if part in fault.message), "")
    if not fix:
        return of_fault(fault, source, {}, _PAGE)
    return Finding(Severity.ERROR, fault.path, fault.message, fix, source.line(fault.path))


def _named(loaded: Loaded) -> Iterator[tuple[str, tuple[str, ...], Callable[[bytes], object]]]:
    """Yield each path that names secret files, the files, and the function that checks a secret."""
    for number, (_, auth) in enumerate(loaded.sources.values()):
        at = f"sources[{number}].auth"
        if auth.bearer:
            yield f"{at}.bearer.tokenFiles", auth.bearer.token_files, len
        if auth.basic:
            yield f"{at}.basic.passwordFiles", auth.basic.password_files, len
        if given := auth.signature:
            check = standard_key if given.scheme == "standard-webhooks" else len
            yield f"{at}.signature.keyFiles", given.key_files, check


def _certificates(loaded: Loaded) -> Iterator[tuple[str, str]]:
    tls = loaded.settings.tls
    if tls is None:
        return
    yield "tls.certFile", tls.cert_file
    yield "tls.keyFile", tls.key_file
    for number, (_, auth) in enumerate(loaded.sources.values()):
        for file in auth.client_certificate.ca_files if auth.client_certificate else ():
            yield f"sources[{number}].auth.clientCertificate.caFiles", file


def _secrets(
    at: str, files: Sequence[str], check: Callable[[bytes], object], source: Document
) -> Iterator[Finding]:
    """Check each file; one that cannot be used is an error if none of them can, else a warning."""
    values, faults = read_secrets(files, check)
    severity = Severity.WARNING if values else Severity.ERROR
    for number, file in enumerate(files):
        if file in faults:
            key, fix = f"{at}[{number}]", "put one secret into the file, or name another one"
            yield Finding(severity, key, faults[file], fix, source.line(key))
