"""Limits on model calls where several are under way at once."""

from collections import deque

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow import (
    Event,
    InMemorySessionService,
    InvocationContext,
    LimitExceeded,
    Limits,
    LlmAgent,
    LoopAgent,
    ModelError,
    ParallelAgent,
    Plugin,
    Runner,
    SequentialAgent,
)
from agentflow.testing import FunctionModel
from tests.core.actors import play, read


class Gate:
    """A model that answers when it is let; a call may be told to fail."""

    def __init__(self, *failures: Exception | None) -> None:
        self.begun = 0
        self.open = anyio.Event()
        self.failures = deque(failures)
        self.model = FunctionModel(self.answer, stream=False)

    async def answer(self, request: object) -> str:
        self.begun += 1
        failure = self.failures.popleft() if self.failures else None
        if failure is not None:
            raise failure
        await self.open.wait()
        return "answer"


class LateStore(InMemorySessionService):
    """Takes its time before and after it writes."""

    async def append(self, key, events, *, expected_version=None) -> None:
        for _ in range(3):
            await checkpoint()
        await super().append(key, events, expected_version=expected_version)
        for _ in range(3):
            await checkpoint()


@pytest.mark.parametrize("store", [InMemorySessionService, LateStore])
@pytest.mark.parametrize("most", [1, 2, 5])
async def test_calls_that_are_under_way_count(most: int, store: type[InMemorySessionService]) -> None:
    gate = Gate()

    async def see_to_it(ctx: InvocationContext) -> None:
        if ctx.agent.name == f"a{most}":
            gate.open.set()

    crowd = ParallelAgent(
        "p", [LlmAgent(f"a{n}", model=gate.model, before_agent=see_to_it) for n in range(6)], on_error="collect"
    )
    with pytest.raises((LimitExceeded, ExceptionGroup)) as caught:  # one, or all that found it at the same time
        await play(crowd, sessions=store(), limits=Limits(model_calls=most))
    assert gate.begun == most
    errors = [caught.value] if isinstance(caught.value, LimitExceeded) else caught.value.exceptions
    assert all(isinstance(error, LimitExceeded) and error.limit == "model_calls" for error in errors)


async def test_the_error_says_how_many_are_under_way() -> None:
    gate = Gate()
    pair = ParallelAgent("p", [LlmAgent("a", model=gate.model), LlmAgent("b", model=gate.model)])
    with pytest.raises(LimitExceeded, match=r"spent: .*; model calls under way: 1$") as caught:
        await play(pair, limits=Limits(model_calls=1))
    assert caught.value.agent == "p.b"


@pytest.mark.parametrize("plugins", [[], ["forgets usage"]], ids=["", "plugin"])
@pytest.mark.parametrize("store", [InMemorySessionService, LateStore])
async def test_as_many_calls_as_are_allowed_are_made_however_slow_who_reads_is(
    store: type[InMemorySessionService], plugins: list[str]
) -> None:
    """No call counts twice: not while its answer is on its way, and not when a plugin takes its usage away."""

    class Forgets(Plugin):
        async def on_event(self, ctx: InvocationContext, event: Event) -> Event | None:
            return event.model_copy(update={"usage": None}) if event.usage is not None else None

    gate = Gate()
    gate.open.set()
    agents = [LlmAgent(f"a{n}", model=gate.model) for n in range(3)]
    team = ParallelAgent("p", [LoopAgent(f"l{n}", [one], max_iterations=2) for n, one in enumerate(agents)])
    given = [Forgets()] if plugins else []
    async with (
        Runner(team, sessions=store(), plugins=given) as runner,
        runner.run("go", limits=Limits(model_calls=6)) as run,
    ):
        async for _ in run:
            await anyio.sleep(1)
    assert (run.status, gate.begun) == ("ok", 6)


@pytest.mark.parametrize("error", [ModelError("down", kind="server"), ValueError("no")])
async def test_a_call_that_fails_and_costs_nothing_leaves_its_place_to_another(error: Exception) -> None:
    gate = Gate(error)
    gate.open.set()
    pair = ParallelAgent("p", [LlmAgent("a", model=gate.model, retry=2)])
    played = await play(SequentialAgent("s", [pair]), limits=Limits(model_calls=1))
    assert (played.run.result.usage.model_calls, gate.begun) == (1, 2)


async def test_a_call_that_is_cancelled_leaves_its_place_to_another() -> None:
    gate = Gate()
    slow = ParallelAgent("p", [LlmAgent("a", model=gate.model)], branch_timeout=1, on_error="collect")

    async def open_up(ctx: InvocationContext) -> None:
        gate.open.set()

    again = LlmAgent("b", model=gate.model, before_agent=open_up)
    played = await play(SequentialAgent("s", [slow, again]), limits=Limits(model_calls=1))
    assert (played.run.status, gate.begun) == ("ok", 2)


async def test_each_run_counts_its_own() -> None:
    gate = Gate()
    root = LlmAgent("a", model=gate.model)
    async with Runner(root, limits=Limits(model_calls=1)) as runner, anyio.create_task_group() as tasks:
        for session in "xyz":
            tasks.start_soon(read, runner.run("go", session_id=session))
        await anyio.wait_all_tasks_blocked()
        assert gate.begun == 3
        gate.open.set()
