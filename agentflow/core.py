"""Agent, InvocationContext, Plugin and Tool: the four that know each other. Read this first.

An agent takes a turn: it reads its context and pushes events with `await ctx.emit(event)`. Workflow agents run others
with `await ctx.run(child)`. `take_turn`, at the end, is all that happens around a turn.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from inspect import isawaitable
from types import CoroutineType
from typing import Any, NoReturn

import anyio
from anyio.lowlevel import checkpoint
from opentelemetry.trace import INVALID_SPAN, Span, SpanContext

from agentflow import tracing
from agentflow._hooks import Hooks
from agentflow._invocation import Invocation, Place, Timer, Watcher, pending_actions, summary
from agentflow._streams import Channel, Flow, Watched
from agentflow._tree import Node, check_name
from agentflow.content import Part, Text, as_parts, clean_text
from agentflow.errors import AgentTimeout, ConfigError, ContextEnded, InvalidEvent, RunError
from agentflow.events import (
    Actions,
    AgentComplete,
    AgentParallelComplete,
    AgentParallelStart,
    AgentStart,
    ErrorInfo,
    Event,
    Status,
    Usage,
    build_event,
)
from agentflow.models.base import ModelRequest, ModelResponse
from agentflow.outcome import Outcome
from agentflow.policies import Retry, seconds
from agentflow.services.artifacts import Artifact, ArtifactService
from agentflow.services.memory import MemoryHit, MemoryService
from agentflow.services.sessions import SessionKey
from agentflow.state import Group, State

logger = logging.getLogger(__name__)

Reply = Event | str | None
Callback = Callable[["InvocationContext"], Awaitable[Reply] | Reply]
"""Runs before or after an agent's turn. What it returns is emitted; from a `before_agent`, instead of the turn."""


class Agent(Node):
    """Someone who takes a turn. Subclass it and write `run`, or use `@agent` on a function.

    Immutable once built, so one agent can serve any number of runs at once: what changes in a run lives in the
    context. `clone` gives a changed copy.

    Args:
        name: Unique in its tree. Letters, digits, `_` and `-`; not `user`.
        description: What it is good for; other agents and UIs read it.
        sub_agents: Its children. A child has one parent.
        timeout: Seconds for a turn as a whole, retries included; `"5m"` is understood. Waits for the consumer don't
            count. Running out is an `AgentTimeout`.
        retry: What to do when a turn fails; a number is how often to try in all.
        before_agent: Called with the context before each turn, in order. The first to return text or an event ends
            the turn with that.
        after_agent: Called after a turn that went well; what they return is emitted too.

    Raises:
        ConfigError: A malformed, reserved or repeated name, or a child that has a parent already.

    Source: adk-go `agent/agent.go`; unlike there, everything is checked when built.
    """

    directs_others = False
    """Whether it only directs others (Sequential, Loop, Parallel): a workflow, in OpenTelemetry's terms."""

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        sub_agents: Sequence["Agent"] = (),
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
        before_agent: Callback | Sequence[Callback] = (),
        after_agent: Callback | Sequence[Callback] = (),
    ) -> None:
        super().__init__(name, sub_agents=sub_agents)
        self.description = description
        self.timeout: float | None = timeout  # type: ignore[assignment]  # `check` makes seconds of it
        self.retry: Retry | None = retry  # type: ignore[assignment]  # likewise
        self.before_agent: tuple[Callback, ...] = before_agent  # type: ignore[assignment]  # likewise
        self.after_agent: tuple[Callback, ...] = after_agent  # type: ignore[assignment]  # likewise

    def run(self, ctx: "InvocationContext") -> Awaitable[None] | AsyncIterator[Event]:
        """Take a turn: an `async def` that emits through `ctx`, or an async generator that yields events."""
        raise ConfigError(f"{type(self).__name__} {self.name!r} has no `run`: write `async def run(self, ctx)`")

    def check(self) -> None:
        """Called when built or cloned; a subclass checks its own settings here, after `super().check()`.

        Raises:
            ConfigError: A setting can't work.
        """
        fields = vars(self)
        owner = f"{type(self).__name__} {self.name!r}"
        if "after_agent" not in fields:
            raise ConfigError(f"{type(self).__name__}.__init__ must call super().__init__(name, ...)")
        fields["timeout"] = seconds(self.timeout, f"{owner}: timeout")
        if self.retry is not None and not isinstance(self.retry, Retry):
            fields["retry"] = Retry(attempts=self.retry)
        for name in ("before_agent", "after_agent"):
            value = fields[name]
            fields[name] = (value,) if callable(value) else tuple(value)
            if not all(callable(callback) for callback in fields[name]):
                raise ConfigError(f"{owner}: {name} must be a function of the context, or a list of them")


