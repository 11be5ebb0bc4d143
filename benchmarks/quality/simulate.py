"""The real patterns, on answers that are drawn: seeded, of known accuracy and correlation, one question a run."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

from agentflow import (
    Agent,
    Aggregator,
    Consensus,
    Data,
    FunctionAgent,
    InvocationContext,
    Judge,
    Runner,
    ScatterGatherAgent,
    ScatterGatherResult,
    Synthesis,
    Voting,
    Weighted,
)
from benchmarks.quality import closed_forms as theory

Draw = Callable[[random.Random, random.Random], Any]
"""An answer, from what all voters on a question share and from what is a voter's own."""


@dataclass(frozen=True)
class Case:
    """One way to answer, and what theory says of it.

    `expected`: accuracy (or error, or coverage) and calls; `None` where there is no closed form.
    """

    name: str
    agent: Callable[[], Agent]
    score: Callable[[Any], float]
    expected: tuple[float, float] | None
    what: str = "accuracy"


@dataclass(frozen=True)
class Reading:
    """What was measured: means over the questions, and the standard errors of these."""

    score: float
    score_error: float
    calls: float
    calls_error: float

    def agrees(self, expected: tuple[float, float], *, sigmas: float = 3.5) -> bool:
        """Whether theory is within so many standard errors (and some room for one in a thousand)."""
        return (
            abs(self.score - expected[0]) <= sigmas * self.score_error + 1e-3
            and abs(self.calls - expected[1]) <= sigmas * self.calls_error + 1e-3
        )


async def measure(case: Case, questions: int) -> Reading:
    """Answer so many questions."""
    scores, calls = [], []
    async with Runner(case.agent()) as runner:
        for question in range(questions):
            async with runner.run(str(question), session_id=f"q{question}") as run:
                result = await run.wait()
            await runner.sessions.delete(run.session)
            found = ScatterGatherResult.of(result)
            scores.append(case.score(found.answer))
            calls.append(float(found.metrics.calls))
    score, score_error = _mean(scores)
    if case.what == "error":
        score, score_error = sqrt(score), score_error / (2 * sqrt(score))
    return Reading(score, score_error, *_mean(calls))


