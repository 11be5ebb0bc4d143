"""A task that is broken down while it runs: specialists do the parts at once, and one answer comes of theirs."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

from pydantic import ValidationError

from agentflow._tree import check_name
from agentflow.core import Agent, Callback, InvocationContext
from agentflow.errors import ConfigError, InvalidAnswer, LimitExceeded
from agentflow.patterns import _render
from agentflow.patterns._panel import Asked
from agentflow.patterns._scatter import OnError, Seat
from agentflow.patterns._settings import check_plan, own_agents, plan_of
from agentflow.patterns.aggregate import Aggregator
from agentflow.patterns.answers import answer_of, parsed
from agentflow.patterns.counting import whole
from agentflow.patterns.policies import Hedge
from agentflow.patterns.quality import Quality, check_quality
from agentflow.patterns.result import DecompositionResult, Subtask
from agentflow.patterns.scatter_gather import Aggregation, as_aggregator
from agentflow.policies import Retry
from agentflow.state import OnConflict

Decomposer = Callable[[str], Any | Awaitable[Any]]
"""Given the task, says its parts: a list of texts, of mappings or of `Subtask`s."""

Selector = Callable[[Subtask, Sequence[Agent]], Any | Awaitable[Any]]
"""Given a part and the specialists, says who does it: the agent or its name."""

_UNFIT = re.compile(r"[^0-9A-Za-z_-]+")


class DecompositionAgent(Agent):
    """Break a task down while it runs, let specialists do the parts at once, and make one answer of theirs.

    The result is a `DecompositionResult` beside the answer in words.

    Args:
        name: Unique in the tree. A part's branch adds `{name}.{part}`.
        decomposer: Says the parts: an agent, which is told the task and who there is, and answers a list of `Subtask`s,
            as data or as JSON; or a function of the task.
        specialists: One, or several, who do the parts. Each is told its part as a user would.
        selector: Picks the specialist of a part; by default the part names one (`specialist`), or there is only one.
        aggregator: How the results become one; see `ScatterGatherAgent`. The parts complement each other, so it is
            `"collect"` by default, and most often an agent that writes the whole.
        max_subtasks: Parts that one task may have.
        max_depth: How deep parts may be broken down again, which one asks for with `split`; 1 is not at all.
        max_total: Parts that there may be in all.
        timeout_per_agent: Seconds for each part from its start.
        max_concurrency: How many may run at the same time (of each task that is broken down).
        min_successes: Parts that must be done; by default all of them. Fewer are a `TooFewAnswers`.
        on_error: `"collect"` goes on with the other parts; `"cancel"` makes the first failure that of all.
        deadline: Seconds for the parts together; then the aggregator works with what there is, if it is enough.
        hedge: Start a duplicate of a straggler, and take the first.
        quality: How good the answer is, for `metrics.quality`.
        show_branches: Let what follows see what was said about each part.
        on_conflict: What happens when two branches write the same state key; see `ParallelAgent`.
        description: What it is good for.
        timeout: Seconds for all of it.
        retry: When it fails all of it begins again.
        before_agent: See `Agent`.
        after_agent: See `Agent`.

    Raises:
        ConfigError: A setting can't work.
        InvalidAnswer: From a run: what the decomposer or the selector says can't be used.
        LimitExceeded: From a run: too many parts, or too deep; nothing is cut off silently. It ends the run.
        TooFewAnswers: From a run: too few parts were done.

    Source: the orchestrator and its workers of Anthropic, Building effective agents, 2024.
    """

    directs_others = True

    def __init__(
        self,
        name: str,
        *,
        decomposer: Agent | Decomposer,
        specialists: Agent | Sequence[Agent],
        selector: Selector | None = None,
        aggregator: Aggregation = "collect",
        max_subtasks: int = 20,
        max_depth: int = 1,
        max_total: int = 100,
        timeout_per_agent: float | str | None = None,
        max_concurrency: int | None = None,
        min_successes: int | None = None,
        on_error: OnError = "collect",
        deadline: float | str | None = None,
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
        specialists = [specialists] if isinstance(specialists, Agent) else specialists
        super().__init__(
            name,
            sub_agents=specialists,
            description=description,
            timeout=timeout,
            retry=retry,
            before_agent=before_agent,
            after_agent=after_agent,
        )
        self._count = len(specialists) if isinstance(specialists, Sequence) else 0
        self.decomposer = decomposer
        self.selector = selector
        self.aggregator = aggregator
        self.max_subtasks = max_subtasks
        self.max_depth = max_depth
        self.max_total = max_total
        self.timeout_per_agent: float | None = timeout_per_agent  # type: ignore[assignment]  # `check` makes seconds of it
        self.max_concurrency = max_concurrency
        self.min_successes = min_successes
        self.on_error = on_error
        self.deadline: float | None = deadline  # type: ignore[assignment]  # likewise
        self.hedge = hedge
        self.quality = quality
        self.show_branches = show_branches
        self.on_conflict = on_conflict

    @property
    def specialists(self) -> Sequence[Agent]:
        """Those who do the parts; after them, `sub_agents` has the decomposer and who the aggregator runs."""
        return self.sub_agents[: self._count]

    def check(self) -> None:
        """Check the settings; see `Agent.check`."""
        super().check()
        owner, fields = f"DecompositionAgent {self.name!r}", vars(self)
        if not self._count:
            raise ConfigError(f"{owner} needs at least one specialist")
        if not isinstance(self.decomposer, Agent) and not callable(self.decomposer):
            raise ConfigError(
                f"{owner}: decomposer must be an agent or a function of the task, not {self.decomposer!r}"
            )
        if self.selector is not None and not callable(self.selector):
            raise ConfigError(f"{owner}: selector must be a function of a part and the specialists")
        aggregator = fields["aggregator"] = as_aggregator(self.aggregator, owner)
        aggregator.check(owner, (), 0, False)
        check_quality(self.quality, owner)
        for setting in ("max_subtasks", "max_depth", "max_total"):
            if not whole(fields[setting]) or fields[setting] < 1:
                raise ConfigError(f"{owner}: {setting} must be a whole number of at least 1, not {fields[setting]!r}")
        check_plan(self, owner, 0)
        own_agents(self, self._count, ("decomposer", "aggregator", "quality"))

    async def run(self, ctx: InvocationContext) -> None:
        """Take a turn."""
        budget = _Budget()
        try:
            await _Level(self, ctx, ctx.user_text, budget, 1).run()
        except ExceptionGroup:
            if budget.over is None:
                raise
            raise budget.over from None  # which all branches found at once, perhaps


@dataclass(slots=True)
class _Budget:
    """Parts that were made at all depths together, how deep they went, and the limit that was found to be passed."""

    total: int = 0
    depth: int = 1
    over: LimitExceeded | None = None


class _Level:
    """A task that is being broken down: the first, or a part that asks for it."""

    def __init__(
        self, agent: DecompositionAgent, ctx: InvocationContext, task: str, budget: _Budget, depth: int
    ) -> None:
        self.agent = agent
        self.ctx = ctx
        self.task = task
        self.budget = budget
        self.depth = depth

    async def run(self) -> None:
        agent = self.agent
        subtasks = read_subtasks(await self.parts())
        self.spend(subtasks)
        seats = await self.seats(subtasks)
        plan = plan_of(agent)
        plan.min_successes = plan.min_successes or len(seats)
        asked = Asked(self.ctx, seats, plan, task=self.task)
        await asked.gather()
        aggregator: Aggregator = agent.aggregator  # type: ignore[assignment]  # `check` has seen to it
        decision = await asked.decide(aggregator, agent.quality if self.depth == 1 else None)
        await asked.emit(
            DecompositionResult.model_construct(
                answer=decision.answer,
                text=decision.text or "",
                branches=asked.branches(decision),
                metrics=asked.metrics(decision),
                strategy=aggregator.strategy,
                subtasks=tuple(subtasks),
                depth=self.budget.depth,
                total_subtasks=self.budget.total,
            )
        )

    async def parts(self) -> Any:
        """What the decomposer says."""
        decomposer = self.agent.decomposer
        if not isinstance(decomposer, Agent):
            found = decomposer(self.task)
            return await found if isawaitable(found) else found
        who = "\n".join(f"- {one.name}: {one.description}".rstrip(": ") for one in self.agent.specialists)
        part = '{"task": "...", "specialist": NAME, "split": false}'
        deeper = ' Set "split" for one that should be broken down again.' if self.depth < self.agent.max_depth else ""
        request = (
            f"Break this task down into at most {self.agent.max_subtasks} parts that can be done at the same time, "
            f"each by one of these:\n\n{who}\n\nAnswer with JSON alone, a list of parts: [{part}, ...].{deeper}"
        )
        outcome = await self.ctx.run(decomposer, message=f"The task:\n\n{_render.fenced(self.task)}\n\n{request}")
        return answer_of(outcome)

    def spend(self, subtasks: Sequence[Subtask]) -> None:
        """Count the parts.

        Raises:
            LimitExceeded: There are too many, or they would go too deep.
        """
        agent, budget, count = self.agent, self.budget, len(subtasks)
        budget.total += count
        budget.depth = max(budget.depth, self.depth)
        if count > agent.max_subtasks:
            raise self.over("max_subtasks", f"{count} parts, and a task may have {agent.max_subtasks}")
        if budget.total > agent.max_total:
            raise self.over("max_total", f"{budget.total} parts in all, and there may be {agent.max_total}")
        if self.depth >= agent.max_depth and any(subtask.split for subtask in subtasks):
            raise self.over("max_depth", f"a part to be broken down again at depth {self.depth}, which is the deepest")

    def over(self, limit: str, what: str) -> LimitExceeded:
        """The error for a limit of its own."""
        spent = {"subtasks": self.budget.total, "depth": self.budget.depth}
        error = LimitExceeded(f"agent {self.ctx.path!r} made {what} ({limit})", limit=limit, spent=spent)
        self.budget.over = self.budget.over or error
        return error

    async def seats(self, subtasks: Sequence[Subtask]) -> list[Seat]:
        seen: dict[str, int] = {}
        seats = []
        for subtask in subtasks:
            agent: Agent
            if subtask.split:
                agent = _Part(self, subtask)
                name = agent.name
            else:
                agent = await self.select(subtask)
                name = _fit(subtask.name) or agent.name
            ordinal = seen[name] = seen.get(name, 0) + 1
            seats.append(Seat(agent, name if ordinal == 1 else f"{name}#{ordinal}", message=subtask.task))
        return seats

    async def select(self, subtask: Subtask) -> Agent:
        """Who does a part."""
        agent = self.agent
        choice: Any = subtask.specialist
        if agent.selector is not None:
            choice = agent.selector(subtask, agent.specialists)
            choice = await choice if isawaitable(choice) else choice
        elif not choice and len(agent.specialists) == 1:
            return agent.specialists[0]
        for one in agent.specialists:
            if choice is one or choice == one.name:
                return one
        names = ", ".join(repr(one.name) for one in agent.specialists)
        raise InvalidAnswer(f"nobody does the part {subtask.task[:80]!r}: {choice!r} is none of {names}")


class _Part(Agent):
    """A part that is broken down in turn."""

    directs_others = True

    def __init__(self, level: _Level, subtask: Subtask) -> None:
        super().__init__(_fit(subtask.name) or f"{level.agent.name}-part", description=subtask.task[:120])
        self.level = level
        self.subtask = subtask

    async def run(self, ctx: InvocationContext) -> None:
        level = self.level
        await _Level(level.agent, ctx, self.subtask.task, level.budget, level.depth + 1).run()


def read_subtasks(value: Any) -> list[Subtask]:
    """The parts that a decomposer has said: a list of texts, mappings or `Subtask`s, or JSON of such.

    Raises:
        InvalidAnswer: It is no such list, or it is empty.
    """
    found = parsed(value)
    if isinstance(found, Mapping):
        found = found.get("subtasks", found)
    if not isinstance(found, (list, tuple)):
        raise InvalidAnswer(f"a decomposer must say a list of parts, not {str(value)[:200]!r}")
    subtasks = []
    for part in found:
        if isinstance(part, str):
            part = {"task": part}
        elif isinstance(part, Mapping) and "task" not in part and "description" in part:
            part = {**part, "task": part["description"]}
        try:
            subtask = Subtask.model_validate(part)
        except ValidationError as error:
            raise InvalidAnswer(f"this is no part of a task: {str(part)[:200]} ({error.errors()[0]['msg']})") from None
        if not subtask.task.strip():
            raise InvalidAnswer("a part of a task says nothing")
        subtasks.append(subtask)
    if not subtasks:
        raise InvalidAnswer("the decomposer said no parts")
    return subtasks


def _fit(name: str) -> str:
    """A name as branches and agents have it; empty if nothing is left of it."""
    name = _UNFIT.sub("-", name).strip("-")[:60]
    try:
        check_name(name, "part")
    except ConfigError:
        return ""
    return name
