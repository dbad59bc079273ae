"""
Every key of the routing file: what it holds and what it does.

The reader takes from here which keys there are (any other is a finding), and the reference page and the
JSON schema are made of it, so none of the three can know a key that another does not. How a value is read,
and what is refused, is in `parse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: Kinds of values: what the page says, and what the schema allows.
TEXT: Final = "text"
FLAG: Final = "true or false"
TEXTS: Final = "list of texts"
PAIRS: Final = "map of texts"
TREE: Final = "YAML"


@dataclass(frozen=True, slots=True)
class Key:
    """
    One key.

    Attributes:
        kind: `TEXT`, `FLAG`, `TEXTS`, `PAIRS`, `TREE`, or the name of a mapping in `MAPPINGS`.
        text: What it does.
        listed: Whether it holds a list of such mappings.
        required: Whether the mapping is refused without it.
        idle: Whether it is accepted without effect.
        words: The words that it may be, if only some may.
    """

    kind: str
    text: str
    listed: bool = False
    required: bool = False
    idle: bool = False
    words: tuple[str, ...] = ()


Keys = Mapping[str, Key]

_CREDENTIAL: Final = "Name of the credential that holds {}: a file in `delivery.credentials.dir`."
_ENABLED: Final = Key(
    FLAG,
    "Has no effect: every listed entry is delivered. `false` causes a warning; remove the entry "
    "to disable it.",
)
ALERTMANAGER: Final = "alertmanager"
_AFTER: Final = (
    "How long attempts may go on, or wait, without success until the `fallback` is used as well: from "
    "`1s` to `24h`; default `10m`."
)
_DECIDED: Final = Key(TEXT, "Accepted without effect: the webhook decides.", idle=True)

#: Every mapping of the file by name.
MAPPINGS: Final[Mapping[str, Keys]] = {
    "file": {
        "route": Key("route", "The root of the tree. It matches everything.", required=True),
        "receivers": Key("receiver", "All receivers.", listed=True, required=True),
    },
    "route": {
        "receiver": Key(
            TEXT,
            "Name of the receiver of notifications that match here and no route below. A route "
            "without one adds no receiver; what ends there goes to the console, or to a route above.",
        ),
        "match": Key(
            PAIRS,
            "Attributes and the exact values that they must have, all of them. A missing attribute "
            "counts as empty text. No effect on the root.",
        ),
        "matchRe": Key(
            PAIRS,
            "Attributes and patterns (RE2) that must match them, all of them. A pattern matches "
            "anywhere in the value: anchor it with `^` and `$`. A missing attribute matches no "
            "pattern. No effect on the root.",
        ),
        "continue": Key(
            FLAG,
            "Whether the routes after this one are tried as well, although this one matched; default "
            "false. No effect on the root.",
        ),
        "routes": Key(
            "route",
            "Child routes, tried in order. The first that matches and does not continue is the last "
            "one tried.",
            listed=True,
        ),
        "fallback": Key(
            TEXT,
            "Name of the receiver that gets what the route's own cannot be told, in place of that one's "
            "`fallback`.",
        ),
        "fallbackAfter": Key(TEXT, _AFTER),
        "groupBy": Key(TEXTS, "Accepted without effect: nothing is grouped.", idle=True),
    },
    "receiver": {
        "name": Key(
            TEXT,
            "Name by which routes refer to it; part of its channels' names. At most 256 characters. "
            "If two receivers have one name, the last is used.",
            required=True,
        ),
        "slackConfigs": Key("slackConfigs", "Slack webhooks.", listed=True),
        "pagerdutyConfigs": Key("pagerdutyConfigs", "PagerDuty services.", listed=True),
        "teamsConfigs": Key("teamsConfigs", "Microsoft Teams workflows.", listed=True),
        "emailConfigs": Key(
            "emailConfigs", "E-mail, if `delivery.email.enabled` is true.", listed=True
        ),
        "webhookConfigs": Key(
            "webhookConfigs",
            "Generic webhooks, if `delivery.webhook.enabled` is true.",
            listed=True,
        ),
        "consoleConfigs": Key(
            "consoleConfigs",
            "The controller's standard output, one for all receivers.",
            listed=True,
        ),
        "fileConfigs": Key(
            "fileConfigs", "A file for each notification in `delivery.file.outputDir`.", listed=True
        ),
        "logConfigs": Key(
            "logConfigs",
            "One line of JSON for each, if `delivery.log.enabled` is true.",
            listed=True,
        ),
        "templates": Key(
            "templates",
            "Words of your own, for all channels of the receiver but console, file and log.",
        ),
        "fallback": Key(
            TEXT,
            "Name of the receiver that gets what this one cannot be told, once one of its channels has "
            "ended without success. What that one's own `fallback` says is not used then.",
        ),
        "fallbackAfter": Key(TEXT, _AFTER),
        "allowedNamespaces": Key(
            TEXTS,
            "Namespaces from which it accepts notifications: names, or patterns with `*` and `?`; "
            "default all. What another namespace sends there fails permanently. Not for console, file "
            "and log.",
        ),
    },
    "templates": {
        "subject": Key(TEXT, "In place of the subject; one line."),
        "body": Key(
            TEXT,
            "In place of the body: in Slack's mrkdwn, in Teams' Markdown, and plain text elsewhere.",
        ),
        "titleLink": Key(TEXT, "An address that is shown before the other links, as *Open*."),
        "slackBlocks": Key(TREE, "In place of all of a Slack message's blocks."),
        "pagerduty": Key(
            TREE,
            "Members of the event: `summary`, `source`, `severity`, `component`, `group`, `class`, and "
            "`details`, which are added to the custom ones.",
        ),
        "mailHtml": Key(TEXT, "A page of HTML that mail has beside its text."),
    },
    "slackConfigs": {
        "credentialRef": Key(TEXT, _CREDENTIAL.format("the webhook's URL"), required=True),
        "channel": _DECIDED,
        "username": _DECIDED,
        "iconEmoji": _DECIDED,
    },
    "pagerdutyConfigs": {
        "credentialRef": Key(
            TEXT, _CREDENTIAL.format("the routing key (Events API v2)"), required=True
        ),
        "url": Key(TEXT, "Where events go instead of PagerDuty's own address."),
        "dedupKey": Key(
            TEXT,
            "`alertmanager`: incidents of the gateway that are groups of alerts have the key that "
            "Alertmanager's own integration gives them, so that both are the same incidents.",
            words=(ALERTMANAGER,),
        ),
        "severity": Key(
            TEXT, "Accepted without effect: the notification's priority decides.", idle=True
        ),
    },
    "teamsConfigs": {
        "credentialRef": Key(TEXT, _CREDENTIAL.format("the workflow's URL"), required=True),
    },
    "emailConfigs": {
        "to": Key(
            TEXT,
            "Addresses, separated by commas, at most 100. Each is a channel of its own.",
            required=True,
        ),
        "from": Key(TEXT, "One address, with or without a name.", required=True),
        "smarthost": Key(
            TEXT, "The mail server: `host`, `host:port` or `[address]:port`.", required=True
        ),
        "tls": Key(
            TEXT,
            "How the connection is protected; default `starttls` (port 587), on port 465 `implicit`. "
            "`none` (port 25) only without a password.",
            words=("starttls", "implicit", "none"),
        ),
        "requireTls": Key(FLAG, "Has no effect unless `tls` is `none`, which it forbids."),
        "username": Key(TEXT, "User at the mail server; goes with `credentialRef`."),
        "credentialRef": Key(TEXT, _CREDENTIAL.format("the password")),
    },
    "webhookConfigs": {
        "url": Key(TEXT, "Where to POST. A URL that is a secret belongs in `credentialRef`."),
        "credentialRef": Key(TEXT, _CREDENTIAL.format("the URL, in place of `url`")),
        "method": Key(
            TEXT,
            "`POST`, `PUT`, `PATCH` or `DELETE`; default `POST`.",
            words=("POST", "PUT", "PATCH", "DELETE"),
        ),
        "path": Key(
            TEXT,
            "What is added to the address; a template, of `{{ incident }}` and, in `update` and `resolve`,"
            " of `{{ answer }}`, the id.",
        ),
        "query": Key(PAIRS, "Parameters that are added to the address; templates."),
        "headers": Key(PAIRS, "Further headers, the same for all notifications."),
        "payload": Key(TREE, "The body as a tree whose texts are templates, sent as JSON."),
        "form": Key(PAIRS, "The body as a form; templates."),
        "text": Key(TEXT, "The body as plain text; a template."),
        "limits": Key(
            PAIRS,
            "The longest texts by their paths in the body: `content: 2000 chars`, or `utf16` or `bytes`.",
        ),
        "markup": Key(
            PAIRS, "Texts of the body that are `html`, `markdown`, `mrkdwn` or a `link`, by path."
        ),
        "success": Key(
            TREE,
            "What an answer of success is: `codes`, default any 2xx, and `when`, an expression over it.",
        ),
        "retryAfter": Key(TEXT, "Seconds to wait, as an expression over an answer of failure."),
        "id": Key(
            TEXT, "The id of what was made, as an expression over the answer; kept on record."
        ),
        "update": Key(
            TREE,
            "The request that changes what an earlier notification of the incident has made, where its id"
            " is known: `method`, `path`, `query`, and `payload`, `form` or `text`.",
        ),
        "resolve": Key(
            TREE,
            "The request that tells of the end of an incident, with the same members. Where it needs an id"
            " that is not known, the usual one is sent.",
        ),
        "signingSecretRefs": Key(
            TEXTS,
            "Names of the credentials with which each request is signed (Standard Webhooks); several while"
            " one is replaced.",
        ),
        "httpConfig": Key(
            "httpConfig",
            "How the controller authenticates to the receiver: a token, or user and password.",
        ),
    },
    "httpConfig": {
        "bearerTokenRef": Key(TEXT, _CREDENTIAL.format("the bearer token")),
        "bearerToken": Key(TEXT, "The token itself, visible to every reader of this file."),
        "scheme": Key(TEXT, "What stands before the token in `Authorization`; default `Bearer`."),
        "basicAuth": Key("basicAuth", "User and password."),
        "credentialsOverHttp": Key(
            FLAG,
            "Allows a token or password to be sent over http://, readable on the network; default false.",
        ),
    },
    "basicAuth": {
        "username": Key(TEXT, "The user; holds no colon.", required=True),
        "passwordRef": Key(TEXT, _CREDENTIAL.format("the password")),
        "password": Key(TEXT, "The password itself, visible to every reader of this file."),
    },
    "consoleConfigs": {"enabled": _ENABLED},
    "fileConfigs": {
        "enabled": _ENABLED,
        "path": Key(TEXT, "Accepted without effect: `delivery.file.outputDir` decides.", idle=True),
    },
    "logConfigs": {"enabled": _ENABLED},
}

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
