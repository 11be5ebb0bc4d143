"""Tasks that are broken down while they run."""

import pytest

from agentflow import (
    ConfigError,
    DecompositionAgent,
    DecompositionResult,
    InvalidAnswer,
    InvocationContext,
    LimitExceeded,
    Subtask,
    TooFewAnswers,
    Weighted,
    agent,
)
from tests.core.actors import play
from tests.patterns.answering import Hangs, answers, decomposed, echoes, script


def parts(*tasks: object) -> object:
    return lambda task: list(tasks)


def does(name: str, **options: object) -> object:
    return echoes(name, reply=lambda told: f"{name}: {told}", **options)


async def test_specialists_do_the_parts_and_one_answer_comes_of_them() -> None:
    heard: list[str] = []
    tasks = {"historian": "Tell its history", "economist": "Count the money"}
    planner = echoes("planner", heard, [{"task": task, "specialist": name} for name, task in tasks.items()])
    written: list[str] = []
    writer = echoes("writer", written, "The whole report")
    plan = DecompositionAgent(
        "plan",
        decomposer=planner,
        specialists=[does("historian", description="Knows the past."), does("economist")],
        aggregator=writer,
    )
    played = await play(plan, "Report on tea")
    result = DecompositionResult.of(played.run.result)
    assert (result.answer, result.strategy) == ("The whole report", "synthesis")
    assert (result.depth, result.total_subtasks) == (1, 2)
    assert result.outputs == {"historian": "historian: Tell its history", "economist": "economist: Count the money"}
    assert [subtask.task for subtask in result.subtasks] == ["Tell its history", "Count the money"]
    for words in ("Report on tea", "- historian: Knows the past.", "- economist\n"):
        assert words in heard[0]
    for words in ("Report on tea", "historian: Tell its history", "economist: Count the money"):
        assert words in written[0]
    assert len(played.records("synthesis_start")) == len(played.records("synthesis_complete")) == 1


@pytest.mark.parametrize(
    "said",
    [
        ["one", "two"],
        [Subtask(task="one"), {"task": "two"}],
        {"subtasks": [{"description": "one"}, {"description": "two"}]},
        '["one", "two"]',
        'Here you are:\n```json\n[{"task": "one"}, {"task": "two"}]\n```',
    ],
    ids=["texts", "typed", "mapping", "json", "fenced"],
)
async def test_parts_may_come_in_any_form(said: object) -> None:
    result = await decomposed(DecompositionAgent("plan", decomposer=lambda task: said, specialists=does("w")))
    assert result.answer == ["w: one", "w: two"]
    assert [branch.name for branch in result.branches] == ["w", "w#2"]


async def test_a_decomposer_may_be_async_and_parts_may_have_names() -> None:
    async def split(task: str) -> list[Subtask]:
        return [
            Subtask(task=f"{task}!", name="Part 1: start"),
            Subtask(task="x", name="end"),
            Subtask(task="y", name="end"),
        ]

    result = await decomposed(DecompositionAgent("plan", decomposer=split, specialists=does("w")))
    assert [branch.name for branch in result.branches] == ["Part-1-start", "end", "end#2"]
    assert result.answer[0] == "w: Write a report!"


async def test_a_selector_picks_the_specialist() -> None:
    specialists = [does("short"), does("long")]

    async def select(subtask: Subtask, agents: object) -> str:
        return "long" if len(subtask.task) > 3 else "short"

    plan = DecompositionAgent("plan", decomposer=parts("ab", "abcdef"), specialists=specialists, selector=select)
    assert (await decomposed(plan)).answer == ["short: ab", "long: abcdef"]
    picks = plan.clone(selector=lambda subtask, agents: agents[0])
    assert (await decomposed(picks)).answer == ["short: ab", "short: abcdef"]


async def test_a_part_may_be_broken_down_again() -> None:
    def split(task: str) -> list[object]:
        if task == "book":
            return [{"task": "chapter", "split": True, "name": "chapter"}, "cover"]
        return [f"{task} page {number}" for number in (1, 2)]

    plan = DecompositionAgent("plan", decomposer=split, specialists=does("w"), max_depth=2)
    result = await decomposed(plan, "book")
    assert result.answer == [["w: chapter page 1", "w: chapter page 2"], "w: cover"]
    assert (result.depth, result.total_subtasks) == (2, 4)


