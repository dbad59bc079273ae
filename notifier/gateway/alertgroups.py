"""
Groups of alerts as Alertmanager and Grafana send them: a notification for each group, or for each alert.

The identity of a group consists of the receiver, the group key, and each alert's fingerprint, status and
start. Retries, the next unchanged flush and the peers of a highly available Alertmanager share these.
Values that may differ between peers are left out: annotations, the peer's address, the end, the reason.

A repeat (`repeat_interval`) has the same identity as the event that it repeats, but a later slot
(`notifier.gateway.identity`). With one notification for each alert, every flush contains unchanged alerts,
so only a flush that Alertmanager calls a repeat is one; versions before 0.32 do not say so.

An incident is identified by the receiver and the group key, or for single alerts by the receiver and the
fingerprint: these do not change while alerts join and end. It is resolved with its last alert, never by a
truncated payload. Severity and priority are those of the most urgent firing alert; if none fires, those of
the most urgent ended alert.

With one notification for each alert, the oldest hundred firing alerts have incidents of their own, and the
others share the group's incident. This selection changes from flush to flush, and Prometheus repeats an
ended alert for a quarter of an hour, so no payload shows which incidents are open. The API server knows.
Every open incident gets an end, however many there are: each had a beginning. If the API server knows
nothing of an incident, its notifications may have been deleted, so the hundred alerts that ended last get
an end in that case, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

import orjson

from notifier.gateway.draft import (
    ALERTS,
    DATA_BYTES,
    Draft,
    Incoming,
    Kind,
    Options,
    Reader,
    Refused,
    json_object,
    priority_of,
    worst_of,
)
from syncer.model.incident import FIRING, RESOLVED, STATES
from syncer.model.resource import Json
from syncer.model.times import format_time
from syncer.rules.text import cut

_REPEAT: Final = "repeat interval elapsed"
#: Service, member and label of an alert's links; an absent one is left out.
_LINKS: Final = (
    ("prometheus", "generatorURL", "Expression"),
    ("grafana", "dashboardURL", "Dashboard"),
    ("grafana", "panelURL", "Panel"),
    ("grafana", "silenceURL", "Silence"),
)
#: Most alerts of a group: sorting them holds the interpreter's lock. Alertmanager's own groups have half as
#: many in 8 MiB.
_MOST: Final = 50_000
#: Most characters of an annotation that are shown, and most annotations of one alert.
_NOTE: Final = 1000
_NOTES: Final = 8
#: Most members of a map in the data for templates.
_TEXTS: Final = 64
#: Extensions that the gateway sets; an alert's label of such a name gets a prefix.
_OWN: Final = ("status", "receiver")


@dataclass(frozen=True, slots=True)
class _Alert:
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts: int
    ends: int
    fingerprint: str
    links: tuple[tuple[str, str, str], ...]
    members: Json


def _kind(
    name: str,
    prefix: str,
    version: str,
    described: str,
    *,
    patience: float,
    key: Callable[[Reader], tuple[object, ...]] = lambda _: (),
) -> Kind:
    """
    Return the kind of a program that sends groups.

    Args:
        name: Name in the gateway's file, and beginning of the text by which people search for an event.
        prefix: Prefix of the names of its objects.
        version: Version of its webhook.
        described: Description of the version, for the refusal of another one.
        patience: Seconds for which the program waits for an answer, or a little less.
        key: Returns the parts of a group's identity that come before receiver and group key.
    """

    def read(incoming: Incoming, options: Options) -> tuple[Draft, ...]:
        group = Reader(json_object(incoming.body))
        if group.text("version", None) != version:
            raise Refused(f"must be {version}, {described}", path="version")
        return drafts_of(group, options, program=name, key=key(group))

    return Kind(
        name=name, prefix=prefix, read=read, patience=patience, max_body=8 << 20, window=1800.0
    )


def drafts_of(
    group: Reader, options: Options, *, program: str, key: tuple[object, ...]
) -> tuple[Draft, ...]:
    """
    Make drafts of a group.

    Args:
        group: The payload.
        options: Options of the source in the gateway's file.
        program: The program that sent it; the text by which people search for an event begins with it.
        key: Parts of the group's identity that come before receiver and group key.

    Raises:
        Refused: a member has another form.
    """
    group.choice("status", STATES)
    group.text("groupKey", None)
    alerts = [_alert(a) for a in islice(group.objects("alerts"), _MOST + 1)]
    if len(alerts) > _MOST:
        raise Refused(f"has more than {_MOST} alerts", status=413, path="alerts")
    if not alerts:
        raise Refused("must hold at least one alert", path="alerts")
    reading = _Reading(group, options, program, key)
    if not options.each:
        return (reading.whole(alerts),)
    # Oldest first: these keep incidents of their own while newer alerts come and go.
    firing = sorted(
        (a for a in alerts if a.status == FIRING), key=lambda a: (a.starts, a.fingerprint)
    )
    over = sorted(
        (a for a in alerts if a.status == RESOLVED), key=lambda a: (-a.ends, a.fingerprint)
    )
    found = [reading.single(alert) for alert in firing[:ALERTS]]
    found += [reading.end(alert, unknown=n < ALERTS) for n, alert in enumerate(over)]
    if firing[ALERTS:]:
        found.append(reading.whole(firing[ALERTS:]))
    elif over and not reading.cut_off:
        found.append(reading.end_of_group(over))
    return tuple(found)


def _alert(of: Reader) -> _Alert:
    labels = of.texts("labels")
    # Alertmanager always sends a fingerprint; programs that imitate it may not.
    fingerprint = of.text("fingerprint") or "\n".join(f"{k}={v}" for k, v in sorted(labels.items()))
    return _Alert(
        status=of.choice("status", STATES),
        labels=labels,
        annotations=of.texts("annotations"),
        starts=of.time("startsAt"),
        ends=of.time("endsAt"),
        fingerprint=fingerprint,
        links=tuple((service, of.text(key), label) for service, key, label in _LINKS),
        members=of.members,
    )


class _Reading:
    """Makes the drafts of one group."""

    def __init__(
        self, group: Reader, options: Options, program: str, key: tuple[object, ...]
    ) -> None:
        self._group = group
        self._options = options
        self._program = program
        self._key = (*key, group.text("receiver"))
        self._incident = (*self._key, "group", group.text("groupKey"))
        self._repeat = group.text("notification_reason") == _REPEAT
        #: Number of alerts of the group that are missing from the payload.
        self.cut_off = group.number("truncatedAlerts")
        # Not all alerts: expressions are evaluated for each of a hundred drafts, each time over 8 MiB.
        self._few = {**group.members, "alerts": group.members["alerts"][:ALERTS]}

    def _starts(self, alert: _Alert) -> int:
        return 0 if self._options.ignore_starts_at else alert.starts

    def _extensions(self, status: str, labels: dict[str, str]) -> dict[str, str]:
        renamed = {f"label_{k}" if k in _OWN else k: v for k, v in labels.items()}
        return {"status": status, "receiver": self._group.text("receiver"), **renamed}

    def whole(self, alerts: list[_Alert]) -> Draft:
        """One notification for these alerts."""
        group = self._group
        common = group.texts("commonLabels")
        firing = [a for a in alerts if a.status == FIRING]
        # An alert that is missing from the payload may be firing.
        status = FIRING if firing or self.cut_off else RESOLVED
        # Programs that imitate Alertmanager may have the severity in the common labels only.
        usual = common.get("severity", "")
        severity = worst_of(a.labels.get("severity", usual) for a in firing or alerts)
        priority = priority_of(severity)
        count = len(firing) or ("" if self.cut_off else len(alerts))
        more = max(0, len(alerts) - ALERTS) + self.cut_off
        lines = [_shown(a) for a in alerts[:ALERTS]]
        if more:
            lines.append(f"… and {more} more alerts of this group.")
        return Draft(
            identity=(
                *self._key, group.text("groupKey", None), self.cut_off,
                sorted((a.fingerprint, a.status, self._starts(a)) for a in alerts),
            ),
            view=group.members,
            event=f"{self._program}:{group.text('groupKey')}",
            type=_type(status, priority),
            priority=priority,
            subject=f"[{status.upper()}:{count}] {_title(group, len(alerts))}".replace(":]", "]", 1),
            body="\n\n".join(lines),
            severity=severity,
            extensions=self._extensions(status, common),
            links=_links(self._program, group, alerts[0]),
            since=max(map(self._starts, alerts)),
            # With `each`, every flush contains unchanged alerts, also in the rest that this draft is for.
            repeats=self._repeat or not self._options.each,
            repeat=self._repeat,
            incident=self._incident,
            group="" if self._options.each else group.text("groupKey"),
            nearest=self._view(alerts[0]) if self._options.each else None,
            state=status,
            data=_data(group, status, alerts, self.cut_off),
        )  # fmt: skip

    def end(self, alert: _Alert, *, unknown: bool) -> Draft:
        """The end of one alert, wanted if the alert's incident is open."""
        return Draft(
            identity=None,
            view=self._view(alert),
            incident=self._incident_of(alert),
            state=RESOLVED,
            whole=partial(self.single, alert),
            unknown=unknown,
        )

    def end_of_group(self, alerts: list[_Alert]) -> Draft:
        """The end of the group's incident, wanted if that is open."""
        return Draft(
            identity=None,
            view=self._group.members,
            incident=self._incident,
            state=RESOLVED,
            nearest=self._view(alerts[0]),
            whole=partial(self.whole, alerts),
        )

    def _view(self, alert: _Alert) -> Json:
        return {**self._few, "alert": alert.members}

    def _incident_of(self, alert: _Alert) -> tuple[object, ...]:
        return (*self._key, "alert", alert.fingerprint)

    def single(self, alert: _Alert) -> Draft:
        """One notification for one alert."""
        group = self._group
        severity = alert.labels.get("severity", "")
        priority = priority_of(severity)
        incident, starts = self._incident_of(alert), self._starts(alert)
        parts = (alert.labels.get("alertname", ""), alert.annotations.get("summary", ""))
        subject = ": ".join(filter(None, parts)) or alert.fingerprint
        return Draft(
            identity=(*incident, alert.status, starts),
            view=self._view(alert),
            event=f"{self._program}:{alert.fingerprint}",
            type=_type(alert.status, priority),
            priority=priority,
            subject=f"[{alert.status.upper()}] {subject}",
            body=_shown(alert),
            severity=severity,
            extensions=self._extensions(alert.status, alert.labels),
            links=_links(self._program, group, alert),
            since=starts,
            repeats=self._repeat,
            repeat=self._repeat,
            incident=incident,
            state=alert.status,
            data=_data(group, alert.status, [alert], 0),
            opposite=(*incident, RESOLVED if alert.status == FIRING else FIRING, starts),
        )  # fmt: skip


