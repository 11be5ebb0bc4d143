"""Building trees: every mistake is found while the tree is built, and says where and what to do."""

import functools
import gc

import pytest

from agentflow import (
    Agent,
    ConfigError,
    Event,
    FunctionAgent,
    InvocationContext,
    Limits,
    LoopAgent,
    ParallelAgent,
    Retry,
    SequentialAgent,
    Tool,
    agent,
)
from tests.core.actors import play, says

# Names


@pytest.mark.parametrize("name", ["a", "A1", "step_2", "fact-check", "naïve", "分析", "class"])
def test_a_name_has_letters_digits_underscores_and_dashes_of_any_script(name: str) -> None:
    assert says(name).name == name


@pytest.mark.parametrize("name", ["", None, 5, b"a", ["a"]])
def test_an_agent_needs_a_name(name: object) -> None:
    with pytest.raises(ConfigError, match=r"^FunctionAgent needs a name, not "):
        says(name)


@pytest.mark.parametrize("name", ["user", "system", "app", "temp"])
def test_some_names_are_reserved(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^FunctionAgent can't be named '{name}': that name is reserved"):
        says(name)


@pytest.mark.parametrize("name", ["a.b", "a#2", "two words", " a", "1st", "a/b", "a\n", "a:b", "🙂"])
def test_a_name_has_nothing_that_branches_are_written_with(name: str) -> None:
    with pytest.raises(ConfigError, match="use letters, digits") as caught:
        SequentialAgent(name, [says("x")])
    assert repr(name) in str(caught.value)


# Trees


def test_two_agents_of_one_tree_have_different_names() -> None:
    with pytest.raises(ConfigError, match=r"^SequentialAgent 's': two agents in one tree are named 'a'"):
        SequentialAgent("s", [says("a"), says("a")])
    with pytest.raises(ConfigError, match="two agents in one tree are named 's'"):
        SequentialAgent("s", [says("s")])


def test_names_are_compared_through_the_whole_tree() -> None:
    left = SequentialAgent("left", [SequentialAgent("deep", [says("a")])])
    right = ParallelAgent("right", [says("b"), LoopAgent("loop", [says("a")], max_iterations=1)])
    with pytest.raises(ConfigError, match=r"^SequentialAgent 'top': two agents in one tree are named 'a'"):
        SequentialAgent("top", [left, right])


def test_the_same_agent_twice_is_refused() -> None:
    a = says("a")
    with pytest.raises(ConfigError, match=r"'s': agent 'a' is in sub_agents twice; use its clone"):
        SequentialAgent("s", [a, says("b"), a])


def test_an_agent_has_one_parent() -> None:
    a = says("a")
    first = SequentialAgent("first", [a])
    with pytest.raises(ConfigError, match=r"'second': agent 'a' already has a parent, 'first'; use its clone"):
        SequentialAgent("second", [a])
    assert a.parent is first
    assert SequentialAgent("second", [a.clone()]).find_agent("a") is not a


def test_an_agent_whose_parent_is_gone_may_have_another() -> None:
    a = says("a")
    SequentialAgent("first", [a])
    gc.collect()
    assert a.parent is None
    second = SequentialAgent("second", [a])
    assert a.parent is second


def test_a_parent_that_could_not_be_built_leaves_its_children_free() -> None:
    a = says("a")
    with pytest.raises(ConfigError, match="max_iterations"):
        LoopAgent("bad", [a], max_iterations=0)
    assert a.parent is None
    assert LoopAgent("good", [a], max_iterations=1).sub_agents == (a,)


@pytest.mark.parametrize("value", [None, "abc", 5, {"a"}, says("x"), iter([])], ids=lambda v: type(v).__name__)
def test_sub_agents_are_a_list(value: object) -> None:
    with pytest.raises(ConfigError, match=rf"'s': sub_agents must be a list of agents, not {type(value).__name__}"):
        SequentialAgent("s", value)


def test_something_else_among_sub_agents_is_found_with_a_hint_for_functions() -> None:
    async def turn(ctx: InvocationContext) -> None: ...

    with pytest.raises(ConfigError, match=r"sub_agents\[1\] is a function, not an agent; wrap a function with @agent"):
        SequentialAgent("s", [says("a"), turn])
    with pytest.raises(ConfigError, match=r"sub_agents\[0\] is a str, not an agent$"):
        SequentialAgent("s", ["a"])
    with pytest.raises(ConfigError, match=r"sub_agents\[0\] is the class SequentialAgent, not an agent made of it"):
        SequentialAgent("s", [SequentialAgent])


def test_a_list_changed_afterwards_changes_no_tree() -> None:
    children = [says("a")]
    root = SequentialAgent("s", children)
    children.append(says("b"))
    assert [child.name for child in root.sub_agents] == ["a"]


def test_a_class_that_forgot_super_init_is_told_so() -> None:
    class Forgot(Agent):
        def __init__(self) -> None:
            self.colour = "red"

    class Half(Agent):
        def __init__(self) -> None:
            self.name = "half"
            self.sub_agents = ()

    for kind in (Forgot, Half):
        with pytest.raises(ConfigError, match=rf"^{kind.__name__}.__init__ must call super\(\).__init__\(name"):
            kind()


def test_settings_of_a_subclass_may_be_set_before_and_after_super_init() -> None:
    class Mine(Agent):
        def __init__(self, name: str, colour: str) -> None:
            self.before = colour
            super().__init__(name)
            self.after = colour

        def check(self) -> None:
            super().check()
            if self.after != "red":
                raise ConfigError(f"Mine {self.name!r} must be red")

    mine = Mine("m", "red")
    assert (mine.before, mine.after) == ("red", "red")
    with pytest.raises(ConfigError, match="must be red"):
        Mine("m", "blue")
    with pytest.raises(ConfigError, match="must be red"):
        mine.clone(after="blue")


@pytest.mark.parametrize("setting", ["name", "timeout", "sub_agents", "anything_new"])
def test_an_agent_can_t_be_changed_once_built(setting: str) -> None:
    a = says("a")
    with pytest.raises(ConfigError, match=rf"agent 'a' can't be changed once built \({setting}\): use clone"):
        setattr(a, setting, "x")
    with pytest.raises(ConfigError, match=rf"agent 'a' can't be changed once built \({setting}\)"):
        delattr(a, setting)
    assert a.name == "a"


# Copies


def test_a_clone_has_the_same_settings_but_for_those_that_change() -> None:
    first = SequentialAgent("s", [says("a")], timeout="5m", description="all of it", retry=2)
    other = first.clone(name="t", timeout=None)
    assert (other.name, other.timeout, other.description, other.retry) == ("t", None, "all of it", Retry(attempts=2))
    assert (first.name, first.timeout) == ("s", 300.0)
    assert type(other) is SequentialAgent


def test_sub_agents_are_cloned_with_their_parent_at_every_depth() -> None:
    inner = SequentialAgent("inner", [says("a")])
    first = SequentialAgent("s", [inner])
    keep = SequentialAgent("keep", [first])
    other = first.clone()
    pairs = list(zip(first.walk(), other.walk(), strict=True))
    assert [one.name for one, _ in pairs] == ["s", "inner", "a"]
    assert all(one is not two and type(one) is type(two) for one, two in pairs)
    assert other.parent is None
    assert first.parent is keep
    assert other.sub_agents[0].parent is other
    assert other.find_agent("a").parent is other.sub_agents[0]
    assert inner.parent is first


def test_a_clone_may_have_other_sub_agents() -> None:
    first = SequentialAgent("s", [says("a")])
    assert [child.name for child in first.clone(sub_agents=[says("b")]).sub_agents] == ["b"]
    with pytest.raises(ConfigError, match="already has a parent, 's'"):
        first.clone(sub_agents=first.sub_agents)


def test_an_unknown_setting_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"^FunctionAgent has no setting 'tiemout'; it has after_agent, .*timeout$"):
        says("a").clone(tiemout=5)
    with pytest.raises(ConfigError, match="has no setting '_parent'"):
        says("a").clone(_parent=None)


