"""One run with one fault in it, and all that must hold afterwards."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio
import trio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from agentflow import (
    Agent,
    AgentflowError,
    Event,
    InMemorySessionService,
    InvocationContext,
    Limits,
    Plugin,
    Run,
    Runner,
    SessionKey,
)
from tests.faults.checks import Spans, delivery_problems, log_problems, state_problems
from tests.faults.clocks import each_step


class Boom(Exception):
    """The fault that is raised."""


class SlowStore(InMemorySessionService):
    """A store that suspends, as those on a disk do: it may be cancelled before it begins to write, never after.

    It writes in the order in which it is asked to; its answers come back in any.
    """

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.queue = anyio.Lock()

    async def append(self, key: SessionKey, events: Sequence[Event], *, expected_version: int | None = None) -> None:
        async with self.queue:
            await checkpoint()
            await super().append(key, events, expected_version=expected_version)
            self.writes += 1
            late = self.writes % 3
        for _ in range(late):
            await cancel_shielded_checkpoint()


class Complaints(logging.Handler):
    """What agentflow logs as an error."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


class Busybody(Plugin):
    """Suspends in every hook, and replaces every event."""

    async def before_run(self, ctx: InvocationContext) -> None:
        await checkpoint()

    async def on_event(self, ctx: InvocationContext, event: Event) -> Event:
        await checkpoint()
        return event.model_copy(update={"response_id": "seen"})

    async def before_agent(self, ctx: InvocationContext) -> None:
        await checkpoint()

    async def after_agent(self, ctx: InvocationContext) -> None:
        await checkpoint()

    async def after_run(self, ctx: InvocationContext) -> None:
        await checkpoint()

    async def close(self) -> None:
        await checkpoint()


@dataclass
class Fault:
    """Something that happens at the k-th point: of the scheduler seam, of the stream, or at the k-th step of a task."""

    kind: str
    at: int
    count: int = 0
    run: Run | None = None
    around_run: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    around_all: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    consumer: object = None
    armed: bool = False
    when: float | None = None

    @property
    def fired(self) -> bool:
        return self.count >= self.at

    def due(self) -> bool:
        """Count; is this the one?"""
        if not self.armed:
            return False
        self.count += 1
        if self.count != self.at:
            return False
        self.when = anyio.current_time()
        return True

    async def point(self, path: str, where: str) -> None:
        """The Runner's seam."""
        if not self.kind.startswith("seam") or not self.due():
            return
        match self.kind:
            case "seam: cancel":
                self.run.cancel("fault")
            case "seam: raise":
                raise Boom
            case "seam: hang":
                await anyio.sleep_forever()
            case "seam: hang, then raise":
                try:
                    await anyio.sleep_forever()
                finally:
                    raise Boom

    def step(self) -> None:
        """A task is about to go on."""
        if not self.kind.startswith("step") or not self.due():
            return
        match self.kind:
            case "step: cancel":
                self.run.cancel("fault")
            case "step: cancel the consumer":
                self.around_run.cancel()
            case "step: cancel everything":
                self.around_all.cancel()
            case "step: cancel natively":
                self.consumer.cancel()

    async def event(self, run: Run) -> bool:
        """The consumer got an event; should it leave?"""
        if not self.kind.startswith("event") or not self.due():
            return False
        match self.kind:
            case "event: raise":
                raise Boom
            case "event: close":
                await run.aclose()
            case "event: cancel":
                run.cancel("fault")
        return self.kind == "event: break"