def _data(group: Reader, status: str, alerts: list[_Alert], more: int) -> str:
    """Return the data for templates: the group, and as many of its alerts as fit."""
    head = {
        key: _short(group.texts(key))
        for key in ("groupLabels", "commonLabels", "commonAnnotations")
    }
    shown: list[Json] = []
    left = DATA_BYTES - len(
        orjson.dumps({"status": status, **head, "truncatedAlerts": 10**9, "alerts": []})
    )
    for alert in alerts[:ALERTS]:
        found = {
            "status": alert.status, "url": alert.links[0][1],
            "labels": _short(alert.labels), "annotations": _short(alert.annotations),
            "startsAt": alert.members.get("startsAt", ""), "endsAt": alert.members.get("endsAt", ""),
        }  # fmt: skip
        left -= len(orjson.dumps(found)) + 1
        if left < 0:
            break
        shown.append(found)
    if left < 0 and not shown:
        return ""
    more += len(alerts) - len(shown)
    return orjson.dumps(
        {"status": status, **head, "truncatedAlerts": more, "alerts": shown}
    ).decode()


def _short(texts: dict[str, str]) -> dict[str, str]:
    return {cut(key, _NOTE): cut(text, _NOTE) for key, text in islice(texts.items(), _TEXTS)}


def _type(status: str, priority: str) -> str:
    if status == RESOLVED:
        return "Completion"
    return "StatusUpdate" if priority == "Low" else "Escalation"


