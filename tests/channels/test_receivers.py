"""
The ready-made receivers of `docs/receivers`: their bytes, within what their vendors take, whatever is told.

The limits are those that the vendors publish; what a vendor reads as markup is read here as it would.
"""

from __future__ import annotations

import html.parser
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.channels.http import HttpClient
from notifier.channels.webhook import body_of
from notifier.contract import Outcome
from notifier.dispatch.breaker import Evidence, evidence_of
from notifier.routing.parse import examine
from notifier.templates.text import UNITS
from syncer.model.attempt import FailureClass
from tests.channels.ready_made import CASES, NAMES, WIDE, made, routing, told
from tests.channels.receiver import Step, receiving
from tests.channels.rig import Rig
from tests.docs.pages import DOCS
from tests.examples import examples

GOLDEN: Final = orjson.loads(Path(__file__).with_name("receivers.json").read_bytes())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_golden(name: str, case: str) -> None:
    """Method, path, query and body."""
    state, answer = CASES[case]
    found = made(name, told(state, answer))
    assert [found.method, found.path, found.query, found.body] == GOLDEN[name][case]
    assert orjson.loads(body_of(found, told())) == found.body
    assert found.content_type == "application/json"


def texts(value: Any) -> list[str]:
    """All texts of a payload."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in texts(item)]


def shape(value: Any) -> Any:
    """A payload without its texts."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else type(value)


class Page(html.parser.HTMLParser):
    """The tags of a page, and where its links lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [str(value) for name, value in attrs if name == "href"]


def check_page(page: str) -> None:
    """Only the template's own tags, and each link to where the alert comes from."""
    read = Page(page)
    assert read.tags <= {"b", "a", "br"}
    assert "<!" not in page
    for link in read.links:
        assert link.startswith("https://p.example.org/g")


def check_markdown(text: str) -> None:
    """Only the template's own links, and nobody is mentioned."""
    for target in re.findall(r"(?<!\\)\]\(([^)]*)\)", text):
        assert target.startswith("https://p.example.org/g")
    assert not re.search(r"@(?!\u200b)\w", text)
    assert not re.search(r"(?<!\\)<", text)
    assert not re.search(r"(?<!\\)`", text)


def check_discord(body: Any) -> None:
    """Nobody is mentioned."""
    assert body["allowed_mentions"] == {"parse": []}
    (embed,) = body["embeds"]
    check_markdown(embed["title"])
    check_markdown(embed["description"])


def check_google_chat(body: Any) -> None:
    """A card's text is HTML, and mentions are in plain texts alone."""
    assert "text" not in body
    check_page(body["cardsV2"][0]["card"]["sections"][0]["widgets"][0]["textParagraph"]["text"])


def check_mattermost(body: Any) -> None:
    """All texts are Markdown but the footer."""
    (part,) = body["attachments"]
    for name in ("fallback", "title", "text"):
        check_markdown(part[name])


def check_telegram(body: Any) -> None:
    """The text is a page."""
    assert body["parse_mode"] == "HTML"
    check_page(body["text"])


def check_ntfy(body: Any) -> None:
    """Priorities of 1 to 5, and a click that opens a page."""
    assert 1 <= body["priority"] <= 5
    assert body.get("click", "https://am.example.org/").startswith("https://am.example.org/")


def check_jsm(body: Any) -> None:
    """Message and description of an alert are pages, in which nothing but text is."""
    for name in ("message", "description"):
        assert Page(body.get(name, "")).tags == set()