@dataclass
class Case:
    """A tree, a kind of fault, and a store."""

    tree: Agent
    kind: str
    spans: Spans
    store: Callable[[], InMemorySessionService] = InMemorySessionService
    plugins: Sequence[Plugin] = ()
    lookahead: int = 0

    def runner(self, store: InMemorySessionService, fault: Fault | None) -> Runner:
        return Runner(self.tree, sessions=store, scheduler=fault, plugins=self.plugins, limits=Limits(seconds=500))

    @property
    def stops(self) -> bool:
        """Whether the fault ends the whole run at once."""
        return self.kind.startswith(("event", "step")) or self.kind == "seam: cancel"

    async def at(self, k: int) -> tuple[bool, list[str]]:
        """Run with the fault at point `k`: did it happen, and what is wrong?"""
        fault = Fault(self.kind, k)
        problems: list[str] = []
        store = self.store()
        before = {task.id for task in anyio.get_running_tasks()}
        delivered: list[Event] = []
        raised: BaseException | None = None
        run_id = None
        self.spans.clear()
        _same_order_again(k)
        complaints = Complaints()
        logger = logging.getLogger("agentflow")
        logger.addHandler(complaints)
        with each_step(fault.step), fault.around_all:
            async with self.runner(store, fault) as runner:
                fault.consumer = asyncio.current_task() if self.kind == "step: cancel natively" else None
                run = runner.run("go", session_id="s", lookahead=self.lookahead, state={"k": k})
                try:
                    with fault.around_run:
                        async with run:
                            run_id, fault.run = run.id, run
                            fault.armed = True
                            async for event in run:
                                delivered.append(event)
                                if await fault.event(run):
                                    break
                except (Exception, asyncio.CancelledError) as error:
                    raised = error
                finally:
                    fault.armed = False
                    ended = anyio.current_time()
                for _ in range(3):
                    await checkpoint()
                problems += self.left(before)
                problems += self.ending(fault, run, raised)
                fault.run = None
                if not fault.around_all.cancel_called:
                    problems += await self.next_turn(runner, store)
        logger.removeHandler(complaints)
        problems += [f"it was logged: {message}" for message in complaints.told]
        problems += self.left(before)
        if fault.when is not None and ended > fault.when and self.stops:
            problems.append(f"it took {ended - fault.when:g} s to stop")
        if fault.around_all.cancel_called and run_id is not None:
            if run.status != "cancelled" and not fault.around_all.cancelled_caught:
                problems.append(f"the run says that it is {run.status}")
            async with self.runner(store, None) as runner:
                problems += await self.next_turn(runner, store)
        session = await store.get(SessionKey(self.tree.name, "user", "s"))
        if session is not None:
            problems += log_problems(session.events) + state_problems(session, {})
            mine = [event for event in session.events if event.invocation_id == run_id]
            whole = not fault.fired or self.kind.startswith("seam") or self.kind in ("step: cancel", "event: cancel")
            problems += delivery_problems(delivered, mine, whole)
        problems += self.spans.problems()
        return fault.fired, [f"{self.kind} at {k}: {problem}" for problem in dict.fromkeys(problems)]

    def ending(self, fault: Fault, run: Run, raised: BaseException | None) -> list[str]:
        """How the run says it ended."""
        problems = []
        if run.status == "running":
            problems.append(f"the run goes on: {run.unfinished}")
        if not fault.fired:
            if raised is not None or run.status != "ok":
                problems.append(f"without a fault it is {run.status}: {raised!r}")
        elif raised is not None and not _expected(raised):
            problems.append(f"it raised {raised!r}")
        elif "cancel" in self.kind and "seam: hang" not in self.kind and run.status == "error":
            problems.append(f"it was cancelled, and says error: {raised!r}")
        elif run.status == "cancelled" and run.result.reason == "":
            problems.append("cancelled, and nobody says why")
        return problems

    async def next_turn(self, runner: Runner, store: InMemorySessionService) -> list[str]:
        """The session takes another message."""
        try:
            with anyio.fail_after(200):
                async with runner.run("again", session_id="s", on_busy="reject") as run:
                    async for _ in run:
                        pass
        except Exception as error:
            return [f"the next turn failed: {error!r}"]
        return [] if run.status == "ok" else [f"the next turn is {run.status}"]

    @staticmethod
    def left(before: set[int]) -> list[str]:
        tasks = [task.name for task in anyio.get_running_tasks() if task.id not in before]
        return [f"tasks are left: {tasks}"] if tasks else []

    async def sweep(self, step: int = 1, limit: int = 2000) -> tuple[int, list[str]]:
        """The fault at every point (or every `step`-th), until the run ends before it; what was wrong."""
        problems: list[str] = []
        for k in range(1, limit, step):
            with anyio.fail_after(5000):
                fired, found = await self.at(k)
            problems += found
            if not fired:
                return k, problems
        raise AssertionError("the run does not end")


def _same_order_again(seed: int) -> None:
    """Let trio, which shuffles the tasks that are ready, do so in the same way whenever a test runs."""
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio._core._run._r.seed(seed)


def _expected(error: BaseException) -> bool:
    if isinstance(error, ExceptionGroup):
        return all(_expected(one) for one in error.exceptions)
    by_tree = isinstance(error, ValueError) and str(error).endswith("failed")
    return by_tree or isinstance(error, (Boom, AgentflowError, asyncio.CancelledError))


def told(problems: Sequence[str]) -> str:
    """The first few, and how many there are."""
    return "\n".join([f"{len(problems)} problems", *problems[:12]])
