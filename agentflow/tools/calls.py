"""A model has asked for tools: run them, and give back what they answered, in the order of the calls."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

import anyio

from agentflow import tracing
from agentflow._invocation import Place, Timer
from agentflow._turn import explain
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
    ToolTimeout,
)
from agentflow.events import Actions, Event, build_event
from agentflow.questions import LONG_RUNNING, WAITING, Paused, Question
from agentflow.state import REMOVED, reducing
from agentflow.tools._results import as_result, shorten

logger = logging.getLogger(__name__)

BeforeTool = Callable[[ToolContext, Tool, dict[str, Any]], Awaitable[Any] | Any]
"""Called before a tool; what it returns is the result, and the tool isn't called. It may change the arguments."""

AfterTool = Callable[[ToolContext, Tool, dict[str, Any], Any], Awaitable[Any] | Any]
"""Called with each result; what it returns replaces it."""

OnToolErrorCallback = Callable[[ToolContext, Tool, dict[str, Any], Exception], Awaitable[Any] | Any]
"""Called when a tool fails; what it returns is the result."""

FATAL = (LimitExceeded, PluginError, ServiceError, StateConflict)
"""Failures of the run rather than of a tool: no model is told, the turn fails."""


@dataclass(slots=True, kw_only=True)
class Hooks:
    """An agent's own callbacks around its tools; plugins come first, and who says something ends the round."""

    before: Sequence[BeforeTool] = ()
    after: Sequence[AfterTool] = ()
    on_error: Sequence[OnToolErrorCallback] = ()


@dataclass(slots=True, kw_only=True)
class Called:
    """What came of a turn's calls.

    Attributes:
        parts: Their results in the order of the calls, then pictures and files that tools returned. A call that waits
            has something in its place.
        actions: What they do together.
        waiting: What has to be answered before the turn can go on. Questions without an id haven't been asked yet.
    """

    parts: tuple[Part, ...]
    actions: Actions | None = None
    waiting: tuple[Question, ...] = ()

    async def pause(self, ctx: InvocationContext) -> None:
        """Ask what has to be asked, and end the turn here, where a call waits; to be called when the parts are emitted.

        Raises:
            Paused: One does.
        """
        if not self.waiting:
            return
        unasked = [question for question in self.waiting if not question.id]
        for question in unasked:
            question.id = f"adk-{ctx._run.new_id()}"
        asked = await ctx.ask(unasked) if unasked else []
        raise Paused([*(question for question in self.waiting if question not in unasked), *asked])


class _NoTool(Tool):
    """Stands for a tool that isn't there."""

    async def run(self, ctx: ToolContext, args: dict[str, Any]) -> Any:
        raise NotImplementedError


async def run_calls(
    ctx: InvocationContext,
    calls: Sequence[ToolCall],
    tools: Mapping[str, Tool],
    *,
    hooks: Hooks | None = None,
    limit: int | None = None,
) -> Called:
    """Run the tools that a model asked for, all at once, each on a line of its own.

    State that they write is pending in `ctx` when this returns, merged in the order of the calls: mappings key by key,
    of all else the later wins. Emit the parts and actions as one event, then `await called.pause(ctx)`.

    Args:
        ctx: The context of the agent whose model asked; the calls have been emitted.
        calls: In the model's order.
        tools: Those that it has, by name.
        hooks: The agent's own callbacks.
        limit: How many may run at the same time; `None` means all.

    Raises:
        Exception: What a tool raised whose `on_error` is `"raise"`. The others are cancelled, and answered as such.
        LimitExceeded: The run is out of budget; like a plugin or a store that fails, no model is told.
    """
    numbers, line = ctx._run.tool_calls, (ctx.path, ctx.branch)
    jobs = []
    for call in calls:
        numbers[line] += 1
        jobs.append(_Job(ctx, call, tools, hooks or Hooks(), f"{call.name}#{numbers[line]}"))
    return await _run_jobs(ctx, jobs, limit)


async def resume_calls(
    ctx: InvocationContext,
    tools: Mapping[str, Tool],
    *,
    hooks: Hooks | None = None,
    limit: int | None = None,
) -> Called | None:
    """Where the turn goes on after a pause: run the calls that were waiting and can go on now; `None` if it doesn't.

    To be called before the turn says anything. Use what it gives as that of `run_calls`.

    Args:
        ctx: The context of the agent whose model asked.
        tools: Those that it has, by name.
        hooks: The agent's own callbacks.
        limit: How many may run at the same time; `None` means all.
    """
    past = ctx._past
    if past is None:
        return None
    past.replay = 0  # it reads what it had said, and goes on from there
    jobs = []
    waiting: list[Question] = []
    for call, placeholder in past.waiting_calls():
        extra = placeholder.extra or {}
        job = _Job(ctx, call, tools, hooks or Hooks(), str(extra[WAITING]))
        asked = past.confirmation(call.id)
        if LONG_RUNNING in extra:
            job.result = past.given(call.id)
            if job.result is None:
                waiting += [question for question in past.questions if question.id == call.id]
                continue
        elif asked is not None:
            job.ctx.confirmation = asked[1]
            if asked[1] is None:
                waiting.append(asked[0])
                continue
        if job.result is None and not past.has_news(job.ctx.branch) and past.waits_for(job.ctx.branch):
            waiting += past.waits_for(job.ctx.branch)
            continue
        jobs.append(job)
    called = await _run_jobs(ctx, jobs, limit)
    called.waiting = (*waiting, *called.waiting)
    return called


