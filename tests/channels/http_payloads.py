"""Requests of the HTTP channels."""

from __future__ import annotations

from collections.abc import Callable

from notifier.channels.http import HttpClient
from notifier.channels.pagerduty import (
    pagerduty_channel,
)
from notifier.channels.slack import slack_channel
from notifier.channels.teams import teams_channel
from notifier.channels.webhook import (
    WebhookChannel,
)
from notifier.contract import Channel

Make = Callable[[HttpClient, Callable[[], str]], Channel]


MAKERS: dict[str, Make] = {
    "slack": lambda http_client, url: slack_channel(http_client, url, timeout_s=20),
    "teams": lambda http_client, url: teams_channel(http_client, url, timeout_s=20),
    "webhook": lambda http_client, url: WebhookChannel(http_client, url, timeout_s=20),
    "pagerduty": lambda http_client, url: pagerduty_channel(
        http_client, lambda: "routing-canary-key", url=url(), timeout_s=20
    ),
}
