"""Map-reduce in bounded memory, and prompts in bounded windows."""

import gc
import tracemalloc
from collections.abc import Iterator, Sequence

import pytest

from agentflow import (
    Event,
    InMemorySessionService,
    LlmAgent,
    MapReduceAgent,
    Runner,
    SentenceSplitter,
    SessionKey,
)
from agentflow.events import commit_event
from agentflow.models.base import ModelRequest
from agentflow.testing import FunctionModel


class Forgetful(InMemorySessionService):
    """Numbers events and keeps none, so that what is left in memory is the run's own."""

    serial = 0

    async def append(self, key: SessionKey, events: Sequence[Event], *, expected_version: int | None = None) -> None:
        for event in events:
            self.serial += 1
            commit_event(event, seq=1, serial=self.serial)


async def held(chunks: int, fan_in: int | None) -> int:
    """Bytes that are held at the highest, as sampled three times."""

    def pieces(source: str) -> Iterator[str]:
        return (f"piece {number}" for number in range(chunks))

    async def mapper(piece: str) -> str:
        return "x"

    async def reducer(results: list[str]) -> str:
        return str(len(results))

    work = MapReduceAgent("m", mapper=mapper, reducer=reducer, splitter=pieces, fan_in=fan_in)
    async with Runner(work, sessions=Forgetful()) as runner:
        async with runner.run("warm up") as run:
            async for _ in run:
                break
        gc.collect()
        tracemalloc.start()
        try:
            most = number = 0
            async with runner.run("go") as run:
                async for _ in run:
                    number += 1
                    if number % chunks == 0:
                        gc.collect()
                        most = max(most, tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    return most


@pytest.mark.parametrize("fan_in", [10, None])
async def test_ten_times_the_chunks_take_no_more_memory_but_for_their_results(fan_in: int | None) -> None:
    few, *many = [await held(chunks, fan_in) for chunks in (100, 1000, 1000)]  # twice: all of the process is counted
    results = 0 if fan_in is not None else 900 * 200  # a place in a dictionary, and its number
    assert min(many) <= 1.2 * few + results


async def test_no_prompt_of_a_model_holds_more_than_its_piece() -> None:
    """The whole text is the user's message, and a model reads the talk before it: not here."""
    prompts: list[str] = []

    def answers(request: ModelRequest) -> str:
        prompts.append("".join(message.text for message in request.messages))
        return "Short."

    model = FunctionModel(answers)
    text = "One two three four five six seven. " * 300
    summary = MapReduceAgent(
        "m",
        mapper=LlmAgent("reader", model=model),
        reducer=LlmAgent("editor", model=model),
        splitter=SentenceSplitter(50),
        fan_in=4,
    )
    async with Runner(summary) as runner, runner.run(text) as run:
        await run.wait()
    assert run.result.text == "Short."
    assert len(prompts) > 50
    assert max(map(len, prompts)) < 500 < len(text) / 10