@pytest.mark.parametrize("change", [{"name": "user"}, {"timeout": -1}, {"sub_agents": 5}, {"function": 5}])
def test_a_clone_is_checked_as_any_agent(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="FunctionAgent"):
        says("a").clone(**change)


async def test_a_clone_plays_as_the_original_does() -> None:
    first = SequentialAgent("s", [says("a", "one"), says("b", "two")])
    assert (await play(first)).texts == (await play(first.clone())).texts == ["one", "two"]


# Looking around


def test_a_tree_is_walked_depth_first() -> None:
    root = SequentialAgent(
        "root", [SequentialAgent("left", [says("a"), says("b")]), ParallelAgent("right", [says("c")])]
    )
    assert [node.name for node in root.walk()] == ["root", "left", "a", "b", "right", "c"]
    assert root.find_agent("b").parent is root.find_agent("left")
    assert root.find_agent("root") is root
    assert root.find_agent("left").find_agent("c") is None
    assert root.parent is None


def test_a_tree_shows_itself() -> None:
    root = SequentialAgent("s", [says("a"), LoopAgent("l", [says("b")], max_iterations=1)])
    assert repr(root) == "SequentialAgent('s', [FunctionAgent('a'), LoopAgent('l', [FunctionAgent('b')])])"


# Settings of every agent


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), (5, 5.0), (0.25, 0.25), ("5m", 300.0), ("200ms", 0.2), ("90s", 90.0), ("1.5h", 5400.0),
        (" 2 s ", 2.0), ("7", 7.0),
    ],
)  # fmt: skip
def test_a_timeout_is_seconds_or_says_its_unit(value: object, seconds: float | None) -> None:
    assert says("a", timeout=value).timeout == seconds


