"""A graph run on paper: an event-by-event simulation that looks at every node at every event, to compare with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentflow.patterns._plan import AGING, Vertex


@dataclass
class Simulated:
    """When each node started and ended, and which never ran."""

    started: dict[str, float]
    ended: dict[str, float]
    skipped: set[str]

    @property
    def makespan(self) -> float:
        return max(self.ended.values(), default=0.0)


def simulate(
    vertices: Sequence[Vertex],
    lasts: Mapping[str, float],
    *,
    cap: int,
    ends: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Simulated:
    """Every node takes as long as `lasts` says; at most `cap` at once, by priority, then by who was ready first."""
    ends, labels = ends or {}, labels or {}
    edges = {vertex.name: list(vertex.after) for vertex in vertices}
    for vertex in vertices:
        for targets in vertex.routes.values():
            for target in targets:
                if vertex.name not in edges[target]:
                    edges[target].append(vertex.name)
    routes = {vertex.name: vertex.routes for vertex in vertices}
    by_name = {vertex.name: vertex for vertex in vertices}
    state = dict.fromkeys(by_name, "waiting")  # then ready, running, ok, failed, skipped
    came: dict[str, int] = {}
    result = Simulated({}, {}, set())

    def gives(dependency: str, node: str) -> bool:
        """Whether an ended dependency counts for `node`."""
        if state[dependency] != "ok":
            return False
        routed = {target for targets in routes[dependency].values() for target in targets}
        return node not in routed or node in routes[dependency][labels[dependency]]

    def look(order: Sequence[str]) -> None:
        """Mark what is ready and what never will be, until nothing changes."""
        again = True
        while again:
            again = False
            for node in order:
                if state[node] != "waiting":
                    continue
                over = [name for name in edges[node] if state[name] in ("ok", "failed", "skipped")]
                won = sum(gives(name, node) for name in over)
                join, count = by_name[node].join, len(edges[node])
                need = {"all": count, "any": 1, "ended": 1}.get(join, join)
                if count - (len(over) - won) < need:
                    state[node] = "skipped"
                    result.skipped.add(node)
                    again = True
                elif won >= need and (join != "ended" or len(over) == count):
                    state[node] = "ready"
                    came[node] = len(came)
                    again = True

    def start(now: float) -> None:
        while True:
            ready = [name for name in by_name if state[name] == "ready"]
            if not ready or sum(value == "running" for value in state.values()) >= cap:
                return
            first = min(ready, key=lambda name: (came[name] / AGING - by_name[name].priority, came[name]))
            if ends.get(first) == "skip":
                state[first] = "skipped"
                result.skipped.add(first)
                look(order_of(first))
                continue
            state[first] = "running"
            result.started[first] = now

    def order_of(ended: str) -> list[str]:
        """Who is looked at first: breadth first from what has ended, in the order of declaration."""
        order, queue = [], [ended]
        while queue:
            node = queue.pop(0)
            following = [name for name in by_name if node in edges[name] and name not in order]
            order += following
            queue += following
        return order

    look(list(by_name))
    start(0.0)
    while running := [name for name in by_name if state[name] == "running"]:
        first = min(running, key=lambda name: result.started[name] + lasts[name])
        now = result.ended[first] = result.started[first] + lasts[first]
        state[first] = "ok" if ends.get(first, "ok") == "ok" else "failed"
        look(order_of(first))
        start(now)
    return result
