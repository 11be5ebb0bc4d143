"""An agent that thinks: what it says, in pieces and whole; what it costs; when its turn ends."""

from collections.abc import Callable

import anyio
import pytest

from agentflow import (
    Blob,
    ConfigError,
    InvalidEvent,
    LimitExceeded,
    Limits,
    LlmAgent,
    Model,
    ModelError,
    ModelResponse,
    ModelSettings,
    ParallelAgent,
    Refusal,
    Runner,
    SequentialAgent,
    Text,
    Thinking,
    TokenBudget,
    ToolCall,
    Usage,
    agent,
)
from agentflow.models.base import ServerTool
from agentflow.testing import FunctionModel, ScriptedModel
from tests.agents.thinking import asked, look
from tests.core.actors import play, read, says


async def test_it_answers_in_pieces_tied_to_the_whole_and_only_the_whole_is_stored() -> None:
    played = await play(LlmAgent("a", model=ScriptedModel((Thinking("hm"), "one two"))))
    spoken = [event for event in played.events if event.parts]
    assert [(event.partial, event.parts) for event in spoken] == [
        (True, (Thinking("hm"),)),
        (True, (Text("one "),)),
        (True, (Text("two"),)),
        (False, (Thinking("hm"), Text("one two"))),
    ]
    assert len({event.response_id for event in spoken}) == 1
    assert spoken[0].response_id
    assert len({event.id for event in spoken}) == 4
    assert [event.text for event in played.session.events if event.parts] == ["go", "one two"]
    assert played.run.result.text == "one two"


async def test_pieces_of_a_model_that_names_no_response_are_tied_all_the_same() -> None:
    class Nameless(Model):
        name = "nameless"

        async def generate(self, request, on_chunk=None):
            if on_chunk is not None:
                await on_chunk(ModelResponse(parts=[Text("he")], partial=True))
            return ModelResponse(parts=[Text("hello")])

    played = await play(SequentialAgent("s", [LlmAgent("a", model=Nameless()), LlmAgent("b", model=Nameless())]))
    ids = [event.response_id for event in played.events if event.parts]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert all(ids)
    assert played.run.result.usage.model_calls == 2, "a call is a call, whatever the model says of its price"


@pytest.mark.parametrize(
    ("own", "runs", "pieces"), [(None, True, 2), (None, False, 0), (True, False, 2), (False, True, 0)]
)
async def test_streaming_is_the_runs_affair_unless_the_agent_says_otherwise(own, runs, pieces) -> None:
    a = LlmAgent("a", model=ScriptedModel("one two"), stream=own)
    async with Runner(a) as runner, runner.run("go", stream=runs) as run:
        events = [event async for event in run]
    assert [event.partial for event in events].count(True) == pieces
    assert run.result.text == "one two"


async def test_the_answer_says_why_it_stopped_and_which_event_is_final() -> None:
    cut = ModelResponse(parts=[Text("it was a dark and")], finish_reason="max_tokens")
    played = await play(LlmAgent("a", model=ScriptedModel(("hm", ToolCall("1", "look")), cut), tools=[look]))
    stored = [event for event in played.events if event.parts and not event.partial]
    assert [event.finish_reason for event in stored] == ["tool_calls", None, "max_tokens"]
    assert [event.is_final for event in stored] == [False, False, True]
    assert not any(event.is_final for event in played.events if event.partial or event.lifecycle)


async def test_usage_is_charged_with_the_answer() -> None:
    answer = ModelResponse(parts=[Text("x")], usage=Usage(10, 5, cost=0.5, model_calls=1))
    team = SequentialAgent("s", [LlmAgent(name, model=ScriptedModel(answer)) for name in "ab"])
    played = await play(team)
    assert [event.usage.total_tokens for event in played.session.events if event.usage] == [15, 15]
    usage = played.run.result.usage
    assert (usage.total_tokens, usage.model_calls, usage.cost) == (30, 2, 1.0)


