"""
Channels by name, created from the current routing.

A receiver's channel has no state, so it is created when its name is looked up. It holds no credentials but
reads them from the routing at each send, so that the next call uses a rotated one. A configured channel is
never missing, even for a moment: the routing is replaced as a whole.

There is no channel for a name that no receiver has, or for a channel that is switched off: upstream's
permanent "channel not registered".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from notifier.channels.base import Provider
from notifier.channels.console import ConsoleChannel
from notifier.channels.file import FileChannel
from notifier.channels.http import HttpClient
from notifier.channels.log import LogChannel
from notifier.channels.pagerduty import ENDPOINT, pagerduty_channel
from notifier.channels.slack import slack_channel
from notifier.channels.teams import teams_channel
from notifier.channels.webhook import Authentication, WebhookChannel, basic_auth, bearer_token
from notifier.channels.worded import WordedChannel
from notifier.contract import Channel
from notifier.routing.config import Target
from notifier.routing.models import EmailConfig, PagerDutyConfig, WebhookConfig
from notifier.routing.reload import Snapshot
from notifier.templates.request import Requests

if TYPE_CHECKING:
    from notifier.channels.email import MailClient


class ChannelRegistry:
    """Creates channels."""

    def __init__(  # noqa: PLR0913 (wiring: each is a part or a number of its own)
        self,
        routing: Callable[[], Snapshot],
        http_client: HttpClient,
        *,
        http_timeout: float,
        file: FileChannel | None,
        log: LogChannel | None,
        native: frozenset[str] = frozenset(),
        mail: MailClient | None = None,
        mail_timeout: float,
        dedup_namespace: bool,
    ) -> None:
        """
        Args:
            routing: Returns the current snapshot.
            http_client: Client of the HTTP channels.
            http_timeout: Seconds for one request of any HTTP channel.
            file: The file channel, None if it is switched off.
            log: The log channel, None if it is switched off.
            native: Kinds among `webhook` and `email` that are delivered here.
            mail: Client of the e-mail channels, None if they are switched off.
            mail_timeout: Seconds for one SMTP session.
            dedup_namespace: Put the namespace before PagerDuty's deduplication key.
        """  # noqa: D205 - the class says what it is
        self._routing = routing
        self._http_client = http_client
        self._timeout = http_timeout
        self._native = native
        self._mail = mail
        self._mail_timeout = mail_timeout
        self._dedup_namespace = dedup_namespace
        self._local: dict[str, Channel | None] = {
            "console": ConsoleChannel(), "file": file, "log": log,
        }  # fmt: skip

    def channel(self, name: str) -> Channel | None:
        """Return the channel of a name, None if there is none."""
        if local := self._local.get(name):
            return local
        target = self._routing().config.targets.get(name)
        channel = self._make(name, target) if target else None
        if channel and target and target.wording:
            return WordedChannel(channel, target.wording)
        return channel

    def not_ready(self, name: str) -> str | None:
        """Return which credentials a channel lacks, as text; None if it lacks none."""
        missing = self._routing().missing(name)
        return f"credential {', '.join(missing)} is not there" if missing else None

    def _make(self, name: str, target: Target) -> Channel | None:
        refs = target.credential_refs
        match target.kind:
            case "slack" | "teams" if refs:
                made = slack_channel if target.kind == "slack" else teams_channel
                return made(self._http_client, self._secret(name, refs[0]), timeout_s=self._timeout)
            case "pagerduty" if refs and isinstance(target.config, PagerDutyConfig):
                return pagerduty_channel(
                    self._http_client,
                    self._secret(name, refs[0]),
                    url=target.config.url or ENDPOINT,
                    dedup_namespace=self._dedup_namespace,
                    groups=bool(target.config.dedup_key),
                    timeout_s=self._timeout,
                )
            case "webhook" if "webhook" in self._native:
                return self._webhook(name, target)
            case "email" if self._mail is not None:
                return self._email(name, target, self._mail)
        return None

    def _webhook(self, name: str, target: Target) -> Channel | None:
        config = target.config
        if not isinstance(config, WebhookConfig) or not config.complete:
            return None
        ref = config.credential_ref
        payload = target.wording.payload if target.wording else None
        signing = tuple(self._secret(name, ref) for ref in config.signing_secret_refs)
        return WebhookChannel(
            self._http_client,
            self._secret(name, ref, config.url),
            secrets=lambda: [secret() for secret in signing],
            authentication=self._authentication(name, config),
            in_clear=config.http_config.credentials_over_http,
            requests=payload if isinstance(payload, Requests) else None,
            # Two entries that swap places also swap names; this digest distinguishes them.
            origin=hashlib.sha256((ref or config.url).encode()).hexdigest()[:8],
            headers=config.headers,
            timeout_s=self._timeout,
        )

    def _authentication(self, name: str, config: WebhookConfig) -> Authentication | None:
        http, basic = config.http_config, config.http_config.basic_auth
        if http.bearer_token_ref or http.bearer_token:
            token = self._secret(name, http.bearer_token_ref, http.bearer_token)
            return partial(bearer_token, token, http.scheme or "Bearer")
        if basic.password_ref or basic.password:
            password = self._secret(name, basic.password_ref, basic.password)
            return partial(basic_auth, basic.username, password)
        return None

    def _email(self, name: str, target: Target, mail_client: MailClient) -> Channel | None:
        config = target.config
        if not isinstance(config, EmailConfig) or not config.complete:
            return None
        from notifier.channels.email import EmailChannel  # noqa: PLC0415 (1 MiB, loaded on use)

        ref = config.credential_ref
        return EmailChannel(
            mail_client,
            config,
            password=self._secret(name, ref) if ref else None,
            timeout_s=self._mail_timeout,
        )

    def _secret(self, name: str, ref: str, written: str = "") -> Provider:
        """Return the provider of a channel's credential; without a `ref` it returns `written`."""

        def read() -> str:
            if not ref:
                return written
            snapshot = self._routing()
            target = snapshot.config.targets.get(name)
            if target is None or ref not in target.credential_refs:
                raise LookupError("the channel is gone")
            return snapshot.credentials[ref]

        return read
