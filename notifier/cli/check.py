"""
`notifier check`: all mistakes in the files of the controller and the gateway, which stop at the first.

The files are read with the controller's own code, so what the controller refuses is an error here, in the
same words. Added are findings that matter only before a rollout: receivers that no route leads
to, secrets in files that many may read, credentials that cannot be what their channel needs.
"""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from notifier.channels.targets import parse_target
from notifier.cli.faults import fix_of_unread, of_fault, of_unread
from notifier.cli.files import Files, files_of, native_kinds
from notifier.cli.pictures import never_matching
from notifier.routing.config import RoutingConfig, in_clear
from notifier.routing.credentials import Look, look
from notifier.routing.models import WebhookConfig
from notifier.routing.parse import examine
from notifier.routing.reload import read_text
from notifier.routing.tree import leads_to
from notifier.settings import Settings, remarks
from syncer.cli.exits import DIFFERENT, OK, USAGE
from syncer.cli.output import write_json, write_lines, write_remark
from syncer.configfile import read_into
from syncer.ledger.url import holds_password, parse_redis_url, split_redis_url
from syncer.model.errors import ConfigError
from syncer.model.finding import Finding, Severity
from syncer.rules.text import plain
from syncer.settings import CREDENTIALS_DIR, with_redis_secrets
from syncer.yamlfile import Document, read_file

_ADDED: Final = {
    "redis.url": "add it: redis: {url: 'redis://HOST:6379/0'}",
    "datastorage.url": "add it: datastorage: {url: 'https://HOST'}",
}
#: Hosts of which a URL opens a channel to whoever knows it.
_SECRET_HOSTS: Final = (
    "hooks.slack.com", "discord.com", "discordapp.com", "outlook.office.com", "webhook.office.com",
    "logic.azure.com", "powerplatform.com",
)  # fmt: skip
_SECRET_FILES: Final = ("urlFile", "passwordFile", "sentinelPasswordFile")


@dataclass(frozen=True, slots=True)
class Report:
    """
    What was found.

    Attributes:
        found: Findings, each with the file that it is about.
        remarks: What was not looked at, and why.
    """

    found: tuple[tuple[str, Finding], ...]
    remarks: tuple[str, ...]


def run(options: argparse.Namespace) -> int:
    """Check; returns the exit code."""
    try:
        files = files_of(options)
    except ConfigError as error:
        write_remark(str(error), "notifier")
        return USAGE
    report = check(files, credentials=Path(options.credentials) if options.credentials else None)
    shown = in_order(report.found)
    counts = {s: sum(f.severity is s for _, f in shown) for s in Severity}
    for remark in report.remarks:
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
                "not_looked_at": list(report.remarks),
            }
        )  # fmt: skip
    else:
        for file, finding in shown:
            where = f"{file}:{finding.line}" if finding.line else file
            about = f"{finding.path}: " if finding.path else ""
            write_lines(
                [
                    plain(f"{where}: {finding.severity}: {about}{finding.message}"),
                    plain(f"    fix: {finding.fix}"),
                ]
            )
        write_lines([", ".join(f"{n} {s}{'' if n == 1 else 's'}" for s, n in counts.items())])
    return DIFFERENT if counts[Severity.ERROR] else OK


def check(files: Files, *, credentials: Path | None = None) -> Report:
    """Look at all files; without `credentials` at the directory that the settings name."""
    found: list[tuple[str, Finding]] = []
    said = list(files.remarks)
    settings: Settings | None = None
    if files.settings is not None:
        settings, findings, unread = _settings(files.settings, in_pod=files.in_pod)
        found += [(str(files.settings), finding) for finding in findings]
        said += unread
    if files.gateway is not None:
        from notifier.cli.gatewaychecking import of_gateway  # all of the gateway, for this alone

        findings, unread = of_gateway(files.gateway, in_pod=files.in_pod)
        found += [(str(files.gateway), finding) for finding in findings]
        said += unread
    if files.routing is None:
        return Report(tuple(found), tuple(said))
    config, findings = _routing(files.routing, settings)
    found += [(str(files.routing), finding) for finding in findings]
    if config is not None and config.credential_refs():
        place = credentials or Path(
            settings.delivery.credentials.dir if settings is not None else CREDENTIALS_DIR
        )
        if credentials is None and not files.in_pod and not place.exists():
            said.append(f"credentials are not checked: {place} does not exist here")
        else:
            found += [
                (file or str(files.routing), finding)
                for file, finding in _credentials(config, place)
            ]
    return Report(tuple(found), tuple(said))