@pytest.mark.parametrize("limits", [Limits(model_calls=1), Limits(tokens=15), Limits(cost=0.5)])
async def test_no_call_is_bought_with_an_empty_purse(limits: Limits) -> None:
    answer = ModelResponse(parts=[Text("x")], usage=Usage(10, 5, cost=0.5, model_calls=1))
    second = ScriptedModel()
    team = SequentialAgent("s", [LlmAgent("a", model=ScriptedModel(answer)), LlmAgent("b", model=second)])
    with pytest.raises(LimitExceeded) as caught:
        await play(team, limits=limits)
    assert caught.value.agent == "s.b"
    assert caught.value.spent["tokens"] == 15
    assert second.requests == []


async def test_what_breaks_a_limit_is_stored_all_the_same() -> None:
    """It is paid for."""
    answer = ModelResponse(parts=[Text("x")], usage=Usage(10, 5, model_calls=1))
    async with Runner(LlmAgent("a", model=ScriptedModel(answer)), limits=Limits(tokens=14)) as runner:
        run = runner.run("go", session_id="s")
        with pytest.raises(LimitExceeded):
            await read(run)
        session = await runner.sessions.get(run.session)
    assert "x" in [event.text for event in session.events]


async def test_an_agent_without_a_model_has_that_of_the_nearest_agent_above() -> None:
    top, middle = ScriptedModel(ToolCall("1", "transfer_to_agent", {"agent_name": "b"})), ScriptedModel("mine")
    tree = LlmAgent("a", model=top, sub_agents=[LlmAgent("b", model=middle, sub_agents=[LlmAgent("c")])])
    assert (await play(tree)).run.result.text == "mine"
    heir = LlmAgent("root", model=ScriptedModel(ToolCall("1", "transfer_to_agent", {"agent_name": "x"}), "inherited"),
                    sub_agents=[LlmAgent("x")])  # fmt: skip
    assert (await play(heir)).run.result.text == "inherited"


