"""Batches: results as they come, a journal that outlives the process, and nothing that is finished run again."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio
import pytest

from agentflow import (
    BatchInput,
    BatchResult,
    BatchStopped,
    ConfigError,
    Data,
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    Limits,
    Runner,
    Text,
    Usage,
    agent,
    run_batch,
)
from agentflow.batch import Batch
from agentflow.questions import questions_in


class Grader:
    """An agent that counts how often it was asked what, and fails on what contains `bad`."""

    def __init__(self, *, lasts: float = 1.0) -> None:
        self.asked: Counter[str] = Counter()
        self.running = 0
        self.most = 0
        self.lasts = lasts
        self.agent = FunctionAgent("grader", self.turn)

    async def turn(self, ctx: InvocationContext) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await anyio.sleep(self.lasts)
        finally:
            self.running -= 1
        self.asked[ctx.user_text] += 1
        if "bad" in ctx.user_text:
            raise ValueError(f"can't grade {ctx.user_text!r}")
        words = Data({"words": len(ctx.user_text.split())})
        await ctx.emit(ctx.event("graded", words, usage=Usage(input_tokens=10, model_calls=1)))


async def read(batch: Batch, most: int | None = None, into: list[BatchResult] | None = None) -> list[BatchResult]:
    """The results, or the first `most` of them; those that come before an error are in `into`."""
    results = into if into is not None else []
    async with batch:
        async for result in batch:
            results.append(result)
            if len(results) == most:
                break
    return results


def by_index(results: list[BatchResult]) -> list[Any]:
    return [result.output for result in sorted(results, key=lambda result: result.index)]


async def test_each_input_has_a_result_with_its_index_as_it_comes() -> None:
    @agent
    async def naps(ctx: InvocationContext) -> None:
        await anyio.sleep(float(ctx.user_text))
        await ctx.emit(ctx.text(ctx.user_text))

    results = await read(run_batch(naps, ["3", "1", "2"]))
    assert [(result.index, result.output) for result in results] == [(1, "1"), (2, "2"), (0, "3")]
    assert [round(result.seconds) for result in results] == [1, 2, 3]


@pytest.mark.parametrize("cap", [1, 3])
async def test_never_more_at_once_than_allowed(cap: int) -> None:
    grader = Grader()
    began = anyio.current_time()
    await read(run_batch(grader.agent, [f"essay {number}" for number in range(7)], max_concurrency=cap))
    assert grader.most == cap
    assert anyio.current_time() - began == pytest.approx(-(-7 // cap), abs=0.1)


async def test_a_failed_input_fails_nobody_else_and_progress_is_kept() -> None:
    batch = run_batch(Grader().agent, ["a b", "bad", "c"], max_concurrency=1)
    async with batch:
        seen = []
        async for result in batch:
            progress = batch.progress
            seen.append((progress.done, progress.ok, progress.failed, progress.total))
            if not result.ok:
                assert isinstance(result.exception, ValueError)
                assert result.error is not None
                assert (result.error.type, result.error.message) == ("ValueError", "can't grade 'bad'")
    assert seen[-1] == (3, 2, 1, 3)
    assert batch.progress.usage.input_tokens == 20
    assert batch.progress.seconds_left == 0


async def test_the_time_that_is_left_is_estimated() -> None:
    batch = run_batch(Grader(lasts=2).agent, ["a"] * 4, max_concurrency=1)
    async with batch:
        assert batch.progress.seconds_left is None
        await anext(batch)
        assert batch.progress.seconds_left == pytest.approx(6, abs=0.1)


async def test_a_slow_reader_slows_the_runs() -> None:
    grader = Grader()
    async with run_batch(grader.agent, [str(number) for number in range(20)], max_concurrency=2) as batch:
        await anext(batch)
        await anyio.sleep(100)
        assert sum(grader.asked.values()) <= 3  # one read, one done and not yet taken for each worker


async def test_inputs_of_every_kind() -> None:
    told: dict[int, Any] = {}

    @agent
    async def notes(ctx: InvocationContext) -> None:
        values = [part.value for part in ctx.user_content if isinstance(part, Data)]
        told[ctx.state["n"]] = (ctx.user_text, values)
        await ctx.emit(ctx.text("ok"))

    given = ["text", Text("a part"), [Text("two "), Text("parts")], {"a": 1}, 5, ["x", "y"]]
    inputs = [BatchInput(value, id=f"i{number}", state={"n": number}) for number, value in enumerate(given)]
    results = await read(run_batch(notes, inputs))
    assert sorted(result.id for result in results) == ["i0", "i1", "i2", "i3", "i4", "i5"]
    assert [told[number] for number in range(6)] == [
        ("text", []),
        ("a part", []),
        ("two parts", []),
        ('{"a": 1}', [{"a": 1}]),
        ("5", [5]),
        ('["x", "y"]', [["x", "y"]]),
    ]


async def test_inputs_are_read_as_they_are_needed_from_any_iterator() -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"essay {taken}"

    grader = Grader()
    results = await read(run_batch(grader.agent, endless(), max_concurrency=3), most=5)
    assert len(results) == 5
    assert taken <= 5 + 2 * 3
    assert grader.running == 0

    async def asynchronous() -> AsyncIterator[str]:
        for number in range(3):
            await anyio.sleep(1)
            yield str(number)

    batch = run_batch(grader.agent, asynchronous(), message=lambda number: f"say {number} twice")
    assert by_index(await read(batch)) == [{"words": 3}] * 3
    assert batch.progress.total is None


# The journal


async def test_what_is_done_is_in_the_journal_before_it_is_given(tmp_path: Path) -> None:
    journal = tmp_path / "grades.jsonl"
    async with run_batch(Grader().agent, ["a b", "bad"], journal=journal, max_concurrency=1) as batch:
        first = await anext(batch)
        line = json.loads(journal.read_text().splitlines()[0])
    assert (line["index"], line["status"], line["output"], line["text"]) == (0, "ok", {"words": 2}, "graded")
    assert line["usage"] == {"inputTokens": 10, "modelCalls": 1}
    assert line["session"] == first.session_id


async def test_an_interrupted_batch_goes_on_and_runs_nothing_twice(tmp_path: Path) -> None:
    journal, grader = tmp_path / "grades.jsonl", Grader()
    inputs = [f"essay {number}" + " x" * number for number in range(10)]
    first = await read(run_batch(grader.agent, inputs, journal=journal, max_concurrency=2), most=4)
    done = len(journal.read_text().splitlines())
    assert done >= len(first) == 4
    batch = run_batch(grader.agent, inputs, journal=journal, max_concurrency=2)
    results = await read(batch)
    assert by_index(results) == [{"words": number + 2} for number in range(10)]
    assert sum(result.resumed for result in results) == batch.progress.resumed == done
    assert grader.asked == Counter(inputs)
    again = await read(run_batch(grader.agent, inputs, journal=journal))
    assert [result.resumed for result in again] == [True] * 10
    assert sorted(again, key=lambda r: r.index)[3].usage == Usage(input_tokens=10, model_calls=1)
    assert grader.asked == Counter(inputs)


@pytest.mark.parametrize("cut", [1, 10, 50])
async def test_a_line_cut_short_by_a_crash_is_run_again_and_the_others_are_not(tmp_path: Path, cut: int) -> None:
    journal, grader = tmp_path / "grades.jsonl", Grader()
    await read(run_batch(grader.agent, ["a", "b", "c"], journal=journal, max_concurrency=1))
    journal.write_bytes(journal.read_bytes()[:-cut])
    results = await read(run_batch(grader.agent, ["a", "b", "c"], journal=journal))
    assert len(results) == 3
    assert grader.asked == {"a": 1, "b": 1, "c": 2}
    assert [json.loads(line)["index"] for line in journal.read_text().splitlines()] == [0, 1, 2]


async def test_failed_inputs_are_run_again_only_if_asked_for(tmp_path: Path) -> None:
    journal, grader = tmp_path / "grades.jsonl", Grader()
    await read(run_batch(grader.agent, ["a", "bad"], journal=journal))
    results = await read(run_batch(grader.agent, ["a", "bad"], journal=journal))
    assert {(result.index, result.status, result.resumed) for result in results} == {
        (0, "ok", True),
        (1, "error", True),
    }
    assert grader.asked == {"a": 1, "bad": 1}
    results = await read(run_batch(grader.agent, ["a", "bad"], journal=journal, retry_failed=True))
    assert grader.asked == {"a": 1, "bad": 2}
    await read(run_batch(grader.agent, ["a", "bad"], journal=journal))  # of two lines for one input the later counts
    assert grader.asked == {"a": 1, "bad": 2}


async def test_a_journal_of_other_inputs_is_refused(tmp_path: Path) -> None:
    journal, grader = tmp_path / "grades.jsonl", Grader()
    await read(run_batch(grader.agent, ["a", "b"], journal=journal))
    with pytest.raises(ConfigError, match="is of other inputs: number 1 has changed since"):
        await read(run_batch(grader.agent, ["a", "changed"], journal=journal))
    assert grader.asked == {"a": 1, "b": 1}


@pytest.mark.parametrize("line", ["not json", "[1]", '{"index": 0}', '{"index": 0, "id": "", "status": "ok"}'])
async def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path, line: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(line + "\nmore")
    with pytest.raises(ConfigError, match=r"is no journal of a batch: line 1 is not one of its results"):
        await read(run_batch(Grader().agent, ["a"], journal=file))
    assert file.read_text() == line + "\nmore"
    with pytest.raises(ConfigError, match="can't be opened"):
        await read(run_batch(Grader().agent, ["a"], journal=tmp_path))


@pytest.mark.parametrize("text", ["one line, never ended", '{"id": 3', "x"])
async def test_a_lone_line_without_an_end_is_not_taken_for_a_result_cut_short(tmp_path: Path, text: str) -> None:
    file = tmp_path / "notes.txt"
    file.write_text(text)
    with pytest.raises(ConfigError, match="is no journal of a batch: line 1 is not one of its results"):
        await read(run_batch(Grader().agent, ["a"], journal=file))
    assert file.read_text() == text


async def test_two_batches_cannot_write_one_journal(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    journal = tmp_path / "grades.jsonl"
    async with run_batch(Grader().agent, ["a"], journal=journal):
        with pytest.raises(ConfigError, match="another batch is writing the journal"):
            await read(run_batch(Grader().agent, ["a"], journal=journal))
    await read(run_batch(Grader().agent, ["a"], journal=journal))


# Ends


async def test_a_run_that_asks_people_has_failed_and_can_be_answered_where_sessions_are_kept() -> None:
    @agent
    async def careful(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(f"graded: {await ctx.request_input('Shall I?')}"))

    (result,) = await read(run_batch(careful, ["a"]))
    assert not result.ok
    assert str(result.exception) == "it waits for people, and nobody answers in a batch: Shall I?"
    async with Runner(careful) as runner:
        (result,) = await read(run_batch(runner, ["a"]))
        (stored,) = await runner.sessions.list(runner.app_name, "user")
        session = await runner.sessions.get(stored.key)
        assert session is not None
        (question,) = [question for event in session.events for question in questions_in(event)]
        async with runner.run(session_id=result.session_id, answers={question.id: "yes"}) as run:
            assert (await run.wait()).text == "graded: yes"


async def test_too_many_failures_stop_it() -> None:
    grader = Grader()
    batch = run_batch(grader.agent, [f"bad {number}" for number in range(50)], max_concurrency=2, max_failures=3)
    results: list[BatchResult] = []
    said = r"4 inputs have failed \(max_failures=3\); the last is number \d: ValueError"
    with pytest.raises(BatchStopped, match=said) as caught:
        await read(batch, into=results)
    assert caught.value.failures >= 4
    assert 4 <= len(results) <= 6
    assert grader.running == 0


async def test_cancel_ends_the_stream_and_what_is_at_work() -> None:
    grader = Grader()
    results = []
    async with run_batch(grader.agent, [str(number) for number in range(20)], max_concurrency=4) as batch:
        async for result in batch:
            results.append(result)
            if len(results) == 5:
                await anyio.sleep(0.5)
                assert grader.running
                batch.cancel()
        assert grader.running == 0
    assert len(results) == 8  # what was done and had not been taken is given too
    assert batch.progress.done == 8


@pytest.mark.parametrize("way", ["break", "error", "cancel"])
async def test_leaving_it_early_leaves_nothing_behind(way: str) -> None:
    grader = Grader(lasts=5)
    with anyio.CancelScope() as scope:
        with pytest.raises(KeyError, match="mine") if way == "error" else nullcontext():
            async with run_batch(grader.agent, ["a"] * 9, max_concurrency=3) as batch:
                await anext(batch)
                await anyio.sleep(1)
                assert grader.running
                if way == "error":
                    raise KeyError("mine")
                if way == "cancel":
                    scope.cancel()
                    await anyio.sleep(1)
    assert scope.cancelled_caught == (way == "cancel")
    assert grader.running == 0


async def test_an_iterator_that_fails_ends_it_with_its_error() -> None:
    def inputs() -> Iterator[str]:
        yield "a"
        raise OSError("the disk is gone")

    results: list[BatchResult] = []
    with pytest.raises(OSError, match="the disk is gone"):
        await read(run_batch(Grader().agent, inputs()), into=results)
    assert [result.index for result in results] == [0]


async def test_an_input_that_json_cannot_hold_ends_it() -> None:
    with pytest.raises(ConfigError, match="an input must be text, content or JSON"):
        await read(run_batch(Grader().agent, [object()]))


# Runners


async def test_its_own_sessions_are_dropped_and_a_runners_are_kept() -> None:
    own = run_batch(Grader().agent, ["a", "b"])
    async with own:
        async for _ in own:
            pass
        assert await own._runner.sessions.list("grader") == []
    store = InMemorySessionService()
    async with Runner(Grader().agent, sessions=store) as runner:
        results = await read(run_batch(runner, ["a", "b"], user_id="teacher"))
        kept = {session.id for session in await store.list("grader", "teacher")}
        assert kept == {result.session_id for result in results}
        async with runner.run("still entered") as run:
            await run.wait()


async def test_a_run_that_is_cancelled_or_out_of_budget_has_failed() -> None:
    results = await read(run_batch(Grader(lasts=9).agent, ["a"], limits=Limits(seconds=2)))
    assert (results[0].status, results[0].error.type) == ("error", "LimitExceeded")

    async def gives_up(ctx: InvocationContext) -> None:
        next(iter(runner._live.values())).cancel("no longer wanted")
        await anyio.sleep(1)

    async with Runner(FunctionAgent("a", gives_up)) as runner:
        results = await read(run_batch(runner, ["x"]))
    assert (results[0].status, results[0].error.message) == ("error", "the run was cancelled: no longer wanted")


async def test_a_runner_that_is_not_entered_ends_it() -> None:
    with pytest.raises(ConfigError, match="enter the Runner first"):
        await read(run_batch(Runner(Grader().agent), ["a"]))


async def test_it_is_entered_once_and_before_it_is_read() -> None:
    batch = run_batch(Grader().agent, ["a"])
    with pytest.raises(ConfigError, match="enter the batch first"):
        await anext(batch)
    await read(batch)
    with pytest.raises(ConfigError, match="entered once"):
        await read(batch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"agent": 3}, "needs an agent or a Runner"),
        ({"inputs": "abc"}, "inputs must be a list or an iterator of them, not str"),
        ({"inputs": 3}, "not int"),
        ({"inputs": {"a": 1}}, "not dict"),
        ({"max_concurrency": 0}, "max_concurrency must be a whole number of at least 1"),
        ({"max_failures": -1}, "max_failures must be a whole number of at least 0"),
        ({"retry_failed": True}, "retry_failed needs a journal"),
    ],
)
def test_what_cannot_work_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_batch(**{"agent": Grader().agent, "inputs": ["a"], **arguments})


async def test_no_inputs_are_no_results() -> None:
    assert await read(run_batch(Grader().agent, [])) == []
