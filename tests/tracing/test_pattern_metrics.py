"""What a pattern's turn took, on its span and as metrics."""

import pytest

from agentflow import ScatterGatherAgent, Voting
from tests.core.actors import play
from tests.patterns.answering import echoes, script
from tests.tracing.spans import Metered, Traced


async def test_a_vote_is_measured(metered: Metered) -> None:
    votes = script("voter", list("aaab"), tokens=100)
    await play(ScatterGatherAgent("vote", votes, n=4, aggregator=Voting(), wave=3))
    points = metered.points()
    labels = {"gen_ai.workflow.name": "vote"}
    for name in ("speedup", "agreement", "synthesis.duration", "scatter.duration", "queue.duration"):
        (point,) = points[f"agentflow.pattern.{name}"]
        assert (dict(point.attributes), point.count) == (labels, 1)
    assert points["agentflow.pattern.agreement"][0].sum == 1
    assert points["agentflow.pattern.saved_calls"][0].value == 1
    assert "agentflow.pattern.quality" not in points
    tokens = {point.attributes["agentflow.branch"]: point.sum for point in points["agentflow.branch.tokens"]}
    assert tokens == {"voter": 100, "voter#2": 100, "voter#3": 100}
    assert sum(point.sum for point in points["agentflow.branch.cost"]) == pytest.approx(0.3)


async def test_the_span_says_it_too_and_the_aggregator_is_linked_to_the_branches(traced: Traced) -> None:
    panel = ScatterGatherAgent("panel", script("v", ["a", "b"]), n=2, aggregator=echoes("writer", reply="ab"))
    await play(panel)
    span = traced.one("invoke_workflow panel")
    assert span.attributes is not None
    assert span.attributes["agentflow.pattern.calls"] == 2
    assert "agentflow.pattern.agreement" not in span.attributes
    branches = {span.context.span_id for span in traced.spans if span.name == "invoke_agent v"}
    assert {link.context.span_id for link in traced.one("invoke_agent writer").links} == branches
