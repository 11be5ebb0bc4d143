"""Which cells there are: what each one runs, in which interpreter, and what it is compared with."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.backends import BACKENDS
from benchmarks.peers.install import PEERS, python_of

FAN_OUTS = ((10, 100), (100, 100), (1000, 10))
DEPTHS = (1, 2, 4, 8, 16)
STORED = (100, 20_000)
LENGTHS = (1_000, 3_000, 10_000, 30_000, 100_000)
LONGEST = 300_000
IMPORT_FLOOR = "import anyio; from pydantic import BaseModel; import opentelemetry.trace"
MODEL_FLOOR = f"{IMPORT_FLOOR}; type('One', (BaseModel,), {{'__module__': 'm', '__annotations__': {{'one': int}}}})"
IMPORT_USED = "from agentflow import Event, FunctionAgent, ParallelAgent, Runner, SequentialAgent"
NEVER_IMPORTED = [
    "anthropic", "sqlalchemy", "sqlite3", "psycopg", "asyncpg", "aiosqlite", "opentelemetry.sdk",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measurement in a process of its own.

    Attributes:
        group: The workload, heading of its table.
        name: What is measured, unique in its group and backend.
        against: The cell of the same group and backend that this one is compared with, by name.
        metric: Which number of the answer is compared.
        unit: What one number is for: `"event"`, `"run"`.
    """

    group: str
    name: str
    module: str
    function: str
    params: Mapping[str, Any]
    backend: str = "asyncio"
    against: str | None = None
    metric: str = "cpu"
    unit: str = "event"
    python: str = sys.executable

    @property
    def key(self) -> str:
        """Names this cell in reports, in `--only` and in the JSON file."""
        return f"{self.group} | {self.name} @ {self.backend}"

    @property
    def against_key(self) -> str | None:
        """The key of the cell that this one is compared with."""
        return self.against and f"{self.group} | {self.against} @ {self.backend}"


def catalogue(backends: list[str], peers: Path | None, *, quick: bool = False) -> list[Cell]:
    """All cells, those that are compared next to each other; `quick` leaves the long ones out."""
    cells: list[Cell] = []
    for backend in backends:
        main_loop = backend == backends[0]
        cells += _merged(backend, FAN_OUTS[:2] if quick else FAN_OUTS)
        if main_loop:
            cells += _small(backend)
            cells += _stopping(backend, (100,) if quick else (100, 1000))
            cells += _growth(backend, quick=quick)
            cells += _live(backend, 1_000 if quick else 10_000)
            cells += _thinking(backend, quick=quick)
    cells += _imports()
    cells += _building()
    if peers is not None:
        cells += [cell for peer in PEERS for cell in _peer(peer, peers, quick=quick)]
    order = list(dict.fromkeys(cell.group for cell in cells))
    return sorted(cells, key=lambda cell: (order.index(cell.group), BACKENDS.index(cell.backend)))


def _floor(function: str, params: Mapping[str, Any], *, backend: str, **more: Any) -> Cell:
    return Cell(
        module="benchmarks.floors", function=function, params={**params, "backend": backend}, backend=backend, **more
    )


def _ours(function: str, params: Mapping[str, Any], *, backend: str, **more: Any) -> Cell:
    return Cell(
        module="benchmarks.agentflow_cells",
        function=function,
        params={**params, "backend": backend},
        backend=backend,
        **more,
    )


def _merged(backend: str, fan_outs: tuple[tuple[int, int], ...]) -> Iterator[Cell]:
    for branches, events in fan_outs:
        group = f"W1 {branches}x{events}"
        shape = {"branches": branches, "events": events}
        yield _floor("merge", {**shape, "item": "ready"}, backend=backend, group=group, name="floor")
        yield _floor(
            "merge", {**shape, "item": "event"}, backend=backend, group=group, name="floor, events", against="floor"
        )
        for name, lookahead, style in (
            ("agentflow", 0, "emit"),
            ("agentflow, lookahead=64", 64, "emit"),
            ("agentflow, yield", 0, "yield"),
        ):
            yield _ours(
                "merge",
                {**shape, "lookahead": lookahead, "style": style},
                backend=backend,
                group=group,
                name=name,
                against="floor",
            )


def _small(backend: str) -> Iterator[Cell]:
    runs = {"runs": 200}
    yield _floor("sequence", runs, backend=backend, group="W2", name="floor", unit="run")
    yield _ours("sequence", runs, backend=backend, group="W2", name="agentflow", against="floor", unit="run")
    wait = {"branches": 1000, "seconds": 0.05}
    group = "1,000 x 50 ms"
    yield _floor("wait", wait, backend=backend, group=group, name="floor", unit="run", metric="wall")
    yield _ours(
        "wait", wait, backend=backend, group=group, name="agentflow", against="floor", unit="run", metric="wall"
    )


def _stopping(backend: str, counts: tuple[int, ...]) -> Iterator[Cell]:
    for branches in counts:
        for busy in (False, True):
            group = f"stop {branches} {'busy' if busy else 'waiting'}"
            shape = {"branches": branches, "busy": busy}
            yield _floor("stop", shape, backend=backend, group=group, name="floor", unit="stop")
            for way in ("break", "close", "cancel", "outer"):
                yield _ours(
                    "stop",
                    {**shape, "way": way},
                    backend=backend,
                    group=group,
                    name=f"agentflow, {way}",
                    against="floor",
                    unit="stop",
                )


