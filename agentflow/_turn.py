"""What a turn is made of: where it stands in its run, what it has said, and how it ends."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from opentelemetry.trace import INVALID_SPAN, Span, SpanContext

from agentflow._hooks import Hooks
from agentflow._invocation import Invocation, summary
from agentflow._place import Place, Timer, Watcher
from agentflow._resources import Resources
from agentflow._streams import Watched
from agentflow.content import Part, clean_text
from agentflow.errors import InvalidEvent, LimitExceeded, RunError, StateConflict
from agentflow.events import (
    Actions,
    AgentComplete,
    AgentParallelComplete,
    AgentParallelStart,
    AgentStart,
    ErrorInfo,
    Event,
    Lifecycle,
    Status,
    Usage,
    build_event,
    event_form,
)
from agentflow.journal import Past
from agentflow.models.base import Model
from agentflow.outcome import Outcome
from agentflow.questions import Question
from agentflow.services.artifacts import ArtifactService
from agentflow.services.memory import MemoryService
from agentflow.state import Group, State

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Services:
    """What the contexts of one Runner share."""

    artifacts: ArtifactService
    memory: MemoryService
    plugins: Hooks
    resources: Resources
    model: Model | None = None
    held: set[Model] = field(default_factory=set)

    async def hold(self, model: Model) -> None:
        """Have what `model` opens kept open until the Runner ends."""
        if model not in self.held:
            self.held.add(model)
            await model.__aenter__()


class LoopFrame:
    """A running loop, as those inside of it see it. `ended`: the branches from which it was ended.

    An escalation ends the line that it was made on, and, where that joins, the line above; running siblings go on.
    """

    __slots__ = ("ended", "name", "outer")

    def __init__(self, name: str, outer: "LoopFrame | None") -> None:
        self.name = name
        self.outer = outer
        self.ended: list[tuple[str, ...]] = []


class Turn(ABC):
    """What a turn is made of; agents see it as `InvocationContext`."""

    __slots__ = (
        "_active", "_attempts", "_content", "_forks", "_form", "_hears", "_links", "_loop", "_lost", "_made",
        "_origins", "_parent", "_past", "_place", "_run", "_said", "_services", "_span", "_start", "_state", "_stopped",
        "_timers", "_usage", "_watch", "agent", "began", "ended", "iteration", "path", "status",
    )  # fmt: skip

    def __init__(self, run: Invocation, services: Services, agent: Any, parent: "Turn | None") -> None:
        self._run = run
        self._services = services
        self._parent = parent
        self.agent = agent
        self.ended = False
        self.began = -1.0  # not yet; a clock may stand at 0
        self.status: Status = "skipped"
        self._active = 0
        self._attempts = 1
        self._hears = False
        self._forks = 0
        self._form: dict[str, Any] | None = None
        self._made: Event | None = None
        self._origins: dict[str, Turn | None] | None = None
        self._said: Event | tuple[Outcome, ...] | None = None
        self._start: AgentStart | None = None
        self._state: State | None = None
        self._stopped = 0.0
        self._usage: Usage | None = None
        self._links: tuple[SpanContext, ...] = ()
        self._lost: Usage | None = None
        if parent is None:
            self.path: str = agent.name
            self.iteration: int | None = None
            self._place = Place(())
            self._loop: LoopFrame | None = None
            self._span: Span = INVALID_SPAN
            self._timers: tuple[Timer, ...] = ()
            self._watch: Watched | None = None
            self._content: tuple[Part, ...] | None = None
            journal = run.journal
            self._past: Past | None = journal.root if journal is not None else None
            if self._past is not None:
                self._usage = self._past.usage
        else:
            self.path = f"{parent.path}.{agent.name}"
            self.iteration = parent.iteration
            self._place = parent._place
            self._loop = parent._loop
            self._span = parent._span
            self._timers = parent._timers
            self._watch = parent._watch
            self._content = parent._content
            self._past = None

    @abstractmethod
    async def emit(self, event: Event) -> None:
        """Say something."""

    @abstractmethod
    async def hear(self) -> None:
        """Put what it was told on its line."""

    @abstractmethod
    def _check(self) -> None:
        """Whether it may still be used."""

    @abstractmethod
    def text(self, text: str) -> Event:
        """An event that says `text`."""

    def derive(self, child: Any) -> Self:
        """The context of a child's turn."""
        return type(self)(self._run, self._services, child, self)

    def fork(
        self, child: Any, fork: str, name: str, group: Group, index: int, watchers: Sequence[Watcher] = ()
    ) -> Self:
        """The context of a branch of a parallel group: `fork` and `name` are its last segments, `index` its place."""
        place = self._place
        ctx = self.derive(child)
        ctx._place = Place((*place.segments, fork, name), ((group, index), *place.groups), (*watchers, *place.watchers))
        return ctx

    def beside(self, child: Any, past: Past | None = None) -> Self:
        """The context of a child that runs beside others of this turn: on a branch of its own, or on that of `past`."""
        self._forks += 1
        place = self._place
        ctx = self.derive(child)
        name = f"{child.name}#{self._forks + 1}" if past is None else past.branch.rpartition(".")[2]
        ctx._place = Place((*place.segments, self.agent.name, name), place.groups, place.watchers, place.tries)
        return ctx

    def within(self, frame: LoopFrame, iteration: int) -> Self:
        """This context inside an iteration of the loop that it runs."""
        inner = self.derive(self.agent)
        inner.path, inner.iteration, inner._loop, inner._links = self.path, iteration, frame, self._links
        inner._past = self._past
        return inner

    def stand_in(self, agent: Any) -> Self:
        """The context of one of its agents below that takes the turn in place of its own, at its place in the tree."""
        ctx = self.derive(agent)
        above = agent.parent
        names = [agent.name]
        while above is not None and above is not self.agent:
            names.append(above.name)
            above = above.parent
        ctx.path = ".".join((self.path, *reversed(names)))
        ctx._past = self._past
        return ctx

    def under(self, above: "Turn") -> bool:
        """Whether it is part of the turn of `above`, or is that."""
        ctx: Turn | None = self
        while ctx is not None and ctx is not above:
            ctx = ctx._parent
        return ctx is above

    def over(self) -> bool:
        """Whether this turn has ended, or one that it is part of."""
        ctx: Turn | None = self
        while ctx is not None and not ctx.ended:
            ctx = ctx._parent
        return ctx is not None

    def silent(self) -> bool:
        """Whether its end has been told, though perhaps it isn't stored yet: nothing of it may follow."""
        return self.ended or self._run.active.get(self, self) is None

    def stopped(self) -> bool:
        """Whether a group that it is in, or its branch, was stopped, or its time is up: it may be cancelled by now."""
        for group, index in self._place.groups:
            if group.reason or index in group.stopped:
                return True
        return any(timer.left() <= 0 for timer in self._timers)

    def cut_off(self, reason: str) -> None:
        """End this turn, though its task goes on."""
        run = self._run
        begin = run.active.pop(self)
        if begin is not None and begin.serial is not None:
            assert isinstance(begin.lifecycle, AgentStart)
            self.status = "cancelled"
            record = end_record(self, begin.lifecycle, "cancelled", None)
            record.reason = record.reason or reason
            self.tell_later(lambda: record)
        leave(self, None)
        if begin is not None and begin.serial is None:
            run.active[self] = begin  # its start is still on its way to the store: its end is told when the run ends

    def halted(self) -> bool:
        """Whether a loop that runs this has been ended, as far as this line knows."""
        frame, here = self._loop, self._place.segments
        while frame is not None:
            for line in frame.ended:
                if here[: len(line)] == line:
                    return True
            frame = frame.outer
        return False

    def join_loops(self) -> None:
        """Branches have joined this line: loops that one of them ended are ended here too."""
        frame, here = self._loop, self._place.segments
        while frame is not None:
            if any(line[: len(here)] == here for line in frame.ended) and here not in frame.ended:
                frame.ended.append(here)
            frame = frame.outer

    def loops_to_end(self, target: bool | str) -> tuple[LoopFrame, ...]:
        """The loops that an escalation ends: the nearest, or those up to the one of that name; none if none runs it.

        Raises:
            InvalidEvent: No loop of that name runs it.
        """
        frames = []
        frame = self._loop
        while frame is not None:
            frames.append(frame)
            if target in (True, frame.name):
                return tuple(frames)
            frame = frame.outer
        if target is True:
            return ()
        raise InvalidEvent(f"agent {self.path!r} escalated to {target!r}, but no loop of that name runs it")

    @property
    def form(self) -> dict[str, Any]:
        """What all its events have in common."""
        if self._form is None:
            self._form = event_form(self._run.id, self.agent.name, self._place.branch, self.path, self.iteration)
        return self._form

    def charge(self, usage: Usage) -> None:
        """Charge this turn, those above it, and the run.

        Raises:
            LimitExceeded: A budget ran out.
        """
        self.count(usage)
        self._run.charge(usage, self._place, self.path)

    def count(self, usage: Usage) -> None:
        """Count what was charged to this turn and those above it."""
        turn: Turn | None = self
        while turn is not None:
            turn._usage = usage if turn._usage is None else turn._usage + usage
            turn = turn._parent

    def lose(self, usage: Usage | None) -> None:
        """Charge what was paid for an answer that never came; the end of this turn tells of it."""
        if usage is not None:
            self._lost = usage if self._lost is None else self._lost + usage
            self._run.asking.discard(self)
            with suppress(LimitExceeded):  # something else ends this turn; whatever else costs something will notice
                self.charge(usage)

    def drop(self, event: Event) -> None:
        """An event of this turn isn't stored; what was paid for it is charged, and not again if it is emitted later."""
        usage = event.usage
        if usage is not None and not event.partial and event.id not in self._run.paid:
            self._run.paid.add(event.id)
            self.lose(usage)

    def take_back(
        self, event: Event, said: Actions | None, pending: dict[str, Any] | None, error: BaseException
    ) -> None:
        """Nobody stores `event`: the writes that were pending are again, but for the one that was refused.

        Args:
            event: It, or what copies of it share with it, may still be emitted: without these writes.
            said: What its actions were without them.
            pending: They.
            error: Why it isn't stored.
        """
        actions = event.actions
        if pending is not None and self._state is not None and actions is not None:
            actions.state_delta, actions.state_removed = (said.state_delta, said.state_removed) if said else ({}, [])
            if isinstance(error, StateConflict):
                pending.pop(error.key, None)
            self._state.give_back(pending)

    @property
    def author(self) -> "Turn":
        """Whose words its words are."""
        return self

    def landed(self, event: Event) -> None:
        """Plain words of its own are in the log."""
        self._said = event

    def lifecycle(self, record: Lifecycle, actions: Actions | None = None) -> Event:
        """A lifecycle event of this turn."""
        run = self._run
        form = self._form
        if form is None:
            form = self._form = event_form(run.id, self.agent.name, self._place.branch, self.path, self.iteration)
        event = build_event(form, run.new_id(), run.time(), (), record)
        if self._lost is not None and isinstance(record, AgentComplete):
            event.__dict__["usage"] = self._lost
        if actions is not None:
            event.__dict__["actions"] = actions
            run.clean(event, self.path)
        return event

    async def tell(self, record: Lifecycle, *, wait: bool = True, actions: Actions | None = None) -> None:
        """Emit a lifecycle event of this turn."""
        telling = self._run.tell(self.lifecycle(record, actions), self, wait)
        if telling is not None:
            await telling

    def cancelled_end(self) -> Event:
        """The terminal event of this turn, which was cancelled."""
        assert self._start is not None
        return self.lifecycle(end_record(self, self._start, self.status, None))

    def waits_above(self) -> bool:
        """Whether it was cancelled because who runs it waits for an answer; then it goes on when that does."""
        above = self._parent if not self._run.stopping else None
        while above is not None and above.status != "paused":
            above = above._parent
        return above is not None

    def tell_later(self, make: Callable[[], Lifecycle]) -> None:
        """Leave a lifecycle event to the run's next commit, and its making too: a cancelled turn is to end now."""
        self._run.defer(self, self._place, lambda: self.lifecycle(make()))


