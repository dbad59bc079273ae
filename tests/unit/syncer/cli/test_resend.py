"""How fast notifications are sent again after an incident."""

from __future__ import annotations

import pytest

from syncer.cli.exits import Misused
from syncer.cli.resend import pause_of


def test_the_pause_between_two() -> None:
    """A rate is a number a second or a minute."""
    assert [pause_of(rate) for rate in ("1/s", "5/s", "0.5/s", "30/m")] == [1.0, 0.2, 2.0, 2.0]
    for wrong in ("", "0/s", "fast", "5/h", "-1/s", "nan/s"):
        with pytest.raises(Misused, match="--rate: must be a number and a unit"):
            pause_of(wrong)
