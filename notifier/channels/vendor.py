"""
The channel of a vendor: one secret, one JSON body made from a message, and one POST.

The secret is read at each send. It is the URL, or, if the channel has a fixed URL, a key inside the body.
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
        kind: Name of the channel in texts (`slack`).
        secret: Provider of the credential.
        named: Name of the credential in the error for an empty one (`slack webhook URL`).
        body: Returns the bytes to send, given the message and the secret.
        timeout_s: Deadline of one request in seconds.
        url: Address of the vendor; empty if the secret is the address.
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
