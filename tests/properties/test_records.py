"""
Laws of logs that others have written to: what is taken for a record can be published and shown.

Checksum and chain are plain arithmetic, so a record that somebody makes by hand passes both. It may hold
anything; what no place could show is damage, found where the record is read.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from syncer.cli import explain, explanation
from syncer.cli.installation import Store, StoreState
from syncer.cli.known import Known
from syncer.cli.tail import _STATES, COLUMNS, Event
from syncer.cli.web.pages import page, tell
from syncer.ledger.codec import next_chain
from syncer.ledger.reading import lines_of, read_log
from syncer.model.record import NUMBERS, Header, Kind
from syncer.model.rendering import difference, render_status
from syncer.model.resource import parse_status
from syncer.rules.fold import ROOT_CHAIN
from syncer.rules.merge import Facts, merge
from syncer.rules.verification import Sides, check
from tests.examples import examples
from tests.unit.syncer.cli.samples import A1, A2, BOUNDS, NOW, C, entry, request

TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.sampled_from(["9" * 30, "-" + "9" * 30, "noon", "\x1b[2J\r\n", "<script>", "x" * 3000]),
)
#: At the bounds of what a double, a calendar and the encoding hold.
EDGES = st.sampled_from([1 - 10**14, 10**14 - 1, 10**14, -62_135_596_800_001, 2**64 - 1, -(2**63)])
WORDS = ("error", "why", "by", "order", "channels", "did")


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A map with at most one member that nobody would write."""
    body: dict[str, Any] = {"v": 1}
    body |= {
        m: draw(st.integers(NOW - 10**6, NOW))
        for m in draw(st.sets(st.sampled_from(sorted(NUMBERS))))
    }
    body |= {m: draw(TEXTS) for m in draw(st.sets(st.sampled_from(WORDS)))}
    if draw(st.booleans()):
        body["class"] = draw(st.sampled_from(["transient", "permanent", "notSent", "uncertain"]))
    if draw(st.booleans()):
        body[draw(st.sampled_from([*sorted(NUMBERS), *WORDS]))] = draw(st.one_of(EDGES, TEXTS))
    return bytes(msgpack.packb(body))


@st.composite
def logs(draw: st.DrawFn) -> list[bytes]:
    """A log whose records are sound in checksum and chain."""
    out, chain = [Header("ns/n").encode()], ROOT_CHAIN
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(Kind))
        attempt = draw(st.sampled_from([A1, A2]))
        word = kind.value.partition(".")[2]
        identity = f"resolve:{attempt}:{word}" if kind.resolution else attempt
        channel = draw(st.sampled_from([C, C, "-", "%0a%1b", "a%ff"]))
        body = draw(bodies())
        prefix = f"{kind} {identity} {channel} {zlib.crc32(body):08x} ".encode()
        chain = next_chain(chain, prefix)
        out.append(prefix + chain.encode() + b" " + body)
    return out


@examples(120)
@given(stored=logs(), shown=st.lists(st.sampled_from(["success", "failed", "unknown"]), max_size=1))
def test_what_is_read_is_published_and_shown(stored: list[bytes], shown: list[str]) -> None:
    """The status, each command and each page show whatever of a log is legible."""
    found = request(*(entry(state) for state in shown))
    log = read_log(stored)
    facts = Facts(found.generation, found.policy)
    status = merge(found.status, log.view, facts, now=NOW).status
    published = parse_status(json.loads(json.dumps(render_status(status))))
    assert difference(published, merge(published, log.view, facts, now=NOW).status) == {}
    explained = explanation.explain(found, log, explanation.Rules(), now=NOW)
    json.dumps(explanation.as_json(explained))
    explanation.as_text(explained)
    findings = check(Sides(log, found, -1), BOUNDS)
    known = Known(
        "ns/n", "u", found, "", log, "", tuple(lines_of(log, stored)), -1, Store(StoreState.OURS),
        explained, findings, gone=False, now=NOW,
    )  # fmt: skip
    json.dumps(explain.as_json(known))
    explain.as_text(known)
    page("notification", title="n", here="", known=known, story=tell(found, log)).encode()
    for record in log.records:
        if record.kind in _STATES:
            event = Event("u", "ns/n", record)
            json.dumps(event.as_json())
            assert all(isinstance(cell(event), str) for cell in COLUMNS.values())
