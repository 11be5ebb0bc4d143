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
from agentflow.cli._errors import describe, traced
from agentflow.cli._live import LiveView, on_a_terminal
from agentflow.cli._signals import Interrupts
from agentflow.cli._views import JsonView, PlainView, ReaderGone, View
from agentflow.core import Agent
from agentflow.errors import AgentflowError, ConfigError
from agentflow.policies import Limits
from agentflow.run import Run, RunStatus
from agentflow.runner import Runner
from agentflow.timeline.words import duration

Backend = Literal["asyncio", "trio"]

READER_GONE = 141
"""What a shell shows for a program that SIGPIPE ended."""
_PATIENCE = 5.0
"""Seconds after which a cancelled run is reported that has not ended."""


class Fault(click.ClickException):
    """What was asked for can't be done: nothing has run."""

    exit_code = 2


@dataclass(slots=True, kw_only=True)
class Settings:
    """How to run it: the options of the command line."""

    json: bool = False
    lookahead: int = 0
    timeout: float | None = None
    user: str = "user"
    session: str | None = None
    backend: Backend = "asyncio"
    debug: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)


class Player:
    """Runs agents, one at a time, and remembers what the exit code should be."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.interrupts = Interrupts()
        self.exit_code = 0
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
            _drop(settings.out)
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
        settings = self.settings
        try:
            runner = Runner(agent)
            run = runner.run(
                message,
                user_id=settings.user,
                session_id=settings.session,
                lookahead=settings.lookahead,
                limits=Limits(seconds=settings.timeout),
            )
        except ConfigError as error:
            raise Fault(describe(error)) from error
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


def _drop(out: TextIO) -> None:
    """Let what is still buffered go nowhere, or the interpreter complains at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
