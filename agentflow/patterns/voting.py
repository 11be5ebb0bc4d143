"""The answer that most give."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self

from agentflow.core import Agent
from agentflow.errors import ConfigError, NoDecision
from agentflow.outcome import Outcome
from agentflow.patterns.aggregate import Aggregator, Decision, EarlyStop, Panel
from agentflow.patterns.answers import Key, answer_of, answered, picker
from agentflow.patterns.counting import Invalid, ballot_reader, check_invalid, count, elected, numeric, whole
from agentflow.patterns.judge import Judge, Judging
from agentflow.patterns.votes import Candidate, Race, exact, lead_confidence

Tie = Literal["first", "judge", "error"]


@dataclass(frozen=True)
class Voting(Aggregator):
    """The answer that most give. For answers that compete and can be told to be the same.

    Answers are compared in canonical form (see `canonical`), so `42`, `"42."` and `The answer is **42**` are one; the
    result is what was counted (`42`), its text all that the first to say so said. With weights given to the pattern,
    weights are added up instead. As soon as the votes that are still out can't change who wins, the rest is cancelled;
    that never changes the winner. The other rules spend fewer calls and accept a small risk, and who wins may then
    depend on who answers first.

    Attributes:
        key: What of an answer counts: the name of a field, or a function of the answer. A function decides by itself
            what is the same: texts that it returns are compared as they are.
        quorum: Votes that an answer needs to win (with weights, their sum); a share of the votes of all branches if it
            is below 1. The first to have so many wins at once.
        ahead_by: Stop as soon as the first is so many votes ahead of the second.
        confidence: Stop as soon as it is so sure, from 0.5 to 1, that the first answer is the likelier one: the beta
            rule of Adaptive-Consistency, https://arxiv.org/abs/2305.11860.
        tie: What decides between the first, if several have the same weight: the order of declaration, a judge, or
            nobody, which is an error.
        judge: For `tie="judge"`: an agent, a function of the answers, or a `Judge`.
        invalid: What to do with an answer that `key` can't read: don't count it (`"drop"`), or fail (`"error"`).
    """

    key: Key = None
    quorum: int | float | None = None
    ahead_by: int | None = None
    confidence: float | None = None
    tie: Tie = "first"
    judge: Judge | Agent | Judging | None = None
    invalid: Invalid = "drop"
    strategy: ClassVar[str] = "voting"
    picks: ClassVar[bool] = True

    @property
    def agents(self) -> tuple[Agent, ...]:
        return _as_judge(self.judge).agents if self.judge is not None else ()

    def with_agents(self, agents: Sequence[Agent]) -> Self:
        return replace(self, judge=_as_judge(self.judge).with_agents(agents)) if self.judge is not None else self

    def check(self, owner: str, agents: Sequence[str], branches: int, weighted: bool) -> None:
        owner = f"{owner}: Voting"
        picker(self.key, owner)
        _check_share(self.quorum, branches, f"{owner}: quorum")
        if self.ahead_by is not None and (not whole(self.ahead_by) or self.ahead_by < 1):
            raise ConfigError(f"{owner}: ahead_by must be a whole number of votes of at least 1, not {self.ahead_by!r}")
        if self.confidence is not None and not (numeric(self.confidence) and 0.5 < self.confidence < 1):
            raise ConfigError(f"{owner}: confidence must be above 0.5 and below 1, not {self.confidence!r}")
        if weighted and self.confidence is not None:
            raise ConfigError(f"{owner}: confidence counts votes, so it can't be had together with weights")
        if self.tie not in ("first", "judge", "error"):
            raise ConfigError(f"{owner}: tie must be 'first', 'judge' or 'error', not {self.tie!r}")
        if (self.tie == "judge") != (self.judge is not None):
            raise ConfigError(f"{owner}: tie='judge' and judge=... go together")
        if self.judge is not None:
            _as_judge(self.judge).check(owner, agents, branches, weighted)
        check_invalid(self.invalid, owner)

    def early_stop(self, agents: Sequence[str], weights: Sequence[float]) -> EarlyStop | None:
        race = Race()
        read = ballot_reader(self.key)
        votes = [exact(weight) for weight in weights]
        pending = sum(votes, Fraction())
        needed = _needed(self.quorum, pending)

        def stop(place: int, outcome: Outcome) -> str:
            nonlocal pending
            pending -= votes[place]
            if answered(outcome):
                try:
                    race.add(read(answer_of(outcome))[0], weights[place])
                except Exception:  # a void vote; `combine` says why
                    return ""
            if needed and race.best >= needed:
                return f"{float(needed):g} votes reached"
            if needed and race.best + pending < needed:
                return f"{float(needed):g} votes can't be reached any more"
            if not needed and race.decided(pending):
                return "the vote can't change any more"
            if self.ahead_by is not None and race.lead >= self.ahead_by:
                return f"ahead by {float(race.lead):g}"
            if self.confidence is not None:
                sure = lead_confidence(int(race.best), int(race.second))
                if sure >= self.confidence:
                    return f"{sure:.1%} sure of the lead"
            return ""

        return stop

    async def combine(self, panel: Panel) -> Decision:
        candidates, void = count(panel.given, self.key, self.invalid)
        best = candidates[0]
        needed = _needed(self.quorum, sum(map(exact, panel.weights), Fraction()))
        if exact(best.weight) < needed:
            raise NoDecision(
                f"no answer has {float(needed):g} votes; the most is {best.weight:g}", candidates=(best.answer,)
            )
        tied = [candidate for candidate in candidates if candidate.weight == best.weight]
        reason = ""
        if len(tied) > 1 and self.tie == "error":
            raise NoDecision(
                f"{len(tied)} answers have {best.weight:g} votes each",
                candidates=tuple(candidate.answer for candidate in tied),
            )
        if len(tied) > 1 and self.judge is not None:
            best, reason = await _break_tie(_as_judge(self.judge), panel, tied)
        return elected(panel, best, candidates, void, reason)


def _as_judge(judge: Any) -> Judge:
    return judge if isinstance(judge, Judge) else Judge(judge)


async def _break_tie(judge: Judge, panel: Panel, tied: Sequence[Candidate]) -> tuple[Candidate, str]:
    by_place = {one.place: one for one in panel.given}
    verdict = await judge.verdict(panel, [by_place[candidate.members[0]] for candidate in tied])
    return tied[verdict.winner], verdict.reason or "a judge broke the tie"


def _needed(quorum: int | float | None, votes: Fraction) -> Fraction:
    """What an answer needs to win, of all the votes that there may be; 0 where there is no quorum."""
    if quorum is None or whole(quorum):
        return Fraction(quorum or 0)
    return exact(quorum) * votes


def _check_share(quorum: Any, branches: int, what: str) -> None:
    if quorum is None:
        return
    if whole(quorum):
        if quorum < 1 or (branches and quorum > branches):
            raise ConfigError(f"{what} must be from 1 to {branches or 'the number of branches'}, not {quorum!r}")
    elif not numeric(quorum) or not 0 < quorum < 1:
        raise ConfigError(f"{what} must be a whole number of votes or a share below 1, not {quorum!r}")
