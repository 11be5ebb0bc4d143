"""Trees of agents: names, parents, copies. What can't work is refused when it is built."""

from functools import partial

import pytest

from agentflow import (
    Agent,
    ConfigError,
    FunctionAgent,
    InvalidEvent,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Retry,
    Runner,
    SequentialAgent,
    Tool,
    agent,
)
from tests.core.actors import play, says


@pytest.mark.parametrize("name", ["", " ", "a.b", "a#2", "a b", "a/b", "1a", "ä!", "a\n", None, 3, "user", "system"])
def test_names_that_can_t_be_are_refused(name) -> None:
    for make in (lambda: says(name), lambda: SequentialAgent(name, [says("a")]), lambda: says("a").clone(name=name)):
        with pytest.raises(ConfigError):
            make()


def test_a_name_begins_with_a_letter() -> None:
    with pytest.raises(ConfigError, match="beginning with a letter"):
        says("-a")


@pytest.mark.parametrize("name", ["a", "A1", "two_words", "two-words", "été", "日本"])
async def test_names_that_can_be(name: str) -> None:
    played = await play(ParallelAgent("p", [says(name, "x")]))
    assert next(event.branch for event in played.events if event.text) == f"p.{name}"


def test_a_name_is_used_once_in_a_tree() -> None:
    with pytest.raises(ConfigError, match="two agents in one tree are named 'a'"):
        SequentialAgent("s", [says("a"), SequentialAgent("t", [says("a")])])
    with pytest.raises(ConfigError, match="named 's'"):
        SequentialAgent("s", [SequentialAgent("s", [says("a")])])


def test_an_agent_has_one_parent() -> None:
    a = says("a")
    one = SequentialAgent("one", [a])
    assert a.parent is one
    assert one.parent is None
    with pytest.raises(ConfigError, match="already has a parent, 'one'"):
        SequentialAgent("two", [a])
    with pytest.raises(ConfigError, match="twice"):
        ParallelAgent("two", [b := says("b"), b])
    two = SequentialAgent("two", [a.clone()])
    assert (a.parent, two.sub_agents[0].parent) == (one, two)


def test_a_tree_that_could_not_be_built_leaves_its_children_free() -> None:
    a, b = says("a"), says("a")
    with pytest.raises(ConfigError):
        SequentialAgent("s", [a, b])
    with pytest.raises(ConfigError):
        LoopAgent("l", [a], max_iterations=0)
    assert a.parent is None
    SequentialAgent("s", [a])


def test_a_cycle_can_t_be_built() -> None:
    a = says("a")
    tree = SequentialAgent("s", [a])
    with pytest.raises(ConfigError, match="can't be changed"):
        tree.sub_agents = [tree]
    with pytest.raises((ConfigError, AttributeError)):
        tree.sub_agents.append(tree)  # type: ignore[attr-defined]


@pytest.mark.parametrize("children", [3, "ab", None, [3], [None], [lambda ctx: None], {"a": 1}, says])
def test_children_that_are_no_agents_are_refused(children) -> None:
    with pytest.raises(ConfigError, match="'s'"):
        SequentialAgent("s", children)


def test_an_agent_can_t_be_changed_once_built() -> None:
    a = says("a")
    for change in ("name", "timeout", "description", "new"):
        with pytest.raises(ConfigError, match="clone"):
            setattr(a, change, "x")
    with pytest.raises(ConfigError):
        del a.name


async def test_a_clone_is_another_agent_with_some_settings_changed() -> None:
    a = says("a", "x", timeout=5, retry=2, description="d")
    b = a.clone(name="b", timeout="1m", retry=None)
    assert (a.name, a.timeout, a.retry.attempts, a.description) == ("a", 5, 2, "d")
    assert (b.name, b.timeout, b.retry, b.description) == ("b", 60, None, "d")
    assert (await play(SequentialAgent("s", [a, b]))).texts == ["x", "x"]


def test_a_clone_s_children_are_clones_too() -> None:
    tree = SequentialAgent("s", [ParallelAgent("p", [says("a"), says("b")]), says("c")])
    copy = tree.clone(name="t")
    assert [node.name for node in copy.walk()] == ["t", "p", "a", "b", "c"]
    assert not {id(node) for node in tree.walk()} & {id(node) for node in copy.walk()}
    assert copy.find_agent("a").parent.parent is copy
    assert tree.find_agent("a").parent.parent is tree
    assert ParallelAgent("both", [copy.clone(name="x").find_agent("c").clone(), says("y")]).sub_agents[0].name == "c"


def test_a_clone_s_changes_are_checked() -> None:
    a = says("a")
    with pytest.raises(ConfigError, match=r"no setting 'tiemout'; it has .*timeout"):
        a.clone(tiemout=3)
    with pytest.raises(ConfigError, match="timeout"):
        a.clone(timeout=-1)
    with pytest.raises(ConfigError, match="max_iterations"):
        LoopAgent("l", [says("a")], max_iterations=3).clone(max_iterations=0)


