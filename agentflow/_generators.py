"""Drivers: an agent that yields is one that emits; work that has context variables of its own, without a task."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from inspect import isawaitable
from types import coroutine
from typing import Any, TypeVar

import anyio

from agentflow.errors import InvalidEvent
from agentflow.events import Event

logger = logging.getLogger(__name__)

T = TypeVar("T")
Emit = Callable[[Event], Awaitable[None]]

_SWALLOWS = 3
"""How often a generator may yield again under a cancelled scope: a `finally` may, once or twice."""


async def drive(emit: Emit, path: str, work: object) -> object:
    """See through what an agent's `run` gave that is no plain coroutine."""
    if isawaitable(work):
        return await work
    if not isinstance(work, AsyncIterator):
        raise InvalidEvent(
            f"agent {path!r}: run must be an async function or an async generator; it gave {short(work)}"
        )
    await iterate(emit, path, work)
    return None


async def iterate(emit: Emit, path: str, events: AsyncIterator[Event]) -> None:
    """Emit what an agent (at `path`) yields, in this task; what happens at a `yield` is thrown back in there.

    So a timeout, a task group or a span around a `yield` behaves as around an `await`. One that goes on yielding
    though its scope is cancelled is closed and reported.
    """
    swallowed = 0
    try:
        event = await anext(events)
        while True:
            try:
                await emit(event)
            except BaseException as error:  # noqa: ASYNC103 - the generator is told, and says what becomes of it
                if not isinstance(events, AsyncGenerator) or swallowed >= _SWALLOWS:
                    await _put_down(path, events)  # noqa: ASYNC102 - `aclose` is its own affair
                    raise
                event = await events.athrow(error)  # noqa: ASYNC102 - likewise
                if not isinstance(error, Exception) and anyio.current_effective_deadline() == float("-inf"):
                    swallowed += 1
            else:
                event = await anext(events)
    except StopAsyncIteration:
        return


async def _put_down(path: str, events: AsyncIterator[Event]) -> None:
    if isinstance(events, AsyncGenerator):
        logger.error("agent %r swallowed its cancellation %d times; it is closed", path, _SWALLOWS)
        try:
            await events.aclose()
        except RuntimeError:  # "async generator ignored GeneratorExit"
            logger.exception("agent %r can't be closed", path)


@coroutine
def in_context(context: Context, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run `work` in this task, but in a context of its own: what it sets in context variables stays there."""
    given: Any = None
    failure: BaseException | None = None
    while True:
        try:
            wanted = context.run(work.send, given) if failure is None else context.run(work.throw, failure)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            failure = None
        try:
            given = yield wanted
        except BaseException as error:  # noqa: ASYNC103 - thrown in where it belongs
            failure = error


def short(value: object) -> str:
    """A value, for an error message."""
    text = repr(value)
    return f"{type(value).__name__} {text[:60]}{'…' if len(text) > 60 else ''}" if value is not None else "None"
