"""
How many examples a law is tried with: so many in `scripts/test`, and in proportion in other runs.

`tests/conftest.py` registers the profiles. A law that wants more or fewer examples than the others says so
by `examples`; a number given to Hypothesis itself would be the same for somebody who waits for
`scripts/test --fast` and for a night of looking.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import settings

#: What this run explores by: examples of laws, the order of tests, new worlds. None: those of every run.
SEED: Final = int(os.environ["TEST_SEED"]) if os.environ.get("TEST_SEED") else None

#: Examples of a law that does not say how many, by profile.
SAME: Final = 60
QUICK: Final = 15
NIGHTLY: Final = 5_000


def examples(count: int) -> settings:
    """
    Return the decorator of a law that wants its own number of examples.

    Args:
        count: how many `scripts/test` tries; a profile of more or fewer than `SAME` tries so many more or
            fewer.
    """
    return settings(max_examples=max(1, count * settings().max_examples // SAME))
