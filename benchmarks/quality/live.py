"""The same patterns on a live model, with questions whose answers are known."""

from random import Random

from agentflow import LlmAgent, Model, Runner, ScatterGatherAgent, ScatterGatherResult, Voting
from agentflow.patterns.answers import canonical

DEFAULT = "claude-haiku-4-5"
INSTRUCTION = "Work it out in at most three short steps, without tools. End with a line `Answer: NUMBER`."


def questions(count: int = 20, seed: int = 7) -> list[tuple[str, int]]:
    """Sums that are just too long to do at a glance, with their results."""
    rng = Random(seed)
    made = []
    for _ in range(count):
        a, b, c, d = rng.randint(100, 999), rng.randint(11, 99), rng.randint(100, 999), rng.randint(3, 9)
        made.append((f"What is {a} x {b} - {c} x {d}?", a * b - c * d))
    return made


async def table(model: Model | str, n: int) -> str:
    """Accuracy, calls and cost of some aggregators on the questions, as markdown."""
    rows: list[tuple[str, Voting, int]] = [
        ("one call", Voting(), 1),
        ("vote of 5", Voting(), 5),
        ("ahead by 2", Voting(ahead_by=2), n),
        ("95% sure", Voting(confidence=0.95), n),
    ]
    lines = ["| | Accuracy | Calls a question | Tokens a question | Cost in all |", "|---|---:|---:|---:|---:|"]
    asked = questions()
    for name, aggregator, size in rows:
        solver = LlmAgent("solver", model=model, instruction=INSTRUCTION)
        pattern = ScatterGatherAgent("vote", solver, n=size, wave=2, aggregator=aggregator)
        right, calls, tokens, cost = 0, 0, 0, 0.0
        async with Runner(pattern) as runner:
            for question, expected in asked:
                async with runner.run(question) as run:
                    found = ScatterGatherResult.of(await run.wait())
                right += canonical(found.answer) == canonical(expected)
                calls += found.metrics.calls
                tokens += found.metrics.tokens
                cost += found.metrics.cost
        count = len(asked)
        lines.append(f"| {name} | {right / count:.0%} | {calls / count:.2f} | {tokens / count:.0f} | ${cost:.4f} |")
    return "\n".join(lines)
