"""Three views of one question, at once, and one answer made of them. Run: `python examples/panel.py`.

With ANTHROPIC_API_KEY set, Claude thinks; without, each agent has one line to say.
"""

import os

import anyio

from agentflow import LlmAgent, ParallelAgent, Runner, SequentialAgent
from agentflow.testing import ScriptedModel

CLAUDE = "claude-opus-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None


def view(name: str, stance: str, line: str) -> LlmAgent:
    """One member of the panel."""
    return LlmAgent(
        name,
        model=CLAUDE or ScriptedModel(line),
        instruction=f"You are on a panel. {stance} Answer in two sentences.",
        output_key=name,
    )


views = ParallelAgent(
    "views",
    [
        view("optimist", "Say what speaks for it.", "Few sell tea to offices yet. Whoever is first is remembered."),
        view("critic", "Say what speaks against it.", "Offices buy coffee. The margin on tea is thin."),
        view("neutral", "Say what nobody knows yet.", "Nobody has asked the offices. A month's trial would tell."),
    ],
    branch_timeout=60,
)
synthesizer = LlmAgent(
    "synthesizer",
    model=CLAUDE or ScriptedModel("Try it in ten offices for a month; go on if three of them order again."),
    instruction="Weigh what the panel said, and give one recommendation. For it: {optimist} Against it: {critic}",
)
panel = SequentialAgent("panel", [views, synthesizer])


async def main() -> None:
    async with Runner(panel) as runner, runner.run("Should we sell tea to offices?") as run:
        async for event in run:
            if event.text and not event.partial:
                print(f"{event.author}: {event.text}\n")
        print(f"{run.usage.model_calls} calls, {run.usage.total_tokens} tokens")


if __name__ == "__main__":
    anyio.run(main)
