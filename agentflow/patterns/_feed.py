"""From what a pattern is given to the items that it works on, one by one, and what each of them is to a worker."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from inspect import isasyncgen
from typing import Any

from agentflow.agents.branches import Branch, Branches, fatal
from agentflow.content import PARTS, Data, Part, Text, UserContent
from agentflow.core import Agent, InvocationContext
from agentflow.errors import ConfigError, InvalidAnswer
from agentflow.patterns._calls import Bound, Function, FunctionStep, name_of
from agentflow.patterns._render import in_words
from agentflow.patterns._scatter import OnError
from agentflow.patterns.splitters import Chunk
from agentflow.policies import Retry
from agentflow.state import OnConflict

Splitter = Callable[[Any], Iterable[Any] | AsyncIterable[Any]]
"""A function of what there is to do that gives it piece by piece: chunks, text, content parts or JSON values."""

_KINDS = tuple(PARTS.values())


def source_of(ctx: InvocationContext) -> Any:
    """What an agent is given: the last structured value in what it is told, else the words."""
    values = [part.value for part in ctx.user_content if isinstance(part, Data)]
    return values[-1] if values else ctx.user_text


class Feed:
    """The items of a splitter, as they are asked for.

    Attributes:
        count: How many it has given.
    """

    def __init__(self, items: AsyncIterator[Any]) -> None:
        self.count = 0
        self.over = False
        self._items = items

    async def next(self) -> Any:
        """The next item; `over` says whether there was one."""
        try:
            item = await anext(self._items)
        except StopAsyncIteration:
            self.over = True
            return None
        self.count += 1
        return item


@asynccontextmanager
async def feed(splitter: Splitter, source: Any, owner: str) -> AsyncIterator[Feed]:
    """The items that `splitter` makes of `source`.

    Raises:
        InvalidAnswer: It gave something that can't be iterated.
    """
    items = splitter(source)
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, (Iterable, AsyncIterable)):
        raise InvalidAnswer(f"{owner}: its splitter must give an iterable of pieces, not {type(items).__name__}")
    iterator = aiter(items) if isinstance(items, AsyncIterable) else _asynchronous(items)
    try:
        yield Feed(iterator)
    finally:
        if isasyncgen(iterator):
            await iterator.aclose()  # noqa: ASYNC102 - it is between two items


async def _asynchronous(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


class Crew(Branches):
    """Branches that each do a part of the work, and see nothing but that.

    With `on_error="cancel"` the first failure ends all at once, also who reads on in what there is to do, and is raised
    when the group is left.
    """

    def __init__(
        self,
        ctx: InvocationContext,
        on_error: OnError,
        *,
        name: str | None = None,
        agents: Sequence[Agent] = (),
        timeout: float | None = None,
        on_conflict: OnConflict = "last",
        keep: bool = True,
        private: bool = True,
    ) -> None:
        super().__init__(
            ctx, name=name, agents=agents, timeout=timeout, on_conflict=on_conflict, keep=keep, alone=True,
            private=private,
        )  # fmt: skip
        self._strict = on_error == "cancel"
        self._errors: list[Exception] = []

    def ended(self, branch: Branch) -> None:
        """A branch has ended: is that the failure of all?"""
        error = branch.outcome.error if branch.outcome is not None else None
        if isinstance(error, Exception) and (self._strict or fatal(error)):
            self._errors.append(error)
            self.failed = True
            self._stop_all(f"{branch.name} failed")
        super().ended(branch)

    def failures(self) -> list[Exception]:
        """What ended it."""
        return self._errors


def worker(do: Agent | Function, owner: str, fallback: str, *, retry: Retry | int | None = None) -> Agent:
    """An agent, or a function as one.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(do, Agent):
        return do if retry is None else do.clone(retry=retry)
    if not callable(do):
        raise ConfigError(f"{owner} needs an agent or a function, not {do!r}")
    return FunctionStep(name_of(do) or fallback, do, retry=retry)


def at_work(agent: Agent, item: Any, bound: Bound) -> tuple[Agent, UserContent]:
    """An agent for one turn on an item, and what it is told. A function is given the item itself."""
    if isinstance(agent, FunctionStep):
        wanted = next(iter(agent.inputs.types.values()), None) if agent.inputs is not None else None
        return agent.given(replace(bound, args=(item if wanted is Chunk else plain_item(item),))), None
    return agent, told(item)


def plain_item(item: Any) -> Any:
    """What a function is given of an item: of a chunk its record, if it is of one, else its text."""
    if isinstance(item, Chunk):
        return item.text if item.value is None else item.value
    return item


def told(item: Any) -> UserContent:
    """What an agent is told of an item: text and parts as they are, anything else as JSON to read and to take."""
    if isinstance(item, Chunk):
        text = f"{item.title}\n\n{item.text}" if item.title else item.text
        return text if item.value is None or isinstance(item.value, str) else (Text(text), Data(item.value))
    if item is None or isinstance(item, (str, _KINDS)):
        return item
    if isinstance(item, (list, tuple)) and item and all(isinstance(part, _KINDS) for part in item):
        parts: tuple[Part, ...] = tuple(item)
        return parts
    return (Text(in_words(item)), Data(item))
