"""Streamed pieces: delivered, never stored, and they publish nothing."""

from agentflow import InvocationContext, agent
from tests.core.actors import play


async def test_a_streamed_piece_leaves_pending_state_to_the_next_stored_event() -> None:
    @agent
    async def typist(ctx: InvocationContext) -> None:
        ctx.state["words"] = 2
        await ctx.emit(ctx.text("one ", partial=True))
        assert ctx.state["words"] == 2
        await ctx.emit(ctx.text("one two"))

    played = await play(typist)
    assert played.session.state == {"words": 2}
    assert [event.text for event in played.events if event.partial] == ["one "]
