"""Names that nobody has: commands refuse them as `hold` does, rather than find that all is well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final
from unittest.mock import AsyncMock

import pytest

from syncer.cli import installation, resend, rows, tail
from syncer.cli.exits import Refused
from syncer.cli.main import _parser
from tests.unit.syncer.cli.samples import A1, PLAN, elements, failed, opened, request
from tests.unit.syncer.cli.world import Held, World

MEANT: Final = "no receiver matches opps; did you mean ops?"
#: Words of a command, and its refusal, or the remark on it.
CASES: Final[dict[str, tuple[str, str, str]]] = {
    "a list": ("list --receiver opps", MEANT, ""),
    "a list of something else, too": ("list --receiver ops --receiver opps", MEANT, ""),
    "a list of one namespace": ("list -n dev --receiver opps", MEANT, ""),
    "resending": ("resend --receiver opps --dry-run", MEANT, ""),
    "a tail": ("tail --receiver opps", MEANT, ""),
    "a receiver": ("list --receiver ops", "", ""),
    "a receiver that is tried elsewhere": ("list -n ns --receiver night", "", "none of 1 "),
    "a receiver of the routing file": ("list --receiver routed", "", "none of 2 "),
    "a tail of a receiver that was not tried": ("tail --receiver night", "", ""),
    "a namespace": ("list -n nss", "", "no namespace matches nss; did you mean ns?"),
    "a tail of a namespace": ("tail -n nss", "", "no namespace matches nss; did you mean ns?"),
    "the only one that may be seen": ("list -n ns --receiver opps", "", "none of 1 "),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_name_that_nobody_has(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Known is what the routing file has, and any notification; what may be there is not refused."""
    words, refusal, remark = CASES[case]
    a, b = (
        replace(request(channels=[{"name": channel, "state": "Pending"}]), uid=uid, namespace=place)
        for channel, uid, place in (("slack:ops", "a", "ns"), ("slack:night", "b", "dev"))
    )
    world = World(Held(a, b, sees="ns" if "may be seen" in case else None))
    world.put("a", elements(PLAN, opened(A1), failed(A1)))
    world.give(monkeypatch, rows, resend, tail)
    monkeypatch.setattr(rows, "read_holds", AsyncMock(return_value=((), "")))
    monkeypatch.setattr(installation, "routed", lambda: {"slack:routed"})
    options = _parser().parse_args(words.split())
    module: Any = {"list": rows, "resend": resend, "tail": tail}[options.command]
    if refusal:
        with pytest.raises(Refused) as found:
            await module.run(options)
        assert str(found.value) == refusal
    else:
        assert await module.run(options) == 0
    said = capsys.readouterr().err
    assert remark in said
    assert "no receiver" not in said
