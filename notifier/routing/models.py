"""
Every key of the routing file: what it holds and what it does.

The reader takes the known keys from here (any other is a finding), and the reference page and the JSON
schema are generated from this module, so all three know the same keys. Checks that involve more than one
key are in `entries` and `parse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, Strict, WithJsonSchema

from notifier.routing.mail import Security
from notifier.templates.request import WebhookSource
from syncer.configfile import Listed, Pairs, Section, Text, Texts, key

_CREDENTIAL: Final = "Name of the credential that holds {}: a file in `delivery.credentials.dir`."
_AFTER: Final = (
    "How long attempts may go on, or wait, without success until the `fallback` is used as well: from "
    "`1s` to `24h`; default `10m`."
)
_DECIDED: Final = "Accepted without effect: the webhook decides."

Tls = Annotated[Security, Strict(False), WithJsonSchema({"enum": list(Security)})]


class UrlConfig(Section):
    """
    One Teams workflow.

    Also the base of `SlackConfig`: both services are reached by a URL that is a credential.
    """

    credential_ref: Text = key(_CREDENTIAL.format("the workflow's URL"), required=True)


class SlackConfig(UrlConfig):
    """One Slack webhook."""

    credential_ref: Text = key(_CREDENTIAL.format("the webhook's URL"), required=True)
    channel: Text = key(_DECIDED, idle=True)
    username: Text = key(_DECIDED, idle=True)
    icon_emoji: Text = key(_DECIDED, idle=True)  # noqa: V107 (accepted, has no effect)


class PagerDutyConfig(Section):
    """One PagerDuty service."""

    credential_ref: Text = key(_CREDENTIAL.format("the routing key (Events API v2)"), required=True)
    url: Text = key("Where events go instead of PagerDuty's own address.")
    dedup_key: Literal["", "alertmanager"] = key(
        "`alertmanager`: incidents of the gateway that are groups of alerts have the key that "
        "Alertmanager's own integration gives them, so that both report the same incidents."
    )
    severity: Text = key("Accepted without effect: the notification's priority decides.", idle=True)


class EmailConfig(Section):
    """
    One e-mail entry; if mail is delivered here, it becomes one entry per recipient.

    `host` and `port` come from `smarthost`; they and `sender_name` are empty unless mail is delivered here.
    """

    to: Text = key(
        "Addresses, separated by commas, at most 100. Each is a channel of its own.", required=True
    )
    sender: Text = key("One address, with or without a name.", alias="from", required=True)
    smarthost: Text = key(
        "The mail server: `host`, `host:port` or `[address]:port`.", required=True
    )
    security: Tls = key(
        "How the connection is protected; default `starttls` (port 587), on port 465 `implicit`. "
        "`none` (port 25) only without a password.",
        Security.STARTTLS, alias="tls",
    )  # fmt: skip
    require_tls: bool = key("Has no effect unless `tls` is `none`, which it forbids.", False)
    username: Text = key("User at the mail server; goes with `credentialRef`.")
    credential_ref: Text = key(_CREDENTIAL.format("the password"))
    sender_name: str = Field(default="", exclude=True)
    host: str = Field(default="", exclude=True)
    port: int = Field(default=0, exclude=True)

    @property
    def complete(self) -> bool:
        """Whether a native channel can be made from the entry."""
        return bool(self.to and self.sender and self.smarthost)


class BasicAuth(Section):
    """User and password."""

    username: Text = key("The user; holds no colon.", required=True)
    password_ref: Text = key(_CREDENTIAL.format("the password"))
    password: Text = Field(
        default="", repr=False,
        description="The password itself, visible to every reader of this file.",
    )  # fmt: skip


class HttpConfig(Section):
    """How the controller authenticates to a webhook's receiver."""

    bearer_token_ref: Text = key(_CREDENTIAL.format("the bearer token"))
    bearer_token: Text = Field(
        default="", repr=False,
        description="The token itself, visible to every reader of this file.",
    )  # fmt: skip
    scheme: Text = key("Scheme before the token in `Authorization`; default `Bearer`.")
    basic_auth: BasicAuth = key("User and password.", BasicAuth())
    credentials_over_http: bool = key(
        "Allows a token or password to be sent over http://, readable on the network; default false.",
        False,
    )


class WebhookConfig(WebhookSource):
    """One generic webhook; `wording` makes its requests with the receiver's templates."""

    url: Text = Field(
        default="", repr=False,
        description="Where to POST. A URL that is a secret belongs in `credentialRef`.",
    )  # fmt: skip
    credential_ref: Text = key(_CREDENTIAL.format("the URL, in place of `url`"))
    headers: Pairs = key("Further headers, the same for all notifications.", {})
    signing_secret_refs: Annotated[
        Texts, AfterValidator(lambda refs: tuple(filter(None, refs)))
    ] = key(
        "Names of the credentials with which each request is signed (Standard Webhooks); several while"
        " one is replaced.",
        (),
    )
    http_config: HttpConfig = key(
        "How the controller authenticates to the receiver: a token, or user and password.",
        HttpConfig(),
    )
    wording: Any = Field(default=None, exclude=True, repr=False)

    @property
    def complete(self) -> bool:
        """Whether a native channel can be made from the entry."""
        return bool(self.url or self.credential_ref)


class LocalConfig(Section):
    """The console or the log; every listed entry is delivered, whatever it contains."""

    enabled: bool = key(
        "Has no effect: every listed entry is delivered. `false` causes a warning; remove the entry "
        "to disable it.",
        True,
    )


class FileConfig(LocalConfig):
    """A file for each notification."""

    path: Text = key("Accepted without effect: `delivery.file.outputDir` decides.", idle=True)


