"""A model has asked for tools: run them, and give back what they answered, in the order of the calls."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from agentflow.content import Part, ToolCall, ToolResult
from agentflow.core import InvocationContext, Tool
from agentflow.events import Actions, Event, build_event
from agentflow.questions import LONG_RUNNING, WAITING, Paused, Question
from agentflow.state import REMOVED, reducing
from agentflow.tools._job import (
    MISSING,
    AfterTool as AfterTool,
    BeforeTool as BeforeTool,
    Hooks as Hooks,
    Job,
    OnToolErrorCallback as OnToolErrorCallback,
)


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
        name = call.name if call.name in tools else MISSING  # which is the model's own, and may be anything
        jobs.append(Job(ctx, call, tools, hooks or Hooks(), f"{name}#{numbers[line]}"))
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
    ctx.go_on()
    jobs = []
    waiting: list[Question] = []
    for call, placeholder in past.waiting_calls():
        extra = placeholder.extra or {}
        job = Job(ctx, call, tools, hooks or Hooks(), str(extra[WAITING]))
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
        if job.result is None and not past.news(job.ctx.branch) and past.waits_for(job.ctx.branch):
            waiting += past.waits_for(job.ctx.branch)
            continue
        jobs.append(job)
    called = await _run_jobs(ctx, jobs, limit)
    called.waiting = (*waiting, *called.waiting)
    return called


async def _run_jobs(ctx: InvocationContext, jobs: list[Job], limit: int | None) -> Called:
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


def _batches(jobs: list[Job]) -> list[list[Job]]:
    """What may run together: a sequential tool runs alone, between those before it and those after it."""
    batches: list[list[Job]] = []
    open_batch = False
    for job in jobs:
        if job.tool.sequential or not open_batch:
            batches.append([])
        batches[-1].append(job)
        open_batch = not job.tool.sequential
    return batches


async def _run_batch(batch: list[Job], limit: int | None) -> None:
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


def _merge(ctx: InvocationContext, jobs: list[Job]) -> Called:
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
