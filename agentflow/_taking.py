"""All that happens around an agent's turn: events, span, callbacks, time, retries, and exactly one end."""

import logging
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from inspect import isawaitable
from types import CoroutineType
from typing import Any

import anyio
from anyio.lowlevel import checkpoint
from opentelemetry.trace import Span, SpanContext

from agentflow import tracing
from agentflow._generators import drive, short
from agentflow._place import Timer
from agentflow._turn import Turn, end_orphans, end_record, error_info, explain, leave
from agentflow.content import Text
from agentflow.errors import AgentTimeout, CommitUnknown, InvalidEvent
from agentflow.events import AgentComplete, AgentStart, Event
from agentflow.policies import Retry
from agentflow.questions import pause_in
from agentflow.state import with_pending

logger = logging.getLogger(__name__)

_GRACE = 5.0
"""Seconds that telling of a failure may take."""


async def take_turn(
    ctx: Turn, start: AgentStart, *, timeout: float | None = None, within: anyio.CancelScope | None = None
) -> bool:
    """Let the agent of `ctx` take its turn.

    A turn whose start was stored has exactly one terminal event, stored too. That of a cancelled turn is stored with
    whatever the run stores next, so that cancelling waits for nobody. What came of it: `outcome_of(ctx, None)`.

    Args:
        ctx: Made for this turn.
        start: Tells of the beginning; its type decides that of the end.
        timeout: Seconds, besides the agent's own.
        within: The scope of the task that does nothing else: where that is cancelled, or the run is, there is no more
            to do, and nothing is raised. In anyio a task that ends by a cancellation leaves it and all its frames to
            the cyclic collector.

    Returns:
        Whether it came to its end; if not, the task was cancelled.

    Raises:
        Exception: What the agent raised, with a note that says where.
    """
    run, above = ctx._run, ctx._parent
    if run.stopping or (above is not None and (above._place.groups or above._timers) and above.stopped()):
        await checkpoint()  # who runs a child though it is cancelled is stopped here, before the child says a word
    if run.strict:
        ctx._check()
    begin = _begin(ctx, start)
    end: Event | None = None
    begun = False  # `begin.serial` says it too, but when a thousand are stopped its memory is far away
    try:
        telling = run.tell(begin, ctx)
        if telling is not None:
            await telling
        begun = True
        if ctx._hears:
            await ctx.hear()
        if run.scheduler is not None:
            await run.scheduler.point(ctx.path, "start")
        if run.tracing is None:
            result = await _work(ctx, start, timeout)
        else:
            with tracing.current(ctx._span):
                result = await _work(ctx, start, timeout)
        end = _end(ctx, start, result)
        telling = run.tell(end, ctx)
        if telling is not None:
            await telling
    except Exception as error:
        if ctx._active:
            end_orphans(run, ctx)
        if end is not None and end.serial is not None:  # the store had failed to say so
            leave(ctx, error)
        else:
            await _fail(ctx, start, error, begin)  # noqa: ASYNC120 - shielded
        raise
    except BaseException as error:  # noqa: ASYNC103 - raised, or its task has nothing else to do (`within`)
        if ctx.ended:
            raise
        if type(error) is not run.cancelled:
            inside = await _failed_or_paused(ctx, start, begin, error)  # noqa: ASYNC102 - shielded
            if inside is not None:
                raise inside from None  # noqa: ASYNC104 - it is what was raised, or part of it
            within = None
        # Cancelled; at the very end perhaps, when all had been said and stored.
        if end is not None and end.serial is not None:
            ctx.status = "ok"
        elif begun or begin.serial is not None:
            if ctx._active:
                end_orphans(run, ctx)  # before its own end
            ctx.status = "cancelled" if run.stopping or not ctx.waits_above() else "paused"
            ctx._start, ctx._stopped = start, run.now()
            run.deferred.append(ctx)
        leave(ctx, error)
        if within is None or not (run.stopping or within.cancel_called):
            raise
        return False  # noqa: ASYNC104 - see `within`
    leave(ctx, None)
    return True


def _begin(ctx: Turn, start: AgentStart) -> Event:
    """The turn begins now: what tells of it."""
    run = ctx._run
    ctx.began = run.now()
    if run.tracing is not None:
        ctx._span = _start_span(ctx)
    if ctx._past is not None and not start.resumed:
        start = replace(start, resumed=True)
    begin = run.active[ctx] = ctx.lifecycle(start)
    return begin


