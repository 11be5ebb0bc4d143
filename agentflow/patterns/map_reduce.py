"""A long text, or any number of records: each piece is mapped, and all of it is reduced to one answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio
from pydantic import BaseModel, ConfigDict

from agentflow._invocation import summary
from agentflow._settings import check_texts
from agentflow.agents.branches import Branch, Branches
from agentflow.content import Part, Text
from agentflow.core import Agent, Callback, InvocationContext
from agentflow.errors import ConfigError, InvalidAnswer, TooFewAnswers
from agentflow.events import SynthesisComplete, SynthesisStart
from agentflow.outcome import Outcome
from agentflow.patterns._calls import Bound, Function, FunctionStep, worked
from agentflow.patterns._feed import Crew, Feed, Splitter, at_work, feed, source_of, worker
from agentflow.patterns._render import answers, in_words
from agentflow.patterns._scatter import OnError
from agentflow.patterns._tree import Reduction, ReductionTree
from agentflow.patterns.answers import RESULT, answer_of, answered
from agentflow.patterns.counting import whole
from agentflow.patterns.result import Metrics, PatternResult
from agentflow.patterns.splitters import Chunk, TokenSplitter
from agentflow.policies import Retry, seconds

_REQUEST = "Make one of them, in their order: it will stand for all of them."


class FailedChunk(BaseModel):
    """A piece that has no result.

    Attributes:
        place: Its place among the pieces, from 0.
        title: The headings it stands under, or the file it is from.
        start: Where it begins in the source, in characters.
        end: Where it ends.
        why: What went wrong.
    """

    place: int
    title: str = ""
    start: int = 0
    end: int = 0
    why: str = ""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)


class MapReduceResult(PatternResult):
    """What a `MapReduceAgent` answers. There may be any number of pieces, so `branches` doesn't list them.

    Attributes:
        chunks: How many pieces there were.
        levels: How often results were reduced, one level after the other; the last time included.
        failed: The pieces without a result.
    """

    schema_name: ClassVar[str] = f"{RESULT}MapReduceResult"

    chunks: int = 0
    levels: int = 1
    failed: tuple[FailedChunk, ...] = ()

    @property
    def missing(self) -> dict[str, str]:
        """Pieces whose results are not in it, and why."""
        return {f"chunk {chunk.place}": chunk.why for chunk in self.failed}


class MapReduceAgent(Agent):
    """Split what there is to do, map each piece, and reduce the results to one.

    Pieces are read as there is room for them and their results reduced as they come, so ten thousand take no more
    memory than those at work and what is still to be reduced. A mapper and a reducer see nothing of the talk but what
    they are told, so no prompt outgrows its window: neither the whole text nor the other pieces are in it.

    Args:
        name: Unique in the tree. A piece's branch adds `{name}.{mapper}`, `{name}.{mapper}#2` and so on, that of
            a reduction its level and place: `{name}.{reducer}#1-2`.
        mapper: An agent, which is told a piece, or a function, which is given it. A plain function runs in a thread.
        reducer: An agent, which is told the results, or a function, which is given a list of them, in order.
        splitter: Makes the pieces of what the agent is told: see `agentflow.patterns.splitters`, or a function that
            gives them, also bit by bit. By default `TokenSplitter(2_000)`.
        fan_in: Reduce so many neighbours at a time, then what came of them, until one is left; `None` reduces all
            results at once.
        max_concurrency: How many pieces and reductions at the same time.
        on_error: `"cancel"`: the first failure cancels the others and is raised. `"collect"`: the rest goes on; the
            result and the reducer's message say what is missing.
        min_successes: Pieces that must go well; fewer are a `TooFewAnswers`.
        chunk_timeout: Seconds for each piece and each reduction, from its start; `"5m"` is understood.
        chunk_retry: What a mapper or a reducer does when it fails; a number is how often to try in all.
        request: What an agent that reduces is asked for.
        description: What it is good for.
        timeout: Seconds for all of it.
        retry: When it fails all of it begins again.
        before_agent: See `Agent`.
        after_agent: See `Agent`.

    Raises:
        ConfigError: A setting can't work.
        InvalidAnswer: From a run: the splitter gave nothing, or the reducer said nothing.
        TooFewAnswers: From a run: too few pieces went well.
        ExceptionGroup: From a run, when two or more pieces failed. A lone failure is raised as itself.
    """

    directs_others = True

    def __init__(
        self,
        name: str,
        *,
        mapper: Agent | Function,
        reducer: Agent | Function,
        splitter: Splitter | None = None,
        fan_in: int | None = None,
        max_concurrency: int = 8,
        on_error: OnError = "cancel",
        min_successes: int = 1,
        chunk_timeout: float | str | None = None,
        chunk_retry: Retry | int | None = None,
        request: str = _REQUEST,
        description: str = "",
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
        before_agent: Callback | Sequence[Callback] = (),
        after_agent: Callback | Sequence[Callback] = (),
    ) -> None:
        owner = f"MapReduceAgent {name!r}"
        super().__init__(
            name,
            sub_agents=[
                worker(mapper, f"{owner}: mapper", "map", retry=chunk_retry),
                worker(reducer, f"{owner}: reducer", "reduce", retry=chunk_retry),
            ],
            description=description,
            timeout=timeout,
            retry=retry,
            before_agent=before_agent,
            after_agent=after_agent,
        )
        self.splitter: Splitter = TokenSplitter(2_000) if splitter is None else splitter
        self.fan_in = fan_in
        self.max_concurrency = max_concurrency
        self.on_error = on_error
        self.min_successes = min_successes
        self.chunk_timeout: float | None = chunk_timeout  # type: ignore[assignment]  # `check` makes seconds of it
        self.request = request

    def check(self) -> None:
        """Check the settings; see `Agent.check`."""
        super().check()
        owner, fields = f"MapReduceAgent {self.name!r}", vars(self)
        if not callable(self.splitter):
            raise ConfigError(f"{owner}: splitter must be a function of what there is to do, not {self.splitter!r}")
        for setting, least in (("max_concurrency", 1), ("min_successes", 1), ("fan_in", 2)):
            value = fields[setting]
            if not (setting == "fan_in" and value is None) and (not whole(value) or value < least):
                raise ConfigError(f"{owner}: {setting} must be a whole number of at least {least}, not {value!r}")
        if self.on_error not in ("cancel", "collect"):
            raise ConfigError(f"{owner}: on_error must be 'cancel' or 'collect', not {self.on_error!r}")
        check_texts(owner, request=self.request)
        fields["chunk_timeout"] = seconds(self.chunk_timeout, f"{owner}: chunk_timeout")

    async def run(self, ctx: InvocationContext) -> None:
        """Take a turn."""
        await _Work(self, ctx).run()


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece at work."""

    place: int
    item: Any


