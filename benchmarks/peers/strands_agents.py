"""strands-agents: a `Graph` of custom nodes that yield plain dicts; it stores nothing."""

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from strands.multiagent import GraphBuilder
from strands.multiagent.base import MultiAgentBase, MultiAgentResult, Status
from strands.multiagent.graph import Graph

from benchmarks.measure import Sample, sample

logging.disable(logging.WARNING)
warnings.filterwarnings("ignore", message="graph has no")


class Speaker(MultiAgentBase):
    """Yields a number of events, after a pause, then its result."""

    def __init__(self, name: str, events: int = 1, pause: float = 0) -> None:
        super().__init__()
        self.id = name
        self.events = events
        self.pause = pause

    async def invoke_async(
        self, task: Any, invocation_state: dict[str, Any] | None = None, **kwargs: Any
    ) -> MultiAgentResult:
        return MultiAgentResult(status=Status.COMPLETED)

    async def stream_async(
        self, task: Any, invocation_state: dict[str, Any] | None = None, **kwargs: Any
    ) -> AsyncIterator[dict[str, Any]]:
        if self.pause:
            await asyncio.sleep(self.pause)
        for _ in range(self.events):
            yield {"author": self.id, "text": "hello"}
        yield {"result": MultiAgentResult(status=Status.COMPLETED)}


def _fan(branches: int, events: int, pause: float = 0) -> Graph:
    builder = GraphBuilder()
    for n in range(branches):
        builder.add_node(Speaker(f"s{n}", events, pause), f"s{n}")
        builder.set_entry_point(f"s{n}")
    return builder.build()


async def _run_once(graph: Graph) -> int:
    delivered = 0
    async for _ in graph.stream_async("go"):
        delivered += 1
    return delivered


def _measure(build: Callable[[], Graph], work: Callable[[Graph], Awaitable[int]]) -> Sample:
    return asyncio.run(sample(build, work))


def merge(*, branches: int, events: int) -> Sample:
    """W1; per delivered event."""
    return _measure(lambda: _fan(branches, events), _run_once)


def sequence(*, runs: int) -> Sample:
    """W2; per run."""

    def build() -> Graph:
        builder = GraphBuilder()
        for name in "abcde":
            builder.add_node(Speaker(name), name)
        for name in "bcd":
            builder.add_edge("a", name)
            builder.add_edge(name, "e", condition=_all_three)
        builder.set_entry_point("a")
        return builder.build()

    async def many(graph: Graph) -> int:
        for _ in range(runs):
            await _run_once(graph)
        return runs

    return _measure(build, many)


def _all_three(state: Any) -> bool:
    """An edge fires for any finished predecessor; a join has to ask for all of them."""
    return all(name in state.results for name in "bcd")


def wait(*, branches: int, seconds: float) -> Sample:
    """One sleep in every node; per run."""

    async def once(graph: Graph) -> int:
        await _run_once(graph)
        return 1

    return _measure(lambda: _fan(branches, 1, seconds), once)
