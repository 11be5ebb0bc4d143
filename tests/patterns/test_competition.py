"""Competitions: one judge, the first that is good enough, brackets."""

from math import ceil

import anyio
import pytest
from hypothesis import given, settings, strategies as st

from agentflow import (
    CompetitionAgent,
    CompetitionResult,
    ConfigError,
    InvalidAnswer,
    InvocationContext,
    Judge,
    Rubric,
    TooFewAnswers,
    agent,
)
from tests.core.actors import play
from tests.faults.clocks import jumpy_backend
from tests.patterns.answering import Fails, Hangs, answers, competed, echoes, script, spoken


def by_length(outputs: list[str]) -> list[float]:
    return [float(len(output)) for output in outputs]


async def test_the_competition_of_the_seed() -> None:
    """The judge is a function that gives the winner's place and a score for each place."""

    def judge(outputs: list[str]) -> tuple[int, dict[int, float]]:
        scores = {place: float(len(output)) for place, output in enumerate(outputs)}
        return max(scores, key=lambda place: scores[place]), scores

    coders = [
        answers("python_expert", "sieve()"),
        answers("clean_coder", "def primes(n): ..."),
        answers("fast_coder", "np"),
    ]
    result = await competed(CompetitionAgent("contest", coders, judge=judge), "Write a function to find prime numbers")
    assert (result.winner, result.answer, result.text) == ("clean_coder", "def primes(n): ...", "def primes(n): ...")
    assert result.outputs == {"python_expert": "sieve()", "clean_coder": "def primes(n): ...", "fast_coder": "np"}
    assert result.scores == {"python_expert": 7, "clean_coder": 18, "fast_coder": 2}
    assert [match.names for match in result.matches] == [("python_expert", "clean_coder", "fast_coder")]


async def test_a_judge_that_is_an_agent_marks_by_a_rubric() -> None:
    marks = {"a": {"correct": 9, "short": 1}, "b": {"correct": 5, "short": 10}}
    critic = echoes("critic", reply={"scores": marks, "reason": "it is right"})
    result = await competed(
        CompetitionAgent(
            "c", [answers("a", "long"), answers("b", "x")], judge=critic, rubric=Rubric({"correct": 3, "short": 1})
        )
    )
    assert (result.winner, result.reason) == ("a", "it is right")
    assert result.marks == marks
    assert result.scores == {"a": 7, "b": 6.25}


async def test_who_fails_does_not_compete() -> None:
    result = await competed(CompetitionAgent("c", [answers("a", Fails()), answers("b", "x")], judge=by_length))
    assert (result.winner, result.scores, result.missing) == ("b", {"b": 1}, {"a": "ValueError: no idea"})
    with pytest.raises(TooFewAnswers):
        await competed(CompetitionAgent("c", script("a", [Fails(), Fails()]), n=2, judge=by_length))


async def test_the_first_that_is_good_enough_wins_and_the_rest_is_cancelled() -> None:
    lines = ["poor", "excellent", Hangs(), "fair"]
    result = await competed(
        CompetitionAgent("c", script("v", lines, after=[1, 3, 0, 2]), n=4, judge=by_length, good_enough=9)
    )
    assert (result.winner, result.good_enough, result.metrics.saved_calls) == ("v#2", True, 1)
    assert result.scores == {"v": 4, "v#2": 9, "v#4": 4}
    assert [match.names for match in result.matches] == [("v",), ("v#2",), ("v#4",)]
    assert result.branches[2].status == "cancelled"


async def test_the_last_one_may_be_good_enough_too() -> None:
    contest = CompetitionAgent("c", script("v", ["a", "abc"], after=[1, 2]), n=2, judge=by_length, good_enough=3)
    result = await competed(contest)
    assert (result.winner, result.good_enough, result.metrics.saved_calls) == ("v#2", True, 0)


async def test_if_none_is_good_enough_the_best_wins() -> None:
    result = await competed(CompetitionAgent("c", script("v", ["a", "abc", "ab"]), n=3, judge=by_length, good_enough=9))
    assert (result.winner, result.good_enough, result.metrics.saved_calls) == ("v#2", False, 0)


async def test_good_enough_by_an_agent() -> None:
    critic = echoes("critic", reply=lambda told: {"scores": [0.2 if "poor" in told else 0.9]})
    panel = CompetitionAgent(
        "c", script("v", ["poor", "good", Hangs()], after=[1, 2, 0]), n=3, judge=critic, good_enough=0.8
    )
    played = await play(panel)
    result = CompetitionResult.of(played.run.result)
    assert (result.winner, result.good_enough) == ("v#2", True)
    assert played.records("synthesis_complete")[0].saved_calls == 1