def _title(group: Reader, count: int) -> str:
    common, labels = group.texts("commonLabels"), group.texts("groupLabels")
    name = common.get("alertname") or ", ".join(f"{k}={v}" for k, v in sorted(labels.items()))
    summary = group.texts("commonAnnotations").get("summary", "")
    return ": ".join(part for part in (name, summary) if part) or f"{count} alerts"


def _shown(alert: _Alert) -> str:
    labels = ", ".join(f"{k}={v}" for k, v in sorted(alert.labels.items()))
    started = format_time(alert.starts, millis=False).replace("T", " ").replace("Z", " UTC")
    since = f" since {started}" if started else ""
    lines = [f"{alert.status}{since}: {cut(labels, _NOTE)}"]
    notes = sorted(alert.annotations.items())
    lines += [f"  {key}: {cut(text, _NOTE)}" for key, text in notes[:_NOTES]]
    return "\n".join(lines)


def _links(program: str, group: Reader, alert: _Alert) -> tuple[tuple[str, str, str], ...]:
    return ((program, group.text("externalURL"), "Alerts"), *alert.links)


#: Alertmanager retries on 5xx only, and not for ever: an alert that fires and resolves while requests are
#: refused is never sent. It waits for an answer until the flush ends, at least ten seconds.
ALERTMANAGER: Final = _kind(
    "alertmanager", "am", "4", "Alertmanager's format since 0.4", patience=10.0
)
#: Grafana's webhook contact point sends each flush once and waits 30 seconds for the answer; a failure is
#: final.
GRAFANA: Final = _kind(
    "grafana", "gf", "1", "Grafana's format", patience=25.0,
    key=lambda group: (group.number("orgId"),),
)  # fmt: skip
