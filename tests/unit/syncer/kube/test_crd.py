"""The CustomResourceDefinition in the package, and that what is written is in it and in upstream's."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncer.kube import crd
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass
from syncer.model.conditions import Condition
from syncer.model.rendering import render_status
from syncer.model.resource import ChannelRollup, ChannelStatus, Json, LogMark, Rollup, Status
from tests.servers.definition import load_crd, upstream_form

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


def test_every_member_is_described() -> None:
    """`kubectl explain` has a sentence for every member of spec and status."""
    silent = [
        path
        for path, node in nodes(schema_of(load_crd()))
        if path.startswith(("spec", "status")) and not node.get("description", "").endswith(".")
    ]
    assert silent == []


def test_everything_rendered_is_in_the_schema() -> None:
    """A status with all of its members is known to the schema and within its bounds."""
    schema = schema_of(load_crd())["properties"]["status"]
    written = render_status(FULL)
    assert list(validate(written, schema, "status")) == []
    unused = set(schema["properties"]) - set(written)
    assert unused == set(), "the schema has members that are never written"


def test_what_is_written_is_in_upstreams_schema() -> None:
    """But for the members that only ours has: every value is within the bounds of the others."""
    schema = schema_of(upstream_form())["properties"]["status"]
    faults = list(validate(render_status(FULL), schema, "status"))
    assert {f.rpartition(": ")[2] for f in faults} == {"unknown"}, faults
