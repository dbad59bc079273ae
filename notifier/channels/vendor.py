"""
The channel of a vendor: one secret, one JSON body made of a message, and one POST.

The secret is read at each send. It is the address, or, where a receiver names one, a key within the body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from notifier.channels.base import Provider, credential, http_headers, rendered
from notifier.channels.http import HttpClient
from notifier.channels.targets import Target
from notifier.contract import Channel, Message, Outcome


@dataclass(eq=False, repr=False)
class VendorChannel(Channel):
    """
    Sends to one receiver; its repr shows nothing.

    Attributes:
        kind: As texts name the channel (`slack`).
        secret: Provider of the credential.
        named: What texts call an empty one (`slack webhook URL`).
        body: Makes the bytes of a message; given the secret, too.
        timeout_s: Deadline of one request in seconds.
        url: Where to, if that is not the secret.
    """

    http_client: HttpClient
    kind: str
    secret: Provider
    named: str
    body: Callable[[Message, str], bytes]
    timeout_s: float
    url: str = ""

    async def send(self, message: Message) -> Outcome:
        """Post the body."""
        secret = credential(self.kind, self.secret, self.named, message)
        if isinstance(secret, Outcome):
            return secret
        body = rendered(self.kind, lambda m: self.body(m, secret), message)
        if isinstance(body, Outcome):
            return body
        return await self.http_client.post(
            Target(self.url or secret, (secret,)),
            body,
            http_headers(message),
            timeout_s=self.timeout_s,
            kind=self.kind,
            may_leave=message.may_leave,
        )
