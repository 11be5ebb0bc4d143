"""A provider is busy: calls wait for their turn, and another model helps. Run: `python examples/busy_model.py`."""

import anyio

from agentflow import ConcurrencyLimiter, FallbackModel, LlmAgent, ParallelAgent, Price, Runner
from agentflow.testing import FakeAnthropic, fails, says

# The real SDK against a fake of Claude's API. AnthropicModel("claude-opus-5-5", limiter=limiter) asks the real one.
limiter = ConcurrencyLimiter(3)
opus = FakeAnthropic(fails(529), says("It will sell."), fails(429, retry_after=60), says("It will break."), repeat=True)
haiku = FakeAnthropic(says("Who knows?"), repeat=True)
model = FallbackModel(
    opus.model("claude-opus-5-5", limiter=limiter, price=Price(input=4, output=20)),
    haiku.model("claude-haiku-5-5", limiter=limiter, price=Price(input=0.5, output=2.5)),
)


async def main() -> None:
    views = ParallelAgent("views", [LlmAgent(f"view{n}", model=model, stream=False) for n in range(4)])
    async with Runner(views) as runner, runner.run("Should we build it?") as run:
        async for event in run:
            if event.text and event.usage is not None:
                helped = "  (the first model was busy)" if event.usage.extra and "failed" in event.usage.extra else ""
                print(f"{event.author}: {event.text}{helped}")
    print(f"{run.usage.model_calls} answers for ${run.usage.cost:.4f}")


if __name__ == "__main__":
    anyio.run(main)
