"""
`notifier check`: all mistakes in the files of the controller and the gateway, which stop at the first.

The files are read with the controller's own code, so everything that the controller refuses is an error
here, with the same text. Further findings matter only before a rollout: receivers that no route leads to,
secrets in files that many may read, credentials that cannot be what their channel needs.
"""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from notifier.channels.targets import parse_target
from notifier.cli.files import Files, files_of, native_kinds
from notifier.cli.routes import never_matching
from notifier.routing.config import RoutingConfig
from notifier.routing.credentials import look
from notifier.routing.models import WebhookConfig
from notifier.routing.parse import examine
from notifier.routing.reload import read_text
from notifier.routing.tree import leads_to
from notifier.settings import Settings, remarks
from syncer.cli.exits import DIFFERENT, OK
from syncer.cli.output import write_json, write_lines, write_remark
from syncer.configfile import Fault, keys_of, read_into
from syncer.fields import default_of, kind_of
from syncer.ledger.url import holds_password, parse_redis_url, split_redis_url
from syncer.model.errors import ConfigError
from syncer.model.finding import Finding, Severity
from syncer.rules.text import plain
from syncer.runtime.proxies import in_clear
from syncer.settings import CREDENTIALS_DIR, with_redis_secrets
from syncer.yamlfile import Document, read_file


def of_unread(error: ConfigError, path: Path, option: str) -> Finding:
    """
    Return the finding for a file that is missing or not YAML.

    Args:
        error: The error that reading the file has raised.
        path: The file.
        option: The option that names the file.
    """
    text = str(error).removeprefix(f"{path}: ")
    fix = "correct the line" if error.line else fix_of_unread(text, option)
    return Finding(Severity.ERROR, "", text, fix, error.line)


def fix_of_unread(text: str, option: str) -> str:
    """Return the fix for a file that is missing or not a text, by the text of its fault."""
    return (
        "save it in UTF-8" if text.endswith(" not UTF-8") else f"name a readable file with {option}"
    )


def of_fault(
    fault: Fault, source: Document, added: Mapping[str, str], page: str = "docs/configuration.md"
) -> Finding:
    """
    Return the finding for a fault.

    Args:
        fault: A fault in a file.
        source: The file.
        added: Fixes for required keys that are missing, by path.
        page: The page that documents the keys.
    """
    name = keys_of(fault.group).get(fault.path.rpartition(".")[2])
    field = fault.group.model_fields.get(name) if name else None
    if fault.path in added and fault.message == "is required":
        fix = added[fault.path]
    elif field is None or kind_of(field) == "secret string":
        fix = f"see {page} for what it takes"
    elif fault.message == "must be a mapping":
        fix = "write its keys below it, one per line, indented"
    else:
        default = default_of(field).strip("`")
        fix = f"write a value of this kind: {kind_of(field).replace('`', '')}"
        if default != "required":
            fix += f"; the default is {default}"
    return Finding(Severity.ERROR, fault.path, fault.message, fix, source.line(fault.path))


