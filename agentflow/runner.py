"""A message in, a stream of stored events out."""

import logging
import os
import time as _time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import copy_context
from types import TracebackType
from typing import Any, Literal, Self

import anyio
from anyio.abc import TaskGroup

from agentflow import tracing
from agentflow._busy import OnBusy, SessionTurns, turns_in
from agentflow._hooks import Hooks, call_hook, plugin_name
from agentflow._invocation import Invocation, Scheduler
from agentflow._place import Place
from agentflow._resources import Resources
from agentflow._settings import check_flags, check_functions
from agentflow._streams import Channel, Loop, running_loop
from agentflow._sync import SyncRun
from agentflow._taking import as_event, take_turn
from agentflow._turn import Services, end_orphans
from agentflow.content import Part, ToolResult, UserContent, as_parts
from agentflow.core import Agent, InvocationContext, Plugin
from agentflow.errors import AnswerRefused, CommitUnknown, ConfigError, PluginError, RunNotFound
from agentflow.events import Actions, AgentStart, Event, build_event, event_form, plain_start
from agentflow.history import Histories
from agentflow.journal import Journal, check_answers
from agentflow.models.base import Model
from agentflow.models.registry import resolve_model
from agentflow.outcome import Outcome
from agentflow.policies import Limits, seconds
from agentflow.questions import Paused
from agentflow.run import Live, OnConsumerGone, Run, RunResult, RunStatus, end_runs, inside
from agentflow.services.artifacts import ArtifactService
from agentflow.services.inmemory import (
    InMemoryArtifactService,
    InMemoryMemoryService,
    InMemorySessionService,
)
from agentflow.services.memory import MemoryService
from agentflow.services.sessions import SessionKey, SessionService, check_key

logger = logging.getLogger(__name__)

_KEPT = 256
"""How many finished, detached runs a Runner keeps for `attach`."""


