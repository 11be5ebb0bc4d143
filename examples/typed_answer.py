"""An answer of a type: validated, repaired once if need be, kept in state. Run: `python examples/typed_answer.py`.

With ANTHROPIC_API_KEY set, Claude is held to the schema.
"""

import os

import anyio
from pydantic import BaseModel, Field

from agentflow import LlmAgent, Runner
from agentflow.testing import ScriptedModel

CLAUDE = "claude-opus-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None


class Review(BaseModel):
    """What a customer thinks."""

    sentiment: float = Field(ge=-1, le=1, description="-1 is furious, 1 is delighted.")
    complaints: list[str]


reader = LlmAgent(
    "reader",
    model=CLAUDE
    or ScriptedModel(
        '{"sentiment": -3, "complaints": ["late", "cold"]}',
        '{"sentiment": -0.8, "complaints": ["late", "cold"]}',
    ),
    instruction="Read the review.",
    output_schema=Review,
    output_key="review",
)


async def main() -> None:
    async with Runner(reader) as runner, runner.run("It came an hour late, and cold. Never again!") as run:
        async for event in run:
            if event.error:
                print(f"refused: {event.error.message}")
        review = Review.model_validate(run.result.output)
        print(f"{review.sentiment:+.1f}: {', '.join(review.complaints)}")


if __name__ == "__main__":
    anyio.run(main)
