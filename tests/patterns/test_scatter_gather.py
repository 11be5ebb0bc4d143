"""The pattern around the aggregators: events, failures, time, waves, duplicates, nesting, numbers."""

import anyio
import pytest

from agentflow import (
    AgentTimeout,
    ConfigError,
    Hedge,
    InMemorySessionService,
    InvocationContext,
    Judge,
    LimitExceeded,
    Limits,
    LoopAgent,
    ParallelAgent,
    Rubric,
    Runner,
    ScatterGatherAgent,
    ScatterGatherResult,
    SequentialAgent,
    Synthesis,
    TooFewAnswers,
    Voting,
    agent,
)
from agentflow.errors import InvalidAnswer
from tests.core.actors import flaky, hears, play, read
from tests.patterns.answering import Fails, Hangs, Silent, answers, echoes, gathered, script

# Events


async def test_the_six_events_come_in_order_with_the_fields_of_the_seed() -> None:
    analysts = [
        answers("optimistic", "up", after=3),
        answers("critical", "down", after=2),
        answers("neutral", "flat", after=1),
    ]
    panel = ScatterGatherAgent("panel", analysts, aggregator=echoes("writer", reply="mixed"), timeout_per_agent="5m")
    played = await play(panel, "Analyze market trends")
    names = [event.lifecycle.name for event in played.events if event.lifecycle and event.author == "panel"]
    assert names == [
        "agent_start", "scatter_start", "gather_complete", "synthesis_start", "synthesis_complete", "agent_complete",
    ]  # fmt: skip
    scatter = played.records("scatter_start")[0]
    assert (scatter.num_agents, scatter.agent_names) == (3, ["optimistic", "critical", "neutral"])
    assert (scatter.task, scatter.timeout_per_agent) == ("Analyze market trends", 300)
    starts = played.records("agent_parallel_start")
    assert {start.agent_name for start in starts} == {"optimistic", "critical", "neutral"}
    assert all(start.step_id and start.worker_id for start in starts)
    ends = played.records("agent_parallel_complete")
    assert [(end.agent_name, end.result_summary, end.execution_time_ms) for end in ends] == [
        ("neutral", "flat", 1000), ("critical", "down", 2000), ("optimistic", "up", 3000),
    ]  # fmt: skip
    gather = played.records("gather_complete")[0]
    assert (gather.total_agents, gather.successful, gather.failed, gather.total_time_ms) == (3, 3, 0, 3000)
    assert gather.gathered_results == ["optimistic", "critical", "neutral"]
    begun = played.records("synthesis_start")[0]
    assert (begun.aggregation_strategy, begun.input_results_count) == ("synthesis", 3)
    done = played.records("synthesis_complete")[0]
    assert (done.aggregation_strategy, done.input_results_count, done.final_result_summary) == ("synthesis", 3, "mixed")
    assert done.synthesis_time_ms == 0
    assert played.run.result.text == "mixed"


async def test_the_opening_of_a_group_names_its_branches_as_they_are() -> None:
    """Twins too: `agent_names` are the last parts of the branches, and the keys of the gather's outcomes."""
    played = await play(ScatterGatherAgent("panel", [answers("a", "x"), answers("b", "y")], n=5))
    (scatter,), (gather,) = played.records("scatter_start"), played.records("gather_complete")
    assert scatter.agent_names == ["a", "b", "a#2", "b#2", "a#3"] == list(gather.outcomes)
    branches = {event.branch for event in played.events if event.branch}
    assert branches == {f"panel.{name}" for name in scatter.agent_names}


async def test_one_agent_run_n_times_answers_n_times() -> None:
    """Twins are told apart by their place, never by name or input: each has an answer of its own."""
    result = await gathered(ScatterGatherAgent("p", script("voter", [1, 2, 3]), n=3))
    assert result.answer == [1, 2, 3]
    assert [(branch.name, branch.branch) for branch in result.branches] == [
        ("voter", "p.voter"), ("voter#2", "p.voter#2"), ("voter#3", "p.voter#3"),
    ]  # fmt: skip


async def test_n_branches_are_dealt_to_the_agents_in_turn() -> None:
    result = await gathered(ScatterGatherAgent("p", [script("a", [1, 2, 3]), script("b", [4, 5])], n=5))
    assert result.answer == [1, 4, 2, 5, 3]


