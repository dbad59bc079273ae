"""
Pages that are made from the code, and the links of all pages.

    scripts/docs            writes docs/{acts,configuration,crd,gateway-configuration,metrics,routing}.md
                            and docs/schemas
    scripts/docs --check    writes nothing; exit 1 if a page is not what the code says, or a link is dead

Each page is a function of the models, the definition and the registry, so that it cannot say what the
code does not do. The words are those of the code: a field's description, a metric's help.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from notifier.audit.metrics import AuditMetrics
from notifier.cli.show import gateway_schema, routing_schema, settings_schema
from notifier.gateway.metrics import GatewayMetrics
from notifier.gateway.settings import GatewaySettings, SourceSettings
from notifier.metrics import DeliveryMetrics
from notifier.settings import Environment, Settings
from syncer.configfile import fields_of, group_of
from syncer.fields import default_of, kind_of
from syncer.metrics import SyncMetrics
from tests import acts
from tests.docs.metrics import Family, families
from tests.docs.routing import routing
from tests.servers.definition import load_crd

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
_MADE: Final = (
    "<!-- Made by scripts/docs from the code. Do not edit: change the code and run it again. -->\n"
)


# -- configuration --------------------------------------------------------------------------------

_CONFIGURATION: Final = """\
# Configuration

One YAML file configures the controller: `notifier run --config FILE`, by default
`/etc/notification/config.yaml`. `syncer` reads the same file. Routing and credentials have their own files,
which are reloaded while the controller runs; this file is read at startup.

- An unknown key, or a key that is written twice, causes a warning with its path and line, never an error;
  for `notifier check` alone it is one.
