"""Agent, InvocationContext, Plugin and Tool: the four that know each other. Read this first.

An agent takes a turn: it reads its context and pushes events with `await ctx.emit(event)`. Workflow agents run others
with `await ctx.run(child)`. What happens around a turn is in `_taking.py`, what a run shares in `_invocation.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from anyio.lowlevel import checkpoint

from agentflow._generators import short
from agentflow._settings import check_flags, check_mappings, check_texts, check_whole
from agentflow._taking import take_turn
from agentflow._tree import Node, check_name
from agentflow._turn import Turn, Words, outcome_of
from agentflow._watching import Watching
from agentflow.content import Part, Text, ToolCall, ToolResult, UserContent, as_parts, clean_text
from agentflow.errors import ConfigError, ContextEnded, InvalidEvent
from agentflow.events import Actions, AgentStart, Event, Usage, build_event, copy_event, plain_start
from agentflow.models.base import ModelRequest, ModelResponse
from agentflow.outcome import Outcome
from agentflow.policies import Limits, Retry, Spent, seconds
from agentflow.questions import Confirmation, Paused, Question
from agentflow.services.sessions import SessionKey
from agentflow.state import State, with_pending

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
        after_agent: Called after a turn that went well, in order; what the first to say something says is emitted too.

    Raises:
        ConfigError: A malformed, reserved or repeated name, or a child that has a parent already.

    Source: adk-go `agent/agent.go`; unlike there, everything is checked when built.
    """

    directs_others = False
    """Whether it only directs others (Sequential, Loop, Parallel): a workflow, in OpenTelemetry's terms."""

    description: str
    timeout: float | None
    retry: Retry | None
    before_agent: tuple[Callback, ...]
    after_agent: tuple[Callback, ...]

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
        vars(self).update(  # `check` makes of them what is declared above
            description=description, timeout=timeout, retry=retry, before_agent=before_agent, after_agent=after_agent
        )

    def run(self, ctx: "InvocationContext") -> Awaitable[None] | AsyncIterator[Event]:
        """Take a turn: an `async def` that emits through `ctx`, or an async generator that yields events."""
        raise ConfigError(f"{type(self).__name__} {self.name!r} has no `run`: write `async def run(self, ctx)`")

    @property
    def shares_floor(self) -> bool:
        """Whether another agent of its tree may answer in its place; see `who_answers`."""
        return False

    async def who_answers(self, ctx: "InvocationContext") -> "Agent":
        """Which agent of its tree takes the turn, where it is the root of a run: itself, unless it `shares_floor`."""
        return self

    def check(self) -> None:
        """Called when built or cloned; a subclass checks its own settings here, after `super().check()`.

        Raises:
            ConfigError: A setting can't work.
        """
        fields = vars(self)
        if "after_agent" not in fields:
            raise ConfigError(f"{type(self).__name__}.__init__ must call super().__init__(name, ...)")
        if (
            type(self.description) is str
            and self.timeout is None
            and self.retry is None
            and (self.before_agent == () == self.after_agent)
        ):
            return  # nothing set: most agents
        owner = f"{type(self).__name__} {self.name!r}"
        check_texts(owner, description=self.description)
        fields["timeout"] = seconds(self.timeout, f"{owner}: timeout")
        if self.retry is not None and not isinstance(self.retry, Retry):
            try:
                fields["retry"] = Retry(attempts=self.retry)
            except ConfigError as error:
                raise ConfigError(f"{owner}: {error}") from None
        for name in ("before_agent", "after_agent"):
            value = fields[name]
            fields[name] = (value,) if callable(value) else tuple(value) if isinstance(value, Sequence) else (None,)
            if not all(callable(callback) for callback in fields[name]):
                raise ConfigError(f"{owner}: {name} must be a function of the context, or a list of them")


