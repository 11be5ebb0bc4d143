"""A run for scripts and notebooks: no `await`, and its events stream all the same."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from contextvars import Context
from importlib.util import find_spec
from threading import Thread
from typing import Any

import anyio

from agentflow.errors import ConfigError
from agentflow.events import Event


class SyncRun:
    """A run that is read with a plain `for`, from any thread, also where an event loop runs already (a notebook).

    It lives in an event loop of its own, in a thread of its own. Lock-step holds: the run goes on when the next event
    is asked for. Leaving the loop early cancels it.
    """

    def __init__(self, runner: AbstractAsyncContextManager[Any], start: Callable[[], Any], backend: str) -> None:
        self._runner = runner
        self._start = start
        self._backend = backend
        self._begun = False
        self._result: Any = None
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[Event]:
        if self._begun:
            raise ConfigError("a run is read once: call run_sync(...) again for another")
        if self._backend == "trio" and find_spec("trio") is None:
            raise ConfigError("run_sync(backend='trio') needs trio, which isn't installed: pip install trio")
        if self._backend == "trio" and "trio" in sys.modules:
            from trio.lowlevel import in_trio_run

            if in_trio_run():
                raise ConfigError("run_sync can't use trio where trio runs: `async with runner.run(...)`, or asyncio")
        self._begun = True
        return self._events()

    def _events(self) -> Iterator[Event]:
        with _portal(self._backend) as portal, portal.wrap_async_context_manager(self._runner):
            run = self._start()
            try:
                with portal.wrap_async_context_manager(run):
                    while (event := portal.call(_next, run)) is not None:
                        yield event
            except Exception as error:
                self._error = error
                raise
            finally:
                live = run._live
                self._result = live.result if live is not None else None  # none, where Ctrl-C came as it began

    @property
    def result(self) -> Any:
        """What came of it, a `RunResult`; runs it to its end first if nobody has read it.

        Raises:
            Exception: What the run raised.
        """
        if not self._begun:
            for _ in self:
                pass
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise ConfigError("the run is still going on: read its events to the end")
        return self._result


async def _next(run: Any) -> Event | None:
    async for event in run:
        return event  # type: ignore[no-any-return]  # a Run gives events
    return None


@contextmanager
def _portal(backend: str) -> Iterator[Any]:
    """A way into an event loop in a thread of its own. Leaving it ends both, also where Ctrl-C comes before it is open.

    anyio's `start_blocking_portal` waits for ever for the thread then, which nobody stops.
    """
    from anyio.from_thread import BlockingPortal  # takes as long to import as all of anyio

    opened: Future[None] = Future()
    portal: Any = None

    async def serve() -> None:
        nonlocal portal
        async with BlockingPortal() as portal:
            if opened.set_running_or_notify_cancel():
                opened.set_result(None)
                await portal.sleep_until_stopped()

    def host() -> None:
        try:
            anyio.run(serve, backend=backend)
        except BaseException as error:  # noqa: ASYNC103 - a thread of its own: who waits for it is told
            if not opened.done():
                opened.set_exception(error)

    thread = Thread(target=Context().run, args=(host,), name=f"agentflow {backend} portal", daemon=True)
    cut_short = True
    try:
        thread.start()
        opened.result()
        yield portal
        cut_short = False
    finally:
        try:
            if not opened.cancel() and opened.exception() is None:
                with suppress(RuntimeError):  # it has ended by itself
                    portal.call(portal.stop, cut_short)
        finally:
            if thread.is_alive():
                thread.join()
