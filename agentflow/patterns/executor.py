"""Many tasks at once, and how each of them ended: the smallest of the patterns."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio

from agentflow.agents.branches import Branches
from agentflow.core import Agent, InvocationContext
from agentflow.errors import AgentTimeout, ConfigError
from agentflow.events import Status
from agentflow.patterns._calls import Bound, Function, call, is_async, waited
from agentflow.patterns._feed import at_work, worker
from agentflow.patterns.answers import answer_of
from agentflow.policies import Retry, seconds


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be done.

    Attributes:
        do: A function of `input`, async or not, or an agent that is told it.
        input: What it is given.
        id: What the caller knows it by.
    """

    do: Function | Agent
    input: Any = None
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """How a task ended.

    Attributes:
        index: Its place among the tasks, from 0.
        id: The task's.
        status: `ok`, `error` or `timeout`.
        output: What the function returned, or the agent answered.
        error: What went wrong.
        seconds: From its start to its end, further attempts included.
        queue_seconds: How long it waited for room.
    """

    index: int
    id: str
    status: Status
    output: Any = None
    error: BaseException | None = None
    seconds: float = 0.0
    queue_seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it went well."""
        return self.status == "ok"


class ParallelExecutor:
    """Does tasks at once, so many at a time, and says of each how it ended, in the order in which they were given.

    It can be used anywhere: `await ParallelExecutor(5).map(fetch, urls)`. A task that fails fails nobody else. A plain
    function runs in a thread. Agents, and functions that are to be seen in the stream, take a context: each task is
    then a branch of its own.

    Args:
        max_concurrency: How many at the same time, first come first served.
        timeout: Seconds for each task, further attempts included; `"5m"` is understood.
        retry: When to try a task again; a number is how often in all.

    Raises:
        ConfigError: A setting can't work.
    """

    def __init__(
        self, max_concurrency: int = 10, *, timeout: float | str | None = None, retry: Retry | int | None = None
    ) -> None:
        if isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int) or max_concurrency < 1:
            raise ConfigError(f"ParallelExecutor: max_concurrency must be at least 1, not {max_concurrency!r}")
        self.max_concurrency = max_concurrency
        self.timeout = seconds(timeout, "ParallelExecutor: timeout")
        if retry is not None and not isinstance(retry, (Retry, int)):
            raise ConfigError(f"ParallelExecutor: retry must be Retry(...) or how often to try, not {retry!r}")
        self.retry = Retry(attempts=retry) if isinstance(retry, int) else retry

    async def map(
        self, do: Function | Agent, inputs: Iterable[Any], *, ctx: InvocationContext | None = None, name: str = "tasks"
    ) -> list[TaskResult]:
        """The same for each of `inputs`; see `run`."""
        return await self.run([Task(do, value) for value in inputs], ctx=ctx, name=name)

    async def run(
        self, tasks: Iterable[Task | Function], *, ctx: InvocationContext | None = None, name: str = "tasks"
    ) -> list[TaskResult]:
        """Do all tasks and return how each of them ended.

        Args:
            tasks: What is to be done; a bare function is called without anything.
            ctx: Of the agent that does this. Needed for agents; with it, tasks are branches of its line.
            name: Segment of those branches; a second call in one turn needs another.

        Raises:
            ConfigError: There is an agent among them and no context.
        """
        todo = [task if isinstance(task, Task) else Task(_nothing_for(task)) for task in tasks]
        for task in todo:
            if isinstance(task.do, Agent):
                if ctx is None:
                    raise ConfigError(
                        f"agent {task.do.name!r} needs a context: run(..., ctx=ctx), from inside an agent"
                    )
            elif not callable(task.do):
                raise ConfigError(f"a task needs a function or an agent to do it, not {task.do!r}")
        return await (self._alone(todo) if ctx is None else self._as_branches(todo, ctx, name))

    async def _alone(self, tasks: list[Task]) -> list[TaskResult]:
        results: list[TaskResult | None] = [None] * len(tasks)
        limiter = anyio.CapacityLimiter(self.max_concurrency)
        waiting = iter(enumerate(tasks))
        began = anyio.current_time()

        async def work(waiting: Iterator[tuple[int, Task]]) -> None:
            for index, task in waiting:
                results[index] = await self._do(index, task, began, limiter)

        async with anyio.create_task_group() as group:
            for _ in range(min(self.max_concurrency, len(tasks))):
                group.start_soon(work, waiting)
        return [result for result in results if result is not None]

    async def _do(self, index: int, task: Task, since: float, limiter: anyio.CapacityLimiter) -> TaskResult:
        began = anyio.current_time()
        status: Status = "timeout"
        output: Any = None
        error: BaseException | None = None
        with anyio.move_on_after(self.timeout):
            try:
                output = await self._tries(task, limiter)
                status = "ok"
            except Exception as raised:
                status, error = "error", raised
        if status == "timeout":
            error = AgentTimeout(
                f"task {task.id or index} was still at work after {self.timeout:g} s", seconds=self.timeout or 0.0
            )
        took = anyio.current_time() - began
        return TaskResult(
            index=index, id=task.id, status=status, output=output, error=error, seconds=took,
            queue_seconds=began - since,
        )  # fmt: skip

    async def _tries(self, task: Task, limiter: anyio.CapacityLimiter) -> Any:
        assert not isinstance(task.do, Agent)
        attempt = 1
        while True:
            try:
                return await call(task.do, task.input, limiter)
            except Exception as error:
                pause = self.retry.pause(attempt, error, random.Random()) if self.retry is not None else None
                if pause is None:
                    raise
            await anyio.sleep(pause)
            attempt += 1

    async def _as_branches(self, tasks: list[Task], ctx: InvocationContext, name: str) -> list[TaskResult]:
        limiter = anyio.CapacityLimiter(self.max_concurrency)
        steps = {id(task.do): worker(task.do, "ParallelExecutor", "task", retry=self.retry) for task in tasks}
        agents = [steps[id(task.do)] for task in tasks]
        group = Branches(ctx, name=name, agents=agents, max_concurrency=self.max_concurrency, timeout=self.timeout)
        async with group:
            for agent, task in zip(agents, tasks, strict=True):
                one, message = at_work(agent, task.input, Bound(limiter=limiter))
                group.add(one, message=message)
        results = []
        for branch, task in zip(group.branches.values(), tasks, strict=True):
            outcome = branch.outcome
            assert outcome is not None
            results.append(
                TaskResult(
                    index=branch.index, id=task.id, status=outcome.status, output=answer_of(outcome),
                    error=outcome.error, seconds=outcome.duration, queue_seconds=waited(branch),
                )
            )  # fmt: skip
        return results


def _nothing_for(function: Any) -> Function:
    """A function of nothing as one of a value."""
    if isinstance(function, Agent) or not callable(function):
        raise ConfigError(f"tasks are Task(...) or functions of nothing, not {function!r}")

    async def do(_: Any) -> Any:
        return await function()

    return do if is_async(function) else lambda _: function()