- A wrong type or an invalid value ends the process with exit code 1, and names the path and the line.
- [`notifier check`](notifier.md#check) reports all of this beforehand.
- `null` means the default. Names are camelCase; the spelling with underscores is accepted too.
- Durations are `500ms`, `10s`, `1m30s`, or plain seconds.

The smallest file that works:

```yaml
# example: settings
redis:
  url: redis://redis.example.svc:6379/0
```

A file for production, with the most common settings. Its second line names the
[schema](notifier.md#schemas) for editors:

```yaml
# example: settings
# yaml-language-server: $schema=./settings.schema.json
controller:
  namespaces: "*"
delivery:
  guarantee: atLeastOnce
  slack:
    timeout: 10s
redis:
  url: rediss://notifier@redis.example.svc:6379/0
  passwordFile: /etc/notification/redis/password
  durability: strict
egress:
  mode: strict
```

"""


def configuration() -> str:
    """Return the page of settings."""
    out = [f"# Configuration\n\n{_MADE}", _CONFIGURATION.removeprefix("# Configuration\n")]
    out += _tables(Settings)
    out.append("## Environment\n")
    text = (Environment.__doc__ or "").partition("Attributes:")[2]
    meaning = dict(re.findall(r"(\w+): (.+?)(?=\n\s*\w+: |\Z)", text, re.DOTALL))
    variables = [
        (f"`{variable}`", " ".join(meaning[attribute].split()))
        for variable, attribute in (
            ("KUBERNAUT_CONTROLLER_NAMESPACE", "namespace"),
            ("ROUTING_CONFIG_PATH", "routing_path"),
            ("KUBECONFIG", "kubeconfig"),
            ("TLS_CA_FILE", "tls_ca_file"),
        )
    ]
    out.append(_table(("variable", ""), variables))
    return "\n".join(out)


_GATEWAY: Final = """\
# The gateway's file

One YAML file configures the gateway: `notifier gateway --config FILE`. [The gateway](gateway.md) explains
its use. The file is read at startup; the secret files that it names are reloaded when they change. An
unknown key causes a warning with its path, an invalid value ends the process and names the path, and
durations are written as in [the controller's file](configuration.md). [`notifier check --gateway
FILE`](notifier.md#check) reports all of this beforehand. The first line of this example names the
[schema](notifier.md#schemas) for editors:

```yaml
# yaml-language-server: $schema=./gateway.schema.json
sources:
  - name: alertmanager
    kind: alertmanager
    namespace: notifications
    auth:
      bearer:
        tokenFiles: [/etc/notification-gateway/secrets/alertmanager-token/token]
```

In a template, each `{{ … }}` holds a [JMESPath](https://jmespath.org) expression over the payload; with
`per: alert`, `alert` is the alert. A template that consists of one `{{ … }}` yields the value itself; any
other yields text, in which null is empty. YAML wants what begins with a brace in quotes. There are two
blocks, `{{#each LIST}}…{{/each}}` and `{{#if CONDITION}}…{{else}}…{{/if}}`. Functions besides JMESPath's
own:

| function | yields |
|---|---|
| `if(condition, a, b)` | `a` unless the condition is null, false or empty; both are evaluated |
| `default(value, other)` | `other` if the value is null or empty |
| `lower(text)`, `upper(text)` | the text in small or capital letters |
| `replace(text, old, new)` | the text with each `old` replaced |
| `truncate(text, count)` | its first characters |
| `match(text, pattern)` | whether a pattern (RE2) is found in it |
| `url(value)` | the value as a part of an address, percent-encoded |
| `list(items, between)` | the items that are not null, joined; JMESPath's `join` fails if one is null |
| `lines(mapping, between)` | its members as `name=value`, sorted and joined |

"""


def gateway() -> str:
    """Return the page of the gateway's settings."""
    out = [f"# The gateway's file\n\n{_MADE}", _GATEWAY.removeprefix("# The gateway's file\n")]
    out += _tables(GatewaySettings)
    out += [f"## sources[]\n\n{_sentence(SourceSettings)}\n", *_tables(SourceSettings, "sources[]")]
    return "\n".join(out)


def _tables(top: type[BaseModel], above: str = "") -> list[str]:
    """Return the sections of a model's groups, each with its table."""
    out = []
    for path, model, required in _groups(top, above, required=True):
        if path != above:
            note = "" if required else " Optional."
            out.append(f"## {path}\n\n{_sentence(model)}{note}\n")
        rows = [
            (f"`{field.alias or name}`", kind_of(field), default_of(field), field.description or "")
            for name, field in fields_of(model)
            if group_of(field.annotation) is None
        ]
        if rows:
            out.append(_table(("key", "type", "default", ""), rows))
    return out


def _groups(
    model: type[BaseModel], path: str, *, required: bool
) -> Iterator[tuple[str, type[BaseModel], bool]]:
    yield path, model, required
    for name, field in fields_of(model):
        inner = group_of(field.annotation)
        if inner is not None:
            below = f"{path}.{field.alias or name}" if path else field.alias or name
            yield from _groups(inner, below, required=field.default is not None)


def _sentence(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


# -- the resource ---------------------------------------------------------------------------------


def resource() -> str:
    """Return the page of the CustomResourceDefinition."""
    crd = load_crd()
    (version,) = crd["spec"]["versions"]
    names = crd["spec"]["names"]
    schema = version["schema"]["openAPIV3Schema"]
    out = [
        f"# The resource\n\n{_MADE}",
        (
            f"`{crd['spec']['group']}/{version['name']}`, kind `{names['kind']}`, namespaced;"
            f" short names {', '.join(f'`{n}`' for n in names['shortNames'])}."
            f" `notifier show crd` prints this CRD. Kubernaut's own, which lacks the members that only"
            " notification-ledger writes and the bounds on texts and lists, serves as well.\n\n"
            f"{_words(schema['description'])}\n"
        ),
        "Columns of `kubectl get`: "
        + ", ".join(c["name"] for c in version["additionalPrinterColumns"])
        + ". Field selectors: "
        + ", ".join(f"`{f['jsonPath'][1:]}`" for f in version["selectableFields"])
        + ".\n",
    ]
    for part in ("spec", "status"):
        below = schema["properties"][part]
        out.append(f"## {part}\n\n{_words(below.get('description', ''))}\n")
        rows = list(_members(below, part))
        out.append(_table(("member", "type", ""), rows))
    out.append(
        "## The record\n\nWhat the status tells beyond Kubernaut's members (ids, classes, codes and start"
        " times of attempts, results that cannot be known, channels, folded attempts, the marks of log and"
        " journal) is in the message of the condition `notification-ledger/Record`, as JSON for programs;"
        " `syncer explain` and `kubectl ledger` read it. Members that only notification-ledger writes"
        " show the same to people, where this CRD is served, and are never read back.\n\n"
        "## Rules\n\nThe API server refuses a write that breaks one of these.\n"
    )
    rules = [
        (f"`{place}`", _words(rule["message"]), f"`{_words(rule['rule'])}`")
        for place, rule in _rules(schema, "")
    ]
    out.append(_table(("on", "message", "rule"), rules))
    return "\n".join(out)


def _members(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    needed = set(schema.get("required", ()))
    for name, below in schema.get("properties", {}).items():
        place = f"{path}.{name}"
        kind = below.get("type", "any")
        inner = below
        if kind == "array":
            inner = below["items"]
            kind = f"list of {inner.get('type', 'any')}s"
            place += "[]"
        elif kind == "object" and isinstance(below.get("additionalProperties"), dict):
            kind = f"map of {below['additionalProperties'].get('type', 'any')}s"
        limits = [
            f"{word} `{below[key]}`"
            for key, word in (
                ("format", "format"), ("minimum", "≥"), ("maximum", "≤"), ("minLength", "length ≥"),
                ("maxLength", "length ≤"), ("maxItems", "items ≤"), ("pattern", "matches"),
            )
            if key in below
        ]  # fmt: skip
        if "enum" in below:
            limits.append("one of " + ", ".join(f"`{value}`" for value in below["enum"]))
        if "default" in below:
            limits.append(f"default `{below['default']}`")
        if name in needed:
            limits.append("required")
        text = _words(below.get("description", ""))
        yield f"`{place}`", kind, text + (f" ({'; '.join(limits)})" if limits else "")
        yield from _members(inner, place)


def _rules(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, str]]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path or "the object", rule
    for name, below in schema.get("properties", {}).items():
        yield from _rules(below, f"{path}.{name}" if path else name)
    if isinstance(schema.get("items"), dict):
        yield from _rules(schema["items"], f"{path}[]")


# -- metrics --------------------------------------------------------------------------------------

_METRICS: Final = """\
`/metrics` (port 9090 by default) serves these metrics and those of the process and of Python. Names that begin
with `kubernaut_notification_` and `audit_` are the replaced controller's; their values count what really happened.

The values of labels are bounded: those of `channel` by the routing file, all others by constants in the code. No label
contains a uid, an object's name, a URL or free text. Counters start at 0 with the process. Dashboards are in
`charts/notification-ledger/files/dashboards/`, alerts in [alerts.md](alerts.md).

Common questions:

| question | expression |
|---|---|
| Is anything overdue? | `max(notification_ledger_oldest_due_seconds)` |
| Why? | `sum by (reason) (notification_ledger_held_notifications)` |
| How long from creation to the end? | `histogram_quantile(0.99, sum by (le) (rate(notification_ledger_completion_seconds_bucket[5m])))` |
| How often is a result unknown? | `sum(rate(notification_ledger_outcomes_total{state="unknown"}[1h])) / sum(rate(notification_ledger_outcomes_total[1h]))` |
| How far do the statuses lag behind? | `max(notification_ledger_dirty_oldest_seconds)` |
| Has Redis lost anything? | `sum(increase(notification_ledger_log_loss_ledger_total[1d]))` |
| Do log, memory and status agree? | `sum by (class) (increase(notification_ledger_scrub_divergence_total[1d]))` |

"""  # noqa: E501 - rows of a table


def metrics() -> str:
    """Return the page of metrics."""
    out = [f"# Metrics\n\n{_MADE}", _METRICS]
    for title, owner in (
        ("The record", SyncMetrics),
        ("Delivery", DeliveryMetrics),
        ("Audit feed (only where one is configured)", AuditMetrics),
        ("The gateway, on its own port", GatewayMetrics),
    ):
        rows = [(f"`{_shown(f)}`", f.kind, ", ".join(f.labels), f.text) for f in families(owner)]
        out.append(f"## {title}\n")
        out.append(_table(("metric", "type", "labels", ""), rows))
    return "\n".join(out)


def _shown(family: Family) -> str:
    return family.name + ("_total" if family.kind == "counter" else "")


# -- schemas --------------------------------------------------------------------------------------


def _schema(of: Callable[[], dict[str, Any]]) -> str:
    return json.dumps(of(), indent=2, ensure_ascii=False) + "\n"


# -- links ----------------------------------------------------------------------------------------

_LINK: Final = re.compile(r"(?<!\!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)")
_CODE: Final = re.compile(r"`[^`\n]*`")
_FENCE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    """All Markdown files of the repository that git knows or may come to know."""
    answer = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return sorted(ROOT / name for name in answer.stdout.split("\n") if name)


def anchors(text: str) -> frozenset[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    found: list[str] = []
    for line in _FENCE.sub("", text).splitlines():
        heading = re.match(r"#{1,6} +(.+?)\s*#*$", line)
        if heading:
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            n = sum(
                s == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", s) is not None for s in found
            )
            found.append(f"{slug}-{n}" if n else slug)
    return frozenset(found)


def dead_links(pages: Sequence[Path], below: Path = ROOT) -> list[str]:
    """Links of these pages that lead nowhere within the repository; others are not asked."""
    dead = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for first, second in _LINK.findall(_CODE.sub("", _FENCE.sub("", text))):
            target = first or second
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists():
                dead.append(f"{page.relative_to(below)}: {target}")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
                dead.append(f"{page.relative_to(below)}: {target} (no such heading)")
    return dead


# -- the command ----------------------------------------------------------------------------------


def _words(text: str) -> str:
    return " ".join(str(text).split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|") or " "


PAGES: Final[dict[Path, Callable[[], str]]] = {
    DOCS / "configuration.md": configuration,
    DOCS / "gateway-configuration.md": gateway,
    DOCS / "crd.md": resource,
    DOCS / "metrics.md": metrics,
    DOCS / "acts.md": lambda: acts.page(_table, _MADE),
    DOCS / "routing.md": lambda: routing(_table, _MADE),
    DOCS / "schemas" / "settings.schema.json": lambda: _schema(settings_schema),
    DOCS / "schemas" / "routing.schema.json": lambda: _schema(routing_schema),
    DOCS / "schemas" / "gateway.schema.json": lambda: _schema(gateway_schema),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the pages; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/docs", description=(__doc__ or "").split("\n")[1]
    )
    parser.add_argument("--check", action="store_true", help="write nothing, complain instead")
    options = parser.parse_args(arguments)
    problems = []
    for page, make in PAGES.items():
        wanted = make()
        if page.exists() and page.read_text(encoding="utf-8") == wanted:
            continue
        if options.check:
            problems.append(f"{page.relative_to(ROOT)} is not what the code says; run scripts/docs")
        else:
            page.write_text(wanted, encoding="utf-8")
            sys.stdout.write(f"wrote {page.relative_to(ROOT)}\n")
    problems += [f"dead link in {link}" for link in dead_links(documents())]
    for problem in problems:
        sys.stderr.write(problem + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands of a parser."""
    found = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {name: each for choices in found for name, each in choices.items()}


def options_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The options of a parser, by what is typed."""
    return dict(parser._option_string_actions)
