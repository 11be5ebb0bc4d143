"""Graphs at work: who starts when, with what, and what a failure does."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from agentflow import (
    Agent,
    AgentTimeout,
    Data,
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Retry,
    RunError,
    Runner,
    SequentialAgent,
    agent,
)
from agentflow.errors import InvalidAnswer, TooFewAnswers
from agentflow.patterns._plan import Vertex
from agentflow.patterns.graph import GraphAgent, GraphResult, Node
from tests.core.actors import Played, flaky, hears, play, says
from tests.patterns.simulation import simulate


def value(answer: Any = "x", *, lasts: float = 0.0, log: list[str] | None = None, name: str = "") -> Callable[[], Any]:
    """A function that takes so long and returns this."""

    async def work() -> Any:
        if log is not None:
            log.append(name)
        await anyio.sleep(lasts)
        return answer

    return work


def boom(message: str = "boom") -> Callable[[], Any]:
    async def work() -> None:
        raise ValueError(message)

    return work


def result_of(played: Played) -> GraphResult:
    return GraphResult.of(played.run.result)


def statuses(played: Played) -> dict[str, str]:
    return {node.name: node.status for node in result_of(played).branches}


# What starts when


async def test_a_node_starts_as_soon_as_its_own_dependencies_are_there_not_with_a_wave() -> None:
    """`long` is still at work when `after_short` has ended: waves would make it wait."""
    ended = []

    async def long() -> str:
        await anyio.sleep(10)
        ended.append("long")
        return "l"

    async def short() -> str:
        await anyio.sleep(1)
        return "s"

    async def after_short(short: str) -> str:
        ended.append("after_short")
        return short * 2

    async def last(long: str, after_short: str) -> str:
        return long + after_short

    nodes = [Node(long), Node(short), Node(after_short, after=short), Node(last, after=[long, after_short])]
    played = await play(GraphAgent("g", nodes))
    assert ended == ["after_short", "long"]
    assert played.run.result.text == "lss"
    assert result_of(played).answer == "lss"


@pytest.mark.parametrize("cap", [1, 2, 3])
async def test_never_more_at_once_than_allowed_and_never_fewer_than_could_be(cap: int) -> None:
    running, seen = 0, []

    async def work() -> str:
        nonlocal running
        running += 1
        seen.append(running)
        await anyio.sleep(1)
        running -= 1
        return "x"

    began = anyio.current_time()
    played = await play(GraphAgent("g", [Node(work, name=f"n{number}") for number in range(6)], max_concurrency=cap))
    assert max(seen) == cap
    assert anyio.current_time() - began == pytest.approx(6 / cap, abs=0.01)
    waits = [node.queue_seconds for node in result_of(played).branches]
    assert [round(wait) for wait in waits] == [number // cap for number in range(6)]
    starts = played.records("agent_parallel_start")
    assert [round(start.queue_ms / 1000) for start in starts] == [number // cap for number in range(6)]


async def test_of_the_ready_the_highest_priority_goes_first() -> None:
    log: list[str] = []
    nodes = [
        Node(value(log=log, name=name), name=name, priority=priority)
        for name, priority in [("a", 0), ("b", 2), ("c", 1), ("d", 2)]
    ]
    await play(GraphAgent("g", nodes, max_concurrency=1))
    assert log == ["b", "d", "c", "a"]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spread", [0.001, 0.0])
async def test_random_graphs_take_no_longer_than_a_simulation_of_the_same_rules(seed: int, spread: float) -> None:
    """About 50 ms a node, priorities and a cap. If no two end at once, every start is that of the simulation."""
    rng = random.Random(seed)
    vertices = [
        Vertex(
            name=f"n{number}",
            after=tuple(sorted({f"n{rng.randrange(number)}" for _ in range(rng.randrange(4))} if number else set())),
            priority=rng.randrange(3),
        )
        for number in range(60)
    ]
    lasts = {vertex.name: 0.05 + spread * rng.random() for vertex in vertices}
    began: dict[str, float] = {}
    origin = anyio.current_time()

    def work(name: str) -> Callable[[], Any]:
        async def run() -> None:
            began[name] = anyio.current_time() - origin
            await anyio.sleep(lasts[name])

        return run

    nodes = [Node(work(v.name), name=v.name, after=v.after, priority=v.priority) for v in vertices]
    await play(GraphAgent("g", nodes, max_concurrency=5))
    wanted = simulate(vertices, lasts, cap=5)
    if spread:
        assert began == pytest.approx(wanted.started, abs=1e-6)
    assert anyio.current_time() - origin <= 1.15 * wanted.makespan


# What a node is given


class Topic(BaseModel):
    name: str
    weight: float


@dataclass
class Finding:
    topic: str
    pages: int


async def test_results_are_given_by_name_as_the_types_that_are_asked_for() -> None:
    async def topics() -> list[Topic]:
        return [Topic(name="tea", weight=1), Topic(name="coffee", weight=2)]

    async def find(topics: list[Topic]) -> Finding:
        assert all(isinstance(topic, Topic) for topic in topics)
        return Finding(topic=topics[0].name, pages=3)

    async def untyped(find):
        assert isinstance(find, Finding)  # as its giver promised
        return find.pages

    async def total(untyped: float, results: dict[str, Any], message: str, ctx: InvocationContext) -> dict[str, Any]:
        return {"pages": untyped, "by": sorted(results), "asked": message, "branch": ctx.branch}

    nodes = [
        Node(topics),
        Node(find, after=topics),
        Node(untyped, after=[find]),
        Node(total, after=["untyped", topics]),
    ]
    played = await play(GraphAgent("g", nodes), "how much?")
    wanted = {"pages": 3.0, "by": ["topics", "untyped"], "asked": "how much?", "branch": "g.total"}
    assert result_of(played).answer == wanted
    assert result_of(played).outputs["find"] == {"topic": "tea", "pages": 3}


async def test_what_an_agent_says_is_read_as_the_type_that_is_asked_for() -> None:
    """A model writes JSON, or a number, as text."""

    async def use(json_says: Topic, number_says: int) -> str:
        return f"{json_says.name} {number_says + 1}"

    says_json = says("json_says", '{"name": "tea", "weight": 1}')
    played = await play(
        GraphAgent("g", [says_json, says("number_says", "41"), Node(use, after=["json_says", "number_says"])])
    )
    assert played.run.result.text == "tea 42"


async def test_a_result_that_is_not_what_is_asked_for_fails_the_node_that_asked() -> None:
    async def use(talk: int) -> int:
        return talk

    with pytest.raises(RunError, match="node 'use': what it was given as 'talk' is no int") as caught:
        await play(GraphAgent("g", [says("talk", "many words"), Node(use, after=["talk"])]))
    assert caught.value.agent == "g.use"


async def test_an_agent_is_told_the_results_of_what_it_depends_on_and_sees_no_sibling() -> None:
    heard: list[str] = []

    @agent
    async def one(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(f"told {ctx.user_text}"))

    both = hears("both", heard)
    nodes = [
        Node(one),
        Node(says("two", "zwei")),
        Node(says("three", "drei")),
        Node(one.clone(name="piped"), after="two"),
    ]
    played = await play(GraphAgent("g", [*nodes, Node(both, after=["one", "two"])], outputs=["piped"]), "go")
    assert "told go" in played.texts  # without dependencies: what the graph is told
    assert result_of(played).answer == "told zwei"  # of a single one: its words
    assert heard[0] == "go"  # the talk up to the graph
    assert len(heard) == 2
    assert "### 1. one\n\n```\ntold go\n```" in heard[1]
    assert "### 2. two\n\n```\nzwei\n```" in heard[1]
    assert "drei" not in heard[1]


async def test_a_message_of_ones_own_and_further_arguments() -> None:
    async def write(message: str, tone: str, times: int = 1) -> str:
        return f"{tone}: {message}" * times

    @agent
    async def reader(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(ctx.user_text.upper()))

    nodes = [
        Node(write, args={"tone": "dry"}),
        Node(write, name="again", args={"tone": "warm", "times": 2}),
        Node(reader, after=["write", "again"], message=lambda write, results: f"{write} / {results['again']}"),
        Node(reader.clone(name="fixed"), after=reader, message="fixed words"),
    ]
    played = await play(GraphAgent("g", nodes, outputs=["reader", "fixed"]), "hi")
    assert result_of(played).answer == {"reader": "DRY: HI / WARM: HIWARM: HI", "fixed": "FIXED WORDS"}


async def test_what_follows_a_graph_sees_its_answer_and_not_its_nodes() -> None:
    heard: list[str] = []
    nodes = [says("draft", "rough"), Node(says("final", "fine"), after="draft")]
    tree = SequentialAgent("s", [GraphAgent("g", nodes), hears("h", heard)])
    await play(tree)
    assert heard == ["go", "fine"]
    shown: list[str] = []
    nodes = [says("draft", "rough"), Node(says("final", "fine"), after="draft")]
    await play(SequentialAgent("s", [GraphAgent("g", nodes, show_branches=True), hears("h", shown)]))
    assert shown == ["go", "rough", "rough", "fine", "fine"]  # draft, what final was told, final, the graph


async def test_the_next_run_of_a_session_sees_the_answer_and_not_the_nodes_either() -> None:
    heard: list[str] = []
    store = InMemorySessionService()
    nodes = [says("draft", "rough"), Node(says("final", "fine"), after="draft")]
    await play(GraphAgent("g", nodes), "one", sessions=store)
    await play(hears("h", heard), "two", sessions=store, app_name="g")
    assert heard == ["one", "fine", "two"]


# Conditions, routes, joins


async def route(answer: Any, **options: Any) -> dict[str, str]:
    nodes = [
        Node(value(answer), name="kind", routes={"bug": "fix", "idea": ["plan", "thank"]}, **options),
        Node(value("fixed"), name="fix"),
        Node(value("planned"), name="plan"),
        Node(value("thanks"), name="thank"),
        Node(value("logged"), name="log", after="kind"),
        Node(value("told"), name="tell", after=["fix", "plan"], join="any"),
    ]
    return statuses(await play(GraphAgent("g", nodes)))


async def test_only_the_nodes_of_the_route_that_is_taken_run() -> None:
    wanted = {"kind": "ok", "fix": "ok", "plan": "skipped", "thank": "skipped", "log": "ok", "tell": "ok"}
    assert await route("bug") == wanted
    assert await route(" Bug.\n") == wanted  # as models write
    assert await route({"is": "bug"}, route_by=lambda answer: answer["is"]) == wanted
    wanted |= {"fix": "skipped", "plan": "ok", "thank": "ok"}
    assert await route("idea") == wanted


async def test_an_answer_that_is_no_route_fails_the_graph_and_says_which_there_are() -> None:
    with pytest.raises(
        InvalidAnswer, match="node 'kind' answered 'praise', which is none of its routes: 'bug', 'idea'"
    ):
        await route("praise")


async def test_any_other_answer_takes_the_route_of_the_star_and_a_yes_or_no_its_own() -> None:
    nodes = [
        Node(value("praise"), name="kind", routes={"bug": "fix", "*": "reply"}),
        Node(value("fixed"), name="fix"),
        Node(value(True), name="reply", routes={"true": "send", "false": ()}),
        Node(value("sent"), name="send"),
    ]
    played = await play(GraphAgent("g", nodes))
    assert statuses(played) == {"kind": "ok", "fix": "skipped", "reply": "ok", "send": "ok"}
    assert result_of(played).missing == {"fix": "'kind' took the route '*'"}


async def test_a_condition_decides_whether_a_node_runs() -> None:
    nodes = [
        Node(value(3), name="count"),
        Node(value("few"), name="few", after="count", when=lambda count: count < 5),
        Node(value("many"), name="many", after="count", when=lambda count: count >= 5),
        Node(value("more"), name="more", after="many"),
    ]
    played = await play(GraphAgent("g", nodes))
    assert statuses(played) == {"count": "ok", "few": "ok", "many": "skipped", "more": "skipped"}
    assert result_of(played).missing == {"many": "its condition didn't hold", "more": "'many' was skipped"}
    (gather,) = played.records("gather_complete")
    assert (gather.total_agents, gather.successful, gather.skipped) == (4, 2, 2)
    assert list(gather.outcomes) == ["count", "few", "many", "more"]


async def test_a_join_of_any_starts_with_the_first_and_of_two_with_the_second() -> None:
    async def first(a: str = "-", b: str = "-", c: str = "-") -> str:
        return a + b + c

    slow = [Node(value(name, lasts=lasts), name=name) for name, lasts in [("a", 3), ("b", 1), ("c", 2)]]
    after = ["a", "b", "c"]
    nodes = [*slow, *(Node(first, name=f"j{join}", after=after, join=join) for join in ("any", 2, "ended", "all"))]
    nodes[-1] = Node(first, name="jall", after=after)
    played = await play(GraphAgent("g", nodes))
    answers = result_of(played).answer
    assert answers == {"jany": "-b-", "j2": "-bc", "jended": "abc", "jall": "abc"}


# Failures


async def test_the_first_failure_cancels_the_rest_and_is_raised_as_itself() -> None:
    graph = GraphAgent(
        "g", [Node(value(lasts=100), name="slow"), Node(boom(), name="bad"), Node(value(), name="n", after="bad")]
    )
    async with Runner(graph) as runner:
        async with runner.run("go") as run:
            with pytest.raises(ValueError, match="boom") as caught:
                [event async for event in run]
        session = await runner.sessions.get(run.session)
    assert any("in agent 'g.bad'" in note for note in caught.value.__notes__)
    gather = next(e.lifecycle for e in session.events if e.lifecycle and e.lifecycle.name == "gather_complete")
    assert gather.outcomes == {"slow": "cancelled", "bad": "error", "n": "skipped"}
    assert gather.reason == "bad failed"


async def test_what_depends_on_a_failure_is_skipped_and_says_so_and_the_rest_goes_on() -> None:
    async def report(left: str = "nothing", right: str = "nothing") -> str:
        return f"{left} and {right}"

    nodes = [
        Node(boom("no luck"), name="bad"),
        Node(value("l"), name="left", after="bad"),
        Node(value("r", lasts=1), name="right"),
        Node(report, after=["left", "right"], join="ended"),
        Node(value("never"), name="strict", after=["left", "right"]),
    ]
    played = await play(GraphAgent("g", nodes, on_error="collect"))
    assert statuses(played) == {"bad": "error", "left": "skipped", "right": "ok", "report": "ok", "strict": "skipped"}
    result = result_of(played)
    assert result.missing == {"bad": "ValueError: no luck", "left": "'bad' failed", "strict": "'left' was skipped"}
    assert result.answer == {"report": "nothing and r"}


async def test_if_no_output_went_well_that_is_a_typed_error_with_all_causes() -> None:
    nodes = [
        Node(boom("one"), name="a"),
        Node(boom("two"), name="b"),
        Node(value(), name="c", after=["a", "b"], join="any"),
    ]
    with pytest.raises(TooFewAnswers, match=r"no output of 'g' went well: 'c': '[ab]' failed") as caught:
        await play(GraphAgent("g", nodes, on_error="collect"))
    assert sorted(str(cause) for cause in caught.value.causes) == ["one", "two"]


async def test_an_agent_learns_what_is_missing_and_why() -> None:
    heard: list[str] = []
    nodes = [
        Node(boom("no luck"), name="bad"),
        says("good", "words"),
        Node(hears("h", heard), after=["bad", "good"], join="ended"),
    ]
    await play(GraphAgent("g", nodes, on_error="collect"))
    assert "1 of 2 answered" in heard[-1]
    assert "- bad: ValueError: no luck" in heard[-1]


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_every_node_is_counted_exactly_once(seed: int) -> None:
    """A mix of nodes that go well, fail, take too long, are skipped by a condition, or by what they depend on."""
    rng = random.Random(seed)
    work = {
        "ok": lambda: Node(value(lasts=rng.random())),
        "failed": lambda: Node(boom()),
        "late": lambda: Node(value(lasts=9), timeout=1),
        "skip": lambda: Node(value(), when=lambda: False),
    }
    vertices, ends, nodes = [], {}, []
    for number in range(40):
        name = f"n{number}"
        after = tuple(sorted({f"n{rng.randrange(number)}" for _ in range(rng.randrange(3))})) if number else ()
        join = rng.choice(["all", "any", "ended"]) if after else "all"
        ends[name] = rng.choice(["ok", "ok", "ok", "failed", "late", "skip"])
        vertices.append(Vertex(name=name, after=after, join=join))
        nodes.append(replace(work[ends[name]](), name=name, after=after, join=join))
    last = Node(value("end"), name="end")
    played = await play(GraphAgent("g", [*nodes, last], outputs=["end"], on_error="collect", max_concurrency=6))
    wanted = simulate(vertices, dict.fromkeys(ends, 1.0), cap=6, ends=ends)
    names = {"ok": "ok", "failed": "error", "late": "timeout"}
    expected = {name: "skipped" if name in wanted.skipped else names[ends[name]] for name in ends}
    assert statuses(played) == {**expected, "end": "ok"}
    (gather,) = played.records("gather_complete")
    assert gather.total_agents == 41 == gather.successful + gather.failed + gather.cancelled + gather.skipped
    assert gather.outcomes == statuses(played)
    started = Counter(event.author for event in played.events if event.lifecycle and "start" in event.lifecycle.name)
    ended = Counter(event.author for event in played.events if event.lifecycle and "_complete" in event.lifecycle.name)
    ran = {name for name, status in expected.items() if status != "skipped"}
    assert {name: started[name] for name in ran} == {name: ended[name] for name in ran} == dict.fromkeys(ran, 1)


async def test_each_node_has_its_own_time_and_tries() -> None:
    tries = []

    async def stubborn() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return "at last"

    nodes = [
        Node(stubborn, retry=Retry(attempts=3, delay=0)),
        Node(flaky("f", 1), retry=2),
        Node(value(lasts=100), name="slow", timeout=2),
    ]
    played = await play(GraphAgent("g", nodes, on_error="collect"))
    assert statuses(played) == {"stubborn": "ok", "f": "ok", "slow": "timeout"}
    assert result_of(played).missing["slow"].startswith("AgentTimeout: agent 'g.slow' was still at work after 2 s")
    with pytest.raises(AgentTimeout):
        await play(GraphAgent("g", [Node(value(lasts=100), name="slow")], timeout=3))


async def test_a_condition_or_a_message_that_fails_is_the_graphs_failure() -> None:
    def broken(a: str) -> bool:
        raise KeyError(a)

    for options in ({"when": broken}, {"message": broken}):
        nodes = [says("a", "x"), Node(says("b", "y"), after="a", **options)]
        with pytest.raises(KeyError) as caught:
            await play(GraphAgent("g", nodes, on_error="collect"))
        assert "in `when` or `message` of node 'b' of 'g'" in caught.value.__notes__


async def test_a_graph_nests_loops_retries_and_is_cancelled_like_any_agent() -> None:
    def inner(name: str) -> GraphAgent:
        return GraphAgent(name, [says(f"{name}_a", "a"), Node(says(f"{name}_b", f"{name}!"), after=f"{name}_a")])

    outer = GraphAgent(
        "outer", [inner("x"), Node(inner("y"), after="x"), Node(ParallelAgent("p", [inner("z")]), after="y")]
    )
    played = await play(LoopAgent("l", [outer], max_iterations=2))
    assert result_of(played).answer == ["z!"]  # a Parallel answers what its branches do
    branches = {event.branch for event in played.events if event.author == "z_b" and event.text}
    assert branches == {"outer.p.p.z.z.z_b"}
    assert result_of(played).outputs["x"] == "x!"  # of a pattern its answer, not its record


async def test_leaving_the_run_ends_every_node() -> None:
    running = 0

    async def waits() -> None:
        nonlocal running
        running += 1
        try:
            await anyio.sleep_forever()
        finally:
            running -= 1

    async with Runner(GraphAgent("g", [Node(waits, name=f"w{number}") for number in range(3)])) as runner:
        async with runner.run("go") as run:
            async for _ in run:
                if running == 3:
                    break
            assert running == 3
        assert running == 0
    assert run.status == "cancelled"


async def test_state_written_by_two_nodes_is_reduced_in_order_of_declaration() -> None:
    def writer(name: str, lasts: float) -> FunctionAgent:
        async def turn(ctx: InvocationContext) -> None:
            await anyio.sleep(lasts)
            ctx.state["seen"] = [name]

        return FunctionAgent(name, turn)

    nodes: list[Agent] = [writer("a", 3), writer("b", 1), writer("c", 2)]
    played = await play(GraphAgent("g", nodes, on_conflict={"seen": lambda one, other: one + other}))
    assert played.session.state["seen"] == ["a", "b", "c"]


async def test_the_critical_path_and_the_speed_up_are_in_the_result() -> None:
    nodes = [
        Node(value(lasts=1), name="a"),
        Node(value(lasts=5), name="b"),
        Node(value(lasts=1), name="c", after=["a", "b"]),
        Node(value(lasts=2), name="d", after="a"),
    ]
    metrics = result_of(await play(GraphAgent("g", nodes))).metrics
    assert [(step.name, round(step.seconds)) for step in metrics.critical_path] == [("b", 5), ("c", 1)]
    assert (round(metrics.wall_seconds), round(metrics.work_seconds), round(metrics.speedup, 1)) == (6, 9, 1.5)


async def test_large_answers_are_left_to_the_nodes_own_events() -> None:
    nodes = [
        Node(value("x" * 600_000), name="a"),
        Node(value("y" * 600_000), name="b"),
        Node(value("z"), name="c", after=["a", "b"]),
    ]
    result = result_of(await play(GraphAgent("g", nodes)))
    assert result.answer == "z"
    assert [node.shortened for node in result.branches] == [True, True, True]
    assert [node.output for node in result.branches] == [None, None, None]


async def test_a_function_that_returns_nothing_gives_nothing_and_one_that_emits_gives_what_it_said() -> None:
    async def quiet() -> None:
        return None

    async def speaks(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event("words", Data({"n": 1})))

    async def last(quiet: None, speaks: dict[str, int]) -> str:
        return f"{quiet} {speaks['n']}"

    played = await play(GraphAgent("g", [Node(quiet), Node(speaks), Node(last, after=[quiet, speaks])]))
    assert played.run.result.text == "None 1"


async def test_an_enumeration_is_its_value_in_words_and_on_routes() -> None:
    class Kind(Enum):
        BUG = "bug"

    nodes = [Node(value(Kind.BUG), name="kind", routes={"bug": "fix"}), Node(value("fixed"), name="fix")]
    played = await play(GraphAgent("g", nodes))
    assert played.texts == ["bug", "fixed", "fixed"]


async def test_a_value_that_json_cannot_hold_fails_the_node() -> None:
    with pytest.raises(Exception, match=r"agent 'g\.odd' returned what JSON can't hold"):
        await play(GraphAgent("g", [Node(value(object()), name="odd")]))
