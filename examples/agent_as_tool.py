"""An agent calls two others like functions, at once, and reads their answers. Run: `python examples/agent_as_tool.py`.

With ANTHROPIC_API_KEY set, Claude does the work.
"""

import os

import anyio

from agentflow import AgentTool, LlmAgent, Runner, ToolCall
from agentflow.testing import ScriptedModel

CLAUDE = "claude-opus-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None

translator = LlmAgent(
    "translator",
    description="Translates a text into German.",
    model=CLAUDE or ScriptedModel("Die Bienen heizen ihr Nest."),
    instruction="Translate what you are given into German. Say nothing else.",
)
checker = LlmAgent(
    "checker",
    description="Checks whether a claim about animals is true.",
    model=CLAUDE or ScriptedModel("True: they shiver."),
    instruction="Say whether the claim is true, in one line.",
)
script = ScriptedModel(
    [
        ToolCall("1", "translator", {"request": "Bees heat their nest."}),
        ToolCall("2", "checker", {"request": "Bees heat their nest."}),
    ],
    "It is true, and in German: Die Bienen heizen ihr Nest.",
)
editor = LlmAgent(
    "editor",
    model=CLAUDE or script,
    instruction="Have the sentence checked and translated, both at once. Then answer in one line.",
    tools=[AgentTool(translator), AgentTool(checker)],
)


async def main() -> None:
    async with Runner(editor) as runner, runner.run("Bees heat their nest.") as run:
        async for event in run:
            if event.text and event.author != "user" and not event.partial:
                print(f"{event.path}: {event.text}")


if __name__ == "__main__":
    anyio.run(main)
