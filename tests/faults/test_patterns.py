"""A fault at every step of the patterns: nothing is left behind, every branch has one end, the next turn works."""

import pytest

from agentflow import (
    CompetitionAgent,
    Consensus,
    DecompositionAgent,
    Hedge,
    InMemorySessionService,
    ScatterGatherAgent,
    SequentialAgent,
    Voting,
)
from tests.core.actors import fails, says, sleeps
from tests.faults.checks import Spans
from tests.faults.sweep import Case, SlowStore, told
from tests.patterns.answering import Fails, answers, echoes, script

PANEL = ScatterGatherAgent(
    "panel",
    [says("x", "1"), fails("y"), sleeps("z", 50)],
    aggregator=echoes("writer", reply="ok"),
    deadline=10,
    max_concurrency=2,
)
TREES = {
    "vote": ScatterGatherAgent(
        "vote",
        script("v", ["a", Fails(), "b", "a", "a"], after=[1, 1, 2, 3, 90]),
        n=5,
        wave=4,
        aggregator=Voting(),
        hedge=Hedge(after=0.5),
        deadline=200,
    ),
    "synthesis": SequentialAgent("s", [PANEL, says("after", "bye")]),
    "consensus": ScatterGatherAgent(
        "talk", [answers("x", "red"), echoes("y", reply="blue")], aggregator=Consensus(rounds=1)
    ),
    "competition": CompetitionAgent(
        "contest",
        script("c", ["a", "abc", "ab"], after=[1, 2, 3]),
        n=3,
        judge=echoes("judge", reply={"scores": [0.5]}),
        good_enough=0.9,
    ),
    "bracket": CompetitionAgent(
        "cup", script("c", list("abcd")), n=4, judge=echoes("judge", reply='{"winner": 2}'), bracket=2
    ),
    "decomposition": DecompositionAgent(
        "plan",
        decomposer=lambda task: ["leaf"] if task == "deep" else [{"task": "deep", "split": True}, "leaf"],
        specialists=says("w", "done"),
        max_depth=2,
        aggregator=echoes("writer", reply="whole"),
    ),
}


@pytest.fixture(params=TREES)
def tree(request: pytest.FixtureRequest):
    return TREES[request.param]


@pytest.mark.parametrize(
    "kind", ["seam: cancel", "seam: raise", "seam: hang", "event: break", "event: cancel", "step: cancel"]
)
async def test_a_fault_at_every_step_of_a_pattern_leaves_nothing_behind(tree, kind, spans: Spans) -> None:
    stride = 3 if kind.startswith("step") else 1
    points, problems = await Case(tree, kind, spans, InMemorySessionService).sweep(stride)
    assert points > 10
    assert not problems, told(problems)


@pytest.mark.parametrize("kind", ["seam: raise", "step: cancel everything"])
async def test_nor_does_it_with_a_store_that_takes_its_time(tree, kind, spans: Spans) -> None:
    stride = 7 if kind.startswith("step") else 2
    _, problems = await Case(tree, kind, spans, SlowStore).sweep(stride)
    assert not problems, told(problems)
