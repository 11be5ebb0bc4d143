"""A run as a text Gantt: a row for each agent on each branch, as wide as a terminal."""

from collections.abc import Sequence
from unicodedata import combining, east_asian_width

from agentflow.timeline.model import Timeline
from agentflow.timeline.rows import Axis, Row, moment, pieces, rows, ticks
from agentflow.timeline.words import clean, duration, plural

Words = list[tuple[str, str]]
"""Pieces of one line, each with its style: `""`, `"bold"`, `"dim"`, `"cyan"`, ..., as rich names them."""

STYLES = {
    "ok": "green",
    "error": "bold red",
    "timeout": "bold red",
    "cancelled": "yellow",
    "paused": "magenta",
    "skipped": "dim",
    "unfinished": "cyan",
}
_LINES = {
    "own": ("━", "="),
    "failed": ("━", "x"),
    "children": ("─", "-"),
    "tool": ("╍", "*"),
    "retry": ("╌", "~"),
    "queue": ("·", "."),
}
_RANK = {"": 0, "queue": 1, "children": 2, "retry": 3, "failed": 4, "own": 5, "tool": 6}
_PAUSE = "‖"
_PLAIN = str.maketrans({"·": "-", "…": "~", "→": ">", "×": "x", _PAUSE: "|"})
_TIME = 9
LETTERS = 8
"""Columns of a name that are worth more than its indentation."""
_LEAST, _WANTED = 16, 32
"""Columns that bars need to say anything, and those that they get before notes get more."""


def gantt(timeline: Timeline, *, width: int = 100, ascii: bool = False) -> str:  # noqa: A002 - what it is
    """The run as lines of text.

    Args:
        timeline: A closed one.
        width: Columns.
        ascii: Draw with characters that every terminal and every file can show.
    """
    lines = gantt_rows(timeline, width=width, ascii=ascii)
    return "\n".join("".join(words for words, _ in line).rstrip() for line in lines)


def gantt_rows(timeline: Timeline, *, width: int = 100, ascii: bool = False) -> list[Words]:  # noqa: A002
    """The same with styles."""
    lines = [_crop(line, width) for line in _rows(timeline, width, ascii)]
    return [in_ascii(line) for line in lines] if ascii else lines


def in_ascii(line: Words) -> Words:
    """The same line without those of our characters that a terminal might lack."""
    return [(words.translate(_PLAIN), style) for words, style in line]