ChannelConfig = UrlConfig | PagerDutyConfig | EmailConfig | WebhookConfig | LocalConfig


class Templates(Section):
    """A receiver's own message templates."""

    subject: str | None = key("Replaces the subject; one line.", None, typed=True)
    body: str | None = key(
        "Replaces the body: in Slack's mrkdwn, in Teams' Markdown, and plain text elsewhere.",
        None, typed=True,
    )  # fmt: skip
    title_link: str | None = key(  # noqa: V107 (by its name in the file)
        "Address of a link *Open*, shown before the other links.", None, typed=True
    )
    slack_blocks: Any = key("Replaces all blocks of a Slack message.", None, typed=True)  # noqa: V107 (by its name in the file)
    pagerduty: Any = key(
        "Members of the event: `summary`, `source`, `severity`, `component`, `group`, `class`, and "
        "`details`, which are added to the custom ones.",
        None, typed=True,
    )  # fmt: skip
    mail_html: str | None = key("HTML body of e-mails, beside their plain text.", None, typed=True)  # noqa: V107 (by its name in the file)


class ReceiverSection(Section):
    """A receiver."""

    name: Text = key(
        "Name by which routes refer to it; part of its channels' names. At most 256 characters. "
        "If two receivers have one name, the last is used.",
        required=True,
    )
    slack_configs: Listed[SlackConfig] = key("Slack webhooks.", ())  # noqa: V107 (by its kind)
    pagerduty_configs: Listed[PagerDutyConfig] = key("PagerDuty services.", ())  # noqa: V107 (by its kind)
    teams_configs: Listed[UrlConfig] = key("Microsoft Teams workflows.", ())  # noqa: V107 (by its kind)
    email_configs: Listed[EmailConfig] = key("E-mail, if `delivery.email.enabled` is true.", ())  # noqa: V107 (by its kind)
    webhook_configs: Listed[WebhookConfig] = key(  # noqa: V107 (by its kind)
        "Generic webhooks, if `delivery.webhook.enabled` is true.", ()
    )
    console_configs: Listed[LocalConfig] = key(  # noqa: V107 (by its kind)
        "The controller's standard output, one for all receivers.", ()
    )
    file_configs: Listed[FileConfig] = key(  # noqa: V107 (by its kind)
        "A file for each notification in `delivery.file.outputDir`.", ()
    )
    log_configs: Listed[LocalConfig] = key(  # noqa: V107 (by its kind)
        "One line of JSON for each, if `delivery.log.enabled` is true.", ()
    )
    templates: Templates = key(
        "Message templates for all channels of the receiver but console, file and log.",
        Templates(),
    )
    fallback: Text = key(
        "Name of the receiver that gets the notification once a channel of this one has ended without "
        "success. The fallback's own `fallback` is not used then."
    )
    fallback_after: Text = key(_AFTER)
    allowed_namespaces: Texts = key(
        "Namespaces from which it accepts notifications: names, or patterns with `*` and `?`; "
        "default all. What another namespace sends there fails permanently. Not for console, file "
        "and log.",
        (),
    )


class RouteSection(Section):
    """A node of the tree."""

    receiver: Text = key(
        "Name of the receiver of notifications that match here and no route below. A route "
        "without one adds no receiver; what ends there goes to the console, or to a route above."
    )
    match: Pairs = key(
        "Attributes and the exact values that they must have, all of them. A missing attribute "
        "counts as empty text. No effect on the root.",
        {},
    )
    match_re: Pairs = key(
        "Attributes and patterns (RE2) that must match them, all of them. A pattern matches "
        "anywhere in the value: anchor it with `^` and `$`. A missing attribute matches no "
        "pattern. No effect on the root.",
        {},
    )
    goes_on: bool = key(
        "Whether the routes after this one are tried as well, although this one matched; default "
        "false. No effect on the root.",
        False, alias="continue",
    )  # fmt: skip
    routes: Listed[RouteSection | None] = key(
        "Child routes, tried in order. The first that matches and does not continue is the last "
        "one tried.",
        (),
    )
    fallback: Text = key(
        "Name of the receiver that gets the notification once a channel of the route's own has ended "
        "without success; overrides that receiver's `fallback`."
    )
    fallback_after: Text = key(_AFTER)
    group_by: Listed[Any] = key("Accepted without effect: nothing is grouped.", (), idle=True)  # noqa: V107 (accepted, has no effect)


class File(Section):
    """The file."""

    route: RouteSection | None = key(
        "The root of the tree. It matches everything.", None, required=True
    )
    receivers: Listed[ReceiverSection | None] = key("All receivers.", (), required=True)


#: Keys of other programs' routing files, and what is done here instead.
FOREIGN: Final[Mapping[str, str]] = {
    "groupWait": "remove it: nothing is grouped, each notification is sent by itself",
    "groupInterval": "remove it: nothing is grouped, each notification is sent by itself",
    "repeatInterval": "remove it: a notification is sent once; create another one to repeat it",
    "matchers": "write match: {attribute: value} or matchRe: {attribute: pattern}",
    "muteTimeIntervals": "remove it: nothing is muted",
    "activeTimeIntervals": "remove it: nothing is muted",
    "inhibitRules": "remove it: nothing is inhibited",
    "serviceKey": "put the key into a credential and name it: credentialRef",
    "routingKey": "put the key into a credential and name it: credentialRef",
    "apiURL": "put the URL into a credential and name it: credentialRef",
    "apiUrl": "put the URL into a credential and name it: credentialRef",
    "webhookUrl": "put the URL into a credential and name it: credentialRef",
    "sendResolved": "remove it: a notification has no end that could be sent",
}