@dataclass(slots=True)
class Words:
    """An event that is being emitted: by whom, whose it is, and which loops it ends."""

    by: Turn
    author: Turn
    loops: tuple[LoopFrame, ...]

    def landed(self, event: Event) -> None:
        """It is in the log: whatever becomes of who emits it, this is what follows from it."""
        author = self.author
        if event.parts:
            self.by._said = author._said = event
        for loop in self.loops:
            loop.ended.append(author._place.segments)
        if event.usage is not None:
            author.count(event.usage)
            author._run.count(event.usage)
            author._run.asking.discard(author)
        self.watched(event)

    def watched(self, event: Event) -> None:
        """Tell who watches the branch."""
        place = self.author._place
        for watch in place.watchers:
            watch(event, place.branch, self.loops[-1] if self.loops else None)


def end_orphans(run: Invocation, above: Turn | None, who: str = "") -> None:
    """End what goes on, in tasks that nobody waited for, in the turn of `above`, whose agent is done, or in the run.

    Such tasks can't be stopped from here, but nothing is stored any more that they say. `who` is what `above` is called
    where that is no agent's turn.
    """
    orphans = [one for one in run.active if one is not above and (above is None or one.under(above))]
    if not orphans:
        return
    run.be_strict()
    paths = [one.path for one in orphans if isinstance(one, Turn) and not one.ended]
    who = who or (f"agent {above.path!r}" if above is not None else "the run")
    for one in reversed(orphans):  # who is directed before who directs
        one.cut_off(f"{who} had ended without waiting for it")
    if paths:
        logger.error(
            "run %s: %s has ended without waiting for turns that were started in it: %s. They end here; run agents in "
            "a task group, which waits for them",
            run.id,
            who,
            ", ".join(paths),
        )


