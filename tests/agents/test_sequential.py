"""One after the other."""

import pytest

from agentflow import ConfigError, LoopAgent, ParallelAgent, SequentialAgent
from tests.core.actors import escalates, fails, hears, play, says


async def test_each_agent_begins_when_the_one_before_it_has_ended() -> None:
    played = await play(SequentialAgent("s", [says("a", "one"), says("b", "two")]))
    assert played.story == [
        "agent_start s",
        "agent_start a",
        "a: one",
        "agent_complete a",
        "agent_start b",
        "b: two",
        "agent_complete b",
        "agent_complete s",
    ]
    assert {event.branch for event in played.events} == {""}
    assert [event.path for event in played.events if event.text] == ["s.a", "s.b"]


async def test_each_agent_hears_what_those_before_it_said() -> None:
    heard: list[str] = []
    await play(SequentialAgent("s", [says("a", "one"), SequentialAgent("t", [says("b", "two")]), hears("c", heard)]))
    assert heard == ["go", "one", "two"]


async def test_an_error_ends_the_sequence() -> None:
    root = SequentialAgent("s", [says("a", "one"), fails("b", "two"), says("c", "never")])
    with pytest.raises(ValueError, match="b failed") as caught:
        await play(root)
    assert any("in agent 's.b'" in note for note in caught.value.__notes__)


async def test_an_escalation_without_a_loop_changes_nothing() -> None:
    played = await play(SequentialAgent("s", [escalates("a"), says("b", "two")]))
    assert played.texts == ["enough", "bye", "two"]


async def test_an_escalation_ends_the_sequence_that_the_loop_runs() -> None:
    inner = SequentialAgent("s", [escalates("a"), says("b", "never")])
    played = await play(SequentialAgent("t", [LoopAgent("l", [inner], max_iterations=3), says("c", "on we go")]))
    assert played.texts == ["enough", "bye", "on we go"]


async def test_the_result_is_what_was_said_last() -> None:
    played = await play(SequentialAgent("s", [says("a", "one"), says("b", "two"), says("silent")]))
    assert (played.run.result.text, played.run.result.output) == ("two", "two")


def test_a_sequence_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        SequentialAgent("s", [])


async def test_a_deep_tree_works() -> None:
    root = says("leaf", "deep")
    for depth in range(40):
        root = ParallelAgent(f"p{depth}", [root]) if depth % 2 else SequentialAgent(f"s{depth}", [root])
    played = await play(root)
    assert played.run.result.text == "deep"
    assert len(next(event for event in played.events if event.text).segments) == 40
