"""The shape of a graph, what is refused when it is built, and in which order its nodes go."""

import heapq
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings, strategies as st

from agentflow.errors import ConfigError
from agentflow.patterns._plan import AGING, Plan, Progress, Ready, Vertex
from tests.patterns.simulation import Simulated, simulate


def plan(*vertices: Vertex) -> Plan:
    return Plan("GraphAgent 'g'", vertices)


def chain(*names: str) -> list[Vertex]:
    return [Vertex(name=name, after=names[:index][-1:]) for index, name in enumerate(names)]


@pytest.mark.parametrize(
    ("vertices", "message"),
    [
        ([Vertex(name="a"), Vertex(name="a")], "two nodes are named 'a'"),
        ([Vertex(name="a", after=("b",))], "node 'a' comes after 'b', but there is no such node"),
        ([Vertex(name="a", after=("a",))], "node 'a' comes after itself"),
        ([Vertex(name="a"), Vertex(name="b", after=("a", "a"))], "comes after one node twice"),
        ([Vertex(name="a", join="any")], "joins 'any' of its dependencies, but it has none"),
        ([Vertex(name="a"), Vertex(name="b", after=("a",), join=2)], "joins 2 of its dependencies, but it has 1"),
        ([Vertex(name="a"), Vertex(name="b", after=("a",), join=0)], "a number of at least 1, not 0"),
        ([Vertex(name="a"), Vertex(name="b", after=("a",), join=True)], "not True"),
        ([Vertex(name="a"), Vertex(name="b", after=("a",), join="most")], "not 'most'"),
        ([Vertex(name="a", routes={"x": ("b",)})], "node 'a' has a route to 'b', but there is no such node"),
        ([Vertex(name="a", after=("b",)), Vertex(name="b", routes={"x": ("a",)}, after=("a",))], "in a circle"),
    ],
)
def test_a_graph_that_cannot_work_is_refused(vertices: list[Vertex], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(*vertices)


def test_a_circle_is_named_in_the_direction_of_the_dependencies() -> None:
    with pytest.raises(ConfigError) as caught:
        plan(Vertex(name="a", after=("c",)), Vertex(name="b", after=("a",)), Vertex(name="c", after=("b",)))
    circle = str(caught.value).partition("circle: ")[2].split(" -> ")
    assert len(circle) == 4
    assert circle[0] == circle[-1]
    order = [name.strip("'") for name in circle]
    assert all((one, other) in {("a", "b"), ("b", "c"), ("c", "a")} for one, other in pairwise(order))


def test_a_join_of_two_routes_of_which_one_is_taken_is_refused() -> None:
    router = Vertex(name="r", routes={"x": ("a",), "y": ("b",)})
    branches = [Vertex(name="a"), Vertex(name="b")]
    with pytest.raises(ConfigError, match=r"node 'j' can never run: of the routes of 'r' one is taken.*join='any'"):
        plan(router, *branches, Vertex(name="j", after=("a", "b")))
    plan(router, *branches, Vertex(name="j", after=("a", "b"), join="any"))
    plan(router, *branches, Vertex(name="j", after=("a", "b"), join="ended"))
    with pytest.raises(ConfigError, match="can never run"):
        plan(router, *branches, Vertex(name="z"), Vertex(name="j", after=("a", "b", "z"), join=3))
    plan(router, *branches, Vertex(name="z"), Vertex(name="j", after=("a", "b", "z"), join=2))


def test_what_depends_on_an_impossible_join_is_not_named_instead_of_it() -> None:
    with pytest.raises(ConfigError, match="node 'j' can never run"):
        plan(
            Vertex(name="k", after=("j",)),
            Vertex(name="r", routes={"x": ("a",), "y": ("b",)}),
            Vertex(name="a"),
            Vertex(name="b"),
            Vertex(name="j", after=("a", "b")),
        )


def test_a_route_makes_a_dependency() -> None:
    made = plan(Vertex(name="r", routes={"x": ("a",)}), Vertex(name="a"), Vertex(name="b", after=("r",)))
    assert made.after == [(), (0,), (0,)]
    assert made.sinks == [1, 2]


def test_a_chain_of_ten_thousand_fails_from_end_to_end_without_recursion() -> None:
    progress = Progress(plan(*chain(*(f"n{number}" for number in range(10_000)))))
    progress.failed(progress.ready.pop())
    assert len(progress.reasons) == 9_999
    assert progress.reasons[1] == "'n0' failed"
    assert progress.reasons[9_999] == "'n9998' was skipped"


def test_a_condition_that_fails_skips_what_follows() -> None:
    progress = Progress(plan(*chain("a", "b", "c"), Vertex(name="d", after=("a", "c"), join="any")))
    progress.done(progress.ready.pop())
    assert progress.ready.pop() == 1
    progress.skip(1, "its condition didn't hold")
    assert progress.reasons == {1: "its condition didn't hold", 2: "'b' was skipped"}
    assert progress.ready.pop() == 3


# Order


def test_who_follows_at_once_is_before_who_waited_for_what_is_skipped() -> None:
    router = Vertex(name="r", routes={"x": ("a",), "y": ("b",)})
    late = Vertex(name="late", after=("r", "a"), join="ended")
    made = plan(router, Vertex(name="a"), late, Vertex(name="b"))
    progress = Progress(made)
    progress.done(progress.ready.pop(), "y")
    assert [made.names[progress.ready.pop()] for _ in range(2)] == ["b", "late"]


def test_the_higher_priority_is_first_and_among_equals_who_came_first() -> None:
    ready = Ready()
    for index, priority in enumerate([0, 5, 1, 5, -1, 0]):
        ready.push(index, priority)
    assert [ready.pop() for _ in range(len(ready))] == [1, 3, 2, 0, 5, 4]


@pytest.mark.parametrize("levels", [1, 3])
def test_nobody_starves_behind_a_stream_of_higher_priority(levels: int) -> None:
    ready = Ready()
    ready.push(-1, 0)
    overtaken = 0
    for index in range(10 * AGING * levels):
        ready.push(index, levels)
        if ready.pop() == -1:
            break
        overtaken += 1
    assert overtaken == AGING * levels - 1


# Against a simulation that is written another way


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Vertex], dict[str, str], dict[str, str]]:
    """Vertices in an order of their own, how each ends, and which route is taken."""
    count = draw(st.integers(1, 9))
    vertices, ends, labels = [], {}, {}
    for number in range(count):
        name = f"n{number}"
        after = tuple(f"n{other}" for other in range(number) if draw(st.booleans()))
        join = draw(st.sampled_from(["all", "any", "ended", max(1, len(after) - 1)])) if after else "all"
        vertices.append(Vertex(name=name, after=after, join=join, priority=draw(st.integers(0, 2))))
        ends[name] = draw(st.sampled_from(["ok", "ok", "ok", "failed", "skip"]))
    routers = {}
    for vertex in vertices:
        later = [other.name for other in vertices if vertex.name in other.after]
        if len(later) >= 2 and draw(st.booleans()):
            cut = draw(st.integers(1, len(later) - 1))
            routers[vertex.name] = {"x": tuple(later[:cut]), "y": tuple(later[cut:])}
            labels[vertex.name] = draw(st.sampled_from("xy"))
    made = [
        Vertex(name=v.name, after=v.after, join=v.join, priority=v.priority, routes=routers.get(v.name, {}))
        for v in vertices
    ]
    return draw(st.permutations(made)), ends, labels


