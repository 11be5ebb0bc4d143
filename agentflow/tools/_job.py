"""One tool call on its way: hooks, time, approval, result; what fails is told to the model."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

import anyio

from agentflow import tracing
from agentflow._place import Place, Timer
from agentflow._turn import end_orphans, explain
from agentflow.content import Part, ToolCall, ToolResult
from agentflow.core import InvocationContext, Tool, ToolContext
from agentflow.errors import (
    AgentflowError,
    InvalidArguments,
    InvalidEvent,
    LimitExceeded,
    NotConfirmed,
    PluginError,
    ServiceError,
    StateConflict,
    ToolError,
    ToolTimeout,
)
from agentflow.events import Actions
from agentflow.questions import LONG_RUNNING, WAITING, Paused, Question, pause_in
from agentflow.tools._results import as_result, shorten

BeforeTool = Callable[[ToolContext, Tool, dict[str, Any]], Awaitable[Any] | Any]
"""Called before a tool; what it returns is the result, and the tool isn't called. It may change the arguments."""

AfterTool = Callable[[ToolContext, Tool, dict[str, Any], Any], Awaitable[Any] | Any]
"""Called with each result; what it returns replaces it."""

OnToolErrorCallback = Callable[[ToolContext, Tool, dict[str, Any], Exception], Awaitable[Any] | Any]
"""Called when a tool fails; what it returns is the result."""

FATAL = (LimitExceeded, PluginError, ServiceError, StateConflict)
"""Failures of the run rather than of a tool: no model is told, the turn fails."""

MISSING = "missing_tool"
"""What a tool is called that isn't there."""


@dataclass(slots=True, kw_only=True)
class Hooks:
    """An agent's own callbacks around its tools; plugins come first, and who says something ends the round."""

    before: Sequence[BeforeTool] = ()
    after: Sequence[AfterTool] = ()
    on_error: Sequence[OnToolErrorCallback] = ()


class _NoTool(Tool):
    """Stands for a tool that isn't there."""

    async def run(self, ctx: ToolContext, args: dict[str, Any]) -> Any:
        raise ToolError(f"there is no tool {self.name!r}")


