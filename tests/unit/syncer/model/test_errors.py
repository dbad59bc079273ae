"""What is said of a file that cannot be used."""

from __future__ import annotations

import ssl

import pytest

from syncer.model.errors import reason_of


def unreadable() -> Exception:
    """What bytes that are no text come to."""
    try:
        b"\xff".decode()
    except UnicodeDecodeError as error:
        return error
    raise AssertionError


#: An error, and what is said of it.
REASONS: dict[str, tuple[Exception, str]] = {
    "of the system": (
        FileNotFoundError(2, "No such file or directory"),
        "No such file or directory",
    ),
    "of a text": (unreadable(), "not UTF-8"),
    "of its own": (KeyError("secret"), "KeyError"),
    "of a system that says nothing": (OSError(), "OSError"),
}


@pytest.mark.parametrize("case", REASONS)
def test_why_a_file_cannot_be_used(case: str) -> None:
    """In words of the system, and never with what the file holds."""
    error, said = REASONS[case]
    assert reason_of(error) == said


def test_openssl_says_why() -> None:
    """In its own words, written as words."""
    error = ssl.SSLError()
    error.reason = "NO_CERTIFICATE_OR_CRL_FOUND"
    assert reason_of(error) == "no certificate or crl found"