class Tool(ABC):
    """Something that a model may call.

    Args:
        name: Unique among an agent's tools.
        description: What it does, for the model.
    """

    def __init__(self, name: str, *, description: str = "") -> None:
        check_name(name, type(self).__name__)
        self.name = name
        self.description = description

    @abstractmethod
    async def run(self, ctx: "InvocationContext", args: dict[str, Any]) -> Any:
        """Do it, and return a JSON value."""


class Plugin:
    """Watches every run of a Runner and may step in. Override what you need.

    Hooks run in the order in which the plugins were given, before an agent's own callbacks; the first that returns
    something other than `None` ends the round (`after_run` and `close` always reach all). A hook that raises ends the
    run with a `PluginError` that names it.

    Source: adk-go `plugin/plugin.go`, the same hooks in the same order; unlike there, `close` is called.
    """

    name: str = ""
    """What errors call it; the class's name if empty."""

    async def on_user_message(self, ctx: "InvocationContext", message: tuple[Part, ...]) -> Sequence[Part] | None:
        """Replace the user's message before it is stored."""

    async def before_run(self, ctx: "InvocationContext") -> Reply:
        """Before the root's turn. What it returns is the run's answer: no agent runs."""

    async def on_event(self, ctx: "InvocationContext", event: Event) -> Event | None:
        """Replace an event before it is committed; partial and lifecycle events come here too."""

    async def after_run(self, ctx: "InvocationContext") -> None:
        """After every run, however it ended. Shielded, within the Runner's `teardown_timeout`."""

    async def before_agent(self, ctx: "InvocationContext") -> Reply:
        """Before an agent's turn. What it returns is emitted instead of the turn."""

    async def after_agent(self, ctx: "InvocationContext") -> Reply:
        """After an agent's turn that went well. What it returns is emitted too."""

    async def before_model(self, ctx: "InvocationContext", request: ModelRequest) -> ModelResponse | None:
        """Before a model is called. What it returns is the answer: the model isn't called."""

    async def after_model(self, ctx: "InvocationContext", response: ModelResponse) -> ModelResponse | None:
        """Replace a model's answer, or a streamed piece of one."""

    async def on_model_error(
        self, ctx: "InvocationContext", request: ModelRequest, error: Exception
    ) -> ModelResponse | None:
        """A model call failed. What it returns is the answer."""

    async def before_tool(self, ctx: "InvocationContext", tool: Tool, args: dict[str, Any]) -> Any:
        """Before a tool is called. What it returns is the result: the tool isn't called."""

    async def after_tool(self, ctx: "InvocationContext", tool: Tool, args: dict[str, Any], result: Any) -> Any:
        """Replace a tool's result."""

    async def on_tool_error(self, ctx: "InvocationContext", tool: Tool, args: dict[str, Any], error: Exception) -> Any:
        """A tool failed. What it returns is the result."""

    async def close(self) -> None:
        """The Runner ends."""


class LoopFrame:
    """A running loop, as those inside of it see it."""

    __slots__ = ("ended", "name", "outer")

    def __init__(self, name: str, outer: "LoopFrame | None") -> None:
        self.name = name
        self.outer = outer
        self.ended = False


