"""A function as a tool: its schema, its arguments, where it runs, what it shows."""

from __future__ import annotations

import contextvars
import enum
import functools
import threading
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from anyio.lowlevel import checkpoint
from pydantic import BaseModel, Field

from agentflow import ConfigError, FunctionTool, InvocationContext, Run, Runner, ToolContext, tool
from agentflow.core import Tool
from agentflow.tools.function import as_tool
from tests.core.actors import play
from tests.tools.callers import answers, caller, results

if TYPE_CHECKING:
    from decimal import Decimal


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Real clocks: time that jumps doesn't wait for threads."""
    return request.param


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    """Somewhere."""

    city: str = Field(description="Its name.")
    country: str | None = None


@dataclass
class Size:
    width: int
    height: int = 1


def properties(function: Any) -> dict[str, Any]:
    return as_tool(function).parameters["properties"]


# The schema


def test_a_signature_becomes_a_schema() -> None:
    def search(query: str, limit: int = 10, exact: bool = False, kind: Literal["a", "b"] | None = None) -> None: ...

    assert as_tool(search).parameters == {
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer", "default": 10},
            "exact": {"type": "boolean", "default": False},
            "kind": {"anyOf": [{"enum": ["a", "b"], "type": "string"}, {"type": "null"}]},
        },
        "required": ["query"],
        "additionalProperties": False,
    }


def test_models_dataclasses_enums_and_annotations_are_understood() -> None:
    def order(
        place: Place, size: Size, colour: Colour, day: date, many: list[Place], n: Annotated[int, Field(ge=1, le=5)]
    ) -> None: ...

    schema = as_tool(order).parameters
    assert schema["$defs"]["Place"]["properties"]["city"] == {"type": "string", "description": "Its name."}
    assert schema["$defs"]["Size"]["required"] == ["width"]
    assert schema["$defs"]["Colour"]["enum"] == ["red", "blue"]
    assert schema["properties"]["day"] == {"type": "string", "format": "date"}
    assert schema["properties"]["n"] == {"type": "integer", "minimum": 1, "maximum": 5}
    assert schema["properties"]["many"]["items"] == {"$ref": "#/$defs/Place"}


GOOGLE = """Find things.

Slowly, but surely.

Args:
    query: What to look for;
        on two lines.
    limit (int): How many.

Returns:
    What was found.
"""
NUMPY = """Find things.

Slowly, but surely.

Parameters
----------
query : str
    What to look for;
    on two lines.
limit : int, optional
    How many.

Returns
-------
str
    What was found.
"""
REST = """Find things.

Slowly, but surely.

:param query: What to look for;
    on two lines.
:param int limit: How many.
:returns: What was found.
"""


@pytest.mark.parametrize("style", [GOOGLE, NUMPY, REST], ids=["google", "numpy", "rest"])
def test_docstrings_of_every_style_describe_the_tool_and_its_parameters(style: str) -> None:
    def find(query: str, limit: int = 3) -> str: ...

    find.__doc__ = style
    made = as_tool(find)
    assert made.description == "Find things.\n\nSlowly, but surely."
    described = {name: schema["description"] for name, schema in made.parameters["properties"].items()}
    assert described == {"query": "What to look for;\non two lines.", "limit": "How many."}


def test_what_the_annotation_says_of_itself_wins() -> None:
    def find(query: Annotated[str, Field(description="By itself.")]) -> None:
        """Find.

        Args:
            query: By the docstring.
        """

    assert properties(find)["query"]["description"] == "By itself."


def test_the_context_is_found_by_its_annotation_and_left_out() -> None:
    def one(ctx: ToolContext, a: int) -> None: ...
    def two(a: int, *, context: InvocationContext) -> None: ...
    def three(a: int, maybe: ToolContext | None = None) -> None: ...
    def four(ctx, a: int) -> None: ...

    for function in (one, two, three, four):
        assert list(properties(function)) == ["a"]

    def no_context(ctx: str) -> None: ...

    assert list(properties(no_context)) == ["ctx"]


def test_parameters_may_be_called_what_they_are_called() -> None:
    def awkward(json: str, schema: int, model_config: bool, copy: str = "", _private: int = 0) -> None: ...

    assert list(properties(awkward)) == ["json", "schema", "model_config", "copy", "_private"]