def _end(ctx: Turn, start: AgentStart, result: object) -> Event:
    """The turn went well: what tells of that, with what the agent has written and not published.

    Raises:
        InvalidEvent: The agent returned something.
        ContextEnded: The turn was ended from outside meanwhile.
    """
    run = ctx._run
    if ctx._active:
        end_orphans(run, ctx)
    if run.strict:
        ctx._check()
    if result is not None:
        _refuse(ctx, result)
    pending = ctx._state.take_pending() if ctx._state is not None else None
    end = ctx.lifecycle(end_record(ctx, start, "ok", None), with_pending(pending, None) if pending else None)
    ctx.status, run.active[ctx] = "ok", None
    return end


async def _failed_or_paused(ctx: Turn, start: AgentStart, begin: Event, error: BaseException) -> BaseException | None:
    """End a turn that raised neither an error nor a plain cancellation, if a failure or a pause is in it: that one."""
    if ctx._active:
        end_orphans(ctx._run, ctx)
    # On trio a failure beside a cancellation comes as one group of both; the cancellation will come again.
    failed = error.subgroup(Exception) if isinstance(error, BaseExceptionGroup) else None
    if isinstance(failed, Exception):
        await _fail(ctx, start, failed, begin)
        return failed
    pause = pause_in(error)
    if pause is None:
        return None
    broken = await _tell_pause(ctx, start, begin)
    if broken is not None:  # what waits must be in the log
        await _fail(ctx, start, broken, begin)
        return broken
    leave(ctx, None)
    return pause


async def _tell_pause(ctx: Turn, start: AgentStart, begin: Event) -> Exception | None:
    """The turn waits for an answer: store that. Gives why it couldn't be."""
    ctx.status = "paused"
    ctx._run.active[ctx] = None
    with anyio.move_on_after(_GRACE, shield=True) as scope:
        try:
            if begin.serial is not None:
                await ctx.tell(end_record(ctx, start, "paused", None), wait=False)
        except Exception as error:
            return error
    return CommitUnknown(f"the pause of agent {ctx.path!r} was not stored in time") if scope.cancelled_caught else None


async def _fail(ctx: Turn, start: AgentStart, error: Exception, begin: Event) -> None:
    """The turn has failed: say where, and store its end."""
    explain(error, ctx)
    if ctx.ended:
        return
    ctx._run.active[ctx] = None
    if begin.serial is not None:
        timeout = isinstance(error, AgentTimeout) and error.agent == ctx.path
        ctx.status = "timeout" if timeout else "error"
        await _tell_failure(ctx, end_record(ctx, start, ctx.status, error))
    leave(ctx, error)


async def _tell_failure(ctx: Turn, record: AgentComplete) -> None:
    """Commit a failed turn's terminal event at once; where that fails too, the next commit takes it along."""
    event = ctx.lifecycle(record)
    with anyio.move_on_after(_GRACE, shield=True):  # or a cancellation would hide the failure
        try:
            telling = ctx._run.tell(event, ctx, wait=False)
            if telling is not None:
                await telling
        except Exception:
            logger.exception("the end of agent %r could not be stored yet", ctx.path)
    if event.serial is None:
        ctx.tell_later(lambda: record)


def _start_span(ctx: Turn) -> Span:
    run, agent, parent = ctx._run, ctx.agent, ctx._parent
    assert run.tracing is not None
    links: tuple[SpanContext, ...] = ()
    if parent is not None:
        links, parent._links = parent._links, ()
    span = run.tracing.start_agent(
        name=agent.name,
        description=agent.description,
        agent_type=type(agent).__name__,
        workflow=agent.directs_others,
        nested=parent is not None,
        parent=ctx._span,
        path=ctx.path,
        branch=ctx._place.branch,
        iteration=ctx.iteration,
        invocation_id=run.id,
        session_id=run.key.session_id,
        links=links,
    )
    if parent is None and run.tracing.captures:
        run.tracing.input(span, "".join(part.text for part in run.user_content if isinstance(part, Text)))
    return span