class InvocationContext:
    """What an agent knows and may do during its turn. Derived for each turn, never changed, of no use after it.

    Attributes:
        agent: Whose turn it is.
        path: Its place in the tree, dotted.
        iteration: Number of the nearest enclosing loop's iteration, from 1.
    """

    __slots__ = (
        "_active", "_forks", "_links", "_loop", "_origins", "_parent", "_place", "_run", "_said", "_services", "_span",
        "_state", "_timers", "_usage", "_watch", "agent", "began", "ended", "iteration", "path",
    )  # fmt: skip

    def __init__(self, run: Invocation, services: "Services", agent: Agent, parent: "InvocationContext | None") -> None:
        self._run = run
        self._services = services
        self._parent = parent
        self.agent = agent
        self.ended = False
        self.began: float | None = None
        self._active = 0
        self._forks = 0
        self._origins: dict[str, InvocationContext] | None = None
        self._said: Event | tuple[Outcome, ...] | None = None
        self._state: State | None = None
        self._usage: Usage | None = None
        self._links: tuple[SpanContext, ...] = ()
        if parent is None:
            self.path = agent.name
            self.iteration: int | None = None
            self._place = Place(())
            self._loop: LoopFrame | None = None
            self._span: Span = INVALID_SPAN
            self._timers: tuple[Timer, ...] = ()
            self._watch: Watched | None = None
        else:
            self.path = f"{parent.path}.{agent.name}"
            self.iteration = parent.iteration
            self._place = parent._place
            self._loop = parent._loop
            self._span = parent._span
            self._timers = parent._timers
            self._watch = parent._watch

    # What it knows

    @property
    def branch(self) -> str:
        """The branch that it is on, dotted; empty on the root's line."""
        return self._place.branch

    @property
    def invocation_id(self) -> str:
        """The run's id."""
        return self._run.id

    @property
    def session(self) -> SessionKey:
        """The session that the run belongs to: app, user and id."""
        return self._run.key

    @property
    def user_content(self) -> tuple[Part, ...]:
        """What the user said to start this run."""
        return self._run.user_content

    @property
    def user_text(self) -> str:
        """The words of `user_content`."""
        return "".join(part.text for part in self._run.user_content if type(part) is Text)

    @property
    def state(self) -> State:
        """Session state: its own pending writes over what is committed."""
        if self._state is None:
            self._state = State(self._run.state, self._place.groups)
            if self.ended:
                self._state.close()
        return self._state

    @property
    def usage(self) -> Usage:
        """What models have charged for this turn so far, sub-agents included."""
        return self._usage or Usage()

    @property
    def remaining(self) -> float:
        """Seconds until the nearest deadline of its own or of who runs it; infinity if there is none."""
        return min((timer.left() for timer in self._timers), default=float("inf"))

    async def history(self) -> list[Event]:
        """The events that this agent sees, oldest first; those of running siblings and lifecycle events aside.

        That is: its ancestors' from before its fork, its own branch's, and those of every parallel group that gathered
        before now in its own line; earlier runs' likewise. The first call of a run reads the session.
        """
        self._check()
        return await self._run.history(self._place)

    # What it may do

    def text(self, text: str, *, partial: bool = False, response_id: str | None = None) -> Event:
        """An event of this agent's that says `text`; emit it or yield it."""
        if type(text) is not str:
            raise InvalidEvent(f"{self._who()}: text must be a string, not {type(text).__name__}")
        run = self._run
        event = build_event(
            run.new_id(), run.id, run.time(), self.agent.name, self._place.branch, self.path, self.iteration,
            (Text(text),), None, partial,
        )  # fmt: skip
        if response_id is not None:
            event.__dict__["response_id"] = response_id
        return event

    def event(
        self,
        *parts: Part | str,
        actions: Actions | None = None,
        usage: Usage | None = None,
        partial: bool = False,
        response_id: str | None = None,
    ) -> Event:
        """An event of this agent's with any content; emit it or yield it.

        Args:
            *parts: Content parts; a string is text.
            actions: What it does besides being read, for instance `Actions(escalate=True)`.
            usage: What a model charged for it.
            partial: A streamed piece: delivered, never stored.
            response_id: Ties streamed pieces to their final event.
        """
        return Event(parts=as_parts(parts), actions=actions, usage=usage, partial=partial, response_id=response_id)

    async def emit(self, event: Event) -> None:
        """Say something: stamp it, store it, hand it over. Pending state writes are published with it.

        Returns when the event is stored (partial events never are) and the consumer has asked for the next one;
        `lookahead` on the run lets it go ahead. Once the run is cancelled or detached it waits for the store alone.

        Raises:
            InvalidEvent: Not an event, or one that no store can take. Nothing was stored.
            ContextEnded: The agent's turn is over.
            StateConflict: A sibling branch wrote one of its state keys, and that is an error there.
            LimitExceeded: The run's budget is used up.
        """
        if self.ended:
            self._refuse()
        run = self._run
        if run.scheduler is not None:
            await run.scheduler.point(self.path, "emit")
        origin = self
        if self._origins is not None and isinstance(event, Event) and event.id in self._origins:
            origin = self._origins.pop(event.id)  # a child's, being passed on
        else:
            event = self._stamp(event)
        fields = event.__dict__
        if self._state is not None and origin is self:
            fields["actions"] = pending_actions(self._state, fields["actions"])
        run.clean(event, self.path)
        if self._watch is not None:
            await self._show(event, origin)
            return
        if run.on_event is not None:
            event = await run.on_event(self, event)
            fields = event.__dict__
        place = origin._place
        actions = fields["actions"]
        frame = origin._loop_named(actions.escalate) if actions is not None and actions.escalate else None
        if not fields["partial"]:
            await run.commit(place, event)
            if fields["parts"]:
                self._said = origin._said = event
            if frame is not None:
                frame.ended = True
            if fields["usage"] is not None:
                origin._charge(fields["usage"])
        channel = run.channel
        if channel.reading:
            channel.push(event, place.flow)
        for watch in place.watchers:
            watch(event, place.branch, frame)
        if not channel.reading or run.stopping:
            await checkpoint()
        elif place.flow.sent - run.lookahead > place.flow.taken:
            if self._timers:
                await self._wait_off_the_clock(place.flow)
            else:
                await channel.taken(place.flow, run.lookahead)
        if run.scheduler is not None:
            await run.scheduler.point(self.path, "go on")

    async def run(self, child: Agent) -> Outcome:
        """Let `child` take a turn in this one; its events go to the same stream. Returns when it has ended.

        The child works on this agent's branch. Several at once (from tasks of your own) each get a branch of their
        own, `child#2` and so on, which joins when it ends.

        Raises:
            Exception: What the child raised. Errors of agentflow's own are `RunError`.
        """
        self._check()
        await self.flush()
        ctx = self._derive(child)
        own_branch = bool(self._active)
        if own_branch:
            self._fork(ctx)
        self._active += 1
        try:
            return await take_turn(ctx, AgentStart(child.name, type(child).__name__, own_branch=own_branch))
        finally:
            self._active -= 1

    @asynccontextmanager
    async def open(self, child: Agent) -> AsyncGenerator[Watched]:
        """Let `child` take a turn and see its events *before* they are stored.

        What is passed on with `emit`, changed or not, is stored; what isn't, is not. The child goes on when the next
        event is asked for. Leaving the block stops it. Lifecycle events go their own way and can't be held back.

        Raises:
            Exception: What the child raised, at the next step of the iteration or on leaving the block.
        """
        self._check()
        await self.flush()
        channel = Channel(self._run.channel.new_ticket)
        watched = Watched(channel)
        ctx = self._derive(child)
        own_branch = bool(self._active)
        if own_branch:
            self._fork(ctx)
        ctx._watch = watched
        self._origins = self._origins or {}
        start = AgentStart(child.name, type(child).__name__, own_branch=own_branch)

        async def work() -> None:
            try:
                watched.outcome = await take_turn(ctx, start)
            except Exception as error:
                watched.error = error
            finally:
                channel.close()

        failure: Exception | None = None
        self._active += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work, name=f"agentflow {ctx.path}")
                try:
                    yield watched
                except Exception as error:  # raised again below, outside of the group, as itself
                    failure = error
                finally:
                    tasks.cancel_scope.cancel()
                    channel.stop_reading()
        finally:
            self._active -= 1
        if failure is not None:
            raise failure
        watched.raise_error()

    async def flush(self) -> None:
        """Publish pending state writes now, in an event that has nothing else."""
        if self._state is not None and self._state._pending:
            await self.emit(self.event())

    async def save_artifact(self, filename: str, data: bytes | str, *, mime_type: str | None = None) -> int:
        """Save a file beside the session, as a new version, and tell of it in an event.

        Args:
            filename: Without slashes; `user:` in front makes it the user's, in all sessions.
            data: Text is stored as UTF-8.
            mime_type: By default plain text for text, else bytes.

        Returns:
            The version, from 1.
        """
        self._check()
        version = await self._services.artifacts.save(self.session, filename, data, mime_type=mime_type)
        await self.emit(self.event(actions=Actions(artifact_delta={filename: version})))
        return version

    async def load_artifact(self, filename: str, *, version: int | None = None) -> Artifact | None:
        """The artifact of this name, or `None`: the latest version, or the one asked for."""
        self._check()
        return await self._services.artifacts.load(self.session, filename, version=version)

    async def search_memory(self, query: str, *, limit: int = 10) -> Sequence[MemoryHit]:
        """What the memory service remembers of this user for `query`, best first."""
        self._check()
        return await self._services.memory.search(self._run.key.app_name, self._run.key.user_id, query, limit=limit)

    def spend(self, *, usage: Usage | None = None) -> None:
        """Charge usage that no event carries to this turn and to the run's limits.

        Raises:
            LimitExceeded: A budget ran out.
        """
        self._check()
        if usage is not None:
            self._charge(usage)

    # How it is done

    def _who(self) -> str:
        return f"agent {self.path!r}"

    def _check(self) -> None:
        if self.ended:
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise ContextEnded(
            f"the turn of agent {self.path!r} has ended, so its context can't be used any more: "
            "don't keep ctx, and wait for tasks that use it before the agent returns"
        )

    def _stamp(self, event: Event) -> Event:
        if not isinstance(event, Event):
            hint = "; await ctx.emit(ctx.text(...)) to say something" if isinstance(event, (str, dict)) else ""
            raise InvalidEvent(f"{self._who()} emitted {_short(event)}, which is not an Event{hint}")
        fields = event.__dict__
        if fields["serial"] is not None:  # stored already: say it again
            event = event.model_copy(update={"id": "", "seq": None, "serial": None, "timestamp": 0.0, "path": ""})
            fields = event.__dict__
        elif fields["path"] is self.path and fields["branch"] is self._place.branch:
            return event  # made by this context
        if fields["lifecycle"] is not None:
            raise InvalidEvent(f"{self._who()} emitted a lifecycle event; those are the framework's own")
        run = self._run
        fields["id"] = fields["id"] or run.new_id()
        fields["timestamp"] = fields["timestamp"] or run.time()
        fields["author"] = fields["author"] or self.agent.name
        fields["invocation_id"] = run.id
        fields["branch"] = self._place.branch
        fields["path"] = self.path
        fields["iteration"] = self.iteration
        return event

    async def _show(self, event: Event, origin: "InvocationContext") -> None:
        """Hand an event to who watches this turn, and wait until it has been passed on or dropped."""
        watched = self._watch
        assert watched is not None
        ctx = self
        while ctx._watch is watched:
            assert ctx._parent is not None
            ctx = ctx._parent
        assert ctx._origins is not None
        ctx._origins[event.id] = origin
        await watched.channel.send(event, watched.flow)
        ctx._origins.pop(event.id, None)

    async def _wait_off_the_clock(self, flow: Flow) -> None:
        """Wait for the reader; meanwhile the clocks of all timeouts above stand still."""
        for timer in self._timers:
            timer.pause()
        try:
            await self._run.channel.taken(flow, self._run.lookahead)
        finally:
            for timer in self._timers:
                timer.resume()

    def _within(self, frame: LoopFrame, iteration: int) -> "InvocationContext":
        """This context inside an iteration of the loop that it runs."""
        inner = InvocationContext(self._run, self._services, self.agent, self)
        inner.path, inner.iteration, inner._loop, inner._links = self.path, iteration, frame, self._links
        return inner

    def _halted(self) -> bool:
        """Whether a loop that runs this has been ended from inside."""
        frame = self._loop
        while frame is not None:
            if frame.ended:
                return True
            frame = frame.outer
        return False

    def _derive(self, child: Agent) -> "InvocationContext":
        if not isinstance(child, Agent):
            raise ConfigError(f"{self._who()} can only run agents, not a {type(child).__name__}")
        return InvocationContext(self._run, self._services, child, self)

    def _fork(self, ctx: "InvocationContext") -> None:
        """Give a child that runs beside others a branch of its own."""
        self._forks += 1
        name = f"{ctx.agent.name}#{self._forks + 1}"
        place = self._place
        ctx._place = Place((*place.segments, self.agent.name, name), place.groups, place.watchers)

    def _loop_named(self, target: bool | str) -> LoopFrame | None:
        frame = self._loop
        if target is True:
            return frame
        inner = frame
        while frame is not None and frame.name != target:
            frame = frame.outer
        if frame is None:
            raise InvalidEvent(f"{self._who()} escalated to {target!r}, but no loop of that name runs it")
        while inner is not None and inner is not frame:  # the loops inside of it end too
            inner.ended = True
            inner = inner.outer
        return frame

    def _charge(self, usage: Usage) -> None:
        ctx: InvocationContext | None = self
        while ctx is not None:
            ctx._usage = usage if ctx._usage is None else ctx._usage + usage
            ctx = ctx._parent
        run = self._run
        run.usage = run.usage + usage
        run.spent.model_calls += usage.model_calls
        run.spent.tokens += usage.total_tokens
        run.spent.cost += usage.cost
        over = run.spent.exceeded(run.limits)
        if over is not None:
            raise run.out_of(over, self._place, self.path)

    async def _tell(self, record: Any, wait: bool = True, actions: Actions | None = None) -> Event:
        """Emit a lifecycle event."""
        run = self._run
        event = run.lifecycle(record, self.agent.name, self._place, self.path, self.iteration)
        if actions is not None:
            event.__dict__["actions"] = actions
            run.clean(event, self.path)
        await run.tell(self._place, event, self, wait)
        return event


