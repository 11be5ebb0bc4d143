"""All at once."""

import logging
from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction
from typing import Literal

from agentflow._settings import check_whole
from agentflow._turn import LoopFrame
from agentflow.agents.branches import Branch, Branches, fatal
from agentflow.core import Agent, Callback, InvocationContext
from agentflow.errors import ConfigError
from agentflow.events import Event
from agentflow.outcome import Outcome
from agentflow.policies import Retry, seconds
from agentflow.state import OnConflict, check_on_conflict

logger = logging.getLogger(__name__)

StopWhen = Literal["all", "first_success", "escalation"] | int | Callable[[Event], bool]
OnError = Literal["cancel", "collect", "ignore"]


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
            check_whole(owner, max_concurrency=self.max_concurrency)
        if self.on_error not in ("cancel", "collect", "ignore"):
            raise ConfigError(f"{owner}: on_error must be 'cancel', 'collect' or 'ignore', not {self.on_error!r}")
        if isinstance(self.stop_when, int):
            check_whole(owner, stop_when=self.stop_when)
            if self.stop_when > count:
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
        async with _Fan(self, ctx) as group:
            await group.run_all(self.sub_agents)


class _Fan(Branches):
    """One running instance of a ParallelAgent: its policies."""

    __slots__ = ("agent", "goal", "misses", "successes", "winner")

    def __init__(self, agent: ParallelAgent, ctx: InvocationContext) -> None:
        super().__init__(
            ctx,
            agents=agent.sub_agents,
            max_concurrency=agent.max_concurrency,
            timeout=agent.branch_timeout,
            on_conflict=agent.on_conflict,
            watchers=(self.saw,) if callable(agent.stop_when) or agent.stop_when == "escalation" else (),
        )
        self.agent = agent
        self.goal = {"first_success": 1}.get(agent.stop_when, 0) if isinstance(agent.stop_when, str) else 0
        if isinstance(agent.stop_when, int):
            self.goal = agent.stop_when
        self._scoped = bool(self._watchers)
        self.successes = 0
        self.misses = 0
        self.winner = ""

    def ended(self, branch: Branch) -> None:
        """Does that settle the group?"""
        outcome, count = branch.outcome, len(self.agents)
        assert outcome is not None
        if outcome.ok:
            self.successes += 1
            if self.goal and self.successes >= self.goal and not self.group.reason:
                self.settle(f"{self.successes} of {count} succeeded", outcome.branch)
        elif outcome.error is None:
            return  # cancelled: another branch settled it
        elif self.settled and not self.failed and not (self.winner + ".").startswith(outcome.branch + "."):
            branch.lost = True
            logger.warning("branch %r failed after its group was settled", outcome.branch, exc_info=outcome.error)
        elif fatal(outcome.error):
            self.failed = True
            self.settle(f"{outcome.agent} failed", "")
        else:
            self.misses += 1
            reachable = self.goal and count - self.misses >= self.goal
            if self.agent.on_error == "cancel" and not reachable and (not self.goal or self.successes < self.goal):
                self.failed = True
                self.settle(f"{outcome.agent} failed", "")

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
                self.settle("stop_when failed", "")
                return
            if enough:
                self.settle("stop_when", branch)
        elif event.actions is not None and event.actions.escalate:
            outer = self.ctx._loop
            while outer is not None and outer is not frame:
                outer = outer.outer
            if frame is None or outer is frame:  # no loop inside of the branch took it
                self.settle(f"{event.author} escalated", branch)

    def settle(self, reason: str, winner: str) -> None:
        """Cancel what is running; but a branch whose event settled it finishes its turn."""
        if not self.group.reason:
            self.group.reason, self.winner, self.settled = reason, winner, bool(winner)
        if self._watchers and winner:
            for branch in self.branches.values():
                here = branch.ctx.branch if branch.ctx is not None else ""
                if branch.scope is not None and not (winner + ".").startswith(here + "."):
                    branch.scope.cancel()
        else:
            self._stop_all(reason)

    def hides(self, branch: Branch, outcome: Outcome) -> bool:
        """Of who lost a race, and by `on_error="ignore"` of who failed."""
        if outcome.status == "ok":
            return False
        ignored = self.agent.on_error == "ignore" and outcome.status in ("error", "timeout")
        return ignored or super().hides(branch, outcome)

    def failures(self) -> list[Exception]:
        """What the branches raised."""
        errors = [branch.outcome.error for branch in self.branches.values() if branch.outcome is not None]
        return [error for error in errors if isinstance(error, Exception)]