async def test_an_agent_without_any_model_says_what_to_give_it() -> None:
    with pytest.raises(ConfigError, match=r"LlmAgent 'a' has no model.*model='claude-"):
        await play(SequentialAgent("s", [LlmAgent("a")]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: LlmAgent("a", model="claud-opus-5-5"),
            "LlmAgent 'a': .*'claud-opus-5-5'; did you mean 'claude-opus-5-5'",
        ),
        (lambda: LlmAgent("a", model=3), "a model is a Model or a name"),
        (lambda: LlmAgent("a", instruction=3), "instruction must be text or a function"),
        (lambda: LlmAgent("a", global_instruction=3), "global_instruction must be text"),
        (lambda: LlmAgent("a", tools="search"), "tools must be a list"),
        (lambda: LlmAgent("a", tools=[LlmAgent("b")]), r"agent 'b' is no tool; AgentTool\(b\) makes one of it"),
        (lambda: LlmAgent("a", tools=[3]), "LlmAgent 'a': a tool must be a function or a Tool, not 3"),
        (lambda: LlmAgent("a", tools=[asked, asked]), "two tools named 'asked'"),
        (lambda: LlmAgent("a", before_model=3), "before_model must be a function"),
        (lambda: LlmAgent("a", after_tool=[3]), "after_tool must be a function"),
        (lambda: LlmAgent("a", max_steps=0), "max_steps must be a whole number of at least 1"),
        (lambda: LlmAgent("a", max_tool_calls=True), "max_tool_calls must be a whole number"),
        (lambda: LlmAgent("a", output_retries=-1), "output_retries must be a whole number of at least 0"),
        (lambda: LlmAgent("a", include_contents="all"), "include_contents must be 'default' or 'none'"),
        (lambda: LlmAgent("a", history=0), "history must be a whole number of at least 1"),
        (lambda: LlmAgent("a", history="all"), "history must be a number of turns, a TokenBudget or a function"),
        (lambda: LlmAgent("a", history=TokenBudget(0)), "max_tokens must be a whole number"),
        (lambda: LlmAgent("a", settings={"max_tokens": 3}), "settings must be ModelSettings"),
        (lambda: LlmAgent("a", output_key=""), "output_key must be a key of state"),
        (lambda: LlmAgent("a", sub_agents=[LlmAgent("a")]), "two agents in one tree are named 'a'"),
        (lambda: LlmAgent("a").clone(modell="x"), "LlmAgent has no setting 'modell'"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_when_built(build: Callable[[], LlmAgent], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


async def test_a_clone_with_another_model_asks_that_one() -> None:
    one, two = ScriptedModel("one"), ScriptedModel("two")
    original = LlmAgent("a", model=one)
    assert (await play(original.clone(model=two))).run.result.text == "two"
    assert one.requests == []


async def test_a_model_that_only_thought_is_asked_again_but_not_for_ever() -> None:
    model = ScriptedModel(Thinking("hm"), "done")
    assert (await play(LlmAgent("a", model=model))).run.result.text == "done"
    assert asked(model)[-1][0] == "user"
    idle = ScriptedModel(Thinking("hm"), repeat=True)
    await play(LlmAgent("a", model=idle))
    assert len(idle.requests) == 3


async def test_a_long_turn_that_the_provider_interrupted_goes_on() -> None:
    model = ScriptedModel(ModelResponse(parts=[Text("first, ")], finish_reason="pause"), "then")
    played = await play(LlmAgent("a", model=model))
    assert played.texts == ["first, ", "then"]
    assert asked(model) == [("user", "go"), ("assistant", "first, ")]


async def test_an_empty_answer_ends_the_turn_and_is_charged() -> None:
    model = ScriptedModel(ModelResponse(parts=[]))
    played = await play(LlmAgent("a", model=model))
    assert played.run.result.text == ""
    assert played.run.result.usage.model_calls == 1


async def test_a_turn_has_as_many_steps_as_it_may() -> None:
    model = ScriptedModel(ToolCall("1", "look"), repeat=True)
    with pytest.raises(LimitExceeded, match="max_steps=3") as caught:
        await play(LlmAgent("a", model=model, tools=[look], max_steps=3))
    assert caught.value.limit == "max_steps"
    assert caught.value.agent == "a"
    assert len(model.requests) == 3


async def test_a_turn_has_as_many_tool_calls_as_it_may() -> None:
    model = ScriptedModel(
        [ToolCall("1", "look"), ToolCall("2", "look")], [ToolCall("3", "look"), ToolCall("4", "look")]
    )
    with pytest.raises(LimitExceeded, match="max_tool_calls=3") as caught:
        await play(LlmAgent("a", model=model, tools=[look], max_tool_calls=3))
    assert caught.value.spent == {"max_tool_calls": 2}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (ModelResponse(parts=[Text("No,")], refusal=Refusal("it is forbidden")), "refusal"),
        (ModelResponse(parts=[Text("No,")], finish_reason="refusal"), "refusal"),
        (ModelResponse(parts=[Text("No,")], finish_reason="context_window"), "context_window"),
    ],
)
async def test_a_refusal_is_an_error_that_was_paid_for_and_nobody_reads_it_again(
    answer: ModelResponse, kind: str
) -> None:
    model = ScriptedModel(answer, "fine")
    async with Runner(LlmAgent("a", model=model)) as runner:
        run = runner.run("go", session_id="s")
        with pytest.raises(ModelError) as caught:
            await read(run)
        assert caught.value.kind == kind
        assert not caught.value.retryable
        assert caught.value.agent == "a"
        assert run.usage.model_calls == 1
        async with runner.run("again", session_id="s") as run:
            await run.wait()
        session = await runner.sessions.get(run.session)
    assert [event.text for event in session.events if event.error] == ["No,"]
    assert asked(model) == [("user", "go"), ("user", "again")]


async def test_a_failing_model_fails_the_turn_by_name() -> None:
    with pytest.raises(ModelError, match="busy") as caught:
        await play(SequentialAgent("s", [LlmAgent("a", model=ScriptedModel(ModelError("busy", kind="overloaded")))]))
    assert caught.value.agent == "s.a"
    assert caught.value.retryable


async def test_retry_asks_again_where_that_may_help() -> None:
    model = ScriptedModel(ModelError("busy", kind="overloaded"), "now")
    played = await play(LlmAgent("a", model=model, retry=2))
    assert played.run.result.text == "now"
    assert asked(model) == [("user", "go")]
    with pytest.raises(ModelError, match="no key"):
        await play(LlmAgent("a", model=ScriptedModel(ModelError("no key", kind="auth")), retry=2))


async def test_what_goes_wrong_while_a_piece_is_shown_is_not_the_models_failure() -> None:
    def rescue(ctx, request, error):
        return "rescued"

    odd = FunctionModel(lambda request: stream_of(Text(3)))
    with pytest.raises(InvalidEvent):
        await play(LlmAgent("a", model=odd, on_model_error=rescue))


async def stream_of(*parts):
    for part in parts:
        yield part


async def test_settings_tools_and_who_asks_reach_the_model() -> None:
    model = ScriptedModel("x")
    search = ServerTool({"type": "web_search_20260318", "name": "web_search"})
    settings = ModelSettings(max_tokens=7, effort="low")
    await play(ParallelAgent("p", [LlmAgent("a", model=model, tools=[look, search], settings=settings)]))
    request = model.requests[0]
    assert request.settings == settings
    assert request.model == "scripted"
    assert request.tools[0].name == "look"
    assert request.tools[0].description == "Look."
    assert request.tools[1] is search
    assert (request.site.agent, request.site.path, request.site.branch) == ("a", "p.a", "p.a")


async def test_pictures_that_the_user_sends_reach_the_model() -> None:
    model = ScriptedModel("x")
    message = ["what is it?", Blob(b"png", "image/png")]
    async with Runner(LlmAgent("a", model=model)) as runner, runner.run(message) as run:
        await run.wait()
    assert model.requests[0].messages[0].parts == (Text("what is it?"), Blob(b"png", "image/png"))


async def test_a_cancelled_answer_is_not_stored_and_the_next_turn_goes_on() -> None:
    begun = anyio.Event()

    async def slow(request):
        yield "begun "
        begun.set()
        await anyio.sleep_forever()

    calls = iter([slow, lambda request: "fine"])
    model = FunctionModel(lambda request: next(calls)(request))
    async with Runner(LlmAgent("a", model=model)) as runner:
        async with runner.run("go", session_id="s") as run:
            async for event in run:
                if event.partial:
                    run.cancel("enough")
        assert run.result.status == "cancelled"
        async with runner.run("again", session_id="s") as run:
            await run.wait()
        session = await runner.sessions.get(run.session)
    assert [event.text for event in session.events if event.text] == ["go", "again", "fine"]


async def test_a_thousand_think_at_once() -> None:
    here = 0
    all_here = anyio.Event()

    async def meet(request):
        nonlocal here
        here += 1
        if here == 1000:
            all_here.set()
        await all_here.wait()
        return "met"

    model = FunctionModel(meet)
    crowd = ParallelAgent("p", [LlmAgent(f"a{n}", model=model) for n in range(1000)])
    played = await play(crowd, limits=Limits(model_calls=None))
    assert played.run.result.text.count("met") == 1000


async def test_a_custom_agent_runs_one_with_a_message_of_its_own() -> None:
    model = ScriptedModel("42")
    thinker = LlmAgent("thinker", model=model)

    @agent(sub_agents=[thinker])
    async def boss(ctx):
        outcome = await ctx.run(thinker, message="What is 6 x 7?")
        await ctx.emit(ctx.text(f"It is {outcome.text}."))

    played = await play(SequentialAgent("s", [says("other", "noise"), boss]))
    assert played.run.result.text == "It is 42."
    assert asked(model)[0] == ("user", "go")
    assert asked(model)[-1] == ("user", "What is 6 x 7?")