def _short(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text[:60]}{'…' if len(text) > 60 else ''}" if value is not None else "None"


@dataclass(slots=True)
class Services:
    """What the contexts of one Runner share."""

    artifacts: ArtifactService
    memory: MemoryService
    plugins: Hooks


async def take_turn(ctx: InvocationContext, start: AgentStart, *, timeout: float | None = None) -> Outcome:
    """All that happens around an agent's turn: events, span, callbacks, time, retries, and exactly one end.

    A turn whose start was stored has exactly one terminal event, stored too. That of a cancelled turn is stored with
    whatever the run stores next, so that cancelling waits for nobody.

    Args:
        ctx: Made for this turn.
        start: Tells of the beginning; its type decides that of the end.
        timeout: Seconds, besides the agent's own.

    Raises:
        Exception: What the agent raised, with a note that says where.
    """
    run, agent, place = ctx._run, ctx.agent, ctx._place
    began = run.now()
    begin = run.lifecycle(start, agent.name, place, ctx.path, ctx.iteration)
    status: Status = "ok"
    error: BaseException | None = None
    attempts = 1
    run.active[ctx] = None
    if run.tracing is not None:
        ctx._span = _start_span(ctx)
    try:
        await run.tell(place, begin, ctx)
        if run.scheduler is not None:
            await run.scheduler.point(ctx.path, "start")
        if run.tracing is None:
            attempts = await _work(ctx, start, timeout)
        else:
            with tracing.current(ctx._span):
                attempts = await _work(ctx, start, timeout)
    except Exception as raised:
        error = raised
        status = "timeout" if isinstance(raised, AgentTimeout) and raised.agent == ctx.path else "error"
        _explain(raised, ctx)
    except BaseException as raised:
        error, status = raised, "cancelled"
    if begin.serial is not None:
        ctx.began = began
        try:
            await _end(ctx, start, status, error, began, attempts)
        except Exception as raised:
            if error is None:
                error, status = raised, "error"
        except BaseException as raised:
            error, status = raised, "cancelled"
    _leave(ctx, status, error, began, attempts)
    if error is not None:
        try:
            raise error
        finally:
            del error  # or the traceback would keep this frame, and it the traceback
    return Outcome(
        agent=agent.name,
        branch=place.branch,
        status="ok",
        said=ctx._said,
        duration=run.now() - began,
        usage=ctx._usage,
    )


