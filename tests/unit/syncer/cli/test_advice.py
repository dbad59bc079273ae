"""Every class of divergence has advice, and a word on the command line."""

from __future__ import annotations

from syncer.cli.advice import ADVICE
from syncer.cli.arguments import CLASSES
from syncer.rules.divergence import VERIFIED, Divergence, Remedy


def test_every_class_has_advice() -> None:
    """Whatever verify names, it says what to do; and the parser knows every class."""
    assert set(ADVICE) == set(VERIFIED)
    assert set(CLASSES) == {kind.value for kind in VERIFIED}
    assert Divergence.CONFLICT.remedy is Remedy.PERSON
