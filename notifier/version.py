"""The version; `scripts/release` keeps it equal to that of the distribution."""

from __future__ import annotations

from typing import Final

__version__: Final = "0.1.0"
#: The User-Agent that servers and receivers see.
USER_AGENT: Final = f"notification-ledger/{__version__}"