@pytest.mark.parametrize(
    "value", [0, -1, "0s", "nonsense", "", "5 days", "-5m", True, False, float("nan"), float("inf"), [5], "9" * 400]
)
def test_a_timeout_that_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^FunctionAgent 'a': timeout must be "):
        says("a", timeout=value)


def test_a_retry_is_a_number_of_attempts_or_a_policy() -> None:
    policy = Retry(attempts=5, delay=0)
    assert says("a").retry is None
    assert says("a", retry=3).retry == Retry(attempts=3)
    assert says("a", retry=policy).retry is policy


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True, [3]])
def test_a_retry_that_is_neither_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="attempts must be a whole number of at least 1"):
        says("a", retry=value)


@pytest.mark.parametrize(
    "settings",
    [
        {"attempts": 0}, {"attempts": True}, {"attempts": 2.0}, {"delay": -1}, {"max_delay": -1}, {"factor": 0.5},
        {"jitter": 1.5}, {"jitter": -0.1},
    ],
    ids=str,
)  # fmt: skip
def test_a_retry_policy_that_can_t_work_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"^Retry "):
        Retry(**settings)


@pytest.mark.parametrize("name", ["model_calls", "tokens", "cost", "seconds", "events"])
@pytest.mark.parametrize("value", [0, -1, True, "5"])
def test_a_limit_is_above_zero_or_none(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^Limits\({name}=...\) must be above 0, or None for no limit"):
        Limits(**{name: value})
    assert getattr(Limits(**{name: None}), name) is None
    assert getattr(Limits(**{name: 1}), name) == 1


@pytest.mark.parametrize("settings", [{"delay": "1"}, {"jitter": None}, {"delay": float("nan")}], ids=str)
def test_a_retry_policy_whose_numbers_are_none_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"^Retry "):
        Retry(**settings)


@pytest.mark.parametrize("on", [ValueError, [ValueError], "ValueError"], ids=["type", "list", "text"])
def test_a_retry_policy_knows_which_errors_are_meant(on: object) -> None:
    try:
        policy = Retry(on=on)
    except ConfigError:
        return
    assert not isinstance(on, str)
    assert policy.covers(ValueError())
    assert not policy.covers(KeyError())


def test_a_limit_is_a_number_that_can_be_reached() -> None:
    with pytest.raises(ConfigError):
        Limits(seconds=float("nan"))


@pytest.mark.parametrize("hook", ["before_agent", "after_agent"])
def test_callbacks_are_one_function_or_a_list_of_them(hook: str) -> None:
    def one(ctx: InvocationContext) -> None: ...

    assert getattr(says("a", **{hook: one}), hook) == (one,)
    assert getattr(says("a", **{hook: [one, one]}), hook) == (one, one)
    for wrong in ([one, "text"], ["text"], "text", {"a": 1}):
        with pytest.raises(ConfigError, match=f"^FunctionAgent 'a': {hook} must be a function of the context, or a li"):
            says("a", **{hook: wrong})


