"""
The controller and the gateway as processes: how they start, and how they end even if a thread hangs.

Signals are handled from the first moment: process 1 of a container ignores a signal that has no handler,
and would then be killed in the middle of its first sends. Until there is something to drain, a signal ends
the process at once; after the drain, another one changes nothing.

A thread that hangs in a dead name server or a dead disk cannot be cancelled, and the interpreter waits
for every thread at its end. The process therefore ends without waiting for such threads.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from syncer.model.errors import ConfigError, LedgerError

if TYPE_CHECKING:
    from notifier import settings
    from notifier.gateway import settings as gateway_settings
    from syncer.runtime.stalls import LoopWatch

    #: The settings that a program has read, and the function that runs with them until SIGTERM.
    Program = tuple[
        settings.Loaded | gateway_settings.Loaded,
        Callable[[Any, LoopWatch], Coroutine[Any, Any, None]],
    ]

#: Seconds for threads to end after everything else has ended.
_LAST: Final = 1.0


def named(config: str) -> str:
    """
    Return the file that `--config` names.

    Raises:
        ConfigError: there is no such file; the option may not have been given.
    """
    if not os.path.exists(config):  # noqa: PTH110 - unlike Path, it raises nothing in a closed folder
        raise ConfigError(f"there is no {config}: name the settings with --config FILE")
    return config


def run(options: argparse.Namespace) -> int:
    """Run the controller or the gateway until SIGTERM; returns the exit code, or exits with it."""
    return serve(partial(_controller if options.command == "run" else _gateway, options))


def _controller(options: argparse.Namespace) -> Program:
    from notifier.process.production import run as start
    from notifier.settings import load

    return load(named(options.config), os.environ, grace=options.grace), start


def _gateway(options: argparse.Namespace) -> Program:
    from notifier.gateway.process import run as start
    from notifier.gateway.settings import load

    return load(named(options.config), os.environ), start


def serve(prepare: Callable[[], Program]) -> int:
    """
    Run the program of `prepare` until SIGTERM, and return the exit code; if a thread hangs, exit with it.

    `prepare` imports and reads what the program needs; it may raise ConfigError.
    """
    return _ended(_run(prepare))


def _at_once(_number: int, _frame: object) -> None:
    # An exception would be raised inside whatever is being imported, and some extension modules crash then.
    os._exit(0)


def _on_signal(handler: Callable[[int, object], None] | signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _run(prepare: Callable[[], Program]) -> int:
    _on_signal(_at_once)
    # With the default threshold of 700 allocations, collections took a seventh of the CPU of deliveries,
    # and a tenth of that of the imports below.
    gc.set_threshold(50_000, 20, 50)
    from notifier.content.sanitise import sanitise
    from syncer.runtime.failpoints import armed
    from syncer.runtime.logging import configure
    from syncer.runtime.stalls import LoopWatch

    configure(level="INFO", form="json", redact=sanitise)
    logger = logging.getLogger("ledger")
    try:
        loaded, start = prepare()
        given = loaded.settings.logging
        configure(level=given.level, form=given.format, redact=sanitise)
        if danger := armed():
            logger.critical(danger)
        for warning in loaded.warnings:
            logger.warning("settings: %s", warning)
        watch = LoopWatch()
        with asyncio.Runner(loop_factory=watch.loop) as runner:
            runner.run(_main(start(loaded, watch), watch))
        return 0
    except ConfigError as error:
        logger.error("the configuration cannot be used", extra={"error": str(error)})
        return 1
    except BaseExceptionGroup as group:
        causes = [str(e) for e in _leaves(group)]
        config = [e for e in _leaves(group) if isinstance(e, LedgerError)]
        logger.critical(
            "the configuration cannot be used" if config else "a background task has ended",
            extra={"error": "; ".join(causes)},
            exc_info=None if config else group,
        )
        return 1


def _ended(code: int) -> int:
    """Return the exit code; if a thread hangs, exit with it instead."""
    from syncer.runtime.offload import end

    _on_signal(signal.SIG_IGN)
    end()
    threads = [
        t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon
    ]
    deadline = time.monotonic() + _LAST
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    hanging = [t.name for t in threads if t.is_alive()]
    if hanging:
        logging.getLogger("ledger").warning("threads hang", extra={"threads": hanging[:8]})
        sys.stdout.flush()
        os._exit(code)
    return code


class _Threads(ThreadPoolExecutor):
    """The default executor, which resolves names; the loop does not wait for its threads."""

    def shutdown(self, *_: object, **__: object) -> None:
        """Never wait, whatever the loop asks for."""
        super().shutdown(wait=False, cancel_futures=True)


async def _main(product: Coroutine[Any, Any, None], watch: LoopWatch) -> None:
    """Set the process up for many connections, and run a product, which closes the watch."""
    from syncer.runtime.connections import raise_descriptor_limit
    from syncer.runtime.offload import SWITCH_INTERVAL
    from syncer.runtime.supervise import beside

    asyncio.get_running_loop().set_default_executor(_Threads(thread_name_prefix="loop"))
    sys.setswitchinterval(SWITCH_INTERVAL)
    watch.look_from_outside()
    raise_descriptor_limit()
    async with beside(watch.pulse(), "loop-watch"):
        await product


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
