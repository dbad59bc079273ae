"""Targets: which URLs are one, what keeps a request confidential, and what never comes back."""

from __future__ import annotations

import pytest

from notifier.channels.targets import Target, parse_target, secrets_of

GOOD = [
    "https://hooks.example/services/T0/B0/x",
    "http://hooks.example:8080/x?sig=%2F",
    "https://user:word@hooks.example",
    "http://[::1]:9/x",
    "https://hooks.example/größe",
]

BAD = {
    "": "it is empty",
    "https://hooks.example/a b": "it contains blanks or control characters",
    " https://hooks.example/": "it contains blanks or control characters",
    "https://hooks.example/\n": "it contains blanks or control characters",
    "https://hooks.example/\x7f": "it contains blanks or control characters",
    "https://hooks.example:99999/x": "bad syntax",
    "https://[::1/x": "bad syntax",
    "ftp://hooks.example/x": "neither http nor https",
    "hooks.example/x": "neither http nor https",
    "https:///x": "no host",
    "https://:443/x": "no host",
    "https://hooks.example:0/x": "no host",
}


@pytest.mark.parametrize("text", GOOD)
def test_target(text: str) -> None:
    """An absolute http or https URL is a target, its escapes as they are written."""
    url = parse_target(text)
    assert url.scheme == text.partition(":")[0]
    assert not text.isascii() or str(url).rstrip("/") == text


@pytest.mark.parametrize("text", BAD)
def test_text_that_is_no_target(text: str) -> None:
    """Whatever else is refused, in words that show nothing of it."""
    with pytest.raises(ValueError, match=f"^{BAD[text]}$") as found:
        parse_target(text)
    assert found.value.__suppress_context__ or found.value.__context__ is None


def test_a_target_shows_nothing() -> None:
    """A target that ends up in a log record gives nothing away."""
    target = Target("https://hooks.example/secret", secrets=("routing-key",))
    assert "hooks" not in repr(target)
    assert "routing-key" not in repr(target)
    assert not target.in_clear


def test_secrets_of_what_is_no_url() -> None:
    """A text that cannot be read as a URL is a secret as a whole, as are those that are declared."""
    target = Target("https://[::1/x", secrets=("short", ""))
    assert secrets_of(target) == {"https://[::1/x", "short"}


def test_every_spelling_of_a_path_is_a_secret() -> None:
    """A receiver may echo a path as it came or decoded, with the query or without."""
    found = secrets_of(Target("https://u:Pa%24%24word1@hooks.example/a%20b-12345/x?k=v%201-abcdef"))
    assert found >= {
        "/a%20b-12345/x", "/a b-12345/x", "a b-12345", "a%20b-12345",
        "/a%20b-12345/x?k=v%201-abcdef", "/a b-12345/x?k=v 1-abcdef", "v 1-abcdef", "Pa$$word1",
        "dTpQYSQkd29yZDE=",
    }  # fmt: skip
    assert "x" not in found


@pytest.mark.parametrize(
    ("part", "secret"),
    [
        ("servicesincident", True), ("servicesinciden", False), ("services-incident", True),
        ("t0123456", True), ("t012345", False), ("services", False),
    ],
)  # fmt: skip
def test_which_parts_of_a_path_are_secrets(part: str, secret: bool) -> None:
    """Long ones, and those of eight characters that are no plain words."""
    assert (part in secrets_of(Target(f"https://hooks.example/a/{part}/b"))) is secret
