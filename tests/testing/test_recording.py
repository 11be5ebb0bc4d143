"""What a real model said is written down once, without secrets, and played back."""

import json
from pathlib import Path

import anyio
import pytest

from agentflow import ConfigError, Message, ModelError, ModelRequest, ModelResponse, Text, ToolCall, ToolSpec, Usage
from agentflow.testing import FunctionModel, RecordingModel, ReplayModel, ScriptedModel, UnexpectedCall

SECRET = "sk-ant-api03-abcdefgh_12345678"


def ask(text: str, system: str = "Be kind.") -> ModelRequest:
    return ModelRequest(messages=[Message("user", (Text(text),))], system=system, tools=[ToolSpec("clock")])


class Pieces:
    def __init__(self) -> None:
        self.all: list[ModelResponse] = []

    async def __call__(self, piece: ModelResponse) -> None:
        self.all.append(piece)


async def test_it_says_the_same_again_pieces_and_all(tmp_path: Path) -> None:
    answer = ModelResponse(
        parts=(Text("Hello there"), ToolCall("c", "clock", {"zone": "UTC"})), finish_reason="tool_calls",
        usage=Usage(5, 2, model_calls=1, cost=0.5, extra={"attempts": 2}), details={"stop_sequence": "x"},
    )  # fmt: skip
    first, again = Pieces(), Pieces()
    async with RecordingModel(tmp_path / "talk.jsonl", ScriptedModel(answer, "Bye")) as recording:
        said = [await recording.call(ask("hi"), first), await recording.call(ask("bye"))]
    replay = ReplayModel(tmp_path / "talk.jsonl")
    assert [await replay.call(ask("hi"), again), await replay.call(ask("bye"))] == said
    assert again.all == first.all
    assert "".join(piece.text for piece in again.all) == "Hello there"
    replay.check()


async def test_the_order_in_which_branches_ask_does_not_matter(tmp_path: Path) -> None:
    model = FunctionModel(lambda request: request.messages[0].text.upper())
    recording = RecordingModel(tmp_path / "talk.jsonl", model)
    for text in "abc":
        await recording.call(ask(text))
    replay = ReplayModel(tmp_path / "talk.jsonl")
    answers: dict[str, str] = {}

    async def one(text: str) -> None:
        answers[text] = (await replay.call(ask(text))).text

    async with anyio.create_task_group() as tasks:
        for text in "cba":
            tasks.start_soon(one, text)
    assert answers == {"a": "A", "b": "B", "c": "C"}
    replay.check()


async def test_the_same_question_gets_its_answers_in_turn(tmp_path: Path) -> None:
    recording = RecordingModel(tmp_path / "talk.jsonl", ScriptedModel("one", "two"))
    for _ in range(2):
        await recording.call(ask("again"))
    replay = ReplayModel(tmp_path / "talk.jsonl")
    assert [(await replay.call(ask("again"))).text for _ in range(2)] == ["one", "two"]
    with pytest.raises(UnexpectedCall, match="more often than it was recorded"):
        await replay.call(ask("again"))


async def test_failures_are_played_back_too(tmp_path: Path) -> None:
    recording = RecordingModel(
        tmp_path / "talk.jsonl", ScriptedModel(ModelError("busy", kind="overloaded", status=529))
    )
    with pytest.raises(ModelError, match="busy"):
        await recording.call(ask("hi"))
    with pytest.raises(ModelError, match="busy") as caught:
        await ReplayModel(tmp_path / "talk.jsonl").call(ask("hi"))
    assert (caught.value.kind, caught.value.status, caught.value.retryable) == ("overloaded", 529, True)


async def test_secrets_are_not_written_and_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    model = ScriptedModel(f"your key is {SECRET}, your name is Ada")
    await RecordingModel(path, model, redact=[r"Ada"]).call(ask(f"key {SECRET}", "Authorization: Bearer abcdefgh1234"))
    written = path.read_text(encoding="utf-8")
    assert all(secret not in written for secret in (SECRET, "Ada", "abcdefgh1234"))
    other = ask("key sk-ant-api03-another_key_99", "Authorization: Bearer zyxwvuts9876")
    answer = await ReplayModel(path, redact=[r"Ada"]).call(other)
    assert answer.text == "your key is [redacted], your name is [redacted]"


async def test_what_was_not_recorded_is_told_from_what_was(tmp_path: Path) -> None:
    await RecordingModel(tmp_path / "talk.jsonl", ScriptedModel("ok")).call(ask("hi"))
    replay = ReplayModel(tmp_path / "talk.jsonl")
    with pytest.raises(UnexpectedCall, match=r"message 0 was .*'hi'.*, now it is .*'ho'"):
        await replay.call(ask("ho"))
    with pytest.raises(UnexpectedCall, match="what differs: system"):
        await replay.call(ask("hi", "Be strict."))
    with pytest.raises(UnexpectedCall, match="1 recorded calls were not made"):
        replay.check()


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recording"):
        ReplayModel(tmp_path / "missing.jsonl")
    (tmp_path / "other.jsonl").write_text(json.dumps({"x": 1}), encoding="utf-8")
    with pytest.raises(ConfigError, match="no recording"):
        ReplayModel(tmp_path / "other.jsonl")
    with pytest.raises(ConfigError, match="redact"):
        RecordingModel(tmp_path / "x", ScriptedModel(), redact=["("])