def test_the_schema_is_made_when_it_is_first_read_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from agentflow.tools import _signature

    made: list[Any] = []
    real = _signature._read
    monkeypatch.setattr(_signature, "_read", lambda function: made.append(function) or real(function))

    class Desk:
        def look(self, what: str) -> None:
            """Look."""

    desk = Desk()
    first, second = FunctionTool(desk.look), FunctionTool(desk.look)
    assert made == []
    assert first.parameters == second.parameters == as_tool(Desk().look).parameters
    assert first.description == "Look."
    assert len(made) == 1


def test_what_no_schema_can_be_made_of_is_named() -> None:
    def starred(*args: int) -> None: ...
    def keyed(**options: int) -> None: ...
    def opaque(lock: threading.Event) -> None: ...
    def unknown(price: Decimal) -> None: ...

    for function, match in (
        (starred, r"\*args"),
        (keyed, r"\*\*options"),
        (opaque, "threading.Event"),
        (unknown, "'Decimal', which is not there when the program runs"),
    ):
        with pytest.raises(ConfigError, match=match):
            _ = as_tool(function).parameters


@pytest.mark.parametrize("value", [3, None, "search", int, Tool])
def test_what_is_no_tool_is_refused(value: object) -> None:
    with pytest.raises(ConfigError):
        as_tool(value)


def test_settings_that_cannot_work_are_refused() -> None:
    for settings in ({"timeout": 0}, {"on_error": "ignore"}, {"name": "has space"}, {"name": ""}):
        with pytest.raises(ConfigError):
            FunctionTool(lambda: 1, **{"name": "f", **settings})
    with pytest.raises(ConfigError, match="lambda"):
        FunctionTool(lambda: 1)


def test_the_decorator_takes_settings_and_the_tool_can_still_be_called() -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    @tool(name="plus", description="Sum.", timeout="2s", long_running=True)
    def other(a: int) -> int:
        return a

    assert (add.name, add.description, add(1, b=2)) == ("add", "Add.", 3)
    assert (other.name, other.timeout) == ("plus", 2.0)
    assert other.description.startswith("Sum.\n\nNOTE: this is a long-running operation")


# The arguments


async def test_arguments_are_made_what_the_function_says() -> None:
    async def order(place: Place, size: Size, colour: Colour, day: date, n: int = 2) -> list[str]:
        return [type(place).__name__, type(size).__name__, colour.name, f"{day:%d.%m.}", repr(n)]

    args = {"place": {"city": "Rome"}, "size": {"width": 2}, "colour": "red", "day": "2026-02-01", "n": "5"}
    assert answers(await play(caller("c", [order], [("order", args)]))) == [["Place", "Size", "RED", "01.02.", "5"]]


async def test_what_is_left_out_has_the_functions_own_default() -> None:
    nothing = object()

    async def find(query: str, after: Any = nothing, *, limit: int = 3) -> list[Any]:
        return [query, after is nothing, limit]

    assert answers(await play(caller("c", [find], [("find", {"query": "x"})]))) == [["x", True, 3]]


async def test_arguments_that_dont_fit_are_told_to_the_model_in_words() -> None:
    async def find(query: str, limit: int, place: Place | None = None) -> None: ...

    args = {"limit": "many", "place": {"town": "Rome"}, "made_up": 1}
    [result] = results(await play(caller("c", [find], [("find", args)])))
    assert result.is_error
    assert result.result.splitlines() == [
        "the arguments don't fit the schema of 'find':",
        "- query: Field required",
        "- limit: Input should be a valid integer, unable to parse string as an integer",
        "- place.city: Field required",
        "- made_up: Extra inputs are not permitted",
    ]


async def test_positional_only_partial_bound_and_callable_functions_work() -> None:
    async def positional(a: int, ctx: ToolContext, b: int = 2, /, *, c: int = 3) -> list[int]:
        assert ctx.call.name == "positional"
        return [a, b, c]

    def power(base: int, exponent: int) -> int:
        return base**exponent

    class Counter:
        def __init__(self) -> None:
            self.n = 0

        async def count(self, by: int = 1) -> int:
            self.n += by
            return self.n

        def __call__(self, word: str) -> str:
            return word * 2

    counter = Counter()
    given = [
        positional,
        FunctionTool(functools.partial(power, exponent=2), name="square"),
        counter.count,
        FunctionTool(counter, name="twice"),
    ]
    asked = [("positional", {"a": 1}), ("positional", {"a": 1, "c": 5}), ("square", {"base": 3}), ("count", {"by": 4})]
    played = await play(caller("c", given, [*asked, ("twice", {"word": "x"})]))
    assert answers(played) == [[1, 2, 3], [1, 2, 5], 9, 4, "xx"]


