"""
Receivers, and the names of the channels that their entries make.

Every channel has one name, and a name leads to one entry of one receiver. Names are the replaced
controller's, since logs and objects on record carry them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from notifier.routing.mail import recipient_tag
from notifier.routing.models import (
    ChannelConfig,
    EmailConfig,
    LocalConfig,
    PagerDutyConfig,
    UrlConfig,
    WebhookConfig,
)
from notifier.templates.wording import Wording


def named_credentials(config: ChannelConfig) -> tuple[tuple[str, str], ...]:
    """Return the credentials that an entry names, each with the key that names it."""
    named: tuple[tuple[str, str], ...] = ()
    if isinstance(config, (UrlConfig, PagerDutyConfig, EmailConfig)):
        named = ((config.credential_ref, "credentialRef"),)
    elif isinstance(config, WebhookConfig):
        named = (
            (config.credential_ref, "credentialRef"),
            (config.http_config.bearer_token_ref, "httpConfig.bearerTokenRef"),
            (config.http_config.basic_auth.password_ref, "httpConfig.basicAuth.passwordRef"),
            *((ref, f"signingSecretRefs[{n}]") for n, ref in enumerate(config.signing_secret_refs)),
        )
    return tuple((ref, key) for ref, key in named if ref)


#: Kinds in the order in which a receiver's channels are named, each with its key in the file.
KINDS: Final = {
    kind: f"{kind}Configs"
    for kind in ("slack", "pagerduty", "teams", "email", "webhook", "console", "file", "log")
}
ALWAYS_QUALIFIED: Final = frozenset({"slack", "pagerduty", "teams"})
QUALIFIED_IF_NATIVE: Final = frozenset({"email", "webhook"})
#: Kinds whose channel is one for all receivers.
SHARED: Final = frozenset({"console", "file", "log"})


@dataclass(frozen=True, slots=True)
class Target:
    """
    Where a channel name leads.

    Attributes:
        kind: `slack`, `pagerduty`, `teams`, `email`, `webhook`, `console`, `file` or `log`.
        receiver: Name of the receiver.
        index: Position in that receiver's list of the kind.
        config: The entry.
        wording: The receiver's templates for the kind, None without any.
    """

    kind: str
    receiver: str
    index: int
    config: ChannelConfig
    wording: Wording | None = None

    @property
    def tag(self) -> str:
        """Distinguishes the recipients of one receiver's e-mail; empty for other kinds."""
        return recipient_tag(self.config.to) if isinstance(self.config, EmailConfig) else ""

    @property
    def credential_refs(self) -> tuple[str, ...]:
        """Credentials that a send needs, in no particular order and without empty names."""
        return tuple(dict.fromkeys(ref for ref, _ in named_credentials(self.config)))


@dataclass(frozen=True, slots=True)
class Fallback:
    """
    The receiver that is used where another one cannot be reached.

    Attributes:
        receiver: Its name.
        after: Seconds from which it is used although attempts there go on.
    """

    receiver: str
    after: float


@dataclass(frozen=True, slots=True)
class Receiver:
    """
    A receiver.

    Attributes:
        name: As routes and channels call it.
        entries: Its entries by kind; kinds that the file does not name are absent.
        namespaces: Names, or patterns with `*` and `?`, of the namespaces whose notifications it
            takes; empty for all.
        unknown: Paths of its keys that nothing reads.
        path: Where it stands in the file.
        wordings: Its templates by kind.
        fallback: Used where it cannot be reached, unless the route names another one.
    """

    name: str
    entries: tuple[tuple[str, tuple[ChannelConfig, ...]], ...] = ()
    namespaces: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    path: str = ""
    wordings: Mapping[str, Wording] = field(default_factory=dict)
    fallback: Fallback | None = None

    def accepts(self, namespace: str) -> bool:
        """Whether it accepts notifications of a namespace."""
        return not self.namespaces or any(fnmatchcase(namespace, p) for p in self.namespaces)

    def channels(self, native: frozenset[str] = frozenset()) -> tuple[tuple[str, Target], ...]:
        """
        Name this receiver's channels, in upstream's order.

        Kinds with a credential have one channel per entry, the others one bare name. E-mail and
        webhook have bare names until they are delivered natively: then two receivers' targets must
        not share a name, and they are named like Slack's; several recipients of e-mail are kept
        apart by their tags instead of an index. A receiver without entries is `console`.
        """
        named: list[tuple[str, Target]] = []
        for kind, configs in self.entries:
            usual = self.wordings.get(kind)
            targets = [
                Target(
                    kind, self.name, n, c,
                    (c.wording if isinstance(c, WebhookConfig) else None) or usual,
                )
                for n, c in enumerate(configs)
            ]  # fmt: skip
            if kind not in ALWAYS_QUALIFIED | (native & QUALIFIED_IF_NATIVE):
                named.append((kind, targets[0]))
                continue
            for target in targets:
                name = f"{kind}:{self.name}"
                if len(targets) > 1:
                    name += f":{target.tag or target.index}"
                if kind in ALWAYS_QUALIFIED and not target.credential_refs:
                    name = kind
                named.append((name, target))
        if not named:
            named.append(("console", Target("console", self.name, 0, LocalConfig())))
        return tuple(named)
