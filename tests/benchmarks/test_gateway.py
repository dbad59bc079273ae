"""The benchmark of the gateway counts what it says: smoke on a real gateway, and arithmetic without."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.benchmarks.gateway import FULL, Crowded, Loaded, Scale, measure, told
from tests.benchmarks.webhooks import Sent
from tests.e2e.gateway_outage import Tale

SMALL = Scale(40, 3, 1, 60, 100, 0.5, 0, 0)


async def test_what_is_measured_on_a_real_gateway(tmp_path: Path) -> None:
    """Every webhook becomes a notification, and every valid request is answered beside the others."""
    loaded, crowded = await measure(tmp_path, SMALL)
    assert loaded.sent.codes == {"200": 120}
    assert loaded.created == 120
    assert 0 < loaded.cpu < 30
    assert len(loaded.memory) >= 3
    assert 1000 < loaded.sent.size < 4000
    assert crowded.refused == 0
    assert len(crowded.seconds) >= 3
    assert crowded.kept == 60


def test_a_report() -> None:
    """Losses, doubles, CPU of each notification and growth are held against their goals."""
    sent = Sent({"200": 29_900, "503": 100}, 60.0, 1.0, 9.0, 2000)
    flat = tuple((float(n), 50.0) for n in range(60))
    loaded = Loaded(sent, 29_900, 14.95, flat)
    crowded = Crowded(0, (0.1, 0.3, 2.0), 3_000, 80.0)
    tale = Tale(3, delivered=Counter({"a": 1, "b": 2}))
    found = {f.name: f for f in told(loaded, crowded, [tale], FULL).figures}
    verdicts = {name: f.verdict for name, f in found.items() if f.goal}
    assert verdicts == {
        "load: webhooks answered 200": "met",
        "load: webhooks not answered 200": "missed",
        "load: CPU of the gateway per notification": "met",
        "load: resident memory: growth in the second half, share of the median": "met",
        "crowd: valid requests not answered 200": "met",
        "outage: groups not delivered": "missed",
        "outage: groups delivered twice": "missed",
    }
    assert found["load: CPU of the gateway per notification"].median == 0.5
    assert found["outage: groups not delivered"].median == 1
    growing = Loaded(sent, 29_900, 60.0, tuple((float(n), 50.0 + n) for n in range(60)))
    again = {f.name: f.verdict for f in told(growing, crowded, [], FULL).figures if f.goal}
    assert again["load: CPU of the gateway per notification"] == "missed"
    assert (
        again["load: resident memory: growth in the second half, share of the median"] == "missed"
    )
    assert not any(name.startswith("outage") for name in again)
