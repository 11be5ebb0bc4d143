"""A group of branches at work: what `ParallelAgent`, every pattern and parallel calls are made of."""

import os
import platform
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextvars import Context, copy_context
from dataclasses import replace
from functools import partial
from heapq import heapify, heappop, heappush
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from opentelemetry.trace import SpanContext

from agentflow._generators import in_context
from agentflow._invocation import summary
from agentflow._place import Watcher
from agentflow._streams import Ticket, new_scope
from agentflow._taking import take_turn
from agentflow._turn import Turn, outcome_of
from agentflow.content import UserContent
from agentflow.core import Agent, InvocationContext
from agentflow.errors import ConfigError, LimitExceeded, PluginError, ServiceError
from agentflow.events import (
    EVERY_BRANCH,
    Actions,
    Event,
    GatherComplete,
    ScatterStart,
    plain_parallel_start,
)
from agentflow.outcome import Outcome
from agentflow.questions import Paused, pause_in
from agentflow.state import Group, OnConflict, reducing

FATAL = (LimitExceeded, PluginError, ServiceError)
"""Failures of the run rather than of a branch: no policy collects them."""

_HOST = os.uname().nodename if hasattr(os, "uname") else platform.node()


def _names_of(agents: Sequence[Agent]) -> list[str]:
    """Names of the branches that these agents get, in this order: twins get an ordinal, as `Branches.add` gives it."""
    names = [agent.name for agent in agents]
    if len(set(names)) == len(names):
        return names
    seen: Counter[str] = Counter()
    for place, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[place] = f"{name}#{seen[name]}"
    return names


def fatal(error: BaseException | None) -> bool:
    """Whether it is a failure of the run; of a group, whether one in it is."""
    if isinstance(error, BaseExceptionGroup):
        return any(fatal(one) for one in error.exceptions)
    return isinstance(error, FATAL)


class Branch:
    """One branch of a group.

    Attributes:
        agent: Who takes its turn on it.
        name: Its last segment, unique in the group: the agent's name, `name#2` for a second branch of that name.
        index: Its place in the order of declaration, from 0.
        outcome: How it ended; `None` until then.
        lost: It was still at work when the group was settled: its words are hidden from what follows.
    """

    __slots__ = ("agent", "ctx", "index", "lost", "message", "name", "outcome", "queued", "scope", "timeout")

    def __init__(self, agent: Agent, name: str, index: int, message: UserContent, timeout: float | None) -> None:
        self.agent = agent
        self.name = name
        self.index = index
        self.message = message
        self.timeout = timeout
        self.ctx: InvocationContext | None = None
        self.outcome: Outcome | None = None
        self.scope: anyio.CancelScope | None = None
        self.queued: tuple[float, int] | None = None
        self.lost = False