async def test_the_limits_are_errors_and_cut_nothing_off() -> None:
    ran: list[str] = []
    worker = echoes("w", ran)

    async def limited(limit: str, decomposer: object, **settings: int) -> None:
        ran.clear()
        with pytest.raises(LimitExceeded, match=limit) as caught:
            await decomposed(DecompositionAgent("plan", decomposer=decomposer, specialists=worker.clone(), **settings))
        assert caught.value.limit == limit
        assert ran == []

    await limited("max_subtasks", parts(*"abcd"), max_subtasks=3)
    await limited("max_total", parts(*"abcd"), max_total=3)
    await limited("max_depth", parts({"task": "a", "split": True}))
    endless = DecompositionAgent(
        "plan", decomposer=parts({"task": "again", "split": True}), specialists=worker.clone(), max_depth=5
    )
    with pytest.raises(LimitExceeded, match="max_depth") as caught:
        await decomposed(endless)
    assert caught.value.spent == {"subtasks": 5, "depth": 5}
    wide = DecompositionAgent(
        "plan",
        decomposer=parts(*[{"task": "again", "split": True}] * 10),
        specialists=worker.clone(),
        max_depth=9,
        max_total=50,
    )
    with pytest.raises(LimitExceeded, match="max_total"):
        await decomposed(wide)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ([], "said no parts"),
        ("I can't", "must say a list of parts, not \"\"?'?I can't"),
        (None, "must say a list"),
        ({"parts": []}, "must say a list"),
        ([3], "no part of a task"),
        ([{"specialist": "w"}], "no part of a task"),
        (["  "], "says nothing"),
        ([{"task": "x", "specialist": "nobody"}], "'nobody' is none of 'v', 'w'"),
        ([{"task": "x"}], "'' is none of 'v', 'w'"),
    ],
    ids=str,
)
async def test_a_decomposition_that_is_nonsense_is_an_error(said: object, complaint: str) -> None:
    plan = DecompositionAgent("plan", decomposer=lambda task: said, specialists=[does("v"), does("w")])
    with pytest.raises(InvalidAnswer, match=complaint):
        await decomposed(plan)


async def test_every_part_must_be_done_unless_fewer_will_do() -> None:
    @agent
    async def w(ctx: InvocationContext) -> None:
        if ctx.user_text == "b":
            raise ValueError("can't")
        await ctx.emit(ctx.text(ctx.user_text))

    plan = DecompositionAgent("plan", decomposer=parts("a", "b"), specialists=w)
    with pytest.raises(TooFewAnswers, match=r"of 2 branches answered, 2 must: .*w#2: ValueError"):
        await decomposed(plan)
    result = await decomposed(plan.clone(min_successes=1))
    assert (result.answer, result.missing) == (["a"], {"w#2": "ValueError: can't"})


async def test_parts_that_take_too_long_are_left_out_if_fewer_will_do() -> None:
    plan = DecompositionAgent("plan", decomposer=parts("a", "b"), specialists=script("w", ["x", Hangs()]), deadline=5)
    with pytest.raises(TooFewAnswers, match="1 of 2 branches answered, 2 must: w#2: cut short"):
        await decomposed(plan)
    result = await decomposed(plan.clone(min_successes=1))
    assert (result.answer, result.missing) == (["x"], {"w#2": "cut short"})


async def test_more_parts_may_be_wanted_than_there_are() -> None:
    plan = DecompositionAgent("plan", decomposer=parts("a"), specialists=answers("w", "x"), min_successes=3)
    with pytest.raises(TooFewAnswers, match=r"1 of 1 branches answered, 3 must$"):
        await decomposed(plan)


async def test_weights_that_name_nobody_who_did_a_part_are_an_error() -> None:
    mean = Weighted(weights={"somebody": 1})
    plan = DecompositionAgent("plan", decomposer=parts("a"), specialists=answers("w", 1), aggregator=mean)
    with pytest.raises(InvalidAnswer, match="the answer of 'w' can't be used: there is no weight for 'w'"):
        await decomposed(plan)


def test_a_clone_has_clones_of_everybody() -> None:
    plan = DecompositionAgent("plan", decomposer=echoes("d"), specialists=[does("w")], aggregator=echoes("writer"))
    clone = plan.clone(max_depth=2)
    assert [one.name for one in clone.sub_agents] == ["w", "d", "writer"]
    assert clone.decomposer is clone.sub_agents[1] is not plan.decomposer
    assert clone.aggregator.agent is clone.sub_agents[2]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        ({"specialists": []}, "needs at least one specialist"),
        ({"decomposer": "split"}, "decomposer must be"),
        ({"selector": "w"}, "selector must be"),
        ({"max_subtasks": 0}, "max_subtasks must be"),
        ({"max_depth": 0}, "max_depth must be"),
        ({"max_total": 1.5}, "max_total must be"),
        ({"min_successes": 0}, "min_successes must be from 1 to the number of branches"),
        ({"aggregator": "mergr"}, "no aggregator named"),
    ],
    ids=str,
)
def test_settings_that_can_not_work_are_refused(chosen: dict, complaint: str) -> None:
    settings = {"decomposer": parts("a"), "specialists": answers("w", 1), **chosen}
    with pytest.raises(ConfigError, match=complaint):
        DecompositionAgent("plan", **settings)
