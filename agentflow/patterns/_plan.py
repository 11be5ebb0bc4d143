"""The shape of a graph, checked; and how far a run of it has come. No task, clock or context in here."""

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from agentflow.errors import ConfigError

Join = Literal["all", "any", "ended"] | int

AGING = 100
"""Nodes that may become ready and overtake a waiting one, for each level of priority that they are above it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vertex:
    """A node's place in the graph; what it does is somebody else's affair.

    Attributes:
        name: Unique in the graph.
        after: Names of the nodes that it depends on, each once.
        join: How many of them have to go well.
        priority: Higher goes first among the ready.
        routes: Which nodes follow, by label; the label `*` is any other. Of nodes that none of them names nothing is
            said: they follow whatever the label.
    """

    name: str
    after: tuple[str, ...] = ()
    join: Join = "all"
    priority: float = 0
    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Plan:
    """A graph that can run: every name known, no cycle, no join that can't come about. Nodes are numbered as given.

    Raises:
        ConfigError: It can't.
    """

    def __init__(self, owner: str, vertices: Sequence[Vertex]) -> None:
        self.owner = owner
        self.names = [vertex.name for vertex in vertices]
        self.number = {name: index for index, name in enumerate(self.names)}
        if len(self.number) < len(self.names):
            twice = next(name for index, name in enumerate(self.names) if self.number[name] != index)
            raise ConfigError(f"{owner}: two nodes are named {twice!r}; names must be unique")
        self.joins = [vertex.join for vertex in vertices]
        self.priorities = [vertex.priority for vertex in vertices]
        self.routes = [
            {label: self._targets(vertex, targets) for label, targets in vertex.routes.items()} for vertex in vertices
        ]
        self.routed = [frozenset[int]().union(*routes.values()) for routes in self.routes]
        self.after = [self._dependencies(vertex) for vertex in vertices]
        for index, targets in enumerate(self.routed):
            for target in targets:
                if index not in self.after[target]:
                    self.after[target] = (*self.after[target], index)
        self.next: list[list[int]] = [[] for _ in vertices]
        for index, dependencies in enumerate(self.after):
            for dependency in dependencies:
                self.next[dependency].append(index)
        self.need = [self._need(index) for index in range(len(vertices))]
        self._check_cycles()
        for index, routes in enumerate(self.routes):
            if routes:
                self._check_routes(index)

    @property
    def sinks(self) -> list[int]:
        """The nodes that nothing depends on."""
        return [index for index, following in enumerate(self.next) if not following]

    def _known(self, vertex: Vertex, name: str, what: str) -> int:
        if name not in self.number:
            raise ConfigError(f"{self.owner}: node {vertex.name!r} {what} {name!r}, but there is no such node")
        if name == vertex.name:
            raise ConfigError(f"{self.owner}: node {name!r} {what} itself")
        return self.number[name]

    def _targets(self, vertex: Vertex, targets: tuple[str, ...]) -> frozenset[int]:
        return frozenset(self._known(vertex, name, "has a route to") for name in targets)

    def _dependencies(self, vertex: Vertex) -> tuple[int, ...]:
        numbers = tuple(self._known(vertex, name, "comes after") for name in vertex.after)
        if len(set(numbers)) < len(numbers):
            raise ConfigError(f"{self.owner}: node {vertex.name!r} comes after one node twice: {vertex.after!r}")
        return numbers

    def _need(self, index: int) -> int:
        """How many dependencies have to go well."""
        join, count = self.joins[index], len(self.after[index])
        name = f"{self.owner}: node {self.names[index]!r}"
        if join == "all":
            return count
        if not count:
            raise ConfigError(f"{name} joins {join!r} of its dependencies, but it has none")
        if join in ("any", "ended"):
            return 1
        if isinstance(join, bool) or not isinstance(join, int) or join < 1:
            raise ConfigError(f"{name}: join must be 'all', 'any', 'ended' or a number of at least 1, not {join!r}")
        if join > count:
            raise ConfigError(f"{name} joins {join} of its dependencies, but it has {count}")
        return join

    def _check_cycles(self) -> None:
        try:
            TopologicalSorter(dict(enumerate(self.after))).prepare()
        except CycleError as error:
            circle = " -> ".join(repr(self.names[index]) for index in error.args[1])
            raise ConfigError(f"{self.owner}: nodes depend on each other in a circle: {circle}") from None

    def _check_routes(self, router: int) -> None:
        """Find what can't run whichever way a router decides: a join of two routes of which one is taken."""
        never: dict[int, None] | None = None
        for targets in self.routes[router].values():
            lost = self._lost(self.routed[router] - targets)
            never = lost if never is None else {index: None for index in never if index in lost}
        if never:
            name, by = self.names[next(iter(never))], self.names[router]
            raise ConfigError(
                f"{self.owner}: node {name!r} can never run: of the routes of {by!r} one is taken, and no single one "
                f"leads to enough of its dependencies; join='any' takes whichever comes"
            )

    def _lost(self, targets: frozenset[int]) -> dict[int, None]:
        """The nodes that won't run if the edges from a router to `targets` are not taken, the first first."""
        missing: dict[int, int] = {}
        lost: dict[int, None] = {}
        queue = deque(sorted(targets))
        while queue:
            index = queue.popleft()
            missing[index] = missing.get(index, 0) + 1
            if index not in lost and len(self.after[index]) - missing[index] < self.need[index]:
                lost[index] = None
                queue.extend(self.next[index])
        return lost


