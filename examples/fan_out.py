"""Reviews dealt to whoever is free, and counted. Run: `python examples/fan_out.py`."""

from collections import Counter
from collections.abc import Sequence

import anyio

from agentflow import FanOutFanIn, FanOutResult, FunctionAgent, InvocationContext, Outcome, Runner

REVIEWS = ["I love it", "broken on arrival", "does what it says", "love the colour", "broken after a week", "fine"]


def reader(name: str, seconds: float) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        await anyio.sleep(seconds)
        mood = "good" if "love" in ctx.user_text else "bad" if "broken" in ctx.user_text else "neutral"
        await ctx.emit(ctx.text(mood))

    return FunctionAgent(name, turn)


def count(outcomes: Sequence[Outcome]) -> dict[str, int]:
    return dict(Counter(outcome.text for outcome in outcomes))


moods = FanOutFanIn("moods", [reader("quick", 0.02), reader("slow", 0.07)], aggregator=count)


async def main() -> None:
    async with Runner(moods) as runner, runner.run("\n".join(REVIEWS)) as run:
        result = FanOutResult.of(await run.wait())
    print(result.answer)
    for review, worker in zip(REVIEWS, result.workers, strict=True):
        print(f"{worker:5} read {review!r}")


if __name__ == "__main__":
    anyio.run(main)
