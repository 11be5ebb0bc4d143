"""Agents that think, with models that don't: what agentflow adds to a streamed piece, a turn, a session, a crowd."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from agentflow import Limits, LlmAgent, Model, ModelRequest, ModelResponse, ParallelAgent, Runner, Text, Usage
from agentflow.testing import FakeAnthropic
from agentflow.testing.fake_anthropic import says
from benchmarks.backends import run_on
from benchmarks.measure import Sample, sample, sample_sync

PIECES = 2_000


class Instant(Model):
    """Answers at once, or after a pause; in pieces, where it has many words."""

    name = "instant"

    def __init__(self, words: int = 1, pause: float = 0) -> None:
        self.words = words
        self.pause = pause

    async def generate(self, request: ModelRequest, on_chunk: Any = None) -> ModelResponse:
        if self.pause:
            await anyio.sleep(self.pause)
        if on_chunk is not None and self.words > 1:
            for _ in range(self.words):
                await on_chunk(ModelResponse(parts=(Text("word "),), partial=True))
        usage = Usage(10, self.words, model_calls=1)
        return ModelResponse(parts=(Text("word " * self.words),), finish_reason="stop", usage=usage)


async def _run(runner: Runner, session: str | None = None) -> int:
    delivered = 0
    async with runner.run("go", session_id=session) as run:
        async for _ in run:
            delivered += 1
    return delivered


def _measure(backend: str, build: Callable[[], Runner], work: Callable[[Runner], Awaitable[int]]) -> Sample:
    async def entered(runner: Runner) -> int:
        async with runner:
            return await work(runner)

    async def main() -> Sample:
        return await sample(build, entered)

    return run_on(backend, main)


def pieces(*, count: int, backend: str) -> Sample:
    """Streamed pieces through an LlmAgent to the consumer; per piece."""

    async def once(runner: Runner) -> int:
        assert await _run(runner) > count
        return count

    return _measure(backend, lambda: Runner(LlmAgent("a", model=Instant(count))), once)


def bare(*, count: int, backend: str) -> Sample:
    """The same over one memory object stream of anyio's, buffer 0; per piece."""

    async def send(stream: Any) -> None:
        async with stream:
            for _ in range(count):
                await stream.send("word ")

    async def once(_: None) -> int:
        sender, receiver = anyio.create_memory_object_stream[str](0)
        async with anyio.create_task_group() as tasks, receiver:
            tasks.start_soon(send, sender)
            async for _ in receiver:
                pass
        return count

    async def main() -> Sample:
        return await sample(lambda: None, once)

    return run_on(backend, main)


def turn(*, runs: int, backend: str) -> Sample:
    """One turn with an instant model, a fresh session each; per turn."""

    async def many(runner: Runner) -> int:
        for _ in range(runs):
            await _run(runner)
        return runs

    return _measure(backend, lambda: Runner(LlmAgent("a", model=Instant())), many)


def session(*, turns: int, history: int | None, claude: bool, backend: str) -> Sample:
    """The last ten turns of a session of so many; per turn. With Claude: through the real SDK, all that it does."""
    measured = 10

    async def main() -> Sample:
        model = FakeAnthropic(says("word"), repeat=True, check=False).model() if claude else Instant()
        async with Runner(LlmAgent("a", model=model, history=history)) as runner:
            for _ in range(turns - measured):
                await _run(runner, "s")

            async def once(_: None) -> int:
                for _ in range(measured):
                    await _run(runner, "s")
                return measured

            return await sample(lambda: None, once, most=3)

    return run_on(backend, main)


def crowd(*, agents: int, seconds: float, backend: str) -> Sample:
    """So many agents in parallel, each with a model that takes its time; per run."""

    def build() -> Runner:
        model = Instant(pause=seconds)
        crowd = ParallelAgent("crowd", [LlmAgent(f"a{n}", model=model) for n in range(agents)])
        return Runner(crowd, limits=Limits(model_calls=None))

    async def once(runner: Runner) -> int:
        await _run(runner)
        return 1

    return _measure(backend, build, once)


def build(*, count: int) -> Sample:
    """Construct agents with one tool; per agent."""
    model = Instant()

    def look(where: str, deep: bool = False) -> str:
        """Look somewhere.

        Args:
            where: The place.
            deep: Whether to look twice.
        """
        return where

    def make() -> int:
        return len([LlmAgent(f"a{n}", model=model, instruction="Be brief.", tools=[look]) for n in range(count)])

    return sample_sync(make)
