"""What graphs, map-reduces and pools took, on their spans and as metrics; and how their spans hang together."""

import pytest

from agentflow import Agent, FanOutFanIn, GraphAgent, MapReduceAgent, Node, RecordSplitter
from tests.core.actors import play, says
from tests.tracing.spans import Metered, Traced


async def word() -> str:
    return "word"


async def shout(piece: str) -> str:
    return piece.upper()


async def join(results: list[str]) -> str:
    return "".join(results)


def graph() -> Agent:
    return GraphAgent("flow", [Node(word), Node(says("b", "x"), after=word), Node(says("c", "y"), when=lambda: False)])


def mapped() -> Agent:
    return MapReduceAgent("flow", mapper=shout, reducer=join, splitter=RecordSplitter(), fan_in=2)


def pool() -> Agent:
    return FanOutFanIn("flow", [shout])


@pytest.mark.parametrize(("make", "calls"), [(graph, 2), (mapped, 5), (pool, 3)])
async def test_a_flow_is_measured_and_its_branches_are_spans_below_it(
    traced: Traced, metered: Metered, make: type[Agent], calls: int
) -> None:
    await play(make(), "a\nb\nc")
    span = traced.one("invoke_workflow flow")
    assert span.attributes is not None
    assert span.attributes["agentflow.pattern.calls"] == calls
    assert span.attributes["agentflow.pattern.speedup"] > 0
    (point,) = metered.points()["agentflow.pattern.speedup"]
    assert dict(point.attributes) == {"gen_ai.workflow.name": "flow"}
    below = [one for one in traced.spans if one.parent is not None and one.parent.span_id == span.context.span_id]
    assert len([one for one in below if one.name.startswith("invoke_agent")]) == calls
