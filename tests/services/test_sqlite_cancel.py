"""A stored run is cancelled at every step of every task: no hang, no lost acknowledgement, and the next turn works.

What must hold is in `tests/faults/sweep.py`. Time is real here, since the store's threads take some: the trees are
those that never sleep.
"""

import asyncio
import os
import shutil
from pathlib import Path

import anyio
import pytest

from agentflow import SQLiteStore
from tests.faults.checks import Spans, install
from tests.faults.clocks import JumpyLoop
from tests.faults.sweep import Case, told
from tests.faults.trees import TREES

STEP = int(os.environ.get("AGENTFLOW_STEP", "23"))
"""Every so many steps are tried; 1 is every one."""

KINDS = ["step: cancel", "step: cancel the consumer", "step: cancel everything", "step: cancel natively", "seam: raise"]


class CountingLoop(JumpyLoop):
    """Tells of each callback it runs; time is as ever."""

    def __init__(self) -> None:
        self.tick = None
        asyncio.SelectorEventLoop.__init__(self)

    def time(self) -> float:
        return asyncio.SelectorEventLoop.time(self)


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return request.param, {"loop_factory": CountingLoop} if request.param == "asyncio" else {}


@pytest.mark.parametrize("tree", ["line", "nested", "editor", "team"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stored_run_that_is_cancelled_at_any_step_ends_well(
    tree: str, kind: str, monkeypatch: pytest.MonkeyPatch, empty: Path, tmp_path: Path, anyio_backend
) -> None:
    if kind == "step: cancel natively" and anyio_backend[0] == "trio":
        return  # trio has no other cancellation than that of scopes
    spans = Spans()
    install(monkeypatch, spans)
    stores = []

    def make():
        stores.append(SQLiteStore(shutil.copy(empty, tmp_path / f"{len(stores)}.db")))
        return stores[-1].sessions

    case = Case(TREES[tree], kind, spans, make)
    wrong: list[str] = []
    fired, at = True, 1
    while fired:
        with anyio.fail_after(60):
            fired, problems = await case.at(at)
            wrong += [problem for problem in problems if " s to stop" not in problem]  # real seconds pass
            wrong += [f"{kind} at {at}: {problem}" for problem in await stores[-1].check()]
            await stores[-1].aclose()
        stores[-1].path.unlink()
        at += STEP
    assert at > 15
    assert not wrong, told(wrong)
