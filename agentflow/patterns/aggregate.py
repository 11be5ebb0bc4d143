"""How many answers become one: what aggregators are, and the simplest of them.

Some answers compete (votes, drafts, estimates of one number): one is picked, or what they hold in common. Others
complement each other (views, findings, parts): they are merged, and picking one would lose the rest. Each aggregator
says which of the two it is for: `picks`.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from inspect import isawaitable
from typing import Any, ClassVar, Protocol, Self

from pydantic import BaseModel

from agentflow._settings import check_texts
from agentflow.core import Agent
from agentflow.errors import ConfigError, InvalidAnswer
from agentflow.outcome import Outcome
from agentflow.patterns.answers import answer_of, answered
from agentflow.patterns.votes import Candidate

EarlyStop = Callable[[int, Outcome], str]
"""Told of each branch that has ended, once, by its place and its outcome; says why the rest isn't needed, if so."""


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that counts.

    Attributes:
        place: Of its branch, from 0, in the order of declaration.
        name: Of its branch.
        answer: What it said: a structured value, else text.
        weight: How much it counts.
        outcome: All that is known of the branch's turn.
    """

    place: int
    name: str
    answer: Any
    weight: float
    outcome: Outcome


class Panel(Protocol):
    """What an aggregator has before it."""

    @property
    def task(self) -> str:
        """What was asked."""
        ...

    @property
    def given(self) -> Sequence[Given]:
        """The answers that count, in the order of declaration."""
        ...

    @property
    def missing(self) -> Mapping[str, str]:
        """Whose answer is missing, and why."""
        ...

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """How each branch ended, in the order of declaration."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """The branches' names, in the order of declaration."""
        ...

    @property
    def weights(self) -> Sequence[float]:
        """How much the answer of each branch counts, in the order of declaration."""
        ...

    async def ask(self, agent: Agent, *request: str, about: Sequence[Given] | None = None) -> Outcome:
        """Run an agent that is told the task, the answers (or those it is asked `about`) and what is wanted."""
        ...

    async def again(self, messages: Mapping[int, str]) -> Sequence[Given]:
        """Ask the branches at these places once more, each what it is told here. Who fails keeps its last answer."""
        ...


@dataclass(slots=True, kw_only=True)
class Decision:
    """What an aggregator makes of the answers.

    Attributes:
        answer: The one answer.
        text: In words; by default the answer itself, if it is text.
        winner: Place of the branch whose answer was picked.
        agreement: The share of the answers that agree with it, from 0 to 1.
        candidates: The different answers, where they were counted.
        scores: Place to score.
        void: Places of answers that could not be taken into account, and why.
        reason: Why it was decided so.
    """

    answer: Any
    text: str | None = None
    winner: int | None = None
    agreement: float | None = None
    candidates: Sequence[Candidate] = ()
    scores: Mapping[int, float] = field(default_factory=dict)
    void: Mapping[int, str] = field(default_factory=dict)
    reason: str = ""


class Aggregator(ABC):
    """Makes one answer of many. Frozen: it serves any number of runs at once.

    Attributes:
        strategy: What events and results call it.
        picks: Whether the answers compete; else they complement each other and are merged.
    """

    strategy: ClassVar[str]
    picks: ClassVar[bool]

    @property
    def agents(self) -> tuple[Agent, ...]:
        """Agents that it runs; they become part of the pattern's tree."""
        return ()

    def with_agents(self, agents: Sequence[Agent]) -> Self:
        """The same with other agents, in the order of `agents`."""
        return self

    def check(self, owner: str, agents: Sequence[str], branches: int, weighted: bool) -> None:  # noqa: B027 - optional
        """Called when a pattern with this aggregator is built.

        Args:
            owner: The pattern, for errors.
            agents: Names of the agents that are asked.
            branches: How many branches there will be; 0 where that isn't known yet.
            weighted: Whether the pattern was given weights.

        Raises:
            ConfigError: A setting can't work.
        """

    def early_stop(self, agents: Sequence[str], weights: Sequence[float]) -> EarlyStop | None:
        """What follows the branches of one run and says when enough is known; `None` if all are needed.

        Args:
            agents: The agent's name of each branch, in the order of declaration.
            weights: How much the answer of each branch counts.
        """
        return None

    @abstractmethod
    async def combine(self, panel: Panel) -> Decision:
        """Make one of the answers; there is at least one.

        Raises:
            NoDecision: They don't decide it.
            InvalidAnswer: They can't be used.
        """