class Runner:
    """Runs an agent tree: enter it once, start any number of runs, leave it to end them all.

    Args:
        agent: The root of the tree.
        app_name: What sessions are filed under; by default the root's name.
        sessions: Where events are stored; by default in memory, for as long as the Runner.
        artifacts: Where files are stored; by default in memory.
        memory: What is remembered across sessions; by default in memory.
        plugins: Who watches and steps in, in order.
        model: What agents think with that have no model, nor an agent above them that has one: a `Model` or a name.
        limits: What each run may spend; `run(limits=...)` overrides it.
        teardown_timeout: Seconds that a cancelled run has to end before the agents that refuse are reported by name.
        max_event_bytes: Size limit of one event as JSON.
        visibility: `"join"`, or `"prefix"` for adk-go's rule of who sees what, for those who compare.
        on_exit: What leaving the Runner does with runs that go on (detached ones): `"cancel"` or `"wait"`.
        time: What tells the time of events: seconds since the epoch.
        new_id: What makes run ids.
        seed: For all randomness of a run (jitter of retries).
        scheduler: For tests: who goes on next; see `agentflow.testing.SeededScheduler`.

    Raises:
        ConfigError: A setting can't work.

    Source: adk-go `runner/runner.go`; the order of hooks, append and hand-over is the same.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        app_name: str | None = None,
        sessions: SessionService | None = None,
        artifacts: ArtifactService | None = None,
        memory: MemoryService | None = None,
        plugins: Sequence[Plugin] = (),
        model: Model | str | None = None,
        limits: Limits | None = None,
        teardown_timeout: float = 5.0,
        max_event_bytes: int = 16 * 1024 * 1024,
        visibility: Literal["join", "prefix"] = "join",
        on_exit: Literal["cancel", "wait"] = "cancel",
        time: Callable[[], float] = _time.time,
        new_id: Callable[[], str] | None = None,
        seed: int | None = None,
        scheduler: Scheduler | None = None,
    ) -> None:
        if not isinstance(agent, Agent):
            hint = "; wrap a function with @agent" if callable(agent) else ""
            raise ConfigError(f"a Runner needs an agent, not {agent!r}{hint}")
        for what, value, kind in (
            ("sessions", sessions, SessionService),
            ("artifacts", artifacts, ArtifactService),
            ("memory", memory, MemoryService),
        ):
            if value is not None and not isinstance(value, kind):
                raise ConfigError(f"Runner: {what} must be a {kind.__name__}, not {value!r}")
        _check_limits(limits, "Runner")
        if app_name is not None and (not isinstance(app_name, str) or not app_name.strip()):
            raise ConfigError(f"Runner: app_name must be text that isn't empty, not {app_name!r}")
        check_functions("Runner", time=time)
        if new_id is not None:
            check_functions("Runner", new_id=new_id)
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise ConfigError(f"Runner: seed must be a whole number, not {seed!r}")
        _one_of("visibility", visibility, ("join", "prefix"))
        _one_of("on_exit", on_exit, ("cancel", "wait"))
        if isinstance(max_event_bytes, bool) or not isinstance(max_event_bytes, int) or max_event_bytes < 1024:
            raise ConfigError(f"Runner: max_event_bytes must be at least 1024, not {max_event_bytes!r}")
        if scheduler is not None and not callable(getattr(scheduler, "point", None)):
            raise ConfigError(f"Runner: scheduler must be one, like SeededScheduler(1), not {scheduler!r}")
        if teardown_timeout is None:
            raise ConfigError("Runner: teardown_timeout must be a number of seconds above 0, not None")
        self.agent = agent
        self.app_name = agent.name if app_name is None else app_name
        self.sessions = sessions or InMemorySessionService(time=time)
        self.artifacts = artifacts or InMemoryArtifactService(time=time)
        self.memory = memory or InMemoryMemoryService()
        self.limits = limits or Limits()
        self.teardown_timeout = seconds(teardown_timeout, "Runner: teardown_timeout") or 0.0
        given = (sessions, artifacts, memory)
        made: list[SessionService | ArtifactService | MemoryService] = [self.sessions, self.artifacts, self.memory]
        self._own = [own for own, other in zip(made, given, strict=True) if other is None]
        self._hooks = Hooks(plugins, Plugin)
        self._resources = Resources()
        self._services = Services(
            self.artifacts,
            self.memory,
            self._hooks,
            self._resources,
            resolve_model(model) if model is not None else None,
        )
        self._max_event_bytes = max_event_bytes
        self._visibility = visibility
        self._on_exit = on_exit
        self._time = time
        self._new_id = new_id or (lambda: f"e-{os.urandom(16).hex()}")
        self._seed = seed
        self._scheduler = scheduler
        self._tasks: TaskGroup | None = None
        self._loop: Loop | None = None
        self._tracing: tracing.Tracing | None = None
        self._turns = turns_in(self.sessions)
        self._histories = Histories()
        self._live: dict[str, Live] = {}
        self._kept: OrderedDict[str, Live] = OrderedDict()

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise ConfigError("this Runner is entered already; enter it once and start any number of runs")
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        self._tasks, self._loop = tasks, running_loop()
        self._look_for_tracing()
        self._resources.begin(tasks, copy_context())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = self._tasks
        assert tasks is not None
        self._tasks = None  # no new runs
        lives = list(self._live.values())
        if self._on_exit == "cancel" or error is not None:
            await end_runs(lives, "its Runner ended")  # noqa: ASYNC102 - shielded and bounded
        else:
            for live in lives:
                if not live.attached:
                    live.invocation.channel.stop_reading()
        if lives or self._resources.any:
            tasks.start_soon(self._end_resources, lives)
        # The group must see a cancellation; of other errors it would make a group of one.
        seen = (kind, error, trace) if isinstance(error, anyio.get_cancelled_exc_class()) else (None, None, None)
        try:
            await tasks.__aexit__(*seen)  # noqa: ASYNC102 - waits for whoever refuses to end
        except BaseExceptionGroup as group:  # an agent called sys.exit(), or was interrupted: that, as itself
            raise _alone(group) from None
        finally:
            with anyio.CancelScope(shield=True):
                await self._close()  # noqa: ASYNC102 - bounded, plugin by plugin

    async def _end_resources(self, lives: Sequence[Live]) -> None:
        """Close what agents had opened, when no run can need it any more."""
        for live in lives:
            await live.done.wait()
        await self._resources.end(self.teardown_timeout)

    async def _close(self) -> None:
        failures = []
        for plugin in self._hooks.having("close"):
            with anyio.move_on_after(self.teardown_timeout) as scope:
                try:
                    await plugin.close()
                except Exception as raised:
                    failures.append((plugin, raised))
            if scope.cancelled_caught:
                logger.error("plugin %r was not closed within %g s", plugin_name(plugin), self.teardown_timeout)
        for model in self._services.held:
            with anyio.move_on_after(self.teardown_timeout):
                await model.__aexit__(None, None, None)
        self._services.held.clear()
        for service in self._own:
            await service.aclose()
        for plugin, failure in failures:
            name = plugin_name(plugin)
            raise PluginError(f"plugin {name!r} failed in close: {failure}", plugin=name, hook="close") from failure

    def run(
        self,
        message: UserContent = None,
        *,
        user_id: str = "user",
        session_id: str | None = None,
        state: Mapping[str, Any] | None = None,
        lookahead: int = 0,
        stream: bool = True,
        limits: Limits | None = None,
        on_busy: OnBusy = "wait",
        on_consumer_gone: OnConsumerGone = "cancel",
        answers: Mapping[str, Any] | None = None,
    ) -> Run:
        """A run, to be entered: `async with runner.run("...") as run`.

        Args:
            message: What the user says: text, a part, or a list of them; `None` says nothing.
            user_id: Whose session it is.
            session_id: An existing session goes on; one that isn't there is made; `None` makes a new one.
            state: Written to the session with the user's message.
            lookahead: How many events each branch may be ahead of the reader. 0 is lock-step: an agent goes on when
                its event has been read and the next one asked for.
            stream: Whether models' answers come in pieces (partial events) before they come as a whole.
            limits: What this run may spend.
            on_busy: When another run holds the session: `"wait"` for it, or `"reject"` with `SessionBusy`.
            on_consumer_gone: When the block is left early: `"cancel"` the run, `"detach"` (it goes on in the Runner;
                see `attach`), or `"drain"` (the block is left when it has ended).
            answers: To the questions of a paused run of the session, by their ids: that run goes on, under its own id.
                Tool results in `message` are answers too.

        Raises:
            ConfigError: A setting can't work. On entering: the Runner is not entered.
            SessionBusy: On entering; nothing is stored.
            AnswerRefused: On entering; nothing is stored. Nobody asked that, or waits for it, or it doesn't fit.
        """
        try:
            parts = as_parts(message)
        except ValueError as error:
            raise ConfigError(f"run: {error}") from error
        if isinstance(lookahead, bool) or not isinstance(lookahead, int) or lookahead < 0:
            raise ConfigError(f"run: lookahead must be a whole number, 0 or more, not {lookahead!r}")
        if answers is not None and not isinstance(answers, Mapping):
            raise ConfigError(f"run: answers are values by the ids of their questions, not {answers!r}")
        if state is not None and not isinstance(state, Mapping):
            raise ConfigError(f"run: state is values by their keys, not {state!r}")
        _check_limits(limits, "run")
        check_flags("run", stream=stream)
        _one_of("on_busy", on_busy, ("wait", "reject"))
        _one_of("on_consumer_gone", on_consumer_gone, ("cancel", "detach", "drain"))
        key = SessionKey(*check_key(self.app_name, user_id, session_id))

        async def start() -> tuple[Live, deque[Event], int]:
            turns = self._turns
            self._running_group()
            token = object()
            await turns.take(key, token, on_busy)
            try:
                self._running_group()  # it may have ended while this one waited
                told, journal = await self._read_answers(key, answers or {}, parts)
                session = await self.sessions.get(key, recent=0) if session_id is not None else None
                session = session or await self.sessions.create(*key)
                tasks = self._running_group()  # likewise: the store may have taken its time
                live = self._make(
                    key, dict(session.state), lookahead, stream, limits or self.limits, on_consumer_gone, journal
                )
                self._live[live.invocation.id] = live
                live.task = tasks.create_task(
                    self._host(live, turns, told, dict(state or {})), name=f"agentflow run {live.invocation.id}"
                )
            except BaseException:
                turns.give(key)
                raise
            return live, deque(), 0

        return Run(start)

    def run_sync(
        self,
        message: UserContent = None,
        *,
        user_id: str = "user",
        session_id: str | None = None,
        state: Mapping[str, Any] | None = None,
        lookahead: int = 0,
        stream: bool = True,
        limits: Limits | None = None,
        answers: Mapping[str, Any] | None = None,
        backend: Literal["asyncio", "trio"] = "asyncio",
    ) -> SyncRun:
        """A run without `await`, for scripts and notebooks: `for event in Runner(agent).run_sync("...")`.

        The Runner must not be entered: it lives as long as the run, in a thread of its own.

        Args:
            message: See `run`.
            user_id: See `run`.
            session_id: See `run`.
            state: See `run`.
            lookahead: See `run`.
            stream: See `run`.
            limits: See `run`.
            answers: See `run`.
            backend: Which event loop it runs on.
        """
        run = self.run(
            message,
            user_id=user_id,
            session_id=session_id,
            state=state,
            answers=answers,
            lookahead=lookahead,
            stream=stream,
            limits=limits,
        )
        return SyncRun(self, lambda: run, backend)

    def attach(self, run_id: str, *, after: int = 0) -> Run:
        """Read on in a run that was detached: first what was stored after position `after`, then what comes.

        Args:
            run_id: `run.id`.
            after: `run.position` of the handle that was left; 0 is from the beginning.

        Raises:
            RunNotFound: On entering: the Runner doesn't know this run.
            ConfigError: On entering: someone reads it already.
        """

        async def start() -> tuple[Live, deque[Event], int]:
            live = self._live.get(run_id) or self._kept.get(run_id)
            if live is None:
                raise RunNotFound(f"this Runner has no run {run_id!r}: it ended long ago, or belongs to another Runner")
            if live.attached and not live.done.is_set():
                raise ConfigError(f"run {run_id!r} is being read already")
            live.attached, live.detached = True, False
            live.invocation.channel.start_reading()
            try:
                session = await self.sessions.get(live.invocation.key, after=after)
            except BaseException:
                live.attached, live.detached = False, True
                live.invocation.channel.stop_reading()
                raise
            if session is None:
                return live, deque(), 0
            backlog = (event for event in session.events if event.invocation_id == run_id and event.path)
            return live, deque(backlog), session.version

        return Run(start, after)

    async def _read_answers(
        self, key: SessionKey, answers: Mapping[str, Any], parts: tuple[Part, ...]
    ) -> tuple[tuple[Part, ...], Journal | None]:
        """The message with the answers in it, and the run that waits for them, if one does."""
        if not answers and not any(type(part) is ToolResult for part in parts):
            return parts, None
        session = await self.sessions.get(key)
        results, journal = check_answers(session.events if session is not None else [], answers, parts)
        past = journal.root if journal is not None else None
        if past is not None and (past.path.split(".")[0] != self.agent.name or not self.agent.find_agent(past.agent)):
            raise AnswerRefused(f"these answers are for agent {past.path!r}; this Runner's is {self.agent.name!r}")
        return (*(part for part in parts if type(part) is not ToolResult), *results), journal

    def _running_group(self) -> TaskGroup:
        if self._tasks is None:
            raise ConfigError("enter the Runner first: async with Runner(agent) as runner (or use runner.run_sync)")
        return self._tasks

    def _look_for_tracing(self) -> None:
        if self._tracing is None and (tracing.enabled() or tracing.metering()):
            self._tracing = tracing.Tracing()

    def _make(
        self,
        key: SessionKey,
        state: dict[str, Any],
        lookahead: int,
        stream: bool,
        limits: Limits,
        policy: OnConsumerGone,
        journal: Journal | None,
    ) -> Live:
        if self._tracing is None and tracing.has_sdk():
            self._look_for_tracing()
        loop = self._loop
        assert loop is not None
        run = Invocation(
            id=self._new_id() if journal is None else journal.run_id,
            key=key,
            sessions=self.sessions,
            channel=Channel(loop.new_ticket),
            loop=loop,
            time=self._time,
            limits=limits,
            lookahead=lookahead,
            stream=stream,
            max_event_bytes=self._max_event_bytes,
            visibility=self._visibility,
            seed=self._seed,
            tracing=self._tracing,
            scheduler=self._scheduler,
            histories=self._histories,
            on_event=self._on_event if self._hooks.having("on_event") else None,
        )
        run.state = state
        if journal is not None:
            run.go_on(journal)
        live = Live(run, loop, policy, self.teardown_timeout)
        if run.tracing is not None:
            live.span = run.tracing.start_run(self.app_name, run.id, key.session_id, key.user_id)
        return live

    async def _host(self, live: Live, turns: SessionTurns, parts: tuple[Part, ...], state: dict[str, Any]) -> None:
        """The task that a run lives in."""
        run = live.invocation
        inside.set((*inside.get(), live))
        root = live.root = InvocationContext(run, self._services, self.agent, None)
        root._span = live.span
        try:
            work = self._work(live, root, parts, state)
            if run.tracing is not None:
                work = self._traced(live, work)
            if run.limits.seconds is None:
                live.status = await work
            else:
                with anyio.CancelScope(deadline=run.ends) as scope:
                    live.status = await work
                live.timed_out = scope.cancelled_caught
        except Exception as error:
            live.error = error
        except run.cancelled:  # noqa: ASYNC103 - by `Live.cancel`, which this task is the scope of
            if not run.stopping:
                raise
        except BaseExceptionGroup as group:  # noqa: ASYNC103 - trio: failures beside cancellations; both go their way
            failed, cancelled = group.split(Exception)
            live.error = failed
            if cancelled is not None:
                raise cancelled from None
        finally:
            root.ended = True
            run.stopping = True
            run.be_strict()
            if run.active or run.deferred or self._hooks.having("after_run"):
                with anyio.CancelScope(shield=True), tracing.current(live.span):
                    await self._last_words(live, root)
            self._settle(live, root)
            turns.give(run.key)
            live.done.set()

    async def _traced(self, live: Live, work: Awaitable[RunStatus]) -> RunStatus:
        with tracing.current(live.span):
            return await work

    async def _work(
        self, live: Live, root: InvocationContext, parts: tuple[Part, ...], state: dict[str, Any]
    ) -> RunStatus:
        run, hooks = live.invocation, self._hooks
        if run.journal is None:
            run.user_content = parts
        replaced = await hooks.first("on_user_message", root, parts) if hooks.plugins else None
        if replaced is not None:
            parts = as_parts(replaced)
            if run.journal is None:
                run.user_content = parts
        if run.tracing is not None:
            run.tracing.input(live.span, root.user_text)
        if parts or state:
            event = build_event(event_form(run.id, "user", "", "", None), run.new_id(), run.time(), parts)
            event.__dict__["actions"] = Actions(state) if state else None
            run.clean(event, "")
            if run.journal is None:
                run.user_content = event.parts
            run.spent.events -= 1
            committing = run.commit(root._place, event, push=False)
            if committing is not None:
                await committing
        reply = await hooks.first("before_run", root) if hooks.plugins else None
        if reply is not None:
            await root.emit(as_event(root, reply, "before_run"))
            return "ok"
        agent = await self._who_answers(root)
        ctx = root if agent is self.agent else root.stand_in(agent)
        try:
            kind, resumed = type(agent).__name__, run.journal is not None
            start = AgentStart(agent.name, kind, resumed=True) if resumed else plain_start(agent.name, kind)
            await take_turn(ctx, start)
        except Paused as pause:
            live.pending = pause.questions
            return "paused"
        return "ok"

    async def _who_answers(self, root: InvocationContext) -> Agent:
        """Who takes the turn: the root, unless another agent of its tree has the floor, or goes on after a pause."""
        journal = root._run.journal
        if journal is not None and journal.root is not None:
            agent: Agent | None = self.agent.find_agent(journal.root.agent)
            assert agent is not None  # `_read_answers` has seen to that
            return agent
        return await self.agent.who_answers(root) if self.agent.shares_floor else self.agent

    async def _last_words(self, live: Live, root: InvocationContext) -> None:
        """Commit what was deferred and let plugins know; shielded, each plugin within its time."""
        run = live.invocation
        with anyio.move_on_after(self.teardown_timeout) as scope:
            try:
                end_orphans(run, None)
                await self._flush(run)
                if run.active:  # turns of which the start was on its way
                    end_orphans(run, None)
                    await self._flush(run)
            except Exception as error:
                live.error = live.error or error
        if scope.cancelled_caught:
            live.error = live.error or CommitUnknown(
                f"the session store didn't answer within {self.teardown_timeout:g} s"
            )
        for plugin in self._hooks.having("after_run"):
            with anyio.move_on_after(self.teardown_timeout) as scope:
                try:
                    await call_hook(plugin, "after_run", root)
                except Exception as error:
                    live.error = live.error or error
            if scope.cancelled_caught:
                logger.error("plugin %r: after_run took longer than %g s", plugin_name(plugin), self.teardown_timeout)

    async def _flush(self, run: Invocation) -> None:
        """Commit what was deferred: nothing follows that would take along what the store refuses once."""
        try:
            await run.flush()
        except CommitUnknown:
            raise
        except Exception:
            logger.warning("run %s: how its turns ended could not be stored; once more", run.id, exc_info=True)
            await run.flush()

    def _settle(self, live: Live, root: InvocationContext) -> None:
        """Say how the run ended, and close its stream."""
        run = live.invocation
        run.spent.seconds = run.now() - live.began
        if live.error is None and live.timed_out and not run.reason:
            live.error = run.out_of("seconds", Place(()), self.agent.name)
        if live.error is not None:
            live.status = "error"
        elif live.status not in ("ok", "paused"):
            live.status = "cancelled"
            run.reason = run.reason or "cancelled from outside"
        said = Outcome(agent=self.agent.name, branch="", status="ok", said=root._said)
        live.result = RunResult(
            status=live.status,
            text=said.text,
            output=said.output,
            outcomes=run.outcomes,
            usage=run.usage,
            error=live.error,
            reason=run.reason if live.status == "cancelled" else "",
            duration=run.spent.seconds,
            pending=live.pending,
        )
        if run.tracing is not None:
            run.tracing.end(
                live.span, outcome=live.status, error=live.error, reason=live.result.reason, output=said.text
            )
        self._live.pop(run.id, None)
        if live.error is not None and not live.attached:
            logger.error("run %s failed, and nobody reads it", run.id, exc_info=live.error)
        if live.policy == "detach":
            self._kept[run.id] = live
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        run.channel.close()

    async def _on_event(self, ctx: InvocationContext, event: Event) -> Event:
        """Let plugins replace an event; what it is stays what it was."""
        for plugin in self._hooks.having("on_event"):
            other = await call_hook(plugin, "on_event", ctx, event)
            if other is None or other is event:
                continue
            if not isinstance(other, Event):
                name = plugin_name(plugin)
                raise PluginError(
                    f"plugin {name!r}: on_event must return an Event or None, not {type(other).__name__}",
                    plugin=name, hook="on_event", agent=ctx.path, branch=ctx.branch, invocation_id=ctx.invocation_id,
                )  # fmt: skip
            kept = ("id", "invocation_id", "author", "branch", "path", "iteration", "partial", "lifecycle", "timestamp")
            fresh = other.model_copy(
                update={**{name: getattr(event, name) for name in kept}, "seq": None, "serial": None}
            )
            ctx._run.clean(fresh, f"plugin {plugin_name(plugin)!r}")
            return fresh
        return event


def _alone(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a group of one holds; otherwise the group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _check_limits(limits: object, where: str) -> None:
    if limits is not None and not isinstance(limits, Limits):
        raise ConfigError(f"{where}: limits must be Limits(...), not {limits!r}")


def _one_of(what: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{what} must be {' or '.join(map(repr, allowed))}, not {value!r}")
