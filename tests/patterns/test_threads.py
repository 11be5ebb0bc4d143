"""Plain functions in patterns run in threads: at once, without holding up anybody, and not waited for in vain."""

import threading
from typing import Any

import anyio
import pytest

from agentflow import Runner
from agentflow.patterns.executor import ParallelExecutor
from agentflow.patterns.fan_out import FanOutFanIn
from agentflow.patterns.graph import GraphAgent, Node
from agentflow.patterns.map_reduce import MapReduceAgent
from agentflow.patterns.splitters import RecordSplitter
from tests.core.actors import play


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Threads don't wait for a clock that jumps."""
    return request.param


class Meeting:
    """Lets nobody pass before all are there: one after the other would never end."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)

    def __call__(self, value: Any = None) -> Any:
        self.barrier.wait(10)
        return f"{value}!"


async def test_plain_functions_really_run_at_the_same_time() -> None:
    with anyio.fail_after(20):
        results = await ParallelExecutor(50).map(Meeting(50), range(50))  # more than anyio's usual forty
        assert [result.output for result in results] == [f"{number}!" for number in range(50)]

        meets = Meeting(3)
        nodes = [Node(lambda: meets("x"), name=name) for name in "abc"]
        played = await play(
            GraphAgent("g", [*nodes, Node(lambda results: sorted(results), name="d", after=["a", "b", "c"])])
        )
        assert played.run.result.output["answer"] == ["a", "b", "c"]

        one = Meeting(2)
        played = await play(FanOutFanIn("f", [one, lambda item: one(item)], splitter=RecordSplitter()), "a\nb")
        assert played.run.result.output["answer"] == ["a!", "b!"]

        mapped = MapReduceAgent("m", mapper=Meeting(4), reducer="+".join, splitter=RecordSplitter(), max_concurrency=4)
        played = await play(mapped, "a\nb\nc\nd")
        assert played.run.result.text == "a!+b!+c!+d!"


async def test_a_function_that_is_out_of_time_is_not_waited_for() -> None:
    go_on = threading.Event()
    try:
        with anyio.fail_after(10):
            (result,) = await ParallelExecutor(timeout=0.05).map(lambda _: go_on.wait(30), [1])
            assert result.status == "timeout"
            nodes = [Node(lambda: go_on.wait(30), name="stuck", timeout=0.05), Node(lambda: "fine", name="other")]
            played = await play(GraphAgent("g", nodes, on_error="collect"))
            statuses = [node["status"] for node in played.run.result.output["branches"]]
            assert statuses == ["timeout", "ok"]
            stuck = GraphAgent("g", [Node(lambda: go_on.wait(30), name="stuck")])
            async with Runner(stuck) as runner, runner.run("go") as run:
                async for event in run:
                    if event.author == "stuck":
                        break
    finally:
        go_on.set()


async def test_what_a_plain_function_returns_may_be_awaited() -> None:
    async def later(value: int) -> int:
        return value + 1

    (result,) = await ParallelExecutor().map(lambda value: later(value), [1])
    assert result.output == 2