async def test_the_result_survives_the_store() -> None:
    sessions = InMemorySessionService()
    played = await play(
        ScatterGatherAgent("p", script("v", ["a", "b", Fails()]), n=3, aggregator="voting"), sessions=sessions
    )
    stored = [event for event in played.session.events if event.author == "p" and event.parts]
    again = ScatterGatherResult.of(type(stored[0]).from_json(stored[0].to_json()))
    assert again == ScatterGatherResult.of(played.run.result) == ScatterGatherResult.of(played.run.result.output)
    assert again.missing == {"v#3": "ValueError: no idea"}
    with pytest.raises(InvalidAnswer, match="no ScatterGatherResult"):
        ScatterGatherResult.of({"answer": 1})


async def test_large_answers_are_left_to_the_branches_own_events() -> None:
    large = "word " * 150_000
    result = await gathered(
        ScatterGatherAgent("p", script("v", [large, large]), n=2, aggregator="voting", early_stop=False)
    )
    assert [(branch.output, branch.shortened) for branch in result.branches] == [(None, True), (None, True)]
    assert result.branches[0].summary.startswith("word word")
    assert result.answer == large


# Who sees what


async def test_what_follows_sees_the_answer_and_not_the_branches() -> None:
    heard: list[str] = []
    vote = ScatterGatherAgent("vote", script("v", ["a", "a", "b"]), n=3, aggregator="voting")
    await play(SequentialAgent("s", [vote, hears("next", heard)]))
    assert heard == ["go", "a"]
    heard.clear()
    await play(SequentialAgent("s", [vote.clone(show_branches=True, early_stop=False), hears("next", heard)]))
    assert sorted(heard) == ["a", "a", "a", "b", "go"]


async def test_branches_do_not_hear_each_other() -> None:
    heard: list[str] = []
    await play(ScatterGatherAgent("p", [answers("a", "x"), hears("b", heard)], min_successes=1))
    assert heard == ["go"]


# Failures


async def test_every_branch_failed_is_one_error_with_all_causes() -> None:
    with pytest.raises(TooFewAnswers) as caught:
        await gathered(ScatterGatherAgent("p", script("v", [Fails("one"), Fails("two"), Silent()]), n=3))
    error = caught.value
    assert [str(cause) for cause in error.causes] == ["one", "two"]
    assert (error.successes, error.needed, error.agent) == (0, 1, "p")
    assert str(error) == (
        "agent 'p': 0 of 3 branches answered, 1 must: v: ValueError: one; v#2: ValueError: two; v#3: said nothing"
    )


async def test_an_error_says_each_reason_once() -> None:
    same = ScatterGatherAgent("p", script("v", [Fails("no key")]), n=40)
    with pytest.raises(TooFewAnswers, match=r"v, v#2, v#3, v#4, v#5 and 35 more: ValueError: no key$") as caught:
        await gathered(same)
    assert len(caught.value.causes) == 40
    other = ScatterGatherAgent("p", script("v", [Fails(str(n)) for n in range(9)]), n=9)
    with pytest.raises(TooFewAnswers, match=r"v#5: ValueError: 4; and 4 more$"):
        await gathered(other)


async def test_too_few_successes_give_up_as_soon_as_that_is_sure() -> None:
    lines = [Fails(), "a", Fails(), Hangs()]
    panel = ScatterGatherAgent("p", script("v", lines, after=[1, 2, 3, 0]), n=4, min_successes=3)
    async with Runner(panel) as runner:
        run = runner.run("go")
        with pytest.raises(TooFewAnswers, match="1 of 4 branches answered, 3 must") as caught:
            await read(run)
    assert len(caught.value.causes) == 2
    assert {name: outcome.status for name, outcome in run.result.outcomes.items()} == {
        "p.v": "error", "p.v#2": "ok", "p.v#3": "error", "p.v#4": "cancelled",
    }  # fmt: skip


async def test_fail_all_raises_the_first_failure_and_cancels_the_rest() -> None:
    panel = ScatterGatherAgent(
        "p", script("v", [Hangs(), Fails("broken"), "a"], after=[0, 1, 2]), n=3, on_error="cancel"
    )
    with pytest.raises(ValueError, match="broken"):
        await gathered(panel)
    both = ScatterGatherAgent("p", script("v", [Fails("one"), Fails("two")]), n=2, on_error="cancel")
    with pytest.raises((ExceptionGroup, ValueError)):
        await gathered(both)


