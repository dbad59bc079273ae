"""What of the largest notification is looked at, cleaned and shown: never more than a bound."""

from __future__ import annotations

import bisect
import json
import threading
from collections.abc import Callable
from typing import Any, Final
from unittest.mock import Mock

import pytest

from notifier.channels import base, slack, teams
from notifier.channels.base import cut
from notifier.channels.transport_errors import EXCERPT_BYTES, excerpt
from notifier.content import sanitise as cleaning
from notifier.content.links import only_safe_links
from notifier.content.message import compose
from notifier.content.mrkdwn import to_mrkdwn
from notifier.content.sanitise import PIECE_CHARS
from notifier.content.trim import (
    BODY_CHARS,
    MORE,
    OBJECT_CHARS,
    REST_CHARS,
    TEXT_COST,
    TRUNCATED,
    Budget,
    head,
)
from notifier.routing.tree import fallback_message
from syncer.model.resource import Spec
from syncer.runtime.offload import SMALL, offload
from tests.channels.messages import document, message, untrimmed

Json = dict[str, Any]
MIB: Final = 1 << 20


def _deep(depth: int) -> Json:
    value: Json = {"end": "x"}
    for _ in range(depth):
        value = {"in": value}
    return value


SHAPES: Final[dict[str, Callable[[], Json]]] = {
    "45,000 extensions": lambda: document(extensions={f"key-{n:05}": "v" for n in range(45_000)}),
    "a body of a mebibyte": lambda: document(body="a word " * (MIB // 7)),
    "a subject of a mebibyte": lambda: document(subject="a word " * (MIB // 7)),
    "a body of secrets": lambda: document(body="pwd=x " * (MIB // 6)),
    "a body of combining marks": lambda: document(body="a" + "\u0345\u0300" * (MIB // 4)),
    "a body of letters of full width": lambda: document(body="ｐｗｄ＝ｘ " * (MIB // 18)),  # noqa: RUF001 - that is the case
    "a body of `eyJ-`": lambda: document(body="eyJ-" * (MIB // 4)),
    "one long fact": lambda: document(context={"analysis": {"rootCause": "cause " * (MIB // 6)}}),
    "deep nesting": lambda: document(context=_deep(500)),
    "500 links": lambda: document(
        actionLinks=[{"service": "s", "url": "https://x.example/" + "a" * 2000, "label": "l"}] * 500
    ),
    "many annotations": lambda: document(
        metadata={"annotations": {f"k{n}": "v" * 40 for n in range(5_000)}}
    ),
    "500 attempts": lambda: document(
        status={"deliveryAttempts": [{"channel": "c", "error": "token=x " * 250}] * 500}
    ),
}  # fmt: skip


@pytest.fixture(name="cleaned")
def _cleaned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of every piece of text that rules are tried on."""
    lengths: list[int] = []
    real = cleaning._replaced

    def counted(text: str) -> str:
        lengths.append(len(text))
        return real(text)

    monkeypatch.setattr(cleaning, "_replaced", counted)
    monkeypatch.setattr(cleaning, "_CLEAN", set())
    return lengths


@pytest.mark.parametrize("shape", SHAPES)
def test_largest_notification_is_bounded(shape: str, cleaned: list[int]) -> None:
    """Whatever is large about an object, what is cleaned for a message is bounded, in pieces and in all."""
    made = compose(SHAPES[shape](), "slack:ops", "0.5-1")
    # Twice, where a piece has letters that are spelt otherwise.
    assert sum(cleaned) <= 2 * (BODY_CHARS + 3 * REST_CHARS)
    assert len(cleaned) <= 5_000
    assert max(cleaned) <= 2 * PIECE_CHARS
    cleaned.clear()
    made.document()
    assert sum(cleaned) <= 2 * (OBJECT_CHARS + BODY_CHARS)
    assert len(cleaned) <= 10_000


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_left_out_is_marked(shape: str) -> None:
    """An object of which not all is shown says so where it was cut."""
    shown = json.dumps(
        compose(SHAPES[shape](), "slack:ops", "0.5-1").document(), ensure_ascii=False
    )
    whole = len(json.dumps(SHAPES[shape]()))
    assert (
        whole < OBJECT_CHARS // 2 or TRUNCATED in shown or "further entries are left out" in shown
    )


def test_ordinary_notification_is_shown_whole() -> None:
    """What fits is not touched: body, facts, links and forty extensions."""
    made = message(
        body="line\n" * 4_000,
        context={"analysis": {"rootCause": "cause " * 6_000}},
        extensions={f"k{n}": "v" * 100 for n in range(40)},
        actionLinks=[{"service": "s", "url": "https://x.example", "label": "l"}] * 20,
    )
    assert made.spec.body == "line\n" * 4_000
    assert made.fact("analysis", "rootCause") == "cause " * 6_000
    assert len(made.spec.extensions) == 40
    assert len(made.spec.action_links) == 20


def test_links_end_with_the_budget() -> None:
    """A link is shown while a character is left, and where none is, a mark says how many are not."""
    link = {"service": "s", "url": "https://x.example", "label": "l"}

    def spec(filled: int) -> Spec:
        words = ["word " * 12_000, "word " * 12_000, "w" * filled]
        return message(context={"k": words}, actionLinks=[link] * 2).spec

    def left_out(filled: int) -> bool:
        return spec(filled).action_links[-1][0] == MORE

    shown = spec(0)
    texts = [
        shown.type, shown.priority, shown.severity, shown.phase, shown.review_source,
        shown.cluster_id, shown.remediation_request, "k", *["word " * 12_000] * 2, "",
        *shown.action_links[0],
    ]  # fmt: skip
    spent = sum(len(text) + TEXT_COST for text in texts)
    filled = bisect.bisect_left(range(20_000), True, key=left_out)
    assert filled == REST_CHARS - spent
    assert spec(filled).action_links[1:] == ((MORE, "", "1 further links"),)


def test_slack_converts_only_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long body a few times the section's length is converted, and the section says that it is cut."""
    converted = Mock(wraps=to_mrkdwn)
    monkeypatch.setattr(slack, "to_mrkdwn", converted)
    for unit in ("word ", "\n", "```\n", "**b** ", "[a](http://x) "):
        section = slack.slack_section(unit * (MIB // len(unit)))
        assert section.endswith("(truncated)"), unit
        assert len(section) <= slack.SECTION_CHARS
    assert max(len(call.args[0]) for call in converted.call_args_list) == slack.SOURCE_CHARS


def test_teams_weighs_only_what_it_may_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for links, and that for the cut, work on texts no longer than a card."""
    cuts, links = Mock(wraps=cut), Mock(wraps=only_safe_links)
    monkeypatch.setattr(base, "cut", cuts)
    monkeypatch.setattr(teams, "only_safe_links", links)
    assert len(teams.teams_body(untrimmed(body="é" * MIB))) <= teams.BODY_BYTES
    for searched in (cuts, links):
        assert max(len(call.args[0]) for call in searched.call_args_list) <= teams.BODY_BYTES


def test_condition_of_many_attributes(cleaned: list[int]) -> None:
    """The text on routing cleans no more than it could show, and counts what it does not."""
    attributes = {f"key-{n:05}": "v" * 2_000 for n in range(45_000)}
    text = fallback_message(attributes, cleaning.sanitise)
    assert len(text.encode()) <= 1024
    assert text.startswith("No routing rules matched (attributes: key-00000=")
    shown = text.count("key-")
    assert f"(+{45_000 - shown})" in text
    assert sum(cleaned) <= 2 * 64 * 1024


def test_answer_is_cleaned_as_far_as_it_is_shown(cleaned: list[int]) -> None:
    """Of 64 KiB that a receiver answers, a kibibyte is shown and a piece or two is cleaned."""
    block = f"-----BEGIN PRIVATE KEY-----{'sk-aaaa ' * 800}-----END PRIVATE KEY-----{'.' * 64}\n"
    for unit in ("eyJ-", "sk-aaaa ", "token: x ", "ab\u0345\u0300 ", block):
        answer = unit * (64 * 1024 // len(unit))
        cleaned.clear()
        assert len(excerpt(answer).encode()) <= EXCERPT_BYTES
        assert sum(cleaned) <= 4 * PIECE_CHARS, unit[:40]


def test_a_small_object_makes_no_large_message(cleaned: list[int]) -> None:
    """What is small enough for the loop stays so, whatever a name puts into its body."""
    workflow = {"workflowId": "~", "workflowName": "secret:=x "}
    for mentions in range(400, 15_000, 200):
        cleaned.clear()
        message(body="~" * mentions, context={"workflow": workflow})
        assert sum(cleaned) <= 2 * SMALL, mentions


async def test_waiting_for_large_work_has_an_end() -> None:
    """The work ends by itself."""
    gate = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            await offload(gate.wait, size=SMALL + 1, seconds=0.01)
    finally:
        gate.set()


def test_message_knows_its_size() -> None:
    """What decides whether a payload is made beside the loop counts the texts that are long."""
    assert message(body="x" * 50_000).size >= 50_000
    assert message(extensions={"a": "x" * 50_000}).size >= 50_000
    assert message().size < SMALL


def test_how_much_of_a_message_is_shown() -> None:
    """A quarter of a mebibyte of the body, 64 KiB of any other text, and 128 KiB of all others."""
    made = message(
        subject="s" * 100_000, body="b" * 400_000, context={"k": ["x" * 60_000] * 4}
    ).spec
    assert (len(made.subject), len(made.body)) == (65_536, 262_144)
    whole, second, cut, *more = made.context["k"]
    assert whole == second == "x" * 60_000
    # Each text costs 64 characters more: seven members of the spec, a name, and the texts before.
    spent = 7 * 64 + len("EscalationCritical") + (64 + 1) + 2 * (64 + 60_000)
    assert len(cut) == 131_072 - spent
    assert cut.endswith(TRUNCATED)
    assert more == [f"{MORE} 1 further entries are left out"]
    assert len(message(context={"a": {"b": "x" * 100_000}}).fact("a", "b")) == 65_536


HEADS = {
    "what fits is whole": ("word word", 9, "word word"),
    "no space at all": ("x" * 100, 0, TRUNCATED),
    "less than the mark takes": ("x" * 100, 10, TRUNCATED),
    "behind the last blank that fits": ("ab cd " + "e" * 100, len(TRUNCATED) + 7, "ab cd " + TRUNCATED),
    "behind the last line that fits": ("ab\ncd " * 20, len(TRUNCATED) + 5, "ab\n" + TRUNCATED),
    "a blank that begins the text": (" " + "x" * 600, 300, " " + TRUNCATED),
    "a token of 512 characters is not parted": (
        "ab " + "x" * 600, len(TRUNCATED) + 2 + 512, "ab " + TRUNCATED,
    ),
    "a longer one is": (
        "ab " + "x" * 600, len(TRUNCATED) + 2 + 513, "ab " + "x" * 512 + TRUNCATED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADS)
def test_head_of_a_text(case: str) -> None:
    """A text that is too long is cut behind a blank, if there is one near, and marked."""
    text, limit, wanted = HEADS[case]
    assert head(text, limit) == wanted


@pytest.mark.parametrize(("chars", "shown"), [(130, 1), (131, 2)])
def test_a_member_is_shown_while_a_character_is_left(chars: int, shown: int) -> None:
    """A name and its text cost 65 characters each; what comes when none is left is counted."""
    members = {"a": "1", "b": "2", "c": "3"}
    for found in (Budget(chars).texts(members), Budget(chars).tree(members, 9)):
        assert len(found) == shown + 1
        assert found.popitem() == (MORE, f"{3 - shown} further entries are left out")
    items = Budget(chars).tree(["a", "b", "c", "d"], 9)
    assert items[shown + 1 :] == [f"{MORE} {3 - shown} further entries are left out"]


@pytest.mark.parametrize(
    ("tree", "depth", "shown"),
    [
        ([[[1]]], 2, [[[f"{MORE} 1 further entries are left out"]]]),
        ([[[1]]], 3, [[[1]]]),
        ({"a": {"b": {"c": 1}}}, 2, {"a": {"b": {MORE: "1 further entries are left out"}}}),
        ({"a": {"b": {"c": 1}}}, 3, {"a": {"b": {"c": 1}}}),
        ([[1, 2]], 1, [[f"{MORE} 2 further entries are left out"]]),
        ({"a": 5, "b": None, "c": True}, 1, {"a": 5, "b": None, "c": True}),
    ],
)
def test_how_deep_a_tree_is_shown(tree: Any, depth: int, shown: Any) -> None:
    """Each level of mappings and of lists counts as one."""
    assert Budget(1_000).tree(tree, depth) == shown
    assert Budget(0).text("x") == TRUNCATED


@pytest.mark.parametrize("left", range(60, 220, 8))
def test_a_text_that_takes_the_rest_keeps_its_name(left: int) -> None:
    """Where the space ends at the value of a secret, its name is known still, and hides it."""
    filler = "word " * 12_000
    extensions = {"a": filler, "b": filler, "password": "oak-31-hunter"}
    empty = Budget(REST_CHARS)
    made = message().spec
    for text in (
        made.type, made.priority, made.severity, made.phase, made.review_source,
        made.cluster_id, made.remediation_request, "a", filler, "b", filler,
    ):  # fmt: skip
        empty.text(text)
    extensions["b"] += "w" * (empty.left - left)
    shown = message(extensions=extensions).spec.extensions
    assert "oak-31" not in json.dumps(shown)
    found = document(context={"k": {"c": "x" * 10, "password": "oak-31-hunter"}})
    budget = Budget(left)
    tree = cleaning.sanitise_tree(budget.tree(found["spec"]["context"], 9))
    assert "oak-31" not in json.dumps(tree)


def test_values_without_text_count_too() -> None:
    """Each number is a line of a picture, however short it is."""
    budget = Budget(10 * TEXT_COST)
    shown = budget.tree([1] * 100, 9)
    assert shown == [1] * 10 + [f"{MORE} 90 further entries are left out"]
    assert budget.left == 0