@dataclass(frozen=True)
class Collect(Aggregator):
    """A list of all answers, in the order of declaration. For answers that complement each other."""

    strategy: ClassVar[str] = "collect"
    picks: ClassVar[bool] = False

    async def combine(self, panel: Panel) -> Decision:
        answers = [given.answer for given in panel.given]
        text = "\n\n".join(text for given in panel.given if (text := given.outcome.text))
        return Decision(answer=answers, text=text)


@dataclass(frozen=True)
class First(Aggregator):
    """The answer that comes first; the rest is cancelled. For answers of which any will do."""

    strategy: ClassVar[str] = "first"
    picks: ClassVar[bool] = True

    def early_stop(self, agents: Sequence[str], weights: Sequence[float]) -> EarlyStop | None:
        return lambda place, outcome: "the first has answered" if outcome.ok and outcome.said is not None else ""

    async def combine(self, panel: Panel) -> Decision:
        # Of several, if all were waited for, the one that took the least time.
        first = min(panel.given, key=lambda given: (given.outcome.duration, given.place))
        return Decision(answer=first.answer, text=first.outcome.text, winner=first.place)


@dataclass(frozen=True)
class Synthesis(Aggregator):
    """An agent reads all answers and writes one. For answers that complement or contradict each other.

    Attributes:
        agent: Who writes it. It is told the task, every answer in a fence, and what is missing and why.
        request: What is wanted of it.
    """

    agent: Agent
    request: str = "Make one answer of them. Settle what they disagree on, and say what is missing if that matters."
    strategy: ClassVar[str] = "synthesis"
    picks: ClassVar[bool] = False

    @property
    def agents(self) -> tuple[Agent, ...]:
        return (self.agent,)

    def with_agents(self, agents: Sequence[Agent]) -> Self:
        return replace(self, agent=agents[0])

    def check(self, owner: str, agents: Sequence[str], branches: int, weighted: bool) -> None:
        need_agent(self.agent, f"{owner}: Synthesis")
        check_texts(f"{owner}: Synthesis", request=self.request)

    async def combine(self, panel: Panel) -> Decision:
        outcome = await panel.ask(self.agent, self.request)
        if not answered(outcome):
            raise InvalidAnswer(f"agent {self.agent.name!r}, who was to make one answer of them, said nothing")
        return Decision(answer=answer_of(outcome), text=outcome.text)


Combiner = Callable[[Sequence[Outcome]], Any | Awaitable[Any]]


@dataclass(frozen=True)
class Combine(Aggregator):
    """A function of yours makes one of the outcomes. Any pattern takes the bare function too.

    Attributes:
        function: Given the outcome of every branch in the order of declaration, failed ones included. What it returns
            (or, if it is async, what comes of that) is the answer: any JSON value, a dataclass or a pydantic model.
    """

    function: Combiner
    strategy: ClassVar[str] = "function"
    picks: ClassVar[bool] = False

    def check(self, owner: str, agents: Sequence[str], branches: int, weighted: bool) -> None:
        if not callable(self.function):
            raise ConfigError(f"{owner}: Combine needs a function of the outcomes, not {self.function!r}")

    async def combine(self, panel: Panel) -> Decision:
        answer = self.function(panel.outcomes)
        return Decision(answer=plain(await answer if isawaitable(answer) else answer))


def need_agent(agent: object, owner: str) -> None:
    """Check that it is an agent.

    Raises:
        ConfigError: It isn't.
    """
    if not isinstance(agent, Agent):
        hint = "; wrap a function with @agent" if callable(agent) else ""
        raise ConfigError(f"{owner} needs an agent, not {agent!r}{hint}")


def plain(value: Any) -> Any:
    """A value as JSON would have it: of a pydantic model or a dataclass, its fields."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
