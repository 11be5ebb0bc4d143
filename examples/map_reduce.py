"""A whole book, chapter by chapter at once, and summaries of summaries. Run: `python examples/map_reduce.py`.

With ANTHROPIC_API_KEY set models summarise; without, a summary is the first sentence.
"""

import os
from textwrap import shorten

import anyio

from agentflow import LlmAgent, MapReduceAgent, MapReduceResult, Runner, SentenceSplitter
from agentflow.demo.pipeline import TEXT
from agentflow.models.base import ModelRequest
from agentflow.testing import FunctionModel

LIVE = "claude-haiku-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None
longest = 0


def first_sentence(request: ModelRequest) -> str:
    global longest
    text = request.messages[-1].text
    longest = max(longest, sum(len(message.text) for message in request.messages))
    parts = text.split("```")[1::2] or [text]  # to an editor, what is to be reduced comes in fences
    return " ".join(part.strip().partition(". ")[0].rstrip(".")[:80] + "." for part in parts)


model = LIVE or FunctionModel(first_sentence)
book = MapReduceAgent(
    "book",
    mapper=LlmAgent("reader", model=model, instruction="Summarise this part in two sentences."),
    reducer=LlmAgent("editor", model=model, instruction="Make one summary of these, in ten sentences at most."),
    splitter=SentenceSplitter(2_000, overlap=50),
    fan_in=8,
    max_concurrency=10,
    on_error="collect",
)


async def main() -> None:
    text = TEXT.read_text(encoding="utf-8")
    async with Runner(book) as runner, runner.run(text) as run:
        result = MapReduceResult.of(await run.wait())
    print(f"{len(text):,} characters, {result.chunks} chunks, {result.levels} levels, {len(result.failed)} failed")
    print(f"the longest prompt had {longest:,} characters" if longest else f"{result.metrics.tokens:,} tokens")
    print(shorten(result.answer, 300))


if __name__ == "__main__":
    anyio.run(main)