async def test_good_enough_needs_scores() -> None:
    with pytest.raises(InvalidAnswer, match="needs a score for 'a'"):
        await competed(CompetitionAgent("c", answers("a", "x"), judge=lambda outputs: "a", good_enough=1))


async def test_what_the_deadline_cut_off_is_not_judged() -> None:
    result = await competed(
        CompetitionAgent(
            "c", script("v", ["a", "ab", Hangs()], after=[1, 2, 0]), n=3, judge=by_length, good_enough=9, deadline=5
        )
    )
    assert (result.winner, sorted(result.scores)) == ("v#2", ["v", "v#2"])


async def test_a_bracket_compares_a_few_at_a_time() -> None:
    compared: list[int] = []

    def judge(outputs: list[int]) -> list[int]:
        compared.append(len(outputs))
        return outputs

    result = await competed(CompetitionAgent("c", script("v", [3, 1, 4, 1, 5, 9, 2, 6]), n=8, judge=judge, bracket=2))
    assert (result.answer, result.winner) == (9, "v#6")
    assert compared == [2] * 7
    assert [(match.round, match.names, match.winner) for match in result.matches] == [
        (1, ("v", "v#2"), "v"), (1, ("v#3", "v#4"), "v#3"), (1, ("v#5", "v#6"), "v#6"), (1, ("v#7", "v#8"), "v#8"),
        (2, ("v", "v#3"), "v#3"), (2, ("v#6", "v#8"), "v#6"),
        (3, ("v#3", "v#6"), "v#6"),
    ]  # fmt: skip


async def test_matches_of_a_round_are_judged_at_the_same_time() -> None:
    @agent
    async def critic(ctx: InvocationContext) -> None:
        await anyio.sleep(10)
        await ctx.emit(ctx.text('{"winner": 1}'))

    result = await competed(CompetitionAgent("c", script("v", list("abcdefgh")), n=8, judge=critic, bracket=2))
    assert (result.winner, result.metrics.synthesis_seconds) == ("v", 30)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(2, 5))
def test_the_best_wins_every_bracket_with_a_consistent_judge(values: list[int], size: int) -> None:
    seen: list[list[int]] = []

    def judge(outputs: list[int]) -> list[int]:
        seen.append(outputs)
        return outputs

    async def main() -> CompetitionResult:
        return await competed(CompetitionAgent("c", script("v", values), n=len(values), judge=judge, bracket=size))

    name, options = jumpy_backend("asyncio")
    result = anyio.run(main, backend=name, backend_options=options)
    assert result.answer == max(values)
    assert all(len(group) <= size for group in seen)
    assert len(seen) <= max(1, len(values) - 1)
    assert len(seen) >= ceil((len(values) - 1) / (size - 1))


async def test_a_judge_that_fails_in_a_bracket_fails_the_competition() -> None:
    def judge(outputs: list[str]) -> str:
        raise ValueError("the tests don't run")

    with pytest.raises(ValueError, match="the tests don't run"):
        await competed(CompetitionAgent("c", script("v", list("ab")), n=2, judge=judge, bracket=2))


def test_a_clone_has_its_own_judge() -> None:
    critic = echoes("critic")
    contest = CompetitionAgent("c", answers("a", "x"), judge=critic, n=2)
    clone = contest.clone(n=3)
    assert clone.judge.judge is clone.sub_agents[1] is not critic
    assert [one.name for one in contest.clone(judge=by_length).sub_agents] == ["a"]


@pytest.mark.parametrize(
    ("given_settings", "complaint"),
    [
        ({"competitors": []}, "needs at least one agent"),
        ({"n": 0}, "n must be"),
        ({"judge": "critic"}, "needs an agent or a function"),
        ({"judge": Judge(by_length), "rubric": Rubric({"a": 1})}, "give the rubric to the Judge"),
        ({"good_enough": "yes"}, "good_enough must be a number"),
        ({"bracket": 1}, "bracket must be"),
        ({"bracket": 2, "good_enough": 1}, "give one of them"),
        ({"min_successes": 2}, "min_successes"),
    ],
    ids=spoken,
)
def test_settings_that_can_not_work_are_refused(given_settings: dict, complaint: str) -> None:
    chosen = {"competitors": [answers("a", 1)], "judge": by_length, **given_settings}
    with pytest.raises(ConfigError, match=complaint):
        CompetitionAgent("c", chosen.pop("competitors"), **chosen)