class Ready:
    """Nodes that may start: higher priority first, then the one that waits longest.

    Waiting counts too, so that none starves: each level of priority overtakes those who came up to `AGING` nodes
    before. Since all who wait age at the same pace, the order never changes and a heap will do.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int]] = []
        self._came = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, index: int, priority: float) -> None:
        """Node `index` is ready."""
        heapq.heappush(self._heap, (self._came / AGING - priority, self._came, index))
        self._came += 1

    def pop(self) -> int:
        """The node that is to start now."""
        return heapq.heappop(self._heap)[2]


class Progress:
    """How far a run of a plan has come. Tell it how each node ended, and it says which may start and which won't.

    Attributes:
        ready: The nodes that may start.
        reasons: Why a node was skipped, by its number.
        because: The dependency whose end made a node ready, by its number.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ready = Ready()
        self._fresh: list[int] = []
        self.reasons: dict[int, str] = {}
        self.because: dict[int, int] = {}
        self._won = [0] * len(plan.names)
        self._lost = [0] * len(plan.names)
        self._open = [True] * len(plan.names)  # neither ready yet nor skipped
        for index, dependencies in enumerate(plan.after):
            if not dependencies:
                self._start(index)

    def done(self, index: int, label: str | None = None) -> None:
        """A node went well; if it has routes, which one is taken."""
        plan = self.plan
        routed = plan.routed[index]
        taken = frozenset[int]()
        if routed:
            routes = plan.routes[index]
            assert label is not None
            taken = routes[label] if label in routes else routes["*"]
        other = f"{plan.names[index]!r} took the route {label!r}"
        self._follow([(one, index, other if one in routed and one not in taken else "") for one in plan.next[index]])

    def failed(self, index: int, reason: str = "failed") -> None:
        """A node went wrong, or was skipped."""
        reason = f"{self.plan.names[index]!r} {reason}"
        self._follow([(follower, index, reason) for follower in self.plan.next[index]])

    def skip(self, index: int, reason: str) -> None:
        """A node that was ready won't run."""
        self.reasons[index] = reason
        self.failed(index, "was skipped")

    def _follow(self, followers: Iterable[tuple[int, int, str]]) -> None:
        """Dependencies of these nodes went well, or won't give anything for a reason.

        Those who follow at once come first, then those that wait for who is skipped; worked off without recursion.
        """
        queue = deque(followers)
        while queue:
            index, dependency, reason = queue.popleft()
            if not self._open[index]:
                continue
            if not reason:
                self._won[index] += 1
                self._look(index, dependency)
                continue
            self._lost[index] += 1
            if not self._look(index, dependency) and self._hopeless(index):
                self._open[index] = False
                self.reasons[index] = reason
                because = f"{self.plan.names[index]!r} was skipped"
                queue.extend((follower, index, because) for follower in self.plan.next[index])

    def _look(self, index: int, dependency: int) -> bool:
        """Start a node if it may, now that this dependency of it has ended."""
        plan, won = self.plan, self._won[index]
        enough = won >= plan.need[index]
        if plan.joins[index] == "ended":
            enough = enough and won + self._lost[index] == len(plan.after[index])
        if enough:
            self.because[index] = dependency
            self._start(index)
        return enough

    def _hopeless(self, index: int) -> bool:
        return len(self.plan.after[index]) - self._lost[index] < self.plan.need[index]

    def take_fresh(self) -> list[int]:
        """The nodes that have become ready since this was last asked for."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def _start(self, index: int) -> None:
        self._open[index] = False
        self._fresh.append(index)
        self.ready.push(index, self.plan.priorities[index])
