"""A function as an agent."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, isasyncgenfunction, iscoroutinefunction
from typing import overload

from agentflow.core import Agent, Callback, InvocationContext
from agentflow.errors import ConfigError
from agentflow.events import Event
from agentflow.policies import Retry

AgentFunction = Callable[[InvocationContext], Awaitable[None] | AsyncIterator[Event]]


class FunctionAgent(Agent):
    """An agent whose turn is one async function of the context.

    Either a coroutine that emits (`await ctx.emit(ctx.text("..."))`) or an async generator that yields events.

    Args:
        name: Unique in the tree.
        function: Called with the context for each turn.
        description: What it is good for; by default the function's docstring.
        sub_agents: Agents that the function runs with `ctx.run` and that belong to its tree.
        timeout: Seconds for a turn.
        retry: What to do when a turn fails.
        before_agent: See `Agent`.
        after_agent: See `Agent`.

    Raises:
        ConfigError: It is no async function.
    """

    function: AgentFunction

    def __init__(
        self,
        name: str,
        function: AgentFunction,
        *,
        description: str = "",
        sub_agents: Sequence[Agent] = (),
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
        before_agent: Callback | Sequence[Callback] = (),
        after_agent: Callback | Sequence[Callback] = (),
    ) -> None:
        super().__init__(
            name,
            sub_agents=sub_agents,
            description=_first_line(function) if description == "" else description,
            timeout=timeout,
            retry=retry,
            before_agent=before_agent,
            after_agent=after_agent,
        )
        vars(self).update(function=function)

    def check(self) -> None:
        """Check the settings; see `Agent.check`."""
        super().check()
        function: object = self.function
        if getattr(getattr(function, "__code__", None), "co_flags", 0) & (CO_COROUTINE | CO_ASYNC_GENERATOR):
            return  # nearly all; below are those that wrap one
        if not callable(function) or isinstance(function, type):
            raise ConfigError(f"FunctionAgent {self.name!r} needs an async function of the context, not {function!r}")
        plain: object = function
        while isinstance(plain, partial):
            plain = plain.func
        if iscoroutinefunction(plain) or isasyncgenfunction(plain):
            return
        call = vars(type(plain)).get("__call__")
        asynchronous = iscoroutinefunction(call) or isasyncgenfunction(call)
        if not asynchronous and getattr(plain, "__code__", None) is not None:
            raise ConfigError(
                f"FunctionAgent {self.name!r}: {getattr(plain, '__name__', plain)!r} is no async function; "
                "write `async def`, and `await ctx.emit(...)` or `yield` events"
            )

    def run(self, ctx: InvocationContext) -> Awaitable[None] | AsyncIterator[Event]:
        """Take a turn."""
        return self.function(ctx)


def _first_line(function: object) -> str:
    """The first line of a function's docstring; what wraps it has none to speak of."""
    while isinstance(function, partial):
        function = function.func
    return (getattr(function, "__doc__", None) or "").strip().split("\n")[0]


@overload
def agent(function: AgentFunction, /) -> FunctionAgent: ...


@overload
def agent(
    *,
    name: str | None = None,
    description: str = "",
    sub_agents: Sequence[Agent] = (),
    timeout: float | str | None = None,
    retry: Retry | int | None = None,
    before_agent: Callback | Sequence[Callback] = (),
    after_agent: Callback | Sequence[Callback] = (),
) -> Callable[[AgentFunction], FunctionAgent]: ...


def agent(
    function: AgentFunction | None = None,
    /,
    *,
    name: str | None = None,
    description: str = "",
    sub_agents: Sequence[Agent] = (),
    timeout: float | str | None = None,
    retry: Retry | int | None = None,
    before_agent: Callback | Sequence[Callback] = (),
    after_agent: Callback | Sequence[Callback] = (),
) -> FunctionAgent | Callable[[AgentFunction], FunctionAgent]:
    """Make an async function an agent: `@agent`, or `@agent(name=..., timeout=...)`.

    Args:
        function: A coroutine function that emits or an async generator function that yields.
        name: By default the function's.
        description: By default the first line of its docstring.
        sub_agents: See `FunctionAgent`.
        timeout: Seconds for a turn.
        retry: What to do when a turn fails.
        before_agent: See `Agent`.
        after_agent: See `Agent`.
    """

    def make(function: AgentFunction) -> FunctionAgent:
        return FunctionAgent(
            name or str(getattr(function, "__name__", "")),
            function,
            description=description,
            sub_agents=sub_agents,
            timeout=timeout,
            retry=retry,
            before_agent=before_agent,
            after_agent=after_agent,
        )

    return make if function is None else make(function)