async def test_a_run_out_of_budget_is_nobodys_partial_result() -> None:
    panel = ScatterGatherAgent("p", script("v", ["a", "b", "c"], tokens=100), n=3)
    with pytest.raises(LimitExceeded):
        await play(panel, limits=Limits(tokens=150))


async def test_an_aggregator_that_fails_fails_the_pattern_and_a_retry_asks_again() -> None:
    tries = 0

    def combine(outcomes: object) -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ValueError("try again")
        return "well"

    panel = ScatterGatherAgent("p", [answers("a", "x")], aggregator=combine)
    with pytest.raises(ValueError, match="try again"):
        await gathered(panel)
    tries = 0
    assert (await gathered(panel.clone(retry=2))).answer == "well"


async def test_agents_retry_by_themselves() -> None:
    result = await gathered(ScatterGatherAgent("p", [flaky("a", 1, retry=2), answers("b", "x")]))
    assert result.answer == ["try 2", "x"]


# Time


async def test_a_slow_agent_does_not_hold_up_the_rest() -> None:
    panel = ScatterGatherAgent("p", script("v", ["a", Hangs(), "c"]), n=3, timeout_per_agent=2)
    result = await gathered(panel)
    assert result.answer == ["a", "c"]
    assert result.branches[1].status == "timeout"
    assert "AgentTimeout" in result.missing["v#2"]
    assert result.metrics.wall_seconds == 2


@pytest.mark.parametrize("text", ["5m", "300s", 300, 300.0])
def test_durations_are_parsed(text: float | str) -> None:
    assert ScatterGatherAgent("p", answers("a", 1), timeout_per_agent=text).timeout_per_agent == 300


async def test_after_the_deadline_the_aggregator_works_with_what_there_is() -> None:
    panel = ScatterGatherAgent("p", script("v", ["a", "late", Hangs()], after=[1, 20, 0]), n=3, deadline=10)
    result = await gathered(panel)
    assert (result.answer, result.metrics.wall_seconds) == (["a"], 10)
    assert result.missing == {"v#2": "cut short", "v#3": "cut short"}
    assert result.metrics.saved_calls == 0


async def test_after_the_deadline_too_few_answers_are_too_few() -> None:
    panel = ScatterGatherAgent("p", script("v", ["a", Hangs()]), n=2, deadline=10, min_successes=2)
    with pytest.raises(TooFewAnswers, match="1 of 2"):
        await gathered(panel)


async def test_with_fail_all_the_deadline_is_a_timeout() -> None:
    panel = ScatterGatherAgent("p", script("v", ["a", Hangs()]), n=2, deadline=10, on_error="cancel")
    with pytest.raises(AgentTimeout, match="had 1 of 2 answers to wait for after 10 s") as caught:
        await gathered(panel)
    assert caught.value.seconds == 10


async def test_waiting_for_the_reader_does_not_count_against_the_deadline() -> None:
    panel = ScatterGatherAgent("p", script("v", ["a", "b"], after=[1, 2]), n=2, deadline=10)
    async with Runner(panel) as runner, runner.run("go") as run:
        async for event in run:
            if event.text and event.branch:
                await anyio.sleep(60)
    assert ScatterGatherResult.of(run.result).answer == ["a", "b"]


async def test_a_cap_lets_so_many_run_and_the_wait_is_told() -> None:
    panel = ScatterGatherAgent("p", script("v", list("abcd"), after=lambda place: 1.0), n=4, max_concurrency=2)
    result = await gathered(panel)
    assert [branch.queue_seconds for branch in result.branches] == [0, 0, 1, 1]
    metrics = result.metrics
    assert (metrics.wall_seconds, metrics.work_seconds, metrics.speedup) == (2, 4, 2)
    assert (metrics.queue_seconds, metrics.longest_queue_seconds, metrics.calls) == (2, 1, 4)


# Waves


async def test_waves_ask_no_more_than_is_needed() -> None:
    panel = ScatterGatherAgent(
        "p", script("v", list("aaabbbbbbb"), after=lambda place: 1.0), n=10, wave=3, aggregator=Voting(ahead_by=3)
    )
    played = await play(panel)
    result = ScatterGatherResult.of(played.run.result)
    assert (result.answer, result.reason) == ("a", "ahead by 3")
    assert (result.metrics.calls, result.metrics.saved_calls, result.metrics.wall_seconds) == (3, 7, 1)
    assert {branch.status for branch in result.branches[3:]} == {"skipped"}
    gather = played.records("gather_complete")[0]
    assert (gather.total_agents, gather.successful, gather.skipped) == (10, 3, 7)
    assert len(gather.outcomes) == 10