def walk(made: Plan, ends: dict[str, str], labels: dict[str, str], cap: int, lasts: Sequence[int]) -> Simulated:
    """Run a plan event by event, each node taking so long."""
    progress = Progress(made)
    now, running, started, ended = 0, [], {}, {}
    while True:
        while len(progress.ready) and len(running) < cap:
            index = progress.ready.pop()
            if ends[made.names[index]] == "skip":
                progress.skip(index, "skipped")
                continue
            started[made.names[index]] = now
            heapq.heappush(running, (now + lasts[index], index))
        if not running:
            break
        now, index = heapq.heappop(running)
        name = made.names[index]
        ended[name] = now
        if ends[name] == "ok":
            progress.done(index, labels.get(name))
        else:
            progress.failed(index)
    return Simulated(started, ended, {made.names[index] for index in progress.reasons})


@settings(max_examples=400, deadline=None)
@given(graphs(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_any_graph_goes_as_the_simulation_says(
    graph: tuple[list[Vertex], dict[str, str], dict[str, str]], cap: int, rng: random.Random
) -> None:
    """Every node is started or skipped exactly once, at the very moment that the plain reading of the rules gives."""
    vertices, ends, labels = graph
    try:
        made = plan(*vertices)
    except ConfigError:
        assume(False)
    lasts = rng.sample(range(1, 100), len(vertices))  # no two end at the same time by chance alone
    got = walk(made, ends, labels, cap, lasts)
    wanted = simulate(vertices, dict(zip(made.names, lasts, strict=True)), cap=cap, ends=ends, labels=labels)
    assert got == wanted
    assert got.started.keys() | got.skipped == set(made.names)
    assert not got.started.keys() & got.skipped


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_a_graph_is_refused_only_if_no_way_through_it_runs_the_node(
    graph: tuple[list[Vertex], dict[str, str], dict[str, str]],
) -> None:
    """With one router every choice is tried: a node that is refused runs in none, the others in some."""
    vertices, _, labels = graph
    if len(labels) != 1:
        return
    (router,) = labels
    ok = dict.fromkeys([vertex.name for vertex in vertices], "ok")
    lasts = dict.fromkeys(ok, 1)
    runs = [simulate(vertices, lasts, cap=99, ends=ok, labels={router: label}).started for label in "xy"]
    possible = runs[0].keys() | runs[1].keys()
    try:
        plan(*vertices)
        refused = ""
    except ConfigError as error:
        refused = str(error).split("node ")[1].split("'")[1]
    assert refused not in possible
    assert refused or possible == ok.keys()