async def _end(
    ctx: InvocationContext, start: AgentStart, status: Status, error: BaseException | None, began: float, attempts: int
) -> None:
    """Commit the terminal event; of a cancelled turn, or where that fails, leave it to the next commit."""
    run = ctx._run
    parallel = isinstance(start, AgentParallelStart)
    record = (AgentParallelComplete if parallel else AgentComplete)(
        ctx.agent.name, status, round((run.now() - began) * 1000, 3), attempts
    )
    said = ctx._said
    if said is not None:
        record.result_summary = summary(said.text if isinstance(said, Event) else " / ".join(o.text for o in said))
    if isinstance(error, Exception):
        record.error = error_info(error)
    if status == "cancelled":
        record.reason = run.reason
    event = run.lifecycle(record, ctx.agent.name, ctx._place, ctx.path, ctx.iteration)
    if status == "cancelled":
        run.defer(ctx, event)
        return
    if status == "ok" and ctx._state is not None:
        event.__dict__["actions"] = pending_actions(ctx._state, None)
    try:
        if event.actions is not None:
            run.clean(event, ctx.path)
        await run.tell(ctx._place, event, ctx, wait=status == "ok")
    except BaseException as raised:
        if event.serial is None:
            record.outcome = "error" if isinstance(raised, Exception) else "cancelled"
            record.error = record.error or (error_info(raised) if isinstance(raised, Exception) else None)
            event.__dict__["actions"] = None
            run.defer(ctx, event)
        raise