CHECKS: Final[dict[str, Callable[[Any], None]]] = {
    "discord": check_discord,
    "google-chat": check_google_chat,
    "mattermost": check_mattermost,
    "telegram": check_telegram,
    "ntfy": check_ntfy,
    "jira-service-management": check_jsm,
}
#: What the vendors say of lengths, by path, all at or below it together; "" is the body as bytes. Each text
#: has a row; of None, it is the entry's own.
FACTS: Final[dict[str, tuple[str, dict[str, tuple[int, str] | None]]]] = {
    "discord": ("https://docs.discord.com/developers/resources/message#embed-object-embed-limits", {
        "embeds": (6000, "utf16"), "embeds.title": (256, "utf16"), "embeds.description": (4096, "utf16"),
        "embeds.footer.text": (2048, "utf16"),
    }),
    "google-chat": ("https://developers.google.com/workspace/chat/create-messages", {
        "": (32_000, "json"), "thread.threadKey": (4000, "chars"), "cardsV2.cardId": None,
        "cardsV2.card.header.title": (32_000, "json"), "cardsV2.card.header.subtitle": (32_000, "json"),
        "cardsV2.card.sections.widgets.textParagraph.text": (32_000, "json"),
    }),
    # Attachments are properties of a post: 800,000 characters of JSON, of which 40,000 are the server's.
    "mattermost": ("https://github.com/mattermost/mattermost/blob/master/server/public/model/post.go", {
        "": (760_000, "json"), "username": None, "attachments.color": None,
        "attachments.fallback": (16_383, "chars"), "attachments.title": (16_383, "chars"),
        "attachments.text": (16_383, "chars"), "attachments.footer": (16_383, "chars"),
    }),
    # After entities; here before.
    "telegram": ("https://core.telegram.org/bots/api#sendmessage", {
        "text": (4096, "utf16"), "parse_mode": None,
    }),
    # Of what is published as JSON, the server reads twice the length of a message.
    "ntfy": ("https://docs.ntfy.sh/publish/#limitations", {
        "": (8192, "json"), "topic": None, "title": (4096, "bytes"), "message": (4096, "bytes"),
        "tags": None, "click": (4096, "bytes"),
    }),
    "jira-service-management": ("https://docs.opsgenie.com/docs/alert-api", {
        "message": (130, "chars"), "alias": (512, "chars"), "description": (15_000, "chars"),
        "entity": (512, "chars"), "source": (100, "chars"), "note": (25_000, "chars"),
        "priority": None, "details": (8000, "chars"), "details.severity": (8000, "chars"),
        "details.cluster": (8000, "chars"), "details.labels": (8000, "chars"),
    }),
}  # fmt: skip