class Tool(ABC):
    """Something that a model may call. Subclass it and write `run`, or use `@tool` on a function.

    Args:
        name: Unique among an agent's tools.
        description: What it does, for the model.
        timeout: Seconds for a call. Running out is an error that the model is told.
        sequential: Runs alone: after the calls before it in its turn, and before those after it.
        on_error: What becomes of an exception: `"return"` tells the model, `"raise"` lets the agent's turn fail.
        long_running: Its answer may come later: what it returns now is only where it stands, and `None` pauses the run
            until a later one brings the answer.
        require_confirmation: A person has to agree before it runs: always, or where a function of the context and the
            arguments says so.
        max_result_bytes: A longer result is saved as an artifact, and the model reads its beginning.
        strict: The provider guarantees that arguments fit the schema, where it can.
        extra: More of its declaration, by the provider's own names: `defer_loading`, `input_examples`, ...

    Raises:
        ConfigError: A setting can't work.
    """

    declared = True
    """Whether the model is told of it; one that isn't only has `prepare`."""

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        timeout: float | str | None = None,
        sequential: bool = False,
        on_error: Literal["return", "raise"] = "return",
        long_running: bool = False,
        require_confirmation: "bool | Callable[[ToolContext, dict[str, Any]], bool | Awaitable[bool]]" = False,
        max_result_bytes: int = 256 * 1024,
        strict: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        check_name(name, type(self).__name__)
        if on_error not in ("return", "raise"):
            raise ConfigError(f"tool {name!r}: on_error must be 'return' or 'raise', not {on_error!r}")
        self.name = name
        self._description = description
        owner = f"tool {name!r}"
        check_texts(owner, description=description)
        check_flags(owner, sequential=sequential, long_running=long_running, strict=strict)
        if not isinstance(require_confirmation, bool) and not callable(require_confirmation):
            raise ConfigError(
                f"{owner}: require_confirmation must be True, False or a function of the context and the arguments, "
                f"not {require_confirmation!r}"
            )
        check_whole(owner, max_result_bytes=max_result_bytes)
        check_mappings(owner, extra=extra)
        self.timeout = seconds(timeout, f"{owner}: timeout")
        self.sequential = sequential
        self.on_error = on_error
        self.long_running = long_running
        self.require_confirmation = require_confirmation
        self.max_result_bytes = max_result_bytes
        self.strict = strict
        self.extra = dict(extra) if extra else None

    @property
    def description(self) -> str:
        """What it does, for the model."""
        return self._description

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON schema of its arguments: an object."""
        return {"type": "object", "properties": {}}

    @abstractmethod
    async def run(self, ctx: "ToolContext", args: dict[str, Any]) -> Any:
        """Do it, and return a JSON value, content parts, or what pydantic can make JSON of."""

    async def prepare(self, ctx: "InvocationContext", request: ModelRequest) -> None:
        """Called before each model call of an agent that has it; may change the request."""
        return None


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


class InvocationContext(Watching):
    """What an agent knows and may do during its turn. Derived for each turn, never changed, of no use after it.

    Attributes:
        agent: Whose turn it is.
        path: Its place in the tree, dotted.
        iteration: Number of the nearest enclosing loop's iteration, from 1.
    """

    __slots__ = ()

    agent: Agent

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
        """What the user said to start this run; below an agent that was told something of its own, that."""
        return self._run.user_content if self._content is None else self._content

    @property
    def user_text(self) -> str:
        """The words of `user_content`."""
        return "".join(part.text for part in self.user_content if type(part) is Text)

    @property
    def state(self) -> State:
        """Session state: its own pending writes over what is committed."""
        if self._state is None:
            committed = self._run.state if self._past is None else self._past.view(self._run.state)
            self._state = State(committed, self._place.groups)
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
        run = self._run
        return min([timer.left() for timer in self._timers] + [run.ends - run.now()])

    @property
    def deadline(self) -> float:
        """When that is, by `anyio.current_time()`. Nested work inherits it and can only shorten it."""
        return self._run.now() + self.remaining

    @property
    def limits(self) -> Limits:
        """What the run may spend."""
        return self._run.limits

    @property
    def spent(self) -> Spent:
        """What the run has spent so far."""
        return self._run.spent

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
            raise InvalidEvent(f"agent {self.path!r}: text must be a string, not {type(text).__name__}")
        run = self._run
        event = build_event(self._form or self.form, run.new_id(), run.time(), (Text(text),), None, partial)
        if response_id is not None:
            event.__dict__["response_id"] = clean_text(response_id)
        self._made = event
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
            StateConflict: A sibling branch wrote one of its state keys, and that is an error: that write is dropped.
            LimitExceeded: The run's budget is used up.
        """
        run = self._run
        origin: Turn | None = self
        if self._is_plain(event):  # nearly all events are: all the rest is for the others
            self._made = None
            if not event.__dict__["partial"]:
                committing = run.commit(self._place, event, self)
                if committing is None:
                    self._said = event
                else:
                    await committing
            else:
                run.channel.push(event, self._place.flow)
        else:
            origin = await self._emit(event)
        if origin is not None:
            flow = origin._place.flow
            if not run.channel.reading or run.stopping:
                await checkpoint()
            elif flow.sent - run.lookahead > flow.taken:
                await run.read(flow, run.lookahead, origin._timers)
        if run.scheduler is not None:
            await run.scheduler.point(self.path, "go on")

    def _is_plain(self, event: Event) -> bool:
        """Whether these are words that `text` has just made, which need only be stored and read: nobody steps in."""
        run = self._run
        if (
            event is not self._made
            or event is None
            or not run.direct
            or self._watch is not None
            or self._past is not None
            or self._place.watchers
            or (self._state is not None and self._state._pending)
            or self.ended
        ):
            return False
        part: Any = event.__dict__["parts"][0]  # an event is frozen; a part isn't
        text = part.text
        return (
            type(text) is str
            and part.extra is None
            and text.isascii()
            and len(text) < run.plain_chars
            and "\x00" not in text
        )

    async def _emit(self, event: Event) -> Turn | None:
        """All that `emit` may have to do before it waits; gives whose event it is, if that is now to be read."""
        self._check()
        run = self._run
        if run.scheduler is not None:
            await run.scheduler.point(self.path, "emit")
        origin: Turn = self
        paid = isinstance(event, Event) and event.id in run.paid
        if self._origins is not None and isinstance(event, Event) and event.id in self._origins:
            whose = self._origins.pop(event.id)  # a child's, being passed on
            if whose is None:  # it is stored, from before a pause
                return None
            origin = whose
        elif self._past is not None and self.repeats(event):
            return None
        if origin is not self and origin.silent():  # which said all that it may
            origin = self
        if origin is self:
            event = self._stamp(event)
        fields = event.__dict__
        if paid:
            fields["usage"] = None
        told, shown = event, False
        place = origin._place
        said, publishes = fields["actions"], origin is self and not fields["partial"]
        pending = self._state.take_pending() if self._state is not None and publishes else None
        try:
            if pending is not None:
                fields["actions"] = with_pending(pending, said, place.groups)
            run.clean(event, self.path)
            if self._watch is not None and not fields["long_running_tool_ids"]:  # a question can't be held back
                shown = True
                await self._show(event, origin, said, pending)
                return None
            if run.on_event is not None:
                event = await run.on_event(self, event)
                if run.strict:
                    self._check()
                fields = event.__dict__
            if origin is not self and origin.silent():  # meanwhile
                origin, event, place = self, self._stamp(event), self._place
                fields = event.__dict__
            actions = fields["actions"]
            loops = origin.loops_to_end(actions.escalate) if actions is not None and actions.escalate else ()
            words = Words(self, origin, loops)
            if not fields["partial"]:
                committing = run.commit(place, event, words)
                if committing is None:
                    words.landed(event)
                else:
                    await committing
        except BaseException as error:
            told.__dict__["serial"] = event.serial
            if event.serial is None and not shown:
                self.take_back(told, said, pending, error)
                origin.drop(event)
            raise
        told.__dict__["serial"] = event.serial  # who emits asks whether it is stored, though it was replaced
        if fields["partial"]:
            run.channel.push(event, place.flow)
            words.watched(event)
        elif fields["usage"] is not None:
            run.check_spent(place, origin.path)
        return origin

    async def run(self, child: Agent, *, message: UserContent = None) -> Outcome:
        """Let `child` take a turn in this one; its events go to the same stream. Returns when it has ended.

        The child works on this agent's branch. While one does, others that you start (from tasks of your own) each get
        a branch of their own, `child#2` and so on, which joins when it ends.

        Args:
            child: Who takes the turn.
            message: What it is told instead of what the user said: its `user_content`, and that of those it runs. It
                stands on its line as the user's words, right after its start.

        Raises:
            Exception: What the child raised. Errors of agentflow's own are `RunError`.
        """
        done = await self._hand_over(child, message)
        return done if isinstance(done, Outcome) else outcome_of(done, None)

    async def _hand_over(self, child: Agent, message: UserContent = None) -> Turn | Outcome:
        """`run`, for who doesn't look at what came of it: the turn that has ended, or what is known of it."""
        self._check_child(child)
        if self._state is not None:
            await self.flush()
        ctx, start = self._prepare(child, message)
        self._active += 1
        try:
            known = self.recall(ctx) if self._past is not None else None
            if known is None:
                await take_turn(ctx, start)
            elif known.error is not None:
                raise known.error
        except Paused:
            self.status = "paused"  # at once: whom this cancels is to go on when it does
            raise
        finally:
            self._active -= 1
            if self._loop is not None:
                self.join_loops()
        return ctx if known is None else known

    async def flush(self) -> None:
        """Publish pending state writes now, in an event that has nothing else."""
        self._check()
        if self._state is not None and self._state._pending:
            await self.emit(self.event())

    def spend(self, *, usage: Usage | None = None) -> None:
        """Charge usage that no event carries to this turn and to the run's limits.

        Raises:
            LimitExceeded: A budget ran out.
        """
        self._check()
        if usage is not None:
            self.charge(usage)

    # How it is done

    def _check(self) -> None:
        if self.ended or (self._run.strict and self.over()):
            raise ContextEnded(
                f"the turn of agent {self.path!r} has ended, so its context can't be used any more: "
                "don't keep ctx, and wait for tasks that use it before the agent returns"
            )

    def _check_child(self, child: Agent) -> None:
        self._check()
        if not isinstance(child, Agent):
            raise ConfigError(f"agent {self.path!r} can only run agents, not {short(child)}")

    def _prepare(self, child: Agent, message: UserContent) -> "tuple[InvocationContext, AgentStart]":
        """Make a context for a child's turn, and what tells of its start."""
        past = None
        if self._past is not None:
            past = self._past.next_child(f"{self.path}.{child.name}", self._place.branch, self.iteration)
        apart = bool(self._active) if past is None else past.apart
        ctx = self.beside(child, past) if apart else self.derive(child)
        if message is not None:
            ctx.told(message)
        kind = type(child).__name__
        return ctx, AgentStart(child.name, kind, own_branch=True) if apart else plain_start(child.name, kind)

    def _stamp(self, event: Event) -> Event:
        if not isinstance(event, Event):
            hint = "; await ctx.emit(ctx.text(...)) to say something" if isinstance(event, (str, dict)) else ""
            raise InvalidEvent(f"agent {self.path!r} emitted {short(event)}, which is not an Event{hint}")
        fields = event.__dict__
        if fields["path"] is self.path and fields["branch"] is self._place.branch and fields["seq"] is None:
            return event  # made by this context
        if fields["lifecycle"] is not None:
            raise InvalidEvent(f"agent {self.path!r} emitted a lifecycle event; those are the framework's own")
        event = copy_event(event)
        fields = event.__dict__
        if fields["path"] or fields["serial"] is not None:  # said before: this is another event
            fields["timestamp"], fields["seq"], fields["serial"] = 0.0, None, None
        run = self._run
        fields["id"] = run.new_id()
        fields["timestamp"] = fields["timestamp"] or run.time()
        if fields["author"] in ("", "user"):
            fields["author"] = self.agent.name
        fields["invocation_id"] = run.id
        fields["branch"] = self._place.branch
        fields["path"] = self.path
        fields["iteration"] = self.iteration
        return event


