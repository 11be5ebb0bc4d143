"""What the project set out to reach, as ratios, and whether a run reached it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.cells import LENGTHS, LONGEST, STORED
from benchmarks.rounds import Results, Spread

Measure = Callable[[Results], Spread | None]


@dataclass(frozen=True, slots=True)
class Target:
    """One promise: a ratio that must not be above `must`; `goal` and `moonshot` are wishes."""

    text: str
    measure: Measure
    must: float
    goal: float | None = None
    moonshot: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what was measured."""

    target: Target
    measured: Spread | None

    @property
    def word(self) -> str:
        """`"FAIL"`, `"pass"`, `"goal"`, `"moonshot"` or `"not measured"`."""
        if self.measured is None:
            return "not measured"
        value = self.measured.median
        if value > self.target.must:
            return "FAIL"
        if self.target.moonshot is not None and value <= self.target.moonshot:
            return "moonshot"
        return "goal" if self.target.goal is not None and value <= self.target.goal else "pass"


def verdicts(results: Results) -> list[Verdict]:
    """Every target, in the order of the promise."""
    return [Verdict(target, target.measure(results)) for target in _targets()]


def _targets() -> Iterator[Target]:
    lock_step = {"W1 10x100": (0.75, 0.6), "W1 100x100": (0.75, 0.6), "W1 1000x10": (0.95, 0.8)}
    ahead = {"W1 10x100": (0.45, 0.35), "W1 100x100": (0.45, 0.4), "W1 1000x10": (0.6, 0.5)}
    for group, (must, goal) in lock_step.items():
        yield Target(f"{group}, lock-step, x floor", _within(group, "agentflow", "floor"), must, goal, 0.45)
    for group in lock_step:
        yield Target(f"{group}, lock-step, x floor, trio", _within(group, "agentflow", "floor", backend="trio"), 1.2)
    for group, (must, goal) in ahead.items():
        yield Target(
            f"{group}, lookahead=64, x floor", _within(group, "agentflow, lookahead=64", "floor"), must, goal, 0.21
        )
    yield Target("W2, x strands", _within("W2", "agentflow", "strands-agents"), 1.1, 0.7)
    yield Target("1,000 x 50 ms, wall, x ideal", partial(_ideal_wait, "1,000 x 50 ms"), 1.8)
    yield Target("event at depth 16, x depth 1", _within("depth", "depth 16", "depth 1"), 1.1)
    few, many = STORED
    yield Target(
        f"event in a session of {many:,}, x of {few}",
        _within("session", f"events, {many} stored", f"events, {few} stored"),
        1.2,
    )
    for more in ("", ", collector off"):
        yield Target(
            f"event in a run of {LENGTHS[-1]:,}, x of {LENGTHS[0]:,} (linear: 1){more}",
            _within("length", f"{LENGTHS[-1]} events{more}", f"{LENGTHS[0]} events{more}"),
            1.2,
        )
        yield Target(f"a run's events, exponent (linear: 1){more}", partial(_exponent, more), 1.05)
    # Python's collector walks through all that there is only from some 25,000 events on: between these it always does.
    yield Target(
        f"event in a run of {LONGEST:,}, x of {LENGTHS[-1]:,} (linear: 1)",
        _within("length", f"{LONGEST} events", f"{LENGTHS[-1]} events"),
        1.2,
    )
    yield Target("10,000 live branches, memory, x bare tasks", _live, 1.6)
    yield Target("2,000 pieces, x bare", _within("2,000 pieces", "agentflow", "floor"), 2.3, moonshot=1.8)
    yield Target("a turn of an LlmAgent, x google-adk", _within("a turn", "agentflow", "google-adk"), 0.25)
    bounded = _within("a long session", "turn 1000, last 5 turns", "turn 20, last 5 turns")
    yield Target("turn 1,000, bounded, x turn 20", bounded, 1.2)
    yield Target("turn 1,000, whole, ms", _milliseconds("a long session", "turn 1000, whole"), 2.5)
    for agents, must in ((100, 1.2), (1000, 2.5)):
        group = f"{agents:,} think 50 ms"
        yield Target(f"{group}, wall, x ideal", partial(_ideal_wait, group), must)
    for kind in ("custom", "tree", "llm", "llm with a tool"):
        yield Target(f"build {kind}, x google-adk", _within(f"build {kind}", "agentflow", "google-adk"), 1.0)
    yield Target("import, x pydantic + anyio + opentelemetry.trace", _within("import", "agentflow", "floor"), 1.3)
    for more in ("", ", a model"):
        used = _within("import", "agentflow, used", f"floor{more}")
        yield Target(f"import of what a program uses, x the same{more and ' and a pydantic model'}", used, 1.3)
    yield Target("import, modules that must stay out", _forbidden, 0)
    for group in (f"stop {branches} {state}" for branches in (100, 1000) for state in ("waiting", "busy")):
        yield Target(f"{group}: bodies ended, x bare (slowest way)", _slowest_stop(group, "cpu"), 1.5)
        yield Target(f"{group}: terminal events committed, x bare", _slowest_stop(group, "committed_cpu"), 3.0)


