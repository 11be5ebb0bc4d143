"""What a Runner holds open for its agents: connections and the like, each in a task of its own."""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from typing import Any

import anyio
from anyio.abc import TaskGroup

from agentflow.errors import ConfigError

logger = logging.getLogger(__name__)

Opener = Callable[[], AbstractAsyncContextManager[Any]]


class _Held:
    """One thing that is open, or being opened."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.ready = anyio.Event()
        self.stop = anyio.Event()
        self.done = anyio.Event()
        self.value: Any = None
        self.error: Exception | None = None


class Resources:
    """Opened when first asked for, shared by all runs, closed when the Runner ends.

    What holds a task group (a connection with a reader of its own) must be closed in the task that opened it, and must
    not be any one run's: hence a task of the Runner's for each.
    """

    def __init__(self) -> None:
        self._tasks: TaskGroup | None = None
        self._context = Context()
        self._held: dict[object, _Held] = {}

    @property
    def any(self) -> bool:
        """Whether anything is open."""
        return bool(self._held)

    def begin(self, tasks: TaskGroup, context: Context) -> None:
        """The Runner has been entered: things live in its tasks, and in the context it was entered in."""
        self._tasks, self._context = tasks, context

    async def get(self, key: object, opener: Opener, *, renew: object = None) -> Any:
        """What is open under `key`; opened, if nothing is, or if it is `renew`, which is of no use any more.

        Raises:
            Exception: What opening it raised. The next who asks tries again.
            ConfigError: The Runner has ended.
        """
        held = self._held.get(key)
        if held is not None and renew is not None and held.value is renew:
            self._let_go(key, held)
            held = None
        if held is None:
            if self._tasks is None:
                raise ConfigError("nothing can be opened any more: the Runner has ended")
            held = self._held[key] = _Held()
            self._context.run(self._tasks.start_soon, self._hold, key, held, opener)
        await held.ready.wait()
        if held.error is not None:
            raise held.error
        return held.value

    def drop(self, key: object) -> None:
        """Close what is open under `key`, or is being opened: it takes too long, or is of no use any more."""
        held = self._held.get(key)
        if held is not None:
            self._let_go(key, held)
            held.scope.cancel()

    async def end(self, grace: float) -> None:
        """Close everything; what hasn't closed after `grace` seconds is cancelled."""
        self._tasks = None
        all_held = list(self._held.values())
        for key, held in list(self._held.items()):
            self._let_go(key, held)
        if not all_held:
            return
        with anyio.move_on_after(grace, shield=True):
            for held in all_held:
                await held.done.wait()
        for held in all_held:
            held.scope.cancel()

    def _let_go(self, key: object, held: _Held) -> None:
        if self._held.get(key) is held:
            del self._held[key]
        held.stop.set()

    async def _hold(self, key: object, held: _Held, opener: Opener) -> None:
        try:
            with held.scope:
                async with opener() as held.value:
                    held.ready.set()
                    await held.stop.wait()
        except Exception as error:
            if held.ready.is_set():
                logger.warning("%s ended with an error", key, exc_info=error)
            held.error = _alone(error)
        finally:
            if held.error is None and not held.ready.is_set():
                held.error = ConfigError(f"{key} was given up while it was opened")
            self._let_go(key, held)
            held.ready.set()
            held.done.set()


def _alone(error: Exception) -> Exception:
    """What a group of one holds; otherwise the group."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
