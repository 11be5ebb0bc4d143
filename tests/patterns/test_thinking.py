"""Patterns of agents that think: what their models read, what they cost, and people who are asked in a branch."""

from dataclasses import dataclass

import pytest

from agentflow import (
    CompetitionAgent,
    CompetitionResult,
    DecompositionAgent,
    DecompositionResult,
    InMemorySessionService,
    InvocationContext,
    Judge,
    LlmAgent,
    Runner,
    ScatterGatherAgent,
    ScatterGatherResult,
    SequentialAgent,
    Subtask,
    Synthesis,
    Voting,
    agent,
)
from agentflow.testing import FunctionModel, ScriptedModel
from tests.core.actors import play
from tests.patterns.answering import answers


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Models look up prices in a thread, which a clock that jumps doesn't wait for."""
    return request.param


def read(request) -> str:
    """All that a model was asked to read."""
    return "\n".join(part.text for message in request.messages for part in message.parts)


async def test_a_model_that_is_asked_many_times_votes() -> None:
    model = ScriptedModel("It is 42.\nAnswer: 42", "Answer: 41", "Answer: 42", repeat=True)
    solver = LlmAgent("solver", model=model, instruction="End with `Answer: NUMBER`.")
    vote = ScatterGatherAgent("vote", solver, n=6, wave=3, aggregator=Voting(), early_stop=False)
    played = await play(vote, "What is 6 x 7?")
    result = ScatterGatherResult.of(played.run.result)
    assert (result.answer, result.metrics.agreement) == ("42", 4 / 6)
    assert result.metrics.model_calls == len(model.requests) == 6
    assert result.metrics.tokens == played.run.usage.total_tokens
    assert all(read(request) == "What is 6 x 7?" for request in model.requests)


async def test_a_synthesis_reads_every_answer_once_and_what_follows_only_its_own() -> None:
    writer, closer = ScriptedModel("Both, in moderation."), ScriptedModel("Bye.")
    panel = ScatterGatherAgent(
        "panel",
        [LlmAgent(name, model=ScriptedModel(f"{name} says tea")) for name in ("ann", "bob")],
        aggregator=Synthesis(LlmAgent("writer", model=writer)),
    )
    await play(SequentialAgent("s", [panel, LlmAgent("closer", model=closer)]), "Tea or coffee?")
    (request,) = writer.requests
    assert read(request).count("ann says tea") == 1
    assert read(request).count("bob says tea") == 1
    (request,) = closer.requests
    assert "Both, in moderation." in read(request)
    assert "metrics" not in read(request)


async def test_a_judge_with_a_schema() -> None:
    @dataclass
    class Verdict:
        winner: str
        reason: str

    critic = LlmAgent("critic", model=ScriptedModel('{"winner": "b", "reason": "shorter"}'), output_schema=Verdict)
    contest = CompetitionAgent("c", [answers("a", "a long poem"), answers("b", "haiku")], judge=critic)
    result = CompetitionResult.of((await play(contest)).run.result)
    assert (result.winner, result.reason) == ("b", "shorter")


async def test_a_judge_whose_json_is_broken_is_asked_again() -> None:
    model = ScriptedModel('{"winner": "b"', '```json\n{"winner": "b"}\n```')
    contest = ScatterGatherAgent(
        "c", [answers("a", "x"), answers("b", "y")], aggregator=Judge(LlmAgent("critic", model=model))
    )
    assert ScatterGatherResult.of((await play(contest)).run.result).winner == "b"
    assert "couldn't be used" in read(model.requests[1])


async def test_a_decomposition_by_models() -> None:
    parts = '[{"task": "the past", "specialist": "ann"}, {"task": "the money", "specialist": "bob"}]'
    planner = LlmAgent("planner", model=ScriptedModel(f'{{"result": {parts}}}'), output_schema=list[Subtask])
    workers = [
        LlmAgent(name, model=FunctionModel(lambda request: f"done: {read(request).splitlines()[-1]}"), description=name)
        for name in ("ann", "bob")
    ]
    plan = DecompositionAgent("plan", decomposer=planner, specialists=workers)
    result = DecompositionResult.of((await play(plan, "Report on tea")).run.result)
    assert result.outputs == {"ann": "done: the past", "bob": "done: the money"}


async def test_a_branch_that_asks_a_person_pauses_the_vote_and_the_others_are_not_asked_again() -> None:
    asked = 0

    @agent
    async def machine(ctx: InvocationContext) -> None:
        nonlocal asked
        asked += 1
        await ctx.emit(ctx.text("yes"))

    @agent
    async def person(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(str(await ctx.request_input("Shall we?"))))

    panel = ScatterGatherAgent("panel", [machine, person], aggregator=Voting(), early_stop=False)
    sessions = InMemorySessionService()
    async with Runner(panel, sessions=sessions) as runner:
        async with runner.run("Ship it?", session_id="s") as run:
            paused = await run.wait()
        (question,) = paused.pending
        async with runner.run(session_id="s", answers={question.id: "yes"}) as run:
            result = await run.wait()
    found = ScatterGatherResult.of(result)
    assert (found.answer, found.metrics.agreement, asked) == ("yes", 1.0, 1)
    assert [branch.status for branch in found.branches] == ["ok", "ok"]


async def test_a_judge_may_be_a_person_and_the_competitors_are_not_asked_again() -> None:
    asked = 0

    @agent
    async def poet(ctx: InvocationContext) -> None:
        nonlocal asked
        asked += 1
        await ctx.emit(ctx.text(f"poem {asked}"))

    @agent
    async def person(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(str(await ctx.request_input("Which poem?"))))

    contest = CompetitionAgent("contest", poet, n=3, judge=person)
    sessions = InMemorySessionService()
    async with Runner(contest, sessions=sessions) as runner:
        async with runner.run("Write a haiku", session_id="s") as run:
            paused = await run.wait()
        (question,) = paused.pending
        async with runner.run(session_id="s", answers={question.id: "poet#2"}) as run:
            found = CompetitionResult.of(await run.wait())
    assert (found.winner, asked) == ("poet#2", 3)
