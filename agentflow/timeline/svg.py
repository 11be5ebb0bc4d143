"""A run as one SVG picture, light and dark, for a page or a report."""

from collections.abc import Sequence
from html import escape

from agentflow.timeline.model import Timeline, Turn
from agentflow.timeline.rows import Axis, Row, moment, pieces, rows, ticks
from agentflow.timeline.text import LETTERS, columns, cut
from agentflow.timeline.words import clean, duration, plural

_ROW = 24
_TOP = 86
_CHAR = 6.9
"""Width of a column of text, about."""
_STYLE = """
:root { color-scheme: light dark }
text { font: 12px system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; fill: #1c2127 }
.title { font-size: 17px; font-weight: 650 } .soft { fill: #69717d } .small { font-size: 11px }
.top { font-weight: 650 } .back { fill: #fff } .grid { stroke: #e9ecf0 }
.ok { fill: #2b9a72 } .error, .failed { fill: #d6336c } .timeout { fill: #e8590c } .cancelled { fill: #d9930d }
.skipped { fill: #9aa2ad } .unfinished { fill: #1c7ed6 } .paused { fill: #7950f2 } .children { opacity: .6 }
.queue { fill: url(#hatch); stroke: #9aa2ad } .hatch { stroke: #9aa2ad; opacity: .6 }
.retry { stroke: #d9930d; stroke-width: 2; stroke-dasharray: 4 3 } .call { fill: #3b5bdb }
.pause { stroke: #7950f2; stroke-width: 2; stroke-dasharray: 1 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e9ee } .soft { fill: #949daa } .back { fill: #14171c } .grid { stroke: #2a3038 }
  .ok { fill: #43b98c } .error, .failed { fill: #f0608f } .timeout { fill: #ff8a4c } .cancelled { fill: #e8b04a }
  .unfinished { fill: #5cadf2 } .paused { fill: #b197fc } .call { fill: #91a7ff }
  .pause { stroke: #b197fc }
}
"""
_DEFINITIONS = """<defs>
<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<line class="hatch" y2="6"/></pattern>
</defs>"""


def to_svg(timeline: Timeline, *, width: int = 960) -> str:
    """The run as an SVG document.

    Its colours follow the reader's preference; it uses no script and loads nothing. Each bar has its facts as a title.

    Args:
        timeline: A closed one.
        width: Pixels; the height follows from the rows.
    """
    table = rows(timeline)
    labels = [clean(row.label) for row in table]
    room = [22 + 14 * row.depth + columns(label) * _CHAR for row, label in zip(table, labels, strict=True)]
    widest = max(room, default=0) + 72
    names = min(widest, width * 0.38)
    deepest = names - 84 - LETTERS * _CHAR if names < widest else names
    notes = [", ".join(row.notes()) for row in table]
    tail = min(max((columns(note) * 5.9 + 14 for note in notes if note), default=14), width * 0.22)
    scale = _Scale(names + 10, width - tail, Axis(timeline))
    bottom = _TOP + _ROW * len(table)
    legend, height = _legend(timeline, table, bottom + 24, width)
    size, alt = f'width="{width}" height="{height}"', escape(_summary(timeline), quote=True)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}" role="img" aria-label="{alt}">',
        f"<style>{_STYLE}</style>",
        _DEFINITIONS,
        f'<rect class="back" width="{width}" height="{height}" rx="8"/>',
        *_heading(timeline, scale.axis, width),
        *_grid(scale, bottom, width),
    ]
    for place, (row, label, note) in enumerate(zip(table, labels, notes, strict=True)):
        indent = 18 + min(14 * row.depth, deepest)
        parts += _row(row, label, note, _TOP + _ROW * place, scale, indent, names, tail)
    return "\n".join([*parts, *legend, "</svg>", ""])


class _Scale:
    """Where a moment is."""

    def __init__(self, left: float, right: float, axis: Axis) -> None:
        self.left, self.right, self.axis = left, right, axis

    def x(self, time: float) -> float:
        return self.along(self.axis.at(time))

    def along(self, seconds: float) -> float:
        return self.left + seconds / self.axis.seconds * (self.right - self.left)


def _summary(timeline: Timeline) -> str:
    name = clean(timeline.root.name) if timeline.root is not None else "run"
    return f"{name}: {timeline.status or 'unfinished'} after {duration(timeline.wall)}"


def _heading(timeline: Timeline, axis: Axis, width: int) -> list[str]:
    status = timeline.status or "unfinished"
    facts = [duration(timeline.wall), f"{timeline.speedup:.1f} × speed-up", plural(len(timeline.turns), "turn")]
    if timeline.usage.total_tokens:
        facts.append(plural(timeline.usage.total_tokens, "token"))
    if axis.paused:
        facts.insert(1, axis.paused)
    told = " · ".join(facts)
    name = clean(timeline.root.name) if timeline.root is not None else "run"
    name = cut(name, max(8, min(columns(name), int((width - 60 - columns(f"{told}{status}") * 6.4) / 9.5)))).rstrip()
    asked = cut(" ".join(clean(timeline.asked).split()), int((width - 40) / 6.4)).rstrip()
    ended = f'<tspan class="{escape(status)}">{escape(status)}</tspan>'
    return [
        f'<text class="title" x="18" y="31">{escape(name)} {ended}</text>',
        f'<text class="soft" x="{width - 18}" y="31" text-anchor="end">{told}</text>',
        f'<text class="soft" x="18" y="51">{escape(asked)}</text>',
    ]


