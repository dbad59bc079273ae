"""
`syncer hold`: send nothing to a receiver, or of a kind, until a given time; `hold list`, `hold end`.

A hold is an object in the controller's namespace (`DeliveryHold`), which `kubectl` can place as well. This
command also shows whether a pattern matches anything, and how many notifications wait, by the rule that the
controller obeys.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from syncer.cli.access import Access, access, operator_name
from syncer.cli.exits import NOT_COMPARED, OK, SILENT, Misused, Refused, reason_of
from syncer.cli.explanation import Rules, explain
from syncer.cli.installation import holds_at, routed, watched
from syncer.cli.output import Columns, Table, in_words, write_answer, write_remark
from syncer.cli.resend import parse_reason
from syncer.cli.scan import Joined, Scan, objects, read_logs
from syncer.cli.times import end_of, now_here
from syncer.kube.delivery_holds import DeliveryHolds
from syncer.ledger.reading import read_log
from syncer.model.errors import ConfigError, Conflict, Gone, LedgerError, Rejected
from syncer.model.hold import LONGEST, LONGEST_RECURRING, SELECTORS, Hold
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time
from syncer.rules.holds import concerns, on_channel, selector_of, unmatched
from syncer.rules.plan import withheld
from syncer.rules.recurrence import current, currently
from syncer.rules.text import plain

#: Milliseconds that a hold still lasts once it drops; milliseconds added to twice the time of a release.
_DROPPING: Final = 3_600_000
_MORE: Final = 600_000
#: Seconds after which every replica obeys a change of a hold.
_OBEYED: Final = 5.0


async def run(options: argparse.Namespace) -> int:
    """Place, list or end holds; returns the exit code."""
    work = {None: _place, "list": _list, "end": _end}[options.act]
    if bool(options.hold) is not (options.act == "end"):
        raise Misused(
            "`hold end`, and nothing else, takes the names of holds; `hold list` shows them"
        )
    async with access(options) as at:
        holds = await holds_at(at)
        if not await holds.served():
            raise ConfigError(
                "the kind DeliveryHold is not installed: apply the chart's crds/deliveryholds.yaml"
            )
        return await work(_Here(at, holds, options))


class _Here(NamedTuple):
    """The connections and options of a command."""

    at: Access
    holds: DeliveryHolds
    options: argparse.Namespace


@dataclass
class _Count:
    """
    The result of a scan of all notifications.

    Attributes:
        now: Redis time in milliseconds, or this machine's.
        scan: The scan, with the channels of the routing file and the watched namespaces added.
        held: Number of notifications that wait for each hold, by the name of the hold.
        walked: All notifications were listed, so that the counts are valid.
        problem: Why some notifications were not counted, empty if all were.
    """

    now: int
    scan: Scan = field(default_factory=Scan)
    held: Counter[str] = field(default_factory=Counter)
    walked: bool = True
    problem: str = ""

    def of(self, hold: Hold) -> int | None:
        """Return how many notifications wait for a hold, None if that is not known."""
        return self.held[hold.name] if self.walked else None


# -- placing --------------------------------------------------------------------------------------


async def _place(here: _Here) -> int:
    options = here.options
    if not (options.until and options.reason):
        raise Misused("--until and --reason are needed to place a hold")
    patterns = {
        name: list(dict.fromkeys(w.strip() for text in given for w in text.split(",")))
        for name, given in zip(
            SELECTORS,
            (options.receiver, options.namespace, options.type, options.severity),
            strict=True,
        )
        if given
    }
    if not patterns:
        raise Misused(
            "name what to hold with --receiver, --namespace, --type or --severity; for everything, use"
            " --receiver '*'"
        )
    reason, by = plain(parse_reason(options.reason)), plain(operator_name(options.by))
    now = await _now(here.at)
    until = end_of(options.until, "--until", now)
    if not now < until <= now + LONGEST:
        raise Misused(f"--until must be in the future, and within {LONGEST // 86_400_000} days")
    spec = {**patterns, "until": format_time(until), "author": by, "reason": reason}
    name = f"hold-{secrets.token_hex(4)}"
    try:
        hold = await here.holds.create(name, spec, dry_run=True)
    except Rejected as error:
        raise Refused(f"the API server refuses the hold: {error}") from None
    # In a flood, the hold must not wait for the count: patterns that match configured names need no scan.
    at_once = options.anyway or not unmatched(hold, routed(), watched(here.at))
    if at_once and not options.dry_run:
        hold = await here.holds.create(name, spec)
    others = [h for h in (await here.holds.list())[0] if h.name != hold.name]
    count = await _counted(here, [hold], others)
    strange = unmatched(hold, count.scan.channels, count.scan.namespaces)
    # An incomplete scan may have missed the names, and placing a hold must be possible in an outage.
    if strange and count.walked and not at_once:
        raise Refused(f"{'; '.join(strange)} (--anyway places the hold all the same)")
    if not (at_once or options.dry_run):
        hold = await here.holds.create(name, spec)
    for text in (*strange, count.problem):
        write_remark(text)
    held = count.of(hold)
    end = f"until {format_time(hold.until, millis=False)} (for {in_words(hold.until - now)})"
    done = "would hold" if options.dry_run else f"hold {name}:"
    lines = [plain(f"{done} {selector_of(hold)} {end}: {_many(held)} at present")]
    if not options.dry_run:
        lines.append(f"takes effect within 5 seconds; syncer hold end {name} ends it")
    document = {**_as_json(hold, held, now), "dryRun": options.dry_run}
    write_answer(document, lines, as_json=options.json)
    return OK


def _many(held: int | None) -> str:
    return (
        "an unknown number of notifications wait"
        if held is None
        else f"{held} notification(s) wait"
    )


# -- listing --------------------------------------------------------------------------------------


async def _list(here: _Here) -> int:
    options, now = here.options, await _now(here.at)
    every = (await here.holds.list())[0]
    shown = sorted((h for h in every if now < h.until), key=lambda h: (h.until, h.name))
    acting = [h for h in currently(shown, now) if h.in_force(now)]
    count = await _counted(here, acting) if acting else _Count(now)
    names = {hold.name for hold in acting}
    Table(
        columns_of(now), json=options.json, as_json=lambda pair: _as_json(pair[0], pair[1], now)
    ).write([(hold, count.of(hold) if hold.name in names else 0) for hold in shown])
    for hold in shown:
        if hold.matched[0] == "False":
            write_remark(f"{hold.name}: {hold.matched[1]}")
    if not shown:
        write_remark("nothing is held now")
    write_remark(count.problem)
    return NOT_COMPARED if count.problem else OK


def columns_of(now: int) -> Columns:
    """Return the columns of a table of holds, each with how many wait for it, None if not known."""

    def ends(pair: tuple[Hold, int | None]) -> str:
        begins = current(pair[0], now).start
        if now < begins:
            return f"begins in {in_words(begins - now)}"
        return f"in {in_words(pair[0].until - now)}"

    def what(pair: tuple[Hold, int | None]) -> str:
        hold, recurs = pair[0], pair[0].recurrence
        when = f", {in_words(recurs.duration)} from {recurs.cron} {recurs.zone}" if recurs else ""
        how = f", lets go {hold.rate:g}/s" if hold.rate else ", drops" if hold.drop_before else ""
        return f"{selector_of(hold)}{when}{how}"

    return {
        "NAME": lambda pair: pair[0].name,
        "ENDS": ends,
        "BY": lambda pair: pair[0].author,
        "HOLDS": lambda pair: "-" if pair[1] is None else str(pair[1]),
        "WHAT": what,
        "REASON": lambda pair: pair[0].reason,
    }


def _as_json(hold: Hold, held: int | None, now: int) -> dict[str, Any]:
    """Return a hold as one JSON object; the keys are an interface, those of the spec as in the object."""
    return {
        "name": hold.name, "inForce": current(hold, now).in_force(now),
        "created": format_time(hold.created),
        "start": format_time(hold.start) or None, "until": format_time(hold.until),
        "author": hold.author, "reason": hold.reason,
        **{name: list(getattr(hold, name)) for name in SELECTORS},
        "recurrence": hold.recurrence and {
            "cron": hold.recurrence.cron, "timeZone": hold.recurrence.zone,
            "durationSeconds": hold.recurrence.duration // 1000,
        },
        "endedBy": hold.ended_by or None, "rate": hold.rate or None,
        "dropBefore": format_time(hold.drop_before) or None,
        "matched": {"True": True, "False": False}.get(hold.matched[0]), "holds": held,
    }  # fmt: skip


# -- ending ---------------------------------------------------------------------------------------


async def _end(here: _Here) -> int:
    options, now = here.options, await _now(here.at)
    known = {h.name: h for h in (await here.holds.list())[0]}
    for name in options.hold:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]}?" if near else "; `syncer hold list` lists the holds"
            raise Refused(f"there is no hold {plain(name)!r}{meant}")
    chosen = [known[name] for name in dict.fromkeys(options.hold)]
    acting = [h for h in chosen if now < h.until]
    if options.drop:
        acting = await _stopped(here, acting)
        chosen = [next((a for a in acting if a.name == h.name), h) for h in chosen]
    # Notifications younger than the drop go on and are not counted; dropped ones wait for no other hold.
    counted = [replace(h, drop_before=now) for h in acting] if options.drop else acting
    names = {h.name for h in acting}
    others = [] if options.drop else [h for h in known.values() if h.name not in names]
    count = await _counted(here, counted, others) if acting else _Count(now)
    for hold in chosen:
        held = count.of(hold)
        spec, done = _ending(here, hold, held, now)
        spec["endedBy"] = plain(operator_name(options.by))
        if hold not in acting:
            done = "has already ended"
        elif not options.dry_run:
            await _patch(here, hold, spec)
        ended = {"ended": hold in acting and not options.dry_run, "dryRun": options.dry_run}
        would = "would be: " if options.dry_run else ""
        line = plain(f"{hold.name} {selector_of(hold)}: {would}{done}")
        write_answer({**_as_json(hold, held, now), **ended}, [line], as_json=options.json)
    write_remark(count.problem)
    return OK


async def _stopped(here: _Here, holds: list[Hold]) -> list[Hold]:
    """Stop the release by holds with a rate, so that the count is what will be dropped."""
    going = {h.name for h in holds if h.rate}
    if not going or here.options.dry_run:
        return holds
    for hold in holds:
        if hold.name in going:
            await _patch(here, hold, {"rate": None})
    write_remark(
        f"nothing more is let go; counting in {_OBEYED:.0f} s, when every replica knows it"
    )
    await asyncio.sleep(_OBEYED)
    names = {h.name for h in holds}
    return [h for h in (await here.holds.list())[0] if h.name in names]


async def _patch(here: _Here, hold: Hold, spec: dict[str, Any]) -> None:
    """Change a hold, unless a person has changed it since it was read; its condition may have changed."""
    for again in (True, False):
        meta = {"resourceVersion": hold.resource_version}
        try:
            await here.holds.patch(hold.name, {"metadata": meta, "spec": spec})
        except Conflict:
            same = [h for h in (await here.holds.list())[0] if h.asks_as(hold)]
            if again and same:
                (hold,) = same
                continue
            raise Refused(
                f"the hold {hold.name} has changed meanwhile; look again, and repeat"
            ) from None
        except Gone:
            raise Refused(f"the hold {hold.name} is gone") from None
        return


def _ending(here: _Here, hold: Hold, held: int | None, now: int) -> tuple[dict[str, Any], str]:
    """Return the change of the spec that ends a hold, and the same in words."""
    if here.options.drop:
        end = format_time(now + _DROPPING)
        spec = {"rate": None, "dropBefore": format_time(now), "until": end}
        return spec, f"{_many(held)} and fail, 'dropped with hold {hold.name}'; younger ones go on"
    rate = here.options.rate
    if rate and held != 0:
        takes = 0 if held is None else round(held / rate * 1000)
        until = now + 2 * takes + _MORE if takes else max(hold.until, now + _DROPPING)
        latest = hold.since + (LONGEST if hold.recurrence is None else LONGEST_RECURRING)
        if until > latest:
            raise Refused(
                f"at {rate:g}/s that takes {in_words(takes)}, and {hold.name} lasts until"
                f" {format_time(latest, millis=False)} at most: name a higher rate"
            )
        over = f" over {in_words(takes)}" if takes else ""
        text = f"{_many(held)} and go at {rate:g}/s{over}, the oldest first; it ends at"
        return (
            {"rate": rate, "dropBefore": None, "until": format_time(until)},
            f"{text} {format_time(until, millis=False)}",
        )
    return {"until": format_time(max(now, hold.start))}, f"ended; {_many(held)} and go now"


# -- counting -------------------------------------------------------------------------------------


async def _now(at: Access) -> int:
    try:
        return await at.now()
    except SILENT:
        return now_here()


async def _counted(
    here: _Here, holds: Sequence[Hold], others: Sequence[Hold] | None = None
) -> _Count:
    """
    Count the notifications with a due attempt that each hold keeps back; one may wait for two holds.

    With `others`, attempts that those or an object's annotation keep back in any case do not count.
    """
    at, unread = here.at, 0
    found = _Count(await _now(at), Scan(channels=routed(), namespaces=set(watched(at))))
    try:
        # Count dropped notifications as held ones; by the rule, they would be given up already.
        rules = Rules(
            at.settings.delivery, holds=tuple(replace(hold, drop_before=0) for hold in holds)
        )
        beside = None if others is None else replace(rules, holds=currently(others, found.now))
        async for page in objects(at, found.scan, watched(at)):
            requests = [one for one in page if isinstance(one, NotificationRequest)]
            unread += len(page) - len(requests)
            wanted = [
                (one.uid, one) for one in requests
                if not one.status.terminal and any(concerns(hold, one) for hold in holds)
            ]  # fmt: skip
            for joined in await read_logs(at, wanted) if wanted else ():
                _take(found, joined, holds, rules, beside)
    except (LedgerError, TimeoutError) as error:
        found.problem = f"how many notifications wait could not be counted: {reason_of(error)}"
        found.walked = False
    if unread and found.walked:
        found.problem = f"{unread} notification(s) cannot be read, and were not counted"
    return found


def _take(
    found: _Count, joined: Joined, holds: Sequence[Hold], rules: Rules, beside: Rules | None
) -> None:
    """Count a notification for each hold that keeps back one of its due channels."""
    request, log = joined.request, read_log(joined.elements)
    if request is not None:
        found.scan.channels.update(log.view.plan.channels if log.view.plan is not None else ())

        def kept_by(given: Rules) -> set[str]:
            return {c for c, _ in withheld(explain(request, log, given, now=found.now).rule)}

        kept = kept_by(rules) - (kept_by(beside) if beside is not None else set())
        found.held.update(
            h.name
            for h in holds
            if concerns(h, request) and any(on_channel(c, h.receivers) for c in kept)
        )
