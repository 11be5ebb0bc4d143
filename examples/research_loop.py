"""A researcher and a critic, again and again, until the critic is content. Run: `python examples/research_loop.py`.

The critic ends the loop with a tool. With ANTHROPIC_API_KEY set, Claude does the work.
"""

import os

import anyio

from agentflow import LlmAgent, LoopAgent, Runner, ToolCall, exit_loop
from agentflow.testing import ScriptedModel

CLAUDE = "claude-opus-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None
SHELF = {
    "bees": "A colony keeps its brood at 34 to 36 degrees, and shivers to heat it.",
    "wasps": "Paper wasps fan their wings to cool the nest.",
}


async def look_up(topic: str) -> str:
    """Look a topic up in the encyclopedia on the shelf.

    Args:
        topic: One word, in the plural.
    """
    return SHELF.get(topic.lower(), f"nothing on {topic!r}; there is {', '.join(SHELF)}")


researcher = LlmAgent(
    "researcher",
    model=CLAUDE
    or ScriptedModel(ToolCall("1", "look_up", {"topic": "bees"}), "They heat them.", "Bees shiver: 35 °C."),
    instruction="Answer the question from the shelf. If there is criticism, take it up. Two sentences at most.",
    tools=[look_up],
)
critic = LlmAgent(
    "critic",
    model=CLAUDE or ScriptedModel("How, and how warm?", ToolCall("2", "exit_loop")),
    instruction="If the answer says how and names a number, call exit_loop. Otherwise say in one line what is missing.",
    tools=[exit_loop()],
)
loop = LoopAgent("research", [researcher, critic], max_iterations=4)


async def main() -> None:
    async with Runner(loop) as runner, runner.run("How do insects keep their nests warm?") as run:
        async for event in run:
            if event.text and not event.partial:
                print(f"{event.iteration}. {event.author}: {event.text}")


if __name__ == "__main__":
    anyio.run(main)
