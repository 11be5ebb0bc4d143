"""A hundred essays graded, eight at a time; interrupted, the batch goes on. Run: `python examples/batch_grading.py`.

With ANTHROPIC_API_KEY set a model grades; without, long words are what counts.
"""

import os
import tempfile
from pathlib import Path

import anyio
from pydantic import BaseModel

from agentflow import BatchInput, LlmAgent, run_batch
from agentflow.models.base import ModelRequest
from agentflow.testing import FunctionModel

LIVE = "claude-haiku-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None


class Grade(BaseModel):
    """What came of an essay."""

    grade: int
    why: str


def by_long_words(request: ModelRequest) -> str:
    long = [word for word in request.messages[-1].text.split() if len(word) > 6]
    return Grade(grade=min(10, len(long)), why=f"{len(long)} long words").model_dump_json()


grader = LlmAgent(
    "grader", model=LIVE or FunctionModel(by_long_words), output_schema=Grade, instruction="Grade from 0 to 10."
)
essays = [BatchInput("Considerable learning. " * (number % 7), id=f"essay-{number}") for number in range(100)]


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "grades.jsonl"
        async with run_batch(grader, essays, journal=journal) as batch:
            async for _ in batch:
                if batch.progress.done >= 40:
                    break  # as if interrupted
        async with run_batch(grader, essays, journal=journal) as batch:
            grades = [result.output["grade"] async for result in batch if result.ok]
    progress = batch.progress
    assert progress.resumed >= 40, "what was done is not done again"
    print(f"{progress.done} of {progress.total} graded; on average {sum(grades) / len(grades):.1f}")


if __name__ == "__main__":
    anyio.run(main)
