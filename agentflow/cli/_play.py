"""One run from its first event to the exit code: read it, show it, stop it when asked, say how it ended."""

import contextlib
import importlib.util
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Literal, TextIO

import anyio
import click

from agentflow import tracing
from agentflow.cli import READER_GONE as READER_GONE
from agentflow.cli._errors import Fault, describe, traced
from agentflow.cli._live import LiveView
from agentflow.cli._signals import Interrupts
from agentflow.cli._store import Stores, opened
from agentflow.cli._terminal import on_a_terminal, print_rows, width_of_output
from agentflow.cli._views import JsonView, PlainView, ReaderGone, View
from agentflow.core import Agent
from agentflow.errors import AgentflowError, ConfigError, ServiceError
from agentflow.models.base import Model
from agentflow.policies import Limits
from agentflow.run import Run, RunStatus
from agentflow.runner import Runner
from agentflow.timeline.words import duration

Backend = Literal["asyncio", "trio"]

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
    out: TextIO = field(default_factory=lambda: sys.stdout)


class Player:
    """Runs agents, one at a time, and remembers what the exit code should be."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.interrupts = Interrupts()
        self.exit_code = 0
        self._told = False
        if importlib.util.find_spec(settings.backend) is None:
            raise Fault(f"the backend {settings.backend!r} is not installed: pip install {settings.backend}")
        _trace()

    @property
    def over(self) -> bool:
        """Whether nothing further should be run."""
        return bool(self.interrupts.signal) or self.exit_code == READER_GONE

    def play(self, agent: Agent, message: str | None) -> None:
        """Run `agent` to its end.

        Raises:
            Fault: A setting can't work; nothing has run.
        """
        settings = self.settings
        view: View = JsonView(settings.out) if settings.json else LiveView() if on_a_terminal() else PlainView()
        try:
            failure = anyio.run(self._play, agent, message, view, backend=settings.backend)
        except ReaderGone as gone:
            failure = gone
        except BaseExceptionGroup as group:
            raise _way_out(group) from group
        if isinstance(failure, ReaderGone) or (isinstance(failure, BrokenPipeError) and _broken(settings.out)):
            self.exit_code = READER_GONE
            drop(settings.out)
        elif self.interrupts.signal:
            self.exit_code = self.interrupts.exit_code
            click.echo(f"Cancelled by {self.interrupts.name}; kept {view.kept}.", err=True)
            if failure is not None:
                self.report(failure)
        elif failure is not None:
            self.exit_code = 1
            self.report(failure)

    def report(self, error: BaseException) -> None:
        """Say what went wrong, on stderr."""
        click.echo(f"Error: {describe(error)}", err=True)
        if self.settings.debug:
            click.echo(f"\n{traced(error)}", err=True)

    async def _play(self, agent: Agent, message: str | None, view: View) -> Exception | None:
        async with contextlib.AsyncExitStack() as stack:
            stores = await self._stores(stack)
            try:
                model = self.settings.model
                runner = Runner(agent, model=model) if stores is None else Runner(
                    agent, model=model, sessions=stores.sessions, artifacts=stores.artifacts, memory=stores.memory
                )  # fmt: skip
                run = runner.run(
                    message,
                    user_id=self.settings.user,
                    session_id=await self._session(agent, stores),
                    lookahead=self.settings.lookahead,
                    limits=Limits(seconds=self.settings.timeout),
                )
            except ConfigError as error:
                raise Fault(describe(error)) from error
            failure = await self._watch(runner, run, view)
            if stores is not None and run.status != "pending":
                self._tell_session()
        return failure

    async def _stores(self, stack: contextlib.AsyncExitStack) -> Stores | None:
        """Where the session is kept; `None` is in memory."""
        settings = self.settings
        if settings.in_memory:
            return None
        try:
            return await stack.enter_async_context(opened(settings.db, create=True))
        except ServiceError as error:
            if settings.db is not None or settings.session is not None or settings.go_on:
                raise Fault(describe(error)) from error
            click.echo(f"This session is not kept: {describe(error)}", err=True)
            return None

    async def _session(self, agent: Agent, stores: Stores | None) -> str | None:
        """The id of the session that the run belongs to; `None` is a new one."""
        settings = self.settings
        if not settings.go_on:
            return settings.session
        latest = await stores.sessions.list(agent.name, settings.user, limit=1) if stores is not None else ()
        if not latest:
            raise Fault(f"there is no session of {agent.name!r} to continue")
        return latest[0].id

    def _tell_session(self) -> None:
        """Say how to see it again: to people, once."""
        if on_a_terminal() and not self.settings.json and not self._told and width_of_output() >= _ROOM:
            self._told = True
            print_rows([[("Kept: `agentflow timeline` draws it, `agentflow show` reads it.", "dim")]])

    async def _watch(self, runner: Runner, run: Run, view: View) -> Exception | None:
        """Show the run to its end, and how it ended."""
        began, computed = time.perf_counter(), _worker_time()
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
                computing=_worker_time() - computed,
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
                            view.add(event)
                except Exception as error:
                    return error
        return None


async def _report_late(stop: anyio.Event, run: Run, view: View) -> None:
    """Name who refuses to end."""
    await stop.wait()
    await anyio.sleep(_PATIENCE)
    view.note(f"Still at work {duration(_PATIENCE)} after it was cancelled: {', '.join(run.unfinished)}.")


def _worker_time() -> float:
    """Processor seconds of all threads but this one."""
    return time.process_time() - time.thread_time()


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
        except AgentflowError as error:
            raise Fault(describe(error)) from error


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