class ToolContext(InvocationContext):
    """What a tool knows and may do during one call: all that its agent may, on a line of its own.

    State that it writes is published with the results of its turn, if it succeeds; the calls beside it don't see it.
    What it emits, and agents that it runs, are in the stream and in the log; the model reads its result alone.

    Attributes:
        call: What the model asked for.
        tool: The tool.
        actions: What the call does besides answering: `escalate`, `transfer_to_agent`, `skip_summarization`.
        idempotency_key: The same whenever this call is made, also after a crash or an approval; of no other call.
        confirmation: What somebody said to the call, where it had to be confirmed.
        isolates: Whether agents that it runs see nothing of the talk but what they are told.
    """

    __slots__ = ("actions", "call", "confirmation", "idempotency_key", "isolates", "tool")

    call: ToolCall
    tool: Tool
    actions: Actions
    idempotency_key: str
    confirmation: Confirmation | None
    isolates: bool

    def derive(self, child: Any) -> Any:
        """The context of a turn inside of the call."""
        return InvocationContext(self._run, self._services, child, self)

    def _prepare(self, child: Agent, message: UserContent) -> "tuple[InvocationContext, AgentStart]":
        ctx, start = super()._prepare(child, message)
        return ctx, replace(start, isolated=True) if self.isolates else start

    def request_confirmation(self, hint: str = "", *, payload: Any = None) -> Confirmation:
        """Ask a person whether this call may go on, and return what was said; the tool begins again when it was.

        Raises:
            Paused: No answer yet; the run pauses, see `request_input`.
        """
        if self.confirmation is None:
            raise Paused((Question(kind="confirmation", message=hint, payload=payload, call=self.call),))
        return self.confirmation

    async def progress(self, value: Any) -> None:
        """Show a piece of the result, or how far it is: an event that is delivered and never stored."""
        piece = ToolResult(self.call.id, self.tool.name, value)
        await self.emit(self.event(piece, partial=True, response_id=self.call.id))