def _leave(ctx: InvocationContext, status: Status, error: BaseException | None, began: float, attempts: int) -> None:
    run = ctx._run
    ctx.ended = True
    if ctx._state is not None:
        ctx._state.close()
    run.active.pop(ctx, None)
    parent = ctx._parent
    if parent is not None and ctx._said is not None:
        parent._said = ctx._said
    if run.tracing is not None:
        said = ctx._said
        run.tracing.end(
            ctx._span,
            outcome=status,
            duration=run.now() - began,
            workflow=ctx.agent.directs_others,
            name=ctx.agent.name,
            error=error,
            reason=run.reason if status == "cancelled" else "",
            attempts=attempts,
            output=said.text if isinstance(said, Event) else None,
        )
        if parent is not None and ctx._links:
            parent._links = ctx._links


def _start_span(ctx: InvocationContext) -> Span:
    run, agent, parent = ctx._run, ctx.agent, ctx._parent
    assert run.tracing is not None
    links: tuple[SpanContext, ...] = ()
    if parent is not None:
        links, parent._links = parent._links, ()
    return run.tracing.start_agent(
        name=agent.name,
        description=agent.description,
        agent_type=type(agent).__name__,
        workflow=agent.directs_others,
        nested=parent is not None,
        parent=ctx._span,
        path=ctx.path,
        branch=ctx._place.branch,
        iteration=ctx.iteration,
        invocation_id=run.id,
        session_id=run.key.session_id,
        links=links,
    )