# Where it runs


async def test_a_plain_function_runs_in_a_thread_with_the_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def plain() -> list[Any]:
        return [variable.get(), threading.current_thread() is threading.main_thread()]

    variable.set("set")
    assert answers(await play(caller("c", [plain], [("plain", {})]))) == [["set", False]]


async def test_plain_functions_run_at_the_same_time() -> None:
    barrier = threading.Barrier(3)

    def meets() -> int:
        return barrier.wait(timeout=5)

    played = await play(caller("c", [meets], [("meets", {})] * 3))
    assert sorted(answers(played)) == [0, 1, 2]


async def test_cancelling_a_plain_function_waits_until_it_has_ended() -> None:
    begun, ended = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        try:
            while True:
                anyio.from_thread.check_cancelled()
                threading.Event().wait(0.001)
        finally:
            ended.set()

    async def cancel(run: Run) -> None:
        while not begun.is_set():  # noqa: ASYNC110 - it is a thread's
            await checkpoint()
        run.cancel("enough")

    with anyio.fail_after(5):
        runner = Runner(caller("c", [slow], [("slow", {})]))
        async with runner, runner.run("go") as run, anyio.create_task_group() as tasks:
            tasks.start_soon(cancel, run)
            await run.wait()
    assert ended.is_set()
    assert run.result.status == "cancelled"


async def test_a_plain_function_that_hangs_is_left_behind_when_its_time_is_up() -> None:
    release = threading.Event()

    @tool(timeout=0.01)
    def hangs(ctx: ToolContext) -> str:
        release.wait(10)
        ctx.state["late"] = True
        return "late"

    try:
        with anyio.fail_after(5):
            played = await play(caller("c", [hangs], [("hangs", {})]))
    finally:
        release.set()
    assert answers(played) == ["tool 'hangs' was still at work after 0.01 s"]
    assert "late" not in played.session.state


async def test_a_plain_function_may_emit_from_its_thread() -> None:
    def works(ctx: ToolContext) -> str:
        anyio.from_thread.run(ctx.progress, "half")
        ctx.state["x"] = 1
        return "whole"

    played = await play(caller("c", [works], [("works", {})]))
    assert answers(played) == ["whole"]
    assert [event.parts[0].result for event in played.events if event.partial] == ["half"]
    assert played.session.state == {"x": 1}


async def test_a_plain_function_that_gives_a_coroutine_is_awaited() -> None:
    async def later(word: str) -> str:
        return word

    def now(word: str) -> Any:
        return later(word)

    assert answers(await play(caller("c", [now], [("now", {"word": "x"})]))) == ["x"]


# Generators


async def stream(n: int):
    for i in range(n):
        yield f"piece {i}"


def plain_stream(n: int):
    yield from (f"piece {i}" for i in range(n))


@pytest.mark.parametrize("function", [stream, plain_stream])
async def test_a_generator_shows_each_value_and_the_last_is_the_result(function: Any) -> None:
    played = await play(caller("c", [function], [(function.__name__, {"n": 3})]))
    shown = [event.parts[0].result for event in played.events if event.partial]
    assert shown == ["piece 0", "piece 1", "piece 2"]
    assert answers(played) == ["piece 2"]


async def test_a_generator_that_yields_nothing_answers_nothing() -> None:
    assert answers(await play(caller("c", [stream], [("stream", {"n": 0})]))) == [None]


async def test_a_generator_is_closed_when_its_call_is_cancelled() -> None:
    closed: list[str] = []

    async def endless():
        try:
            while True:
                yield "more"
        finally:
            closed.append("closed")

    async with Runner(caller("c", [endless], [("endless", {})])) as runner, runner.run("go") as run:
        async for event in run:
            if event.partial:
                run.cancel("enough")
    assert closed == ["closed"]


async def test_a_generator_that_fails_has_failed() -> None:
    async def breaks():
        yield "one"
        raise ValueError("no")

    [result] = results(await play(caller("c", [breaks], [("breaks", {})])))
    assert (result.result, result.is_error) == ("ValueError: no", True)
