"""`agentflow replay`: a stored run in the live view again, at any speed."""

import math
import sys
import time
from collections.abc import Sequence

import anyio
import click
from anyio.lowlevel import checkpoint
from click.core import ParameterSource

from agentflow.cli import READER_GONE
from agentflow.cli._errors import Fault
from agentflow.cli._live import LiveView
from agentflow.cli._options import debug_option, json_option
from agentflow.cli._play import drop
from agentflow.cli._runs import choose_run, read_events, run_option
from agentflow.cli._signals import Interrupts
from agentflow.cli._store import app_options, db_option, find, opened, run_async, session_argument
from agentflow.cli._terminal import on_a_terminal
from agentflow.cli._views import JsonView, PlainView, ReaderGone, View
from agentflow.events import AgentComplete, Event
from agentflow.timeline.model import runs


def _speed(ctx: click.Context, param: click.Parameter, value: str) -> float:
    if value == "max":
        return math.inf
    try:
        speed = float(value.removesuffix("x"))
    except ValueError:
        speed = math.nan
    if not speed > 0:
        raise Fault(f"--speed must be a number above 0, or max, not {value!r}")
    return speed


@click.command("replay")
@session_argument()
@run_option
@click.option(
    "--speed", default="1", show_default=True, callback=_speed, metavar="TIMES",
    help="2 is twice as fast as it was, 0.5 half; max doesn't wait at all.",
)  # fmt: skip
@json_option
@db_option
@app_options
@debug_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    session: str | None,
    which: str,
    speed: float,
    as_json: bool,
    db: str | None,
    app: str | None,
    user: str | None,
    debug: bool,
) -> None:
    """Show a run of SESSION in the live view again, as it was or at another speed.

    Without a terminal, or with --json, it doesn't wait unless --speed says so. Words that were streamed piece by piece
    come whole: pieces are not kept.
    """
    asked = ctx.get_parameter_source("speed") is not ParameterSource.DEFAULT
    waits = asked or (on_a_terminal() and not as_json)

    async def work() -> list[list[Event]]:
        runs: dict[str, list[Event]] = {}
        async with opened(db, read_only=True) as stores:
            info = await find(stores.sessions, session, app=app, user=user)
            await read_events(
                stores.sessions,
                info,
                lambda event: runs.setdefault(event.invocation_id, []).append(event),
                quiet=as_json,
            )
        return [runs[run_id] for run_id in choose_run(list(runs), which)]

    interrupts = Interrupts()
    for events in run_async(work, debug=debug):
        clock = _Clock(events[0].timestamp, speed if waits else math.inf)
        view: View = JsonView() if as_json else LiveView(now=clock.now) if on_a_terminal() else PlainView()
        if not anyio.run(_replay, events, view, clock, interrupts):
            drop(sys.stdout)
            ctx.exit(READER_GONE)
        if interrupts.signal:
            ctx.exit(interrupts.exit_code)


class _Clock:
    """The time of the events, going by at another speed; where the run waited for an answer, it doesn't wait."""

    def __init__(self, start: float, speed: float) -> None:
        self._start = start
        self._speed = speed
        self._began = time.monotonic()
        self._shown = start
        self._paused: float | None = None

    def now(self) -> float:
        """What time it is in the run."""
        if math.isinf(self._speed):
            return self._shown
        return self._start + (time.monotonic() - self._began) * self._speed

    def until(self, event: Event) -> float:
        """Seconds until its time has come."""
        if self._paused is not None:
            self._start += event.timestamp - self._paused
        record = event.lifecycle
        paused = isinstance(record, AgentComplete) and record.outcome == "paused" and "." not in event.path
        self._paused = event.timestamp if paused else None
        self._shown = max(self._shown, event.timestamp)
        return 0.0 if math.isinf(self._speed) else (event.timestamp - self.now()) / self._speed


async def _replay(events: Sequence[Event], view: View, clock: _Clock, interrupts: Interrupts) -> bool:
    """Show them; false if nobody reads any more."""
    reading = True
    with view:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(view.keep_drawing)
            with interrupts.watch(tasks.cancel_scope.cancel):
                for number, event in enumerate(events):
                    wait = clock.until(event)
                    if wait > 0:
                        await anyio.sleep(wait)
                    elif number % 256 == 0:
                        await checkpoint()
                    try:
                        view.add(event)
                    except ReaderGone:
                        reading = False
                        break
            tasks.cancel_scope.cancel()
    if reading and not interrupts.signal:
        (timeline,) = runs(events, words=0)
        try:
            view.finish(status=timeline.status or "unfinished", wall=timeline.wall, computing=0.0)
        except ReaderGone:
            reading = False
    return reading
