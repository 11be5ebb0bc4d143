"""Tasks at once: in their order, each with its outcome, error and timing; alone, and as branches of a run."""

import anyio
import pytest

from agentflow import AgentTimeout, ConfigError, InvocationContext, Retry, agent
from agentflow.patterns.executor import ParallelExecutor, Task, TaskResult
from tests.core.actors import fails, play, says


async def nap(seconds: float) -> float:
    await anyio.sleep(seconds)
    return seconds


async def picky(number: int) -> int:
    if number == 2:
        raise ValueError("two")
    return number * 10


async def test_results_are_in_the_order_of_the_tasks_whoever_is_faster() -> None:
    results = await ParallelExecutor(3).map(nap, [3, 1, 2])
    assert [result.output for result in results] == [3, 1, 2]
    assert [result.index for result in results] == [0, 1, 2]
    assert [round(result.seconds) for result in results] == [3, 1, 2]


async def test_a_failed_task_fails_nobody_else() -> None:
    results = await ParallelExecutor().map(picky, [1, 2, 3])
    assert [result.status for result in results] == ["ok", "error", "ok"]
    assert [result.output for result in results] == [10, None, 30]
    assert isinstance(results[1].error, ValueError)
    assert [result.ok for result in results] == [True, False, True]


@pytest.mark.parametrize("cap", [1, 2, 5])
async def test_at_most_so_many_at_once_first_come_first_served(cap: int) -> None:
    began = anyio.current_time()
    results = await ParallelExecutor(cap).map(nap, [1] * 6)
    assert anyio.current_time() - began == pytest.approx(-(-6 // cap), abs=0.01)
    assert [round(result.queue_seconds) for result in results] == [place // cap for place in range(6)]


async def test_each_task_has_its_time_and_its_tries() -> None:
    tries: list[int] = []

    async def stubborn(number: int) -> str:
        tries.append(number)
        if len(tries) < 3:
            raise ValueError("not yet")
        return "at last"

    (result,) = await ParallelExecutor(retry=3).map(stubborn, [1])
    assert (result.status, result.output, len(tries)) == ("ok", "at last", 3)
    (result,) = await ParallelExecutor(retry=Retry(attempts=2, delay=5), timeout="3s").map(picky, [2])
    assert (result.status, round(result.seconds)) == ("timeout", 3)
    slow, quick = await ParallelExecutor(timeout=2).map(nap, [9, 1])
    assert (slow.status, quick.status) == ("timeout", "ok")
    assert isinstance(slow.error, AgentTimeout)
    assert "task 0 was still at work after 2 s" in str(slow.error)


async def test_tasks_of_several_kinds_by_the_names_that_they_have() -> None:
    async def nothing() -> str:
        return "done"

    results = await ParallelExecutor().run([Task(picky, 4, id="four"), nothing, Task(nap, 1, "nap")])
    assert [(result.id, result.output) for result in results] == [("four", 40), ("", "done"), ("nap", 1)]
    assert await ParallelExecutor().run([]) == []


async def test_cancelling_it_cancels_the_tasks() -> None:
    ended = []

    async def waits(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(number)

    with anyio.move_on_after(1):
        await ParallelExecutor().map(waits, range(3))
    assert sorted(ended) == [0, 1, 2]


async def test_with_a_context_tasks_are_branches_and_agents_can_do_them() -> None:
    found: list[TaskResult] = []

    @agent
    async def echo(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(f"{ctx.user_text}!"))

    @agent
    async def director(ctx: InvocationContext) -> None:
        tasks = [Task(echo, "hey", id="e"), Task(picky, 2), Task(picky, 3), Task(echo, {"n": 1}), Task(fails("f"))]
        found.extend(await ParallelExecutor(2, timeout=5).run(tasks, ctx=ctx))
        found.extend(await ParallelExecutor(timeout=5).map(nap, [9, 1], ctx=ctx, name="naps"))

    played = await play(director)
    assert [(result.id, result.status, result.output) for result in found] == [
        ("e", "ok", "hey!"),
        ("", "error", None),
        ("", "ok", 30),
        ("", "ok", '{\n "n": 1\n}!'),
        ("", "error", None),
        ("", "timeout", None),
        ("", "ok", 1),
    ]
    assert [type(result.error) for result in found if result.error] == [ValueError, ValueError, AgentTimeout]
    branches = {event.branch for event in played.events if event.lifecycle and "parallel_start" in event.lifecycle.name}
    assert branches == {
        "tasks.echo", "tasks.picky", "tasks.picky#2", "tasks.echo#2",
        "tasks.f", "naps.nap", "naps.nap#2",
    }  # fmt: skip


async def test_an_agent_without_a_context_says_what_it_needs() -> None:
    with pytest.raises(ConfigError, match=r"agent 'a' needs a context: run\(..., ctx=ctx\), from inside an agent"):
        await ParallelExecutor().map(says("a", "x"), ["go"])
    with pytest.raises(ConfigError, match=r"tasks are Task\(...\) or functions of nothing"):
        await ParallelExecutor().run([says("a", "x")])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="needs a function or an agent to do it, not 3"):
        await ParallelExecutor().run([Task(3)])  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"max_concurrency": 0}, {"max_concurrency": True}, {"timeout": -1}, {"retry": 0}])
def test_what_cannot_work_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ParallelExecutor(**options)  # type: ignore[arg-type]
