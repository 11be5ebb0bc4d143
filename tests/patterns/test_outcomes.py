"""Any mix of outcomes, ending in any order, gives the same aggregate; and every branch is counted exactly once."""

from collections import Counter
from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st

from agentflow import (
    Collect,
    Consensus,
    Judge,
    ScatterGatherAgent,
    ScatterGatherResult,
    TooFewAnswers,
    Voting,
    Weighted,
)
from tests.core.actors import play
from tests.faults.clocks import jumpy_backend
from tests.patterns.answering import Fails, Hangs, Silent, script, spoken

STATUS = {"ok": "ok", "error": "error", "timeout": "timeout", "late": "cancelled", "silent": "ok"}
LINES = {"error": Fails(), "timeout": Hangs(), "silent": Silent()}
DEADLINE, TIMEOUT = 500, 50

branch = st.tuples(st.sampled_from(["ok", "ok", "error", "timeout", "late", "silent"]), st.integers(1, 4))
mixes = st.lists(branch, min_size=1, max_size=7)


def run(
    mix: list[tuple[str, int]], order: list[int], aggregator: Any, backend: str, **options: Any
) -> ScatterGatherResult | str:
    """One run of branches that end as `mix` says, in the order `order`; text if too few answered."""

    def delay(place: int) -> float:
        return 10_000.0 if mix[place][0] == "late" else float(order[place])

    lines = [LINES.get(kind, str(number)) for kind, number in mix]
    slow = "late" in dict(mix)  # a deadline cuts late ones off, so they mustn't have a timeout of their own before
    pattern = ScatterGatherAgent(
        "p", script("v", lines, after=delay), n=len(mix), aggregator=aggregator, deadline=DEADLINE,
        timeout_per_agent=None if slow else TIMEOUT, **options,
    )  # fmt: skip
    name, settings = jumpy_backend(backend)

    async def main() -> ScatterGatherResult | str:
        try:
            played = await play(pattern)
        except TooFewAnswers as error:
            return str(error)
        gather = played.records("gather_complete")[0]
        assert gather.total_agents == len(mix) == gather.successful + gather.failed + gather.cancelled + gather.skipped
        starts, ends = played.records("agent_parallel_start"), played.records("agent_parallel_complete")
        assert len(starts) == len(ends)
        return ScatterGatherResult.of(played.run.result)

    return anyio.run(main, backend=name, backend_options=settings)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "aggregator",
    [Collect(), Voting(), Voting(quorum=0.4), Weighted(weights={"v": 1}), Weighted("median", weights={"v": 1}),
     Consensus(), Judge(lambda answers: [int(answer) for answer in answers])],
    ids=spoken,
)  # fmt: skip
@settings(max_examples=12, deadline=None)
@given(mixes, st.randoms())
def test_the_aggregate_does_not_depend_on_who_ends_first(
    aggregator: Any, backend: str, mix: list[tuple[str, int]], rng: Any
) -> None:
    orders = [list(range(1, len(mix) + 1)) for _ in range(2)]
    rng.shuffle(orders[1])
    results = []
    for order in orders:
        try:
            results.append(run(mix, order, aggregator, backend, early_stop=False))
        except Exception as error:  # NoDecision; it doesn't depend on the order either
            results.append(str(error))
    one, other = results
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
        return
    assert (one.answer, one.winner, one.candidates, one.scores, one.missing) == (
        other.answer, other.winner, other.candidates, other.scores, other.missing,
    )  # fmt: skip
    assert one.metrics.agreement == other.metrics.agreement


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=30, deadline=None)
@given(mixes, st.randoms(), st.booleans())
def test_every_branch_is_counted_exactly_once(backend: str, mix: list[tuple[str, int]], rng: Any, capped: bool) -> None:
    order = list(range(1, len(mix) + 1))
    rng.shuffle(order)
    result = run(mix, order, Collect(), backend, max_concurrency=2 if capped and "late" not in dict(mix) else None)
    if isinstance(result, str):
        assert "ok" not in dict(mix)
        return
    assert [one.name for one in result.branches] == ["v", *[f"v#{n}" for n in range(2, len(mix) + 1)]]
    has_late = "late" in dict(mix)
    expected = ["cancelled" if kind == "timeout" and has_late else STATUS[kind] for kind, _ in mix]
    assert [one.status for one in result.branches] == expected
    assert [one.counted for one in result.branches] == [kind == "ok" for kind, _ in mix]
    assert result.answer == [str(number) for kind, number in mix if kind == "ok"]
    assert set(result.missing) == {one.name for one in result.branches if not one.counted}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=30, deadline=None)
@given(mixes, st.randoms(), st.none() | st.integers(1, 3))
def test_a_vote_that_stops_early_has_the_winner_of_the_full_vote(
    backend: str, mix: list[tuple[str, int]], rng: Any, wave: int | None
) -> None:
    mix = [("timeout" if kind == "late" else kind, number) for kind, number in mix]  # a deadline may cut waves off
    order = list(range(1, len(mix) + 1))
    rng.shuffle(order)
    full = run(mix, order, Voting(), backend, early_stop=False)
    early = run(mix, order, Voting(), backend, wave=wave)
    if isinstance(full, str) or isinstance(early, str):
        assert isinstance(full, str) == isinstance(early, str)
        return
    votes = Counter(str(number) for kind, number in mix if kind == "ok")
    assert early.answer == full.answer
    assert votes[full.answer] == max(votes.values())
    assert (
        early.metrics.saved_calls == sum(one.status in ("cancelled", "skipped") for one in early.branches)
        or not early.reason
    )