async def test_a_further_wave_follows_one_that_settles_nothing() -> None:
    panel = ScatterGatherAgent(
        "p", script("v", list("ababaaab"), after=lambda place: 1.0), n=8, wave=2, aggregator=Voting(ahead_by=2)
    )
    result = await gathered(panel)
    assert result.answer == "a"
    assert (result.metrics.calls, result.metrics.wall_seconds) == (6, 3)


async def test_min_successes_holds_even_if_the_vote_is_settled_before() -> None:
    panel = ScatterGatherAgent(
        "p", script("v", list("aaaab"), after=lambda place: 1.0 + place), n=5, aggregator="voting", min_successes=5
    )
    result = await gathered(panel)
    assert (result.metrics.saved_calls, result.metrics.agreement) == (0, 0.8)


async def test_answers_that_come_with_the_decision_are_not_counted() -> None:
    """All end at the same moment: what decided is what had come first, and the others say that they came too late."""
    panel = ScatterGatherAgent("p", script("v", list("aaabbbbbbb")), n=10, aggregator=Voting(ahead_by=3))
    result = await gathered(panel)
    counted = [branch.name for branch in result.branches if branch.counted]
    assert sum(one.weight for one in result.candidates) == len(counted)
    assert result.metrics.saved_calls == sum(branch.status in ("cancelled", "skipped") for branch in result.branches)
    assert all(
        branch.why in ("came too late", "cut short", "never asked") for branch in result.branches if not branch.counted
    )


# Stragglers


async def test_a_straggler_gets_a_duplicate_and_the_first_of_both_is_taken() -> None:
    calls = 0

    @agent
    async def worker(ctx: InvocationContext) -> None:
        nonlocal calls
        calls += 1
        if ctx.branch == "p.worker#4":
            await anyio.sleep(1000)
        await anyio.sleep(1)
        await ctx.emit(ctx.text(ctx.branch))

    played = await play(ScatterGatherAgent("p", worker, n=4, hedge=True))
    result = ScatterGatherResult.of(played.run.result)
    assert result.answer == ["p.worker", "p.worker#2", "p.worker#3", "p.worker#4#again"]
    assert (result.metrics.wall_seconds, calls) == (pytest.approx(2.1), 5)
    assert [branch.duplicates for branch in result.branches] == [0, 0, 0, 1]
    assert result.branches[3].branch == "p.worker#4#again"
    assert played.run.result.outcomes["p.worker#4"].status == "cancelled"
    assert result.metrics.saved_calls == 0


async def test_failures_do_not_keep_a_straggler_from_its_duplicate() -> None:
    @agent
    async def worker(ctx: InvocationContext) -> None:
        if ctx.branch in ("p.worker", "p.worker#2", "p.worker#3"):
            raise ValueError("broken")
        await anyio.sleep(1000 if ctx.branch == "p.worker#8" else 1)
        await ctx.emit(ctx.text("well"))

    result = await gathered(ScatterGatherAgent("p", worker, n=8, hedge=True))
    assert [branch.duplicates for branch in result.branches] == [0] * 7 + [1]
    assert result.metrics.wall_seconds == pytest.approx(2.1)


async def test_a_straggler_that_is_quicker_than_its_duplicate_is_taken() -> None:
    @agent
    async def worker(ctx: InvocationContext) -> None:
        await anyio.sleep({"p.worker#3": 3, "p.worker#3#again": 100}.get(ctx.branch, 1))
        await ctx.emit(ctx.text(ctx.branch))

    result = await gathered(ScatterGatherAgent("p", worker, n=3, hedge=Hedge(percentile=0.5, factor=2, after=0.5)))
    assert result.answer[2] == "p.worker#3"
    assert result.metrics.wall_seconds == 3


