"""Channels as the process makes them: from a routing file and a credentials folder."""

from __future__ import annotations

from pathlib import Path

from notifier.channels.email import MailClient
from notifier.channels.http import HttpClient
from notifier.channels.registry import ChannelRegistry
from notifier.contract import Outcome
from notifier.routing.reload import Routing
from tests.channels.messages import message


class Rig:
    """A registry over a routing file and a credentials folder, as the process has them."""

    def __init__(
        self,
        folder: Path,
        http_client: HttpClient,
        text: str,
        mails: MailClient | None = None,
        *,
        dedup_namespace: bool = False,
        **credentials: str,
    ) -> None:
        self.file = folder / "routing.yaml"
        self.credentials = folder / "credentials"
        self.credentials.mkdir()
        for name, value in credentials.items():
            (self.credentials / name).write_text(value)
        self.file.write_text(text)
        native = frozenset({"email", "webhook"})
        self.routing = Routing(self.file, self.credentials, native=native)
        self.routing.load_initial()
        self.channels = ChannelRegistry(
            lambda: self.routing.current, http_client, http_timeout=20, file=None, log=None,
            native=native, mail=mails, mail_timeout=20, dedup_namespace=dedup_namespace,
        )  # fmt: skip

    async def reload(self) -> None:
        """Take up what has changed in the files, which needs to be seen twice."""
        await self.routing.look()
        assert await self.routing.look()

    async def send(self, name: str) -> Outcome:
        """One attempt on a channel."""
        made = self.channels.channel(name)
        assert made is not None, name
        return await made.send(message(name))
