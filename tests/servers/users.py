"""
The Redis users of docs/install.md, for every test that should run with no more than is documented.

The page is the only source: what it says is what tests log in with, so a right that the product needs
and the page does not name fails them, and a right too many fails `tests/integration/test_redis_users.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "install.md"
#: The controller and `syncer`; a person who looks with `redis-cli`; the explorer.
USERS: Final = ("ledger", "reader", "explorer")


def acl_rule(
    user: str, password: str, *, prefix: str = "nl", cluster: bool = False, page: str = ""
) -> list[str]:
    """
    Return the words of a documented `ACL SETUSER` command.

    Args:
        user: Its name.
        password: Its password.
        prefix: Of the keys, in the place of the page's `nl`.
        cluster: Whether to add what the page adds for a Redis Cluster.
        page: Which of `USERS` it is on the page, if it has another name there.
    """
    text = _PAGE.read_text()
    (rights,) = re.findall(rf"^    ACL SETUSER {page or user} (.*)$", text, re.MULTILINE)
    words = [
        f">{password}" if word == ">PASSWORD" else re.sub(r"^([^+]*[~&])nl:", rf"\1{prefix}:", word)
        for word in ["ACL", "SETUSER", user, *rights.split()]
    ]
    if cluster:
        (more,) = re.findall(r"^    (\+cluster.*)$", text, re.MULTILINE)
        words += more.split()
    return words


def url_of(url: str, user: str, password: str) -> str:
    """Return the address of a server with a user's name and password in it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def acl_file(rules: Sequence[Sequence[str]], *, others: bool = False) -> str:
    """Return the text of a server's `aclfile` with users as `acl_rule` gives them, and `others` or none."""
    lines = ["user default on nopass ~* &* +@all" if others else "user default off ~* &* +@all"]
    lines += [" ".join(["user", *rule[2:]]) for rule in rules]
    return "\n".join(lines) + "\n"
