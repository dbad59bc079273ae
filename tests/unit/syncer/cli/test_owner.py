"""Who holds a Lease."""

from __future__ import annotations

import pytest

from syncer.cli.owner import holder_of
from syncer.kube.leases import LeaseRecord
from tests.unit.syncer.cli.samples import NOW


@pytest.mark.parametrize(
    ("renewed", "holder", "held"),
    [
        pytest.param("2027-01-15T08:00:00.000000Z", "a", "a", id="renewed"),
        pytest.param("2027-01-15T07:59:20.000000Z", "a", "", id="run out"),
        pytest.param("2027-01-15T08:00:00.000000Z", "", "", id="released"),
        pytest.param(None, "a", "", id="never renewed"),
    ],
)
def test_who_holds_a_lease(renewed: str | None, holder: str, held: str) -> None:
    """A Lease that has run out is nobody's, by a clock that may differ by its own duration."""
    lease = LeaseRecord("n", "u", "1", holder=holder, duration=15.0, renew_time=renewed or "")
    assert holder_of(lease, now=NOW / 1000) == held