_ADDED: Final = {
    "redis.url": "add it: redis: {url: 'redis://HOST:6379/0'}",
    "datastorage.url": "add it: datastorage: {url: 'https://HOST'}",
}
#: Hosts where whoever knows a URL can send to its channel.
_SECRET_HOSTS: Final = (
    "hooks.slack.com", "discord.com", "discordapp.com", "outlook.office.com", "webhook.office.com",
    "logic.azure.com", "powerplatform.com",
)  # fmt: skip
#: Severity, message and fix, by the kind of finding.
_SAID: Final = {
    "password shown": (
        Severity.WARNING, "holds a password, visible to every reader of this file",
        "remove it, and name a file that holds it in redis.passwordFile",
    ),
    "password in clear": (
        Severity.WARNING, "sends the password without TLS",
        "use rediss:// unless nobody can listen on the network",
    ),
    "routing empty": (
        Severity.WARNING, "is empty: everything goes to the console",
        "write a route and its receivers; docs/routing.md has examples",
    ),
    "no credential": (
        Severity.ERROR, "names no credential",
        "add credentialRef: NAME, where NAME is a file in delivery.credentials.dir",
    ),
    "receiver unused": (
        Severity.WARNING, "gets nothing: {why}", "add a route with receiver: {name}, or remove it",
    ),
    "secret shown": (
        Severity.WARNING, "is the {what} itself, visible to every reader of this file",
        "move it into a credential, and name that in {key}",
    ),
    "url unusable": (
        Severity.WARNING, "is not a usable URL: {error}", "write an http:// or https:// URL",
    ),
    "url with password": (
        Severity.WARNING, "holds a user or password, visible to every reader of this file",
        "use httpConfig.basicAuth with passwordRef",
    ),
    "url secret": (
        Severity.WARNING,
        "is a secret, since whoever knows it can send there: visible to every reader of this file",
        "move it into a credential, and name that in credentialRef",
    ),
    "sent in clear": (
        Severity.WARNING, "sends the token or password over http://, readable on the network",
        "use https://, and remove it",
    ),
    "switched off": (
        Severity.ERROR, "is never delivered: the channel is switched off in the settings",
        "set {key} in the settings file, or remove the list",
    ),
    "no directory": (
        Severity.ERROR, "cannot be read ({fault}): deliveries that need a credential wait",
        "mount the credentials there, or name the directory: delivery.credentials.dir",
    ),
    "credential missing": (
        Severity.ERROR, "names credential {ref}, which cannot be used: {why}",
        "put the secret into {file}",
    ),
    "no routing key": (
        Severity.ERROR, "names credential {ref}, which is not a routing key",
        "put the integration key (Events API v2) into it",
    ),
    "no url": (
        Severity.ERROR, "names credential {ref}, which is not a URL: {error}",
        "put the whole URL into it, https://…",
    ),
    "url in clear": (
        Severity.WARNING,
        "names credential {ref}, a URL to which requests go over http://, readable on the network",
        "use https://",
    ),
    "file not used": (
        Severity.WARNING, "is not used: {why}", "put a secret into it, or remove the file",
    ),
    "file not named": (
        Severity.WARNING, "is not named in this routing file",
        "remove it, unless something else uses it",
    ),
    "file exposed": (
        Severity.WARNING, "can be read by every user of this machine", "chmod 600 {file}",
    ),
}  # fmt: skip
_SECRET_FILES: Final = ("urlFile", "passwordFile", "sentinelPasswordFile")


def _found(kind: str, path: str, line: int = 0, **words: object) -> Finding:
    severity, message, fix = _SAID[kind]
    return Finding(severity, path, message.format(**words), fix.format(**words), line)


def run(options: argparse.Namespace) -> int:
    """Check; returns the exit code."""
    credentials = Path(options.credentials) if options.credentials else None
    found, unread = check(files_of(options), credentials=credentials)
    files = list(dict.fromkeys(file for file, _ in found))
    shown = sorted(found, key=lambda each: (files.index(each[0]), each[1].line))
    counts = {s: sum(f.severity is s for _, f in shown) for s in Severity}
    for remark in unread:
        write_remark(remark, "notifier")
    if options.output == "json":
        write_json(
            {
                "findings": [
                    {
                        "severity": finding.severity.value, "file": file, "line": finding.line or None,
                        "path": finding.path, "message": finding.message, "fix": finding.fix,
                    }
                    for file, finding in shown
                ],
                "errors": counts[Severity.ERROR], "warnings": counts[Severity.WARNING],
                "not_looked_at": unread,
            }
        )  # fmt: skip
    else:
        for file, finding in shown:
            where = f"{file}:{finding.line}" if finding.line else file
            about = f"{finding.path}: " if finding.path else ""
            said = f"{where}: {finding.severity}: {about}{finding.message}"
            write_lines([plain(said), plain(f"    fix: {finding.fix}")])
        write_lines([", ".join(f"{n} {s}{'' if n == 1 else 's'}" for s, n in counts.items())])
    return DIFFERENT if counts[Severity.ERROR] else OK


def check(
    files: Files, *, credentials: Path | None = None
) -> tuple[list[tuple[str, Finding]], list[str]]:
    """
    Check all files; without `credentials`, use the directory that the settings name.

    Returns:
        Findings, each with the file that it is about; and which files were not checked, and why. A key that
        looks like a typo is an error here.
    """
    found: list[tuple[str, Finding]] = []
    said = list(files.remarks)
    settings: Settings | None = None
    if files.settings is not None:
        settings, findings, unread = _settings(files.settings, in_pod=files.in_pod)
        found += [(str(files.settings), finding) for finding in findings]
        said += unread
    if files.gateway is not None:
        from notifier.cli.gatewaychecking import of_gateway  # loads all of the gateway

        findings, unread = of_gateway(files.gateway, in_pod=files.in_pod)
        found += [(str(files.gateway), finding) for finding in findings]
        said += unread
    if files.routing is not None:
        config, findings = _routing(files.routing, settings)
        found += [(str(files.routing), finding) for finding in findings]
        if config is not None and config.credential_refs():
            place = credentials or Path(
                settings.delivery.credentials.dir if settings is not None else CREDENTIALS_DIR
            )
            if credentials is None and not files.in_pod and not place.exists():
                said.append(f"credentials are not checked: {place} does not exist here")
            else:
                about = str(files.routing)
                found += [(file or about, finding) for file, finding in _credentials(config, place)]
    return [
        (file, replace(finding, severity=Severity.ERROR) if finding.doubt else finding)
        for file, finding in found
    ], said


