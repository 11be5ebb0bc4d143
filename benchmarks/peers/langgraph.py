"""langgraph: nodes that write to the custom stream, with an in-memory checkpointer; one thread per run."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph

from benchmarks.measure import Sample, sample


def _append(old: list[str], new: list[str]) -> list[str]:
    return old + new


class Talk(TypedDict):
    """What the graph keeps: who has spoken."""

    said: Annotated[list[str], _append]


def _speaker(name: str, events: int, pause: float = 0) -> Callable[[Talk], Awaitable[Talk]]:
    async def speak(state: Talk) -> Talk:
        if pause:
            await asyncio.sleep(pause)
        write = get_stream_writer()
        for _ in range(events):
            write({"author": name, "text": "hello"})
        return {"said": [name]}

    return speak


def _fan(branches: int, events: int, pause: float = 0) -> Any:
    graph = StateGraph(Talk)
    for n in range(branches):
        graph.add_node(f"s{n}", _speaker(f"s{n}", events, pause))
        graph.add_edge(START, f"s{n}")
        graph.add_edge(f"s{n}", END)
    return graph.compile(checkpointer=InMemorySaver())


_threads = itertools.count()


async def _run_once(graph: Any) -> int:
    delivered = 0
    config = {"configurable": {"thread_id": str(next(_threads))}, "max_concurrency": None}
    async for _ in graph.astream({"said": []}, config, stream_mode="custom"):
        delivered += 1
    return delivered


def _measure(build: Callable[[], Any], work: Callable[[Any], Awaitable[int]]) -> Sample:
    return asyncio.run(sample(build, work))


def merge(*, branches: int, events: int) -> Sample:
    """W1; per delivered event."""
    return _measure(lambda: _fan(branches, events), _run_once)


def sequence(*, runs: int) -> Sample:
    """W2; per run."""

    def build() -> Any:
        graph = StateGraph(Talk)
        for name in "abcde":
            graph.add_node(name, _speaker(name, 1))
        graph.add_edge(START, "a")
        for name in "bcd":
            graph.add_edge("a", name)
        graph.add_edge(["b", "c", "d"], "e")
        graph.add_edge("e", END)
        return graph.compile(checkpointer=InMemorySaver())

    async def many(graph: Any) -> int:
        for _ in range(runs):
            await _run_once(graph)
        return runs

    return _measure(build, many)


def wait(*, branches: int, seconds: float) -> Sample:
    """One sleep in every node; per run."""

    async def once(graph: Any) -> int:
        await _run_once(graph)
        return 1

    return _measure(lambda: _fan(branches, 1, seconds), once)
