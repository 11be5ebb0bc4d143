"""A run that asks something: on a terminal, and where nobody is there to answer."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from agentflow.cli._questions import read_answer
from agentflow.errors import AnswerRefused
from agentflow.questions import Question

ASKS = """
@agent
async def editor(ctx):
    name = await ctx.request_input("Whose is it?")
    if await ctx.request_input("Publish it?", schema=bool):
        await ctx.emit(ctx.text(f"Published for {name!r}."))
"""


def waits_for(result: Result) -> str:
    assert result.exit_code == 3, result.output
    found = re.search(r"--answer (\S+)=VALUE", result.stderr)
    assert found is not None
    return found[1]


def test_where_nobody_can_be_asked_the_run_pauses_and_answers_let_it_go_on(
    call: Callable[..., Result], agent_file: Callable[..., Path]
) -> None:
    file = agent_file(ASKS)
    paused = call("run", file, "go")
    first = waits_for(paused)
    assert paused.stdout.splitlines()[0] == "editor: asks: Whose is it?"
    assert "editor asks: Whose is it?" in paused.stderr
    found = re.search(r"--session (\S+)", paused.stderr)
    assert found is not None
    second = waits_for(call("run", file, "--session", found[1], "--answer", f"{first}=Ada, or = so"))
    assert second != first
    refused = call("run", file, "--continue", "--answer", f"{second}=perhaps")
    assert refused.exit_code == 2
    assert "must fit" in refused.stderr
    assert refused.stdout == ""
    done = call("run", file, "--continue", "--json", "--answer", f"{second}=yes")
    assert done.exit_code == 0
    texts = [
        part["text"]
        for line in done.stdout.splitlines()
        for part in json.loads(line).get("parts", ())
        if "text" in part
    ]
    assert texts == ["Published for 'Ada, or = so'."]
    again = call("run", file, "--continue", "--answer", f"{second}=yes")
    assert again.exit_code == 2


def test_a_tool_that_waits_for_leave_is_told_in_plain_words(
    call: Callable[..., Result], agent_file: Callable[..., Path]
) -> None:
    file = agent_file("""
        from agentflow.testing import FunctionModel

        def pay(amount: int) -> str:
            return f"{amount} paid"

        def answer(request):
            return "Done." if len(request.messages) > 1 else ToolCall("1", "pay", {"amount": 5})

        pays = FunctionTool(pay, require_confirmation=True)
        clerk = LlmAgent("clerk", model=FunctionModel(answer), tools=[pays])
    """)
    paused = call("run", file, "Pay.")
    assert paused.stdout.splitlines()[:3] == [
        'clerk: calls pay({"amount": 5})',
        "clerk: pay waits for an answer",
        "clerk: asks: Please approve or reject the call of tool 'pay'.",
    ]
    assert call("run", file, "--continue", "--answer", f"{waits_for(paused)}=yes").exit_code == 0
    told = call("show").stdout.splitlines()
    assert 'user: answers {"confirmed": true}' in told
    assert "clerk: pay answered: 5 paid" in told


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--answer", "x=1"), "name its session"),
        (("--continue", "--answer", "x"), "ID=VALUE"),
        (("--continue", "--answer", "=x"), "ID=VALUE"),
        (("--continue", "--answer", "x=1", "--answer", "x=2"), "answered twice"),
        (("--session", "none", "--answer", "x=1"), "nobody asked 'x'"),
    ],
)
def test_answers_that_cannot_be_are_refused(
    call: Callable[..., Result], agent_file: Callable[..., Path], args: tuple[str, ...], told: str
) -> None:
    result = call("run", agent_file(ASKS), *args)
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize("kept", [(), ("--in-memory",)], ids=["kept", "in memory"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_on_a_terminal_it_asks_and_goes_on(
    terminal: Callable[..., Any], agent_file: Callable[..., Path], backend: str, kept: tuple[str, ...]
) -> None:
    here = terminal("run", agent_file(ASKS), "go", "--backend", backend, *kept)
    here.wait_for(r"editor asks: Whose is it\?\s+Answer: ")
    here.press(b"Ada\n")
    here.wait_for(r"editor asks: Publish it\?\s+Answer \(y/n\): ")
    here.press(b"perhaps\n")
    here.wait_for(r"must fit[^$]*Answer \(y/n\): ")
    here.press(b"y\n")
    assert here.finish() == 0
    assert "Published for 'Ada'." in here.plain


@pytest.mark.parametrize("keys", [b"\x03", b"\x04"], ids=["Ctrl-C", "end of input"])
def test_who_does_not_answer_is_told_how_to_do_it_later(
    terminal: Callable[..., Any], agent_file: Callable[..., Path], keys: bytes
) -> None:
    here = terminal("run", agent_file(ASKS), "go", size=(24, 200))
    here.wait_for("Answer: ")
    for _ in range(5):
        here.press(keys)  # a signal that comes before Python waits for input is noticed at the next key only
        if here.ends_within(5):
            break
    assert here.finish() == 3
    assert re.search(r"--answer \S+=VALUE\s.*--session \S+ --answer", here.plain, re.DOTALL)


@pytest.mark.parametrize(
    ("schema", "text", "meaning"),
    [
        (None, "Ada", "Ada"),
        (None, '{"a": [1]}', {"a": [1]}),
        ({"type": "string"}, "42", "42"),
        ({"type": "integer"}, "42", 42),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "No", False),
        ({"enum": ["yes", "no"]}, "yes", "yes"),
        ({"type": "string"}, "", ""),
    ],
)
def test_a_text_means_what_fits_the_question(schema: dict[str, Any] | None, text: str, meaning: object) -> None:
    assert read_answer(Question(kind="input", message="?", id="q", schema=schema), text) == meaning


def test_a_text_that_means_nothing_that_fits_is_refused() -> None:
    with pytest.raises(AnswerRefused, match="must fit"):
        read_answer(Question(kind="input", message="?", id="q", schema={"type": "integer"}), "many")