def _mean(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return mean, sqrt(variance / len(values))


def voter(name: str, seed: int, draw: Draw) -> FunctionAgent:
    """Draws an answer to each question, always the same to the same; its twins draw others."""

    async def turn(ctx: InvocationContext) -> None:
        question = ctx.user_text
        shared = random.Random(f"{seed}/{question}")
        own = random.Random(f"{seed}/{question}/{ctx.branch}")
        answer = draw(shared, own)
        await ctx.emit(ctx.text(answer) if isinstance(answer, str) else ctx.event(Data(answer)))

    return FunctionAgent(name, turn)


def opinion(p: float, r: float = 0.0, wrong: int = 1) -> Draw:
    """`right` with probability `p`, else one of so many wrong ones; with probability `r` the opinion that all share."""

    def pick(rng: random.Random) -> str:
        return "right" if rng.random() < p else f"wrong {rng.randrange(wrong)}"

    return lambda shared, own: pick(shared) if own.random() < r else pick(own)


def right(answer: Any) -> float:
    """1 for the right answer."""
    return float(answer == "right")


def vote(
    aggregator: Aggregator, p: float, n: int, *, r: float = 0.0, seed: int, wrong: int = 1, **options: Any
) -> Callable[[], Agent]:
    """A pattern that asks one voter n times, one after the other unless `options` say otherwise."""
    options = {"max_concurrency": 1, **options}
    return lambda: ScatterGatherAgent(
        "vote", voter("v", seed, opinion(p, r, wrong)), n=n, aggregator=aggregator, **options
    )


def voting_cases(p: float, n: int, *, r: float, seed: int) -> list[Case]:
    """One call, votes of several sizes, and the rules that stop early."""

    def case(name: str, aggregator: Aggregator, size: int, rule: theory.Rule, **options: Any) -> Case:
        expected = (
            theory.correlated(p, r, lambda q: theory.sequential(q, size, rule)) if "wave" not in options else None
        )
        return Case(name, vote(aggregator, p, size, r=r, seed=seed, **options), right, expected)

    def full(first: int, second: int, left: int) -> bool:
        return False

    return [
        case("one call", Voting(), 1, full),
        *[case(f"vote of {size}, all asked", Voting(), size, full, early_stop=False) for size in (3, 7, n)],
        *[case(f"vote of {size}", Voting(), size, theory.cannot_change) for size in (3, 7, n)],
        *[case(f"ahead by {k}", Voting(ahead_by=k), n, theory.ahead_by(k)) for k in (2, 3, 4)],
        *[case(f"{share:.0%} sure", Voting(confidence=share), n, theory.sure(share)) for share in (0.8, 0.95)],
        case("ahead by 3, waves of 4", Voting(ahead_by=3), n, full, wave=4, max_concurrency=None),
        case("95% sure, waves of 4", Voting(confidence=0.95), n, full, wave=4, max_concurrency=None),
        case("the first to have 4 votes", Voting(quorum=4), 7, theory.quorum(4)),
        case("consensus of 7", Consensus(), 7, full),
    ]


def other_cases(p: float, *, seed: int) -> list[Case]:
    """Weights, a judge, a synthesis: those that don't count votes."""
    accuracies = {"expert": 0.9, "good": 0.75, "fair": 0.65, "weak": 0.6, "coin": 0.55}
    team = [voter(name, seed, opinion(q)) for name, q in accuracies.items()]
    weigh = Weighted("choice", accuracy=accuracies)

    def judge_of(skill: float) -> Judge:
        rng = random.Random(seed)

        def judge(answers: Sequence[Any]) -> int:
            wanted = "right" if rng.random() < skill else "wrong 0"
            return answers.index(wanted) if wanted in answers else 0

        return Judge(judge)

    def estimate(shared: random.Random, own: random.Random) -> float:
        bias = shared.gauss(0, 1)  # what all get wrong in the same way: a fifth of the variance
        return sqrt(0.2) * bias + sqrt(0.8) * own.gauss(0, 1)

    async def write(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event(Data(sorted({word for word in ctx.user_text.split() if word.startswith("fact")}))))

    def findings(shared: random.Random, own: random.Random) -> str:
        return " ".join(f"fact{number}" for number in range(20) if own.random() < 0.3) or "nothing"

    skills = list(accuracies.values())
    equal = theory.weighted(skills, [1] * 5), 5
    cases = [
        Case("five of unequal skill, a vote each", lambda: _team(team, Voting()), right, equal),
        Case("the same, by log-odds", lambda: _team(team, weigh), right, (theory.log_odds(skills), 5)),
    ]
    for n in (3, 7):
        # The judge of answers that are all wrong picks a wrong one, and of those that are all right a right one.
        judged = theory.best_of(p, n, 0.9) + 0.1 * p**n
        cases += [
            Case(f"a judge, right 9 times of 10, of {n}", vote(judge_of(0.9), p, n, seed=seed), right, (judged, n)),
            Case(
                f"mean of {n} estimates",
                _many(estimate, seed, n, _weigh("mean")),
                _square,
                (theory.mean_error(n, 0.2), n),
                "error",
            ),
            Case(f"median of {n} estimates", _many(estimate, seed, n, _weigh("median")), _square, None, "error"),
            Case(
                f"synthesis of {n}",
                _many(findings, seed, n, lambda: Synthesis(FunctionAgent("writer", write))),
                lambda answer: len(answer) / 20,
                (theory.coverage(0.3, n), n),
                "coverage",
            ),
        ]
    return cases


def _team(agents: Sequence[FunctionAgent], aggregator: Aggregator) -> ScatterGatherAgent:
    return ScatterGatherAgent("vote", [agent.clone() for agent in agents], aggregator=aggregator, early_stop=False)


def _many(draw: Draw, seed: int, n: int, aggregator: Callable[[], Aggregator]) -> Callable[[], Agent]:
    return lambda: ScatterGatherAgent("vote", voter("v", seed, draw), n=n, aggregator=aggregator())


def _weigh(take: Literal["mean", "median"]) -> Callable[[], Weighted]:
    return lambda: Weighted(take, weights={"v": 1})


def _square(answer: float) -> float:
    return answer**2