# -- settings -------------------------------------------------------------------------------------


def _settings(path: Path, *, in_pod: bool) -> tuple[Settings | None, list[Finding], list[str]]:
    try:
        source = read_file(path)
    except ConfigError as error:
        return None, [of_unread(error, path, "--config")], []
    document, found, unread = _with_secrets(source, in_pod=in_pod)
    made = read_into(Settings, document)
    settings = None if isinstance(made, list) else made
    found += [of_fault(fault, source, _ADDED) for fault in (made if isinstance(made, list) else ())]
    return settings, [*found, *remarks(source, settings), *_passwords(source, settings)], unread


def _with_secrets(
    source: Document, *, in_pod: bool
) -> tuple[Mapping[str, Any], list[Finding], list[str]]:
    """Put the contents of secret files into the settings; outside the pod the files may be missing."""
    try:
        return with_redis_secrets(source.values, os.environ), [], []
    except ConfigError as error:
        key = error.path.removeprefix("redis.")
        redis = source.values.get("redis")
        known = {k: v for k, v in redis.items() if k not in _SECRET_FILES} if redis else {}
        # Check the rest all the same.
        document = {**source.values, "redis": {"url": "redis://unknown", **known}}
        if key in _SECRET_FILES and "cannot be read" in str(error) and not in_pod:
            return document, [], [f"{error.path} is not checked: its file does not exist here"]
        text = str(error).removeprefix(f"{error.path}: ")
        fix = _ADDED.get(error.path, "put it into one file, and name only that file")
        line = source.line(f"redis.{key}")
        return document, [Finding(Severity.ERROR, error.path, text, fix, line)], []


def _passwords(source: Document, settings: Settings | None) -> Iterator[Finding]:
    redis, line = source.values.get("redis"), source.line("redis.url")
    url = redis.get("url") if isinstance(redis, dict) else None
    if isinstance(url, str) and url and holds_password(url):
        yield _found("password shown", "redis.url", line)
    whole = settings.redis.url.get_secret_value() if settings else ""
    if holds_password(whole) and not parse_redis_url(whole).tls and not _local(whole):
        yield _found("password in clear", "redis.url", line)


def _local(url: str) -> bool:
    if url.startswith("unix:"):
        return True
    hosts = split_redis_url(url).netloc.rpartition("@")[2].split(",")
    return not any(in_clear(f"http://{host}/") for host in hosts)


# -- routing --------------------------------------------------------------------------------------


def _routing(path: Path, settings: Settings | None) -> tuple[RoutingConfig | None, list[Finding]]:
    text, fault = read_text(path)
    if text is None:
        fix = fix_of_unread(fault, "--routing or $ROUTING_CONFIG_PATH")
        return None, [Finding(Severity.ERROR, "", fault, fix)]
    if not text.strip():
        return None, [_found("routing empty", "", 1)]
    config, findings = examine(text, native=native_kinds(settings))
    found = list(findings)
    if config is not None:
        lacking = config.without_credential()
        found += [_found("no credential", path, line) for _, path, line in lacking]
        found += [*_unused(config), *_shown_secrets(config)]
        if settings is not None:
            found += _switched_off(config, settings)
    return config, found


def _unused(config: RoutingConfig) -> Iterator[Finding]:
    never, leading = never_matching(config), leads_to(config)
    last = {receiver.name: receiver for receiver in config.receivers}
    for receiver in config.receivers:
        routes = leading.get(receiver.name, ())
        # Receivers without a name, or replaced by another one of the same name, have a finding already.
        if not receiver.name or last[receiver.name] is not receiver or set(routes) - never.keys():
            continue
        why = f"only {routes[0]} names it, and never matches" if routes else "no route names it"
        line = config.lines.get(f"{receiver.path}.name") or config.lines.get(receiver.path, 0)
        yield _found("receiver unused", receiver.path, line, why=why, name=receiver.name)


