"""Four analysts read each section of a text at once, several sections at once; then one puts it all together.

Run: `python examples/document_analysis.py [FILE]`. No key is needed: the analysts are local code, not models.
"""

import sys
from pathlib import Path

import anyio

from agentflow import Runner
from agentflow.demo.pipeline import NOTE, TEXT, document_analysis


async def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else TEXT
    document = document_analysis(file.read_text(encoding="utf-8"), title=file.name)
    print(NOTE)
    async with Runner(document) as runner, runner.run(f"Analyse {file.name}") as run:
        async for event in run:
            if event.text:
                print(f"{event.author}: {event.text}")
    ended = run.result.outcomes.values()
    print(f"{len(ended)} branches in {run.result.duration:.2f} s, {sum(outcome.ok for outcome in ended)} of them well")


if __name__ == "__main__":
    anyio.run(main)
