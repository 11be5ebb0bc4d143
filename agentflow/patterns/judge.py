"""Somebody who says which answer is the best."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from inspect import isawaitable
from typing import Any, ClassVar, Self

from agentflow.core import Agent
from agentflow.errors import ConfigError, InvalidAnswer
from agentflow.patterns.aggregate import Aggregator, Decision, Given, Panel
from agentflow.patterns.answers import answer_of
from agentflow.patterns.rating import Rubric, Verdict, read_verdict

Judging = Callable[[Sequence[Any]], Any | Awaitable[Any]]


@dataclass(frozen=True)
class Judge(Aggregator):
    """Pick the answer that a judge finds the best. For answers that compete.

    Attributes:
        judge: An agent, or a function (async ones too) of the list of answers, in the order of declaration. Either says
            who wins, or gives a score for each, or both, in any form that `read_verdict` understands: a function
            counts places from 0, an agent from 1, as they are shown to it, or says names.
        rubric: What is marked, and how much it counts; then every answer gets a mark for each criterion.
        attempts: How often an agent is asked in all when its verdict can't be read; it is told why.
    """

    judge: Agent | Judging
    rubric: Rubric | None = None
    attempts: int = 2
    strategy: ClassVar[str] = "judge"
    picks: ClassVar[bool] = True

    @property
    def agents(self) -> tuple[Agent, ...]:
        return (self.judge,) if isinstance(self.judge, Agent) else ()

    def with_agents(self, agents: Sequence[Agent]) -> Self:
        return replace(self, judge=agents[0]) if agents else self

    def check(self, owner: str, agents: Sequence[str], branches: int, weighted: bool) -> None:
        if not isinstance(self.judge, Agent) and not callable(self.judge):
            raise ConfigError(f"{owner}: Judge needs an agent or a function of the answers, not {self.judge!r}")
        if self.rubric is not None and not isinstance(self.rubric, Rubric):
            raise ConfigError(f"{owner}: Judge: rubric must be a Rubric, not {self.rubric!r}")
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise ConfigError(f"{owner}: Judge: attempts must be a whole number of at least 1, not {self.attempts!r}")

    async def combine(self, panel: Panel) -> Decision:
        verdict = await self.verdict(panel, panel.given)
        best = panel.given[verdict.winner]
        scores = {given.place: score for given, score in zip(panel.given, verdict.scores, strict=False)}
        return Decision(
            answer=best.answer, text=best.outcome.text, winner=best.place, scores=scores, reason=verdict.reason
        )

    async def verdict(self, panel: Panel, given: Sequence[Given]) -> Verdict:
        """What the judge finds about some of the answers.

        Raises:
            InvalidAnswer: What it says is no verdict on them.
        """
        names = [one.name for one in given]
        if not isinstance(self.judge, Agent):
            found = self.judge([one.answer for one in given])
            found = await found if isawaitable(found) else found
            try:
                return read_verdict(found, names, rubric=self.rubric)
            except InvalidAnswer as error:
                raise InvalidAnswer(f"the judge's verdict can't be used: {error}") from None
        request = [self._request(names)]
        for attempt in range(1, self.attempts + 1):
            outcome = await panel.ask(self.judge, *request, about=given)
            try:
                return read_verdict(answer_of(outcome), names, rubric=self.rubric, first=1)
            except InvalidAnswer as error:
                if attempt == self.attempts:
                    raise InvalidAnswer(f"the verdict of judge {self.judge.name!r} can't be used: {error}") from None
                request = [self._request(names), f"Your last verdict couldn't be used: {error}"]
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _request(self, names: Sequence[str]) -> str:
        if self.rubric is None:
            wanted = '{"winner": NAME, "scores": {NAME: NUMBER, ...}, "reason": "..."}'
            lines = ["Which answer is the best?"] if len(names) > 1 else ["How good is this answer?"]
        else:
            wanted = '{"scores": {NAME: {CRITERION: MARK, ...}, ...}, "reason": "..."}'
            lines = [self.rubric.describe()]
        return "\n".join([*lines, "", f"Answer with JSON alone: {wanted}", f"Names: {', '.join(names)}"])
