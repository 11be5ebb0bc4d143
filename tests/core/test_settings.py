"""A setting of the wrong kind is refused when something is built, by its name."""

from collections.abc import Callable
from typing import Any

import pytest

import agentflow
from agentflow import (
    AgentTool,
    AnthropicModel,
    Capabilities,
    ConcurrencyLimiter,
    ConfigError,
    FanOutFanIn,
    FileSplitter,
    FunctionAgent,
    FunctionTool,
    GraphAgent,
    InvocationContext,
    LlmAgent,
    LoopAgent,
    MapReduceAgent,
    ModelSettings,
    OpenAIModel,
    ParallelAgent,
    ParallelExecutor,
    PreloadMemory,
    Price,
    Runner,
    ScatterGatherAgent,
    SectionSplitter,
    SentenceSplitter,
    SequentialAgent,
    SQLiteStore,
    Synthesis,
    TokenSplitter,
)


async def says_nothing(ctx: InvocationContext) -> None:
    pass


def nobody(name: str = "a") -> FunctionAgent:
    return FunctionAgent(name, says_nothing)


def look(word: str) -> str:
    """Look."""
    return word


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


def _with(make: Callable[..., object], *settings: str, good: tuple[object, ...] = ()) -> list[Any]:
    return [pytest.param(make, setting, good, id=f"{make.__name__}-{setting}") for setting in settings]


def a_llm(**given: Any) -> object:
    return LlmAgent("x", **given)


def a_loop(**given: Any) -> object:
    return LoopAgent("x", [nobody()], max_iterations=1, **given)


def a_sequence(**given: Any) -> object:
    return SequentialAgent("x", [nobody()], **given)


def a_parallel(**given: Any) -> object:
    return ParallelAgent("x", [nobody()], **given)


def a_function(**given: Any) -> object:
    return FunctionAgent("x", says_nothing, **given)


def a_scatter(**given: Any) -> object:
    return ScatterGatherAgent("x", [nobody()], **given)


def a_fan_out(**given: Any) -> object:
    return FanOutFanIn("x", [nobody()], **given)


def a_graph(**given: Any) -> object:
    return GraphAgent("x", [nobody()], **given)


def a_map_reduce(**given: Any) -> object:
    return MapReduceAgent("x", mapper=nobody(), reducer=nobody("b"), **given)


def a_synthesis(**given: Any) -> object:
    return a_scatter(aggregator=Synthesis(nobody("b"), **given))


def a_runner(**given: Any) -> object:
    return Runner(nobody(), **given)


def a_run(**given: Any) -> object:
    return Runner(nobody()).run("go", **given)


def a_tool(**given: Any) -> object:
    return FunctionTool(look, **given)


def an_agent_tool(**given: Any) -> object:
    return AgentTool(nobody(), **given)


def a_store(**given: Any) -> object:
    return SQLiteStore("never-made.db", **given)


def a_claude(**given: Any) -> object:
    return AnthropicModel("claude-opus-5-5", **given)


def a_gpt(**given: Any) -> object:
    return OpenAIModel("gpt", **given)


def a_limiter(**given: Any) -> object:
    return ConcurrencyLimiter(2, **given)


def an_executor(**given: Any) -> object:
    return ParallelExecutor(2, **given)


def by_tokens(**given: Any) -> object:
    return TokenSplitter(3, **given)


def by_sentences(**given: Any) -> object:
    return SentenceSplitter(3, **given)


def by_files(**given: Any) -> object:
    return FileSplitter(**{"folder": "texts", **given})