def _key(group: str, name: str, backend: str) -> str:
    return f"{group} | {name} @ {backend}"


def _within(group: str, name: str, other: str, *, backend: str = "asyncio") -> Measure:
    """The ratio of two cells of one group, by what the first one compares."""

    def measure(results: Results) -> Spread | None:
        cell = results.cells.get(_key(group, name, backend))
        return results.ratio(cell.key, _key(group, other, backend), cell.metric) if cell else None

    return measure


def _slowest_stop(group: str, metric: str) -> Measure:
    """Of break, close, cancel and a cancelled scope around the run, the one with the worst median."""

    def measure(results: Results) -> Spread | None:
        floor = _key(group, "floor", "asyncio")
        ways = [cell.key for cell in results.cells.values() if cell.group == group and cell.key != floor]
        ratios = [results.ratio(key, floor, metric, "cpu") for key in ways]
        return max((ratio for ratio in ratios if ratio is not None), key=lambda ratio: ratio.median, default=None)

    return measure


def _milliseconds(group: str, name: str) -> Measure:
    """What one unit costs, where nothing here can be compared with it."""

    def measure(results: Results) -> Spread | None:
        values = results.values(_key(group, name, "asyncio"), "cpu")
        return Spread.of([value * 1000 for value in values]) if values else None

    return measure


def _ideal_wait(group: str, results: Results) -> Spread | None:
    walls = results.values(_key(group, "agentflow", "asyncio"), "wall")
    return Spread.of([wall / 0.05 for wall in walls]) if walls else None


def _exponent(more: str, results: Results) -> Spread | None:
    """Slope of log(run's cost) over log(events), least squares, for each round."""
    slopes: list[float] = []
    for one in results.rounds:
        points = [
            (math.log(length), math.log(length * one[key]["cpu"]))
            for length in LENGTHS
            if "cpu" in one.get(key := _key("length", f"{length} events{more}", "asyncio"), {})
        ]
        if len(points) > 2:
            mean_x = sum(x for x, _ in points) / len(points)
            mean_y = sum(y for _, y in points) / len(points)
            spread_x = sum((x - mean_x) ** 2 for x, _ in points)
            slopes.append(sum((x - mean_x) * (y - mean_y) for x, y in points) / spread_x)
    return Spread.of(slopes) if slopes else None


def _live(results: Results) -> Spread | None:
    ours, floor = (_key("10000 live", f"{who}, traced", "asyncio") for who in ("agentflow", "floor"))
    return results.ratio(ours, floor, "bytes")


def _forbidden(results: Results) -> Spread | None:
    return results.spread(_key("import", "agentflow, used", "asyncio"), "forbidden")
