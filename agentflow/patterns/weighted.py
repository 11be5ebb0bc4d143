"""Answers by their weight: numbers as a mean or a median, choices by the weight behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import fsum, log
from typing import Any, ClassVar, Literal

from agentflow.errors import ConfigError, InvalidAnswer
from agentflow.outcome import Outcome
from agentflow.patterns.aggregate import Aggregator, Decision, EarlyStop, Given, Panel
from agentflow.patterns.answers import Key, answer_of, answered, field_of, number, picker
from agentflow.patterns.counting import (
    Invalid,
    ballot_reader,
    check_invalid,
    check_weights,
    count,
    elected,
    void_answer,
)
from agentflow.patterns.votes import Race, exact


@dataclass(frozen=True)
class Weighted(Aggregator):
    """Numbers as a weighted mean or median, or choices by the weight behind them. For answers that compete.

    What an answer weighs comes from one of `weights`, `confidence` and `accuracy`; else from the pattern's weights.

    Attributes:
        take: `"mean"` or `"median"` of numbers, or the `"choice"` with the most weight.
        key: What of an answer counts: the name of a field, or a function of the answer.
        weights: Agent to weight.
        confidence: Name of the field in which each answer says how sure it is, from 0 to 1.
        accuracy: Agent to how often it was right so far, above 0 and below 1. A choice then weighs its log-odds,
            `log(p / (1 - p))`, which is the best there is for independent voters between two choices; who is right
            less than half of the time doesn't count.
        invalid: What to do with an answer that is no number, or has no confidence: fail (`"error"`), or don't count it
            (`"drop"`).

    Source of the log-odds: Nitzan and Paroush, Optimal decision rules in uncertain dichotomous choice situations, 1982.
    """

    take: Literal["mean", "median", "choice"] = "mean"
    key: Key = None
    weights: Mapping[str, float] | None = None
    confidence: str | None = None
    accuracy: Mapping[str, float] | None = None
    invalid: Invalid = "error"
    strategy: ClassVar[str] = "weighted"
    picks: ClassVar[bool] = True

    def check(self, owner: str, agents: Sequence[str], branches: int, weighted: bool) -> None:
        owner = f"{owner}: Weighted"
        picker(self.key, owner)
        if self.take not in ("mean", "median", "choice"):
            raise ConfigError(f"{owner}: take must be 'mean', 'median' or 'choice', not {self.take!r}")
        sources = [self.weights, self.confidence, self.accuracy]
        if sum(source is not None for source in sources) > 1:
            raise ConfigError(f"{owner}: give one of weights, confidence and accuracy")
        if self.weights is not None:
            check_weights(self.weights, agents, owner)
        elif self.accuracy is not None:
            check_weights(self.accuracy, agents, f"{owner}: accuracy")
            if not all(0 < value < 1 for value in self.accuracy.values()):
                raise ConfigError(f"{owner}: accuracy must be above 0 and below 1: {dict(self.accuracy)!r}")
            if self.take == "choice" and not any(value > 0.5 for value in self.accuracy.values()):
                raise ConfigError(f"{owner}: nobody's accuracy is above 0.5, so no choice would count")
        elif self.confidence is not None:
            if not isinstance(self.confidence, str) or not self.confidence:
                raise ConfigError(f"{owner}: confidence must be the name of a field, not {self.confidence!r}")
        elif not weighted:
            raise ConfigError(f"{owner} needs weights: give it weights, confidence or accuracy, or the pattern weights")
        check_invalid(self.invalid, owner)

    def early_stop(self, agents: Sequence[str], weights: Sequence[float]) -> EarlyStop | None:
        if self.take != "choice":
            return None  # every number moves the mean
        race = Race()
        read = ballot_reader(self.key)
        limits = [exact(self._weight(agent, weight, None)) for agent, weight in zip(agents, weights, strict=True)]
        pending = sum(limits, Fraction())

        def stop(place: int, outcome: Outcome) -> str:
            nonlocal pending
            pending -= limits[place]
            if answered(outcome):
                answer = answer_of(outcome)
                try:
                    race.add(read(answer)[0], self._weight(agents[place], weights[place], answer))
                except Exception:  # a void vote; `combine` says why
                    return ""
            return "the vote can't change any more" if race.decided(pending) else ""

        return stop

    async def combine(self, panel: Panel) -> Decision:
        given, void = self._weighed(panel.given)
        if self.take == "choice":
            candidates, unread = count(given, self.key, self.invalid)
            return elected(panel, candidates[0], candidates, {**void, **unread}, "")
        pick = picker(self.key, "Weighted")
        numbers: list[tuple[float, float]] = []
        for one in given:
            try:
                value = number(pick(one.answer))
                if value is None:
                    raise InvalidAnswer(f"it is no number: {str(one.answer)[:100]!r}")
            except Exception as error:
                void_answer(one, error, self.invalid, void)
            else:
                numbers.append((value, one.weight))
        if not numbers or not fsum(weight for _, weight in numbers) > 0:
            raise InvalidAnswer(f"no answer is a number that counts: {void or 'all weights are 0'}")
        value = weighted_mean(numbers) if self.take == "mean" else weighted_median(numbers)
        return Decision(answer=value, text=f"{value:g}", void=void)

    def _weighed(self, given: Sequence[Given]) -> tuple[list[Given], dict[int, str]]:
        weighed, void = [], dict[int, str]()
        for one in given:
            agent = one.outcome.agent
            try:
                weighed.append(replace(one, weight=self._weight(agent, one.weight, one.answer)))
            except InvalidAnswer as error:
                void_answer(one, error, self.invalid, void)
        if not weighed:
            raise InvalidAnswer(f"no answer has a weight: {void}")
        return weighed, void

    def _weight(self, agent: str, weight: float, answer: Any) -> float:
        """What an answer weighs; what it may weigh at most where the answer is `None`."""
        if self.weights is not None:
            return float(_of(agent, self.weights))
        if self.accuracy is not None:
            p = _of(agent, self.accuracy)
            return max(0.0, log(p / (1 - p))) if self.take == "choice" else p
        if self.confidence is None:
            return weight
        if answer is None:
            return 1.0
        sure = number(field_of(answer, self.confidence))
        if sure is None or not 0 <= sure <= 1:
            raise InvalidAnswer(f"{self.confidence!r} must be a number from 0 to 1: {str(answer)[:100]!r}")
        return sure


def _of(agent: str, numbers: Mapping[str, float]) -> float:
    if agent not in numbers:  # which can't be known before where the branches show only in a run
        raise InvalidAnswer(f"there is no weight for {agent!r}")
    return numbers[agent]


def weighted_mean(numbers: Sequence[tuple[float, float]]) -> float:
    """The mean of `(value, weight)`; never outside of the values."""
    total = fsum(weight for _, weight in numbers)
    mean = fsum(value * (weight / total) for value, weight in numbers)
    values = [value for value, weight in numbers if weight]
    return min(max(mean, min(values)), max(values))


def weighted_median(numbers: Sequence[tuple[float, float]]) -> float:
    """The value below and above which at most half of the weight lies; between two such, their mean."""
    ordered = sorted((value, weight) for value, weight in numbers if weight)
    half = fsum(weight for _, weight in ordered) / 2
    below = 0.0
    for place, (value, weight) in enumerate(ordered):
        below += weight
        if below > half:
            return value
        if below == half:
            return value / 2 + ordered[min(place + 1, len(ordered) - 1)][0] / 2
    return ordered[-1][0]  # rounding