def _growth(backend: str, *, quick: bool) -> Iterator[Cell]:
    for depth in DEPTHS[:: 4 if quick else 1]:
        yield _ours(
            "nested",
            {"depth": depth, "events": 10_000},
            backend=backend,
            group="depth",
            name=f"depth {depth}",
            against="depth 1",
        )
    for stored in STORED:
        for part, unit in (("events", "event"), ("turn", "run")):
            yield _ours(
                "stored",
                {"stored": stored, "part": part},
                backend=backend,
                group="session",
                name=f"{part}, {stored} stored",
                against=f"{part}, {STORED[0]} stored",
                unit=unit,
            )
    for length in LENGTHS[:3] if quick else LENGTHS:
        for collector, more in ((True, ""), (False, ", collector off")):
            yield _ours(
                "long",
                {"events": length, "collector": collector},
                backend=backend,
                group="length",
                name=f"{length} events{more}",
                against=f"{LENGTHS[0]} events{more}",
            )
    if not quick:
        shape = {"events": LONGEST, "collector": True}
        against = f"{LENGTHS[-1]} events"
        yield _ours("long", shape, backend=backend, group="length", name=f"{LONGEST} events", against=against)


def _live(backend: str, branches: int) -> Iterator[Cell]:
    for how in ("traced", "rss"):
        shape = {"branches": branches, "how": how}
        more = {"group": f"{branches} live", "metric": "bytes", "unit": "branch"}
        yield _floor("live", shape, backend=backend, name=f"floor, {how}", **more)
        yield _ours("live", shape, backend=backend, name=f"agentflow, {how}", against=f"floor, {how}", **more)


def _thinking(backend: str, *, quick: bool) -> Iterator[Cell]:
    def cell(function: str, group: str, name: str, against: str | None = None, **more: Any) -> Cell:
        unit, metric = more.pop("unit"), more.pop("metric", "cpu")
        return Cell(
            module="benchmarks.llm", function=function, params={**more, "backend": backend}, backend=backend,
            group=group, name=name, against=against, unit=unit, metric=metric,
        )  # fmt: skip

    yield cell("bare", "2,000 pieces", "floor", count=2_000, unit="piece")
    yield cell("pieces", "2,000 pieces", "agentflow", "floor", count=2_000, unit="piece")
    yield cell("turn", "a turn", "agentflow", "google-adk", runs=200, unit="turn")
    for how, history, claude in (
        ("whole", None, False),
        ("last 5 turns", 5, False),
        ("whole, Claude's SDK", None, True),
    ):
        for turns in (20, 200) if quick else (20, 1000):
            shape = {"turns": turns, "history": history, "claude": claude, "unit": "turn"}
            yield cell("session", "a long session", f"turn {turns}, {how}", f"turn 20, {how}", **shape)
    for agents in (100, 1000):
        group = f"{agents:,} think 50 ms"
        yield cell("crowd", group, "agentflow", agents=agents, seconds=0.05, unit="run", metric="wall")


def _imports() -> Iterator[Cell]:
    for name, statement, against in (
        ("floor", IMPORT_FLOOR, None),
        ("floor, a model", MODEL_FLOOR, "floor"),
        ("agentflow", "import agentflow", "floor"),
        ("agentflow, used", IMPORT_USED, "floor, a model"),
    ):
        yield Cell(
            module="benchmarks.floors",
            function="imports",
            params={"statement": statement, "forbidden": NEVER_IMPORTED},
            group="import",
            name=name,
            against=against,
            unit="import",
        )


def _building() -> Iterator[Cell]:
    for kind in ("custom", "tree", "llm"):
        yield Cell(
            module="benchmarks.agentflow_cells",
            function="build",
            params={"kind": kind, "count": 220},
            group=f"build {kind}",
            name="agentflow",
            against="google-adk",
            unit="agent",
        )
    yield Cell(
        module="benchmarks.llm", function="build", params={"count": 220}, group="build llm with a tool",
        name="agentflow", against="google-adk", unit="agent",
    )  # fmt: skip


def _peer(peer: str, directory: Path, *, quick: bool) -> Iterator[Cell]:
    python = python_of(directory, peer)
    if python is None:
        return
    module = "benchmarks.peers." + peer.replace("-", "_")
    common = {"module": module, "python": str(python), "name": peer}
    for branches, events in FAN_OUTS[:2] if quick else FAN_OUTS:
        yield Cell(
            function="merge",
            params={"branches": branches, "events": events},
            group=f"W1 {branches}x{events}",
            against="floor",
            **common,
        )
    yield Cell(function="sequence", params={"runs": 50}, group="W2", against="floor", unit="run", **common)
    yield Cell(
        function="wait",
        params={"branches": 1000, "seconds": 0.05},
        group="1,000 x 50 ms",
        against="floor",
        unit="run",
        metric="wall",
        **common,
    )
    if peer == "google-adk":
        for kind in ("custom", "tree", "llm", "llm with a tool"):
            yield Cell(
                function="build", params={"kind": kind, "count": 220}, group=f"build {kind}", unit="agent", **common
            )
        yield Cell(function="turn", params={"runs": 50}, group="a turn", unit="turn", **common)