async def test_a_duplicate_saves_a_branch_that_fails() -> None:
    @agent
    async def worker(ctx: InvocationContext) -> None:
        if ctx.branch == "p.worker#3":
            await anyio.sleep(3)
            raise ValueError("the first one breaks")
        await anyio.sleep(1 if "again" not in ctx.branch else 10)
        await ctx.emit(ctx.text("well"))

    result = await gathered(ScatterGatherAgent("p", worker, n=3, hedge=Hedge(after=0.5)))
    assert [branch.status for branch in result.branches] == ["ok"] * 3
    assert result.metrics.wall_seconds == pytest.approx(11.1)


async def test_a_branch_that_waited_for_room_gets_its_duplicate_too() -> None:
    @agent
    async def worker(ctx: InvocationContext) -> None:
        await anyio.sleep(1000 if ctx.branch == "p.worker#4" else 1)
        await ctx.emit(ctx.text("well"))

    result = await gathered(ScatterGatherAgent("p", worker, n=4, max_concurrency=2, hedge=True))
    assert result.branches[3].duplicates == 1
    assert result.metrics.wall_seconds < 10


# Numbers


async def test_metrics_say_what_it_took() -> None:
    @agent
    async def writer(ctx: InvocationContext) -> None:
        await anyio.sleep(2)
        await ctx.emit(ctx.text("done"))

    panel = ScatterGatherAgent(
        "p", script("v", list("aab"), after=[1, 3, 2], tokens=100), n=3, aggregator=Synthesis(writer)
    )
    metrics = (await gathered(panel)).metrics
    assert (metrics.wall_seconds, metrics.work_seconds, metrics.speedup, metrics.synthesis_seconds) == (3, 6, 2, 2)
    assert [(step.name, step.seconds) for step in metrics.critical_path] == [("v#2", 3), ("writer", 2)]
    assert (metrics.tokens, metrics.model_calls, metrics.calls, metrics.saved_calls) == (300, 3, 3, 0)
    assert metrics.cost == pytest.approx(0.3)
    assert metrics.agreement is None


async def test_tokens_and_cost_are_told_per_branch() -> None:
    result = await gathered(ScatterGatherAgent("p", [answers("a", 1, tokens=10), answers("b", 2, tokens=30)]))
    assert [(branch.tokens, branch.cost) for branch in result.branches] == [(10, 0.01), (30, 0.03)]


async def test_quality_is_what_a_metric_or_a_judge_gives() -> None:
    lines = script("v", ["a", "b"])
    panel = ScatterGatherAgent("p", lines, n=2, quality=lambda answer, outcomes: len(answer) / len(outcomes))
    played = await play(panel)
    assert ScatterGatherResult.of(played.run.result).metrics.quality == 1
    assert played.records("synthesis_complete")[0].quality == 1
    marks = {"scores": {"answer": {"clear": 8, "true": 6}}}
    judge = Judge(echoes("critic", reply=marks), Rubric({"clear": 1, "true": 1}))
    assert (await gathered(panel.clone(quality=judge))).metrics.quality == 0.7
    with pytest.raises(InvalidAnswer, match="the judge of quality gave no score"):
        await gathered(panel.clone(quality=Judge(lambda answers: "answer")))
    with pytest.raises(InvalidAnswer, match="must give a finite number"):
        await gathered(panel.clone(quality=lambda answer, outcomes: "good"))


# In trees


async def test_a_pattern_in_a_pattern_votes_with_its_answer() -> None:
    inner = [
        ScatterGatherAgent(f"team{i}", script(f"v{i}", ["42", "the answer is 42", "41"]), n=3, aggregator="voting")
        for i in range(3)
    ]
    result = await gathered(ScatterGatherAgent("all", inner, aggregator=Voting(), early_stop=False))
    assert (result.answer, result.metrics.agreement) == ("42", 1.0)


async def test_it_nests_in_everything_and_runs_any_number_of_times() -> None:
    vote = ScatterGatherAgent("vote", script("v", ["a", "b", "b"], after=[1, 2, 3]), n=3, aggregator="voting")
    other = ScatterGatherAgent(
        "merge", [answers("x", "1"), answers("y", "2")], aggregator=echoes("writer", reply="1 and 2")
    )
    tree = LoopAgent("loop", [SequentialAgent("s", [ParallelAgent("both", [vote, other])])], max_iterations=2)
    played = await play(tree)
    assert played.run.result.output[0]["answer"] == "b"
    assert played.run.result.output[1]["answer"] == "1 and 2"
    assert len(played.records("synthesis_complete")) == 4


