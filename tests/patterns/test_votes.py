"""Votes are counted the same in any order, and rules that stop early are the published ones."""

from fractions import Fraction
from math import comb
from random import Random

import pytest
from hypothesis import given, strategies as st

from agentflow.patterns.votes import Race, agreement, exact, lead_confidence, tally

ballots = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([0.0, 0.5, 1.0, 2.0, 0.1])), max_size=20)


@given(ballots, st.randoms())
def test_the_order_of_votes_makes_no_difference(votes: list[tuple[str, float]], rng: object) -> None:
    rows = [(place, key, key.upper(), weight) for place, (key, weight) in enumerate(votes)]
    shuffled = rows[:]
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert tally(rows) == tally(shuffled)


@given(ballots)
def test_every_vote_is_counted_once_and_the_heaviest_is_first(votes: list[tuple[str, float]]) -> None:
    counted = tally((place, key, key, weight) for place, (key, weight) in enumerate(votes))
    assert sorted(place for one in counted for place in one.members) == list(range(len(votes)))
    assert [one.weight for one in counted] == sorted((one.weight for one in counted), reverse=True)
    share = agreement(counted)
    assert share is None if not sum(weight for _, weight in votes) else 0 < share <= 1


@given(ballots)
def test_a_race_knows_who_is_first_and_by_how_much(votes: list[tuple[str, float]]) -> None:
    race = Race()
    for place, (key, weight) in enumerate(votes):
        race.add(key, weight)
        counts = sorted(
            (one.weight for one in tally((i, k, k, w) for i, (k, w) in enumerate(votes[: place + 1]))), reverse=True
        )
        assert race.best == pytest.approx(counts[0])
        assert race.second == pytest.approx(counts[1] if len(counts) > 1 else 0.0)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9))
def test_a_vote_that_is_decided_stays_so_whatever_comes(votes: list[str]) -> None:
    """Tried against the two worst ends: all the rest for the second, all the rest for somebody new."""
    race = Race()
    for seen, key in enumerate(votes, 1):
        race.add(key)
        pending = len(votes) - seen
        if race.decided(pending):
            for rival in "abcx":
                final = tally((i, k, k, 1.0) for i, k in enumerate([*votes[:seen], *[rival] * pending]))
                assert final[0].key == race.leader
        elif pending and race.lead <= pending:
            final = tally((i, k, k, 1.0) for i, k in enumerate([*votes[:seen], *["x"] * pending]))
            assert race.best <= race.second + pending or final[0].key == race.leader


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.1, 0.2, 0.3, 0.7, 1.1])), min_size=1), st.randoms())
def test_a_weighted_vote_that_stops_early_has_the_winner_of_all(votes: list[tuple[str, float]], rng: Random) -> None:
    """Tenths have no exact binary form: their sums, rounded, would depend on the order of votes."""
    race, pending = Race(), sum((exact(weight) for _, weight in votes), Fraction())
    rows = [(place, key, key, weight) for place, (key, weight) in enumerate(votes)]
    for _, key, _, weight in sorted(rows, key=lambda row: rng.random()):
        race.add(key, weight)
        pending -= exact(weight)
        if race.decided(pending):
            assert tally(rows)[0].key == race.leader


def test_a_tie_of_tenths_is_a_tie() -> None:
    first, second = tally((place, key, key, weight) for place, (key, weight) in enumerate([
        ("a", 0.3), ("b", 0.1), ("b", 0.2),
    ]))  # fmt: skip
    assert (first.key, first.weight, second.weight) == ("a", 0.3, 0.3)


@given(st.integers(0, 30), st.integers(0, 30))
def test_confidence_in_a_lead_is_the_beta_posterior(first: int, second: int) -> None:
    """Against the integral of the posterior over shares above a half, by Simpson's rule."""
    steps = 2000

    def density(p: float) -> float:
        return p**first * (1 - p) ** second

    def integral(low: float, high: float) -> float:
        width = (high - low) / steps
        inner = sum((4 if i % 2 else 2) * density(low + i * width) for i in range(1, steps))
        return (density(low) + inner + density(high)) * width / 3

    expected = integral(0.5, 1.0) / integral(0.0, 1.0)
    assert lead_confidence(first, second) == pytest.approx(expected, abs=1e-6)


def test_confidence_at_known_points() -> None:
    assert lead_confidence(0, 0) == 0.5
    assert lead_confidence(3, 3) == 0.5
    assert lead_confidence(4, 0) == 1 - 0.5**5  # four of one opinion are enough for 95 %
    assert lead_confidence(3, 0) == 1 - 0.5**4
    assert lead_confidence(500, 400) == pytest.approx(sum(comb(901, k) for k in range(501)) / 2**901)
