"""Callbacks before and after an agent's turn."""

import pytest

from agentflow import ConfigError, Event, InvalidEvent, InvocationContext, ParallelAgent, SequentialAgent
from tests.core.actors import fails, flaky, play, says


async def test_callbacks_run_in_order_around_the_turn() -> None:
    diary: list[str] = []

    async def late(ctx: InvocationContext) -> None:
        diary.append(f"async {ctx.agent.name}")

    played = await play(
        says(
            "a", "x", before_agent=[lambda ctx: diary.append("one"), late], after_agent=lambda ctx: diary.append("end")
        )
    )
    assert diary == ["one", "async a", "end"]
    assert played.texts == ["x"]


@pytest.mark.parametrize("reply", ["instead", Event(parts="instead")])
async def test_what_a_callback_before_returns_stands_for_the_turn(reply) -> None:
    diary: list[str] = []
    callbacks = [lambda ctx: None, lambda ctx: reply, lambda ctx: diary.append("never")]
    played = await play(says("a", "x", before_agent=callbacks, after_agent=lambda ctx: diary.append("never")))
    assert [(event.author, event.text) for event in played.events if event.text] == [("a", "instead")]
    assert diary == []
    assert played.records("agent_complete")[0].outcome == "ok"


async def test_what_callbacks_after_return_is_said_too() -> None:
    played = await play(says("a", "x", after_agent=lambda ctx: "p.s."))
    assert played.texts == ["x", "p.s."]
    assert played.run.result.text == "p.s."


async def test_callbacks_belong_to_workflows_too() -> None:
    group = ParallelAgent("p", [says("a", "x")], before_agent=lambda ctx: "cached")
    played = await play(SequentialAgent("s", [group, says("b", "y")], after_agent=lambda ctx: "done"))
    assert played.texts == ["cached", "y", "done"]
    assert played.records("scatter_start") == []


async def test_callbacks_after_are_not_called_for_a_turn_that_failed() -> None:
    diary: list[str] = []
    with pytest.raises(ValueError, match="a failed"):
        await play(fails("a", after_agent=lambda ctx: diary.append("never")))
    assert diary == []


async def test_callbacks_are_part_of_what_is_tried_again() -> None:
    diary: list[str] = []
    await play(flaky("a", 1, retry=2, before_agent=lambda ctx: diary.append("before")))
    assert diary == ["before", "before"]


async def test_a_callback_may_write_state() -> None:
    def note(ctx: InvocationContext) -> None:
        ctx.state["n"] = ctx.state.get("n", 0) + 1

    played = await play(says("a", "x", before_agent=note, after_agent=note))
    assert played.session.state == {"n": 2}


async def test_an_error_in_a_callback_is_the_agent_s() -> None:
    def bad(ctx: InvocationContext) -> None:
        raise ValueError("callback failed")

    for where in ("before_agent", "after_agent"):
        with pytest.raises(ValueError, match="callback failed") as caught:
            await play(ParallelAgent("p", [says("a", "x", **{where: bad})]))
        assert any("'p.a'" in note for note in caught.value.__notes__)


async def test_a_callback_that_returns_something_else_is_an_error_that_says_so() -> None:
    with pytest.raises(InvalidEvent, match="'a'"):
        await play(says("a", "x", before_agent=lambda ctx: {"text": "x"}))


@pytest.mark.parametrize(
    "bad",
    [
        "name",
        [3],
        [None],
        3,
    ],
)
def test_what_is_no_callback_is_refused(bad) -> None:
    with pytest.raises(ConfigError, match="before_agent"):
        says("a", before_agent=bad)
