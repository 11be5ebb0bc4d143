"""The span tree of a run, printed as spans end. Run: `python examples/trace_to_console.py`."""

import anyio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from agentflow import FunctionAgent, InvocationContext, ParallelAgent, Runner, SequentialAgent, tracing


def speaker(name: str) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        await anyio.sleep(0.01)
        await ctx.emit(ctx.text(f"{name} has spoken"))

    return FunctionAgent(name, turn)


def one_line(span: ReadableSpan) -> str:
    fields = span.attributes or {}
    milliseconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    path = fields.get("agentflow.agent.path", "")
    return f"{milliseconds:6.1f} ms  {span.name:24} {path:22} {len(span.links)} links\n"


debate = SequentialAgent("debate", [ParallelAgent("sides", [speaker("pro"), speaker("con")]), speaker("chair")])


async def main() -> None:
    # Without an exporter they go to an OTLP collector; `console=True` prints them as JSON.
    tracing.setup(exporter=ConsoleSpanExporter(formatter=one_line), batch=False)
    async with Runner(debate) as runner, runner.run("Cats or dogs?") as run:
        async for event in run:
            if event.text:
                print(event.text)


if __name__ == "__main__":
    anyio.run(main)
