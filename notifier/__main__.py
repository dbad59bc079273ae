"""`python -m notifier`."""

from __future__ import annotations

import sys

from notifier.cli.main import main

sys.exit(main())
