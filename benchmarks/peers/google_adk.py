"""google-adk: `ParallelAgent` and `SequentialAgent` over custom agents, `InMemoryRunner`."""

import asyncio
import logging
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable

from benchmarks.measure import Sample, sample, sample_sync

warnings.simplefilter("ignore")

from google.adk.agents import BaseAgent, LlmAgent, ParallelAgent, SequentialAgent  # noqa: E402  # after the filter
from google.adk.agents.invocation_context import InvocationContext  # noqa: E402
from google.adk.events import Event  # noqa: E402
from google.adk.models import BaseLlm, LlmResponse  # noqa: E402
from google.adk.runners import InMemoryRunner  # noqa: E402
from google.genai import types  # noqa: E402

logging.disable(logging.WARNING)

USER = "u"


class Speaker(BaseAgent):
    """Yields a number of events, after a pause."""

    events: int = 1
    pause: float = 0

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        if self.pause:
            await asyncio.sleep(self.pause)
        for _ in range(self.events):
            yield Event(
                author=self.name,
                invocation_id=ctx.invocation_id,
                branch=ctx.branch,
                content=types.Content(role="model", parts=[types.Part(text="hello")]),
            )


def _fan(branches: int, events: int, pause: float = 0) -> ParallelAgent:
    return ParallelAgent(
        name="fan", sub_agents=[Speaker(name=f"s{n}", events=events, pause=pause) for n in range(branches)]
    )


async def _run_once(runner: InMemoryRunner) -> int:
    session = await runner.session_service.create_session(app_name=runner.app_name, user_id=USER)
    delivered = 0
    message = types.Content(role="user", parts=[types.Part(text="go")])
    async for _ in runner.run_async(user_id=USER, session_id=session.id, new_message=message):
        delivered += 1
    return delivered


def _measure(build: Callable[[], BaseAgent], work: Callable[[InMemoryRunner], Awaitable[int]]) -> Sample:
    return asyncio.run(sample(lambda: InMemoryRunner(agent=build()), work))


def merge(*, branches: int, events: int) -> Sample:
    """W1; per delivered event."""
    return _measure(lambda: _fan(branches, events), _run_once)


def sequence(*, runs: int) -> Sample:
    """W2; per run."""

    def build() -> BaseAgent:
        middle = ParallelAgent(name="middle", sub_agents=[Speaker(name=name) for name in "bcd"])
        return SequentialAgent(name="line", sub_agents=[Speaker(name="a"), middle, Speaker(name="e")])

    async def many(runner: InMemoryRunner) -> int:
        for _ in range(runs):
            await _run_once(runner)
        return runs

    return _measure(build, many)


def wait(*, branches: int, seconds: float) -> Sample:
    """One sleep in every branch; per run."""

    async def once(runner: InMemoryRunner) -> int:
        await _run_once(runner)
        return 1

    return _measure(lambda: _fan(branches, 1, seconds), once)


def build(*, kind: str, count: int) -> Sample:
    """Construct agents; per agent."""

    def custom() -> int:
        agents = [Speaker(name=f"a{n}") for n in range(count)]
        return len(agents)

    def tree() -> int:
        for n in range(count // 11):
            _ = ParallelAgent(name=f"fan{n}", sub_agents=[Speaker(name=f"a{leaf}") for leaf in range(10)])
        return count // 11 * 11

    def llm() -> int:
        agents = [LlmAgent(name=f"a{n}", model="none", instruction="Be brief.") for n in range(count)]
        return len(agents)

    def look(where: str, deep: bool = False) -> str:
        """Look somewhere."""
        return where

    def tool() -> int:
        agents = [LlmAgent(name=f"a{n}", model="none", instruction="Be brief.", tools=[look]) for n in range(count)]
        return len(agents)

    return sample_sync({"custom": custom, "tree": tree, "llm": llm, "llm with a tool": tool}[kind])


class Instant(BaseLlm):
    """Answers at once."""

    async def generate_content_async(
        self, llm_request: object, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text="word")]))


def turn(*, runs: int) -> Sample:
    """One turn with an instant model, a fresh session each; per turn."""

    async def many(runner: InMemoryRunner) -> int:
        for _ in range(runs):
            await _run_once(runner)
        return runs

    return _measure(lambda: LlmAgent(name="a", model=Instant(model="instant")), many)