@pytest.mark.parametrize("value", [5, None])
def test_callbacks_that_are_no_list_at_all_are_refused_too(value: object) -> None:
    with pytest.raises(ConfigError, match="'a': before_agent must be"):
        says("a", before_agent=value)


async def test_an_agent_without_run_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match=r"^Agent 'idle' has no `run`: write `async def run"):
        await play(Agent("idle"))


# Functions as agents


class Greeter:
    """Greets whoever comes.

    At length.
    """

    async def __call__(self, ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("hello"))

    async def method(self, ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("hello"))

    def plain(self, ctx: InvocationContext) -> None: ...


async def greet(greeting: str, ctx: InvocationContext) -> None:
    """Greet."""
    await ctx.emit(ctx.text(greeting))


class Inherits(Greeter):
    pass


@pytest.mark.parametrize(
    "function",
    [Greeter(), Inherits(), Greeter().method, functools.partial(greet, "hello")],
    ids=["object", "inherited", "method", "partial"],
)
async def test_any_async_callable_can_be_an_agent(function: object) -> None:
    assert (await play(FunctionAgent("a", function))).texts == ["hello"]


async def test_a_generator_function_can_be_an_agent_also_as_a_partial() -> None:
    async def words(first: str, ctx: InvocationContext):
        yield ctx.text(first)
        yield Event(parts="two")

    assert (await play(FunctionAgent("a", functools.partial(words, "one")))).texts == ["one", "two"]


def plain(ctx: InvocationContext) -> None: ...


@pytest.mark.parametrize(
    "function", [plain, lambda ctx: None, Greeter().plain, functools.partial(plain)], ids=["def", "lambda", "meth", "p"]
)
def test_a_function_that_isn_t_async_is_refused(function: object) -> None:
    with pytest.raises(ConfigError, match=r"^FunctionAgent 'a': '.+' is no async function; write `async def`"):
        FunctionAgent("a", function)


@pytest.mark.parametrize("function", [None, 5, "text", Greeter])
def test_what_is_no_function_is_refused(function: object) -> None:
    with pytest.raises(ConfigError, match=r"^FunctionAgent 'a' needs an async function of the context, not "):
        FunctionAgent("a", function)


def test_the_decorator_takes_name_and_description_from_the_function() -> None:
    @agent
    async def writer(ctx: InvocationContext) -> None:
        """Write a line.

        And another.
        """

    @agent
    async def silent(ctx: InvocationContext) -> None: ...

    assert isinstance(writer, FunctionAgent)
    assert (writer.name, writer.description) == ("writer", "Write a line.")
    assert (silent.name, silent.description) == ("silent", "")


async def test_the_decorator_takes_settings() -> None:
    @agent(name="poet", description="Rhymes.", timeout="5m", retry=2, sub_agents=[says("a", "one")], after_agent=plain)
    async def writer(ctx: InvocationContext) -> None:
        """Write."""
        await ctx.run(ctx.agent.sub_agents[0])

    assert (writer.name, writer.description, writer.timeout, writer.retry) == (
        "poet", "Rhymes.", 300.0, Retry(attempts=2),
    )  # fmt: skip
    assert writer.after_agent == (plain,)
    assert (await play(writer)).texts == ["one"]


def test_the_decorator_without_settings_in_its_parentheses_is_the_same() -> None:
    @agent()
    async def writer(ctx: InvocationContext) -> None: ...

    assert writer.name == "writer"


def test_the_decorator_needs_a_name_where_the_function_has_none() -> None:
    with pytest.raises(ConfigError, match=r"^FunctionAgent needs a name"):
        agent(functools.partial(greet, "hello"))
    assert agent(name="a")(functools.partial(greet, "hello")).name == "a"


def test_an_async_function_that_wraps_a_plain_one_is_an_agent() -> None:
    def says_what_it_returns(function):
        @functools.wraps(function)
        async def turn(ctx: InvocationContext) -> None:
            await ctx.emit(ctx.text(function(ctx.user_text)))

        return turn

    @agent
    @says_what_it_returns
    def shout(text: str) -> str:
        return text.upper()

    assert shout.name == "shout"


