"""What a tool returns, as a model reads it and a store keeps it."""

from dataclasses import dataclass
from datetime import date

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from agentflow import Blob, Data, FileRef, Text, ToolContext, ToolResult, tool
from agentflow.content import clean_json
from agentflow.tools._results import as_result
from tests.core.actors import play
from tests.tools.callers import answers, caller, results


class Model(BaseModel):
    when: date


@dataclass
class Pair:
    a: int
    b: set[int]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("words", "words"),
        (None, None),
        (3.5, 3.5),
        (float("inf"), None),
        ({"a": (1, 2)}, {"a": [1, 2]}),
        ([Model(when=date(2026, 1, 2))], [{"when": "2026-01-02"}]),
        (Pair(1, {2}), {"a": 1, "b": [2]}),
        ("nul\x00 and \ud800", "nul\ufffd and \ufffd"),
        (Text("said"), "said"),
        ([Text("a"), Text("b")], "a\nb"),
        (Data({"x": 1}), {"x": 1}),
        ([Text("a"), Data({"x": 1})], ["a", {"x": 1}]),
        ([], []),
    ],
)
async def test_values_become_json(value: object, read: object) -> None:
    async def gives():
        return value

    assert answers(await play(caller("c", [gives], [("gives", {})]))) == [read]


async def test_pictures_and_files_stand_behind_the_results() -> None:
    picture, file = Blob(b"\x89PNG", "image/png", "chart"), FileRef("https://example.org/report.pdf", name="report")

    async def draws():
        return [Text("here"), picture]

    async def points():
        return file

    played = await play(caller("c", [draws, points], [("draws", {}), ("points", {})]))
    [event] = [event for event in played.events if any(type(part) is ToolResult for part in event.parts)]
    assert [type(part).__name__ for part in event.parts] == ["ToolResult", "ToolResult", "Blob", "FileRef"]
    assert [part.result for part in event.parts[:2]] == ["here\n[chart: attached]", "[report: attached]"]
    assert event.parts[2:] == (picture, file)


async def test_what_json_cant_say_is_an_error_that_names_the_tool() -> None:
    async def gives():
        return object()

    [result] = results(await play(caller("c", [gives], [("gives", {})])))
    assert result.is_error
    assert "tool 'gives' returned what JSON can't say" in result.result


@pytest.mark.parametrize("json", [False, True], ids=["text", "json"])
async def test_a_result_of_ten_megabytes_is_cut_and_saved_whole(json: bool) -> None:
    word = "0123456789" * 1_000_000

    async def gives():
        return {"word": word} if json else word

    async def reads(ctx: ToolContext, name: str) -> int:
        artifact = await ctx.load_artifact(name)
        return len(artifact.data)

    name = "gives-c1-1" + (".json" if json else ".txt")
    played = await play(caller("c", [gives, reads], [("gives", {})], [("reads", {"name": name})]))
    whole, size = answers(played)
    assert len(whole) < 300_000
    assert whole.endswith(f"bytes in all; the whole result is the artifact '{name}']")
    assert size == len(word) + (len('{"word":""}') if json else 0)


async def test_the_limit_is_the_tools_own_and_counts_bytes() -> None:
    @tool(max_result_bytes=10)
    async def short():
        return "ä" * 5

    @tool(max_result_bytes=9)
    async def long():
        return "ä" * 5

    whole, cut = answers(await play(caller("c", [short, long], [("short", {}), ("long", {})])))
    assert whole == "ä" * 5
    assert cut.startswith("ääää\n[cut here: 10 bytes in all")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values)
def test_json_stays_what_it_is(value: object) -> None:
    result, beside = as_result("t", value)
    assert beside == ()
    assert result == (clean_json(value, "it")[0] if isinstance(value, (dict, list)) else value)