async def _work(ctx: InvocationContext, start: AgentStart, timeout: float | None) -> int:
    """The turn itself, within its time; gives the number of attempts."""
    agent, run = ctx.agent, ctx._run
    limit = agent.timeout if timeout is None else min(timeout, agent.timeout or timeout)
    if limit is None:
        return await _tries(ctx, start)
    with anyio.CancelScope(deadline=run.now() + limit) as scope:
        ctx._timers = (*ctx._timers, Timer(scope, run.now))
        return await _tries(ctx, start)
    raise AgentTimeout(
        f"agent {ctx.path!r} was still at work after {limit:g} s",
        seconds=limit,
        agent=ctx.path,
        branch=ctx.branch,
        invocation_id=run.id,
    )


async def _tries(ctx: InvocationContext, start: AgentStart) -> int:
    retry = ctx.agent.retry
    if retry is None:
        await _body(ctx)
        return 1
    run = ctx._run
    attempt = 1
    while True:
        kept = [(group, index, dict(group.contributions.get(index, {}))) for group, index in ctx._place.groups]
        try:
            await _body(ctx)
            return attempt
        except Exception as error:
            if attempt >= retry.attempts or not retry.covers(error):
                raise
            failure = error_info(error)
            wait = retry.wait(attempt, run.rng)
        if ctx._state is not None:
            ctx._state.drop_pending()
        for group, index, own in kept:
            group.contributions[index] = own
        ctx._said = None
        await anyio.sleep(wait)
        attempt += 1
        again = type(start)(ctx.agent.name, start.agent_type, attempt, failure)
        await ctx._tell(again)


