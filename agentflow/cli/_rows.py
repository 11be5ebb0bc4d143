"""Lines, texts and the summary as words with a style: a terminal draws them in colour, a file gets the words."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from rich.cells import cell_len, set_cell_size

from agentflow.cli._board import Board, Line
from agentflow.events import Event
from agentflow.timeline.model import Timeline
from agentflow.timeline.words import clean, decision, duration, heading, one_line, plural, said, short

Words = list[tuple[str, str]]
"""Pieces of one line, each with its style."""

STYLES = {
    "running": "cyan",
    "waiting": "dim",
    "ok": "green",
    "error": "bold red",
    "timeout": "bold red",
    "cancelled": "yellow",
    "paused": "magenta",
    "skipped": "dim",
}
_MARKS = {"waiting": "○", "ok": "✓", "error": "✕", "timeout": "✕", "cancelled": "■", "paused": "‖", "skipped": "–"}
_PLAIN_MARKS = {
    "waiting": ".",
    "ok": "+",
    "error": "x",
    "timeout": "x",
    "cancelled": "!",
    "paused": "=",
    "skipped": "-",
}
_AT_WORK, _PLAIN_AT_WORK = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"
_TURN = 0.1
"""Seconds between two pictures of the mark that turns."""
_STATE = max(map(len, STYLES))
_TIME = 7
_ENOUGH = 8
"""Columns from which on the last words are worth showing."""
_STEPS = 12
"""Steps of a critical path that are named: the longest."""
_BUSY = 0.1
"""Share of the time that a processor may be busy before what waits for it blurs how long the work takes."""


def _ticking(seconds: float) -> str:
    """Likewise, for a time that goes on: its width doesn't jump about."""
    return duration(seconds) if seconds >= 10 else f"{seconds:.1f} s"


def text_rows(event: Event) -> Iterable[Words]:
    """A completed text under its heading; beside it if it is one line. Of what an agent is told, the first words."""
    text = said(event)
    if not text:
        return
    if event.author == "user" and event.path:
        agent = event.path.rpartition(".")[2]
        own = event.branch if event.branch.rpartition(".")[2].partition("#")[0] == agent else event.path
        yield [(f"to {one_line(own)}: {short(one_line(text), 100)}", "dim")]
        return
    first, *more = text.rstrip("\n").split("\n")
    if more:
        yield [(heading(event) + ":", "bold")]
        yield [(first, "")]
    else:
        yield [(heading(event) + ":", "bold"), (f" {first}", "")]
    for line in more:
        yield [(line, "")]


def fit(text: str, width: int) -> str:
    """`text` in exactly `width` columns."""
    if cell_len(text) > width:
        text = set_cell_size(text, max(0, width - 1)).rstrip() + "…"
    return set_cell_size(text, width)


def label(line: Line) -> str:
    """A line's name, indented below the branch that it is in."""
    return "  " * line.depth + (one_line(line.name) or "run")


def choose(lines: Sequence[Line], most: int, rank: Callable[[Line], tuple[float, ...]]) -> list[Line]:
    """At most so many lines, the lowest ranks, in the order they were in."""
    if len(lines) <= most:
        return list(lines)
    places = sorted(range(len(lines)), key=lambda place: (*rank(lines[place]), place))[: max(0, most)]
    return [lines[place] for place in sorted(places)]


def live_rank(line: Line) -> tuple[float, ...]:
    """Whose line is worth a place on a small screen: who works, then who failed, ended last, or waits."""
    place = {"running": 0, "error": 1, "timeout": 1, "waiting": 3, "skipped": 4}.get(line.state, 2)
    return (-1,) if line.parent is None else (place, -line.began if place == 2 else 0)


def summary_rank(line: Line) -> tuple[float, ...]:
    """Whose end is worth a place in a short summary: failures, then the slowest."""
    place = {"error": 0, "timeout": 0, "cancelled": 1, "skipped": 3}.get(line.state, 2)
    return (-1,) if line.parent is None else (place, -line.seconds)


