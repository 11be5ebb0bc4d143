"""One run from its first event to the exit code: read it, show it, stop it when asked, say how it ended."""

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO

import anyio
import click

from agentflow import tracing
from agentflow.cli import READER_GONE as READER_GONE
from agentflow.cli._errors import Fault, describe, traced
from agentflow.cli._live import LiveView
from agentflow.cli._questions import ask, read_answer, told
from agentflow.cli._signals import Interrupts
from agentflow.cli._store import Stores, opened
from agentflow.cli._terminal import on_a_terminal, print_rows, width_of_output
from agentflow.cli._views import JsonView, PlainView, ReaderGone, View
from agentflow.core import Agent
from agentflow.errors import AnswerRefused, ConfigError, ServiceError
from agentflow.journal import check_answers
from agentflow.models.base import Model
from agentflow.policies import Limits
from agentflow.questions import Question, questions_in
from agentflow.run import Run, RunStatus
from agentflow.runner import Runner
from agentflow.services.inmemory import InMemoryArtifactService, InMemoryMemoryService, InMemorySessionService
from agentflow.services.sessions import SessionKey
from agentflow.timeline.words import clean, duration

Backend = Literal["asyncio", "trio"]

PAUSED = 3
"""The exit code of a run that waits for an answer."""

_PATIENCE = 5.0
"""Seconds after which a cancelled run is reported that has not ended."""
_ROOM = 64
"""Columns that a hint needs."""


@dataclass(slots=True, kw_only=True)
class Settings:
    """How to run it: the options of the command line."""

    model: Model | None = None
    json: bool = False
    lookahead: int = 0
    timeout: float | None = None
    user: str = "user"
    session: str | None = None
    go_on: bool = False
    db: str | None = None
    in_memory: bool = False
    backend: Backend = "asyncio"
    debug: bool = False
    answers: Mapping[str, str] = field(default_factory=dict)
    out: TextIO = field(default_factory=lambda: sys.stdout)