def _shown_secrets(config: RoutingConfig) -> Iterator[Finding]:
    for receiver in config.receivers:
        entries = (entry for _, those in receiver.entries for entry in those)
        webhooks = (entry for entry in entries if isinstance(entry, WebhookConfig))
        for n, entry in enumerate(webhooks):
            for key, kind, words in _of_webhook(entry):
                path = f"{receiver.path}.webhookConfigs[{n}].{key}"
                yield _found(kind, path, config.lines[path], **words)


def _of_webhook(entry: WebhookConfig) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yield each mistake in one entry: its key, the kind of finding and the words for its text."""
    if entry.http_config.bearer_token:
        yield "httpConfig.bearerToken", "secret shown", {"what": "token", "key": "bearerTokenRef"}
    if entry.http_config.basic_auth.password:
        yield (
            "httpConfig.basicAuth.password",
            "secret shown",
            {"what": "password", "key": "passwordRef"},
        )
    if not entry.url:
        return
    try:
        parts = urlsplit(entry.url)
        host = parts.hostname or ""
        parse_target(entry.url)
    except ValueError as error:
        yield "url", "url unusable", {"error": error}
        return
    if parts.username or parts.password:
        yield "url", "url with password", {}
    elif any(host == known or host.endswith(f".{known}") for known in _SECRET_HOSTS):
        yield "url", "url secret", {}
    if in_clear(entry.url) and entry.http_config.credentials_over_http:
        yield "httpConfig.credentialsOverHttp", "sent in clear", {}


def _switched_off(config: RoutingConfig, settings: Settings) -> Iterator[Finding]:
    off = {
        "log": (not settings.delivery.log.enabled, "delivery.log.enabled: true"),
        "file": (not settings.delivery.file.output_dir, "delivery.file.outputDir"),
    }
    for receiver in config.receivers:
        for kind, _ in receiver.entries:
            missing, key = off.get(kind, (False, ""))
            if missing:
                path = f"{receiver.path}.{kind}Configs"
                line = config.lines.get(f"{path}[0]") or config.lines.get(receiver.path, 0)
                yield _found("switched off", path, line, key=key)


# -- credentials ----------------------------------------------------------------------------------


def _credentials(config: RoutingConfig, place: Path) -> Iterator[tuple[str, Finding]]:
    seen = look(place)
    if seen.fault:
        yield str(place), _found("no directory", "", fault=seen.fault)
        return
    refused = dict(seen.refused)
    named: set[str] = set()
    for ref, kind, path, line in config.references():
        if ref not in seen.values:
            why = refused.get(ref, "there is no such file")
            yield "", _found("credential missing", path, line, ref=ref, why=why, file=place / ref)
        elif wrong := _wrong(kind, path, seen.values[ref]):
            yield "", _found(wrong[0], path, line, ref=ref, error=wrong[1])
        if ref not in named:
            yield from _exposed(place, ref)
        named.add(ref)
    for text in config.refused_in_clear(seen.values):
        yield (
            "",
            Finding(Severity.ERROR, "", text, "use https://, or set credentialsOverHttp: true"),
        )
    for name, why in seen.refused:
        if name not in named:
            yield str(place / name), _found("file not used", "", why=why)
    for name in seen.values.keys() - named:
        yield str(place / name), _found("file not named", "")
        yield from _exposed(place, name)


def _wrong(kind: str, path: str, value: str) -> tuple[str, str] | None:
    """Return why a value cannot be what its channel needs, without quoting it; None if it can."""
    if kind == "pagerduty" and ("://" in value or any(c.isspace() for c in value)):
        return "no routing key", ""
    if kind not in {"slack", "teams", "webhook"} or not path.endswith("].credentialRef"):
        return None
    try:
        parse_target(value)
    except ValueError as error:
        return "no url", str(error)
    return ("url in clear", "") if in_clear(value) else None


def _exposed(place: Path, name: str) -> Iterator[tuple[str, Finding]]:
    # This link marks a volume of the kubelet, whose files only the pod sees.
    if (place / "..data").is_symlink():
        return
    with suppress(OSError):
        if (place / name).stat().st_mode & stat.S_IROTH:
            yield str(place / name), _found("file exposed", "", file=place / name)