CASES = [
    *_with(a_function, "description"),
    *_with(a_sequence, "description"),
    *_with(a_loop, "description"),
    *_with(a_parallel, "description"),
    *_with(a_llm, "description", "transfer_to_parent", "transfer_to_peers"),
    *_with(a_llm, "stream", good=(None,)),
    *_with(a_scatter, "description", "show_branches", "early_stop"),
    *_with(a_fan_out, "show_branches"),
    *_with(a_graph, "show_branches", "outputs"),
    *_with(a_map_reduce, "request"),
    *_with(a_synthesis, "request"),
    *_with(a_runner, "time", "plugins", "teardown_timeout"),
    *_with(a_runner, "app_name", "new_id", "seed", "scheduler", good=(None,)),
    *_with(a_run, "stream"),
    *_with(a_tool, "sequential", "long_running", "require_confirmation", "max_result_bytes", "strict"),
    *_with(a_tool, "description", "extra", good=(None,)),
    *_with(an_agent_tool, "isolated", "skip_summarization"),
    *_with(an_agent_tool, "input_schema", good=(None,)),
    *_with(PreloadMemory, "limit"),
    *_with(Capabilities, "tools", "images", "thinking"),
    *_with(Capabilities, "max_input_tokens", good=(None,)),
    *_with(ModelSettings, "extra", "stop"),
    *_with(ModelSettings, "seed", "strict_tools", "show_thinking", "parallel_tool_calls", "thinking", good=(None,)),
    *_with(a_limiter, "adaptive"),
    *_with(an_executor, "retry", good=(None,)),
    *_with(a_claude, "betas"),
    *_with(a_claude, "settings", "retry", "limiter", "price", "capabilities", "api_key", "base_url", good=(None,)),
    *_with(a_gpt, "settings", "retry", "limiter", "price", "capabilities", "api_key", "base_url", good=(None,)),
    *_with(by_tokens, "count"),
    *_with(by_sentences, "count", "language"),
    *_with(SectionSplitter, "count", "language", "level"),
    *_with(by_files, "folder", "pattern", "encoding"),
    *_with(a_store, "time", "read_only", "lock_timeout", "commit_timeout"),
]


@pytest.mark.parametrize("value", [Odd(), None, -1.5], ids=["odd", "none", "number"])
@pytest.mark.parametrize(("make", "setting", "good"), CASES)
def test_what_cannot_be_a_setting_is_refused_by_name(
    make: Callable[..., object], setting: str, good: tuple[object, ...], value: object
) -> None:
    if value in good:
        make(**{setting: value})
        return
    with pytest.raises(ConfigError, match=rf"\b{setting}\b"):
        make(**{setting: value})


@pytest.mark.parametrize("value", ["yes", 1, 0, "no"])
def test_on_or_off_is_true_or_false_and_nothing_else(value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^LlmAgent 'x': stream must be True or False, not {value!r}$"):
        LlmAgent("x", stream=value)


@pytest.mark.parametrize("setting", ["output_schema", "input_schema"])
@pytest.mark.parametrize("value", ["Answer", 3, True, ["a"], {"type": "object"}])
def test_a_value_is_no_type_of_answers(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{setting} must be a type, like a pydantic model"):
        LlmAgent("x", **{setting: value})


def test_a_clone_is_held_to_the_same() -> None:
    with pytest.raises(ConfigError, match="stream must be True or False"):
        LlmAgent("x").clone(stream="yes")


@pytest.mark.parametrize("name", ["input", "output", "cache_read", "cache_write"])
def test_a_price_is_a_number(name: str) -> None:
    with pytest.raises(ConfigError, match="a Price is in dollars"):
        Price(**{"input": 1.0, "output": 1.0, name: float("nan")})


def test_a_key_that_is_no_text_is_not_shown() -> None:
    with pytest.raises(ConfigError, match=r"^AnthropicModel: api_key must be text, not bytes$"):
        AnthropicModel("claude-opus-5-5", api_key=b"sk-secret")  # type: ignore[arg-type]


def test_a_toolset_is_checked_too() -> None:
    class Set(agentflow.Toolset):
        async def get_tools(self, ctx: InvocationContext) -> list[Any]:
            return []

    for setting in ("only", "prefix", "require_confirmation"):
        with pytest.raises(ConfigError, match=setting):
            Set(**{setting: 3})
