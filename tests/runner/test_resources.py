"""What stays open while a Runner lives: opened once, in a task of the Runner's, closed with it."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from agentflow import FunctionAgent, InvocationContext, ParallelAgent, Runner


class Pool:
    """Hands out numbers; holds a task group open, as a connection does."""

    def __init__(self, *, fails: int = 0, slow_to_close: bool = False) -> None:
        self.log: list[str] = []
        self.fails = fails
        self.slow_to_close = slow_to_close
        self.broken = anyio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[int]:
        if self.fails:
            self.fails -= 1
            raise ConnectionError("nobody there")
        number = sum("open" in line for line in self.log) + 1
        self.log.append(f"open {number}")
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.reads)
                yield number
                tasks.cancel_scope.cancel()
        finally:
            if self.slow_to_close:
                await anyio.sleep_forever()
            self.log.append(f"close {number}")

    async def reads(self) -> None:
        await self.broken.wait()
        raise ConnectionError("lost")


def user(name: str, pool: Pool, **options) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        number = await ctx.resource("pool", pool.open, **options)
        await ctx.emit(ctx.text(f"{name} has {number}"))

    return FunctionAgent(name, turn)


async def texts(runner: Runner) -> list[str]:
    async with runner.run() as run:
        return [event.text async for event in run if event.text]


async def test_it_is_opened_once_when_first_asked_for_and_closed_with_the_runner() -> None:
    pool = Pool()
    async with Runner(ParallelAgent("p", [user(name, pool) for name in "abc"])) as runner:
        assert pool.log == []
        assert sorted(await texts(runner)) == ["a has 1", "b has 1", "c has 1"]
        assert sorted(await texts(runner)) == ["a has 1", "b has 1", "c has 1"]
        assert pool.log == ["open 1"]
    assert pool.log == ["open 1", "close 1"]


async def test_a_runner_that_fails_closes_it_too() -> None:
    pool = Pool()

    async def program() -> None:
        async with Runner(user("a", pool)) as runner:
            await texts(runner)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await program()
    assert pool.log == ["open 1", "close 1"]


async def test_a_runner_that_is_cancelled_closes_it_too() -> None:
    pool = Pool()
    with anyio.CancelScope() as scope:
        async with Runner(user("a", pool)) as runner:
            await texts(runner)
            scope.cancel()
            await anyio.sleep_forever()
    assert pool.log == ["open 1", "close 1"]


async def test_opening_that_fails_is_raised_and_tried_again_by_who_asks_next() -> None:
    pool = Pool(fails=1)
    async with Runner(user("a", pool)) as runner:
        with pytest.raises(ConnectionError, match="nobody there"):
            await texts(runner)
        assert await texts(runner) == ["a has 1"]


async def test_it_is_opened_again_when_it_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool()
    with caplog.at_level(logging.WARNING, logger="agentflow"):
        async with Runner(user("a", pool)) as runner:
            assert await texts(runner) == ["a has 1"]
            pool.broken.set()
            while "close 1" not in pool.log:  # noqa: ASYNC110 - the Runner's task closes it
                await anyio.lowlevel.checkpoint()
            pool.broken = anyio.Event()
            assert await texts(runner) == ["a has 2"]
    assert "pool ended with an error" in caplog.text


async def test_who_has_an_old_one_renews_it_once() -> None:
    pool = Pool()
    both = anyio.Event()
    had: list[int] = []

    async def turn(ctx: InvocationContext) -> None:
        old = await ctx.resource("pool", pool.open)
        had.append(old)
        if len(had) == 2:
            both.set()
        await both.wait()
        await ctx.emit(ctx.text(str(await ctx.resource("pool", pool.open, renew=old))))

    async with Runner(ParallelAgent("p", [FunctionAgent(name, turn) for name in "ab"])) as runner:
        assert await texts(runner) == ["2", "2"]
    assert sorted(pool.log) == ["close 1", "close 2", "open 1", "open 2"]


async def test_what_takes_too_long_to_open_can_be_given_up() -> None:
    @asynccontextmanager
    async def never() -> AsyncGenerator[None]:
        await anyio.sleep_forever()
        yield

    async def turn(ctx: InvocationContext) -> None:
        with anyio.move_on_after(5):
            await ctx.resource("slow", never)
        ctx.drop_resource("slow")
        await ctx.emit(ctx.text("went on"))

    async with Runner(FunctionAgent("a", turn)) as runner:
        assert await texts(runner) == ["went on"]


async def test_closing_that_takes_too_long_is_cancelled() -> None:
    pool = Pool(slow_to_close=True)
    with anyio.fail_after(100):
        async with Runner(user("a", pool), teardown_timeout=3) as runner:
            await texts(runner)


async def test_a_detached_run_keeps_it_open_until_it_has_ended() -> None:
    pool = Pool()
    go_on = anyio.Event()

    async def turn(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("begun"))
        await go_on.wait()
        await ctx.resource("pool", pool.open)
        pool.log.append("used")

    async with Runner(FunctionAgent("a", turn), on_exit="wait") as runner:
        async with runner.run(on_consumer_gone="detach") as run:
            async for _ in run:
                if _.text:
                    break
        go_on.set()
    assert pool.log == ["open 1", "used", "close 1"]
