"""The version of the distribution, read from its metadata."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("notification-ledger")
except PackageNotFoundError:  # a bare checkout on the path
    __version__ = "0+unknown"
