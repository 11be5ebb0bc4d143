"""The generator driver: an agent that yields is one that emits."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import anyio

from agentflow.events import Event

logger = logging.getLogger(__name__)

_SWALLOWS = 3
"""How often a generator may yield again under a cancelled scope: a `finally` may, once or twice."""


async def iterate(emit: Callable[[Event], Awaitable[None]], path: str, events: AsyncIterator[Event]) -> None:
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