class Branches:
    """A parallel group of the agent that `ctx` belongs to. Open it, add branches at any time, hear of each end.

    ```python
    async with Branches(ctx, max_concurrency=8) as group:
        for chunk in chunks:
            group.add(mapper, message=chunk)
        while (branch := await group.next()) is not None:
            ...  # branch.outcome
    ```

    Each branch is isolated as those of a `ParallelAgent` are, and leaving the block waits for all of them; when it has
    been left, what they said can be seen by whatever follows. A branch that fails fails nobody else: its error is in
    its outcome. But a run out of budget, and a store or a plugin that fails, end the group and are raised on leaving.

    Args:
        ctx: The context of who directs.
        name: Segment of the group in the branches' names; by default the agent's name. A second group in one turn
            needs another, for instance `"team#2"`.
        agents: Those known from the start, for the event that opens the group.
        task: What they are to do, for that event; by default the user's words.
        max_concurrency: How many may run at the same time; `None` means all. Who waits is started by priority, then in
            order of declaration.
        timeout: Seconds for each branch, from its start, where `add` says nothing else.
        on_conflict: See `ParallelAgent`.
        watchers: Told of each event of a branch.
        keep: Whether outcomes are kept until the end. If not, a branch is forgotten when `next` has given it, so a
            group of any size takes the memory of those at work; the event that closes it then only counts.
        alone: Branches see nothing of the talk before them, only what each is told.
        private: What branches say is hidden from what follows; who directs says what came of it.
    """

    __slots__ = (
        "_alone", "_asking", "_began", "_closed", "_context", "_ended", "_keep", "_names",
        "_paused", "_private", "_running", "_scoped", "_tally", "_tasks", "_waiting", "_watchers", "_worker",
        "agents", "branches", "broken", "ctx", "failed", "group", "max_concurrency", "name", "settled", "task",
        "timeout", "total",
    )  # fmt: skip

    def __init__(
        self,
        ctx: InvocationContext,
        *,
        name: str | None = None,
        agents: Sequence[Agent] = (),
        task: str | None = None,
        max_concurrency: int | None = None,
        timeout: float | None = None,
        on_conflict: OnConflict = "last",
        watchers: Sequence[Watcher] = (),
        keep: bool = True,
        alone: bool = False,
        private: bool = False,
    ) -> None:
        self.ctx = ctx
        self.name = name or ctx.agent.name
        self.agents = agents
        self.task = task
        self.max_concurrency = max_concurrency
        self.timeout = timeout
        self.group = Group(self.name, on_conflict, ctx._place.groups)
        self.branches: dict[int, Branch] = {}
        self.total = 0
        self.failed = False
        self.settled = False  # what counts is decided: who still runs has lost
        self.broken: Exception | None = None  # what ended the group, if it was not a branch
        self._watchers = watchers
        self._keep = keep
        self._alone = alone
        self._private = private
        self._scoped = True  # each branch can be cancelled by itself
        self._names: dict[str, int] = {}
        self._waiting: list[tuple[float, int, Branch]] = []
        self._running = 0
        self._paused = False  # a branch waits for an answer
        self._ended: deque[Branch] = deque()
        self._asking: Ticket | None = None
        self._tally: dict[str, int] = {}  # of those that are forgotten
        self._worker = f"{_HOST}:{os.getpid()}"
        self._began = ctx._run.now()
        self._context: Context | None = None
        self._tasks: TaskGroup | None = None
        self._closed: Event | None = None

    # For who directs

    async def __aenter__(self) -> Self:
        """Tell that the group begins, and let branches be added."""
        ctx, run = self.ctx, self.ctx._run
        names = self._declared()
        await ctx.flush()
        opened = run.active[self] = ctx.lifecycle(
            ScatterStart(
                self.name, len(names), names, summary(ctx.user_text if self.task is None else self.task), self.timeout,
                self.max_concurrency, self._alone,
            )
        )  # fmt: skip
        try:
            if ctx._past is None or self.name not in ctx._past.groups:  # else it has been open since before a pause
                telling = run.tell(opened, ctx)
                if telling is not None:
                    await telling
            self._began = run.now()
            self._context = copy_context()
            tasks = anyio.create_task_group()
            await tasks.__aenter__()
            self._tasks = tasks
        except BaseException as error:
            self._break_off(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Wait for all branches, and tell what came of it; if the block raised, cancel them first.

        Raises:
            Exception: What ended the run, of a branch.
        """
        ctx, run, tasks = self.ctx, self.ctx._run, self._tasks
        assert tasks is not None
        directing = isinstance(error, Exception)
        if directing:
            self.failed = True
            self._stop_all(type(error).__name__)
        try:
            # The group must see a cancellation; of an error it would make a group of one.
            seen = (None, None, None) if directing else (kind, error, trace)
            caught = await tasks.__aexit__(*seen)  # noqa: ASYNC102 - it waits for the branches, as this block does
            if error is not None and not directing and not caught:
                raise error
            if run.stopping:
                # Branches don't raise that they were cancelled: who directs them is stopped here.
                await checkpoint()  # noqa: ASYNC102 - see above
            if run.strict:
                ctx._check()
            ctx.join_loops()
            if self._paused:
                self._pause()
            ctx._said, ctx._links = self.results(), self._spans()
            actions = self.fold()  # after that: a branch cancelled with the group may have ended well all the same
            self._closed = ctx.lifecycle(self._gather(ctx._said, hidden=not self.failed), actions)
            telling = run.tell(self._closed, ctx, wait=not self.failed)
            if telling is not None:
                await telling  # noqa: ASYNC102 - the group has ended, and says so as any event is said
            run.active.pop(self, None)
        except BaseException as failure:  # noqa: ASYNC103 - raised, or what the block had raised before
            pause = pause_in(failure) if not self.failed else None
            if pause is not None:  # the group stays open until there is an answer
                run.active.pop(self, None)
                ctx.status = "paused"
                raise pause from None  # noqa: ASYNC104 - it is what was raised, perhaps in a group
            self._break_off(failure)
            if self.failed and not directing:
                self.raise_failures()
            if not directing or not isinstance(failure, Exception):
                raise
        if self.failed and not directing:
            self.raise_failures()
        return not directing

    def add(
        self,
        agent: Agent,
        *,
        name: str | None = None,
        message: UserContent = None,
        timeout: float | None = None,
        priority: float = 0,
        once: bool = False,
    ) -> Branch:
        """A branch more; it starts when there is room.

        Args:
            agent: Who takes its turn on it. One agent may have any number of branches.
            name: By default the agent's; an ordinal is added where it is taken.
            message: What it is told instead of what the user said; see `InvocationContext.run`.
            timeout: Seconds from its start.
            priority: Among those that wait for room the highest is first, then the earliest.
            once: Whoever directs gives this name to no other branch, so nobody need remember it.
        """
        if self._tasks is None:
            raise ConfigError(f"the group {self.name!r} is not open: async with Branches(...) as group")
        name = name or agent.name
        if not once:
            count = self._names[name] = self._names.get(name, 0) + 1
            if count > 1:
                name = f"{name}#{count}"
        branch = self._new(agent, name, message, self.timeout if timeout is None else timeout)
        if self.max_concurrency is None or self._running < self.max_concurrency:
            self._start(branch)
        else:
            branch.queued = (self.ctx._run.now(), time.time_ns())
            heappush(self._waiting, (-priority, branch.index, branch))
        return branch

    def _declared(self) -> list[str]:
        """Names of the branches that are known when the group opens."""
        return _names_of(self.agents)

    async def run_all(self, agents: Sequence[Agent]) -> None:
        """A branch for each of `agents`, whose names differ; the first is run by this task, which would only wait.

        A task is a good part of what a small group costs. In a branch they are all tasks: each event of a group deep
        inside would have to be handed up through those around it.
        """
        agents = list(agents)
        first = None if self.ctx._place.groups else self._new(agents.pop(0), "", None, self.timeout)
        if first is not None:
            self._admit(first)
        for agent in agents:
            self.add(agent, once=True)
        if first is not None:
            assert self._context is not None
            await in_context(self._context.copy(), self._run_branch(first))

    async def next(self) -> Branch | None:
        """The next branch that has ended, in the order of ending; `None` when all have, or the group was stopped."""
        while not self._ended:
            if not self._running and (not self._waiting or self.group.reason):
                return None
            self._asking = self.ctx._run.channel.new_ticket()
            try:
                await self._asking
            finally:
                self._asking = None
        branch = self._ended.popleft()
        if not self._keep:
            self._forget(branch)
        return branch

    def cancel(self, branch: Branch) -> None:
        """Stop one branch; `next` gives it when it has ended. One that waits for room never starts: it is skipped."""
        if branch.scope is not None:
            self.group.stopped |= {branch.index}
            branch.scope.cancel()
        elif branch.outcome is None:
            self._waiting = [entry for entry in self._waiting if entry[2] is not branch]
            heapify(self._waiting)
            branch.outcome = self._skipped(branch)
            self.ended(branch)

    def stop(self, reason: str) -> None:
        """Enough: cancel what is at work, start nothing more. What was cut short is hidden from what follows."""
        if not self.group.reason:
            self.group.reason, self.settled = reason, True
            for branch in self.branches.values():
                if branch.scope is not None and branch.outcome is None:
                    branch.scope.cancel()

    # What a kind of group decides

    def ended(self, branch: Branch) -> None:
        """A branch has ended, and its terminal event is stored."""
        if branch.outcome is not None and fatal(branch.outcome.error):
            self.failed = True
            self._stop_all(f"{branch.name} failed")
        self._ended.append(branch)
        if self._asking is not None and not self._asking.done():
            self._asking.set_result(None)

    def hides(self, branch: Branch, outcome: Outcome) -> bool:
        """Whether what it said is hidden from what follows."""
        return branch.lost and not outcome.ok

    def failures(self) -> list[Exception]:
        """What is raised when the group has failed."""
        errors = [branch.outcome.error for branch in self.branches.values() if branch.outcome is not None]
        return [error for error in errors if isinstance(error, Exception) and fatal(error)]

    # How it is done

    def _new(self, agent: Agent, name: str, message: UserContent, timeout: float | None) -> Branch:
        branch = self.branches[self.total] = Branch(agent, name or agent.name, self.total, message, timeout)
        self.total += 1
        return branch

    def _admit(self, branch: Branch) -> None:
        assert self._tasks is not None
        self._running += 1
        if self._scoped:
            branch.scope = new_scope(self._tasks)

    def _start(self, branch: Branch) -> None:
        """In a copy of the group's context, not that of the branch that made room."""
        if self.group.reason:
            return
        assert self._context is not None and self._tasks is not None
        self._admit(branch)
        name = f"{self.ctx.path}.{branch.name}"
        self._tasks.create_task(self._run_branch(branch), name=name, context=self._context)

    async def _run_branch(self, branch: Branch) -> None:
        agent, tasks = branch.agent, self._tasks
        assert tasks is not None
        if self.settled:  # before this task had its first step
            outcome = self._skipped(branch)
        else:
            ctx = branch.ctx = self.ctx.fork(agent, self.name, branch.name, self.group, branch.index, self._watchers)
            if branch.message is not None:
                ctx.told(branch.message)
            start = plain_parallel_start(agent.name, type(agent).__name__, step_id=ctx.path, worker_id=self._worker)
            if branch.queued is not None:
                start = replace(start, queue_ms=self._queue_ms(branch.queued, ctx))
            try:
                recalled = self._recall(branch, ctx) if self.ctx._past is not None else None
                if recalled is not None:
                    outcome = recalled
                else:
                    if branch.scope is None:
                        if not await take_turn(ctx, start, timeout=branch.timeout, within=tasks.cancel_scope):
                            return
                    else:
                        with branch.scope:
                            await take_turn(ctx, start, timeout=branch.timeout)
                        branch.lost = self.settled and ctx.status != "ok"
                    outcome = outcome_of(ctx, None)
            except Exception as error:
                outcome = outcome_of(ctx, error)
            except Paused as pause:
                self._paused = True
                outcome = outcome_of(ctx, None, pause.questions)
            except self.ctx._run.cancelled:  # noqa: ASYNC103 - raised, or the task group knows it
                if not (self.ctx._run.stopping or tasks.cancel_scope.cancel_called):
                    raise
                return  # noqa: ASYNC104 - see `take_turn`
        self._running -= 1
        branch.outcome = outcome  # that of a branch cancelled with the group is made when the group ends
        self.ended(branch)
        if self._waiting and not self.group.reason:
            self._start(heappop(self._waiting)[2])

    def _recall(self, branch: Branch, ctx: InvocationContext) -> Outcome | None:
        """What came of a branch before the run paused, if it is over; what it brought is the group's again."""
        past = self.ctx._past
        assert past is not None
        for key, values in past.brought(self.name, ctx.branch).items():
            reducer = reducing(ctx._place.groups, key)
            if reducer is not None:
                for earlier, value in values:
                    reducer[0].contribute(reducer[1], key, value, (earlier,))
        outcome = self.ctx.recall(ctx)
        if outcome is not None:
            branch.ctx = None
        return outcome

    def _pause(self) -> None:
        """Wait, where a branch does, for what decides the group.

        Raises:
            Paused: One does.
        """
        paused = [branch for branch in self.branches.values() if branch.outcome and branch.outcome.status == "paused"]
        if self.settled or self.failed:
            for branch in paused:
                branch.lost = True
        elif paused:
            self.ctx._said = self.results()
            raise Paused(question for branch in paused if branch.outcome for question in branch.outcome.pending)

    def _queue_ms(self, queued: tuple[float, int], ctx: InvocationContext) -> float:
        """How long a branch has waited for room; the trace is told too."""
        run, (since, since_ns) = self.ctx._run, queued
        if run.tracing is not None:
            run.tracing.queued(ctx.agent.name, ctx._span, since_ns, time.time_ns(), ctx.branch)
        return round((run.now() - since) * 1000, 3)

    def _stop_all(self, reason: str) -> None:
        self.group.reason = self.group.reason or reason
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()

    def _forget(self, branch: Branch) -> None:
        assert branch.outcome is not None
        if branch.outcome.status == "paused":
            return
        if self.branches.pop(branch.index, None) is not None:
            self._tally[branch.outcome.status] = self._tally.get(branch.outcome.status, 0) + 1
            self.ctx._run.outcomes.pop(branch.outcome.branch, None)  # of an attempt before this one
            if not branch.outcome.ok:
                self.group.forget(branch.index)

    def _skipped(self, branch: Branch) -> Outcome:
        segments = (*self.ctx._place.segments, self.name, branch.name)
        return Outcome(agent=branch.agent.name, branch=".".join(segments), status="skipped")

    def results(self) -> tuple[Outcome, ...]:
        """The outcomes of all branches that are kept, in the order of declaration; who didn't end was cancelled."""
        run = self.ctx._run
        results = []
        for branch in self.branches.values():
            outcome = branch.outcome
            if outcome is None and branch.ctx is not None:
                outcome = outcome_of(branch.ctx, None)
                branch.lost = self.settled
            elif outcome is None:
                outcome = self._skipped(branch)
            branch.outcome = run.outcomes[outcome.branch] = outcome
            results.append(outcome)
        return tuple(results)

    def _spans(self) -> tuple[SpanContext, ...]:
        if self.ctx._run.tracing is None:
            return ()
        contexts = [branch.ctx for branch in self.branches.values() if branch.ctx is not None]
        return tuple(ctx._span.get_span_context() for ctx in contexts)

    def fold(self) -> Actions | None:
        """What the branches that went well brought to keys with a reducer, on top of what was there."""
        run, groups = self.ctx._run, self.ctx._place.groups
        if not self.group.contributions or self.failed:
            return None
        failed = {branch.index for branch in self.branches.values() if branch.outcome is None or not branch.outcome.ok}
        folded = self.group.fold([index for index in self.group.contributions if index not in failed])
        for key, value in folded.items():
            if reducing(groups, key) is None and key in run.state:
                folded[key] = self.group.join(key, run.state[key], value)
        return Actions(folded) if folded else None

    def _gather(self, results: Sequence[Outcome], *, hidden: bool) -> GatherComplete:
        branches = self.branches.values()
        record = GatherComplete(self.name, self.total, reason=self.group.reason)
        tally = {"ok": 0, "error": 0, "timeout": 0, "cancelled": 0, "skipped": 0, "paused": 0} | self._tally
        for outcome in results:
            tally[outcome.status] += 1
        if self._keep:  # else most are forgotten, and it only counts
            record.outcomes = {branch.name: one.status for branch, one in zip(branches, results, strict=True)}
            record.gathered_results = [name for name, status in record.outcomes.items() if status == "ok"]
        if self._private:
            record.hidden = [EVERY_BRANCH]
        elif hidden:
            record.hidden = [
                one.branch for branch, one in zip(branches, results, strict=True) if self.hides(branch, one)
            ]
        record.successful, record.failed = tally["ok"], tally["error"] + tally["timeout"]
        record.cancelled, record.skipped = tally["cancelled"] + tally["paused"], tally["skipped"]
        record.total_time_ms = round((self.ctx._run.now() - self._began) * 1000, 3)
        return record

    def _break_off(self, error: BaseException | None) -> None:
        """Cancelled from outside, or the store failed: how the group ended is told with the cancelled turns."""
        ctx, run, closed = self.ctx, self.ctx._run, self._closed
        opened = run.active.pop(self, None)
        how = type(error).__name__ if isinstance(error, Exception) else "cancelled"
        self.group.reason = self.group.reason or run.why(run.now()) or how
        if opened is not None and opened.serial is not None and (closed is None or closed.serial is None):
            ctx._said = self.results()
            if isinstance(error, Exception) or not ctx.waits_above():
                ctx.tell_later(partial(self._gather, ctx._said, hidden=False))

    def under(self, above: Turn) -> bool:
        """Whether it is a group of the turn of `above`, or of one in it."""
        return self.ctx.under(above)

    def cut_off(self, reason: str) -> None:
        """Tell how the group ended, though nobody waits for it; no branch starts any more."""
        self.group.reason = self.group.reason or reason
        if self._closed is None:
            self._break_off(None)
        self.ctx._run.active.pop(self, None)

    def raise_failures(self) -> None:
        """Raise what made the group fail: a lone failure as itself, several as a group.

        Raises:
            Exception: That.
        """
        errors = [self.broken] if self.broken is not None else []
        errors += self.failures()
        if len(errors) == 1:
            raise errors[0]
        raise ExceptionGroup(f"{len(errors)} branches of {self.ctx.agent.name!r} failed", errors)
