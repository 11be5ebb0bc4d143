"""What is given in the wrong shape is refused in words, before anything is stored; what is right is shown briefly."""

import pytest

from agentflow import Actions, ConfigError, Event, LlmAgent, Plugin, Runner, SequentialAgent, Text
from tests.core.actors import says


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limits": {"seconds": 3}}, "limits must be Limits"),
        ({"state": [1]}, "state is values by their keys"),
        ({"state": "abc"}, "state is values by their keys"),
        ({"message": {"x": 1}}, r"any other value as Data\(value\)"),
    ],
)
async def test_a_run_is_refused(options: dict, words: str) -> None:
    async with Runner(says("a")) as runner:
        with pytest.raises(ConfigError, match=words):
            runner.run(**({"message": "go", "session_id": "s"} | options))
        assert await runner.sessions.list() == []


def test_a_runner_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"plugins=\[Plugin"):
        Runner(says("a"), plugins=Plugin())
    with pytest.raises(ConfigError, match="limits must be Limits"):
        Runner(says("a"), limits={"seconds": 3})


def test_a_class_is_no_agent() -> None:
    with pytest.raises(ConfigError, match="the class LlmAgent, not an agent made of it"):
        SequentialAgent("s", [LlmAgent])


def test_what_is_printed_leaves_out_what_says_nothing() -> None:
    event = Event(author="a", parts="hi", actions=Actions(escalate=True))
    assert repr(event) == "Event(author='a', parts=(Text(text='hi'),), actions=Actions(escalate=True))"
    assert repr(Text("")) == "Text(text='')"
