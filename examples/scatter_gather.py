"""Three analysts, one question, and every way to make one answer of theirs. Run: `python examples/scatter_gather.py`.

With ANTHROPIC_API_KEY set they think for themselves; without, they say what is written here.
"""

import os
from textwrap import shorten
from typing import Any

import anyio

from agentflow import Consensus, Judge, LlmAgent, Runner, ScatterGatherAgent, ScatterGatherResult, Voting, Weighted
from agentflow.testing import FunctionModel

LIVE = "claude-haiku-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None
SAID = {
    "optimist": "Demand grows by a third a year, and nobody serves it.\nAnswer: enter",
    "critic": "Two rivals cut prices last month; we would burn cash for years.\nAnswer: wait",
    "neutral": "Demand grows, margins don't. A pilot in one city costs little.\nAnswer: enter",
    "writer": "Enter with a pilot in one city, and watch the rivals' prices.",
}


def analyst(name: str, task: str) -> LlmAgent:
    return LlmAgent(name, model=LIVE or FunctionModel(lambda request: SAID[name]), instruction=task)


def panel(aggregator: Any) -> ScatterGatherAgent:
    lenses = {"optimist": "Look for opportunities.", "critic": "Look for risks.", "neutral": "Weigh both sides."}
    ask = "One sentence, then a line `Answer: enter` or `Answer: wait`."
    analysts = [analyst(name, f"{lens} {ask}") for name, lens in lenses.items()]
    return ScatterGatherAgent("panel", analysts, aggregator=aggregator, timeout_per_agent="1m", early_stop=False)


WAYS: dict[str, Any] = {
    "collect": "collect",
    "first": "first",
    "voting": Voting(),
    "weighted": Weighted("choice", accuracy={"optimist": 0.6, "critic": 0.9, "neutral": 0.7}),
    "consensus": Consensus(),
    "judge": Judge(lambda answers: [-len(answer) for answer in answers]),  # the shortest
    "synthesis": analyst("writer", "You advise a board."),
    "function": lambda outcomes: {"answered": sum(outcome.ok for outcome in outcomes)},
}


async def main() -> None:
    for name, aggregator in WAYS.items():
        async with Runner(panel(aggregator)) as runner, runner.run("Should we enter the market?") as run:
            result = ScatterGatherResult.of(await run.wait())
        print(f"{name:10} {result.winner:9} {shorten(str(result.answer), 80)}")


if __name__ == "__main__":
    anyio.run(main)
