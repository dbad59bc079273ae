"""The version; `scripts/release` holds it to that of the distribution."""

from __future__ import annotations

from typing import Final

__version__: Final = "0.1.0"
#: How this program calls itself towards servers and receivers.
USER_AGENT: Final = f"notification-ledger/{__version__}"