def outcome_of(ctx: Turn, error: BaseException | None, pending: tuple[Question, ...] = ()) -> Outcome:
    """How a turn ended."""
    return Outcome(
        agent=ctx.agent.name,
        branch=ctx._place.branch,
        status=ctx.status,
        said=ctx._said,
        error=error,
        duration=(ctx._stopped or ctx._run.now()) - ctx.began if ctx.began >= 0 else 0.0,
        usage=ctx._usage,
        pending=pending,
    )


def end_record(
    ctx: Turn,
    start: AgentStart,
    status: Status,
    error: Exception | None,
) -> AgentComplete:
    run, said = ctx._run, ctx._said
    ctx._stopped = ctx._stopped or run.now()
    took = ctx._stopped - ctx.began
    kind = AgentParallelComplete if isinstance(start, AgentParallelStart) else AgentComplete
    record = kind(ctx.agent.name, status, int(took * 1e6) / 1000, ctx._attempts)
    if said is not None:  # `isinstance` of a pydantic model costs more than all the rest here
        words = " / ".join(outcome.text for outcome in said[:10]) if isinstance(said, tuple) else said.text
        record.result_summary = summary(words)
    if error is not None:
        record.error = error_info(error)
    if status == "cancelled":
        record.reason = run.why(ctx._stopped) or next(
            (group.reason for group, _ in ctx._place.groups if group.reason), ""
        )
    return record


