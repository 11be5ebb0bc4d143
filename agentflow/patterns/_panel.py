"""What patterns share: branches that are asked, an aggregator that decides, and what all of it took."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import isawaitable

from agentflow._invocation import summary
from agentflow.agents.branches import Branch
from agentflow.content import Part, Text
from agentflow.core import Agent, InvocationContext
from agentflow.errors import InvalidAnswer
from agentflow.events import SynthesisComplete, SynthesisStart, Usage
from agentflow.outcome import Outcome
from agentflow.patterns import _render
from agentflow.patterns._calls import worked
from agentflow.patterns._scatter import Plan, Rater, Scatter, Seat, usable, why_missing
from agentflow.patterns.aggregate import Aggregator, Decision, EarlyStop, Given
from agentflow.patterns.answers import answer_of
from agentflow.patterns.counting import numeric
from agentflow.patterns.judge import Judge
from agentflow.patterns.quality import Quality
from agentflow.patterns.result import BranchResult, CandidateResult, Metrics, PatternResult, Step

_LARGE = 1_000_000
"""Characters of all outputs together from which a result leaves them to the branches' own events."""


class Asked:
    """The branches of one turn of a pattern, what they answered, and what that took; an aggregator's `Panel`.

    Attributes:
        seats: In the order of declaration; each with its last outcome that is of use.
    """

    def __init__(self, ctx: InvocationContext, seats: Sequence[Seat], plan: Plan, *, task: str | None = None) -> None:
        self.ctx = ctx
        self.seats = list(seats)
        self.plan = plan
        self.task = ctx.user_text if task is None else task
        self.rounds = 0
        self.saved = ""
        self.saved_calls = 0
        self.wall = 0.0
        self.synthesis = 0.0
        self.quality: float | None = None
        self._asked: list[Seat] = []  # of all rounds
        self._path: list[Step] = []

    async def gather(self, stopper: EarlyStop | None = None, rater: Rater | None = None) -> None:
        """Ask all of them.

        Raises:
            TooFewAnswers: Too few answered.
            Exception: See `Scatter.run`.
        """
        await self._round(self.seats, self.plan, stopper, rater)

    async def _round(
        self, seats: Sequence[Seat], plan: Plan, stopper: EarlyStop | None = None, rater: Rater | None = None
    ) -> None:
        self.rounds += 1
        name = self.ctx.agent.name if self.rounds == 1 else f"{self.ctx.agent.name}#{self.rounds}"
        scatter = Scatter(self.ctx, seats, plan, stopper=stopper, rater=rater, name=name, task=self.task)
        await scatter.run()
        self.wall += scatter.wall
        self._asked += seats
        if scatter.saved:
            self.saved = scatter.saved
            unspent = [seat for seat in seats if seat.outcome and seat.outcome.status in ("cancelled", "skipped")]
            self.saved_calls += len(unspent)
        slowest = max((seat for seat in seats if usable(seat)), key=_ended, default=None)
        if slowest is not None and slowest.outcome is not None:
            self._path.append(Step(name=slowest.name, seconds=slowest.outcome.duration))

    # What aggregators see

    @property
    def outcomes(self) -> Sequence[Outcome]:
        return [seat.outcome for seat in self.seats if seat.outcome is not None]

    @property
    def names(self) -> Sequence[str]:
        return [seat.name for seat in self.seats]

    @property
    def weights(self) -> Sequence[float]:
        return [seat.weight for seat in self.seats]

    @property
    def given(self) -> Sequence[Given]:
        return [
            Given(place, seat.name, answer_of(seat.outcome), seat.weight, seat.outcome)
            for place, seat in enumerate(self.seats)
            if usable(seat) and seat.outcome is not None
        ]

    @property
    def missing(self) -> Mapping[str, str]:
        return {seat.name: why_missing(seat) for seat in self.seats if not usable(seat)}

    async def ask(self, agent: Agent, *request: str, about: Sequence[Given] | None = None) -> Outcome:
        given = self.given if about is None else about
        message = _render.answers(
            self.task,
            [(one.name, one.answer) for one in given],
            self.missing if about is None else {},
            request=request,
        )
        return await self.ctx.run(agent, message=message)

    async def again(self, messages: Mapping[int, str]) -> Sequence[Given]:
        seats = {
            place: Seat(self.seats[place].agent, self.seats[place].name, self.seats[place].weight, message=message)
            for place, message in messages.items()
        }
        await self._round(list(seats.values()), replace(self.plan, min_successes=0, wave=None))
        for place, seat in seats.items():
            if usable(seat):
                self.seats[place] = seat
        return self.given

    # What comes of it

    async def decide(self, aggregator: Aggregator, quality: Quality | None = None) -> Decision:
        """Make one of the answers, and tell of it.

        Raises:
            NoDecision: They don't decide it.
            InvalidAnswer: They, or what a judge says of them, can't be used.
        """
        ctx, run, count = self.ctx, self.ctx._run, len(self.given)
        await ctx.flush()
        await ctx.tell(SynthesisStart(ctx.agent.name, aggregator.strategy, count))
        began = run.now()
        decision = await aggregator.combine(self)
        self.synthesis = run.now() - began
        if aggregator.agents and self.synthesis:
            self._path.append(Step(name=aggregator.agents[0].name, seconds=self.synthesis))
        if decision.text is None:
            decision.text = _render.in_words(decision.answer)
        if quality is not None:
            self.quality = await self._rate(quality, decision)
        await ctx.flush()
        await ctx.tell(
            SynthesisComplete(
                ctx.agent.name,
                aggregator.strategy,
                count,
                summary(decision.text),
                round(self.synthesis * 1000, 3),
                agreement=decision.agreement,
                quality=self.quality,
                saved_calls=self.saved_calls,
            )
        )
        return decision

    async def _rate(self, quality: Quality, decision: Decision) -> float:
        """How good the answer is, as a metric or a judge has it."""
        if isinstance(quality, Judge):
            outcome = Outcome(agent=self.ctx.agent.name, branch=self.ctx.branch, status="ok")
            verdict = await quality.verdict(self, [Given(0, "answer", decision.answer, 1.0, outcome)])
            if not verdict.scores:
                raise InvalidAnswer("the judge of quality gave no score")
            return verdict.scores[0] / (quality.rubric.scale if quality.rubric is not None else 1.0)
        found = quality(decision.answer, self.outcomes)
        value = await found if isawaitable(found) else found
        if not numeric(value):
            raise InvalidAnswer(f"the metric of quality must give a finite number, not {value!r}")
        return float(value)

    def branches(self, decision: Decision) -> tuple[BranchResult, ...]:
        """What each branch did."""
        large = sum(len(_render.in_words(one.answer)) for one in self.given) > _LARGE
        spent = self._spent()
        return tuple(
            self._branch(place, seat, spent[seat.name], decision, large) for place, seat in enumerate(self.seats)
        )

    def _spent(self) -> dict[str, Usage]:
        """What each branch has used, in all rounds."""
        spent: dict[str, Usage] = {}
        for seat in self._asked:
            spent[seat.name] = _usage(seat, spent.get(seat.name, Usage()))
        return spent

    def _branch(self, place: int, seat: Seat, usage: Usage, decision: Decision, large: bool) -> BranchResult:
        outcome = seat.outcome
        assert outcome is not None
        void = decision.void.get(place)
        return BranchResult.model_construct(
            name=seat.name,
            agent=outcome.agent,
            branch=outcome.branch,
            status=outcome.status,
            output=answer_of(outcome) if outcome.said is not None and not large else None,
            summary=summary(outcome.text),
            counted=usable(seat) and void is None,
            why=f"not counted: {void}" if void is not None else "" if usable(seat) else why_missing(seat),
            weight=seat.weight,
            seconds=round(outcome.duration, 6),
            queue_seconds=round(_queued(seat), 6),
            tokens=usage.total_tokens,
            cost=usage.cost,
            duplicates=max(0, len(seat.branches) - 1),
            shortened=large and outcome.said is not None,
        )

    def candidates(self, decision: Decision) -> tuple[CandidateResult, ...]:
        """The different answers, where they were counted."""
        large = sum(len(_render.in_words(candidate.answer)) for candidate in decision.candidates) > _LARGE
        return tuple(
            CandidateResult.model_construct(
                answer=summary(_render.in_words(candidate.answer)) if large else candidate.answer,
                weight=candidate.weight,
                branches=tuple(self.seats[place].name for place in candidate.members),
            )
            for candidate in decision.candidates
        )

    def metrics(self, decision: Decision) -> Metrics:
        """What it took; told to OpenTelemetry too."""
        work = sum(_worked(seat) for seat in self._asked)
        waits = [_queued(seat) for seat in self._asked]
        usage = self.ctx.usage
        metrics = Metrics.model_construct(
            wall_seconds=round(self.wall, 6),
            work_seconds=round(work, 6),
            speedup=round(work / self.wall, 3) if self.wall > 0 else 1.0,
            critical_path=tuple(self._path),
            queue_seconds=round(sum(waits), 6),
            longest_queue_seconds=round(max(waits, default=0.0), 6),
            calls=sum(_began(branch) for seat in self._asked for branch in seat.branches),
            saved_calls=self.saved_calls,
            agreement=decision.agreement,
            synthesis_seconds=round(self.synthesis, 6),
            quality=self.quality,
            tokens=usage.total_tokens,
            cost=usage.cost,
            model_calls=usage.model_calls,
        )
        tracing = self.ctx._run.tracing
        if tracing is not None:
            tracing.pattern(
                self.ctx._span,
                self.ctx.agent.name,
                metrics.model_dump(exclude={"critical_path"}),
                {name: (used.total_tokens, used.cost) for name, used in self._spent().items()},
            )
        return metrics

    async def emit(self, result: PatternResult) -> None:
        """Say what came of it: in words, and as data."""
        parts: list[Part] = [Text(result.text)] if result.text else []
        await self.ctx.emit(self.ctx.event(*parts, result.to_data()))