def live_rows(
    board: Board, now: float, *, width: int, height: int, stopping: bool = False, plain: bool = False
) -> list[Words]:
    """What the live view shows: as many lines as fit, and how many there are of each state.

    Args:
        board: As it is now.
        now: The time of the events.
        width: Columns.
        height: Lines, at most.
        stopping: It has been asked to stop.
        plain: The terminal shows nothing but ASCII.
    """
    if not board.root.turns:
        return []
    lines = list(board)
    shown = choose(lines, height - 1, live_rank)
    names = min(max((cell_len(label(line)) for line in shown), default=0), max(8, (width - _STATE - _TIME - 4) // 2))
    turning = _PLAIN_AT_WORK if plain else _AT_WORK
    marks = dict(_PLAIN_MARKS if plain else _MARKS)
    marks["running"] = turning[round((now - board.root.began) / _TURN) % len(turning)]
    rows = [_live_row(line, now, names, width, marks) for line in shown]
    states = board.states()
    counts = [f"{states[state]:,} {state}" for state in STYLES if states[state]]
    if len(lines) > len(shown):
        counts.append(f"{len(lines) - len(shown):,} not shown")
    if stopping:
        counts.insert(0, "cancelling; Ctrl-C again to quit at once")
    rows.append([(fit(" · ".join(counts), width - len("^C")).rstrip(), "dim")])  # the terminal may echo that
    return rows


def _live_row(line: Line, now: float, names: int, width: int, marks: Mapping[str, str]) -> Words:
    time = "" if line.state in ("waiting", "skipped") else duration(line.seconds)
    if line.state == "running":
        time = _ticking(line.elapsed(now))
    mark = marks.get(line.state, "?")
    row = [
        (fit(label(line), names), "bold" if line.parent is None else ""),
        (f" {mark} {fit(line.state, _STATE)}", STYLES.get(line.state, "")),
        (" " + time.rjust(_TIME), "dim"),
    ]
    left = width - names - _STATE - _TIME - 6
    if left >= _ENOUGH:
        style = {"error": "red", "timeout": "red", "cancelled": "dim"}.get(line.state, "")
        row.append(("  " + fit(_last_words(line, left), left).rstrip(), style))
    return _crop(row, width) if left < 0 else row


def _crop(row: Words, width: int) -> Words:
    cropped: Words = []
    for words, style in row:
        cropped.append((set_cell_size(words, min(cell_len(words), max(0, width))), style))
        width -= cell_len(words)
    return cropped


def _last_words(line: Line, width: int) -> str:
    if line.error:
        return one_line(line.error)
    loop = f"{line.iteration}/{line.rounds} " if line.rounds else f"#{line.iteration} " if line.iteration else ""
    words = one_line(line.words)
    who = one_line(line.speaker) if line.speaker != line.name.partition("#")[0] else ""
    start = loop + who + (": " if who and words else "")
    room = max(1, width - cell_len(start))
    if line.streaming is not None and cell_len(words) > room:  # its end is what is new
        words = words[-room:]
        while cell_len(words) >= room:
            words = words[1:]
        words = "…" + words
    return start + words


def summary_rows(
    board: Board, timing: Timeline, *, status: str, wall: float, computing: float = 0.0, most: int | None = None
) -> Iterable[Words]:
    """How each branch ended, and what the run's time went into.

    Args:
        board: After the last event.
        timing: After the last event.
        status: How the run ended.
        wall: Seconds, for a root that has no end.
        computing: Seconds of processor time that the process used meanwhile.
        most: At most so many lines; failed and slow ones stay. `None` means all.
    """
    lines = list(board)
    shown = choose(lines, most if most is not None else len(lines), summary_rank)
    names = max((cell_len(label(line)) for line in shown), default=0)
    ends = ["unfinished" if line.state == "running" else line.state for line in shown]
    states = max(_STATE, len(status), *map(len, ends))
    for line, end in zip(shown, ends, strict=True):
        state, seconds = (end, line.elapsed(timing.now)) if line.parent is not None else (status, line.seconds or wall)
        row = [
            (fit(label(line), names), "bold" if line.parent is None else ""),
            (" " + fit(state, states), STYLES.get(state, "")),
            (" " + (duration(seconds) if line.turns or line.parent is None else "").rjust(_TIME), "dim"),
        ]
        if line.turns > 1:
            row.append((f"  {line.turns} times", "dim"))
        if line.error and line.parent is not None:  # the run's own is told in full
            row.append(("  " + short(one_line(line.error), 300), "red" if state in ("error", "timeout") else "dim"))
        yield row
    if len(shown) < len(lines):
        rest = Counter(line.state for line in lines) - Counter(line.state for line in shown)
        yield [(f"… and {len(lines) - len(shown):,} more: " + ", ".join(f"{n:,} {s}" for s, n in rest.items()), "dim")]
    yield from decision_rows(board)
    yield from timing_rows(timing, computing)


def decision_rows(board: Board) -> Iterable[Words]:
    """How patterns made one answer of many; the last so many."""
    for record, times in list(board.decisions.values())[-_STEPS:]:
        facts = decision(record)
        if times > 1:
            facts.append(f"the last of {times}")
        yield [(f"{clean(record.agent_name)}: ", "bold"), (", ".join(facts), "")]


def timing_rows(timing: Timeline, computing: float = 0.0) -> Iterable[Words]:
    if timing.root is None or not timing.root.status:
        return  # it was cut short
    path = timing.critical_path()
    if len(path) < 2 and timing.speedup < 1.05:
        return
    least = sorted(each.seconds for each in path)[-_STEPS:][0]
    steps = [
        f"{clean(each.name)}{f' ×{each.times}' if each.times > 1 else ''} {duration(each.seconds)}"
        for each in path
        if each.seconds >= least
    ]
    if len(steps) < len(path):
        steps.append(f"and {plural(len(path) - len(steps), 'shorter step')}")
    yield [("Critical path: ", "bold"), (" → ".join(steps), "")]
    if timing.root.status not in ("ok", "error"):
        return  # nobody knows how long the work would have taken
    yield [("Speed-up: ", "bold"), (_speedup(timing, computing), "")]


def _speedup(timing: Timeline, computing: float) -> str:
    times = f"{timing.speedup:.1f} × over one after the other"
    facts = f"{duration(timing.work)} of work in {duration(timing.wall)}"
    if computing > timing.wall * _BUSY:  # one after the other, nobody would have waited for it
        return f"at most {times} ({facts}, waits for a busy processor included)"
    return f"{times} ({facts})"
