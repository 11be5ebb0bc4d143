"""Parallel groups that end early: who wins, who loses, and what becomes of them."""

import pytest

from agentflow import LoopAgent, ParallelAgent, SequentialAgent
from tests.core.actors import escalates, fails, hears, play, refuses, says, sleeps


async def test_siblings_of_a_branch_that_escalates_finish_their_work() -> None:
    patient = SequentialAgent("s", [sleeps("b", 5), says("c", "last")])
    root = LoopAgent("l", [ParallelAgent("p", [escalates("a"), patient]), says("never", "no")], max_iterations=3)
    played = await play(root)
    assert sorted(played.texts) == ["bye", "enough", "good morning", "good night", "last"]


async def test_a_loser_that_fails_in_its_clean_up_does_not_fail_the_race() -> None:
    root = ParallelAgent("p", [refuses("a", "x"), sleeps("b", 1)], stop_when=lambda event: event.text == "good morning")
    played = await play(root)
    assert played.run.status == "ok"
    assert [outcome.status for outcome in played.run.result.outcomes.values()] == ["error", "ok"]


@pytest.mark.parametrize("stop_when", ["first_success", 1])
async def test_what_a_loser_said_is_hidden_also_when_its_clean_up_fails(stop_when) -> None:
    heard: list[str] = []
    race = ParallelAgent("p", [refuses("a", "x"), sleeps("b", 1)], stop_when=stop_when)
    await play(SequentialAgent("s", [race, hears("c", heard)]))
    assert heard == ["go", "good night", "good morning"]


async def test_a_failure_cancels_the_others_also_where_one_could_still_escalate() -> None:
    late = SequentialAgent("s", [sleeps("b", 1), escalates("c")])
    root = LoopAgent("l", [ParallelAgent("p", [fails("a"), late], stop_when="escalation")], max_iterations=2)
    with pytest.raises(ValueError, match="a failed"):
        await play(root)