async def _body(ctx: InvocationContext) -> None:
    agent, plugins = ctx.agent, ctx._services.plugins
    if plugins.before_agent or agent.before_agent:
        reply = await plugins.first("before_agent", ctx) or await _call_back(agent.before_agent, ctx)
        if reply is not None:
            await ctx.emit(as_event(ctx, reply))
            return
    work = agent.run(ctx)
    if type(work) is CoroutineType or isawaitable(work):
        result: object = await work
        if result is not None:
            raise InvalidEvent(
                f"{ctx._who()} returned {_short(result)}; an agent says something with await ctx.emit(ctx.text(...))"
            )
    elif isinstance(work, AsyncIterator):
        await _drive(ctx, work)
    else:
        raise InvalidEvent(f"{ctx._who()}: run must be an async function or an async generator, not {_short(work)}")
    if plugins.after_agent or agent.after_agent:
        reply = await plugins.first("after_agent", ctx) or await _call_back(agent.after_agent, ctx)
        if reply is not None:
            await ctx.emit(as_event(ctx, reply))


async def _call_back(callbacks: Sequence[Callback], ctx: InvocationContext) -> Reply:
    for callback in callbacks:
        reply = callback(ctx)
        if isawaitable(reply):
            reply = await reply
        if reply is not None:
            return reply
    return None


def as_event(ctx: InvocationContext, reply: Event | str) -> Event:
    return ctx.text(reply) if isinstance(reply, str) else reply


async def _drive(ctx: InvocationContext, events: AsyncIterator[Event]) -> None:
    """Run a generator to its end in this task; what happens at a `yield` is thrown back in there.

    So a timeout, a task group or a span around a `yield` behaves as around an `await`. One that goes on yielding
    though its scope is cancelled is closed and reported.
    """
    swallowed = 0
    try:
        event = await anext(events)
        while True:
            try:
                await ctx.emit(event)
            except BaseException as error:
                if not isinstance(events, AsyncGenerator):
                    raise
                if swallowed >= _SWALLOWS:
                    await _put_down(ctx, events)
                    raise
                event = await events.athrow(error)
                if not isinstance(error, Exception) and anyio.current_effective_deadline() == float("-inf"):
                    swallowed += 1
            else:
                event = await anext(events)
    except StopAsyncIteration:
        return


_SWALLOWS = 3
"""How often a generator may yield again under a cancelled scope: a `finally` may, once or twice."""


async def _put_down(ctx: InvocationContext, events: AsyncGenerator[Event, None]) -> None:
    logger.error("%s swallowed its cancellation %d times; it is closed", ctx._who(), _SWALLOWS)
    try:
        await events.aclose()
    except RuntimeError as error:
        logger.error("%s: %s", ctx._who(), error)  # "async generator ignored GeneratorExit"


def error_info(error: BaseException) -> ErrorInfo:
    """An error as events carry it."""
    return ErrorInfo(
        type(error).__qualname__, clean_text(str(error))[:10_000], bool(getattr(error, "retryable", False))
    )


def _explain(error: Exception, ctx: InvocationContext) -> None:
    """Say where it happened: in the fields of our own errors, in a note on others; the innermost agent's word counts."""
    if isinstance(error, RunError):
        if not error.agent:
            error.agent, error.branch, error.invocation_id = ctx.path, ctx.branch, ctx.invocation_id
    elif not any(note.startswith("in agent ") for note in getattr(error, "__notes__", ())):
        where = f" on branch {ctx.branch!r}" if ctx.branch else ""
        error.add_note(f"in agent {ctx.path!r}{where} (run {ctx.invocation_id})")


def branch_context(
    ctx: InvocationContext, child: Agent, name: str, group: Group, index: int, watchers: Sequence[Watcher] = ()
) -> InvocationContext:
    """The context of a branch that a parallel group opens: `name` is its last segment, `index` its place there."""
    place = ctx._place
    branch = ctx._derive(child)
    branch._place = Place(
        (*place.segments, ctx.agent.name, name), ((group, index), *place.groups), (*watchers, *place.watchers)
    )
    return branch
