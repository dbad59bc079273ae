"""The page of the routing file: its keys from the code, and examples whose results the code works out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from pydantic.fields import FieldInfo

from notifier.routing.attributes import ALWAYS, KNOWN, RESERVED, SOMETIMES
from notifier.routing.models import (
    FOREIGN,
    BasicAuth,
    EmailConfig,
    File,
    FileConfig,
    HttpConfig,
    LocalConfig,
    PagerDutyConfig,
    ReceiverSection,
    RouteSection,
    SlackConfig,
    Templates,
    UrlConfig,
    WebhookConfig,
)
from notifier.routing.parse import parse
from notifier.routing.tree import resolve
from syncer.configfile import Section, fields_of, group_of, listed_group_of, marked
from syncer.fields import kind_of

_HEAD: Final = """\
The routing file says who gets which notification. The controller follows it: a change is in force
within about a second, and a file that cannot be used is refused while the last good one stays. Its
format is the replaced controller's, which is like Alertmanager's.

- [`notifier check`](notifier.md#check) finds mistakes in it, [`notifier routes`](notifier.md#routes) shows
  the tree, and who would get a notification.
- An unknown key is a warning in the controller's log and an error of `notifier check`. What looks as if it
  worked and does not is a warning of both. A value of a wrong type, a receiver that is not there, an
  invalid pattern, or a missing credential refuses the file; the log names the first nine mistakes.
- Values are texts: `5` is the text "5". Anchors and merge keys may be used.

The shortest file that works; everything goes to the controller's own output:

```yaml
# example: routing
# yaml-language-server: $schema=./routing.schema.json
route:
  receiver: console
receivers:
  - name: console
    consoleConfigs:
      - enabled: true
```

## How a notification finds its receivers

The routes below a route are tried in order. The first that matches takes the notification, and no later
one is tried, unless it says `continue: true`. Within a route that matches, the routes below it are
tried in the same way; if none of them takes the notification, the route's own receiver gets it. A
notification that no route takes goes to the receiver of the root.
"""
_EXAMPLE: Final = """\
route:
  receiver: chat
  routes:
    - match: {namespace: payments}
      receiver: payments
      continue: true
    - match: {priority: Critical}
      receiver: pager
      routes:
        - matchRe: {team: "^(db|storage)$"}
          receiver: databases
    - match: {type: StatusUpdate}
      receiver: log
receivers:
  - name: chat
    slackConfigs: [{credentialRef: slack-ops}]
  - name: pager
    pagerdutyConfigs: [{credentialRef: pagerduty-key}]
    slackConfigs: [{credentialRef: slack-ops}]
  - name: databases
    pagerdutyConfigs: [{credentialRef: pagerduty-databases}]
  - name: payments
    allowedNamespaces: [payments]
    emailConfigs:
      - to: payments@example.org
        from: Alerts <alerts@example.org>
        smarthost: mail.example.org:587
        username: alerts
        credentialRef: smtp-password
  - name: log
    logConfigs: [{enabled: true}]
"""
#: Notifications that the page sends through the example.
_TRIED: Final = (
    "priority=High",
    "priority=Critical",
    "priority=Critical,team=db",
    "priority=Critical,team=db-europe",
    "priority=Critical,namespace=payments",
    "priority=Low,namespace=payments",
    "priority=Low,type=StatusUpdate",
)
#: The mappings of the file by the names that the page gives them.
MAPPINGS: Final[Mapping[str, type[Section]]] = {
    "file": File,
    "route": RouteSection,
    "receiver": ReceiverSection,
    "templates": Templates,
    "slackConfigs": SlackConfig,
    "pagerdutyConfigs": PagerDutyConfig,
    "teamsConfigs": UrlConfig,
    "emailConfigs": EmailConfig,
    "webhookConfigs": WebhookConfig,
    "httpConfig": HttpConfig,
    "basicAuth": BasicAuth,
    "consoleConfigs": LocalConfig,
    "fileConfigs": FileConfig,
    "logConfigs": LocalConfig,
}
#: What each mapping is called on the page.
_TITLES: Final = {
    "file": "The file",
    "route": "A route",
    "receiver": "A receiver",
    "templates": "`templates` of a receiver",
    "httpConfig": "`httpConfig` of a webhook",
    "basicAuth": "`basicAuth` of a webhook",
}
_QUIRKS: Final = """\
## When a receiver cannot be reached

A receiver, or the route that names it, may have a `fallback`: the receiver that gets what the first one
cannot be told.

```yaml
# example: routing
route:
  receiver: pager
receivers:
  - name: pager
    pagerdutyConfigs: [{credentialRef: pagerduty-key}]
    fallback: chat
    fallbackAfter: 3m
  - name: chat
    slackConfigs: [{credentialRef: slack-ops}]
```

The channels of the fallback are used for a notification, each once, as soon as *one* channel of the
receiver has ended without success (refused for good, or its attempts used up), or has had none
`fallbackAfter` (default `10m`) after it was routed. That time matters in a longer outage: while a circuit
breaker is open, a credential is missing, or a wrong secret is waited for, attempts wait and are not used
up. Name a time that is shorter than Alertmanager's `group_interval`: it begins anew with each newer
notification of an incident.

- All of it is frozen in the plan when the notification is routed, and on record there: `syncer explain`
  says for what a channel stands by. The status shows it as `Standby`, and as `NotNeeded` once all the
  others have arrived.
- The attempts of the receiver go on. If it comes back, it gets the notification as well, once.
- A notification that only its fallback got is `PartiallySent`; one that needed none is `Sent`, and a
  channel that was not needed counts in no number.
- The end of an incident goes to the fallback too where it is open there.
- There is one hop: what a fallback names as its own fallback is not used for it. So two receivers may be
  each other's.
- What an operator holds or drops for a receiver (`syncer hold --receiver`) is held or dropped for its
  fallback, unless another receiver needs that. A superseded notification needs no fallback.
- The fallback's `allowedNamespaces` hold for it as for any receiver.

## What does less than it seems to

These are the replaced controller's ways, kept because files rely on them. Each is a warning.

- A receiver that lists nothing is not silent: it delivers to the console.
- `enabled: false` switches nothing off: what is listed is delivered.
- A route that matches, does not continue and has no receiver ends the walk. The notification then goes
  to the console or to a route above that has a receiver, never to the root's receiver.
- A pattern without `^` and `$` is found anywhere in the value.
- Values are case-sensitive: `priority: critical` never matches, since it is `Critical`.
"""


def routing(table: Callable[[Sequence[str], Sequence[Sequence[str]]], str], made: str) -> str:
    """
    Return the page.

    Args:
        table: Makes a table of a head and rows.
        made: The line that says that the page is made.
    """
    out = [f"# Routing\n\n{made}", _HEAD, f"```yaml\n# example: routing\n{_EXAMPLE}```\n"]
    out.append("With this file (`delivery.email.enabled` is true):\n")
    out.append(table(("a notification with", "goes to the receivers", "by the channels"), _tried()))
    out.append("## What routes match\n")
    out.append(
        "Attributes are flat names with texts. `namespace` and `name` are the object's own, which no"
        " author can choose otherwise; then come fields of the spec and of its context; then"
        " `spec.extensions`, in which an author may use any name that is not reserved. Labels and"
        " annotations take no part. `type` and `priority` are always there.\n"
    )
    out.append(table(("attribute", "values"), _attributes()))
    out.append(_QUIRKS)
    out.append("## Every key\n")
    for name, keys in MAPPINGS.items():
        out.append(f"### {_TITLES.get(name, f'An entry of `{name}`')}\n")
        rows = [
            (f"`{field.alias or name}`", _kind(field), str(field.description))
            for name, field in fields_of(keys)
        ]
        out.append(table(("key", "type", ""), rows))
    out.append("## Keys of other programs\n")
    out.append("Nothing reads them; each is a warning, which says what to do instead.\n")
    out.append(table(("key", "instead"), [(f"`{k}`", f"{fix}.") for k, fix in FOREIGN.items()]))
    return "\n".join(out)


def examples(page: str) -> Iterator[str]:
    """Return the examples of a page that are whole routing files."""
    yield from re.findall(
        r"^```yaml\n# example: routing\n(.*?)^```", page, re.MULTILINE | re.DOTALL
    )


def _tried() -> list[tuple[str, ...]]:
    config = parse(_EXAMPLE, native=frozenset({"email"}))
    rows: list[tuple[str, ...]] = []
    for text in _TRIED:
        found = resolve(config, dict(pair.split("=") for pair in text.split(",")))
        shown = ", ".join(f"`{pair}`" for pair in text.split(","))
        rows.append(
            (shown, ", ".join(found.receivers), ", ".join(f"`{c}`" for c in found.channels))
        )
    return rows


def _attributes() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name in KNOWN:
        values = {**ALWAYS, **SOMETIMES}.get(name, ())
        text = ", ".join(f"`{value}`" for value in values) if values else "any text"
        rows.append((f"`{name}`", "of the object" if name in RESERVED else text))
    return rows


def _kind(field: FieldInfo) -> str:
    inner, listed = group_of(field.annotation), listed_group_of(field.annotation)
    names = {model: name for name, model in MAPPINGS.items() if name in _TITLES}
    kind = kind_of(field)
    if inner is not None:
        kind = f"`{names[inner]}`" if inner in names else "mapping"
    elif listed is not None:
        kind = f"list of `{names[listed]}`" if listed in names else "list"
    elif marked(field, "typed"):
        kind = "YAML" if "Any" in str(field.annotation) else kind.replace("string", "quoted string")
    return f"{kind}, required" if marked(field, "required") else kind
