"""Ask a model often enough to be sure, and no oftener. Run: `python examples/self_consistency.py`.

Up to 15 calls a question, four at a time, until the lead is 95 % sure: Adaptive-Consistency. With ANTHROPIC_API_KEY set
a live model answers; without, one that is wrong now and then.
"""

import os
import random

import anyio

from agentflow import LlmAgent, Runner, ScatterGatherAgent, ScatterGatherResult, Voting
from agentflow.models.base import ModelRequest
from agentflow.testing import FunctionModel

QUESTIONS = {"What is 17 x 24?": 0.95, "What is 347 x 28 - 612 x 7?": 0.6}
rng = random.Random(4)


def guess(request: ModelRequest) -> str:
    """Right as often as the question is easy."""
    question = request.messages[0].text
    right = eval(question.removeprefix("What is ").rstrip("?").replace("x", "*"))
    answer = right if rng.random() < QUESTIONS[question] else right + rng.choice([-10, 10, 100])
    return f"Let me multiply.\nAnswer: {answer:,}"


LIVE = "claude-haiku-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None
solver = LlmAgent(
    "solver", model=LIVE or FunctionModel(guess), instruction="Be brief. End with a line `Answer: NUMBER`."
)
vote = ScatterGatherAgent("vote", solver, n=15, wave=4, aggregator=Voting(confidence=0.95))


async def main() -> None:
    async with Runner(vote) as runner:
        for question in QUESTIONS:
            async with runner.run(question) as run:
                result = ScatterGatherResult.of(await run.wait())
            metrics = result.metrics
            print(f"{question} {result.answer}, by {metrics.agreement:.0%} of {metrics.calls} calls; {result.reason}")
            for candidate in result.candidates:
                print(f"  {candidate.answer:>8} {'#' * int(candidate.weight)}")


if __name__ == "__main__":
    anyio.run(main)
