"""A receptionist who hands over, and whoever took over answers the next message. Run: `python examples/handover.py`.

With ANTHROPIC_API_KEY set, Claude decides who answers.
"""

import os

import anyio

from agentflow import LlmAgent, Runner, ToolCall
from agentflow.testing import ScriptedModel

CLAUDE = "claude-opus-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None


def hand_over(name: str) -> ToolCall:
    """What a model says to hand over."""
    return ToolCall(f"to-{name}", "transfer_to_agent", {"agent_name": name})


billing = LlmAgent(
    "billing",
    description="Knows all about bills and payments.",
    model=CLAUDE or ScriptedModel("Your bill of 12 euros is due on Friday.", hand_over("repairs")),
    instruction="The customer owes 12 euros, due on Friday. Answer in one sentence.",
)
repairs = LlmAgent(
    "repairs",
    description="Helps with machines that don't work.",
    model=CLAUDE or ScriptedModel("Does its lamp blink?"),
    instruction="Ask one question at a time.",
)
reception = LlmAgent(
    "reception",
    model=CLAUDE or ScriptedModel(hand_over("billing")),
    instruction="You are the reception of a coffee machine rental. Hand over where you can.",
    sub_agents=[billing, repairs],
)


async def main() -> None:
    async with Runner(reception) as runner:
        for words in ("How much do I owe you?", "And my machine makes no coffee."):
            print(f"customer: {words}")
            async with runner.run(words, session_id="call") as run:
                async for event in run:
                    if event.text and not event.partial:
                        print(f"{event.author}: {event.text}")


if __name__ == "__main__":
    anyio.run(main)
