"""Agents on the command line that think: Claude where there is a key, a model by its name, else a friendly word."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from click.testing import Result

from agentflow.testing import FakeAnthropic

Call = Callable[..., Result]
Write = Callable[..., Path]
Piped = Callable[..., subprocess.CompletedProcess[bytes]]

THINKERS = """
from agentflow import LlmAgent

def view(name):
    return LlmAgent(name, instruction=f"Be {name}.")

panel = SequentialAgent("panel", [ParallelAgent("views", [view("kind"), view("strict")]), view("brief")])
"""


@pytest.fixture
def claude() -> Iterator[tuple[FakeAnthropic, dict[str, str]]]:
    """A Claude on this machine that always says the same, and the environment in which it is found."""
    fake = FakeAnthropic("It is a fine thing.", repeat=True)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(fake.serve()) as url:
        yield fake, {"ANTHROPIC_API_KEY": "sk-none", "ANTHROPIC_BASE_URL": url}


def test_where_there_is_a_key_claude_thinks(
    piped: Piped, agent_file: Write, claude: tuple[FakeAnthropic, dict[str, str]]
) -> None:
    fake, env = claude
    result = piped("run", agent_file(THINKERS), "What of tea?", **env)
    assert result.returncode == 0, result.stderr
    assert b"views.kind: It is a fine thing." in result.stdout
    assert b"brief: It is a fine thing." in result.stdout
    assert {request.body["model"] for request in fake.requests} == {"claude-opus-5-5"}
    assert len(fake.requests) == 3


def test_another_model_by_its_name(
    piped: Piped, agent_file: Write, claude: tuple[FakeAnthropic, dict[str, str]]
) -> None:
    fake, env = claude
    piped("run", agent_file(THINKERS), "What of tea?", "--model", "claude-haiku-5-5", **env)
    assert {request.body["model"] for request in fake.requests} == {"claude-haiku-5-5"}


def test_the_words_are_shown_as_they_come(
    terminal: Callable, agent_file: Write, claude: tuple[FakeAnthropic, dict[str, str]]
) -> None:
    _, env = claude
    shown = terminal("run", agent_file(THINKERS), "What of tea?", **env)
    shown.wait_for("brief: It is a fine thing.")
    assert shown.finish() == 0


def test_the_demo_is_read_by_claude(piped: Piped, tmp_path: Path, claude: tuple[FakeAnthropic, dict[str, str]]) -> None:
    fake, env = claude
    (tmp_path / "tale.md").write_text("# One\n\nMary sings.\n\n# Two\n\nTom weeps.\n", encoding="utf-8")
    result = piped("demo", "tale.md", **env)
    assert result.returncode == 0, result.stderr
    assert b"claude-haiku-5-5 reads: four calls for each section, and one." in result.stderr
    assert b"synthesis: It is a fine thing." in result.stdout
    assert len(fake.requests) == 9
    read = [request.body["messages"][-1]["content"][0]["text"] for request in fake.requests]
    assert sum("Mary sings." in text for text in read) == 4
    last = fake.requests[-1].body
    assert "Write one report" in str(last["system"])
    assert read[-1].count("It is a fine thing.") == 8
    assert "## Section 2: Two" in read[-1]


def test_the_demo_can_be_kept_local(piped: Piped, tmp_path: Path, claude: tuple[FakeAnthropic, dict[str, str]]) -> None:
    fake, env = claude
    (tmp_path / "tale.md").write_text("# One\n\nMary sings.\n", encoding="utf-8")
    assert piped("demo", "tale.md", "--model", "none", **env).returncode == 0
    assert fake.requests == []


def test_without_a_key_a_friendly_word_and_nothing_is_run(call: Call, agent_file: Write) -> None:
    result = call("run", agent_file(THINKERS), "What of tea?")
    assert (result.exit_code, result.stdout) == (2, "")
    said = "Error: agent 'kind' has no model: set ANTHROPIC_API_KEY and Claude thinks, or name one with --model\n"
    assert result.stderr == said


def test_an_agent_that_names_claude_needs_the_key_too(call: Call, agent_file: Write) -> None:
    source = """
from agentflow import LlmAgent
agent = LlmAgent("a", model="claude-opus-5-5")
"""
    result = call("run", agent_file(source), "hi")
    assert result.exit_code == 1
    assert "set the environment variable ANTHROPIC_API_KEY" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_misspelt_model_is_named(call: Call, agent_file: Write) -> None:
    result = call("run", agent_file(THINKERS), "hi", "--model", "claud-opus-5-5")
    assert result.exit_code == 2
    assert (
        "--model: no provider is known for the model 'claud-opus-5-5'; did you mean 'claude-opus-5-5'?" in result.stderr
    )