def _grid(scale: _Scale, bottom: int, width: int) -> list[str]:
    lines = []
    ys = f'y1="{_TOP - 8}" y2="{bottom + 4}"'
    for tick in ticks(scale.axis.seconds, max(2, int((scale.right - scale.left) / 80))):
        x, name = scale.along(tick), moment(tick)
        lines.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" {ys}/>')
        if x + len(name) * 6.2 < width:
            lines.append(f'<text class="soft small" x="{x:.1f}" y="{_TOP - 14}">{name}</text>')
    for at, seconds in scale.axis.pauses:
        line = f'<line class="pause" x1="{scale.along(at):.1f}" x2="{scale.along(at):.1f}" {ys}/>'
        lines.append(f"<g><title>paused for {duration(seconds)}</title>{line}</g>")
    return lines


def _row(row: Row, label: str, note: str, y: int, scale: _Scale, indent: float, names: float, tail: float) -> list[str]:
    shown = cut(label, max(4, int((names - indent - 62) / _CHAR))).rstrip()
    style = "top" if row.depth == 0 else "soft" if not row.turns else ""
    parts = [
        f'<circle class="{escape(row.status)}" cx="{indent + 4:g}" cy="{y + 12}" r="4"/>',
        f'<text class="{style}" x="{indent + 14:g}" y="{y + 16}">{escape(shown)}</text>',
    ]
    if row.turns:
        took = duration(row.seconds)
        parts.append(f'<text class="soft small" x="{names:.1f}" y="{y + 16}" text-anchor="end">{took}</text>')
    for turn in row.turns:
        parts += ["<g>", f"<title>{escape(_facts(row, turn))}</title>", *_bars(turn, y, scale), "</g>"]
    if note:
        words = cut(note, max(1, int((tail - 12) / 5.9))).rstrip()
        parts.append(f'<text class="soft small" x="{scale.right + 8:.1f}" y="{y + 16}">{escape(words)}</text>')
    return parts


def _facts(row: Row, turn: Turn) -> str:
    facts = [f"{clean(row.label)}: {turn.status or 'unfinished'}, {duration(turn.seconds)}"]
    if turn.iteration is not None:
        facts.append(f"iteration {turn.iteration}")
    return ", ".join([*facts, *Row(row.label, row.depth, [turn]).notes()])


def _bars(turn: Turn, y: int, scale: _Scale) -> list[str]:
    bars = []
    status = escape(turn.status or "unfinished")
    for kind, began, ended in pieces(turn):
        x = scale.x(began)
        width = scale.x(ended) - x
        if kind == "own" and turn.busy and width < 1.5:
            continue  # a moment between two children
        width = max(width, 2.0 if kind in ("own", "failed") else 0.0)
        if kind == "retry":
            bars.append(f'<line class="retry" x1="{x:.1f}" x2="{x + width:.1f}" y1="{y + 12}" y2="{y + 12}"/>')
        elif kind == "children":
            bars.append(f'<rect class="{status} children" x="{x:.1f}" y="{y + 10.5}" width="{width:.1f}" height="3"/>')
        else:
            style = status if kind == "own" else kind
            bars.append(f'<rect class="{style}" x="{x:.1f}" y="{y + 6}" width="{width:.1f}" height="12" rx="3"/>')
    for call in turn.calls:
        x, ended = scale.x(call.began), call.ended if call.ended is not None else turn.ended
        bars.append(
            f'<rect class="call" x="{x:.1f}" y="{y + 15}" width="{max(1.5, scale.x(ended) - x):.1f}" height="3"/>'
        )
    return bars


def _legend(timeline: Timeline, table: Sequence[Row], y: int, width: int) -> tuple[list[str], int]:
    """What the picture is drawn with, and how it ended where that isn't `ok`; and the height with it."""
    there = {kind for turn in timeline.turns for kind, _, _ in pieces(turn)}
    names = {
        "own": ("at work", '<rect class="ok" x="{x}" y="{bar}" width="22" height="10" rx="3"/>'),
        "children": ("its agents at work", '<rect class="ok children" x="{x}" y="{line}" width="22" height="3"/>'),
        "tool": ("its tools at work", '<rect class="call" x="{x}" y="{line}" width="22" height="3"/>'),
        "queue": ("queued", '<rect class="queue" x="{x}" y="{bar}" width="22" height="10" rx="3"/>'),
        "failed": ("a failed attempt", '<rect class="failed" x="{x}" y="{bar}" width="22" height="10" rx="3"/>'),
        "retry": ("before a retry", '<line class="retry" x1="{x}" x2="{end}" y1="{middle}" y2="{middle}"/>'),
        "pause": ("paused for an answer", '<line class="pause" x1="{mid}" x2="{mid}" y1="{top}" y2="{y}"/>'),
    }
    there |= {"tool" for turn in timeline.turns if turn.calls} | {"pause" for _ in timeline.pauses}
    shown = [names[kind] for kind in names if kind in there]
    ended = dict.fromkeys(row.status for row in table if row.status != "ok")
    shown += [(status, '<circle class="{name}" cx="{mid}" cy="{middle}" r="4"/>') for status in ended]
    parts = []
    x = 18
    for name, drawing in shown:
        taken = 44 + int(len(name) * 6.2)
        if x + taken > width and x > 18:
            x, y = 18, y + 20
        places = {"x": x, "mid": x + 11, "end": x + 22, "y": y, "top": y - 11, "bar": y - 9, "line": y - 5.5}
        parts.append(drawing.format(**places, middle=y - 4, name=escape(name)))
        parts.append(f'<text class="soft small" x="{x + 28}" y="{y}">{escape(name)}</text>')
        x += taken
    return parts, y + 16
