"""All at once."""

import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from functools import partial
from inspect import iscoroutinefunction
from typing import Literal

import anyio
from anyio.abc import TaskGroup
from opentelemetry.trace import SpanContext

from agentflow._invocation import summary
from agentflow._turn import LoopFrame, outcome_of, take_turn
from agentflow.core import Agent, Callback, InvocationContext
from agentflow.errors import ConfigError, LimitExceeded, PluginError, ServiceError
from agentflow.events import Actions, AgentParallelStart, Event, GatherComplete, ScatterStart
from agentflow.outcome import Outcome
from agentflow.policies import Retry, seconds
from agentflow.state import Group, OnConflict, check_on_conflict, reducing

logger = logging.getLogger(__name__)

StopWhen = Literal["all", "first_success", "escalation"] | int | Callable[[Event], bool]
OnError = Literal["cancel", "collect", "ignore"]

_FATAL = (LimitExceeded, PluginError, ServiceError)
"""Failures of the run rather than of a branch: no policy collects them."""

_HOST = os.uname().nodename if hasattr(os, "uname") else platform.node()


class ParallelAgent(Agent):
    """Run every sub-agent at once and let their events interleave.

    Each works on a branch of its own: it sees the talk up to the fork and nothing its siblings say after it. Session,
    artifacts and memory are shared. When all have ended their words can be seen by whatever follows.

    Args:
        name: Unique in the tree. A sub-agent's branch adds `{name}.{sub_agent}`.
        sub_agents: At least one. Their order decides who starts first and the order of results.
        max_concurrency: How many may run at the same time, first come first served; `None` means all.
        on_error: `"cancel"`: the first failure cancels the others and is raised. `"collect"`: the others go on, and
            failures are in the outcomes. `"ignore"`: like `collect`, and what failed branches said is hidden from
            whatever follows. A branch out of time has failed. A run out of budget, a store or a plugin that fails
            ends the run whatever the policy.
        stop_when: When to cancel what is still running: `"all"` have ended, `"first_success"`, a number of successes,
            `"escalation"` of a branch, or a function that is given each event of a branch and says true; the branch
            whose event it was finishes its turn. With a goal of successes, a failure counts only once the goal can't
            be reached any more.
        branch_timeout: Seconds for each branch, from its start.
        on_conflict: What happens when two branches write the same state key: `"last"` wins (and a warning names
            both), `"error"`, or a reducer per key (`{"votes": operator.add}`), folded in declaration order.
        description: What it is good for.
        timeout: Seconds for the whole group.
        retry: When it fails all of it begins again.
        before_agent: See `Agent`.
        after_agent: See `Agent`.

    Raises:
        ConfigError: No sub-agents, or a setting that can't work.
        ExceptionGroup: From a run, when two or more branches failed. A lone failure is raised as itself.

    Source: adk-go `agent/workflowagents/parallelagent`; unlike it, no failure is dropped.
    """

    directs_others = True

    def __init__(
        self,
        name: str,
        sub_agents: Sequence[Agent],
        *,
        max_concurrency: int | None = None,
        on_error: OnError = "cancel",
        stop_when: StopWhen = "all",
        branch_timeout: float | str | None = None,
        on_conflict: OnConflict = "last",
        description: str = "",
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
        before_agent: Callback | Sequence[Callback] = (),
        after_agent: Callback | Sequence[Callback] = (),
    ) -> None:
        super().__init__(
            name,
            sub_agents=sub_agents,
            description=description,
            timeout=timeout,
            retry=retry,
            before_agent=before_agent,
            after_agent=after_agent,
        )
        self.max_concurrency = max_concurrency
        self.on_error = on_error
        self.stop_when = stop_when
        self.branch_timeout: float | None = branch_timeout  # type: ignore[assignment]  # `check` makes seconds of it
        self.on_conflict = on_conflict

    def check(self) -> None:
        """Check the settings; see `Agent.check`."""
        super().check()
        owner = f"ParallelAgent {self.name!r}"
        count = len(self.sub_agents)
        if not count:
            raise ConfigError(f"{owner} needs at least one sub-agent")
        if self.max_concurrency is not None:
            _whole(self.max_concurrency, f"{owner}: max_concurrency")
        if self.on_error not in ("cancel", "collect", "ignore"):
            raise ConfigError(f"{owner}: on_error must be 'cancel', 'collect' or 'ignore', not {self.on_error!r}")
        if isinstance(self.stop_when, int):
            if _whole(self.stop_when, f"{owner}: stop_when") > count:
                raise ConfigError(f"{owner}: stop_when={self.stop_when} successes, but it has {count} sub-agents")
        elif iscoroutinefunction(self.stop_when):
            raise ConfigError(f"{owner}: stop_when must be a plain function of an event, not an async one")
        elif self.stop_when not in ("all", "first_success", "escalation") and not callable(self.stop_when):
            raise ConfigError(
                f"{owner}: stop_when must be 'all', 'first_success', 'escalation', a number or a function of an event, "
                f"not {self.stop_when!r}"
            )
        vars(self)["branch_timeout"] = seconds(self.branch_timeout, f"{owner}: branch_timeout")
        vars(self)["on_conflict"] = check_on_conflict(self.on_conflict, owner)

    async def run(self, ctx: InvocationContext) -> None:
        """Take a turn."""
        await _Fan(self, ctx).run()


