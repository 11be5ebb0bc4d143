"""Three coders write one function; the judge runs the tests. Run: `python examples/code_competition.py`.

The first to pass all tests wins and the others are stopped. With ANTHROPIC_API_KEY set models write the code; what
they write is run in a process of its own, which is no sandbox.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

import anyio

from agentflow import CompetitionAgent, CompetitionResult, LlmAgent, Runner
from agentflow.testing import FunctionModel

TESTS = ["primes(1) == []", "primes(2) == [2]", "primes(10) == [2, 3, 5, 7]", "len(primes(1000)) == 168"]
WRITTEN = {
    "fast_coder": "[k for k in range(2, n + 1) if k in (2, 3, 5) or k % 2 and k % 3 and k % 5]",
    "clean_coder": "[k for k in range(2, n + 1) if all(k % d for d in range(2, int(k**0.5) + 1))]",
    "careless_coder": "[k for k in range(2, n) if all(k % d for d in range(2, k))]",
}


def passed(code: str) -> float:
    """The share of the tests that a piece of code passes."""
    code = code.strip().removeprefix("```python").removesuffix("```")
    checks = "\n".join(f"try: print(int({test}))\nexcept Exception: print(0)" for test in TESTS)
    command = [sys.executable, "-c", f"{code}\n{checks}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return 0.0
    return sum(map(int, done.stdout.split())) / len(TESTS)


async def judge(solutions: Sequence[str]) -> list[float]:
    return [await anyio.to_thread.run_sync(passed, code) for code in solutions]


def coder(name: str) -> LlmAgent:
    live = "claude-haiku-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None
    model = live or FunctionModel(lambda request: f"def primes(n):\n    return {WRITTEN[name]}")
    return LlmAgent(name, model=model, instruction=f"You are a {name}. Answer with Python code alone.")


contest = CompetitionAgent("contest", [coder(name) for name in WRITTEN], judge=judge, good_enough=1.0)


async def main() -> None:
    async with Runner(contest) as runner, runner.run("Write primes(n): all primes up to n, n included.") as run:
        result = CompetitionResult.of(await run.wait())
    for name, score in result.scores.items():
        print(f"{name}: {score:.0%} of the tests")
    print(f"{result.winner} wins:\n{result.answer}")


if __name__ == "__main__":
    anyio.run(main)