class Job:
    """One call on its way."""

    def __init__(
        self, ctx: InvocationContext, call: ToolCall, tools: Mapping[str, Tool], hooks: Hooks, segment: str
    ) -> None:
        tool = tools.get(call.name)
        self.call = call
        self.hooks = hooks
        self.unknown = tool is None
        self.known = tools
        self.tool = tool or _NoTool(MISSING)
        self.segment = segment
        self.result: ToolResult | None = None
        self.beside: tuple[Part, ...] = ()
        self.written: dict[str, Any] = {}
        self.waiting: tuple[Question, ...] = ()
        self.ctx = _context(ctx, self.tool, call, segment)

    async def run(self) -> None:
        """See it through to a result; what fails is told as one."""
        ctx, run = self.ctx, self.ctx._run
        if self.result is not None:
            return  # it has come from outside
        error: Exception | None = None
        began = run.now()
        if run.tracing is not None:
            ctx._span = run.tracing.start_tool(
                tool=self.call.name,
                description=self.tool.description,
                call_id=self.call.id,
                agent=ctx.agent.name,
                parent=ctx._span,
                args=self.call.args,
            )
        outcome = "cancelled"
        try:
            if run.tracing is None:
                error = await self._work()
            else:
                with tracing.current(ctx._span):
                    error = await self._work()
            outcome = "ok" if error is None else "error"
        except Paused as pause:
            outcome = "paused"
            self._wait(pause.questions)
        except Exception as raised:
            outcome, error = "error", raised
            explain(raised, ctx)
            raise
        except BaseExceptionGroup as group:  # of a task group of the tool's own
            found = pause_in(group)
            if found is None:
                raise
            outcome = "paused"
            self._wait(found.questions)
        finally:
            ctx.ended = True
            if ctx._active:
                end_orphans(run, ctx, f"a call of tool {self.tool.name!r} by agent {ctx.path!r}")
            if ctx._state is not None:
                if outcome == "ok":
                    self.written = ctx._state.take_pending() or {}
                ctx._state.close()
            if run.tracing is not None:
                run.tracing.end_tool(
                    ctx._span,
                    tool=self.call.name,
                    outcome=outcome,
                    duration=run.now() - began,
                    error=error,
                    result=self.result.result if self.result is not None else None,
                )

    def _wait(self, questions: tuple[Question, ...]) -> None:
        words = "it waits for an answer"
        if any(question.call is self.call for question in questions):
            words = f"tool {self.tool.name!r} requires confirmation, please approve or reject"
        self.waiting = questions
        self.result = ToolResult(self.call.id, self.call.name, words, is_error=True, extra={WAITING: self.segment})

    def _come_later(self) -> None:
        """A long-running tool has nothing to say yet: the answer to its call is that to a question."""
        ctx, call = self.ctx, self.call
        extra = {WAITING: self.segment, LONG_RUNNING: True}
        self.result = ToolResult(call.id, call.name, "it is at work; the result comes later", extra=extra)
        self.waiting = (
            Question(
                kind="result", id=call.id, message=f"the result of {call.name!r}", call=call, path=ctx.path,
                branch=ctx._parent._place.branch if ctx._parent is not None else "", invocation_id=ctx._run.id,
            ),
        )  # fmt: skip

    async def _work(self) -> Exception | None:
        """Gives the error that the model is told, if it is one."""
        ctx, tool, args = self.ctx, self.tool, dict(self.call.args)
        value, failed = await _attempt(self._answer(args))
        if failed is not None:
            value, worse = await _attempt(self._hook("on_tool_error", self.hooks.on_error, args, failed))
            failed = worse if worse is not None or value is not None else failed
        if not self.unknown:
            told = value if failed is None else _told(failed)
            after, worse = await _attempt(self._hook("after_tool", self.hooks.after, args, told))
            if worse is not None or after is not None:
                value, failed = after, worse
        if failed is not None:
            if tool.on_error == "raise":
                raise failed
            value = _told(failed)
        if value is None and tool.long_running:
            self._come_later()
            return None
        try:
            result, self.beside = as_result(tool.name, value)
            result = await shorten(ctx, result, tool.max_result_bytes)
        except InvalidEvent as error:
            result, failed = str(error), error
        extra = {LONG_RUNNING: True} if tool.long_running and failed is None else None
        self.result = ToolResult(self.call.id, self.call.name, result, is_error=failed is not None, extra=extra)
        return failed

    async def _hook(self, name: str, callbacks: Sequence[Callable[..., Any]], *args: Any) -> Any:
        """What the first plugin, or else the first of the agent's own callbacks, says that says something."""
        value = await self.ctx._services.plugins.first(name, self.ctx, self.tool, *args)
        for callback in callbacks:
            if value is not None:
                break
            value = callback(self.ctx, self.tool, *args)
            if isawaitable(value):
                value = await value
        return value

    async def _answer(self, args: dict[str, Any]) -> Any:
        if self.unknown:
            known = ", ".join(self.known) or "none"
            raise InvalidArguments(f"tool {self.call.name!r} not found. Available tools: {known}")
        value = await self._hook("before_tool", self.hooks.before, args)
        return value if value is not None else await self._call(args)

    async def _call(self, args: dict[str, Any]) -> Any:
        ctx, tool = self.ctx, self.tool
        needed: Any = tool.require_confirmation
        if callable(needed):
            needed = needed(ctx, args)
            needed = await needed if isawaitable(needed) else needed
        hint = f"Please approve or reject the call of tool {tool.name!r}."
        if needed and not ctx.request_confirmation(hint).confirmed:
            raise NotConfirmed("Tool execution not confirmed")
        limit = tool.timeout
        if limit is None:
            return await tool.run(ctx, args)
        now = ctx._run.now
        with anyio.CancelScope(deadline=now() + limit) as scope:
            ctx._timers = (*ctx._timers, Timer(scope, now))
            return await tool.run(ctx, args)
        raise ToolTimeout(f"tool {tool.name!r} was still at work after {limit:g} s", tool=tool.name, seconds=limit)


def _context(ctx: InvocationContext, tool: Tool, call: ToolCall, segment: str) -> ToolContext:
    inner = ToolContext(ctx._run, ctx._services, ctx.agent, ctx)
    place = ctx._place
    inner.path = ctx.path
    inner._loop = None  # an escalation inside of a call is the caller's affair: `actions.escalate`
    inner._place = Place((*place.segments, ctx.agent.name, segment), place.groups, place.watchers, place.tries)
    inner._past = ctx._past
    inner.call, inner.tool, inner.actions, inner.confirmation, inner.isolates = call, tool, Actions(), None, False
    inner.idempotency_key = "/".join((ctx._run.id, ctx.path, ctx._place.branch, str(ctx.iteration or 0), call.id))
    return inner


def _told(error: Exception) -> str:
    """An error, as a model is told of it."""
    try:
        words = str(error)[:10_000]
    except Exception:  # its own __str__ fails
        words = ""
    return words if isinstance(error, AgentflowError) else f"{type(error).__name__}: {words}"


async def _attempt(step: Awaitable[Any]) -> tuple[Any, Exception | None]:
    """What comes of it, and why nothing did; a failure of the run is raised."""
    try:
        return await step, None
    except FATAL:
        raise
    except Exception as error:
        return None, error
