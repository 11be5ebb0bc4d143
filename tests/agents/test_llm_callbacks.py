"""Who steps in around a model: plugins first, then the agent's own callbacks; adk-go's order (2.11)."""

from collections.abc import Callable

import pytest

from agentflow import (
    InvalidEvent,
    InvocationContext,
    LlmAgent,
    Message,
    ModelError,
    ModelRequest,
    ModelResponse,
    Plugin,
    PluginError,
    Runner,
    Text,
    ToolCall,
    Usage,
)
from agentflow.testing import ScriptedModel
from tests.agents.thinking import asked, look
from tests.core.actors import play, read


def noting(log: list[str], word: str, reply: object = None) -> Callable[..., object]:
    """A callback that notes that it was called, and what it says."""

    def callback(ctx: InvocationContext, *args: object) -> object:
        partial = any(isinstance(arg, ModelResponse) and arg.partial for arg in args)
        log.append(f"{word}{' partial' if partial else ''}")
        return reply

    return callback


class Watcher(Plugin):
    """Notes its model hooks; `says` is what the one of that name returns."""

    def __init__(self, log: list[str], **says: object) -> None:
        self.log = log
        self.says = says

    async def before_model(self, ctx, request):
        return noting(self.log, "plugin before", self.says.get("before"))(ctx, request)

    async def after_model(self, ctx, response):
        return noting(self.log, "plugin after", self.says.get("after"))(ctx, response)

    async def on_model_error(self, ctx, request, error):
        return noting(self.log, "plugin error", self.says.get("error"))(ctx, request, error)


def watched(log: list[str], *script: object, **settings: object) -> LlmAgent:
    return LlmAgent(
        "a",
        model=ScriptedModel(*script),
        before_model=[noting(log, "before 1"), noting(log, "before 2")],
        after_model=[noting(log, "after 1"), noting(log, "after 2")],
        on_model_error=noting(log, "error"),
        **settings,
    )


async def test_plugins_come_first_then_the_agents_own_in_order_for_pieces_too() -> None:
    log: list[str] = []
    await play(watched(log, "one two"), plugins=[Watcher(log)])
    piece = ["plugin after partial", "after 1 partial", "after 2 partial"]
    assert log == ["plugin before", "before 1", "before 2", *piece, *piece, "plugin after", "after 1", "after 2"]


async def test_without_streaming_only_the_answer_passes() -> None:
    log: list[str] = []
    await play(watched(log, "one two", stream=False))
    assert log == ["before 1", "before 2", "after 1", "after 2"]


@pytest.mark.parametrize("reply", ["cached", ModelResponse(parts=[Text("cached")])])
async def test_what_comes_before_can_answer_instead_and_nothing_else_is_called(reply: object) -> None:
    log: list[str] = []
    model = ScriptedModel()
    agent = LlmAgent("a", model=model, before_model=[noting(log, "1"), noting(log, "2", reply), noting(log, "3")],
                     after_model=noting(log, "after"))  # fmt: skip
    played = await play(agent)
    assert played.run.result.text == "cached"
    assert log == ["1", "2"]
    assert model.requests == []
    assert played.run.result.usage.model_calls == 0


async def test_a_plugin_that_answers_leaves_nothing_to_the_agent() -> None:
    log: list[str] = []
    played = await play(watched(log), plugins=[Watcher(log, before=ModelResponse(parts=[Text("from the plugin")]))])
    assert log == ["plugin before"]
    assert played.run.result.text == "from the plugin"


async def test_a_request_can_be_changed_before_it_is_sent_without_changing_the_history() -> None:
    def change(ctx: InvocationContext, request: ModelRequest) -> None:
        request.messages.append(Message("user", (Text("And be brief."),)))
        request.system += "\n\nBe brief."

    model = ScriptedModel(ToolCall("1", "look"), "x")
    await play(LlmAgent("a", model=model, tools=[look], before_model=change))
    assert [len(request.messages) for request in model.requests] == [2, 4]
    assert [words for _, words in asked(model)].count("And be brief.") == 1
    assert model.requests[1].system.endswith("Be brief.")


async def test_an_answer_can_be_replaced_and_what_was_paid_stays_paid() -> None:
    def shout(ctx: InvocationContext, response: ModelResponse) -> ModelResponse | None:
        return None if response.partial else ModelResponse(parts=[Text(response.text.upper())])

    model = ScriptedModel(ModelResponse(parts=[Text("hello")], usage=Usage(3, 2, model_calls=1)))
    played = await play(LlmAgent("a", model=model, after_model=shout))
    events = [event for event in played.events if event.parts]
    assert [event.text for event in events] == ["hello", "HELLO"]
    assert events[0].response_id == events[1].response_id
    assert played.run.result.usage.total_tokens == 5


async def test_pieces_can_be_replaced_or_emptied() -> None:
    def censor(ctx: InvocationContext, response: ModelResponse) -> ModelResponse | None:
        return ModelResponse(parts=[]) if response.partial and "two" in response.text else None

    played = await play(LlmAgent("a", model=ScriptedModel("one two three"), after_model=censor))
    assert [event.text for event in played.events if event.partial] == ["one ", "three"]


