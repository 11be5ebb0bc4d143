"""A store that fails, or a cancellation, at every step of a run that pauses and of the one that answers it."""

from itertools import count

import anyio
import pytest

from agentflow import (
    Agent,
    AnswerRefused,
    InMemorySessionService,
    ParallelAgent,
    Runner,
    SequentialAgent,
    ServiceError,
    SessionKey,
    ToolResult,
    tool,
)
from agentflow.testing import FailingSessionService, FaultScheduler
from tests.core.actors import says
from tests.tools.callers import caller
from tests.tools.test_pause import asks

KEY = SessionKey("s", "user", "s")


@tool(require_confirmation=True)
async def pay() -> str:
    return "paid"


def tree() -> Agent:
    group = ParallelAgent("p", [asks("a", "A"), caller("c", [pay], [("pay", {})])])
    return SequentialAgent("s", [says("first", "draft"), group, says("last", "done")])


async def paused(store: InMemorySessionService) -> dict[str, object]:
    """Run the tree until it waits; gives its questions' answers."""
    async with Runner(tree(), sessions=store) as runner, runner.run("go", session_id="s") as run:
        result = await run.wait()
    assert len(result.pending) == 2
    return {question.id: True for question in result.pending}


async def test_a_store_that_fails_while_a_run_pauses_fails_it_and_the_session_can_be_used() -> None:
    for k in count(1):
        inner = InMemorySessionService()
        store = FailingSessionService(inner, fail_at=k, calls=["append"])
        failed = False
        with anyio.fail_after(100):
            async with Runner(tree(), sessions=store) as runner:
                try:
                    async with runner.run("go", session_id="s") as run:
                        await run.wait()
                except ServiceError:
                    failed = True
                if not failed:
                    return
                async with runner.run("again", session_id="s") as run:
                    assert (await run.wait()).status == "paused"


async def test_a_store_that_fails_while_a_run_is_answered_loses_no_answer_that_it_has_not_taken() -> None:
    again = refused = 0
    for k in count(1):
        inner = InMemorySessionService()
        answers = await paused(inner)
        store = FailingSessionService(inner, fail_at=k, calls=["append"])
        with anyio.fail_after(100):
            async with Runner(tree(), sessions=store) as runner:
                try:
                    async with runner.run(session_id="s", answers=answers) as run:
                        await run.wait()
                except ServiceError:
                    pass
                if not store.failed:
                    break
                try:
                    async with runner.run(session_id="s", answers=answers) as run:
                        assert (await run.wait()).text == "done"
                    again += 1
                except AnswerRefused:  # it had been stored, and the run has failed since
                    refused += 1
                session = await inner.get(KEY)
        assert session is not None
        told = [part for event in session.events if event.author == "user" for part in event.parts]
        given = [part.id for part in told if type(part) is ToolResult]
        assert sorted(given) == sorted(answers)
    assert again == 2  # nothing was stored; the answers were, and the run had not begun again
    assert refused > 5


@pytest.mark.parametrize("answering", [False, True])
async def test_a_run_that_is_cancelled_at_any_step_ends_and_answers_its_calls(answering: bool) -> None:
    for k in count(1):
        store = InMemorySessionService()
        answers = await paused(store) if answering else None
        fault = FaultScheduler(k, lambda: run.cancel("enough"))
        with anyio.fail_after(100):
            runner = Runner(tree(), sessions=store, scheduler=fault)
            async with runner, runner.run(None if answering else "go", session_id="s", answers=answers) as run:
                result = await run.wait()
        by_itself = "ok" if answering else "paused"  # as it may, too, when it is cancelled with its last step
        assert result.status in ((by_itself, "cancelled") if fault.hit else (by_itself,))
        if fault.hit is None:
            return
        session = await store.get(KEY)
        assert session is not None
        starts = [event.path for event in session.events if event.lifecycle and event.lifecycle.name.endswith("_start")]
        ends = [event.path for event in session.events if event.lifecycle and "complete" in event.lifecycle.name]
        groups = ["s.p"] * (starts.count("s.p") - ends.count("s.p"))  # a group that is still open
        assert sorted(starts) == sorted(ends + groups)