class Player:
    """Runs agents, one at a time, and remembers what the exit code should be."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.interrupts = Interrupts()
        self.exit_code = 0
        self._told = False
        self._gone = False
        self._computed = 0.0
        self._ended: BaseException | None = None
        self._run: Run
        self._memory: Stores | None = None
        if importlib.util.find_spec(settings.backend) is None:
            raise Fault(f"the backend {settings.backend!r} is not installed: pip install {settings.backend}")
        _trace()

    @property
    def over(self) -> bool:
        """Whether nothing further should be run."""
        return bool(self.interrupts.signal) or self._gone

    def play(self, agent: Agent, message: str | None) -> None:
        """Run `agent` to its end; where it asks and a person is there to answer, go on with the answers.

        Raises:
            Fault: A setting can't work; nothing has run.
        """
        questions = self._turn(agent, message, self.settings.session, self.settings.answers)
        while questions:
            answers = ask(questions) if _somebody_there() and not self.settings.json else None
            if answers is None:
                self.exit_code = PAUSED
                self._tell_waiting(questions)
                return
            questions = self._turn(agent, None, self._run.session.session_id, answers)

    def _turn(
        self, agent: Agent, message: str | None, session: str | None, answers: Mapping[str, str]
    ) -> Sequence[Question]:
        """One run; gives the questions with which it paused."""
        settings = self.settings
        view: View = JsonView(settings.out) if settings.json else LiveView() if on_a_terminal() else PlainView()
        try:
            failure = anyio.run(self._play, agent, message, session, answers, view, backend=settings.backend)
        except ReaderGone as gone:
            failure = gone
        if self._ended is not None:
            raise self._ended
        if isinstance(failure, ReaderGone) or (isinstance(failure, BrokenPipeError) and _broken(settings.out)):
            self._gone = True
            self.exit_code = READER_GONE
            if isinstance(failure.__cause__, OSError) and not isinstance(failure.__cause__, BrokenPipeError):
                self.exit_code = 1
                self.report(failure.__cause__)
            drop(settings.out)
        elif self.interrupts.signal:
            self.exit_code = self.interrupts.exit_code
            click.echo(f"Cancelled by {self.interrupts.name}; kept {view.kept}.", err=True)
            if failure is not None:
                self.report(failure)
        elif failure is not None:
            self.exit_code = 1
            self.report(failure)
        elif self._run.status == "paused":
            return self._run.result.pending
        return ()

    def _tell_waiting(self, questions: Sequence[Question]) -> None:
        """Say what is asked, and how it is answered, on stderr."""
        for question in questions:
            click.echo(f"{told(question)}\n  --answer {clean(question.id)}=VALUE", err=True)
        if self._memory is None:
            session = clean(self._run.session.session_id)
            how = f"the same command, without INPUT, with --session {session} --answer ..."
            click.echo(f"It waits for an answer: {how}", err=True)

    def report(self, error: BaseException) -> None:
        """Say what went wrong, on stderr."""
        click.echo(f"Error: {describe(error)}", err=True)
        if self.settings.debug:
            click.echo(f"\n{traced(error)}", err=True)

    async def _play(
        self, agent: Agent, message: str | None, session: str | None, answers: Mapping[str, str], view: View
    ) -> Exception | None:
        async with contextlib.AsyncExitStack() as stack:
            stores = await self._stores(stack)
            try:
                runner = Runner(
                    agent,
                    model=self.settings.model,
                    sessions=stores.sessions,
                    artifacts=stores.artifacts,
                    memory=stores.memory,
                )
                session = session or await self._session(agent, stores)
                self._run = run = runner.run(
                    message,
                    user_id=self.settings.user,
                    session_id=session,
                    answers=await self._answers(agent, stores, session, answers),
                    lookahead=self.settings.lookahead,
                    limits=Limits(seconds=self.settings.timeout),
                )
            except ConfigError as error:
                raise Fault(describe(error)) from error
            try:
                failure = await self._watch(runner, run, view)
            except BaseExceptionGroup as group:
                self._ended = _way_out(group)  # raised outside: asyncio would log it as an accident
                return None
            if self._memory is None and run.status != "pending":
                self._tell_session()
        return failure

    async def _stores(self, stack: contextlib.AsyncExitStack) -> Stores:
        """Where the session is kept."""
        settings = self.settings
        if self._memory is None and not settings.in_memory:
            try:
                return await stack.enter_async_context(opened(settings.db, create=True))
            except ServiceError as error:
                if settings.db is not None or settings.session is not None or settings.go_on:
                    raise Fault(describe(error)) from error
                click.echo(f"This session is not kept: {describe(error)}", err=True)
        if self._memory is None:  # for all runs of this player: an answer goes on with what asked
            self._memory = Stores(InMemorySessionService(), InMemoryArtifactService(), InMemoryMemoryService())
        return self._memory

    async def _session(self, agent: Agent, stores: Stores) -> str | None:
        """The id of the session that the first run belongs to; `None` is a new one."""
        settings = self.settings
        if not settings.go_on:
            return settings.session
        latest = await stores.sessions.list(agent.name, settings.user, limit=1)
        if not latest:
            raise Fault(f"there is no session of {agent.name!r} to continue")
        return latest[0].id

    async def _answers(
        self, agent: Agent, stores: Stores, session: str | None, texts: Mapping[str, str]
    ) -> dict[str, Any]:
        """What texts mean as answers to the questions of a session."""
        if not texts or session is None:
            return {}
        found = await stores.sessions.get(SessionKey(agent.name, self.settings.user, session))
        events = found.events if found is not None else []
        asked = {question.id: question for event in events for question in questions_in(event)}
        try:
            answers = {id: read_answer(asked.get(id), text) for id, text in texts.items()}
            check_answers(events, answers, ())
        except AnswerRefused as error:
            raise Fault(describe(error)) from error
        return answers

    def _tell_session(self) -> None:
        """Say how to see it again: to people, once."""
        if on_a_terminal() and not self.settings.json and not self._told and width_of_output() >= _ROOM:
            self._told = True
            print_rows([[("Kept: `agentflow timeline` draws it, `agentflow show` reads it.", "dim")]])

    async def _watch(self, runner: Runner, run: Run, view: View) -> Exception | None:
        """Show the run to its end, and how it ended."""
        began, self._computed = time.perf_counter(), 0.0
        failure: Exception | None = None
        with view:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(view.keep_drawing)
                late = anyio.Event()
                tasks.start_soon(_report_late, late, run, view)
                try:
                    failure = await self._read(runner, run, view, late)
                except Exception as error:  # the Runner's own end; and out of the group as itself
                    failure = error
                tasks.cancel_scope.cancel()
        if not isinstance(failure, ReaderGone):
            view.finish(
                status=_status(run, failure),
                wall=time.perf_counter() - began,
                computing=time.process_time() - self._computed,
            )
        return failure

    async def _read(self, runner: Runner, run: Run, view: View, late: anyio.Event) -> Exception | None:
        """Show all its events; gives what it raised."""
        entered = False

        def stop() -> None:
            late.set()
            view.stopping()
            if entered:
                run.cancel(self.interrupts.name)

        with self.interrupts.watch(stop):
            async with runner:
                try:
                    async with run:
                        entered = True
                        if self.interrupts.signal:
                            stop()
                        async for event in run:
                            self._computed = self._computed or time.process_time()  # when the root has begun
                            view.add(event)
                except Exception as error:
                    return error
        return None


async def _report_late(stop: anyio.Event, run: Run, view: View) -> None:
    """Name who refuses to end."""
    await stop.wait()
    await anyio.sleep(_PATIENCE)
    view.note(f"Still at work {duration(_PATIENCE)} after it was cancelled: {', '.join(run.unfinished)}.")


def _somebody_there() -> bool:
    """Whether a person can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and on_a_terminal()


def _way_out(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What an agent that ended the program wanted: `SystemExit` or `KeyboardInterrupt`."""
    found: BaseException | None = group.subgroup((SystemExit, KeyboardInterrupt))
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found or group


def _status(run: Run, failure: Exception | None) -> RunStatus:
    return "error" if failure is not None else run.status


def _trace() -> None:
    """Send spans where OpenTelemetry's own variables say, if they say so; the last ones when the process ends."""
    wanted = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if any(os.environ.get(name) for name in wanted) and not tracing.enabled():
        try:
            tracing.setup()
        except ConfigError:
            click.echo("Spans are not sent: that needs the extra `otlp`, agentflow-py[otlp].", err=True)


def _broken(out: TextIO) -> bool:
    try:
        out.flush()
    except BrokenPipeError:
        return True
    return False


def drop(out: TextIO) -> None:
    """Let what is still buffered go nowhere, or the interpreter complains at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
