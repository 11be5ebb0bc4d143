"""Building a graph: the decorator form, and what is refused."""

from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest

from agentflow import ConfigError, InvocationContext, Retry, Runner
from agentflow.patterns.graph import Graph, GraphAgent, GraphResult, Node
from tests.core.actors import play, says


async def test_the_decorator_form() -> None:
    graph = Graph("g", max_concurrency=2)

    @graph.node
    async def topic(message: str) -> str:
        return message.strip("?")

    @graph.node(after=[topic], priority=1, retry=2)
    async def research(topic: str) -> list[str]:
        return [topic, topic]

    critic = graph.add(Node(says("critic", "hm"), after=research))

    @graph.node(after=["research", critic])
    async def report(research: list[str], critic: str) -> str:
        return f"{research} {critic}"

    assert await topic("still a function?") == "still a function"
    built = graph.build()
    played = await play(built, "tea?")
    assert played.run.result.text == "['tea', 'tea'] hm"
    assert built.find_agent("research").retry == Retry(attempts=2)


def takes(name: str) -> Callable[..., Any]:
    namespace: dict[str, Any] = {}
    exec(f"async def work({name}): return 1", namespace)
    return namespace["work"]


async def number() -> int:
    return 1


async def wants_list(number: list[str]) -> None: ...


def sync_with_ctx(ctx: InvocationContext) -> None: ...


async def stream(ctx: InvocationContext):
    yield ctx.text("x")


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        ([], {}, "needs a list of nodes"),
        ([Node("a")], {}, "needs an agent or a function, not 'a'"),  # type: ignore[arg-type]
        ([Node(int)], {}, "needs an agent or a function"),
        ([lambda: 1], {}, "a node needs a name"),
        ([Node(number, name="a b")], {}, "can't be named 'a b'"),
        ([Node(number), Node(takes("b"), name="c")], {}, "wants 'b', which it does not depend on: it is no node"),
        ([Node(number), Node(takes("number"), name="c")], {}, r"add it to after=\['number'\]"),
        ([Node(takes("x"), name="c", args={"y": 1})], {}, "has no parameter 'y'"),
        ([Node(number), Node(wants_list, after=number)], {}, "wants 'number' as list, but that node returns int"),
        ([Node(number), Node(takes("number"), name="c", after="number", join="any")], {}, "give it a default"),
        ([Node(takes("number, /"), name="c", after="number"), Node(number)], {}, "can't be"),
        ([Node(sync_with_ctx)], {}, "write `async def`"),
        ([Node(stream)], {}, "is an async generator"),
        ([Node(number, message="x")], {}, "is a function: it takes values by name, and no message"),
        ([Node(says("a", "x"), args={"x": 1})], {}, "is an agent: it takes a message, and no args"),
        ([Node(number, when="yes")], {}, "when must be a function"),  # type: ignore[arg-type]
        ([Node(number, when=number)], {}, "when must be a plain function"),
        ([Node(number, priority="high")], {}, "priority must be a number"),  # type: ignore[arg-type]
        ([Node(number, priority=float("nan"))], {}, "priority must be a number"),
        ([Node(number, routes=["a"])], {}, "routes must map"),  # type: ignore[arg-type]
        ([Node(number, route_by=str)], {}, "has route_by, but no routes"),
        ([Node(number, after=3)], {}, "nodes are named by"),
        ([Node(number)], {"outputs": ["x"]}, "there is no node 'x' to be an output"),
        ([Node(number)], {"max_concurrency": 0}, "max_concurrency must be"),
        ([Node(number)], {"on_error": "ignore"}, "on_error must be"),
        ([Node(number, timeout=-1)], {}, "timeout"),
        ([Node(number, retry=0)], {}, "attempts"),
        ([Node(number), Node(number)], {}, "named 'number'"),
    ],
)
def test_what_cannot_work_is_refused_when_built(nodes: list[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GraphAgent("g", nodes, **options)


def test_a_graph_is_cloned_with_its_nodes() -> None:
    graph = GraphAgent("g", [says("a", "x"), Node(says("b", "y"), after="a")])
    other = graph.clone(name="h", max_concurrency=1)
    assert [child.name for child in other.sub_agents] == ["a", "b"]
    assert other.sub_agents[0] is not graph.sub_agents[0]
    with pytest.raises(ConfigError, match="can't be changed by clone"):
        graph.clone(nodes=graph.nodes[:1])


async def test_one_graph_serves_many_runs_at_once() -> None:
    async def echo(message: str) -> str:
        await anyio.sleep(1)
        return message

    async def shout(echo: str) -> str:
        return echo.upper()

    async with Runner(GraphAgent("g", [Node(echo), Node(shout, after=echo)])) as runner:
        texts: dict[str, str] = {}

        async def one(word: str) -> None:
            async with runner.run(word) as run:
                await run.wait()
            texts[word] = run.result.text

        async with anyio.create_task_group() as tasks:
            for word in "abc":
                tasks.start_soon(one, word)
    assert texts == {"a": "A", "b": "B", "c": "C"}


async def test_a_partial_function_and_a_callable_object_are_functions_too() -> None:
    async def add(one: int, other: int) -> int:
        return one + other

    class Doubles:
        async def __call__(self, add: int) -> int:
            return 2 * add

    nodes = [Node(partial(add, one=1, other=2)), Node(Doubles(), name="twice", after="add")]
    played = await play(GraphAgent("g", nodes))
    assert GraphResult.of(played.run.result).answer == 6
