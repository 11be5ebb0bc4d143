"""The simulation of benchmarks/quality: theory against itself, and the real patterns against theory."""

import pytest
from hypothesis import given, strategies as st

from agentflow.models.base import ModelRequest
from agentflow.testing import FunctionModel
from benchmarks.quality import closed_forms as theory
from benchmarks.quality.live import questions, table
from benchmarks.quality.plot import draw
from benchmarks.quality.simulate import measure, other_cases, voting_cases


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Models look up prices in a thread, which a clock that jumps doesn't wait for."""
    return request.param


@pytest.mark.parametrize("p", [0.3, 0.5, 0.7, 0.9])
def test_ahead_by_without_a_cap_is_the_gamblers_ruin(p: float) -> None:
    for k in (1, 2, 3, 5):
        accuracy, calls = theory.sequential(p, 401, lambda first, second, left, k=k: first - second >= k)
        assert (accuracy, calls) == pytest.approx(theory.ruin(p, k), rel=1e-3)


@given(st.floats(0.05, 0.95), st.integers(1, 25))
def test_a_vote_that_stops_when_it_can_not_change_is_as_good_as_the_full_one_for_fewer_calls(p: float, n: int) -> None:
    full = theory.sequential(p, n, lambda first, second, left: False)
    early = theory.sequential(p, n, theory.cannot_change)
    assert full == pytest.approx((theory.majority(p, n), n))
    assert early[0] == pytest.approx(full[0])
    assert early[1] <= full[1]


def test_votes_get_better_with_size_and_adaptive_rules_are_nearly_as_good_for_far_fewer_calls() -> None:
    assert [round(theory.majority(0.7, n), 3) for n in (1, 3, 7, 15)] == [0.7, 0.784, 0.874, 0.95]
    accuracy, calls = theory.sequential(0.7, 15, theory.sure(0.95))
    assert theory.majority(0.7, 15) - accuracy < 0.005
    assert calls < 10
    accuracy, calls = theory.sequential(0.9, 40, theory.sure(0.95))
    assert 40 / calls > 7


def test_weights_by_log_odds_are_the_best() -> None:
    skills = [0.9, 0.75, 0.65, 0.6, 0.55]
    best = theory.log_odds(skills)
    assert best >= max(
        theory.weighted(skills, weights) for weights in ([1] * 5, [1, 0, 0, 0, 0], skills, [3, 1, 1, 1, 1])
    )
    assert theory.weighted([0.7] * 7, [1] * 7) == pytest.approx(theory.majority(0.7, 7))


def test_correlated_voters_gain_little() -> None:
    accuracy, _ = theory.correlated(0.7, 0.6, lambda p: (theory.majority(p, 15), 15))
    assert 0.7 < accuracy < 0.75
    assert theory.correlated(0.7, 0.0, lambda p: (theory.majority(p, 15), 15))[0] == theory.majority(0.7, 15)


@pytest.mark.parametrize("r", [0.0, 0.6])
async def test_the_patterns_spend_the_calls_and_have_the_accuracy_that_theory_says(r: float) -> None:
    cases = [case for case in voting_cases(0.7, 15, r=r, seed=5) if case.expected is not None]
    for case in cases:
        reading = await measure(case, 40)
        assert case.expected is not None
        assert reading.agrees(case.expected), (case.name, reading, case.expected)


async def test_waves_cost_a_little_more_and_the_picture_shows_it_all() -> None:
    by_name = {case.name: case for case in voting_cases(0.7, 15, r=0.0, seed=5)}
    one = await measure(by_name["ahead by 3"], 40)
    waves = await measure(by_name["ahead by 3, waves of 4"], 40)
    assert one.calls < waves.calls < one.calls + 4
    svg = draw([(by_name["ahead by 3"], one), (by_name["ahead by 3, waves of 4"], waves)], 0.7, 15)
    assert svg.count("<circle") == 2
    assert "ahead by 3, waves of 4" in svg


async def test_weights_judges_and_syntheses_are_as_good_as_theory_says() -> None:
    for case in other_cases(0.7, seed=5):
        reading = await measure(case, 40)
        if case.expected is not None:
            assert reading.agrees(case.expected), (case.name, reading, case.expected)


async def test_the_live_table_is_filled_in_with_any_model() -> None:
    known = dict(questions())

    def solve(request: ModelRequest) -> str:
        return f"Multiplied.\nAnswer: {known[request.messages[-1].parts[-1].text]:,}"

    lines = (await table(FunctionModel(solve), 9)).splitlines()
    assert [line.split("|")[1:4] for line in lines[2:]] == [
        [" one call ", " 100% ", " 1.00 "],
        [" vote of 5 ", " 100% ", " 4.00 "],
        [" ahead by 2 ", " 100% ", " 2.00 "],
        [" 95% sure ", " 100% ", " 4.00 "],
    ]


def test_live_questions_have_answers() -> None:
    assert len(dict(questions())) == 20
    assert all(
        eval(question.removeprefix("What is ").rstrip("?").replace("x", "*")) == answer
        for question, answer in questions()
    )
