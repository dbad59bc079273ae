"""The CustomResourceDefinition in the package, and what the comparison with a served one says."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncer.kube import crd
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.conditions import Condition
from syncer.model.rendering import render_status
from syncer.model.resource import ChannelRollup, ChannelStatus, Json, LogMark, Rollup, Status

ROOT = Path(__file__).parents[4]
#: Prefers the packages of a folder, and prints where the module and what the definition is.
PRINT = """
import sys
sys.path.insert(0, sys.argv[1])
from syncer.kube import crd
print(crd.__file__)
print(crd.render_crd(), end="")
"""
SOURCE = ROOT / "charts/notification-ledger/files/crd.yaml"

FULL = Status(
    phase="Retrying",
    reason="PartialFailureRetrying",
    message="Delivered to 1/2 channel(s), retrying failed channels with backoff 30s",
    conditions=(Condition("RoutingResolved", "True", "RoutingRuleMatched", "matched", 1_000, 1),),
    attempts=(
        Attempt(AttemptId("0.7-1"), "console", AttemptState.SUCCESS, 900, 1_000, number=1),
        Attempt(
            AttemptId("0.7-2"), "slack:ops", AttemptState.UNKNOWN, 900, 1_000, 31_000, 100,
            FailureClass.UNCERTAIN, "no answer", 504, 4,
        ),
    ),
    total_attempts=5,
    successful=1,
    failed=1,
    uncertain=1,
    queued_at=500,
    started_at=600,
    completed_at=2_000,
    observed_generation=1,
    channels=(ChannelStatus("console", "sent", 1), ChannelStatus("slack:ops", "due", 4, 31_000)),
    rollup=Rollup(3, (ChannelRollup("slack:ops", 3, AttemptId("0.6-9"), 3, 1),)),
    journal="0.7-1",
    log=LogMark(9, "0.7", "5f1d"),
)  # fmt: skip


def schema_of(document: Json) -> Json:
    """Return the schema of the only version."""
    (version,) = document["spec"]["versions"]
    schema: Json = version["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Yield every schema node with its path."""
    yield path, schema
    for name, node in schema.get("properties", {}).items():
        yield from nodes(node, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def upstream() -> Json:
    """Return the definition as upstream has it: without what is marked as only ours."""
    document = crd.load_crd(rules=False)
    for _, node in list(nodes(schema_of(document))):
        members = node.get("properties", {})
        for name in [
            n for n, m in members.items() if "notification-ledger only" in m.get("description", "")
            and n != "status"
        ]:  # fmt: skip
            del members[name]
    attempt = schema_of(document)["properties"]["status"]["properties"]["deliveryAttempts"]
    attempt["items"]["properties"]["status"]["enum"].remove("unknown")
    return document


def validate(value: Any, node: Json, path: str = "") -> Iterator[str]:
    """Yield the paths at which a value is unknown to a schema or outside its bounds."""
    if "enum" in node and value not in node["enum"]:
        yield f"{path}: {value!r}"
    if isinstance(value, str):
        if not re.search(node.get("pattern", ""), value):
            yield f"{path}: {value!r}"
        if len(value) > node.get("maxLength", len(value)):
            yield f"{path}: too long"
    elif isinstance(value, dict):
        yield from (f"{path}.{n}: absent" for n in node.get("required", []) if n not in value)
        yield from (f"{path}.{n}: unknown" for n in value if n not in node["properties"])
        for name in value.keys() & node["properties"].keys():
            yield from validate(value[name], node["properties"][name], f"{path}.{name}")
    elif isinstance(value, list):
        for member in value:
            yield from validate(member, node["items"], f"{path}[]")


def test_the_tree_holds_the_definition_once() -> None:
    """A checkout reads the chart's file; there is no other."""
    assert list((ROOT / "syncer").glob("**/*.yaml")) == []
    assert crd.render_crd() == SOURCE.read_text()


def test_an_editable_installation_reads_the_charts_file(tmp_path: Path) -> None:
    """What the environment has installed answers from the checkout, wherever it is started."""
    module, text = printed_by(tmp_path, tmp_path)
    assert module == ROOT / "syncer/kube/crd.py"
    assert text == SOURCE.read_text()


@pytest.mark.slow("builds a wheel")
def test_a_wheel_holds_the_charts_file(tmp_path: Path) -> None:
    """The build puts the definition into the wheel, and a program without a checkout reads it there."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path],
        cwd=ROOT, check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    module, text = printed_by(site, tmp_path)
    assert module == site / "syncer/kube/crd.py"
    assert text == SOURCE.read_text()


def printed_by(site: Path, folder: Path) -> tuple[Path, str]:
    """Print the definition in a process of its own that prefers the packages of `site`."""
    answer = subprocess.run(
        [sys.executable, "-c", PRINT, site],
        cwd=folder, check=True, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    module, _, text = answer.stdout.partition("\n")
    return Path(module), text


def test_render_with_rules_is_the_file() -> None:
    """With its rules the definition is printed as it was written, comments included."""
    assert crd.render_crd() == SOURCE.read_text()


def test_render_without_rules_drops_only_ours() -> None:
    """Without its rules the definition differs in nothing but the rules on the status."""
    bare = yaml.safe_load(crd.render_crd(rules=False))
    full = crd.load_crd()
    left = [
        (path, [rule["message"] for rule in node["x-kubernetes-validations"]])
        for path, node in nodes(schema_of(bare))
        if "x-kubernetes-validations" in node
    ]
    assert left == [("spec", ["spec is immutable after creation (DD-NOT-005)"])]
    schema = schema_of(full)
    del schema["properties"]["status"]["x-kubernetes-validations"]
    assert bare == full


def test_load_gives_a_fresh_dictionary() -> None:
    """A caller may change what it was given."""
    crd.load_crd()["spec"].clear()
    assert crd.load_crd()["spec"]["group"] == "kubernaut.ai"


def test_every_member_is_described() -> None:
    """`kubectl explain` has a sentence for every member of spec and status."""
    silent = [
        path
        for path, node in nodes(schema_of(crd.load_crd()))
        if path.startswith(("spec", "status")) and not node.get("description", "").endswith(".")
    ]
    assert silent == []


def test_everything_rendered_is_in_the_schema() -> None:
    """A status with all of its members is known to the schema and within its bounds."""
    schema = schema_of(crd.load_crd())["properties"]["status"]
    written = render_status(FULL)
    assert list(validate(written, schema, "status")) == []
    unused = set(schema["properties"]) - set(written)
    assert unused == set(), "the schema has members that are never written"


def test_own_definition_lacks_nothing() -> None:
    """Our own definition, served, drops, refuses and misses nothing."""
    served = crd.load_crd()
    assert crd.missing_fields(served) == []
    assert crd.missing_rules(served) == []
    assert crd.refused_values(served) == []


def test_upstreams_definition_drops_our_members() -> None:
    """Upstream's definition drops our members; each branch is named once, at its root."""
    assert crd.missing_fields(upstream()) == [
        "status.channels",
        "status.deliveryAttempts[].class",
        "status.deliveryAttempts[].code",
        "status.deliveryAttempts[].id",
        "status.deliveryAttempts[].startedAt",
        "status.journal",
        "status.log",
        "status.rollup",
        "status.uncertainAttempts",
    ]


def test_upstreams_definition_refuses_unknown() -> None:
    """Upstream's definition would refuse a write with an attempt of unknown result."""
    assert crd.refused_values(upstream()) == ["status.deliveryAttempts[].status=unknown"]


def test_upstreams_definition_has_none_of_our_rules() -> None:
    """Upstream's definition has none of the guard rails, so all are named by their messages."""
    absent = crd.missing_rules(upstream())
    assert len(absent) == 6
    assert absent[0].startswith("phase may not change once it is Sent")
    assert "spec is immutable after creation (DD-NOT-005)" not in absent


def _break_rule(document: Json) -> None:
    rules = schema_of(document)["properties"]["status"]["x-kubernetes-validations"]
    rules[1]["rule"] = "true"


def _reflow_rules(document: Json) -> None:
    for rule in schema_of(document)["properties"]["status"]["x-kubernetes-validations"]:
        rule["rule"] = "  " + rule["rule"].replace(" || ", "\n  ||  ")


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        pytest.param(
            _break_rule,
            ["totalAttempts may not fall: the write does not know of all recorded attempts"],
            id="a rule with our message and another text is not our rule",
        ),
        pytest.param(_reflow_rules, [], id="white space does not make another rule"),
    ],
)
def test_rules_are_compared_by_text(change: Callable[[Json], None], messages: list[str]) -> None:
    """Rules are the same if they say the same, whatever their layout."""
    served = crd.load_crd()
    change(served)
    assert crd.missing_rules(served) == messages


