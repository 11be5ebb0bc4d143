"""Work in a context of its own, without a task of its own."""

from contextvars import ContextVar, copy_context

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow._generators import in_context

colour: ContextVar[str] = ContextVar("colour", default="none")


async def test_what_is_set_inside_stays_inside_at_every_step() -> None:
    seen = []

    async def work() -> str:
        for name in ("red", "blue"):
            seen.append(colour.get())
            colour.set(name)
            await checkpoint()
        return colour.get()

    colour.set("green")
    context = copy_context()
    assert await in_context(context, work()) == "blue"
    assert seen == ["green", "red"]
    assert (colour.get(), context[colour]) == ("green", "blue")


async def test_what_happens_outside_is_thrown_in() -> None:
    steps = []

    async def work() -> None:
        colour.set("red")
        try:
            await anyio.sleep_forever()
        finally:
            steps.append(colour.get())
            with anyio.CancelScope(shield=True):
                await checkpoint()
            steps.append(colour.get())

    async def outside() -> None:
        await in_context(copy_context(), work())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outside)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert steps == ["red", "red"]


async def test_it_goes_on_after_what_it_caught() -> None:
    async def work() -> list[str]:
        colour.set("red")
        seen = []
        for _ in range(2):
            with anyio.move_on_after(0):
                await anyio.sleep_forever()
            seen.append(colour.get())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(checkpoint)
        return seen

    assert await in_context(copy_context(), work()) == ["red", "red"]


async def test_what_it_raises_is_raised_as_it_is() -> None:
    async def work() -> None:
        await checkpoint()
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost") as caught:
        await in_context(copy_context(), work())
    assert caught.value.__context__ is None
