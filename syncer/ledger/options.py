"""
What is wrong with the options of a Redis URL: the vendor's errors name no option, or quote values.

A whole URL is a secret, so only the name of an option is shown, and only where it cannot be part of a
password.
"""

from __future__ import annotations

import re
import ssl
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import RedisError

from syncer.ledger.connection import connection_options
from syncer.ledger.url import RedisTarget
from syncer.model.errors import reason_of

_NAME: Final = re.compile(r"[a-z_]{2,32}")
#: Options that name files.
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def file_problem(target: RedisTarget) -> str:
    """Return which file that is needed for TLS cannot be used and why, empty if all can."""
    options = dict(parse_qsl(urlsplit(target.server).query)) if target.tls else {}
    for name in _FILES:
        try:
            if name in options:
                with open(options[name], "rb") as file:  # noqa: PTH123 - a path may hold what Path refuses
                    file.read(1)
        except (OSError, ValueError) as error:
            return f"option {name} of the URL names a file that cannot be read: {reason_of(error)}"
    try:
        if authority := options.get("ssl_ca_certs"):
            ssl.create_default_context(cafile=authority)
    except OSError:
        return "option ssl_ca_certs of the URL names a file that holds no certificate in PEM"
    try:
        if certificate := options.get("ssl_certfile"):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
                certificate, options.get("ssl_keyfile"), options.get("ssl_password", "")
            )
    except OSError:
        return (
            "options ssl_certfile and ssl_keyfile of the URL name files that are not a certificate and"
            " its key in PEM"
        )
    return ""


def option_problem(target: RedisTarget) -> str:
    """Return which option cannot be used, as far as that is known and may be shown."""
    parts = urlsplit(target.server)
    for name, value in parse_qsl(parts.query):
        alone = f"{'rediss' if target.tls else 'redis'}://h?{urlencode({name: value})}"
        try:
            pool = ConnectionPool.from_url(alone, **connection_options(1.0))
            pool.make_connection()  # type: ignore[no-untyped-call]  # vendor
        except (ValueError, TypeError, OSError, RedisError) as error:
            if "@" in parts.query or not _NAME.fullmatch(name):
                break
            if isinstance(error, TypeError):
                return f"option {name} of the URL is not known"
            return f"option {name} of the URL has a value that cannot be used"
    return "an option in the URL cannot be used"