def placed(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The texts of a payload, with their paths."""
    if isinstance(value, str):
        yield path, value
    items = (
        value.items()
        if isinstance(value, dict)
        else [("", item) for item in value]
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield from placed(item, ".".join(filter(None, (path, key))))


def check_lengths(name: str, body: Any) -> None:
    """No text is longer than its vendor takes, nor are all of them together."""
    found, (_, limits) = list(placed(body)), FACTS[name]
    assert {path for path, _ in found} <= limits.keys()
    for path, limit in limits.items():
        if limit is not None:
            text = "".join(text for at, text in found if f"{at}.".startswith(f"{path}."))
            size = UNITS[limit[1]](text) if path else len(orjson.dumps(body))
            assert size <= limit[0], path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_nothing_is_longer_than_its_vendor_takes(name: str, case: str) -> None:
    """However much of a limit one character takes: in JSON, HTML or Markdown, in bytes or units."""
    for sign in WIDE:
        for times in (900, 20_000):  # with alerts, and more than the gateway hands on
            check_lengths(name, made(name, told(*CASES[case], sign * times)).body)
        check_lengths(name, made(name, told(*CASES[case], links="https://x/" + sign * 2000)).body)


#: What breaks out of one language or another.
HOSTILE: Final = st.lists(
    st.sampled_from(
        [
            '"',
            "'",
            "\\",
            "<",
            ">",
            "&",
            "<!channel>",
            "<users/all>",
            "@everyone",
            "@here",
            "@channel",
            "](",
            ")",
            "[x](https://evil.example)",
            "<b>",
            "</b>",
            '"><a href="https://evil.example">',
            "<script>",
            "`",
            "```",
            "|",
            "\n",
            "\r",
            "\0",
            "\u202e",
            "\u2067",
            "😀",
            "{{ x }}",
            "{{#each}}",
            "../..",
            "?a=b&c",
            "#",
            "javascript:",
            "x" * 99,
            "*",
            "_",
            "~~",
            "||",
            ',"alias":"x"',
            "%2e%2e/",
        ]
    ),
    max_size=9,
).map("".join)


@pytest.mark.parametrize("name", NAMES)
@examples(60)
@given(
    text=HOSTILE, times=st.sampled_from([1, 1, 1, 40, 4000]), case=st.sampled_from(sorted(CASES))
)
def test_nothing_breaks_out(name: str, text: str, times: int, case: str) -> None:
    """Whatever stands in each hole: the payload keeps its shape, the path its segments, and its limits."""
    state, answer = CASES[case]
    found = made(name, told(state, answer, text * times))
    harmless = made(name, told(state, answer))
    if "click" not in found.body:  # of a notification that is too large, links are left out
        harmless.body.pop("click", None)
    assert shape(found.body) == shape(harmless.body)
    assert (found.method, found.path, found.query) == (
        harmless.method,
        harmless.path,
        harmless.query,
    )
    CHECKS[name](found.body)
    check_lengths(name, found.body)
    body = body_of(found, told())
    assert orjson.loads(body) == found.body
    assert len(body) <= 200_000
    assert not any(mark in part for part in texts(found.body) for mark in "\u202e\u2067")


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_without_a_usable_address_is_told_like_the_others(name: str) -> None:
    """A rule's address is often relative, and anybody may write another."""
    for url in ("/graph?g0", "javascript:alert(1)", "nested", 5):
        assert made(name, told(url=url)) == made(name, told())


@pytest.mark.parametrize("answer", ["..", "../x", "a/b", "a?b", "", "x" * 129, " ", "é"])
def test_what_is_no_id_becomes_no_part_of_a_path(answer: str) -> None:
    """The usual request is sent."""
    assert made("discord", told("resolved", answer)).path == ""
    assert made("discord", told("firing", answer)).method == "POST"


async def test_what_a_receiver_answers_is_read(tmp_path: Path, http_client: HttpClient) -> None:
    """Its id is kept; success and wait are what its entry says, not the code alone."""
    answers = [
        (Step(200, body=b'{"ok": true, "result": {"message_id": 42}}'), "success", "42", None),
        (Step(200, body=b'{"ok": false}'), "failed", "", None),
        (Step(429, body=b'{"ok": false, "parameters": {"retry_after": 17}}'), "failed", "", 17.0),
        (Step(200, body=b"no JSON"), "failed", "", None),
        (Step(400, body=b'{"ok": false}'), "failed", "", None),
        (Step(409, body=b'{"ok": false}'), "failed", "", None),
        (
            Step(
                400, body=b'{"ok": false, "description": "Bad Request: message is not modified: x"}'
            ),
            "success",
            "",
            None,
        ),
        (Step(200, body=b'{"ok": true, "result": {"message_id": "../x"}}'), "success", "", None),
        (
            Step(200, body=b'{"ok": true, "result": {"message_id": "bot7:secret"}}'),
            "success",
            "",
            None,
        ),
        (Step(200, body=b'{"ok": true, "result": {"message_id": true}}'), "success", "", None),
    ]
    async with receiving(*(step for step, *_ in answers)) as receiver:
        text = routing("telegram").replace("telegram-bot-url", "bot")
        rig = Rig(tmp_path, http_client, text, bot=receiver.url("/bot7:secret"))
        for _, state, answer, wait in answers:
            outcome = await rig.send("webhook:telegram")
            assert (outcome.state.word, outcome.answer, outcome.retry_after) == (
                state,
                answer,
                wait,
            )
            assert "secret" not in outcome.error
            assert outcome.digest
    assert {request.line for request in receiver.requests} == {
        "POST /bot7:secret/sendMessage HTTP/1.1"
    }
    keeps = rig.channels.channel("webhook:telegram")
    assert keeps is not None
    assert keeps.keeps_state


async def test_an_incident_is_one_message(tmp_path: Path, http_client: HttpClient) -> None:
    """By the id in the answer, behind the secret address; a query of its own stays."""
    made_it = Step(200, body=b'{"id": "77"}')
    async with receiving(made_it, Step(200), Step(200)) as receiver:
        text = routing("discord").replace("discord-webhook-url", "url")
        rig = Rig(tmp_path, http_client, text, url=receiver.url("/api/1/secret?thread_id=5"))
        channel = rig.channels.channel("webhook:discord")
        assert channel is not None
        answer = (await channel.send(told())).answer
        assert (await channel.send(told("firing", answer))).answer == ""
        assert (await channel.send(told("resolved", answer))).code == 200
    assert [request.line.removesuffix(" HTTP/1.1") for request in receiver.requests] == [
        "POST /api/1/secret?thread_id=5&wait=true",
        "PATCH /api/1/secret/messages/77?thread_id=5",
        "PATCH /api/1/secret/messages/77?thread_id=5",
    ]


#: What each receiver with messages that are edited answers once somebody has deleted one, and to what else.
DELETED: Final = {
    "discord": (Step(404, body=b'{"message": "Unknown Message", "code": 10008}'), Step(400)),
    "telegram": (
        Step(400, body=b'{"ok": false, "description": "Bad Request: message to edit not found"}'),
        Step(400, body=b'{"ok": false, "description": "Bad Request: chat not found"}'),
    ),
}


@pytest.mark.parametrize("state", ["firing", "resolved"])
@pytest.mark.parametrize("name", DELETED)
async def test_what_was_deleted_is_told_anew(
    name: str, state: str, tmp_path: Path, http_client: HttpClient
) -> None:
    """A message that somebody has removed fails nothing; what else is refused, or a new one, does."""
    gone, refused = DELETED[name]
    async with receiving(gone, refused, gone) as receiver:
        text = re.sub("credentialRef: .*", "credentialRef: url", routing(name))
        rig = Rig(tmp_path, http_client, text, url=receiver.url("/api/1/secret"))
        channel = rig.channels.channel(f"webhook:{name}")
        assert channel is not None
        assert re.fullmatch("[0-9a-f]{8}", channel.keeps_state)
        edited = await channel.send(told(state, "77"))
        wrong = await channel.send(told(state, "77"))
        made_it = await channel.send(told(state))
    assert (edited.failure, edited.code) == (FailureClass.TRANSIENT, gone.code)
    assert "what it had made of the incident is gone, so it is told anew" in edited.error
    assert wrong.failure is made_it.failure is FailureClass.PERMANENT


async def test_headers_of_an_entry_do_not_come_back(
    tmp_path: Path, http_client: HttpClient
) -> None:
    """Their values may be keys; short ones are words, which are no secret."""
    text = """\
route: {receiver: x}
receivers:
- name: x
  webhookConfigs: [{credentialRef: url, headers: {X-Key: k3y-0f-4n-entry, X-Env: prod}}]
"""
    async with receiving(Step(400, body=b"no k3y-0f-4n-entry in prod")) as receiver:
        rig = Rig(tmp_path, http_client, text, url=receiver.url("/api/1/secret"))
        outcome = await rig.send("webhook:x")
    assert receiver.requests[0].headers["x-key"] == "k3y-0f-4n-entry"
    assert outcome.error.endswith("no [REDACTED] in prod")


async def test_what_does_not_fit_waits_for_an_operator(
    tmp_path: Path, http_client: HttpClient
) -> None:
    """A receiver that takes its own payload alone is not sent another; nothing is lost."""
    async with receiving() as receiver:
        text = routing("ntfy").replace("https://ntfy.example.org/", receiver.url())
        text = text.replace("{{ links[0].url }}", "{{ upper(links) }}").replace(
            '"links &&', '"name ||'
        )
        rig = Rig(tmp_path, http_client, text.replace("ntfy-token", "token"), token="t")
        outcome = await rig.send("webhook:ntfy")
    assert receiver.requests == []
    assert (outcome.failure, outcome.mistake) == (FailureClass.PERMANENT, True)
    # Nor does it keep other notifications waiting, whose writers have done nothing.
    held = replace(outcome, failure=FailureClass.OPERATOR)
    assert evidence_of("webhook:ntfy", held) is Evidence.NONE
    assert evidence_of("webhook:ntfy", replace(held, code=401)) is Evidence.REFUSED
    assert (
        "the request does not fit the notification: payload: click: the expression" in outcome.error
    )


async def test_what_a_message_adds_to_an_address_is_no_secret(
    tmp_path: Path, http_client: HttpClient
) -> None:
    """What is in an answer is looked for by the receiver's own address, not by what anybody may write."""
    text = """\
route: {receiver: x}
receivers:
- name: x
  webhookConfigs: [{credentialRef: url, query: {text: "{{ subject }}", key: fixed-0123}}]
"""
    answer = b"no: Somebody's-Text-1 /hook-0123456 asked-0123 fixed-0123"
    async with receiving(Step(400, body=answer), Step(400)) as receiver:
        rig = Rig(tmp_path, http_client, text, url=receiver.url("/hook-0123456?k=asked-0123"))
        channel = rig.channels.channel("webhook:x")
        assert channel is not None
        told_to = replace(told(), spec=replace(told().spec, subject="Somebody's-Text-1"))
        error = (await channel.send(told_to)).error
        long = replace(told(), spec=replace(told().spec, subject="\N{FIRE}" * 9999))
        assert (await channel.send(long)).code == 400
    assert error.endswith(": no: Somebody's-Text-1 [REDACTED] [REDACTED] [REDACTED]")
    assert len(receiver.requests[1].line) < 12 * 2001 + 100


async def test_a_form_and_a_text(tmp_path: Path, http_client: HttpClient) -> None:
    """Are sent as such, with the entry's method, query and headers, and the token's own scheme."""
    text = """\
route: {receiver: x}
receivers:
- name: x
  webhookConfigs:
  - {url: "%s", method: PUT, query: {a: "{{ subject }}&b"}, headers: {X-Own: one},
     form: {t: "{{ body }}=", u: v}, limits: {form.t: 9 chars},
     httpConfig: {bearerToken: key, scheme: GenieKey, credentialsOverHttp: true}}
  - {url: "%s", text: "{{ subject }}\\n{{ length(links) }}", success: {codes: [201]}}
"""
    async with receiving(Step(200), Step(201)) as receiver:
        rig = Rig(tmp_path, http_client, text % (receiver.url("/p?q=1"), receiver.url("/p")))
        assert (await rig.send("webhook:x:0")).code == 200
        assert (await rig.send("webhook:x:1")) == replace(
            Outcome.success(201), digest=(await rig.send("webhook:x:1")).digest
        )
    form, plain, *_ = receiver.requests
    assert form.line == "PUT /p?q=1&a=Disk+full%26b HTTP/1.1"
    assert form.body == b"t=a+%2A%2Alou%E2%80%A6%3D&u=v"
    assert form.headers["content-type"] == "application/x-www-form-urlencoded"
    assert (form.headers["authorization"], form.headers["x-own"]) == ("GenieKey key", "one")
    assert plain.body == b"Disk full\n0"
    assert plain.headers["content-type"].startswith("text/plain")


WRONG: Final = {
    "method: GET": "method: must be 'POST', 'PUT', 'PATCH' or 'DELETE'",
    "payload: x": "payload: must be a mapping",
    "payload: {a: x}, text: y": "text: excludes payload",
    "payload: {a: '{{ nobody }}'}": "payload: a: nobody: there is no such member",
    "payload: {a: x}, limits: {b: 9 chars}": "limits.b: no text of a body has this path",
    "payload: {a: x}, limits: {a: 9 B}": "limits.a: must be a number and a unit",
    "payload: {a: x}, markup: {a: rtf}": "markup.a: must be one of",
    "payload: {a: '<a href=x {{ body }}>'}, markup: {a: html}": "payload: a: a hole may stand",
    "text: '{{ x }}'": "text: x: there is no such member",
    "path: '/{{ subject }}'": "path: subject: there is no such member",
    "path: '/../{{ incident }}'": "path: must begin with a slash",
    "path: 'x@evil.example/'": "path: must begin with a slash",
    "path: '/a?b'": "path: must begin with a slash",
    "success: {codes: 200}": "success.codes: must be a list",
    "success: {when: 'a..b'}": "success.when: the expression",
    "success: {code: 1}": "success.code: is unknown",
    "id: [x]": "id: must be a string",
    "resolve: {close: x}": "resolve.close: is unknown",
    "headers: {Host: x}": "headers.Host: is not a header that may be set",
    "headers: {Content-Type: x}": "headers.Content-Type: is not a header that may be set",
    "headers: {webhook-signature: x}": "headers.webhook-signature: is not a header that may be set",
    "headers: {X-A: '{{ body }}'}": "headers.X-A: is not a header that may be set",
    "query: {a: '{{ x }}'}": "query.a: x: there is no such member",
}


@pytest.mark.parametrize("entry", WRONG)
def test_what_is_wrong_is_told_with_its_place(entry: str) -> None:
    """When the file is read."""
    _, findings = examine(
        "route: {receiver: x}\nreceivers:\n"
        f"- {{name: x, webhookConfigs: [{{url: 'https://x', {entry}}}]}}",
        native=frozenset({"webhook"}),
    )
    path, _, reason = WRONG[entry].partition(": ")
    assert findings[0].path == f"receivers[0].webhookConfigs[0].{path}"
    assert findings[0].message.startswith(reason)


def test_each_file_is_on_the_page() -> None:
    """And none else."""
    page = (DOCS / "receivers.md").read_text()
    assert sorted(re.findall(r"\(receivers/([-a-z]+)\.yaml\)", page)) == NAMES
    assert len(NAMES) == 6
