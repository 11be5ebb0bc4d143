"""A run for scripts and notebooks: no `await`, and its events stream all the same."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from typing import Any

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
        from anyio.from_thread import start_blocking_portal  # takes as long to import as all of anyio

        with start_blocking_portal(self._backend) as portal, portal.wrap_async_context_manager(self._runner):
            run = self._start()
            try:
                with portal.wrap_async_context_manager(run):
                    while (event := portal.call(_next, run)) is not None:
                        yield event
            except Exception as error:
                self._error = error
                raise
            finally:
                if run.status != "pending":
                    self._result = run.result

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
