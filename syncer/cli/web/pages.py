"""
The pages: what was read becomes HTML, and nothing is read here.

No I/O, no clock.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from syncer.cli.doctor.leases import LeaseFacts
from syncer.cli.doctor.result import Grade, Result
from syncer.cli.explanation import next_step
from syncer.cli.output import in_words
from syncer.cli.web.entries import (
    DELETING,
    PHASES,
    QUARANTINE,
    STATES,
    Entry,
    Placed,
    Query,
    position_of,
)
from syncer.cli.web.html import Safe, join, tag
from syncer.cli.web.layout import ago, badge, command, link, link_to, moment_of, page, table
from syncer.cli.web.receivers import MOST, Receiver
from syncer.cli.web.source import Head, Heads, Known, Overview
from syncer.cli.web.story import Moment, tell
from syncer.model.attempt import receiver_of
from syncer.model.resource import NotificationRequest
from syncer.rules.advice import ADVICE

#: Namespaces that the list offers to choose from.
_OFFERED: Final = 200
_TONES: Final = {Grade.OK: "good", Grade.WARN: "odd", Grade.FAIL: "bad", Grade.UNKNOWN: "odd"}
#: What `kubectl ledger` does with it is said where it is shown.
_DOCTOR: Final = "kubectl ledger doctor"


@dataclass(frozen=True, slots=True)
class Totals:
    """
    Totals over all notifications: how many are in each phase, and their namespaces.

    `complete` once all were listed since the start, `cut` if there are more than are kept.
    """

    phases: Mapping[str, int]
    namespaces: Sequence[str]
    complete: bool
    cut: bool


# -- the list -------------------------------------------------------------------------------------


def listed(
    entries: Sequence[Entry], heads: Heads, query: Query, totals: Totals, placed: Placed, *,
    more: bool, missing: Sequence[str],
) -> str:  # fmt: skip
    """
    Return a page of the list.

    Args:
        entries: To show.
        heads: What their logs say.
        query: What was asked for.
        totals: Of all.
        placed: What operators hold, and the time.
        more: Whether more match.
        missing: What could not be read.
    """
    head = ("Notification", "Phase", "Age", "Attempts", "Channels", "Notes")
    rows = [_row(e, heads.known.get(e.uid), placed) for e in entries]
    body: list[object] = [_totals(totals), _filters(query, totals)]
    body.append(
        table("Newest first", head, rows)
        if rows
        else tag("p", "No notification matches." if totals.complete else "Still reading …")
    )
    body.append(_pager(entries, query, more=more))
    if heads.missing:
        missing = [*missing, heads.missing]
    return page("Notifications", "/", body, events="/events", missing=missing)


def _totals(totals: Totals) -> Safe:
    number = sum(totals.phases.values())
    parts: list[object] = [tag("strong", f"{number:,}"), " notifications"]
    parts.append("" if totals.complete else " read so far")
    for phase, count in sorted(totals.phases.items()):
        if count:
            name = phase.lower() or "none"
            parts += [" ", tag("a", badge(phase), f" {count:,}", href=link("/", {"phase": name}))]
    if totals.cut:
        parts.append(" There are more than the explorer keeps: the oldest are not shown.")
    return tag("p", parts, class_="totals")


def _filters(query: Query, totals: Totals) -> Safe:
    def choice(name: str, label: str, chosen: str, offered: Iterable[tuple[str, str]]) -> Safe:
        options = [tag("option", "any", value="")]
        options += [
            tag("option", text, value=value, selected=value == chosen) for value, text in offered
        ]
        return tag("label", label, tag("select", options, name=name))

    def field(name: str, label: str, value: str, hint: str) -> Safe:
        made = tag("input", type="search", name=name, value=value, placeholder=hint)
        return tag("label", label, made)

    namespaces = list(totals.namespaces[:_OFFERED])
    if query.namespace and query.namespace not in namespaces:
        namespaces.append(query.namespace)
    return tag(
        "form",
        field("q", "Search", query.text, "name, channel, error or event"),
        choice("phase", "Phase", query.phase, [(p, p) for p in PHASES]),
        choice("state", "State", query.state, STATES.items()),
        choice("namespace", "Namespace", query.namespace, [(n, n) for n in namespaces]),
        field("receiver", "Receiver", query.receiver, "ops or ops*"),
        tag("button", "Show", type="submit"),
        tag("a", "Clear", href="/"),
        method="get", action="/", role="search", class_="filters",
    )  # fmt: skip


def _row(entry: Entry, head: Head | None, placed: Placed) -> tuple[object, ...]:
    name = tag("a", entry.key, href=link_to(entry.namespace, entry.name))
    channels = ", ".join(c.name for c in entry.channels[:3])
    more = len(entry.channels) - 3
    return (
        name, badge(entry.phase), ago(entry.created, placed.now), str(entry.attempts),
        f"{channels} and {more} more" if more > 0 else channels or "none yet",
        "; ".join(_notes(entry, head, held=placed.hold(entry))),
    )  # fmt: skip


def _notes(entry: Entry, head: Head | None, *, held: bool) -> list[str]:
    """What deserves attention, the worst first; as `syncer list` says it."""
    quarantined = bool(entry.flags & QUARANTINE) or (head is not None and head.unreadable)
    notes = ["quarantined"] if quarantined else []
    notes += ["held"] if held else []
    notes += ["being deleted"] if entry.flags & DELETING else []
    notes += [f"{entry.unknown} unknown"] if entry.unknown else []
    notes += [f"{head.unsynced} unsynced"] if head is not None and head.unsynced > 0 else []
    if entry.failure is not None:
        notes.append(f"{entry.failure.channel}: {entry.failure.error}")
    return notes


def _pager(entries: Sequence[Entry], query: Query, *, more: bool) -> Safe | None:
    links = []
    if query.after is not None:
        links.append(tag("a", "The newest", href=link("/", query.filters), rel="first"))
    if more:
        after = {**query.filters, "after": position_of(entries[-1]).token}
        links.append(tag("a", "Older", href=link("/", after), rel="next"))
    return tag("nav", links, aria_label="Further notifications", class_="pager") if links else None


# -- one notification -----------------------------------------------------------------------------


def notification(known: Known, *, events: str) -> str:
    """Return the page of one notification; `events` is the address of the stream of its changes."""
    story = tell(known.request, known.log)
    missing = list(known.missing)
    if known.gone:
        missing.append("The object no longer exists: this is its log.")
    body: list[object] = []
    if known.request is not None:
        body.append(_facts(known.request, known))
    body += [_next(known), _findings(known), _channels(known)]
    body.append(tag("h2", "What happened"))
    if story.left_out:
        body.append(tag("p", f"{story.left_out} earlier moments are not shown."))
    body.append(
        tag("ol", [_moment(m, known.now) for m in story.moments], class_="story")
        if story.moments
        else tag("p", "Nothing is known.")
    )
    body += [tag("h2", "More"), _commands(known)]
    return page(known.key, "", body, events=events, missing=missing)


def _facts(request: NotificationRequest, known: Known) -> Safe:
    status = request.status
    owner = known.explanation.owner if known.explanation is not None else None
    pairs: list[tuple[str, object]] = [
        ("Phase", [badge(status.phase), " ", status.reason]),
        ("Message", status.message or None),
        ("Event", request.event or None),
        ("Created", moment_of(request.created, known.now)),
        ("Priority", request.priority or "Medium"),
        ("Attempts", str(status.total_attempts)),
        ("Held", request.hold),
        ("Journaled", f"in the outage {status.journal}" if status.journal else None),
        ("Owner", f"{owner.holder}, shard {owner.shard}" if owner and owner.holder else None),
        ("Uid", known.uid),
    ]
    return tag("dl", [[tag("dt", n), tag("dd", v)] for n, v in pairs if v is not None])


def _next(known: Known) -> Safe | None:
    found = known.explanation
    if found is None:
        return None
    notes = [tag("li", note) for note in found.notes]
    return tag(
        "section", tag("h2", "What comes next"), tag("p", next_step(found), class_="next"),
        tag("ul", notes) if notes else None,
    )  # fmt: skip


def _findings(known: Known) -> Safe | None:
    if not known.findings:
        return None
    items = [
        tag(
            "li", badge(f.kind.value, "bad"), " ", f.text, ". ", str(ADVICE[f.kind]), ". ",
            command(f"kubectl ledger verify --repair --dry-run {shlex.quote(known.key)}"),
        )
        for f in known.findings
    ]  # fmt: skip
    return tag("section", tag("h2", "Log and object disagree"), tag("ul", items))


def _channels(known: Known) -> Safe | None:
    if known.explanation is None or not known.explanation.channels:
        return None
    rows = []
    for c in known.explanation.channels:
        notes = [f"one more attempt requested by {c.ordered}"] if c.ordered else []
        notes += [f"last due attempt was not made: {c.skip}"] if c.skip else []
        name = receiver_of(c.channel_state.channel)
        rows.append((
            tag("a", c.channel_state.channel, href=link("/", {"receiver": name})),
            badge(c.channel_state.state.value), c.channel_state.reason,
            str(c.channel_state.attempts), moment_of(c.due, known.now) or "none planned",
            "; ".join(notes),
        ))  # fmt: skip
    head = ("Channel", "State", "Because", "Attempts", "Next attempt", "Notes")
    return join([tag("h2", "Channels"), table("Where it goes", head, rows)])


def _moment(moment: Moment, now: int) -> Safe:
    facts = []
    if moment.attempt:
        facts.append(f"attempt {moment.attempt}")
    if moment.wait >= 0 and moment.attempt:
        facts.append(f"after a wait of {_span(moment.wait)}")
    if moment.duration >= 0 and moment.attempt:
        facts.append(f"took {_span(moment.duration)}")
    if moment.code:
        facts.append(f"code {moment.code}")
    if moment.by:
        facts.append(f"requested by {moment.by}" if moment.attempt else f"by {moment.by}")
    if moment.restored:
        facts.append("known from the status alone")
    return tag(
        "li",
        tag("p", badge(moment.title, moment.tone), " ", tag("b", moment.channel or None),
            tag("span", moment_of(moment.at, now) or "time not known", class_="at")),
        tag("p", ", ".join(facts), class_="facts") if facts else None,
        tag("p", moment.detail, class_="detail") if moment.detail else None,
        class_=moment.tone or None,
    )  # fmt: skip


def _span(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s" if ms < 60_000 else in_words(ms)


def _commands(known: Known) -> Safe:
    key = shlex.quote(known.key)
    offered = [
        ("Every record of its log", f"kubectl ledger explain {key} --records"),
        ("The same as text", f"kubectl ledger explain {key}"),
        ("One more attempt", f"kubectl ledger resend {key} --reason 'TEXT'"),
    ]
    if known.request is not None and known.request.status.uncertain:
        resolve = f"kubectl ledger resolve {key} --as delivered --reason 'TEXT'"
        offered.append(("Put on record that it arrived", resolve))
    return tag("dl", [[tag("dt", n), tag("dd", command(text))] for n, text in offered])


# -- receivers ------------------------------------------------------------------------------------


def receivers(overview: Overview, *, missing: Sequence[str]) -> str:
    """Return the page of all receivers, and what could not be read (`missing`)."""
    now = overview.now
    found = sorted(
        overview.receivers.values(), key=lambda r: (-r.waiting, -r.refused, r.name, r.channel)
    )
    head = (
        "Receiver",
        "Last hour",
        "Failed in it",
        "Waiting",
        "Oldest due",
        "Kept back",
        "Last error",
    )
    body: list[object] = [
        tag(
            "p", "Counted from the statuses. Circuit breakers are in the controller's memory; shown is what"
            " the logs record of them: why the last due attempt of a waiting notification was not made.",
        ),
        table("Receivers", head, [_receiver(r, now) for r in found])
        if found
        else tag("p", "No notification has been routed yet."),
    ]  # fmt: skip
    if overview.more:
        body.append(tag("p", f"There are more than {MOST} channels; the others are not shown."))
    if overview.missing:
        missing = [*missing, overview.missing]
    return page("Receivers", "/receivers", body, events="/events", missing=missing)


def _receiver(r: Receiver, now: int) -> tuple[object, ...]:
    failed = f"{r.refused} of {r.tried}" if r.tried else "none tried"
    if r.unknown:
        failed += f", {r.unknown} unknown"
    waits = tag("a", f"{r.waiting:,}", href=link("/", {"receiver": r.name, "state": "unfinished"}))
    return (
        tag("a", r.channel, href=link("/", {"receiver": r.name})), f"{r.tried} attempts", failed,
        waits if r.waiting else "none", moment_of(r.due, now) or "none",
        badge(r.skip, "bad") if r.skip else "nothing on record",
        [r.error, " ", ago(r.error_at, now), " ago"] if r.error else "none",
    )  # fmt: skip


# -- shards and health ----------------------------------------------------------------------------


def shards(facts: LeaseFacts, *, missing: Sequence[str]) -> str:
    """Return the page of shards and their owners, and what could not be read (`missing`)."""
    body: list[object] = []
    if facts.problem:
        missing = [*missing, f"the owners of the shards are not known: {facts.problem}"]
    if facts.installation:
        body.append(tag("p", "Installation ", tag("code", facts.installation)))
    if facts.unowned:
        body.append(
            tag(
                "p", badge(f"{len(facts.unowned)} without an owner", "bad"),
                " Their notifications are not sent. Start a replica, or find out why those that run are not"
                " ready: ",
                command(_DOCTOR),
            )
        )  # fmt: skip
    owners = Counter(holder for holder in facts.holders if holder)
    if owners:
        rows = [
            (holder, str(count), ", ".join(str(n) for n, h in enumerate(facts.holders) if h == holder))
            for holder, count in sorted(owners.items())
        ]  # fmt: skip
        body += [tag("h2", "Owners"), table("Replicas", ("Replica", "Shards", "Which"), rows)]
    if facts.holders:
        rows2 = [
            (str(n), holder or badge("no owner", "bad")) for n, holder in enumerate(facts.holders)
        ]
        body += [tag("h2", "Shards"), table("Shards", ("Shard", "Owner"), rows2)]
    return page("Shards", "/shards", body, missing=missing)


def health(results: Sequence[Result], *, missing: Sequence[str]) -> str:
    """Return the page of the doctor's findings, and what could not be read (`missing`)."""
    order = {Grade.FAIL: 0, Grade.WARN: 1, Grade.UNKNOWN: 2, Grade.OK: 3}
    found = sorted(results, key=lambda r: order[r.grade])
    grades = Counter(r.grade for r in results)
    summary = ", ".join(f"{grades[grade]} {grade.value}" for grade in order)
    rows = [(badge(r.grade.value, _TONES[r.grade]), r.name, r.text, r.fix or "") for r in found]
    body = [
        tag("p", summary, class_="totals"),
        table("Findings", ("Grade", "Check", "Found", "Fix"), rows) if rows else None,
        tag(
            "p", "Checks that need the controller's permissions (CRD, permissions, writing to Redis)"
            " are made by ", command(_DOCTOR), "; logs are compared with objects by ",
            command("kubectl ledger verify"), ", and repaired by ",
            command("kubectl ledger verify --repair --dry-run"), " first.",
        ),
    ]  # fmt: skip
    return page("Health", "/health", body, missing=missing)


def problem(title: str, text: str) -> str:
    """Return a page that reports an error."""
    return page(title, "", [tag("p", text), tag("p", tag("a", "All notifications", href="/"))])
