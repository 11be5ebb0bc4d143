"""Many at one task, and the best of them wins."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import ceil
from operator import itemgetter
from typing import ClassVar, TypeVar

import anyio

from agentflow.core import Agent, Callback, InvocationContext
from agentflow.errors import ConfigError, InvalidAnswer
from agentflow.outcome import Outcome
from agentflow.patterns._panel import Asked, names_for
from agentflow.patterns._scatter import OnError, Seat
from agentflow.patterns._settings import check_count, check_plan, own_agents, plan_of
from agentflow.patterns.aggregate import Aggregator, Decision, Given, Panel
from agentflow.patterns.answers import answer_of, answered
from agentflow.patterns.counting import numeric, whole
from agentflow.patterns.judge import Judge, Judging
from agentflow.patterns.policies import Hedge
from agentflow.patterns.rating import Rubric, Verdict
from agentflow.patterns.result import CompetitionResult, MatchResult
from agentflow.policies import Retry
from agentflow.state import OnConflict

R = TypeVar("R")


class CompetitionAgent(Agent):
    """Let several agents do one task; a judge says who did it best.

    The result is a `CompetitionResult` (winner, scores, all outputs, who was compared with whom) beside the winning
    output in words.

    Args:
        name: Unique in the tree. A branch adds `{name}.{agent}`.
        competitors: One, or several.
        judge: An agent, a function (async ones too) of the list of outputs, or a `Judge`. A function may run tests, for
            instance, and return a score for each, or `(winner, scores)`; see `Judge`.
        n: How many compete in all; they are dealt to the competitors in turn.
        rubric: What is marked, and how much it counts; for a judge that isn't a `Judge` itself.
        good_enough: A score. Each output is judged alone, one after the other in the order in which they come; the
            first with at least this score wins, and the rest is cancelled. If none has it, the highest score wins.
        bracket: Compare so many at a time; the winners meet in the next round. For more than one prompt can hold.
        timeout_per_agent: Seconds for each branch from its start.
        max_concurrency: How many may run at the same time, and how many matches of a bracket.
        min_successes: Competitors that must finish; fewer are a `TooFewAnswers`.
        on_error: `"collect"` goes on without who fails; `"cancel"` makes the first failure that of all.
        deadline: Seconds for all competitors together; then those are judged who have finished.
        hedge: Start a duplicate of a straggler, and take the first.
        show_branches: Let what follows see what each said.
        on_conflict: What happens when two branches write the same state key; see `ParallelAgent`.
        description: What it is good for.
        timeout: Seconds for all of it, judges included.
        retry: When it fails all of it begins again.
        before_agent: See `Agent`.
        after_agent: See `Agent`.

    Raises:
        ConfigError: A setting can't work.
        TooFewAnswers: From a run: too few finished; all causes are in it.
        InvalidAnswer: From a run: a verdict can't be used.

    Source: best-of-n sampling with a judge; the rubric is that of Zheng et al., Judging LLM-as-a-judge, 2023.
    """

    directs_others = True

    def __init__(
        self,
        name: str,
        competitors: Agent | Sequence[Agent],
        *,
        judge: Judge | Agent | Judging,
        n: int | None = None,
        rubric: Rubric | None = None,
        good_enough: float | None = None,
        bracket: int | None = None,
        timeout_per_agent: float | str | None = None,
        max_concurrency: int | None = None,
        min_successes: int = 1,
        on_error: OnError = "collect",
        deadline: float | str | None = None,
        hedge: Hedge | bool = False,
        show_branches: bool = False,
        on_conflict: OnConflict = "last",
        description: str = "",
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
        before_agent: Callback | Sequence[Callback] = (),
        after_agent: Callback | Sequence[Callback] = (),
    ) -> None:
        competitors = [competitors] if isinstance(competitors, Agent) else competitors
        super().__init__(
            name,
            sub_agents=competitors,
            description=description,
            timeout=timeout,
            retry=retry,
            before_agent=before_agent,
            after_agent=after_agent,
        )
        self._count = len(competitors) if isinstance(competitors, Sequence) else 0
        self.judge = judge if isinstance(judge, Judge) else Judge(judge, rubric)
        self.rubric = rubric
        self.n = n
        self.good_enough = good_enough
        self.bracket = bracket
        self.timeout_per_agent: float | None = timeout_per_agent  # type: ignore[assignment]  # `check` makes seconds of it
        self.max_concurrency = max_concurrency
        self.min_successes = min_successes
        self.on_error = on_error
        self.deadline: float | None = deadline  # type: ignore[assignment]  # likewise
        self.hedge = hedge
        self.show_branches = show_branches
        self.on_conflict = on_conflict

    @property
    def competitors(self) -> Sequence[Agent]:
        """Those who compete; after them, `sub_agents` has the judge, if that is an agent."""
        return self.sub_agents[: self._count]

    def check(self) -> None:
        """Check the settings; see `Agent.check`."""
        super().check()
        owner, fields = f"CompetitionAgent {self.name!r}", vars(self)
        if not isinstance(self.judge, Judge):  # changed by a clone
            fields["judge"] = Judge(self.judge, self.rubric)
        if self.rubric is not None and self.judge.rubric is not self.rubric:
            raise ConfigError(f"{owner}: give the rubric to the Judge")
        check_plan(self, owner, check_count(self.n, self._count, owner))
        self.judge.check(owner, (), 0, False)
        own_agents(self, self._count, ("judge",))
        if self.good_enough is not None and not numeric(self.good_enough):
            raise ConfigError(f"{owner}: good_enough must be a number, not {self.good_enough!r}")
        if self.bracket is not None and (not whole(self.bracket) or self.bracket < 2):
            raise ConfigError(f"{owner}: bracket must be a whole number of at least 2, not {self.bracket!r}")
        if self.bracket is not None and self.good_enough is not None:
            raise ConfigError(f"{owner}: bracket compares outputs, good_enough judges each alone: give one of them")

    async def run(self, ctx: InvocationContext) -> None:
        """Take a turn."""
        seats = [Seat(agent, name) for agent, name in names_for(self.competitors, self.n or self._count)]
        asked = Asked(ctx, seats, plan_of(self))
        contest = _Contest(self, asked)
        await asked.gather(rater=contest.judge_alone if self.good_enough is not None else None)
        decision = await asked.decide(contest)
        names = asked.names
        assert decision.winner is not None
        await asked.emit(
            CompetitionResult.model_construct(
                answer=decision.answer,
                text=decision.text or "",
                branches=asked.branches(decision),
                metrics=asked.metrics(decision),
                winner=names[decision.winner],
                scores={names[place]: contest.scores[place] for place in sorted(contest.scores)},
                marks={names[place]: contest.marks[place] for place in sorted(contest.marks)},
                matches=tuple(match for _, match in sorted(contest.matches, key=itemgetter(0))),
                reason=decision.reason,
                good_enough=contest.good_enough(decision.winner),
            )
        )


class _Contest(Aggregator):
    """The judging of one run."""

    strategy: ClassVar[str] = "competition"
    picks: ClassVar[bool] = True

    def __init__(self, agent: CompetitionAgent, panel: Panel) -> None:
        self.agent = agent
        self.panel = panel
        self.scores: dict[int, float] = {}
        self.marks: dict[int, dict[str, float]] = {}
        self.reasons: dict[int, str] = {}
        self.matches: list[tuple[tuple[int, int], MatchResult]] = []

    @property
    def agents(self) -> tuple[Agent, ...]:
        return self.agent.judge.agents

    def good_enough(self, place: int) -> bool:
        """Whether who is at this place has the score that was wanted."""
        least = self.agent.good_enough
        return least is not None and self.scores.get(place, least - 1) >= least

    async def judge_alone(self, place: int, outcome: Outcome) -> str:
        """Judge what has just come in; says whether it is good enough."""
        if not answered(outcome):
            return ""
        score = await self._score(Given(place, self.panel.names[place], answer_of(outcome), 1.0, outcome))
        return f"{self.panel.names[place]} is good enough: {score:g}" if self.good_enough(place) else ""

    async def combine(self, panel: Panel) -> Decision:
        given = panel.given
        if self.agent.good_enough is not None:
            for one in given:
                if one.place not in self.scores:
                    await self._score(one)
            best = max(given, key=lambda one: (self.scores[one.place], -one.place))
        elif self.agent.bracket is not None:
            best = await self._play_bracket(given, self.agent.bracket)
        else:
            best = await self._match(given, 1)
        return Decision(
            answer=best.answer,
            text=best.outcome.text,
            winner=best.place,
            scores=self.scores,
            reason=self.reasons.get(best.place, ""),
        )

    async def _score(self, one: Given) -> float:
        await self._match([one], 1)
        if one.place not in self.scores:
            raise InvalidAnswer(f"good_enough needs a score for {one.name!r}, and the judge gave none")
        return self.scores[one.place]

    async def _play_bracket(self, given: Sequence[Given], size: int) -> Given:
        turn = 0
        while True:
            turn += 1
            count = ceil(len(given) / size)
            # As even as can be, neighbours together: of 5 by twos, (0), (1, 2), (3, 4).
            groups = [given[len(given) * i // count : len(given) * (i + 1) // count] for i in range(count)]
            given = await together([partial(self._match, group, turn) for group in groups], self.agent.max_concurrency)
            if len(given) == 1:
                return given[0]

    async def _match(self, given: Sequence[Given], turn: int) -> Given:
        """Compare some; one that meets nobody in a round of a bracket goes on."""
        if len(given) == 1 and self.agent.bracket is not None and len(self.panel.given) > 1:
            return given[0]
        verdict: Verdict = await self.agent.judge.verdict(self.panel, given)
        winner = given[verdict.winner]
        names = [one.name for one in given]
        self.scores.update({one.place: score for one, score in zip(given, verdict.scores, strict=False)})
        self.marks.update({one.place: dict(marks) for one, marks in zip(given, verdict.marks, strict=False)})
        self.reasons[winner.place] = verdict.reason
        match = MatchResult(
            round=turn,
            names=tuple(names),
            winner=winner.name,
            scores=dict(zip(names, verdict.scores, strict=False)),
            marks={name: dict(marks) for name, marks in zip(names, verdict.marks, strict=False)},
            reason=verdict.reason,
        )
        self.matches.append(((turn, given[0].place), match))
        return winner


async def together(jobs: Sequence[Callable[[], Awaitable[R]]], most: int | None) -> list[R]:
    """Do all at once, at most so many at a time; gives what came of each, in order.

    Raises:
        Exception: What one raised, as itself; the others are cancelled. Several at once are a group.
    """
    results: dict[int, R] = {}
    errors: list[Exception] = []
    slots = anyio.CapacityLimiter(most or max(1, len(jobs)))

    async def work(place: int) -> None:
        async with slots:
            try:
                results[place] = await jobs[place]()
            except Exception as error:
                errors.append(error)
                tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for place in range(len(jobs)):
            tasks.start_soon(work, place)
    if errors:
        raise errors[0] if len(errors) == 1 else ExceptionGroup("several failed", errors)
    return [results[place] for place in range(len(jobs))]