def _work(ctx: Turn, start: AgentStart, timeout: float | None) -> Coroutine[Any, Any, object]:
    """The turn itself, within its time. For most agents their own coroutine: each more costs a cancelled one a µs."""
    agent, plugins = ctx.agent, ctx._services.plugins
    limit = agent.timeout if timeout is None else min(timeout, agent.timeout or timeout)
    if limit is not None:
        return _in_time(ctx, start, limit)
    if agent.retry is not None:
        return _tries(ctx, start, agent.retry)
    if plugins.plugins or agent.before_agent or agent.after_agent:
        return _body(ctx)
    work = agent.run(ctx)
    return work if type(work) is CoroutineType else drive(ctx.emit, ctx.path, work)


async def _in_time(ctx: Turn, start: AgentStart, limit: float) -> None:
    run, retry = ctx._run, ctx.agent.retry
    with anyio.CancelScope(deadline=run.now() + limit) as scope:
        ctx._timers = (*ctx._timers, Timer(scope, run.now))
        await (_body(ctx) if retry is None else _tries(ctx, start, retry))
        return
    raise AgentTimeout(
        f"agent {ctx.path!r} was still at work after {limit:g} s",
        seconds=limit,
        agent=ctx.path,
        branch=ctx._place.branch,
        invocation_id=run.id,
    )


async def _tries(ctx: Turn, start: AgentStart, retry: Retry) -> None:
    run, groups = ctx._run, ctx._place.groups
    if groups:
        ctx._place = ctx._place.tried(ctx)
    while True:
        try:
            await _body(ctx)
            return
        except Exception as error:
            wait = retry.pause(ctx._attempts, error, run.rng)
            if wait is None:
                raise
            failure = error_info(error)
            failed = run.now()
            if run.tracing is not None:
                run.tracing.attempt_failed(ctx._span, ctx._attempts, error)
        if ctx._state is not None:
            ctx._state.drop_pending()
        ctx._said, ctx._links = None, ()
        past, ctx._past = ctx._past, None  # it begins anew: what was before the run paused is that attempt's
        if past is not None and ctx._state is not None:
            ctx._state.rebase(run.state)
        await anyio.sleep(wait)
        ctx._attempts += 1
        waited = round((run.now() - failed) * 1000, 3)
        await ctx.tell(type(start)(ctx.agent.name, start.agent_type, ctx._attempts, failure, waited_ms=waited))
        if groups:  # not before that: the last of what failed may have been on its way to the store
            group, index = groups[0]
            group.forget(index, ctx, *([past.brought_it] if past is not None else []))


async def _body(ctx: Turn) -> None:
    agent, plugins = ctx.agent, ctx._services.plugins
    if plugins.before_agent or agent.before_agent:
        reply = await _reply(ctx, "before_agent", agent.before_agent)
        if reply is not None:
            await ctx.emit(reply)
            return
    work = agent.run(ctx)
    try:
        result = await (work if type(work) is CoroutineType else drive(ctx.emit, ctx.path, work))
    finally:
        if ctx._active:
            end_orphans(ctx._run, ctx)
    if result is not None:
        _refuse(ctx, result)
    if plugins.after_agent or agent.after_agent:
        reply = await _reply(ctx, "after_agent", agent.after_agent)
        if reply is not None:
            await ctx.emit(reply)


async def _reply(ctx: Turn, hook: str, callbacks: Sequence[Any]) -> Event | None:
    """What the first plugin or callback says that says something."""
    reply = await ctx._services.plugins.first(hook, ctx)
    for callback in callbacks:
        if reply is not None:
            break
        reply = callback(ctx)
        if isawaitable(reply):
            reply = await reply
    return as_event(ctx, reply, hook) if reply is not None else None


def as_event(ctx: Turn, reply: object, hook: str) -> Event:
    """What a hook returned, as an event.

    Raises:
        InvalidEvent: It is neither text nor an event.
    """
    if isinstance(reply, str):
        return ctx.text(reply)
    if isinstance(reply, Event):
        return reply
    raise InvalidEvent(f"{hook} of agent {ctx.path!r} must return text, an event or None, not {short(reply)}")


def _refuse(ctx: Turn, result: object) -> None:
    raise InvalidEvent(
        f"agent {ctx.path!r} returned {short(result)}; an agent says something with await ctx.emit(ctx.text(...))"
    )
