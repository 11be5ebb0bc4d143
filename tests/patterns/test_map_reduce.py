"""Map-reduce: pieces mapped as there is room, results reduced as they come, failures reported by place."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from agentflow import AgentTimeout, ConfigError, Data, InvocationContext, Limits, Runner, SequentialAgent, agent
from agentflow.errors import InvalidAnswer, LimitExceeded, TooFewAnswers
from agentflow.patterns.map_reduce import MapReduceAgent, MapReduceResult
from agentflow.patterns.splitters import Chunk, RecordSplitter, SectionSplitter, TokenSplitter
from tests.core.actors import Played, fails, hears, play
from tests.patterns.answering import Silent, answers


async def shout(piece: str) -> str:
    return piece.upper()


async def join(results: list[str]) -> str:
    return "-".join(results)


async def as_it_is(piece: str) -> str:
    return piece


async def brackets(results: list[str]) -> str:
    return f"({''.join(results)})"


def result_of(played: Played) -> MapReduceResult:
    return MapReduceResult.of(played.run.result)


def lines(*words: str) -> str:
    return "\n".join(words)


async def test_every_piece_is_mapped_and_the_results_reduced_in_order_however_they_end() -> None:
    async def slow_first(piece: str) -> str:
        await anyio.sleep(10 - int(piece))
        return f"<{piece}>"

    played = await play(
        MapReduceAgent("m", mapper=slow_first, reducer=join, splitter=RecordSplitter()), lines(*"0123456789")
    )
    assert played.run.result.text == "-".join(f"<{number}>" for number in range(10))
    assert (result_of(played).chunks, result_of(played).levels) == (10, 1)
    assert result_of(played).metrics.calls == 11
    (start,), (end,) = played.records("synthesis_start"), played.records("synthesis_complete")
    assert (start.aggregation_strategy, start.input_results_count, end.input_results_count) == ("reduce", 10, 10)


@pytest.mark.parametrize(
    ("pieces", "wanted", "levels"),
    [
        ("a", "(a)", 1),
        ("abc", "(abc)", 1),
        ("abcd", "((abc)d)", 2),
        ("abcdefghi", "((abc)(def)(ghi))", 2),
        ("abcdefghij", "(((abc)(def)(ghi))j)", 3),
    ],
)
async def test_with_a_fan_in_neighbours_are_reduced_level_by_level(pieces: str, wanted: str, levels: int) -> None:
    played = await play(
        MapReduceAgent("m", mapper=as_it_is, reducer=brackets, splitter=RecordSplitter(), fan_in=3), lines(*pieces)
    )
    assert played.run.result.text == wanted
    assert result_of(played).levels == levels


async def test_reductions_begin_while_pieces_are_still_mapped() -> None:
    log: list[str] = []

    async def mapped(piece: str) -> str:
        await anyio.sleep(1)
        log.append(piece)
        return piece

    async def reduced(results: list[str]) -> str:
        log.append("".join(results))
        return "".join(results)

    reducer = MapReduceAgent(
        "m", mapper=mapped, reducer=reduced, splitter=RecordSplitter(), fan_in=2, max_concurrency=2
    )
    await play(reducer, lines(*"abcdef"))
    assert log.index("ab") < log.index("e")


async def test_pieces_are_taken_only_as_there_is_room() -> None:
    taken, running, most = 0, 0, []

    def endless(source: str) -> Iterator[str]:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield str(number)

    async def mapped(piece: str) -> str:
        nonlocal running
        running += 1
        most.append((running, taken - int(piece)))
        await anyio.sleep(1)
        running -= 1
        return piece

    await play(MapReduceAgent("m", mapper=mapped, reducer=join, splitter=endless, max_concurrency=4))
    assert max(running for running, _ in most) == 4
    assert max(ahead for _, ahead in most) <= 4


async def test_a_splitter_may_be_an_async_generator_and_is_closed_when_the_run_fails() -> None:
    closed = []

    async def pieces(source: str) -> AsyncIterator[str]:
        try:
            for word in source.split():
                await anyio.sleep(1)
                yield word
        finally:
            closed.append(True)

    played = await play(MapReduceAgent("m", mapper=shout, reducer=join, splitter=pieces), "a b c")
    assert played.run.result.text == "A-B-C"
    assert closed == [True]
    with pytest.raises(ValueError, match="mapper failed"):
        await play(MapReduceAgent("m", mapper=fails("mapper"), reducer=join, splitter=pieces), "a b c d e f")
    assert closed == [True, True]


async def test_no_prompt_holds_more_than_its_own_piece_and_what_follows_sees_the_answer_alone() -> None:
    seen: list[list[str]] = []

    async def note(ctx: InvocationContext) -> None:
        seen.append([event.text for event in await ctx.history()])

    @agent
    async def mapper(ctx: InvocationContext) -> None:
        await note(ctx)
        await ctx.emit(ctx.text(ctx.user_text.upper()))

    @agent
    async def reducer(ctx: InvocationContext) -> None:
        await note(ctx)
        await ctx.emit(ctx.text("sum"))

    heard: list[str] = []
    tree = SequentialAgent(
        "s",
        [
            MapReduceAgent("m", mapper=mapper, reducer=reducer, splitter=RecordSplitter(), fan_in=2),
            hears("h", heard),
        ],
    )
    await play(tree, lines("a", "b", "c"))
    assert [words for words in seen if len(words) != 1] == []
    pieces = [words[0] for words in seen[:4]]
    assert {"a", "b", "c"} < set(pieces)
    between = next(piece for piece in pieces if "###" in piece)
    assert "2 of 2 answered" in between
    assert "### 1. part 1\n\n```\nA\n```\n\n### 2. part 2\n\n```\nB\n```" in between
    assert "### 1. parts 1 to 2\n\n```\nsum\n```\n\n### 2. part 3\n\n```\nC\n```" in seen[-1][0]
    assert heard == [lines("a", "b", "c"), "sum"]


async def test_a_reducer_of_which_nothing_comes_is_an_error() -> None:
    async def nothing(results: list[str]) -> None:
        """Gives nothing."""

    for reducer in (answers("editor", Silent()), nothing):
        with pytest.raises(InvalidAnswer, match="agent 'digest': its reducer said nothing"):
            await play(MapReduceAgent("digest", mapper=shout, reducer=reducer, splitter=str.split), "a b")


async def test_a_mapper_is_given_what_it_asks_for() -> None:
    """An agent is told the title too; a function that wants the chunk gets it; of a record it gets the value."""
    told: list[Any] = []

    async def chunk(piece: Chunk) -> str:
        told.append((piece.title, piece.start))
        return "x"

    async def record(piece: dict[str, int], ctx: InvocationContext) -> str:
        told.append((piece["n"], ctx.branch))
        return "x"

    @agent
    async def reads(ctx: InvocationContext) -> None:
        told.append((ctx.user_text, [part.value for part in ctx.user_content if isinstance(part, Data)]))
        await ctx.emit(ctx.text("x"))

    text = "# A\n\none\n\n# B\n\ntwo"
    await play(MapReduceAgent("m", mapper=chunk, reducer=join, splitter=SectionSplitter(), max_concurrency=1), text)
    assert told == [("A", 0), ("B", 10)]
    told.clear()
    jsonl = RecordSplitter(format="jsonl")
    await play(
        MapReduceAgent("m", mapper=record, reducer=join, splitter=jsonl, max_concurrency=1), '{"n": 1}\n{"n": 2}'
    )
    assert told == [(1, "m.record"), (2, "m.record#2")]
    told.clear()
    await play(MapReduceAgent("m", mapper=reads, reducer=join, splitter=SectionSplitter(), max_concurrency=1), text)
    await play(MapReduceAgent("m", mapper=reads.clone(), reducer=join, splitter=jsonl), '{"n": 1}')
    assert told == [("A\n\n# A\n\none", []), ("B\n\n# B\n\ntwo", []), ('{"n": 1}', [{"n": 1}])]


async def test_structured_input_is_split_as_it_is() -> None:
    mapper = MapReduceAgent("m", mapper=shout, reducer=join, splitter=RecordSplitter())
    async with Runner(mapper) as runner, runner.run([Data(["a", "b"])]) as run:
        await run.wait()
    assert run.result.text == "A-B"


# Failures


async def odd(piece: str) -> str:
    if int(piece) % 2:
        raise ValueError(f"{piece} is odd")
    return piece


async def test_the_first_failure_cancels_the_rest_and_is_raised_as_itself() -> None:
    with pytest.raises(ValueError, match="1 is odd") as caught:
        await play(
            MapReduceAgent("m", mapper=odd, reducer=join, splitter=RecordSplitter(), max_concurrency=2), lines(*"02124")
        )
    assert "in agent 'm.odd' on branch 'm.odd#3'" in caught.value.__notes__[0]


async def test_failed_pieces_are_reported_by_place_and_the_rest_is_reduced() -> None:
    splitter = TokenSplitter(1, count=lambda text: 1)
    agent = MapReduceAgent("m", mapper=odd, reducer=brackets, splitter=splitter, on_error="collect", fan_in=2)
    result = result_of(await play(agent, "0 1 2 3 5 6"))
    assert [(chunk.place, chunk.start, chunk.end, chunk.why) for chunk in result.failed] == [
        (1, 2, 3, "ValueError: 1 is odd"),
        (3, 6, 7, "ValueError: 3 is odd"),
        (4, 8, 9, "ValueError: 5 is odd"),
    ]
    assert result.missing == {
        "chunk 1": "ValueError: 1 is odd",
        "chunk 3": "ValueError: 3 is odd",
        "chunk 4": "ValueError: 5 is odd",
    }
    assert result.answer == "((02)6)"


async def test_a_reducer_that_fails_loses_what_it_was_to_stand_for() -> None:
    async def picky(results: list[str]) -> str:
        if "c" in results:
            raise ValueError("no c")
        return "".join(results)

    reducer = MapReduceAgent(
        "m", mapper=as_it_is, reducer=picky, splitter=RecordSplitter(), on_error="collect", fan_in=2
    )
    result = result_of(await play(reducer, lines(*"abcde")))
    assert result.answer == "abe"
    assert [chunk.place for chunk in result.failed] == [2, 3]
    assert result.failed[0].why == "what came of it could not be reduced: ValueError: no c"


async def test_pieces_and_reductions_have_time_and_tries_of_their_own() -> None:
    tries: dict[str, int] = {}

    async def mapped(piece: str) -> str:
        tries[piece] = tries.get(piece, 0) + 1
        if piece == "slow":
            await anyio.sleep(100)
        if tries[piece] < 3:
            raise ValueError("not yet")
        return piece

    agent = MapReduceAgent(
        "m",
        mapper=mapped,
        reducer=join,
        splitter=RecordSplitter(),
        on_error="collect",
        chunk_timeout=10,
        chunk_retry=3,
    )
    result = result_of(await play(agent, lines("a", "slow", "b")))
    assert result.answer == "a-b"
    assert [(chunk.place, chunk.why.split(":")[0]) for chunk in result.failed] == [(1, "AgentTimeout")]
    with pytest.raises(AgentTimeout):
        await play(MapReduceAgent("m", mapper=mapped, reducer=join, splitter=RecordSplitter(), timeout=5), "slow")


async def test_too_few_that_went_well_are_a_typed_error_with_the_causes() -> None:
    agent = MapReduceAgent("m", mapper=fails("f"), reducer=join, splitter=RecordSplitter(), on_error="collect")
    with pytest.raises(
        TooFewAnswers, match=r"0 of 2 pieces went well, 1 must: piece 0: ValueError: f failed"
    ) as caught:
        await play(agent, lines("a", "b"))
    assert [type(cause) for cause in caught.value.causes] == [ValueError, ValueError]


async def test_a_reducer_that_fails_at_the_end_fails_the_run() -> None:
    with pytest.raises(ValueError, match="r failed"):
        await play(MapReduceAgent("m", mapper=shout, reducer=fails("r"), splitter=RecordSplitter()), "a")


@pytest.mark.parametrize(
    "splitter", [lambda source: [], lambda source: iter(()), TokenSplitter(5)], ids=["list", "iterator", "spaces"]
)
async def test_a_splitter_that_yields_nothing_is_a_typed_error(splitter: Any) -> None:
    with pytest.raises(InvalidAnswer, match="agent 'm': its splitter gave nothing to work on"):
        await play(MapReduceAgent("m", mapper=shout, reducer=join, splitter=splitter), " ")


async def test_a_splitter_that_gives_no_pieces_but_text_is_a_typed_error() -> None:
    with pytest.raises(InvalidAnswer, match="must give an iterable of pieces, not str"):
        await play(MapReduceAgent("m", mapper=shout, reducer=join, splitter=lambda source: source), "abc")  # type: ignore[arg-type, return-value]


async def test_a_run_out_of_budget_ends_all_whatever_the_policy() -> None:
    mapper = MapReduceAgent("m", mapper=shout, reducer=join, splitter=RecordSplitter(), on_error="collect")
    async with Runner(mapper, limits=Limits(events=3)) as runner, runner.run(lines(*"abcdef")) as run:
        with pytest.raises(LimitExceeded):
            await run.wait()


async def test_leaving_the_run_ends_mappers_at_work() -> None:
    running = 0

    async def waits(piece: str) -> str:
        nonlocal running
        running += 1
        try:
            await anyio.sleep_forever()
        finally:
            running -= 1
        return piece

    mapper = MapReduceAgent("m", mapper=waits, reducer=join, splitter=RecordSplitter(), max_concurrency=3)
    async with Runner(mapper) as runner:
        async with runner.run(lines(*"abcdef")) as run:
            async for _ in run:
                if running == 3:
                    break
            assert running == 3
        assert running == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mapper": 3}, "mapper needs an agent or a function, not 3"),
        ({"reducer": "x"}, "reducer needs an agent or a function"),
        ({"splitter": 5}, "splitter must be a function"),
        ({"fan_in": 1}, "fan_in must be a whole number of at least 2"),
        ({"max_concurrency": 0}, "max_concurrency must be"),
        ({"max_concurrency": None}, "max_concurrency must be"),
        ({"min_successes": 0}, "min_successes must be"),
        ({"on_error": "ignore"}, "on_error must be"),
        ({"chunk_timeout": 0}, "chunk_timeout must be"),
    ],
)
def test_what_cannot_work_is_refused_when_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MapReduceAgent("m", **{"mapper": shout, "reducer": join, **options})