def test_a_partial_is_described_by_its_function_or_not_at_all() -> None:
    assert FunctionAgent("a", functools.partial(greet, "hello")).description in ("Greet.", "")


# Workflows


@pytest.mark.parametrize("kind", [SequentialAgent, ParallelAgent, functools.partial(LoopAgent, max_iterations=1)])
def test_a_workflow_needs_sub_agents(kind) -> None:
    with pytest.raises(ConfigError, match=r"^\w+Agent 'w' needs at least one sub-agent$"):
        kind("w", [])


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "3"])
def test_a_loop_goes_round_a_whole_number_of_times(value: object) -> None:
    with pytest.raises(ConfigError, match=f"^LoopAgent 'l': max_iterations must be at least 1, or None, not {value!r}"):
        LoopAgent("l", [says("a")], max_iterations=value)


def test_a_loop_s_condition_is_a_function() -> None:
    with pytest.raises(ConfigError, match=r"^LoopAgent 'l': until must be a function of the context"):
        LoopAgent("l", [says("a")], until="done")


class Quiet(Agent):
    """Only directs others, so it never escalates."""

    directs_others = True

    async def run(self, ctx: InvocationContext) -> None: ...


def test_a_loop_that_could_never_end_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^LoopAgent 'l' could never end: nothing in it can escalate; give it max_it"
    ):
        LoopAgent("l", [SequentialAgent("s", [Quiet("q")])])
    for settings in ({"max_iterations": 1}, {"until": lambda ctx: True}, {"timeout": 5}):
        assert LoopAgent("l", [Quiet("q")], **settings).name == "l"
    assert LoopAgent("l", [SequentialAgent("s", [Quiet("q"), says("a")])]).max_iterations is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_concurrency": 0}, "max_concurrency must be a whole number of at least 1, not 0"),
        ({"max_concurrency": True}, "max_concurrency must be a whole number"),
        ({"max_concurrency": 1.5}, "max_concurrency must be a whole number"),
        ({"on_error": "explode"}, "on_error must be 'cancel', 'collect' or 'ignore', not 'explode'"),
        ({"on_error": None}, "on_error must be"),
        ({"stop_when": 0}, "stop_when must be a whole number of at least 1, not 0"),
        ({"stop_when": True}, "stop_when must be a whole number"),
        ({"stop_when": 3}, "stop_when=3 successes, but it has 2 sub-agents"),
        ({"stop_when": "never"}, "stop_when must be 'all', 'first_success', 'escalation', a number or a function"),
        ({"stop_when": 1.5}, "stop_when must be 'all'"),
        ({"branch_timeout": 0}, "branch_timeout must be a number of seconds above 0"),
        ({"branch_timeout": "soon"}, "branch_timeout must be seconds or a string like '5m', not 'soon'"),
        ({"on_conflict": "first"}, "on_conflict must be 'last', 'error' or a reducer per key, not 'first'"),
        ({"on_conflict": {"votes": 5}}, "on_conflict maps state keys to functions of two values"),
        ({"on_conflict": {5: max}}, "on_conflict maps state keys to functions of two values"),
    ],
    ids=str,
)
def test_a_setting_of_a_parallel_that_can_t_work_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ParallelAgent("p", [says("a"), says("b")], **settings)
    assert str(caught.value).startswith(f"ParallelAgent 'p': {message}")


def test_settings_of_a_parallel_are_kept_as_they_are_meant() -> None:
    p = ParallelAgent("p", [says("a"), says("b")], branch_timeout="5m", on_conflict={"votes": max}, stop_when=2)
    assert (p.branch_timeout, p.on_conflict, p.stop_when) == (300.0, {"votes": max}, 2)


# Tools


def test_a_tool_is_named_like_an_agent() -> None:
    class Search(Tool):
        async def run(self, ctx: InvocationContext, args: dict[str, object]) -> None: ...

    tool = Search("look-up", description="Looks up.")
    assert (tool.name, tool.description) == ("look-up", "Looks up.")
    for name in ("", "a.b", "user", None):
        with pytest.raises(ConfigError, match=r"^Search "):
            Search(name)
