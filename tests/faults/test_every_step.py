"""A fault at every step: whatever happens, wherever, nothing is left behind and the session's next turn works.

Each test runs one tree again and again, with one kind of fault at the first point, the second, ... until the run ends
before it. What must hold afterwards is in `checks.py`; points and faults are in `sweep.py`, the trees in `trees.py`.
"""

import pytest

from agentflow import InMemorySessionService
from tests.faults.checks import Spans
from tests.faults.sweep import Busybody, Case, SlowStore, told
from tests.faults.trees import TREES

KINDS = [
    "seam: cancel",
    "seam: raise",
    "seam: hang",
    "seam: hang, then raise",
    "event: break",
    "event: raise",
    "event: close",
    "event: cancel",
    "step: cancel",
    "step: cancel the consumer",
    "step: cancel everything",
    "step: cancel natively",
]


@pytest.fixture(params=TREES)
def tree(request: pytest.FixtureRequest):
    return TREES[request.param]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_at_every_step_leaves_nothing_behind(tree, kind, spans: Spans, anyio_backend) -> None:
    if kind == "step: cancel natively" and anyio_backend[0] == "trio":
        return  # trio has no other cancellation than that of scopes
    points, problems = await Case(tree, kind, spans, InMemorySessionService).sweep()
    assert points > 10
    assert not problems, told(problems)


@pytest.mark.parametrize("kind", ["seam: raise", "seam: hang, then raise", "event: break", "step: cancel"])
async def test_nor_does_it_with_a_store_that_takes_its_time(tree, kind, spans: Spans) -> None:
    stride = 3 if kind.startswith("step") else 1
    _, problems = await Case(tree, kind, spans, SlowStore).sweep(stride)
    assert not problems, told(problems)


@pytest.mark.parametrize("kind", ["seam: raise", "event: break", "step: cancel"])
async def test_nor_with_plugins_that_do_and_agents_that_go_ahead(tree, kind, spans: Spans) -> None:
    stride = 5 if kind.startswith("step") else 2
    _, problems = await Case(tree, kind, spans, SlowStore, [Busybody()], lookahead=2).sweep(stride)
    assert not problems, told(problems)