def _with_version(**changes: Any) -> Json:
    served = crd.load_crd()
    for version in served["spec"]["versions"]:
        version.update(changes)
    return served


@pytest.mark.parametrize(
    "served",
    [
        pytest.param({}, id="an empty answer"),
        pytest.param({"spec": {"versions": [{"name": "v2", "schema": {}}]}}, id="another version"),
        pytest.param(_with_version(name="v2"), id="our schema under another version"),
        pytest.param(_with_version(served=False), id="our version, not served"),
    ],
)
def test_unserved_version_lacks_all(served: Json) -> None:
    """A definition that does not serve our version lacks spec and status as a whole."""
    assert crd.missing_fields(served) == ["spec", "status"]
    assert len(crd.missing_rules(served)) == 6


def test_preserving_schema_drops_nothing() -> None:
    """A status that keeps unknown members drops none of ours."""
    served = upstream()
    status = schema_of(served)["properties"]["status"]
    status["x-kubernetes-preserve-unknown-fields"] = True
    items = status["properties"]["deliveryAttempts"]["items"]
    items["x-kubernetes-preserve-unknown-fields"] = True
    assert crd.missing_fields(served) == []


def _drop(*steps: str | int) -> Callable[[Json], None]:
    def change(status: Json) -> None:
        place: Any = status
        for step in steps[:-1]:
            place = place[step]
        del place[steps[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        pytest.param(lambda _: None, [], id="a whole answer lacks nothing"),
        pytest.param(_drop("rollup"), ["rollup"], id="a lost branch is named at its root"),
        pytest.param(_drop("log", "store"), ["log.store"], id="a lost leaf is named"),
        pytest.param(
            lambda s: [e.pop("id") for e in s["deliveryAttempts"]],
            ["deliveryAttempts[].id"],
            id="a member lost from each entry is named once",
        ),
        pytest.param(_drop("channels", 1), ["channels[]"], id="a lost entry is named"),
        pytest.param(
            lambda s: s.update(log="text"),
            ["log.epoch", "log.position", "log.store"],
            id="a branch that became a leaf has lost its members",
        ),
        pytest.param(
            lambda s: s.update(foreign=1), [], id="what somebody else added is not missed"
        ),
    ],
)
def test_pruned(change: Callable[[Json], Any], paths: list[str]) -> None:
    """A write and its answer tell which members the server dropped."""
    written = render_status(FULL)
    answer = copy.deepcopy(written)
    change(answer)
    assert crd.pruned(written, answer) == paths


def test_pruned_ignores_deletions() -> None:
    """A null in a merge patch deletes, so its absence in the answer is what was asked for."""
    assert crd.pruned({"completionTime": None, "phase": "Sending"}, {"phase": "Sending"}) == []


@pytest.mark.parametrize("c", [True, False])
def test_the_definition_is_the_same_whatever_reads_it(
    c: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """YAML's parser in C is used where it is there; the one in Python reads the same."""
    expected = yaml.load(SOURCE.read_text(), yaml.SafeLoader)
    if c:
        monkeypatch.setattr(yaml, "SafeLoader", None)
    else:
        monkeypatch.delattr(yaml, "CSafeLoader")
    assert crd.load_crd() == expected
