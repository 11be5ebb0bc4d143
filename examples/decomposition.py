"""A planner breaks a report down, specialists write the parts at once, an editor makes one of them.

Run: `python examples/decomposition.py`. With ANTHROPIC_API_KEY set models do it; without, what they say stands here.
"""

import json
import os

import anyio

from agentflow import DecompositionAgent, DecompositionResult, LlmAgent, Runner, Subtask
from agentflow.models.base import ModelRequest
from agentflow.testing import FunctionModel

LIVE = "claude-haiku-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None
PARTS = {"historian": "Where tea comes from", "economist": "What tea earns"}
PLAN = json.dumps({"result": [{"task": task, "specialist": name} for name, task in PARTS.items()]})


def model(answer: str) -> str | FunctionModel:
    def say(request: ModelRequest) -> str:
        return answer.replace("TASK", request.messages[-1].text)

    return LIVE or FunctionModel(say)


planner = LlmAgent("planner", model=model(PLAN), instruction="Two or three parts.", output_schema=list[Subtask])
specialists = [
    LlmAgent("historian", model=model("TASK: Yunnan."), description="Knows the past.", instruction="Two sentences."),
    LlmAgent("economist", model=model("TASK: enough."), description="Knows prices.", instruction="Two sentences."),
]
editor = LlmAgent("editor", model=model("Tea is from Yunnan, and earns enough."), instruction="Be brief.")
report = DecompositionAgent("report", decomposer=planner, specialists=specialists, aggregator=editor, max_subtasks=3)


async def main() -> None:
    async with Runner(report) as runner, runner.run("Write a short report on tea.") as run:
        async for event in run:
            if event.text and not event.partial and event.author in PARTS:
                print(f"{event.path}: {event.text}")
    result = DecompositionResult.of(run.result)
    print(f"{result.total_subtasks} parts: {result.answer}")


if __name__ == "__main__":
    anyio.run(main)
