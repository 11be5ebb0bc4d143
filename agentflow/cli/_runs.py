"""The runs of a session, as `show`, `timeline` and `replay` choose among them."""

from collections.abc import Callable
from typing import TypeVar

import click

from agentflow.cli._errors import Fault
from agentflow.cli._progress import progress
from agentflow.events import Event
from agentflow.services.sessions import SessionInfo, SessionService
from agentflow.timeline.model import Timeline
from agentflow.timeline.words import plural

F = TypeVar("F", bound=Callable[..., object])


def run_option(function: F) -> F:
    """`--run`."""
    return click.option(
        "--run", "which", default="last", show_default=True, metavar="RUN",
        help="Which run of the session: its number, from 1; its id; last; or all.",
    )(function)  # fmt: skip


async def read_events(
    sessions: SessionService, info: SessionInfo, take: Callable[[Event], None], *, quiet: bool = False
) -> None:
    """Give every event of a session to `take`; with a bar, where there are many."""
    with progress("Reading", info.version, quiet=quiet or info.version < 2_000) as advance:
        async for event in sessions.events(info.key, until=info.version):
            take(event)
            advance(1)


class Runs:
    """The runs of a session, each with its timeline; give it the session's events in order."""

    def __init__(self, *, words: int) -> None:
        self._words = words
        self.timelines: dict[str, Timeline] = {}

    def add(self, event: Event) -> None:
        """The next event."""
        timeline = self.timelines.get(event.invocation_id)
        if timeline is None:
            timeline = self.timelines[event.invocation_id] = Timeline(words=self._words)
        timeline.add(event)

    def chosen(self, which: str) -> list[Timeline]:
        """Those that `--run` means, closed.

        Raises:
            Fault: There is none.
        """
        ids = choose_run(list(self.timelines), which)
        found = [self.timelines[run_id] for run_id in ids]
        for timeline in found:
            timeline.close()
        return found


def choose_run(ids: list[str], which: str) -> list[str]:
    """Which of a session's runs are meant, in their order.

    Raises:
        Fault: There is none, or several fit.
    """
    if not ids:
        raise Fault("this session has no run yet")
    if which == "all":
        return ids
    if which == "last":
        return ids[-1:]
    if which.isascii() and which.isdigit() and len(which) < 6:
        if 1 <= int(which) <= len(ids):
            return [ids[int(which) - 1]]
        raise Fault(f"this session has {plural(len(ids), 'run')}, and no run {which}")
    found = [run_id for run_id in ids if run_id.startswith(which)]
    if which in ids:
        return [which]
    if len(found) == 1:
        return found
    raise Fault(f"this session has no run {which!r}" if not found else f"{which!r} could be {len(found)} of its runs")