def in_order(found: Sequence[tuple[str, Finding]]) -> list[tuple[str, Finding]]:
    """Sort findings by file and line; what looks like a slip is an error of a file that is checked."""
    files = list(dict.fromkeys(file for file, _ in found))
    judged = [
        (file, replace(finding, severity=Severity.ERROR) if finding.doubt else finding)
        for file, finding in found
    ]
    return sorted(judged, key=lambda each: (files.index(each[0]), each[1].line))


# -- settings -------------------------------------------------------------------------------------


def _settings(path: Path, *, in_pod: bool) -> tuple[Settings | None, list[Finding], list[str]]:
    try:
        source = read_file(path)
    except ConfigError as error:
        return None, [of_unread(error, path, "--config")], []
    document, found, unread = _with_secrets(source, in_pod=in_pod)
    settings = read_into(Settings, document)
    if isinstance(settings, list):
        found += [of_fault(fault, source, _ADDED) for fault in settings]
        return None, [*found, *remarks(source, None), *_in_file(source)], unread
    found += [*remarks(source, settings), *_in_file(source), *_in_clear(source, settings)]
    return settings, found, unread


def _with_secrets(
    source: Document, *, in_pod: bool
) -> tuple[Mapping[str, Any], list[Finding], list[str]]:
    """Put what files of secrets hold into the settings; outside the pod they may be missing."""
    try:
        return with_redis_secrets(source.values, os.environ), [], []
    except ConfigError as error:
        key = error.path.removeprefix("redis.")
        redis = source.values.get("redis")
        known = {k: v for k, v in redis.items() if k not in _SECRET_FILES} if redis else {}
        # The rest is checked all the same.
        document = {**source.values, "redis": {"url": "redis://unknown", **known}}
        if key in _SECRET_FILES and "cannot be read" in str(error) and not in_pod:
            return document, [], [f"{error.path} is not checked: its file does not exist here"]
        text = str(error).removeprefix(f"{error.path}: ")
        fix = _ADDED.get(error.path, "put it into one file, and name only that file")
        line = source.line(f"redis.{key}")
        return document, [Finding(Severity.ERROR, error.path, text, fix, line)], []


def _in_file(source: Document) -> Iterator[Finding]:
    redis = source.values.get("redis")
    url = redis.get("url") if isinstance(redis, dict) else None
    if isinstance(url, str) and url and holds_password(url):
        text = "holds a password, visible to every reader of this file"
        fix = "remove it, and name a file that holds it in redis.passwordFile"
        yield Finding(Severity.WARNING, "redis.url", text, fix, source.line("redis.url"))


def _in_clear(source: Document, settings: Settings) -> Iterator[Finding]:
    whole = settings.redis.url.get_secret_value()
    if not parse_redis_url(whole).tls and holds_password(whole) and not _local(whole):
        text = "sends the password without TLS"
        fix = "use rediss:// unless nobody can listen on the network"
        yield Finding(Severity.WARNING, "redis.url", text, fix, source.line("redis.url"))


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
        fault = "is empty: everything goes to the console"
        fix = "write a route and its receivers; docs/routing.md has examples"
        return None, [Finding(Severity.WARNING, "", fault, fix, 1)]
    config, findings = examine(text, native=native_kinds(settings))
    found = list(findings)
    if config is not None:
        for rule in (_missing, _unused, _shown_secrets):
            found += rule(config)
        if settings is not None:
            found += _switched_off(config, settings)
    return config, found


def _missing(config: RoutingConfig) -> Iterator[Finding]:
    fix = "add credentialRef: NAME, where NAME is a file in delivery.credentials.dir"
    for _, path, line in config.without_credential():
        yield Finding(Severity.ERROR, path, "names no credential", fix, line)


def _unused(config: RoutingConfig) -> Iterator[Finding]:
    never = never_matching(config)
    leading = leads_to(config)
    last = {receiver.name: n for n, receiver in enumerate(config.receivers)}
    for n, receiver in enumerate(config.receivers):
        routes = leading.get(receiver.name, ())
        # Of those without a name, and of those that another one replaces, something is said already.
        if (
            any(path not in never for path in routes)
            or not receiver.name
            or last[receiver.name] != n
        ):
            continue
        why = f"only {routes[0]} names it, and never matches" if routes else "no route names it"
        fix = f"add a route with receiver: {receiver.name}, or remove it"
        line = config.lines.get(f"{receiver.path}.name") or config.lines.get(receiver.path, 0)
        yield Finding(Severity.WARNING, receiver.path, f"gets nothing: {why}", fix, line)


def _shown_secrets(config: RoutingConfig) -> Iterator[Finding]:
    for receiver in config.receivers:
        for kind, entries in receiver.entries:
            for n, entry in enumerate(entries):
                if kind == "webhook" and isinstance(entry, WebhookConfig):
                    at = f"{receiver.path}.webhookConfigs[{n}]"
                    for key, message, fix in _of_webhook(entry):
                        path = f"{at}.{key}"
                        yield Finding(Severity.WARNING, path, message, fix, config.lines[path])


