"""docs/scale.md states the formula of the code; `scripts/bench memory` measures how far it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from tests.benchmarks.sizing import (
    FINISHED,
    REPLICA_BASE,
    Shape,
    attempt_bytes,
    examples,
    live_bytes,
    log_bytes,
    log_formula,
    replica_formula,
)

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "scale.md"
VALUES: Final = ROOT / "charts" / "notification-ledger" / "values.yaml"


def test_the_page_states_the_formula() -> None:
    """Formulas and examples of docs/scale.md are those of the code."""
    page = PAGE.read_text()
    for stated in (log_formula(), replica_formula()):
        assert "\n".join("    " + line for line in stated.splitlines()) in page
    assert examples() in page
    usual = Shape()
    names = f"{usual.name}, {usual.channel}, {usual.replica}"
    for taken in (usual.error, usual.route, names, usual.spec):
        assert f" | {taken} |\n" in page
    assert f"of {usual.error} bytes adds {attempt_bytes(usual):.0f} bytes" in page


def test_the_page_states_what_the_charts_defaults_hold() -> None:
    """Logs in the chart's own Redis, and notifications in a replica, by the chart's limits."""
    values: dict[str, Any] = yaml.safe_load(VALUES.read_text())
    redis = int(values["redis"]["embedded"]["maxmemory"].removesuffix("mb")) * 2**20
    replica = int(values["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
    # A fifth of the limit is left for what a burst needs.
    budget = 0.8 * replica - REPLICA_BASE
    page = " ".join(PAGE.read_text().split())
    for number in (redis / log_bytes(Shape()), budget / live_bytes(Shape(1, 1)), budget / FINISHED):
        assert f"{round(number, -4):,.0f}" in page
