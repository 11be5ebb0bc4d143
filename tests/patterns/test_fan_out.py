"""Work dealt to a pool: who gets what, results in the order of the items, and what a failure does."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from agentflow import ConfigError, Data, InvocationContext, Runner, SequentialAgent, agent
from agentflow.errors import InvalidAnswer, TooFewAnswers
from agentflow.patterns.aggregate import Collect, Synthesis
from agentflow.patterns.fan_out import FanOutFanIn, FanOutResult
from agentflow.patterns.voting import Voting
from tests.core.actors import Played, hears, play


def result_of(played: Played) -> FanOutResult:
    return FanOutResult.of(played.run.result)


def lines(*words: str) -> str:
    return "\n".join(words)


def pool(*takes: float, log: list[tuple[str, str]] | None = None) -> list[Callable[[str], Any]]:
    """Workers `w0`, `w1`, ... that take so long for an item, or as long as an item that is a number says."""

    def make(place: int, seconds: float) -> Callable[[str], Any]:
        async def work(item: str) -> str:
            await anyio.sleep(seconds)
            if log is not None:
                log.append((f"w{place}", item))
            return item.upper()

        work.__name__ = f"w{place}"
        return work

    return [make(place, seconds) for place, seconds in enumerate(takes)]


async def test_results_are_in_the_order_of_the_items_whoever_is_faster() -> None:
    played = await play(FanOutFanIn("f", pool(5, 1)), lines(*"abcdef"))
    result = result_of(played)
    assert result.answer == list("ABCDEF")
    assert played.run.result.text == "\n\n".join("ABCDEF")
    assert result.workers == ("w0", "w1", "w1", "w1", "w1", "w1")
    assert [branch.name for branch in result.branches] == ["w0#1", *(f"w1#{number}" for number in range(2, 7))]


async def test_the_worker_that_is_free_takes_the_next() -> None:
    log: list[tuple[str, str]] = []
    await play(FanOutFanIn("f", pool(3, 1, log=log)), lines(*"abcd"))
    assert sorted(log, key=lambda entry: entry[1]) == [("w0", "a"), ("w1", "b"), ("w1", "c"), ("w1", "d")]


async def test_each_in_turn_whoever_is_free() -> None:
    began = anyio.current_time()
    result = result_of(await play(FanOutFanIn("f", pool(3, 1), dispatch="round_robin"), lines(*"abcdef")))
    assert result.workers == ("w0", "w1") * 3
    assert result.answer == list("ABCDEF")
    assert anyio.current_time() - began == pytest.approx(9, abs=0.1)


async def test_items_of_one_key_go_to_one_worker_in_order() -> None:
    log: list[tuple[str, str]] = []
    fan = FanOutFanIn("f", pool(2, 1, log=log), dispatch=lambda item: item[0])
    result = result_of(await play(fan, lines("x1", "y1", "x2", "z1", "y2", "x3")))
    assert result.workers == ("w0", "w1", "w0", "w0", "w1", "w0")  # z is dealt to the one whose turn it is
    assert [item for worker, item in log if worker == "w0"] == ["x1", "x2", "z1", "x3"]


@pytest.mark.parametrize("dispatch", ["free", "round_robin"])
async def test_a_worker_may_do_several_at_once(dispatch: Any) -> None:
    running, most = 0, 0

    async def work(item: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1
        return item

    async def other(item: str) -> str:
        return await work(item)

    began = anyio.current_time()
    await play(FanOutFanIn("f", [work, other], per_worker=3, dispatch=dispatch), lines(*"abcdefghijkl"))
    assert most == 6
    assert anyio.current_time() - began == pytest.approx(2, abs=0.1)


async def test_agents_and_functions_are_given_items_and_see_nothing_else() -> None:
    seen: list[Any] = []

    @agent
    async def reads(ctx: InvocationContext) -> None:
        seen.append([event.text for event in await ctx.history()])
        await ctx.emit(ctx.text(ctx.user_text))

    async def takes(item: dict[str, int], ctx: InvocationContext) -> str:
        seen.append((item, ctx.path))
        return "x"

    fan = FanOutFanIn("f", [reads, takes], dispatch="round_robin")
    async with Runner(fan) as runner, runner.run(Data([{"n": 1}, {"n": 2}])) as run:
        await run.wait()
    assert ['{"n": 1}'] in seen
    assert ({"n": 2}, "f.takes") in seen


async def test_the_aggregator_is_any_that_scatter_gather_takes() -> None:
    async def third(item: str) -> str:
        return item[2]

    @agent
    async def sums(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(f"{ctx.user_text.count('###')} parts"))

    text = lines("abx", "cdx", "efy")
    assert result_of(await play(FanOutFanIn("f", [third], aggregator=Voting()), text)).answer == "x"
    assert result_of(await play(FanOutFanIn("f", [third], aggregator=sums), text)).answer == "3 parts"
    assert (
        result_of(await play(FanOutFanIn("f", [third], aggregator=Synthesis(sums.clone())), text)).strategy
        == "synthesis"
    )
    played = await play(FanOutFanIn("f", [third], aggregator=lambda outcomes: len(outcomes)), text)
    assert result_of(played).answer == 3
    assert [record.name for record in played.records("synthesis_complete")] == ["synthesis_complete"]


async def test_what_follows_sees_the_answer_alone_unless_it_is_to_see_all() -> None:
    for show, wanted in ((False, ["a\nb", "A\n\nB"]), (True, ["a\nb", "A", "B", "A\n\nB"])):
        heard: list[str] = []
        fan = FanOutFanIn("f", pool(1), show_branches=show)
        await play(SequentialAgent("s", [fan, hears("h", heard)]), lines("a", "b"))
        assert heard == wanted


# Failures


async def no_b(item: str) -> str:
    await anyio.sleep(1)
    if item == "b":
        raise ValueError("no b")
    return item


async def test_the_first_failure_cancels_the_rest_and_is_raised_as_itself() -> None:
    began = anyio.current_time()
    with pytest.raises(ValueError, match="no b"):
        await play(FanOutFanIn("f", [no_b, *pool(100)], dispatch="round_robin"), lines(*"bxxx"))
    assert anyio.current_time() - began == pytest.approx(1, abs=0.1)


async def test_what_failed_is_missing_and_the_rest_goes_on() -> None:
    result = result_of(await play(FanOutFanIn("f", [no_b], on_error="collect"), lines(*"abc")))
    assert result.answer == ["a", "c"]
    assert result.missing == {"no_b#2": "ValueError: no b"}


async def test_items_have_time_and_tries_of_their_own() -> None:
    tries: list[str] = []

    async def work(item: str) -> str:
        tries.append(item)
        if item == "slow":
            await anyio.sleep(100)
        if tries.count(item) < 2:
            raise ValueError(item)
        return item

    fan = FanOutFanIn("f", [work], item_timeout=5, item_retry=2, on_error="collect")
    result = result_of(await play(fan, lines("a", "slow", "b")))
    assert result.answer == ["a", "b"]
    assert [branch.status for branch in result.branches] == ["ok", "timeout", "ok"]


async def test_too_few_that_went_well_are_a_typed_error() -> None:
    with pytest.raises(TooFewAnswers, match="1 of 2 items went well, 2 must: no_b#2: ValueError: no b"):
        await play(FanOutFanIn("f", [no_b], on_error="collect", min_successes=2), lines("a", "b"))


async def test_a_splitter_that_yields_nothing_is_a_typed_error() -> None:
    with pytest.raises(InvalidAnswer, match="agent 'f': its splitter gave nothing to work on"):
        await play(FanOutFanIn("f", pool(1), splitter=lambda source: []))


@pytest.mark.parametrize(
    ("workers", "options", "message"),
    [
        ([], {}, "needs at least one worker"),
        ("ab", {}, "needs an agent or a function, not 'a'"),
        (no_b, {}, "needs a list of workers"),
        ([3], {}, "needs an agent or a function, not 3"),
        ([no_b], {"dispatch": "any"}, "dispatch must be"),
        ([no_b], {"per_worker": 0}, "per_worker must be"),
        ([no_b], {"min_successes": True}, "min_successes must be"),
        ([no_b], {"on_error": "x"}, "on_error must be"),
        ([no_b], {"splitter": []}, "splitter must be"),
        ([no_b], {"aggregator": "x"}, "there is no aggregator named 'x'"),
        ([no_b], {"item_timeout": "soon"}, "item_timeout must be"),
        ([no_b, no_b], {}, "named 'no_b'"),
    ],
)
def test_what_cannot_work_is_refused_when_built(workers: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FanOutFanIn("f", workers, **options)


def test_its_aggregators_agents_are_part_of_the_tree() -> None:
    fan = FanOutFanIn("f", [no_b], aggregator=Synthesis(hears("h", [])))
    assert [child.name for child in fan.sub_agents] == ["no_b", "h"]
    assert fan.clone(aggregator=Collect()).sub_agents[0].name == "no_b"
