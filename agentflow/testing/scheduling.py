"""Orders: which of several branches goes on next, chosen by a seed, written down and played again."""

import asyncio
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from agentflow._invocation import Scheduler
from agentflow.content import UserContent
from agentflow.core import Agent
from agentflow.errors import AgentflowError, ConfigError
from agentflow.events import Event
from agentflow.run import RunResult
from agentflow.runner import Runner
from agentflow.testing.clock import FakeClock, counting_ids

logger = logging.getLogger(__name__)

Choice = tuple[str, str]
"""Who went on, and from where: an agent's path, and `start`, `emit` or `go on`."""

READER = "(reader)"
"""What traces call the task in `explore` that reads the events."""

_NAME = "agentflow.testing: who goes on next"


class _Parked:
    __slots__ = ("choice", "go")

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.go = anyio.Event()


class SeededScheduler:
    """Lets one agent at a time go on, chosen by a seed: the same seed gives the same order, on asyncio and on trio.

        async with SeededScheduler(7) as scheduler, Runner(tree, scheduler=scheduler) as runner:
            ...

    Agents stop where they start, before an emit and after it. When nothing else in the event loop can go on, one of
    those that stopped is chosen. Agents that wait for each other, for a timer, a thread or the network are simply not
    among them, so nothing hangs; only what a timer, a thread or the network wakes comes in an order that is not the
    seed's. Cancellation reaches an agent that stopped when it is chosen, one that waits elsewhere at once. Outside of
    the block nobody is held.

    Some seeds are fair to all agents, others make some of them much faster than others: many mistakes need that one
    agent is done before another has begun.

    Args:
        seed: What all choices follow from.
        choices: A `trace` to be played again; after its end the seed decides. Where a choice can't be followed, since
            the agents are others now, the seed decides too; see `diverged`.
        patience: Seconds to wait for agents that never stop and wait (they poll), before going on all the same.

    Attributes:
        trace: What was chosen so far, in order.
        diverged: Index of the first of `choices` that could not be followed, if any.
    """

    def __init__(self, seed: int = 0, *, choices: Sequence[Choice] = (), patience: float = 1.0) -> None:
        self.seed = seed
        self.patience = patience
        self.trace: list[Choice] = []
        self.diverged: int | None = None
        self._choices = [(path, where) for path, where in choices]
        self._rng = random.Random(seed)
        self._spread = self._rng.choice((0.0, 1.0, 3.0))
        self._weights: dict[str, float] = {}
        self._parked: list[_Parked] = []
        self._more: anyio.Event | None = None
        self._tasks: TaskGroup | None = None
        self._stop: anyio.CancelScope | None = None
        self._driving = False
        self._warned = False
        self._undo: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise ConfigError("a SeededScheduler is entered once: make another for another order")
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._undo = _trio_in_order()
        self._more = anyio.Event()
        self._stop = anyio.CancelScope()
        self._driving = True
        self._tasks.start_soon(self._drive, self._stop, name=_NAME)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None and self._stop is not None and self._undo is not None
        self._stop.cancel()
        self._release()
        self._undo()
        cancelled = isinstance(error, anyio.get_cancelled_exc_class())  # the group must see that, and nothing else
        seen = (kind, error, trace) if cancelled else (None, None, None)
        await self._tasks.__aexit__(*seen)  # noqa: ASYNC102 - the driver was told to stop, and waits for nothing

    async def point(self, path: str, where: str) -> None:
        """Called by the run; see `Scheduler`. A task of your own may call it as well, to be ordered with the agents."""
        if self._driving:
            assert self._more is not None
            parked = _Parked((path, where))
            self._parked.append(parked)
            self._more.set()
            with anyio.CancelScope(shield=True):  # a cancelled agent waits for its turn to learn of it
                await parked.go.wait()
        await checkpoint()

    def _release(self) -> None:
        """Hold nobody any longer."""
        self._driving = False
        parked, self._parked = self._parked, []
        for one in parked:
            one.go.set()

    async def _drive(self, stop: anyio.CancelScope) -> None:
        try:
            with stop:
                while True:
                    assert self._more is not None
                    await self._more.wait()
                    await self._rest()
                    one = self._choose()
                    self._parked.remove(one)
                    if not self._parked:
                        self._more = anyio.Event()
                    self.trace.append(one.choice)
                    one.go.set()
        finally:
            self._release()

    def _choose(self) -> _Parked:
        """By the trace that is played again, if there is one, else by the seed; several at one place as they came."""
        ready = sorted(self._parked, key=lambda one: one.choice)
        step = len(self.trace)
        if step < len(self._choices) and self.diverged is None:
            for one in ready:
                if one.choice == self._choices[step]:
                    return one
            self.diverged = step
        for one in ready:
            if one.choice[0] not in self._weights:
                self._weights[one.choice[0]] = 10.0 ** self._rng.uniform(0.0, self._spread)
        return self._rng.choices(ready, [self._weights[one.choice[0]] for one in ready])[0]

    async def _rest(self) -> None:
        """Wait until every other task waits for something."""
        rested = _asyncio_rests if anyio.get_cancelled_exc_class() is asyncio.CancelledError else _trio_rests
        with anyio.move_on_after(self.patience) as scope:
            await rested()
        if scope.cancelled_caught and not self._warned:
            self._warned = True
            logger.warning(
                "the event loop did not come to rest within %g s: something polls, so the seed alone doesn't decide",
                self.patience,
            )


async def _trio_rests() -> None:
    await anyio.wait_all_tasks_blocked()


