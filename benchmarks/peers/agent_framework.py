"""agent-framework: a workflow whose start executor fans out to custom executors; it stores nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler

from benchmarks.measure import Sample, sample

logging.disable(logging.WARNING)


class Start(Executor):
    """Hands the message on to every branch."""

    @handler
    async def start(self, message: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(message)


class Speaker(Executor):
    """Yields a number of outputs, after a pause, and hands the message on."""

    def __init__(self, name: str, events: int = 1, pause: float = 0, *, last: bool = True) -> None:
        super().__init__(id=name)
        self.events = events
        self.pause = pause
        self.last = last

    @handler
    async def speak(self, message: str, ctx: WorkflowContext[str, str]) -> None:
        if self.pause:
            await asyncio.sleep(self.pause)
        for _ in range(self.events):
            await ctx.yield_output("hello")
        if not self.last:
            await ctx.send_message(message)


class Join(Executor):
    """Waits for all branches and speaks once."""

    @handler
    async def join(self, messages: list[str], ctx: WorkflowContext[str, str]) -> None:
        await ctx.yield_output("hello")


def _fan(branches: int, events: int, pause: float = 0) -> Workflow:
    speakers = [Speaker(f"s{n}", events, pause) for n in range(branches)]
    start = Start(id="start")
    return WorkflowBuilder(start_executor=start).add_fan_out_edges(start, speakers).build()


async def _run_once(workflow: Workflow) -> int:
    delivered = 0
    async for _ in workflow.run("go", stream=True):
        delivered += 1
    return delivered


def _measure(build: Callable[[], Workflow], work: Callable[[Workflow], Awaitable[int]]) -> Sample:
    return asyncio.run(sample(build, work))


def merge(*, branches: int, events: int) -> Sample:
    """W1; per delivered event."""
    return _measure(lambda: _fan(branches, events), _run_once)


def sequence(*, runs: int) -> Sample:
    """W2; per run."""

    def build() -> Workflow:
        first = Speaker("a", last=False)
        middle: list[Any] = [Speaker(name, last=False) for name in "bcd"]
        last = Join(id="e")
        builder = WorkflowBuilder(start_executor=first)
        return builder.add_fan_out_edges(first, middle).add_fan_in_edges(middle, last).build()

    async def many(workflow: Workflow) -> int:
        for _ in range(runs):
            await _run_once(workflow)
        return runs

    return _measure(build, many)


def wait(*, branches: int, seconds: float) -> Sample:
    """One sleep in every executor; per run."""

    async def once(workflow: Workflow) -> int:
        await _run_once(workflow)
        return 1

    return _measure(lambda: _fan(branches, 1, seconds), once)
