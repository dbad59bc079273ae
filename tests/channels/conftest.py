"""What the channel tests share: a door, certificates, a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from notifier.channels.http import HttpClient
from tests.channels.receiver import Certificates

# pytest-asyncio asks for "the" loop before the first asynchronous test; without this the standard
# library would make one then, which nobody closes and which a later warning fails some test for.
asyncio.set_event_loop(None)


@pytest.fixture
async def http_client() -> AsyncIterator[HttpClient]:
    """Return an open door that knows no proxy."""
    async with aclosing(HttpClient(environment={})) as opened:
        yield opened


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return the run's certificate authority."""
    directory: Path = tmp_path_factory.mktemp("certificates")
    return Certificates(directory)