@pytest.mark.parametrize("reply", ["sorry", ModelResponse(parts=[Text("sorry")])])
async def test_a_failure_can_be_answered_and_the_answer_is_reviewed(reply: object) -> None:
    log: list[str] = []
    agent = LlmAgent(
        "a",
        model=ScriptedModel(ModelError("busy", kind="overloaded")),
        after_model=noting(log, "after"),
        on_model_error=[noting(log, "error 1"), noting(log, "error 2", reply), noting(log, "error 3")],
    )
    played = await play(agent, plugins=[Watcher(log)])
    assert log == ["plugin before", "plugin error", "error 1", "error 2", "plugin after", "after"]
    assert played.run.result.text == "sorry"


async def test_a_failure_that_nobody_answers_is_raised_and_not_reviewed() -> None:
    log: list[str] = []
    with pytest.raises(ModelError, match="busy"):
        await play(watched(log, ModelError("busy", kind="overloaded")), plugins=[Watcher(log)])
    assert log == ["plugin before", "before 1", "before 2", "plugin error", "error"]


async def test_a_failure_can_be_replaced_by_another() -> None:
    def worse(ctx: InvocationContext, request: ModelRequest, error: Exception) -> None:
        raise ValueError(f"worse than {error}") from error

    with pytest.raises(ValueError, match="worse than busy"):
        await play(LlmAgent("a", model=ScriptedModel(ModelError("busy")), on_model_error=worse))


async def test_async_callbacks_are_awaited() -> None:
    async def answer(ctx: InvocationContext, request: ModelRequest) -> str:
        return "slowly"

    assert (await play(LlmAgent("a", model=ScriptedModel(), before_model=answer))).run.result.text == "slowly"


@pytest.mark.parametrize("hook", ["before_model", "after_model", "on_model_error"])
async def test_a_callback_that_fails_or_returns_something_else_is_named(hook: str) -> None:
    model = ScriptedModel(ModelError("busy") if hook == "on_model_error" else "x")

    def fail(ctx: InvocationContext, *args: object) -> None:
        raise KeyError("oops")

    with pytest.raises(KeyError, match="oops") as caught:
        await play(LlmAgent("a", model=model, **{hook: fail}))
    assert "in agent 'a'" in caught.value.__notes__[0]
    model = ScriptedModel(ModelError("busy") if hook == "on_model_error" else "x")
    with pytest.raises(InvalidEvent, match=f"{hook} of agent 'a' must return text, a ModelResponse or None, not int"):
        await play(LlmAgent("a", model=model, **{hook: lambda ctx, *args: 3}))


async def test_a_plugin_that_fails_is_named() -> None:
    class Broken(Plugin):
        async def before_model(self, ctx, request):
            raise KeyError("oops")

    with pytest.raises(PluginError, match="'Broken' failed in before_model") as caught:
        await play(LlmAgent("a", model=ScriptedModel()), plugins=[Broken()])
    assert caught.value.agent == "a"


async def test_state_and_artifacts_that_callbacks_write_are_kept() -> None:
    """adk-go drops the artifacts."""

    async def note(ctx: InvocationContext, *args: object) -> None:
        ctx.state[f"note {len(args)}"] = True
        await ctx.save_artifact("note.txt", "x")

    played = await play(LlmAgent("a", model=ScriptedModel("x"), before_model=note, stream=False))
    assert played.session.state == {"note 1": True}
    assert [event.actions.artifact_delta for event in played.session.events if event.actions] == [{"note.txt": 1}]


async def test_a_refusal_can_be_answered_by_a_callback() -> None:
    refused = ModelResponse(parts=[], finish_reason="refusal", usage=Usage(3, 1, model_calls=1))
    played = await play(
        LlmAgent("a", model=ScriptedModel(refused), on_model_error=lambda *args: "Ask me something else.")
    )
    assert played.run.result.text == "Ask me something else."
    assert played.run.result.usage.total_tokens == 4


@pytest.mark.parametrize("hook", ["after_model", "on_model_error"])
async def test_what_was_paid_is_stored_though_a_callback_fails(hook: str) -> None:
    def fail(ctx: InvocationContext, *args: object) -> None:
        raise KeyError("oops")

    reason = "refusal" if hook == "on_model_error" else "stop"
    answer = ModelResponse(parts=[Text("x")], finish_reason=reason, usage=Usage(3, 2, model_calls=1))
    async with Runner(LlmAgent("a", model=ScriptedModel(answer), **{hook: fail}, stream=False)) as runner:
        run = runner.run("go", session_id="s")
        with pytest.raises(KeyError):
            await read(run)
        assert run.usage.total_tokens == 5
        session = await runner.sessions.get(run.session)
    assert session is not None
    (event,) = [event for event in session.events if event.usage is not None]
    assert (event.parts, event.error.type) == ((), "KeyError")
