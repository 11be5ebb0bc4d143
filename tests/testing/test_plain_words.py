"""Plain words take a short way through `emit`: what is delivered and stored is what the long way gives."""

from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from agentflow import Event, InMemorySessionService, InvalidEvent, InvocationContext, Plugin, Runner, Text, agent
from agentflow.testing import FakeClock, counting_ids
from tests.core.actors import read

WORDS = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(["x" * 200, "\0", "é", "\ud800"])
HOW = st.sampled_from(["stored", "partial", "twice", "late", "changed", "with state"])
SAYINGS = st.lists(st.tuples(WORDS, HOW, st.sampled_from([None, "resp-1", "bad\0"])), max_size=6)


class Looks(Plugin):
    """Does nothing; but with it every event takes the long way."""

    async def on_event(self, ctx: InvocationContext, event: Event) -> None:
        return None


def speaker(sayings: list[tuple[str, str, str | None]]) -> Any:
    @agent(name="a")
    async def says(ctx: InvocationContext) -> None:
        waiting = []
        for text, how, response_id in sayings:
            event = ctx.text(text, partial=how == "partial", response_id=response_id)
            if how == "changed":
                event.parts[0].text += "\0é"
            if how == "with state":
                ctx.state["last"] = text
            if how == "late":
                waiting.append(event)
            else:
                await ctx.emit(event)
            if how == "twice":
                await ctx.emit(event)
        for event in waiting:
            await ctx.emit(event)

    return says


async def told(sayings: list[tuple[str, str, str | None]], plugins: list[Plugin]) -> tuple[list[str], list[str], Any]:
    """What was delivered and what was stored, as JSON, and the last words."""
    time = FakeClock(100.0)
    sessions = InMemorySessionService(time=time)
    runner = Runner(
        speaker(sayings),
        sessions=sessions,
        plugins=plugins,
        time=time,
        new_id=counting_ids("run"),
        max_event_bytes=2048,
    )
    async with runner, runner.run("go", session_id="s") as run:
        delivered = [event.to_json() async for event in run if not event.lifecycle]
    session = await sessions.get(run.session)
    assert session is not None
    return delivered, [event.to_json() for event in session.events if not event.lifecycle], run.result.text


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(SAYINGS)
@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_the_short_way_gives_what_the_long_way_gives(backend: str, sayings: list[tuple[str, str, str | None]]) -> None:
    short = anyio.run(told, sayings, [], backend=backend)
    long = anyio.run(told, sayings, [Looks()], backend=backend)
    assert short == long


async def test_words_that_were_said_before_are_another_event() -> None:
    @agent
    async def repeats(ctx: InvocationContext) -> None:
        event = ctx.text("again")
        for _ in range(3):
            await ctx.emit(event)

    async with Runner(repeats) as runner, runner.run("go") as run:
        said = [event async for event in run if event.text]
    assert [event.text for event in said] == ["again"] * 3
    assert len({event.id for event in said}) == len({event.serial for event in said}) == 3


async def test_what_became_too_large_after_it_was_made_is_refused() -> None:
    @agent
    async def grows(ctx: InvocationContext) -> None:
        event = ctx.text("x")
        part = event.parts[0]
        assert isinstance(part, Text)
        part.text = "x" * 3000
        await ctx.emit(event)

    async with Runner(grows, max_event_bytes=2048) as runner:
        with pytest.raises(InvalidEvent, match=r"the limit is 2,048"):
            await read(runner.run("go"))
