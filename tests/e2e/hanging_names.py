"""
One replica of the product whose names below `dead.test` hang, as with name servers that do not answer.

    python -m tests.e2e.hanging_names run --config FILE

Names below `live.test` are this machine; all others are asked for as usual. The product knows nothing of
it: `getaddrinfo` is replaced before its command line is called.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import Any, Final

import notifier.cli.main

#: Seconds: two tries of the C library's resolver and a little more.
HANGS: Final = 12.0


def hang() -> None:
    """Have look-ups below `dead.test` hang."""
    ask = socket.getaddrinfo

    def answer(host: Any, *args: Any, **named: Any) -> Any:
        if str(host).endswith(".dead.test"):
            time.sleep(HANGS)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return ask("127.0.0.1" if str(host).endswith(".live.test") else host, *args, **named)

    socket.getaddrinfo = answer


if __name__ == "__main__":
    hang()
    sys.exit(notifier.cli.main.main())
