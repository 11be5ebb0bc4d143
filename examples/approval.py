"""A refund waits until a person agrees to it. Run: `python examples/approval.py`.

The run pauses; a later one, perhaps in another process, brings the answer. With ANTHROPIC_API_KEY set, Claude decides.
"""

import os
import sys

import anyio
import anyio.to_thread

from agentflow import InMemorySessionService, LlmAgent, Runner, ToolCall, ToolContext, tool
from agentflow.testing import ScriptedModel

CLAUDE = "claude-opus-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None


def is_much(ctx: ToolContext, args: dict[str, float]) -> bool:
    return args["amount"] > 50


@tool(require_confirmation=is_much)
async def refund(ctx: ToolContext, order: str, amount: float) -> str:
    """Give a customer money back for an order."""
    return f"{amount:.2f} refunded for order {order}, receipt {ctx.call.id}"


def agreed(question: str) -> bool:
    print(question)
    return input("[y/n] ") == "y" if sys.stdin.isatty() else True


script = ScriptedModel(
    ToolCall("1", "refund", {"order": "A-17", "amount": 120}), "You have got 120.00 back for order A-17."
)
agent = LlmAgent("clerk", model=CLAUDE or script, instruction="Refund what is asked for at once.", tools=[refund])


async def main() -> None:
    store = InMemorySessionService()
    async with Runner(agent, sessions=store) as runner:
        async with runner.run("My order A-17 came broken. I want my 120 back.", session_id="s") as run:
            result = await run.wait()
        while result.status == "paused":
            answers = {}
            for question in result.pending:
                call = question.call.args if question.call else ""
                answers[question.id] = await anyio.to_thread.run_sync(agreed, f"{question.message} {call}")
            async with runner.run(session_id="s", answers=answers) as run:
                result = await run.wait()
    print(result.text)


if __name__ == "__main__":
    anyio.run(main)