async def _asyncio_rests() -> None:
    """As `anyio.wait_all_tasks_blocked`, which sleeps 0.1 s whenever a task isn't blocked: too long for many steps."""
    quiet = 0
    while quiet < 2:  # twice, since a cancellation may be on its way in a callback of the loop
        await checkpoint()
        quiet = quiet + 1 if all(map(_waits, asyncio.all_tasks())) else 0


def _waits(task: asyncio.Task[Any]) -> bool:
    waiter = task._fut_waiter  # type: ignore[attr-defined]  # what anyio looks at too
    return (waiter is not None and not waiter.done()) or task.get_name() == _NAME


class _InOrder(random.Random):
    """Trio's dice for the order of tasks that are ready at once, loaded: first come, first served, as in asyncio."""

    def __init__(self, fair: random.Random) -> None:
        super().__init__(0)
        self.fair = fair
        self.users = 0

    def random(self) -> float:
        return 0.0

    def shuffle(self, x: Any) -> None:
        x.reverse()


def _trio_in_order() -> Callable[[], None]:
    """Take the chance out of trio's scheduler; gives what puts it back. Does nothing elsewhere.

    Trio has no public way to do so: https://github.com/python-trio/trio/issues/2675
    """
    run: Any = sys.modules.get("trio._core._run")
    dice = getattr(run, "_r", None)
    if dice is None or anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return lambda: None
    loaded = run._r = dice if isinstance(dice, _InOrder) else _InOrder(dice)
    loaded.users += 1

    def undo() -> None:
        loaded.users -= 1
        if not loaded.users:
            run._r = loaded.fair

    return undo


class OrderFailed(AgentflowError, AssertionError):
    """A check failed under one order of the branches; `__cause__` is what it raised.

    Attributes:
        seed: Of the order: `explore(..., seeds=[seed])` runs it again.
        trace: The order itself: `SeededScheduler(choices=trace)` plays it again, whatever becomes of the seeds.
    """

    def __init__(self, message: str, *, seed: int, trace: list[Choice]) -> None:
        super().__init__(message)
        self.seed = seed
        self.trace = trace


@dataclass(frozen=True, slots=True)
class Explored:
    """What `explore` tried.

    Attributes:
        runs: How many runs.
        orders: How many different orders they had.
    """

    runs: int
    orders: int


Check = Callable[[list[Event], RunResult], Awaitable[object] | object]


async def explore(
    target: Agent | Callable[[Scheduler], Runner],
    check: Check,
    *,
    seeds: Iterable[int] = range(500),
    message: UserContent = "go",
    lookahead: int = 0,
    may_fail: tuple[type[Exception], ...] = (),
    time_limit: float = 10.0,
) -> Explored:
    """Run an agent tree once for each seed, each time in another order of its branches, and check what came of it.

    The reader of the events is one of those whose turn the seed decides, so it is slow at times.

    Args:
        target: The root of a tree; or a function that makes a Runner with the given scheduler, for trees that must be
            made anew for each run (gates between agents) or that need services, plugins or a state.
        check: Called, and awaited if need be, with the events in the order in which they were read, those of the
            lifecycle and partial ones included, and with the result. It raises when something is wrong.
        seeds: One run for each.
        message: What the user says.
        lookahead: See `Runner.run`.
        may_fail: Errors that a run may end with; `result.error` has it. All others fail the order.
        time_limit: Seconds for one run; agents that wait for each other for ever fail the order.

    Raises:
        OrderFailed: A check or a run failed; it names the seed and has the order. The first one ends the exploration.
        ConfigError: The Runner that `target` made doesn't use the scheduler.
    """
    runs, orders = 0, set()
    for seed in seeds:
        async with SeededScheduler(seed) as scheduler:
            try:
                events, result = await _run_once(target, scheduler, message, lookahead, may_fail, time_limit)
                outcome = check(events, result)
                if isawaitable(outcome):
                    await outcome
            except Exception as error:
                raise OrderFailed(_story(error, scheduler), seed=seed, trace=scheduler.trace) from error
        if all(path == READER for path, _ in scheduler.trace):
            raise ConfigError("explore: hand the scheduler on: lambda scheduler: Runner(..., scheduler=scheduler)")
        runs += 1
        orders.add(tuple(scheduler.trace))
    return Explored(runs, len(orders))


async def _run_once(
    target: Agent | Callable[[Scheduler], Runner],
    scheduler: SeededScheduler,
    message: UserContent,
    lookahead: int,
    may_fail: tuple[type[Exception], ...],
    time_limit: float,
) -> tuple[list[Event], RunResult]:
    if isinstance(target, Agent):
        made = Runner(target, scheduler=scheduler, time=FakeClock(), new_id=counting_ids(), seed=scheduler.seed)
    else:
        made = target(scheduler)
    events: list[Event] = []
    async with made as runner, runner.run(message, lookahead=lookahead) as run:
        with anyio.move_on_after(time_limit) as scope:
            try:
                async for event in run:
                    events.append(event)
                    await scheduler.point(READER, "read")
            except may_fail:
                logger.debug("seed %d: the run failed, as it may", scheduler.seed, exc_info=True)
        if scope.cancelled_caught:
            raise TimeoutError(f"after {time_limit:g} s these were still at work: {', '.join(run.unfinished)}")
        return events, run.result


def _story(error: Exception, scheduler: SeededScheduler) -> str:
    steps = "\n".join(f"  {number:3}. {path}: {where}" for number, (path, where) in enumerate(scheduler.trace, 1))
    return (
        f"seed {scheduler.seed}: {type(error).__name__}: {error}\n"
        f"To see it again: explore(..., seeds=[{scheduler.seed}]). The order in which agents went on:\n{steps}"
    )
