"""The answer that agrees with the others most, after some rounds of talk if wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, ClassVar

from agentflow.errors import ConfigError, InvalidAnswer
from agentflow.patterns import _render
from agentflow.patterns.aggregate import Aggregator, Decision, Given, Panel
from agentflow.patterns.answers import Key, picker, similarity
from agentflow.patterns.counting import numeric, whole


@dataclass(frozen=True)
class Consensus(Aggregator):
    """The answer that is most like the others. For answers that compete and are rarely the same word for word.

    With `rounds`, the agents are asked again as long as they don't agree, each shown what the others said. Mind that
    most of what such debates gain, a vote gains too (https://arxiv.org/abs/2508.17536): a round costs a call a branch.

    Attributes:
        rounds: How many more rounds at most.
        similarity: How alike two answers are, from 0 to 1, the same both ways; by default `similarity`, by words.
        enough: Agreement (the mean similarity of an answer to the others) from which no more rounds are needed.
        key: What of an answer is compared: the name of a field, or a function of the answer.
    """

    rounds: int = 0
    similarity: Callable[[Any, Any], float] | None = None
    enough: float = 1.0
    key: Key = None
    strategy: ClassVar[str] = "consensus"
    picks: ClassVar[bool] = True

    def check(self, owner: str, agents: Sequence[str], branches: int, weighted: bool) -> None:
        owner = f"{owner}: Consensus"
        picker(self.key, owner)
        if not whole(self.rounds) or self.rounds < 0:
            raise ConfigError(f"{owner}: rounds must be a whole number of at least 0, not {self.rounds!r}")
        if self.similarity is not None and not callable(self.similarity):
            raise ConfigError(f"{owner}: similarity must be a function of two answers, not {self.similarity!r}")
        if not numeric(self.enough) or not 0 < self.enough <= 1:
            raise ConfigError(f"{owner}: enough must be above 0 and at most 1, not {self.enough!r}")

    async def combine(self, panel: Panel) -> Decision:
        given = panel.given
        scores = self._scores(given)
        for _ in range(self.rounds):
            if max(scores.values()) >= self.enough:
                break
            given = await panel.again({one.place: _others(panel.task, one, given) for one in given})
            scores = self._scores(given)
        best = max(given, key=lambda one: (scores[one.place], -one.place))
        return Decision(
            answer=best.answer, text=best.outcome.text, winner=best.place, agreement=scores[best.place], scores=scores
        )

    def _scores(self, given: Sequence[Given]) -> dict[int, float]:
        """Each answer's mean similarity to the others, by their weight; 1 for one that stands alone."""
        pick = picker(self.key, "Consensus")
        values = [pick(one.answer) for one in given]
        alike = [[1.0] * len(given) for _ in given]
        for i in range(len(given)):
            for j in range(i):
                value = _alike(self.similarity, values[j], values[i])
                alike[i][j] = alike[j][i] = value
        scores = {}
        for i, one in enumerate(given):
            weights = [other.weight if j != i else 0.0 for j, other in enumerate(given)]
            total = fsum(weights)
            mean = (
                fsum(weight * value for weight, value in zip(weights, alike[i], strict=True)) / total if total else 1.0
            )
            scores[one.place] = min(1.0, mean)
        return scores


def _others(task: str, one: Given, given: Sequence[Given]) -> str:
    """What an agent is told in a further round: its own answer and those of the others."""
    others = [(other.name, other.answer) for other in given if other is not one]
    return _render.answers(
        task,
        others,
        {},
        request=[
            f"Your own answer was:\n\n{_render.fenced(_render.in_words(one.answer))}",
            "Weigh what the others say against it, and answer the task again. Keep your answer if you still hold it.",
        ],
    )


def _alike(function: Callable[[Any, Any], float] | None, one: Any, other: Any) -> float:
    value = (function or similarity)(one, other)
    if not numeric(value) or not 0 <= value <= 1:
        raise InvalidAnswer(f"similarity must be a number from 0 to 1, not {value!r}")
    return float(value)
