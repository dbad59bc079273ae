"""`python -m syncer`."""

from __future__ import annotations

import sys

from syncer.cli.main import main

sys.exit(main())
