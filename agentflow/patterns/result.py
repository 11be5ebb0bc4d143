"""What patterns answer: typed, with what each branch did, what is missing and why, and what it took."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from agentflow.content import Data
from agentflow.errors import InvalidAnswer
from agentflow.events import Event, Status
from agentflow.outcome import Outcome
from agentflow.patterns.answers import RESULT
from agentflow.run import RunResult


class _Model(BaseModel):
    """Frozen; keeps fields of a newer writer."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True, allow_inf_nan=False)


class BranchResult(_Model):
    """What one branch did.

    Attributes:
        name: The last segment of its branch: the agent's name, `voter#2` for a twin.
        agent: The agent's name.
        branch: Dotted.
        status: How it ended.
        output: What it answered; `None` where `shortened`.
        summary: The first words of that.
        counted: Whether its answer was taken into account.
        why: Why it is missing, or why its answer doesn't count.
        weight: How much its answer counts.
        seconds: From its start to its end.
        queue_seconds: How long it waited for room.
        tokens: Input and output, of all models that it and its sub-agents called, in all rounds.
        cost: US dollars, where known.
        duplicates: How many duplicates were started because it was slow.
        shortened: The answers were too large for one event; this one is in the branch's own events.
    """

    name: str
    agent: str
    branch: str
    status: Status
    output: Any = None
    summary: str = ""
    counted: bool = True
    why: str = ""
    weight: float = 1.0
    seconds: float = 0.0
    queue_seconds: float = 0.0
    tokens: int = 0
    cost: float = 0.0
    duplicates: int = 0
    shortened: bool = False


class Step(_Model):
    """A step of the critical path."""

    name: str
    seconds: float


class Metrics(_Model):
    """What a pattern's turn took, and what doing things at once has saved.

    Attributes:
        wall_seconds: From the scatter to the last branch that counted; of all rounds together.
        work_seconds: The branches' times added up.
        speedup: `work_seconds / wall_seconds`: how many times longer it would have taken one after the other.
        critical_path: What the answer waited for, in order: the slowest branch of each round, the aggregator.
        queue_seconds: How long branches waited for room, added up.
        longest_queue_seconds: How long the one that waited longest did.
        calls: Branches that were started.
        saved_calls: Branches that were cut short, or never started, because enough was known.
        agreement: The share of the answers that agree with the one that was chosen, from 0 to 1.
        synthesis_seconds: How long the aggregator took.
        quality: What the metric or the judge of quality gave, from 0 to 1 for a judge with a rubric.
        tokens: Input and output of all, the aggregator included.
        cost: US dollars, where known.
        model_calls: Calls of models.
    """

    wall_seconds: float = 0.0
    work_seconds: float = 0.0
    speedup: float = 1.0
    critical_path: tuple[Step, ...] = ()
    queue_seconds: float = 0.0
    longest_queue_seconds: float = 0.0
    calls: int = 0
    saved_calls: int = 0
    agreement: float | None = None
    synthesis_seconds: float = 0.0
    quality: float | None = None
    tokens: int = 0
    cost: float = 0.0
    model_calls: int = 0


class CandidateResult(_Model):
    """An answer that somebody gave, who gave it, and what it weighs."""

    answer: Any
    weight: float
    branches: tuple[str, ...]


class PatternResult(_Model):
    """What every pattern answers; stored as the `Data` of its last event, `answer` and all.

    Attributes:
        answer: The answer.
        text: The answer in words.
        branches: What each branch did, in order of declaration.
        metrics: What it took.
    """

    schema_name: ClassVar[str] = f"{RESULT}PatternResult"

    answer: Any = None
    text: str = ""
    branches: tuple[BranchResult, ...] = ()
    metrics: Metrics = Metrics.model_construct()

    @property
    def missing(self) -> dict[str, str]:
        """Branches whose answer is not in it, and why."""
        return {branch.name: branch.why for branch in self.branches if not branch.counted}

    @property
    def outputs(self) -> dict[str, Any]:
        """What each branch answered that did."""
        return {branch.name: branch.output for branch in self.branches if branch.status == "ok"}

    @classmethod
    def of(cls, source: "Outcome | RunResult | Event | Mapping[str, Any]") -> Self:
        """The result in what `ctx.run` or a run gave, in a pattern's last event, or in its JSON value.

        Raises:
            InvalidAnswer: There is no such result in it.
        """
        value: Any = source.output if isinstance(source, (Outcome, RunResult)) else source
        if isinstance(source, Event):
            value = next((part.value for part in reversed(source.parts) if type(part) is Data), None)
        if not isinstance(value, Mapping) or "answer" not in value or "metrics" not in value:
            raise InvalidAnswer(f"there is no {cls.__name__} in {str(value)[:200]!r}")
        return cls.model_validate(value)

    def to_data(self) -> Data:
        """The content part that carries it; as everywhere, what has its default is left out."""
        value = self.model_dump(exclude_defaults=True)
        return Data(
            {"answer": self.answer, "text": self.text, "branches": [], "metrics": {}, **value}, self.schema_name
        )


class ScatterGatherResult(PatternResult):
    """What a `ScatterGatherAgent` answers.

    Attributes:
        strategy: How many answers became one: `voting`, `synthesis`, ...
        winner: The branch whose answer was picked; empty where answers were merged.
        candidates: The different answers, the heaviest first, where they were counted.
        scores: A judge's score, or the mean similarity, of each branch.
        reason: Why it was decided so, in the judge's words, or why the rest was cut short.
        rounds: How often the agents were asked.
    """

    schema_name: ClassVar[str] = f"{RESULT}ScatterGatherResult"

    strategy: str = ""
    winner: str = ""
    candidates: tuple[CandidateResult, ...] = ()
    scores: dict[str, float] = {}
    reason: str = ""
    rounds: int = 1


class MatchResult(_Model):
    """One comparison of a competition: who was compared, who won, with which scores."""

    round: int
    names: tuple[str, ...]
    winner: str
    scores: dict[str, float] = {}
    marks: dict[str, dict[str, float]] = {}
    reason: str = ""


class CompetitionResult(PatternResult):
    """What a `CompetitionAgent` answers; `answer` is the winning output, `outputs` has them all.

    Attributes:
        winner: The branch that won.
        scores: Name to score, of each that was judged.
        marks: With a rubric: name to its marks by criterion.
        matches: Every comparison that was made, in order.
        reason: Why it won, in the judge's words.
        good_enough: Whether the winner has the score that was wanted.
    """

    schema_name: ClassVar[str] = f"{RESULT}CompetitionResult"

    winner: str = ""
    scores: dict[str, float] = {}
    marks: dict[str, dict[str, float]] = {}
    matches: tuple[MatchResult, ...] = ()
    reason: str = ""
    good_enough: bool = False


class Subtask(_Model):
    """A part of a task, for a specialist.

    Attributes:
        task: What is to be done; the specialist is told this.
        specialist: Name of who is to do it; empty leaves it to the selector.
        name: Names its branch; by default the specialist's name, with an ordinal.
        split: It is to be broken down again.
    """

    task: str
    specialist: str = ""
    name: str = ""
    split: bool = False


class DecompositionResult(PatternResult):
    """What a `DecompositionAgent` answers.

    Attributes:
        strategy: How the results became one.
        subtasks: What the task was broken down into, in the order of `branches`.
        depth: How deep it was broken down.
        total_subtasks: All of them, at all depths.
    """

    schema_name: ClassVar[str] = f"{RESULT}DecompositionResult"

    strategy: str = ""
    subtasks: tuple[Subtask, ...] = ()
    depth: int = 1
    total_subtasks: int = 0