def leave(ctx: Turn, error: BaseException | None) -> None:
    if ctx.ended:
        return
    ctx.ended = True
    run = ctx._run
    run.active.pop(ctx, None)
    if ctx._state is not None:
        ctx._state.close()
    if ctx._active:
        end_orphans(run, ctx)
    parent, said = ctx._parent, ctx._said
    if parent is not None and said is not None:
        parent._said = said
    if run.tracing is not None:
        _end_span(ctx, error)


def _end_span(ctx: Turn, error: BaseException | None) -> None:
    run, parent, tracing = ctx._run, ctx._parent, ctx._run.tracing
    assert tracing is not None
    tracing.end(
        ctx._span,
        outcome=ctx.status,
        duration=run.now() - ctx.began,
        workflow=ctx.agent.directs_others,
        name=ctx.agent.name,
        error=error,
        reason=run.why(run.now()) if ctx.status == "cancelled" else "",
        attempts=ctx._attempts,
        output=Outcome(agent="", branch="", status="ok", said=ctx._said).text if tracing.captures else None,
    )
    if parent is not None and ctx._links and ctx._place.groups is parent._place.groups:
        parent._links = ctx._links


def error_info(error: BaseException) -> ErrorInfo:
    """An error as events carry it."""
    try:
        message = clean_text(str(error))[:10_000]
    except Exception:  # its own __str__ fails
        message = ""
    return ErrorInfo(type(error).__qualname__, message, bool(getattr(error, "retryable", False)))


def explain(error: Exception, ctx: Turn) -> None:
    """Say where it happened: in the fields of our own errors, in a note on others; the innermost agent says it."""
    branch, run_id = ctx._place.branch, ctx._run.id
    if isinstance(error, RunError):
        if not error.agent:
            error.agent, error.branch, error.invocation_id = ctx.path, branch, run_id
    elif not any(note.startswith("in agent ") for note in getattr(error, "__notes__", ())):
        with suppress(Exception):  # an exception may be frozen
            error.add_note(f"in agent {ctx.path!r}{f' on branch {branch!r}' if branch else ''} (run {run_id})")