def names_for(agents: Sequence[Agent], count: int) -> list[tuple[Agent, str]]:
    """So many branches, dealt to the agents in turn, each with the name that it will have."""
    seen: dict[str, int] = {}
    seats = []
    for place in range(count):
        agent = agents[place % len(agents)]
        ordinal = seen[agent.name] = seen.get(agent.name, 0) + 1
        seats.append((agent, agent.name if ordinal == 1 else f"{agent.name}#{ordinal}"))
    return seats


def _began(branch: Branch) -> bool:
    return branch.outcome is not None and branch.outcome.status != "skipped"


def _ended(seat: Seat) -> float:
    branch, outcome = seat.branch, seat.outcome
    return branch.ctx.began + outcome.duration if branch and branch.ctx and outcome else 0.0


def _queued(seat: Seat) -> float:
    first = seat.branches[0] if seat.branches else None
    if first is None or first.queued is None or first.ctx is None:
        return 0.0
    return max(0.0, first.ctx.began - first.queued[0])


def _worked(seat: Seat) -> float:
    return sum(map(worked, seat.branches))


def _usage(seat: Seat, total: Usage) -> Usage:
    """What a seat has used, on top of something."""
    for branch in seat.branches:
        if branch.outcome is not None and branch.outcome.usage is not None:
            total = total + branch.outcome.usage
    return total