def _of_webhook(entry: WebhookConfig) -> Iterator[tuple[str, str, str]]:
    everybody = "visible to every reader of this file"
    moved = "move it into a credential, and name that in"
    if entry.http_config.bearer_token:
        text = f"is the token itself, {everybody}"
        yield "httpConfig.bearerToken", text, f"{moved} bearerTokenRef"
    if entry.http_config.basic_auth.password:
        text = f"is the password itself, {everybody}"
        yield "httpConfig.basicAuth.password", text, f"{moved} passwordRef"
    if not entry.url:
        return
    try:
        parts = urlsplit(entry.url)
        host = parts.hostname or ""
        parse_target(entry.url)
    except ValueError as error:
        yield "url", f"is not a usable URL: {error}", "write an http:// or https:// URL"
        return
    if parts.username or parts.password:
        text = f"holds a user or password, {everybody}"
        yield "url", text, "use httpConfig.basicAuth with passwordRef"
    elif any(host == known or host.endswith(f".{known}") for known in _SECRET_HOSTS):
        text = f"is a secret, since whoever knows it can send there: {everybody}"
        yield "url", text, f"{moved} credentialRef"
    if in_clear(entry.url) and entry.http_config.credentials_over_http:
        text = "sends the token or password over http://, readable on the network"
        yield "httpConfig.credentialsOverHttp", text, "use https://, and remove it"


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
                text = "is never delivered: the channel is switched off in the settings"
                fix = f"set {key} in the settings file, or remove the list"
                yield Finding(Severity.ERROR, path, text, fix, line)


# -- credentials ----------------------------------------------------------------------------------


def _credentials(config: RoutingConfig, place: Path) -> Iterator[tuple[str, Finding]]:
    seen = look(place)
    if not seen.exists:
        text = f"cannot be read ({seen.fault}): deliveries that need a credential are held"
        fix = "mount the credentials there, or name the directory: delivery.credentials.dir"
        yield str(place), Finding(Severity.ERROR, "", text, fix)
        return
    refused = dict(seen.refused)
    named: set[str] = set()
    for ref, kind, path, line in config.references():
        first = ref not in named
        named.add(ref)
        if ref not in seen.values:
            why = refused.get(ref, "there is no such file")
            text = f"names credential {ref}, which cannot be used: {why}"
            fix = f"put the secret into {place / ref}"
            yield "", Finding(Severity.ERROR, path, text, fix, line)
        elif wrong := _wrong(kind, path, seen.values[ref]):
            yield "", Finding(wrong[0], path, f"names credential {ref}, {wrong[1]}", wrong[2], line)
        if first:
            yield from _exposed(place, ref)
    for text in config.refused_in_clear(seen.values):
        fix = "use https://, or set credentialsOverHttp: true"
        yield "", Finding(Severity.ERROR, "", text, fix)
    yield from _others(place, seen, named)


def _others(place: Path, seen: Look, named: set[str]) -> Iterator[tuple[str, Finding]]:
    for name, why in seen.refused:
        if name not in named:
            text = f"is not used: {why}"
            fix = "put a secret into it, or remove the file"
            yield str(place / name), Finding(Severity.WARNING, "", text, fix)
    for name in seen.values:
        if name not in named:
            text = "is not named in this routing file"
            fix = "remove it, unless something else uses it"
            yield str(place / name), Finding(Severity.WARNING, "", text, fix)
            yield from _exposed(place, name)


def _wrong(kind: str, path: str, value: str) -> tuple[Severity, str, str] | None:
    """Say why a value cannot be what its channel needs; quotes nothing of it."""
    if kind == "pagerduty":
        if "://" in value or any(c.isspace() for c in value):
            fix = "put the integration key (Events API v2) into it"
            return Severity.ERROR, "which is not a routing key", fix
        return None
    if kind not in {"slack", "teams", "webhook"} or not path.endswith("].credentialRef"):
        return None
    try:
        parse_target(value)
    except ValueError as error:
        fix = "put the whole URL into it, https://…"
        return Severity.ERROR, f"which is not a URL: {error}", fix
    if in_clear(value):
        text = "a URL to which requests go over http://, readable on the network"
        return Severity.WARNING, text, "use https://"
    return None


def _exposed(place: Path, name: str) -> Iterator[tuple[str, Finding]]:
    # A volume of the kubelet's is swapped as a whole by this link; only the pod sees its files.
    if (place / "..data").is_symlink():
        return
    try:
        mode = (place / name).stat().st_mode
    except OSError:
        return
    if mode & stat.S_IROTH:
        text = "can be read by every user of this machine"
        yield str(place / name), Finding(Severity.WARNING, "", text, f"chmod 600 {place / name}")
