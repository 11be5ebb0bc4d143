"""A function as a tool."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from inspect import isasyncgen, isasyncgenfunction, isawaitable, iscoroutinefunction, isgenerator
from typing import Any, Literal, overload

from anyio import to_thread

from agentflow.core import Tool, ToolContext
from agentflow.errors import ConfigError
from agentflow.tools._signature import plain_function, signature_of

NeedsConfirmation = bool | Callable[[ToolContext, dict[str, Any]], bool | Awaitable[bool]]
OnToolError = Literal["return", "raise"]

_END = object()


class FunctionTool(Tool):
    """A plain function that a model may call.

    Its schema is made of its signature and docstring (Google, NumPy or reST style) when a model first hears of it; the
    arguments are validated by it, and what doesn't fit is told to the model. A parameter annotated as `ToolContext`
    gets the context and is not in the schema.

    An async function runs in the event loop, a plain one in a worker thread. A generator, of either kind, shows what it
    yields as progress; the last value is the result.

    A thread can't be stopped: where a plain function's call is cancelled, that waits until the function ends. With a
    `timeout` the thread is left behind instead; what it returns is dropped. A long function can ask
    `anyio.from_thread.check_cancelled()`.

    Args:
        function: What is called.
        name: By default the function's.
        description: By default what its docstring says.
        timeout: See `Tool`; likewise the others.
        sequential: See `Tool`.
        on_error: See `Tool`.
        long_running: See `Tool`.
        require_confirmation: See `Tool`.
        max_result_bytes: See `Tool`.
        strict: See `Tool`.
        extra: See `Tool`.

    Raises:
        ConfigError: It is no function, or a setting can't work. On first use: no schema can be made of it.

    Source: adk-go `tool/functiontool`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | str | None = None,
        sequential: bool = False,
        on_error: OnToolError = "return",
        long_running: bool = False,
        require_confirmation: NeedsConfirmation = False,
        max_result_bytes: int = 256 * 1024,
        strict: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(function) or isinstance(function, type):
            raise ConfigError(f"a tool is made of a function, not of {function!r}")
        name = name if name is not None else str(getattr(plain_function(function), "__name__", ""))
        if name == "<lambda>":
            raise ConfigError("a lambda has no name that a model could call it by: FunctionTool(function, name=...)")
        super().__init__(
            name,
            description="" if description is None else description,
            timeout=timeout,
            sequential=sequential,
            on_error=on_error,
            long_running=long_running,
            require_confirmation=require_confirmation,
            max_result_bytes=max_result_bytes,
            strict=strict,
            extra=extra,
        )
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, as if it were no tool."""
        return self.function(*args, **kwargs)

    @property
    def description(self) -> str:
        """What it does, for the model."""
        text = self._description or signature_of(self.function).description
        note = "NOTE: this is a long-running operation: don't call it again for what it has already begun."
        return f"{text}\n\n{note}".strip() if self.long_running else text

    @property
    def parameters(self) -> dict[str, Any]:
        return signature_of(self.function).parameters

    async def run(self, ctx: ToolContext, args: dict[str, Any]) -> Any:
        """Call the function, and see its work through to the end.

        Raises:
            InvalidArguments: They don't fit the schema.
        """
        positional, named = signature_of(self.function).bind(self.name, args, ctx)
        call = partial(self.function, *positional, **named)
        plain = plain_function(self.function)
        if iscoroutinefunction(plain) or isasyncgenfunction(plain):
            result = call()
        else:
            result = await self._in_thread(call)
        if isasyncgen(result):
            return await _last(ctx, result)
        if isgenerator(result):
            return await self._last_of_plain(ctx, result)
        return await result if isawaitable(result) else result

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        [result] = await to_thread.run_sync(lambda: [call()], abandon_on_cancel=self.timeout is not None)
        return result  # which may be a coroutine: threads aren't to give any

    async def _last_of_plain(self, ctx: ToolContext, values: Iterator[Any]) -> Any:
        last = None
        while (value := await self._in_thread(partial(next, values, _END))) is not _END:
            last = value
            await ctx.progress(value)
        return last


async def _last(ctx: ToolContext, values: AsyncIterator[Any]) -> Any:
    """The last value of a generator; each is shown when it comes."""
    last = None
    async with aclosing(values) as steps:  # type: ignore[type-var]  # an async generator has `aclose`
        async for value in steps:
            last = value
            await ctx.progress(value)
    return last


def as_tool(value: object) -> Tool:
    """`value`, if it is a tool; a function becomes one.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(value, Tool):
        return value
    if isinstance(value, type) and issubclass(value, Tool):
        raise ConfigError(f"a tool is an object, not a class: {value.__name__}(...)")
    if callable(value):
        return FunctionTool(value)
    raise ConfigError(f"a tool must be a function or a Tool, not {value!r}")


@overload
def tool(function: Callable[..., Any], /) -> FunctionTool: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | str | None = None,
    sequential: bool = False,
    on_error: OnToolError = "return",
    long_running: bool = False,
    require_confirmation: NeedsConfirmation = False,
    max_result_bytes: int = 256 * 1024,
    strict: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], FunctionTool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | str | None = None,
    sequential: bool = False,
    on_error: OnToolError = "return",
    long_running: bool = False,
    require_confirmation: NeedsConfirmation = False,
    max_result_bytes: int = 256 * 1024,
    strict: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> FunctionTool | Callable[[Callable[..., Any]], FunctionTool]:
    """Make a function a tool: `@tool`, or `@tool(timeout=..., require_confirmation=True)`.

    A function that needs no settings can be given to an agent as it is.

    Args:
        function: What a model may call.
        name: By default the function's.
        description: By default what its docstring says.
        timeout: See `Tool`; likewise the others.
        sequential: See `Tool`.
        on_error: See `Tool`.
        long_running: See `Tool`.
        require_confirmation: See `Tool`.
        max_result_bytes: See `Tool`.
        strict: See `Tool`.
        extra: See `Tool`.
    """

    def make(function: Callable[..., Any]) -> FunctionTool:
        return FunctionTool(
            function,
            name=name,
            description=description,
            timeout=timeout,
            sequential=sequential,
            on_error=on_error,
            long_running=long_running,
            require_confirmation=require_confirmation,
            max_result_bytes=max_result_bytes,
            strict=strict,
            extra=extra,
        )

    return make if function is None else make(function)
