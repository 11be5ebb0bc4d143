"""One task to many agents, and one answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from agentflow.core import Agent, Callback, InvocationContext
from agentflow.errors import ConfigError
from agentflow.patterns._panel import Asked, names_for
from agentflow.patterns._scatter import OnError, Seat
from agentflow.patterns._settings import check_count, check_plan, own_agents, plan_of
from agentflow.patterns.aggregate import Aggregator, Collect, Combine, Combiner, First, Synthesis
from agentflow.patterns.consensus import Consensus
from agentflow.patterns.counting import check_weights
from agentflow.patterns.policies import Hedge
from agentflow.patterns.quality import Quality, check_quality
from agentflow.patterns.result import ScatterGatherResult
from agentflow.patterns.voting import Voting
from agentflow.patterns.weighted import Weighted
from agentflow.policies import Retry
from agentflow.state import OnConflict

Aggregation = Aggregator | Agent | Combiner | str
"""An aggregator; an agent, which is `Synthesis`; a function of the outcomes; or the name of a strategy."""

STRATEGIES: dict[str, type[Aggregator]] = {
    "collect": Collect,
    "first": First,
    "voting": Voting,
    "weighted": Weighted,
    "consensus": Consensus,
}


class ScatterGatherAgent(Agent):
    """Give one task to many agents at once, and make one answer of theirs.

    It is told apart which answers compete, so that one is picked (`Voting`, `Weighted`, `Consensus`, `Judge`, `First`),
    and which complement each other, so that they are merged (`Collect`, `Synthesis`, your function). The result is a
    `ScatterGatherResult` beside the answer in words; what the branches said stays in the log and in the result, and out
    of later prompts.

    Args:
        name: Unique in the tree. A branch adds `{name}.{agent}`, that of a twin `{name}.{agent}#2`.
        agents: One, or several.
        n: How many branches in all; they are dealt to the agents in turn, so one agent is run n times.
        aggregator: How many answers become one. An agent alone is `Synthesis` of it; a function is given the outcomes;
            `"collect"`, `"first"`, `"voting"`, `"weighted"` and `"consensus"` name those that need no setting.
        weights: How much the answer of each agent counts, by its name; by default all count the same.
        timeout_per_agent: Seconds for each branch from its start; `"5m"` is understood.
        max_concurrency: How many may run at the same time, first come first served; `None` means all.
        min_successes: Branches that must answer; fewer are a `TooFewAnswers`.
        on_error: `"collect"` goes on with what the others answer (best effort); `"cancel"` makes the first failure that
            of all.
        deadline: Seconds for all branches together; then the aggregator works with what there is. With
            `on_error="cancel"` that is an `AgentTimeout` instead.
        early_stop: Whether to cancel the rest once the aggregator knows enough; counted in `metrics.saved_calls`.
        wave: Ask so many at first, and as many again only if that didn't settle it.
        hedge: Start a duplicate of a straggler, and take the first: a `Hedge`, or `True` for its defaults.
        quality: How good the answer is, for `metrics.quality`: a `Judge`, or a function of answer and outcomes.
        show_branches: Let what follows see what each branch said.
        on_conflict: What happens when two branches write the same state key; see `ParallelAgent`.
        description: What it is good for.
        timeout: Seconds for all of it, the aggregator included.
        retry: When it fails all of it begins again.
        before_agent: See `Agent`.
        after_agent: See `Agent`.

    Raises:
        ConfigError: A setting can't work.
        TooFewAnswers: From a run: too few branches answered; all causes are in it.
        NoDecision: From a run: the answers don't decide it.
        InvalidAnswer: From a run: an answer or a verdict can't be used.

    Source: Hohpe and Woolf, Enterprise Integration Patterns, Scatter-Gather; voting over samples of one agent is
    self-consistency, https://arxiv.org/abs/2203.11171.
    """

    directs_others = True

    def __init__(
        self,
        name: str,
        agents: Agent | Sequence[Agent],
        *,
        n: int | None = None,
        aggregator: Aggregation = "collect",
        weights: Mapping[str, float] | None = None,
        timeout_per_agent: float | str | None = None,
        max_concurrency: int | None = None,
        min_successes: int = 1,
        on_error: OnError = "collect",
        deadline: float | str | None = None,
        early_stop: bool = True,
        wave: int | None = None,
        hedge: Hedge | bool = False,
        quality: Quality | None = None,
        show_branches: bool = False,
        on_conflict: OnConflict = "last",
        description: str = "",
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
        before_agent: Callback | Sequence[Callback] = (),
        after_agent: Callback | Sequence[Callback] = (),
    ) -> None:
        agents = [agents] if isinstance(agents, Agent) else agents
        super().__init__(
            name,
            sub_agents=agents,
            description=description,
            timeout=timeout,
            retry=retry,
            before_agent=before_agent,
            after_agent=after_agent,
        )
        self._count = len(agents) if isinstance(agents, Sequence) else 0
        self.n = n
        self.aggregator = aggregator
        self.weights = weights
        self.timeout_per_agent: float | None = timeout_per_agent  # type: ignore[assignment]  # `check` makes seconds of it
        self.max_concurrency = max_concurrency
        self.min_successes = min_successes
        self.on_error = on_error
        self.deadline: float | None = deadline  # type: ignore[assignment]  # likewise
        self.early_stop = early_stop
        self.wave = wave
        self.hedge = hedge
        self.quality = quality
        self.show_branches = show_branches
        self.on_conflict = on_conflict

    @property
    def agents(self) -> Sequence[Agent]:
        """Those that are asked; after them, `sub_agents` has those that the aggregator runs."""
        return self.sub_agents[: self._count]

    def check(self) -> None:
        """Check the settings; see `Agent.check`."""
        super().check()
        owner, fields = f"ScatterGatherAgent {self.name!r}", vars(self)
        branches = check_count(self.n, self._count, owner)
        check_plan(self, owner, branches)
        aggregator = fields["aggregator"] = as_aggregator(self.aggregator, owner)
        names = [agent.name for agent in self.agents]
        if self.weights is not None:
            check_weights(self.weights, names, owner)
            fields["weights"] = dict(self.weights)
        aggregator.check(owner, names, branches, self.weights is not None)
        check_quality(self.quality, owner)
        own_agents(self, self._count, ("aggregator", "quality"))

    async def run(self, ctx: InvocationContext) -> None:
        """Take a turn."""
        aggregator: Aggregator = self.aggregator  # type: ignore[assignment]  # `check` has seen to it
        weights = self.weights or {}
        seats = [
            Seat(agent, name, weights.get(agent.name, 1.0))
            for agent, name in names_for(self.agents, self.n or self._count)
        ]
        asked = Asked(ctx, seats, plan_of(self))
        stopper = None
        if self.early_stop:
            stopper = aggregator.early_stop([seat.agent.name for seat in seats], [seat.weight for seat in seats])
        await asked.gather(stopper)
        decision = await asked.decide(aggregator, self.quality)
        names = asked.names
        await asked.emit(
            ScatterGatherResult.model_construct(
                answer=decision.answer,
                text=decision.text or "",
                branches=asked.branches(decision),
                metrics=asked.metrics(decision),
                strategy=aggregator.strategy,
                winner=names[decision.winner] if decision.winner is not None else "",
                candidates=asked.candidates(decision),
                scores={names[place]: score for place, score in decision.scores.items()},
                reason=decision.reason or asked.saved,
                rounds=asked.rounds,
            )
        )


def as_aggregator(value: Any, owner: str) -> Aggregator:
    """`value` as an aggregator.

    Raises:
        ConfigError: It is nothing that could be one.
    """
    if isinstance(value, Aggregator):
        return value
    if isinstance(value, Agent):
        return Synthesis(value)
    if isinstance(value, str):
        if value not in STRATEGIES:
            known = ", ".join(map(repr, STRATEGIES))
            hint = "; give the agent that is to write it" if value == "synthesis" else ""
            raise ConfigError(f"{owner}: there is no aggregator named {value!r}; there are {known}{hint}")
        return STRATEGIES[value]()
    if callable(value) and not isinstance(value, type):
        return Combine(value)
    hint = f": write {value.__name__}(...)" if isinstance(value, type) else ""
    raise ConfigError(f"{owner}: aggregator must be an Aggregator, an agent, a function or a name, not {value!r}{hint}")
