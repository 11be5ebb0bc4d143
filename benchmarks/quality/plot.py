"""Accuracy against calls, as SVG: the closed form of the full vote as a line, what was measured as marks."""

from collections.abc import Sequence
from html import escape

from benchmarks.quality.closed_forms import majority
from benchmarks.quality.simulate import Case, Reading

WIDTH, HEIGHT, LEFT, TOP = 720, 400, 60, 30
BESIDE = {"vote": 4, "ahead": 16, "sure": -6, "other": 4}
COLOURS = {"vote": "#4c78a8", "ahead": "#e45756", "sure": "#54a24b", "other": "#b279a2"}


def draw(rows: Sequence[tuple[Case, Reading]], p: float, n: int) -> str:
    """The picture of voters that are right with probability `p`, independently, at most `n` of them."""
    low = min(p, *(reading.score for _, reading in rows)) - 0.02
    high = max(reading.score for _, reading in rows) + 0.02

    def x(calls: float) -> float:
        return LEFT + (calls - 1) / (n - 1) * (WIDTH - LEFT - 150)

    def y(accuracy: float) -> float:
        return HEIGHT - 50 - (accuracy - low) / (high - low) * (HEIGHT - 50 - TOP)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        "<style>text { font: 12px sans-serif }</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18" font-weight="bold">Accuracy against calls, voters right {p:.0%} of the time</text>',
    ]
    out += [
        f'<text x="{x(calls):.1f}" y="{HEIGHT - 32}" text-anchor="middle" fill="#555">{calls}</text>'
        for calls in range(1, n + 1, 2)
    ]
    step = 0.05
    tick = step * -(-low // step)
    while tick <= high:
        out.append(f'<line x1="{LEFT}" x2="{x(n):.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end" fill="#555">{tick:.0%}</text>')
        tick += step
    out.append(
        f'<text x="{x((n + 1) / 2):.1f}" y="{HEIGHT - 12}" text-anchor="middle" fill="#555">calls a question</text>'
    )
    line = " ".join(f"{x(size):.1f},{y(majority(p, size)):.1f}" for size in range(1, n + 1, 2))
    out.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS["vote"]}" stroke-width="1.5"/>')
    for case, reading in rows:
        kind = next((kind for kind in ("ahead", "sure", "vote") if kind in case.name), "other")
        colour, label = COLOURS[kind], escape(case.name)
        cx, cy = x(reading.calls), y(reading.score)
        error = abs(y(reading.score + 1.96 * reading.score_error) - cy)
        out += [
            f'<line x1="{cx:.1f}" x2="{cx:.1f}" y1="{cy - error:.1f}" y2="{cy + error:.1f}" stroke="{colour}"/>',
            f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="4" fill="{colour}"/>',
            f'<text x="{cx + 7:.1f}" y="{cy + BESIDE[kind]:.1f}" fill="{colour}">{label}</text>',
        ]
    return "\n".join([*out, "</svg>", ""])
