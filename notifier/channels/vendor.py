"""
The channel of a vendor: one secret, one JSON body made of a message, and one POST.

The secret is read at each send. It is the address, or, where a receiver names one, a key within the body.
"""

from __future__ import annotations

from collections.abc import Callable

from notifier.channels.base import Provider, credential, http_headers, rendered
from notifier.channels.http import HttpClient
from notifier.channels.targets import Target
from notifier.contract import Channel, Message, Outcome


class VendorChannel(Channel):
    """
    Sends to one receiver.

    Args:
        kind: As texts name the channel (`slack`).
        secret: Provider of the credential.
        named: What texts call an empty one (`slack webhook URL`).
        body: Makes the bytes of a message; given the secret, too.
        url: Where to, if that is not the secret.
        timeout_s: Deadline of one request in seconds.
    """

    def __init__(
        self,
        http_client: HttpClient,
        kind: str,
        secret: Provider,
        named: str,
        body: Callable[[Message, str], bytes],
        *,
        url: str = "",
        timeout_s: float,
    ) -> None:
        self._http_client = http_client
        self._kind = kind
        self._secret = secret
        self._named = named
        self._body = body
        self._url = url
        self.timeout_s = timeout_s

    async def send(self, message: Message) -> Outcome:
        """Post the body."""
        secret = credential(self._kind, self._secret, self._named, message)
        if isinstance(secret, Outcome):
            return secret
        body = rendered(self._kind, lambda m: self._body(m, secret), message)
        if isinstance(body, Outcome):
            return body
        return await self._http_client.post(
            Target(self._url or secret, (secret,)),
            body,
            http_headers(message),
            timeout_s=self.timeout_s,
            kind=self._kind,
            may_leave=message.may_leave,
        )