def test_finding_an_agent_by_name() -> None:
    tree = SequentialAgent("s", [ParallelAgent("p", [says("a"), says("b")]), says("c")])
    assert tree.find_agent("b").name == "b"
    assert tree.find_agent("s") is tree
    assert tree.find_agent("nobody") is None
    assert [node.name for node in tree.walk()] == ["s", "p", "a", "b", "c"]
    assert repr(tree).startswith("SequentialAgent('s', [ParallelAgent('p', [FunctionAgent('a')")


def test_a_subclass_that_forgets_super_is_told() -> None:
    class Forgets(Agent):
        def __init__(self) -> None:
            pass

    with pytest.raises(ConfigError, match=r"must call super\(\).__init__"):
        Forgets()


async def test_a_subclass_may_have_settings_of_its_own() -> None:
    class Echo(Agent):
        def __init__(self, name: str, times: int) -> None:
            super().__init__(name)
            self.times = times

        def check(self) -> None:
            super().check()
            if self.times < 1:
                raise ConfigError("times")

        async def run(self, ctx: InvocationContext) -> None:
            for _ in range(self.times):
                await ctx.emit(ctx.text(ctx.user_text))

    assert (await play(Echo("e", 2), "hi")).texts == ["hi", "hi"]
    assert (await play(Echo("e", 2).clone(times=1), "hi")).texts == ["hi"]
    with pytest.raises(ConfigError, match="times"):
        Echo("e", 0)


async def test_an_agent_without_run_says_so() -> None:
    with pytest.raises(ConfigError, match="'a' has no `run`"):
        await play(Agent("a"))


@pytest.mark.parametrize("result", ["text", 3, ["x"]])
async def test_an_agent_that_returns_something_is_told_to_emit(result) -> None:
    class Returns(Agent):
        async def run(self, ctx: InvocationContext):
            return result

    class NotAsync(Agent):
        def run(self, ctx: InvocationContext):
            return result

    with pytest.raises(InvalidEvent, match=r"agent 'a' returned .*await ctx.emit"):
        await play(Returns("a"))
    with pytest.raises(InvalidEvent, match=r"agent 'a': run must be"):
        await play(NotAsync("a"))


@pytest.mark.parametrize("root", [None, "a", says, lambda ctx: None, int])
def test_a_runner_needs_an_agent(root) -> None:
    with pytest.raises(ConfigError, match="a Runner needs an agent"):
        Runner(root)


class TestFunctions:
    """A function as an agent."""

    async def test_a_decorated_function_is_an_agent_of_its_name(self) -> None:
        @agent
        async def greeter(ctx: InvocationContext) -> None:
            """Greets people.

            At length.
            """
            await ctx.emit(ctx.text("hello"))

        assert isinstance(greeter, FunctionAgent)
        assert (greeter.name, greeter.description) == ("greeter", "Greets people.")
        assert (await play(greeter)).texts == ["hello"]

    async def test_a_decorator_takes_settings(self) -> None:
        child = says("child", "x")

        @agent(name="boss", description="d", sub_agents=[child], timeout="1m", retry=2)
        async def function(ctx: InvocationContext):
            await ctx.run(child)
            yield ctx.text("y")

        assert (function.name, function.description, function.timeout, function.retry) == (
            "boss", "d", 60, Retry(attempts=2),
        )  # fmt: skip
        assert child.parent is function
        assert (await play(function)).texts == ["x", "y"]

    async def test_methods_partials_and_callable_objects_will_do(self) -> None:
        class Speaker:
            async def method(self, ctx: InvocationContext) -> None:
                await ctx.emit(ctx.text("method"))

            async def __call__(self, ctx: InvocationContext) -> None:
                await ctx.emit(ctx.text("object"))

        async def says_word(word: str, ctx: InvocationContext):
            yield ctx.text(word)

        root = SequentialAgent(
            "s",
            [
                FunctionAgent("a", Speaker().method),
                FunctionAgent("b", Speaker()),
                FunctionAgent("c", partial(says_word, "partial")),
            ],
        )
        assert (await play(root)).texts == ["method", "object", "partial"]

    @pytest.mark.parametrize("function", [None, 3, int, lambda ctx: None, "x"])
    def test_what_is_no_async_function_is_refused(self, function) -> None:
        with pytest.raises(ConfigError, match="async function"):
            FunctionAgent("a", function)

    def test_a_plain_function_is_refused_and_named(self) -> None:
        with pytest.raises(ConfigError, match="'plain' is no async function"):

            @agent
            def plain(ctx: InvocationContext) -> None:
                pass


def test_a_tool_needs_a_name_too() -> None:
    class Mine(Tool):
        async def run(self, ctx, args):
            return None

    assert Mine("t", description="d").description == "d"
    with pytest.raises(ConfigError):
        Mine("a.b")
