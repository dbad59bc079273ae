"""
Who may send to a source: the secrets in its files, and the proofs that it requires.

Secrets are read again every few seconds, by the next request that needs them: within that time a new
secret is accepted, and a removed one is no longer accepted. A file that cannot be read is skipped and
logged. While none of a source's files can be read, its requests get 503, because their senders may be
legitimate.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from notifier.gateway.auth import (
    check_basic,
    check_bearer,
    check_certificate,
    check_signature,
    standard_key,
)
from notifier.gateway.draft import Incoming
from notifier.gateway.proofs import AuthSettings
from notifier.gateway.tls import Tls
from notifier.gateway.translation import Source
from syncer.configfile import secret_of
from syncer.model.errors import ConfigError, Unavailable

logger = logging.getLogger("ledger.gateway")

#: Seconds after which secrets are read again.
_FRESH: Final = 5.0


def read_secrets(
    files: Iterable[str], check: Callable[[bytes], object]
) -> tuple[list[bytes], dict[str, str]]:
    """
    Read files with one secret each; returns the usable secrets, and the faults of the other files by path.

    `check` raises ValueError for a secret of the wrong form.
    """
    values, faults = [], {}
    for file in files:
        try:
            secret = secret_of(file, file).encode()
            check(secret)
            values.append(secret)
        except ConfigError as error:
            faults[file] = str(error).removeprefix(f"{file}: ")
        except ValueError:
            faults[file] = "holds a key that is empty or not base64"
    return values, faults


class Secrets:
    """The secrets of some files."""

    def __init__(
        self,
        files: tuple[str, ...],
        key: str,
        clock: Callable[[], float],
        check: Callable[[bytes], object] = len,
    ) -> None:
        """
        Read the files, with one secret each; ConfigError if none of them can be used.

        `key` is the key of the files in the settings, for errors; `clock` gives monotonic seconds. `check`
        raises ValueError for a secret of the wrong form.
        """
        self._files = files
        self._key = key
        self._clock = clock
        self._check = check
        self._faults: dict[str, str] = {}
        self._read_at = clock()
        self._values = self._read()
        if not self._values:
            raise ConfigError(next(iter(self._faults.values())), path=key)

    def current(self) -> tuple[bytes, ...]:
        """Return the secrets; Unavailable if no file can be read now."""
        now = self._clock()
        if now - self._read_at >= _FRESH:
            self._read_at = now
            self._values = self._read()
        if not self._values:
            raise Unavailable(f"no secret of {self._key} can be read")
        return self._values

    def _read(self) -> tuple[bytes, ...]:
        values, faults = read_secrets(self._files, self._check)
        for file, fault in faults.items():
            if self._faults.get(file) != fault:
                logger.warning(
                    "a secret of the gateway is left out", extra={"file": file, "error": fault}
                )
        self._faults = faults
        return tuple(values)


class Access:
    """Checks the requests of one source: by their headers, by the API server, and by their body."""

    def __init__(
        self,
        auth: AuthSettings,
        path: str,
        clock: Callable[[], float],
        *,
        source: Source,
        review: Callable[[Incoming, Source, tuple[str, ...]], Awaitable[None]],
        tls: Tls | None,
    ) -> None:
        """
        Read the secrets; ConfigError if one cannot be read.

        `path` is the path of the settings in the gateway's file; `clock` gives monotonic seconds. `review`
        is `Reviews.check`; `tls` is required if clients must have certificates.
        """
        self.source, self._review, self._reviewed = source, review, auth.token_review
        self._by_headers: list[Callable[[Incoming], None]] = []
        self._by_body: list[Callable[[Incoming, float], None]] = []
        if certified := auth.client_certificate:
            if tls is None:
                raise ConfigError("needs `tls`", path=f"{path}.clientCertificate")
            self._by_headers.append(
                lambda i: check_certificate(
                    i.certificate, tls.anchors(source.name), certified.names
                )
            )
        if bearer := auth.bearer:
            tokens = Secrets(bearer.token_files, f"{path}.bearer.tokenFiles", clock)
            self._by_headers.append(lambda i: check_bearer(i, tokens.current()))
        if basic := auth.basic:
            passwords = Secrets(basic.password_files, f"{path}.basic.passwordFiles", clock)
            self._by_headers.append(lambda i: check_basic(i, basic.user, passwords.current()))
        if signed := auth.signature:
            check = standard_key if signed.scheme == "standard-webhooks" else len
            keys = Secrets(signed.key_files, f"{path}.signature.keyFiles", clock, check)
            self._by_body.append(lambda i, now: check_signature(i, signed, keys.current(), now))

    async def check_sender(self, incoming: Incoming) -> None:
        """
        Check the proofs that need no body, before it is read; the API server is asked last.

        Raises:
            Refused: 401 or 403.
            Unavailable: the secrets cannot be read, or the API server did not answer in time.
        """
        for check in self._by_headers:
            check(incoming)
        if self._reviewed is not None:
            await self._review(incoming, self.source, self._reviewed.audiences)

    def check_body(self, incoming: Incoming, now: float) -> None:
        """
        Check the proofs that cover the body; `now` is in Unix seconds.

        Raises:
            Refused: 401.
            Unavailable: the keys cannot be read.
        """
        for check in self._by_body:
            check(incoming, now)
