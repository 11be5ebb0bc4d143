"""`python -m benchmarks`: run the cells, print tables and targets, write a JSON file. Never fails on a number."""

import argparse
import sys
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.backends import BACKENDS
from benchmarks.cells import Cell, catalogue
from benchmarks.lines import profile_cell
from benchmarks.peers.install import install
from benchmarks.report import table, targets_table, write_json
from benchmarks.rounds import run_rounds
from benchmarks.targets import verdicts


def main(arguments: list[str]) -> int:
    """Returns an exit code: 0, or 2 if nothing was selected."""
    if arguments[:1] == ["peers"]:
        return _peers(arguments[1:])
    options = _options(arguments)
    backends = [options.backend] if options.backend else ["asyncio"] if options.quick else list(BACKENDS)
    cells = _selected(catalogue(backends, options.peers, quick=options.quick), options.only)
    if options.list or not cells:
        print("\n".join(cell.key for cell in cells) or "no cell has such a name; --list shows them all")
        return 0 if cells else 2
    if options.profile:
        profile_cell(cells[-1])
        return 0
    results = run_rounds(cells, options.rounds or (2 if options.quick else 5), timeout=options.timeout, said=_say)
    _say("")
    judged = verdicts(results)
    print(table(results))
    if options.targets:
        print("\n### Targets\n")
        print(targets_table(judged))
    write_json(results, judged, options.json)
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, help="interleaved rounds (5; 2 with --quick)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="cells whose name contains TEXT or matches a glob"
    )
    parser.add_argument("--backend", choices=BACKENDS, help="this event loop alone (all three)")
    parser.add_argument("--quick", action="store_true", help="asyncio only, fewer and smaller cells, two rounds")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="compare with the peers installed there")
    parser.add_argument("--targets", action="store_true", help="also print each target and whether it was reached")
    parser.add_argument("--json", type=Path, default=Path("benchmark-results.json"), metavar="FILE")
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="for one cell (300)")
    parser.add_argument("--list", action="store_true", help="print the names of the cells and stop")
    parser.add_argument("--profile", action="store_true", help="where the last selected cell spends its time, by line")
    return parser.parse_args(arguments)


def _peers(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers")
    parser.add_argument("--install", type=Path, required=True, metavar="DIR", help="outside the repository")
    parser.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="for one peer (900)")
    options = parser.parse_args(arguments)
    for peer, outcome in install(options.install, timeout=options.timeout).items():
        print(f"{peer}: {outcome}")
    return 0


def _selected(cells: list[Cell], only: list[str]) -> list[Cell]:
    """Those asked for, and what they are compared with."""
    if not only:
        return cells
    wanted = [cell for cell in cells if any(text in cell.key or fnmatch(cell.key, text) for text in only)]
    keys = {cell.key for cell in wanted} | {cell.against_key for cell in wanted}
    return [cell for cell in cells if cell.key in keys]


def _say(text: str) -> None:
    """Progress, on one line of a terminal; without one, a line for each round."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif ", 1/" in text:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