async def test_cancelled_from_outside_every_branch_has_one_end() -> None:
    panel = ScatterGatherAgent("p", script("v", ["a", Hangs(), Hangs()]), n=3, aggregator="voting")
    async with Runner(panel) as runner, runner.run("go") as run:
        async for event in run:
            if event.lifecycle and event.lifecycle.name == "agent_parallel_complete":
                run.cancel("enough")
    assert run.result.status == "cancelled"
    assert sorted(outcome.status for outcome in run.result.outcomes.values()) == ["cancelled", "cancelled", "ok"]


async def test_leaving_the_stream_leaves_nothing_behind() -> None:
    panel = ScatterGatherAgent("p", script("v", ["a", Hangs()]), n=2, hedge=True, deadline=100)
    async with Runner(panel) as runner, runner.run("go") as run:
        async for event in run:
            if event.text:
                break
    assert run.unfinished == []


def test_a_clone_has_clones_of_everybody() -> None:
    writer = echoes("writer")
    panel = ScatterGatherAgent(
        "p", answers("a", 1), n=2, aggregator=Voting(tie="judge", judge=writer), quality=Judge(echoes("critic"))
    )
    assert [one.name for one in panel.sub_agents] == ["a", "writer", "critic"]
    assert [one.name for one in panel.agents] == ["a"]
    clone = panel.clone(n=4).clone(name="q")
    assert clone.sub_agents[1] is not writer
    assert clone.aggregator.judge.judge is clone.sub_agents[1]  # type: ignore[union-attr]
    assert clone.quality.judge is clone.sub_agents[2]  # type: ignore[union-attr]
    other = panel.clone(aggregator=Synthesis(echoes("editor")), quality=None)
    assert [one.name for one in other.sub_agents] == ["a", "editor"]


# What can't work is said when built


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"agents": []}, "needs at least one agent"),
        ({"agents": "voter"}, "must be a list of agents"),
        ({"agents": [print]}, "is a builtin_function_or_method, not an agent"),
        ({"n": 0}, "n must be a whole number of at least 1"),
        ({"n": -3}, "n must be a whole number of at least 1"),
        ({"n": 1.5}, "n must be"),
        ({"n": True}, "n must be"),
        ({"agents": 2, "n": 1}, "at least 2, since there are so many agents"),
        ({"weights": {"a": -1}}, "weight of 'a' must be"),
        ({"weights": {}}, "no weight for 'a'"),
        ({"weights": {"a": 1, "typo": 1}}, "weights name 'typo'"),
        ({"weights": [1]}, "must map the names"),
        ({"max_concurrency": 0}, "max_concurrency must be"),
        ({"wave": 0}, "wave must be"),
        ({"min_successes": 0}, "min_successes must be from 1 to 1"),
        ({"min_successes": 2}, "min_successes must be from 1 to 1"),
        ({"on_error": "ignore"}, "on_error must be"),
        ({"timeout_per_agent": "5 minutes"}, "timeout_per_agent must be seconds"),
        ({"deadline": 0}, "deadline must be"),
        ({"hedge": 0.95}, "hedge must be"),
        ({"quality": "good"}, "quality must be"),
        ({"on_conflict": "first"}, "on_conflict must be"),
        ({"name": "a.b"}, "can't be named"),
    ],
    ids=str,
)
def test_settings_that_can_not_work_are_refused(settings: dict, complaint: str) -> None:
    agents = settings.pop("agents", 1)
    if isinstance(agents, int):
        agents = [answers(name, 1) for name in "ab"[:agents]]
    with pytest.raises(ConfigError, match=complaint):
        ScatterGatherAgent(settings.pop("name", "p"), agents, **settings)


@pytest.mark.parametrize(
    "settings", [{"percentile": 0}, {"percentile": 1.1}, {"after": 0}, {"factor": 0.5}, {"factor": True}], ids=str
)
def test_a_hedge_that_can_not_work_is_refused(settings: dict) -> None:
    with pytest.raises(ConfigError, match="Hedge"):
        Hedge(**settings)


def test_patience_is_a_percentile_of_those_that_ended() -> None:
    hedge = Hedge(percentile=0.95, after=0.5, factor=2)
    assert hedge.patience([1.0] * 9, 20) is None
    assert hedge.patience([float(n) for n in range(1, 21)], 20) == 38
    assert Hedge(percentile=0.5, factor=1).patience([3, 1, 2], 4) == 2
