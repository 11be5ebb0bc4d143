"""Accuracy against calls for every aggregator: `python -m benchmarks.quality`; see benchmarks/quality/README.md."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

from benchmarks.quality import live, plot
from benchmarks.quality.simulate import Case, Reading, measure, other_cases, voting_cases

ROOT = Path(__file__).parents[2]


def table(rows: Sequence[tuple[Case, Reading]]) -> str:
    """Rows as markdown."""
    what = "Accuracy" if {case.what for case, _ in rows} == {"accuracy"} else "Result"
    lines = [f"| | {what} | by theory | Calls | by theory |", "|---|---:|---:|---:|---:|"]
    for case, reading in rows:
        score = f"{reading.score:.1%} ± {1.96 * reading.score_error:.1%}"
        calls = f"{reading.calls:.2f}" if reading.calls_error else f"{reading.calls:.0f}"
        theory, spent = ("-", "-") if case.expected is None else (f"{case.expected[0]:.1%}", f"{case.expected[1]:.2f}")
        if case.what == "error":
            score = f"error {reading.score:.3f} ± {1.96 * reading.score_error:.3f}"
            theory = theory if case.expected is None else f"{case.expected[0]:.3f}"
        elif case.what == "coverage":
            score = f"{score} found"
        lines.append(f"| {case.name} | {score} | {theory} | {calls} | {spent.removesuffix('.00')} |")
    return "\n".join(lines)


async def simulate(cases: Sequence[Case], questions: int) -> list[tuple[Case, Reading]]:
    return [(case, await measure(case, questions)) for case in cases]


async def main(arguments: argparse.Namespace) -> int:
    p, n, seed, questions = arguments.accuracy, arguments.calls, arguments.seed, arguments.questions
    print(f"{questions} questions a row, seed {seed}; ± is a 95% interval\n")
    rows = await simulate(voting_cases(p, n, r=0.0, seed=seed), questions)
    print(f"## Independent voters, right {p:.0%} of the time\n\n{table(rows)}\n")
    correlated = await simulate(voting_cases(p, n, r=0.6, seed=seed), questions)
    print(f"## The same with a correlation of 0.36 between any two\n\n{table(correlated)}\n")
    others = await simulate(other_cases(p, seed=seed), questions)
    print(f"## Weights, a judge, a synthesis\n\n{table(others)}\n")
    if arguments.svg:
        wanted = ("one call", "vote of 3", "vote of 7", f"vote of {n}", "ahead", "sure")
        shown = [row for row in rows if row[0].name.startswith(wanted) or "sure" in row[0].name]
        shown = [row for row in shown if "asked" not in row[0].name and "waves" not in row[0].name]
        await anyio.Path(arguments.svg).write_text(plot.draw(shown, p, n), encoding="utf-8")
    all_rows = [*rows, *correlated, *others]
    off = [case.name for case, reading in all_rows if case.expected and not reading.agrees(case.expected)]
    print(f"Off by more than 3.5 standard errors: {', '.join(off) or 'none'}")
    if arguments.live:
        print(f"\n## {arguments.live}, live\n")
        print(await live.table(arguments.live, n))
    return len(off)


parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
parser.add_argument("--questions", type=int, default=2000, help="how many a row (%(default)s)")
parser.add_argument("--accuracy", type=float, default=0.7, help="of one voter (%(default)s)")
parser.add_argument("--calls", type=int, default=15, help="at most, a question; odd (%(default)s)")
parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
parser.add_argument("--svg", help="write the plot to this file")
parser.add_argument(
    "--live", nargs="?", const=live.DEFAULT if os.environ.get("ANTHROPIC_API_KEY") else None,
    help="ask this model too; by default a small one, if ANTHROPIC_API_KEY is set",
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(anyio.run(main, parser.parse_args()))
