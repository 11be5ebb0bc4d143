"""An agent that calls plain functions, its answer shown as it is written. Run: `python examples/tool_user.py`.

With ANTHROPIC_API_KEY set, Claude decides what to call.
"""

import os
from datetime import date

import anyio

from agentflow import LlmAgent, Runner, ToolCall, ToolResult
from agentflow.testing import ScriptedModel

CLAUDE = "claude-opus-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None


def days_between(first: date, last: date) -> int:
    """Count the days from one date to another.

    Args:
        first: The earlier one.
        last: The later one.
    """
    return (last - first).days


async def weekday(day: date) -> str:
    """Say which day of the week a date is."""
    return f"{day:%A}"


script = ScriptedModel(
    [
        ToolCall("1", "days_between", {"first": "1969-07-20", "last": "1972-12-11"}),
        ToolCall("2", "weekday", {"day": "1969-07-20"}),
    ],
    "There are 1240 days between the first and the last landing; the first was on a Sunday.",
)
agent = LlmAgent("calendar", model=CLAUDE or script, instruction="Never guess dates.", tools=[days_between, weekday])


async def main() -> None:
    question = "How many days lie between the first and the last landing on the moon? On which weekday was the first?"
    async with Runner(agent) as runner, runner.run(question) as run:
        async for event in run:
            if event.partial:
                print(event.text, end="", flush=True)
            for part in event.parts:
                if isinstance(part, (ToolCall, ToolResult)) and not event.partial:
                    print(part)
        print()


if __name__ == "__main__":
    anyio.run(main)
