"""The same faults at every step of graphs, map-reduces and pools; see `test_every_step.py`."""

import operator

import pytest

from agentflow import Agent, FanOutFanIn, GraphAgent, InMemorySessionService, MapReduceAgent, Node
from agentflow.patterns.aggregate import Synthesis
from tests.core.actors import fails, flaky, says, sleeps, writes, yields
from tests.faults.checks import Spans
from tests.faults.sweep import Case, SlowStore, told
from tests.faults.test_every_step import KINDS
from tests.faults.trees import Cleaner


async def shout(piece: str) -> str:
    return piece.upper()


async def pick(results: dict[str, str]) -> str:
    return " ".join(results)


async def four(source: str):
    for piece in "abcd":
        yield piece


FLOWS: dict[str, Agent] = {
    "graph": GraphAgent(
        "graph",
        [
            Node(yields("a", "one", "two"), routes={"two": "b", "*": "c"}),
            Node(writes("b", votes=1)),
            Node(says("c", "never")),
            Node(Cleaner("d"), after="a", priority=2),
            Node(fails("e", "three"), after="a"),
            Node(sleeps("f", 5), timeout=2),
            Node(flaky("g", 1), after=["b", "e", "f"], join="ended", retry=2),
            Node(pick, after=["g", "d"]),
        ],
        max_concurrency=2,
        on_error="collect",
        on_conflict={"votes": operator.add},
    ),
    "strict": GraphAgent("strict", [says("a", "x"), Node(Cleaner("b"), after="a"), Node(pick, after=["a", "b"])]),
    "map": MapReduceAgent(
        "map", mapper=yields("m", "one"), reducer=says("r", "sum"), splitter=four, fan_in=2, max_concurrency=2
    ),
    "lossy": MapReduceAgent(
        "lossy", mapper=flaky("m", 1), reducer=says("r", "sum"), splitter=four, on_error="collect", chunk_retry=2
    ),
    "pool": FanOutFanIn(
        "pool",
        [shout, Cleaner("c"), yields("y", "one")],
        splitter=four,
        aggregator=Synthesis(says("s", "all")),
        dispatch="round_robin",
    ),
}
"""Each ends by itself, and well, when nothing is done to it."""


@pytest.fixture(params=FLOWS)
def flow(request: pytest.FixtureRequest) -> Agent:
    return FLOWS[request.param]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_at_every_step_leaves_nothing_behind(flow: Agent, kind: str, spans: Spans, anyio_backend) -> None:
    if kind == "step: cancel natively" and anyio_backend[0] == "trio":
        return  # trio has no other cancellation than that of scopes
    stride = 3 if kind.startswith("step") else 1
    points, problems = await Case(flow, kind, spans, InMemorySessionService).sweep(stride)
    assert points > 10
    assert not problems, told(problems)


@pytest.mark.parametrize("kind", ["seam: hang, then raise", "event: break", "step: cancel"])
async def test_nor_does_it_with_a_store_that_takes_its_time(flow: Agent, kind: str, spans: Spans) -> None:
    stride = 5 if kind.startswith("step") else 2
    _, problems = await Case(flow, kind, spans, SlowStore).sweep(stride)
    assert not problems, told(problems)
