"""A research plan as a graph: topics, then each topic at once, a check that may ask for more, a report.

Run: `python examples/research_graph.py`. With ANTHROPIC_API_KEY set models do it; without, what they say stands here.
"""

import os

import anyio

from agentflow import Graph, GraphResult, LlmAgent, Node, Runner
from agentflow.testing import FunctionModel

LIVE = "claude-haiku-5-5" if os.environ.get("ANTHROPIC_API_KEY") else None


def thinker(name: str, task: str, otherwise: str) -> LlmAgent:
    return LlmAgent(name, model=LIVE or FunctionModel(lambda request: otherwise), instruction=task)


graph = Graph("research", max_concurrency=3)


@graph.node
async def topics(message: str) -> list[str]:
    return [f"{message}: {lens}" for lens in ("history", "trade", "health")]


for place, found in enumerate(["From Yunnan.", "Nine billion dollars a year.", "Better than its fame."]):
    researcher = thinker(f"researcher{place}", "Two sentences on this.", found)
    graph.add(Node(researcher, after=topics, message=lambda topics, place=place: topics[place], retry=2))

finds = [f"researcher{place}" for place in range(3)]
critic = thinker("critic", "Are these enough for a report? Say only `enough` or `more`.", "more")
graph.add(Node(critic, after=finds, priority=1, routes={"enough": (), "more": "extra"}))
graph.add(Node(thinker("extra", "One more fact on the topic.", "Two leaves and a bud."), message="Tea: one fact."))


@graph.node(after=[*finds, "extra", "critic"], join="ended")  # whatever the critic says, and whoever failed
async def report(results: dict[str, str]) -> str:
    return "\n".join(f"- {fact}" for name, fact in results.items() if name != "critic")


async def main() -> None:
    async with Runner(graph.build()) as runner, runner.run("Tea") as run:
        result = GraphResult.of(await run.wait())
    print(result.answer)
    path = " > ".join(step.name for step in result.metrics.critical_path)
    print(f"waited for {path}; speed-up {result.metrics.speedup:.1f}")


if __name__ == "__main__":
    anyio.run(main)
