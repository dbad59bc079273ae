"""
The product as its next version would be: it writes record version 2 and reads both.

    python -m tests.e2e.newer run --config FILE
"""

from __future__ import annotations

import sys

from syncer.model import record

READS = frozenset({1, 2})
WRITES = 2


def main() -> int:
    """Raise the version before anything else has taken it over, then run the product."""
    assert "syncer.ledger.codec" not in sys.modules
    vars(record).update(READABLE_VERSIONS=READS, BODY_VERSION=WRITES)
    from notifier.cli.main import main as notifier  # noqa: PLC0415 - after the change above

    return notifier()


if __name__ == "__main__":
    sys.exit(main())
