"""
The operators' command line. It reads; it never claims.

    syncer inspect NAMESPACE/NAME [--json]

Where to look is told by the controller's own settings file (`--config`), or by `--redis-url` and
`--kubeconfig`. Exit codes: 0 log and status agree; 1 they differ, or something cannot be read; 2 wrong
usage or configuration; 3 there is no such notification; 4 Redis does not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Final

from syncer.api.errors import ConfigError, LedgerError, PortError

OK: Final = 0
DIFFERENT: Final = 1
USAGE: Final = 2
ABSENT: Final = 3
UNAVAILABLE: Final = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    namespace, _, name = options.object.partition("/")
    if not (namespace and name):
        sys.stderr.write("syncer inspect: NAMESPACE/NAME expected\n")
        return USAGE
    try:
        return asyncio.run(_inspect(options, namespace, name))
    except ConfigError as error:
        sys.stderr.write(f"syncer: {error}\n")
        return USAGE
    except (LedgerError, TimeoutError) as error:
        sys.stderr.write(f"syncer: {str(error) or 'no answer in time'}\n")
        return UNAVAILABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="syncer", description=(__doc__ or "").split("\n")[1])
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    inspect = commands.add_parser("inspect", help="log, fold and status of one notification")
    inspect.add_argument("object", metavar="NAMESPACE/NAME")
    inspect.add_argument("--uid", default="", help="look at this log, whatever bears the name now")
    inspect.add_argument("--json", action="store_true", help="print one JSON object")
    inspect.add_argument("--config", metavar="FILE", help="the controller's settings file")
    inspect.add_argument("--redis-url", metavar="URL", help="instead of the file's redis.url")
    inspect.add_argument("--key-prefix", metavar="PREFIX", help="instead of redis.keyPrefix")
    inspect.add_argument(
        "--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, else the pod's own account"
    )
    inspect.add_argument("--log-only", action="store_true", help="do not ask the API server")
    return parser


async def _inspect(options: argparse.Namespace, namespace: str, name: str) -> int:
    from syncer.cluster.client import KubeClient  # noqa: PLC0415 - half a second of imports
    from syncer.cluster.status import StatusStore  # noqa: PLC0415 - as above
    from syncer.inspect import as_json, as_text, inspect, opened  # noqa: PLC0415 - as above
    from syncer.ledger.client import LedgerClient  # noqa: PLC0415 - as above
    from syncer.ledger.log import RedisLog  # noqa: PLC0415 - as above
    from syncer.settings import load  # noqa: PLC0415 - as above

    settings = load(options.config, redis_url=options.redis_url).settings
    client = LedgerClient(
        settings.redis.url.get_secret_value(),
        prefix=options.key_prefix or settings.redis.key_prefix,
        timeout=settings.redis.timeout,
    )
    async with opened(RedisLog(client, patience=3.0)) as log:
        kube, problem = None, ""
        if not options.log_only:
            try:
                kube = await KubeClient.connect(options.kubeconfig, user_agent="syncer")
            except (ConfigError, PortError) as error:
                problem = str(error)
        try:
            store = StatusStore(kube, timeout=5.0) if kube else None
            found = await inspect(log, store, namespace=namespace, name=name, uid=options.uid)
        finally:
            if kube is not None:
                await kube.close()
    if problem:
        sys.stderr.write(f"syncer: the API server is not asked: {problem}\n")
    if found is None:
        sys.stderr.write(f"syncer: neither an object nor a log {namespace}/{name}\n")
        return ABSENT
    now = time.time_ns() // 1_000_000
    if options.json:
        sys.stdout.write(json.dumps(as_json(found, now=now), ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(as_text(found, now=now))
    return DIFFERENT if found.differences else OK
