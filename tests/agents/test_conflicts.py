"""Two branches that write one key: a reducer, an error, or the last word and a warning."""

import operator

import pytest

from agentflow import FunctionAgent, InvocationContext, ParallelAgent, SequentialAgent
from tests.core.actors import play


def sets(name: str, key: str, value: object) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        ctx.state[key] = value
        await ctx.emit(ctx.text(name))

    return FunctionAgent(name, turn)


@pytest.mark.parametrize(
    "key",
    [
        "n",
        "user:n",
        "app:n",
        "temp:n",
    ],
)
async def test_contributions_are_folded_on_top_of_what_was_there(key: str) -> None:
    found = []

    async def look(ctx: InvocationContext) -> None:
        found.append(ctx.state[key])

    votes = ParallelAgent("p", [sets("a", key, 1), sets("b", key, 2)], on_conflict={key: operator.add})
    played = await play(SequentialAgent("s", [sets("init", key, 10), votes, FunctionAgent("look", look)]))
    assert found == [13]
    assert played.session.state == ({key: 13} if key != "temp:n" else {})
    if key == "temp:n":
        assert not [event for event in played.session.events if event.actions and event.actions.contributions]