async def _run_jobs(ctx: InvocationContext, jobs: "list[_Job]", limit: int | None) -> Called:
    await ctx.flush()
    ctx._active += 1  # an agent that its own code runs meanwhile is on a branch of its own
    try:
        for batch in _batches(jobs):
            await _run_batch(batch, limit)
    except BaseException:
        close_calls(ctx, [job.call for job in jobs], [job.result for job in jobs if job.result is not None])
        raise
    finally:
        ctx._active -= 1
    return _merge(ctx, jobs)


def _batches(jobs: "list[_Job]") -> "list[list[_Job]]":
    """What may run together: a sequential tool runs alone, between those before it and those after it."""
    batches: list[list[_Job]] = []
    open_batch = False
    for job in jobs:
        if job.tool.sequential or not open_batch:
            batches.append([])
        batches[-1].append(job)
        open_batch = not job.tool.sequential
    return batches


async def _run_batch(batch: "list[_Job]", limit: int | None) -> None:
    if len(batch) == 1:
        await batch[0].run()
        return
    queue = deque(batch)
    failures: list[Exception] = []

    async def work() -> None:
        while queue:
            try:
                await queue.popleft().run()
            except Exception as error:
                failures.append(error)
                tasks.cancel_scope.cancel()
                return

    async with anyio.create_task_group() as tasks:
        for _ in batch[:limit]:
            tasks.start_soon(work, name=f"{batch[0].ctx.path} tools")
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ExceptionGroup(f"{len(failures)} tools failed", failures)


def close_calls(ctx: InvocationContext, calls: Sequence[ToolCall], results: Iterable[Part] = ()) -> None:
    """The turn ends here: answer every call with the run's next commit, so that a later turn finds none open.

    Args:
        ctx: The context of the agent whose model asked.
        calls: All of one answer of the model.
        results: Of those that had answered.
    """
    run = ctx._run
    known = {result.id: result for result in results if type(result) is ToolResult}
    words = "cancelled before it had answered"
    parts = [known.get(call.id) or ToolResult(call.id, call.name, words, is_error=True) for call in calls]

    def make() -> Event:
        event = build_event(ctx.form, run.new_id(), run.time(), tuple(parts))
        run.clean(event, ctx.path)
        return event

    run.defer(ctx, ctx._place, make)


def _merge(ctx: InvocationContext, jobs: "list[_Job]") -> Called:
    delta: dict[str, Any] = {}
    actions = Actions()
    for job in jobs:
        for key, value in job.written.items():
            reducer = reducing(ctx._place.groups, key)
            if value is REMOVED or delta.get(key, REMOVED) is REMOVED:
                delta[key] = value
            else:
                delta[key] = reducer[0].join(key, delta[key], value) if reducer else _deep(delta[key], value)
        did = job.ctx.actions
        for name, version in did.artifact_delta.items():
            actions.artifact_delta[name] = max(version, actions.artifact_delta.get(name, 0))
        actions.escalate = did.escalate or actions.escalate
        actions.transfer_to_agent = did.transfer_to_agent or actions.transfer_to_agent
        actions.skip_summarization = did.skip_summarization or actions.skip_summarization
    for key, value in delta.items():
        if value is not REMOVED:
            ctx.state[key] = value
        elif key in ctx.state:
            del ctx.state[key]
    waiting = tuple(question for job in jobs for question in job.waiting)
    actions.skip_summarization = actions.skip_summarization or bool(waiting)
    parts = [job.result for job in jobs if job.result is not None]
    beside = [part for job in jobs for part in job.beside]
    return Called(parts=(*parts, *beside), actions=actions if actions != Actions() else None, waiting=waiting)


def _deep(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: _deep(old[key], value) if key in old else value for key, value in new.items()}}
    return new


class _Job:
    """One call on its way."""

    def __init__(
        self, ctx: InvocationContext, call: ToolCall, tools: Mapping[str, Tool], hooks: Hooks, segment: str
    ) -> None:
        tool = tools.get(call.name)
        self.call = call
        self.hooks = hooks
        self.unknown = tool is None
        self.known = tools
        self.tool = tool or _NoTool("missing_tool")
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
        finally:
            ctx.ended = True
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
        plugins, hooks = ctx._services.plugins, self.hooks
        failed: Exception | None = None
        value: Any = None
        try:
            value = await self._before(args)
            if value is None:
                value = await self._call(args)
        except FATAL:
            raise
        except Exception as error:
            failed = error
        if failed is not None:
            value = await plugins.first("on_tool_error", ctx, tool, args, failed)
            if value is None:
                value = await _first(hooks.on_error, ctx, tool, args, failed)
            if value is not None:
                failed = None
            elif tool.on_error == "raise":
                raise failed
            else:
                value = _told(failed)
        if not self.unknown:
            after = await plugins.first("after_tool", ctx, tool, args, value)
            if after is None:
                after = await _first(hooks.after, ctx, tool, args, value)
            if after is not None:
                value, failed = after, None
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

    async def _before(self, args: dict[str, Any]) -> Any:
        ctx, tool = self.ctx, self.tool
        if self.unknown:
            known = ", ".join(self.known) or "none"
            raise InvalidArguments(f"tool {self.call.name!r} not found. Available tools: {known}")
        value = await ctx._services.plugins.first("before_tool", ctx, tool, args)
        return value if value is not None else await _first(self.hooks.before, ctx, tool, args)

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
    inner._place = Place((*place.segments, ctx.agent.name, segment), place.groups, place.watchers)
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


async def _first(callbacks: Sequence[Callable[..., Any]], *args: Any) -> Any:
    for callback in callbacks:
        value = callback(*args)
        if isawaitable(value):
            value = await value
        if value is not None:
            return value
    return None
