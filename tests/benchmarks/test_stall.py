"""The stall benchmark measures what it says: smoke, and no figure is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.hostile import ANSWER_BYTES, ANSWERS, OBJECT_BYTES, SHAPES, Orders, objects
from tests.benchmarks.stall import CALLS, Block, Found, Kind, Scale, measure, told
from tests.servers.controlplane import ControlPlane

#: Objects of a mebibyte cost the API server seconds of CPU, and are as hostile as smaller ones.
SMALL = Scale(rounds=1, turns=1, seconds=2.0, rate=10.0, size=100_000)


@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
async def test_hostile_objects_in_one_block_of_three(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """All that is steady is received in every block, and only hostile objects that are seen are sent."""
    found = await measure(control_plane, redis_url, tmp_path / "stage", SMALL)
    (blocks,) = found.rounds
    assert {kind: block.refused for kind, block in blocks.items()} == {
        Kind.NOTHING: 0, Kind.UNSEEN: 0, Kind.HOSTILE: CALLS,
    }  # fmt: skip
    for block in blocks.values():
        assert len(block.delays) == len(block.shown) == 20
        assert all(
            0 < shown <= delay for shown, delay in zip(block.shown, block.delays, strict=True)
        )
        assert 0 < block.p50 <= block.p99 < 60_000
    assert found.stalls[0] >= found.start > 0
    assert [f.name for f in told(found, SMALL).figures if f.goal] == [
        "longest stall of the loop, start included", "shards lost", "p99, with / where nobody looks",
    ]  # fmt: skip


def test_shapes_are_as_large_as_objects_may_be() -> None:
    """Ten shapes, as large as the API server takes each of them; answers of 64 KiB."""
    orders = Orders("", "", "", "n", "p", {"to": "picky"}, 1.0)
    made = objects(orders)
    assert len(made) == len(SHAPES) == 10
    for (name, text), shape in zip(made, SHAPES, strict=True):
        assert 200_000 < len(text.encode()) <= OBJECT_BYTES * 1.3, shape
        assert json.loads(text)["metadata"]["name"] == name
        assert json.loads(text)["spec"]["extensions"]["to"] == "picky"
    assert all(len(unit) < 64 <= ANSWER_BYTES for unit in ANSWERS)


@pytest.mark.parametrize(
    ("stall", "slower", "verdicts"),
    [
        pytest.param(90.0, 1.4, ["met", "met", "met"], id="below the limits"),
        pytest.param(110.0, 1.6, ["missed", "met", "missed"], id="above them"),
    ],
)
def test_the_verdicts(stall: float, slower: float, verdicts: list[str]) -> None:
    """A stall is judged by the worst round, the others' delay by the median."""
    delays = [n / 1000 for n in range(1, 201)]
    blocks = {kind: Block(kind, delays, delays) for kind in Kind}
    blocks[Kind.HOSTILE] = Block(Kind.HOSTILE, [d * slower for d in delays], delays)
    found = Found([blocks, blocks], 10.0, [20.0, stall])
    judged = [f.verdict for f in told(found, SMALL).figures if f.goal]
    assert judged == verdicts