class _Work:
    """One turn."""

    def __init__(self, agent: MapReduceAgent, ctx: InvocationContext) -> None:
        self.agent = agent
        self.ctx = ctx
        self.mapper, self.reducer = agent.sub_agents
        self.limiter = anyio.CapacityLimiter(agent.max_concurrency)
        self.tree = ReductionTree(agent.fan_in)
        self.at_work: dict[int, _Piece | Reduction] = {}
        self.failed: dict[int, FailedChunk] = {}
        self.errors: dict[tuple[int, int], Exception] = {}  # by level and place
        self.pieces = 0
        self.calls = 0
        self.work_seconds = 0.0
        self.began = ctx._run.now()

    async def run(self) -> None:
        """Map all pieces and reduce what comes of them.

        Raises:
            InvalidAnswer: There are none.
            TooFewAnswers: Too few went well.
            Exception: What a mapper or a reducer raised, if that is to be everyone's failure.
        """
        agent, ctx = self.agent, self.ctx
        group = self.group(agent.name, agent.sub_agents)
        async with group, feed(agent.splitter, source_of(ctx), f"agent {ctx.path!r}") as items:
            while await self.fill(group, items):
                branch = await group.next()
                if branch is None:
                    break  # the group was stopped
                self.done(branch)
        self.pieces = items.count
        self.check()
        last = self.tree.rest()
        outcome, took = await self.conclude(last)
        await self.say(outcome, last.level, took)

    def group(self, name: str, agents: Sequence[Agent]) -> Crew:
        """Branches that are forgotten when they have ended."""
        agent = self.agent
        return Crew(self.ctx, agent.on_error, name=name, agents=agents, timeout=agent.chunk_timeout, keep=False)

    async def fill(self, group: Branches, items: Feed) -> bool:
        """Start what there is room for, reductions first; says whether anything is at work."""
        while len(self.at_work) < self.agent.max_concurrency:
            if self.tree.ready:
                self.start(group, self.tree.ready.popleft())
            elif not items.over:
                item = await items.next()
                if items.over:
                    self.tree.finish()
                else:
                    self.start(group, _Piece(self.tree.feed(), item))
            else:
                break
        return bool(self.at_work)

    def start(self, group: Branches, job: _Piece | Reduction) -> None:
        """Start a mapper or a reducer."""
        bound = Bound(limiter=self.limiter)
        if isinstance(job, _Piece):
            agent, message = at_work(self.mapper, job.item, bound)
            branch = group.add(agent, message=message)
        else:
            name = f"{self.reducer.name}#{job.level}-{job.place + 1}"  # whichever is ready first
            branch = self.add_reduction(group, job, name)
        self.at_work[branch.index] = job
        self.calls += 1

    def add_reduction(self, group: Branches, job: Reduction, name: str | None = None) -> Branch:
        """Start a reducer."""
        if isinstance(self.reducer, FunctionStep):
            bound = Bound((list(job.values.values()),), limiter=self.limiter)
            return group.add(self.reducer.given(bound), name=name, once=name is not None)
        given = [(self.part(job.level, place), value) for place, value in job.values.items()]
        first = job.place * (self.agent.fan_in or job.size)
        gone = [place for place in range(first, first + job.size) if place not in job.values]
        missing = {self.part(job.level, place): "failed" for place in gone}
        message = answers("", given, missing, request=[self.agent.request])
        return group.add(self.reducer, name=name, message=message, once=name is not None)

    def part(self, level: int, place: int) -> str:
        """What a reducer is told that a value is: which pieces it stands for."""
        span = (self.agent.fan_in or 1) ** (level - 1)
        first, last = place * span + 1, min((place + 1) * span, self.pieces or (place + 1) * span)
        return f"part {first}" if first == last else f"parts {first} to {last}"

    def done(self, branch: Branch) -> None:
        """A mapper or a reducer has ended."""
        job, outcome = self.at_work.pop(branch.index), branch.outcome
        assert outcome is not None
        self.work_seconds += worked(branch)
        if outcome.status == "paused":
            return  # until there is an answer, what it belongs to can't be reduced
        if isinstance(job, _Piece):
            level, place = 0, job.place
        else:
            level, place = job.level, job.place
        if answered(outcome):
            self.tree.settle(level, place, answer_of(outcome))
            return
        if isinstance(outcome.error, Exception):
            self.errors[level, place] = outcome.error
        self.tree.settle(level, place)
        why = why_not(outcome)
        if isinstance(job, _Piece):
            item = job.item if isinstance(job.item, Chunk) else Chunk(text="")
            self.failed[job.place] = FailedChunk(
                place=job.place, title=item.title, start=item.start, end=item.end, why=why
            )
            return
        span = (self.agent.fan_in or 1) ** level
        for lost in range(place * span, min((place + 1) * span, self.tree.fed)):
            self.failed.setdefault(lost, FailedChunk(place=lost, why=f"what came of it could not be reduced: {why}"))

    def check(self) -> None:
        """Whether there is enough to go on with."""
        agent = self.agent
        if not self.pieces:
            raise InvalidAnswer(f"agent {self.ctx.path!r}: its splitter gave nothing to work on")
        well = self.pieces - len(self.failed)
        if well < agent.min_successes:
            few = "; ".join(f"piece {place}: {self.failed[place].why}" for place in sorted(self.failed)[:5])
            raise TooFewAnswers(
                f"agent {self.ctx.path!r}: {well} of {self.pieces} pieces went well, {agent.min_successes} must: {few}"
                + ("; ..." if len(self.failed) > 5 else ""),
                successes=well,
                needed=agent.min_successes,
                causes=tuple(self.errors[place] for place in sorted(self.errors)),
            )

    async def conclude(self, last: Reduction) -> tuple[Outcome, float]:
        """Reduce what is left to the answer, and tell of it; gives how the reducer ended and how long it took.

        Raises:
            Exception: What the reducer raised.
        """
        ctx, count = self.ctx, len(last.values)
        await ctx.tell(SynthesisStart(ctx.agent.name, "reduce", count))
        began = ctx._run.now()
        group = self.group(f"{ctx.agent.name}#2", [self.reducer])
        async with group:
            branch = self.add_reduction(group, last)
            await group.next()
        outcome, took = branch.outcome, ctx._run.now() - began
        assert outcome is not None
        self.calls += 1
        self.work_seconds += worked(branch)
        if isinstance(outcome.error, Exception):
            raise outcome.error
        if not answered(outcome):
            raise InvalidAnswer(f"agent {ctx.path!r}: its reducer said nothing")
        await ctx.tell(SynthesisComplete(ctx.agent.name, "reduce", count, summary(outcome.text), round(took * 1000, 3)))
        return outcome, took

    async def say(self, outcome: Outcome, levels: int, took: float) -> None:
        """Say what came of it."""
        ctx, usage = self.ctx, self.ctx.usage
        wall = ctx._run.now() - self.began
        answer = answer_of(outcome)
        metrics = Metrics(
            wall_seconds=round(wall, 6),
            work_seconds=round(self.work_seconds, 6),
            speedup=round(self.work_seconds / wall, 3) if wall > 0 else 1.0,
            calls=self.calls,
            synthesis_seconds=round(took, 6),
            tokens=usage.total_tokens,
            cost=usage.cost,
            model_calls=usage.model_calls,
        )
        result = MapReduceResult(
            answer=answer,
            text=outcome.text or in_words(answer),
            metrics=metrics,
            chunks=self.pieces,
            levels=levels,
            failed=tuple(self.failed[place] for place in sorted(self.failed)),
        )
        if ctx._run.tracing is not None:
            ctx._run.tracing.pattern(ctx._span, ctx.agent.name, metrics.model_dump(exclude={"critical_path"}), {})
        parts: list[Part] = [Text(result.text)] if answer is not None else []
        await ctx.emit(ctx.event(*parts, result.to_data()))


def why_not(outcome: Outcome) -> str:
    """Why a turn has no result."""
    if outcome.ok:
        return "it said nothing"
    return f"{type(outcome.error).__name__}: {outcome.error}"[:300] if outcome.error is not None else outcome.status