def _whole(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{what} must be a whole number of at least 1, not {value!r}")
    return value


def _fatal(error: BaseException | None) -> bool:
    """Whether it is a failure of the run; of a group, whether one in it is."""
    if isinstance(error, BaseExceptionGroup):
        return any(_fatal(one) for one in error.exceptions)
    return isinstance(error, _FATAL)


class _Fan:
    """One running instance of a ParallelAgent."""

    def __init__(self, agent: ParallelAgent, ctx: InvocationContext) -> None:
        self.agent = agent
        self.ctx = ctx
        self.children = agent.sub_agents
        self.group = Group(agent.name, agent.on_conflict)
        self.outcomes: list[Outcome | None] = [None] * len(self.children)
        self.contexts: list[InvocationContext | None] = [None] * len(self.children)
        self.goal = {"first_success": 1}.get(agent.stop_when, 0) if isinstance(agent.stop_when, str) else 0
        if isinstance(agent.stop_when, int):
            self.goal = agent.stop_when
        self.watchers = (self.saw,) if callable(agent.stop_when) or agent.stop_when == "escalation" else ()
        self.lost: set[int] = set()
        self.scopes: dict[str, anyio.CancelScope] = {}
        self.next = 0
        self.successes = 0
        self.failures = 0
        self.failed = False
        self.broken: Exception | None = None
        self.winner = ""
        self.settled = False  # the goal is reached: who still runs has lost
        self.began = ctx._run.now()
        self.began_ns = time.time_ns()
        self.context: Context | None = None
        self.worker = f"{_HOST}:{os.getpid()}"
        self.tasks: TaskGroup | None = None

    async def run(self) -> None:
        agent, ctx, run = self.agent, self.ctx, self.ctx._run
        names = [child.name for child in self.children]
        await ctx.flush()
        opened = ctx.lifecycle(
            ScatterStart(
                agent.name, len(names), names, summary(ctx.user_text), agent.branch_timeout, agent.max_concurrency
            )
        )
        closed: Event | None = None
        try:
            await run.tell(opened, ctx, ctx._place, ctx._timers)
            self.began, self.began_ns = run.now(), time.time_ns()
            self.context = copy_context()
            async with anyio.create_task_group() as self.tasks:
                for _ in range(min(len(names), agent.max_concurrency or len(names))):
                    self.start_next()
            ctx.join_loops()
            actions = self.fold()
            ctx._said, ctx._links = self.results(), self.spans()
            closed = ctx.lifecycle(self.gather(hidden=not self.failed), actions)
            await run.tell(closed, ctx, ctx._place, ctx._timers, wait=not self.failed)
        except BaseException as error:  # cancelled from outside: how it ended is told with the cancelled turns
            how = f"{type(error).__name__}" if isinstance(error, Exception) else "cancelled"
            self.group.reason = self.group.reason or run.reason or how
            if opened.serial is not None and (closed is None or closed.serial is None):
                ctx._said = self.results()
                ctx.tell_later(partial(self.gather, hidden=False))
            if self.failed:
                self.raise_failures()
            raise
        if self.failed:
            self.raise_failures()

    def start_next(self) -> None:
        """Start the next branch in line, in a copy of the group's context, not that of the branch that made room."""
        if self.next < len(self.children) and not self.group.reason:
            index = self.next
            self.next += 1
            child = self.children[index]
            assert self.context is not None and self.tasks is not None
            start = partial(self.tasks.start_soon, self.branch, index, name=f"{self.ctx.path}.{child.name}")
            self.context.run(start)

    async def branch(self, index: int) -> None:
        if self.settled:  # before this task had its first step
            return
        child = self.children[index]
        ctx = self.ctx.fork(child, child.name, self.group, index, self.watchers)
        start = AgentParallelStart(child.name, type(child).__name__, step_id=ctx.path, worker_id=self.worker)
        if self.agent.max_concurrency is not None and index >= self.agent.max_concurrency:
            self.queued(ctx, start)
        self.contexts[index] = ctx
        try:
            if self.watchers:
                with self.scopes.setdefault(ctx.branch, anyio.CancelScope()):
                    outcome = await take_turn(ctx, start, timeout=self.agent.branch_timeout)
                if ctx.status != "ok":
                    return  # another branch settled it
            else:
                outcome = await take_turn(ctx, start, timeout=self.agent.branch_timeout)
        except Exception as error:
            outcome = outcome_of(ctx, error)
        self.outcomes[index] = outcome  # that of a cancelled branch is made when the group ends
        self.decide(index, outcome)
        self.start_next()

    def queued(self, ctx: InvocationContext, start: AgentParallelStart) -> None:
        run = self.ctx._run
        start.queue_ms = round((run.now() - self.began) * 1000, 3)
        if run.tracing is not None:
            run.tracing.queued(start.agent_name, ctx._span, self.began_ns, time.time_ns(), ctx.branch)

    def decide(self, index: int, outcome: Outcome) -> None:
        """A branch has ended, and its terminal event is stored: does that settle the group?"""
        if outcome.ok:
            self.successes += 1
            if self.goal and self.successes >= self.goal and not self.group.reason:
                self.stop(f"{self.successes} of {len(self.children)} succeeded", outcome.branch)
        elif self.settled and not self.failed and not (self.winner + ".").startswith(outcome.branch + "."):
            self.lost.add(index)
            logger.warning("branch %r failed after its group was settled", outcome.branch, exc_info=outcome.error)
        elif _fatal(outcome.error):
            self.failed = True
            self.stop(f"{outcome.agent} failed", "")
        else:
            self.failures += 1
            reachable = self.goal and len(self.children) - self.failures >= self.goal
            if self.agent.on_error == "cancel" and not reachable and (not self.goal or self.successes < self.goal):
                self.failed = True
                self.stop(f"{outcome.agent} failed", "")

    def saw(self, event: Event, branch: str, frame: LoopFrame | None) -> None:
        """An event of a branch, however deep: does it settle the group?"""
        if self.group.reason or event.partial:
            return
        if callable(self.agent.stop_when):
            try:
                enough = self.agent.stop_when(event)
            except Exception as error:  # the group's failure, not that of the agent that happens to emit
                error.add_note(f"in stop_when of ParallelAgent {self.agent.name!r}")
                self.failed, self.broken = True, error
                self.stop("stop_when failed", "")
                return
            if enough:
                self.stop("stop_when", branch)
        elif event.actions is not None and event.actions.escalate:
            outer = self.ctx._loop
            while outer is not None and outer is not frame:
                outer = outer.outer
            if frame is None or outer is frame:  # no loop inside of the branch took it
                self.stop(f"{event.author} escalated", branch)

    def stop(self, reason: str, branch: str) -> None:
        """Cancel what is running; but a branch whose event settled it finishes its turn."""
        if not self.group.reason:
            self.group.reason, self.winner, self.settled = reason, branch, bool(branch)
        if self.watchers and branch:
            for other, scope in self.scopes.items():
                if not (branch + ".").startswith(other + "."):
                    scope.cancel()
        else:
            assert self.tasks is not None
            self.tasks.cancel_scope.cancel()

    def results(self) -> tuple[Outcome, ...]:
        run = self.ctx._run
        prefix = ".".join((*self.ctx._place.segments, self.agent.name))
        results = []
        for index, (child, ctx) in enumerate(zip(self.children, self.contexts, strict=True)):
            outcome = self.outcomes[index]
            if outcome is None and ctx is not None:
                outcome = outcome_of(ctx, None)
                if self.settled:
                    self.lost.add(index)
            elif outcome is None:
                outcome = Outcome(agent=child.name, branch=f"{prefix}.{child.name}", status="skipped")
            self.outcomes[index] = run.outcomes[outcome.branch] = outcome
            results.append(outcome)
        return tuple(results)

    def spans(self) -> tuple[SpanContext, ...]:
        if self.ctx._run.tracing is None:
            return ()
        return tuple(ctx._span.get_span_context() for ctx in self.contexts if ctx is not None)

    def fold(self) -> Actions | None:
        """What the branches that went well brought to keys with a reducer, on top of what was there."""
        run, groups = self.ctx._run, self.ctx._place.groups
        if not self.group.contributions or self.failed:
            return None
        folded = self.group.fold([i for i, outcome in enumerate(self.outcomes) if outcome is not None and outcome.ok])
        for key, value in folded.items():
            if reducing(groups, key) is None and key in run.state:
                folded[key] = self.group.join(key, run.state[key], value)
        return Actions(folded) if folded else None

    def gather(self, *, hidden: bool) -> GatherComplete:
        results = self.results()
        by_status = [outcome.status for outcome in results]
        lost = [
            outcome.branch
            for index, outcome in enumerate(results)
            if hidden
            and (
                (not outcome.ok and index in self.lost)
                or (outcome.status in ("error", "timeout") and self.agent.on_error == "ignore")
            )
        ]
        return GatherComplete(
            self.agent.name,
            len(results),
            successful=by_status.count("ok"),
            failed=by_status.count("error") + by_status.count("timeout"),
            cancelled=by_status.count("cancelled"),
            skipped=by_status.count("skipped"),
            total_time_ms=round((self.ctx._run.now() - self.began) * 1000, 3),
            gathered_results=[outcome.agent for outcome in results if outcome.ok],
            outcomes={outcome.agent: outcome.status for outcome in results},
            hidden=lost,
            reason=self.group.reason,
        )

    def raise_failures(self) -> None:
        errors = [self.broken] if self.broken is not None else []
        errors += [outcome.error for outcome in self.outcomes if outcome and isinstance(outcome.error, Exception)]
        if len(errors) == 1:
            raise errors[0]
        raise ExceptionGroup(f"{len(errors)} branches of {self.agent.name!r} failed", errors)
