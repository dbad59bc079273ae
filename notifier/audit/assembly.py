"""
Creates the parts that the settings ask for: the sinks of the audit feed, and the gate of the audit store.

An HTTP sink is not a receiver of messages. The sinks have an HTTP client of their own, so that sinks and
receivers cannot use up each other's connections, with the certificate authorities and the TLS profile that
are set for audit. The egress guard is the same.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Final

from notifier.audit.gate import HealthGate
from notifier.audit.sinks import FileSink, Sink, store_sink, webhook_sink
from notifier.channels.dialling import tls_context
from notifier.channels.egress import EgressGuard
from notifier.channels.http import HttpClient
from notifier.settings import Loaded, Settings
from syncer.model.errors import ConfigError, reason_of

#: One for the request of the feed, one for the request of the gate.
_CONNECTIONS: Final = 2
#: OpenSSL ciphers: key exchange with forward secrecy, authenticated encryption.
_INTERMEDIATE: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"


class Outlets:
    """The sinks of audit events: a file, a webhook, an audit store with its gate."""

    def __init__(self, loaded: Loaded, guard: EgressGuard) -> None:
        """
        Create the sinks and the gate; no connection is opened yet.

        Raises:
            ConfigError: a CA bundle cannot be read, or `audit.file` cannot be written.
        """
        settings = loaded.settings
        store, webhook = settings.datastorage, settings.audit.webhook
        self.http_client: HttpClient | None = None
        self.gate: HealthGate | None = None
        self.sinks: list[Sink] = []
        if settings.audit.file:
            self.sinks.append(FileSink(_writable(settings.audit.file)))
        if store is not None or webhook is not None:
            tls = store_tls(settings, loaded.environment.tls_ca_file)
            self.http_client = HttpClient(guard=guard, tls=tls, connections=_CONNECTIONS)
        if webhook is not None and self.http_client is not None:
            self.sinks.append(
                webhook_sink(
                    self.http_client,
                    webhook.url,
                    timeout_s=webhook.timeout,
                    token_file=webhook.token,
                )
            )
        if store is not None and self.http_client is not None:
            self.gate = HealthGate(self.http_client, store.health_url, timeout_s=store.timeout)
            self.sinks.append(
                store_sink(
                    self.http_client, store.url, timeout_s=store.timeout, token_file=store.token
                )
            )

    async def close(self) -> None:
        """Close the sinks and the HTTP client."""
        for sink in self.sinks:
            sink.close()
        if self.http_client is not None:
            await self.http_client.aclose()


def store_tls(settings: Settings, ca_file: str | None) -> ssl.SSLContext:
    """
    Return the TLS context for audit sinks: the receivers' CA bundle and `TLS_CA_FILE`, by the TLS profile.

    TLS 1.2 is the minimum, even with the profile `Old`, which once allowed less.

    Raises:
        ConfigError: a file cannot be read or holds no certificate.
    """
    try:
        context = tls_context(settings.egress.ca_bundle)
    except OSError as error:
        raise ConfigError(f"cannot be read: {reason_of(error)}", path="egress.caBundle") from error
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:
            raise ConfigError(f"TLS_CA_FILE cannot be read: {reason_of(error)}") from error
    match settings.tls_profile:
        case "Modern":
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        case "Intermediate":
            context.set_ciphers(_INTERMEDIATE)
    return context


def _writable(file: str) -> Path:
    path = Path(file)
    if not path.parent.is_dir():
        raise ConfigError("its directory does not exist", path="audit.file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError("cannot be written", path="audit.file")
    return path