def _rows(timeline: Timeline, width: int, ascii: bool) -> list[Words]:  # noqa: A002
    table = rows(timeline)
    axis = Axis(timeline)
    lines: list[Words] = [_headline(timeline, axis, width)]
    if not table:
        return lines
    labels = [label_of(row) for row in table]
    notes = [", ".join(row.notes()) for row in table]
    widest = max(map(columns, labels))
    names = min(widest, max(8, width * 3 // 10))
    if names < widest:
        most = max(0, names - LETTERS)
        step = 2 if 2 * max(row.depth for row in table) <= most else 1
        labels = [label_of(row, step, most) for row in table]
    states = max(max(len(row.status) for row in table), 2)
    tail = 2 + states + (2 + max(map(columns, notes)) if any(notes) else 0)
    tail = max(2 + states, min(tail, width // 3 if width >= 100 else width - names - _TIME - _WANTED))
    bars = width - names - 1 - _TIME - tail
    if bars < _LEAST:  # a narrow terminal: bars are what it is about
        tail = 2 + states if width - names - 1 - _TIME - 2 - states >= _LEAST else 0
        bars = max(_LEAST, width - names - 1 - _TIME - tail)
    lines.append([(" " * (names + 1), ""), (_ruler(axis, bars), "dim")])
    critical = {id(turn) for turn, _ in timeline.critical_turns()}
    for row, label, note in zip(table, labels, notes, strict=True):
        line: Words = [(cut(label, names) + " ", "bold" if row.depth == 0 else "dim" if not row.turns else "")]
        line += _bar(row, bars, axis, ascii)
        on_path = any(id(turn) in critical for turn in row.turns)
        seconds = duration(row.seconds) if row.turns else ""
        line.append((seconds.rjust(_TIME), "bold" if on_path else "dim"))
        if tail:
            line += _end(row.status, note, states, tail)
        lines.append(line)
    lines.append([("", "")])
    lines += _legend(table, axis, width, ascii)
    return lines


def _headline(timeline: Timeline, axis: Axis, width: int) -> Words:
    status = timeline.status or "unfinished"
    name = clean(timeline.root.name) if timeline.root is not None else "run"
    name = cut(name, min(columns(name), max(LETTERS, width - columns(status) - 12))).rstrip()
    facts = [duration(timeline.wall), plural(len(timeline.turns), "turn"), plural(timeline.events, "event")]
    if timeline.usage.total_tokens:
        facts.append(plural(timeline.usage.total_tokens, "token"))
    if axis.paused:
        facts.insert(1, axis.paused)
    while len(facts) > 1 and columns(f"{name} {status} · " + " · ".join(facts)) > width:
        facts.pop()
    words: Words = [(name, "bold"), (f" {status}", STYLES.get(status, "")), (" · " + " · ".join(facts), "dim")]
    left = width - sum(columns(text) for text, _ in words) - 3
    asked = " ".join(clean(timeline.asked).split())
    if asked and left > 12:
        words.append((" · " + cut(asked, left).rstrip(), "dim"))
    return words


def _ruler(axis: Axis, bars: int) -> str:
    line = [" "] * (bars + 12)
    for at, _ in axis.pauses:
        line[int(at / axis.seconds * (bars - 1))] = _PAUSE
    for tick in ticks(axis.seconds, max(2, bars // 9)):
        place = int(tick / axis.seconds * (bars - 1))
        name = moment(tick)
        if place + len(name) <= bars and not "".join(line[max(0, place - 2) : place + len(name)]).strip():
            line[place : place + len(name)] = name
    return "".join(line).rstrip()


def _end(status: str, note: str, states: int, room: int) -> Words:
    words: Words = [("  " + status.ljust(states), STYLES.get(status, ""))]
    if note and room - states >= 8:
        style = "red" if status in ("error", "timeout") else "dim"
        words.append(("  " + cut(note, room - 4 - states).rstrip(), style))
    return words


def _crop(line: Words, width: int) -> Words:
    cropped: Words = []
    for words, style in line:
        taken = columns(words)
        cropped.append((words if taken <= width else cut(words, width), style))
        width -= min(width, taken)
    return cropped


def _bar(row: Row, bars: int, axis: Axis, ascii: bool) -> Words:  # noqa: A002
    """What covers most of each column: work, children at work, a wait."""
    cells = [""] * bars
    styles = [""] * bars
    scale = bars / axis.seconds

    def draw(began: float, ended: float, kind: str, style: str) -> None:
        first = min(bars - 1, max(0, int(axis.at(began) * scale)))
        last = max(first + 1, min(bars, round(axis.at(ended) * scale)))
        for place in range(first, last):
            if _RANK[kind] >= _RANK[cells[place]]:
                cells[place], styles[place] = kind, style

    for turn in row.turns:
        for kind, began, ended in pieces(turn):
            if kind == "own" and turn.busy and (ended - began) * scale < 0.5:
                continue  # a moment between two children
            style = {"queue": "dim", "failed": "red", "retry": "yellow"}.get(kind)
            draw(began, ended, kind, style or STYLES.get(turn.status or "unfinished", ""))
        for call in turn.calls:
            draw(call.began, turn.ended if call.ended is None else call.ended, "tool", "magenta")
    words: Words = []
    for kind, style in zip(cells, styles, strict=True):
        char = _LINES[kind][ascii] if kind else " "
        if words and words[-1][1] == style:
            words[-1] = (words[-1][0] + char, style)
        else:
            words.append((char, style))
    return words


def _legend(table: Sequence[Row], axis: Axis, width: int, ascii: bool) -> list[Words]:  # noqa: A002
    names = {
        "own": "at work",
        "children": "its agents at work",
        "tool": "its tools at work",
        "queue": "queued",
        "retry": "before a retry",
    }
    there = {kind for row in table for turn in row.turns for kind, _, _ in pieces(turn)}
    there |= {"tool" for row in table for turn in row.turns if turn.calls}
    legend = [f"{_LINES[kind][ascii] * 2} {name}" for kind, name in names.items() if kind in there]
    if axis.pauses:
        legend.append(f"{_PAUSE} paused for an answer")
    lines: list[str] = []
    for words in legend:
        if lines and columns(f"{lines[-1]}   {words}") <= width:
            lines[-1] += f"   {words}"
        else:
            lines.append(words)
    return [[(line, "dim")] for line in lines]


def label_of(row: Row, step: int = 2, most: int = 1_000) -> str:
    """Its name, indented by `step` columns a level, at most by so many."""
    return " " * min(step * row.depth, most) + clean(row.label)


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def cut(text: str, width: int) -> str:
    """`text` in exactly `width` columns."""
    taken = columns(text)
    if taken > width:
        while text and taken > max(0, width - 1):
            taken -= columns(text[-1])
            text = text[:-1]
        text, taken = text + "…"[: max(0, width)], taken + min(1, width)
    return text + " " * (width - taken)
