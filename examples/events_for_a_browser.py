"""A reader is cut off and goes on where it was. Run: `python examples/events_for_a_browser.py`.

`examples/web/` does the same with a server and a page.
"""

import anyio

from agentflow import Event, FunctionAgent, InvocationContext, ParallelAgent, Runner
from agentflow.wire.sse import Cursor, SseDecoder, SseEncoder


def speaker(name: str) -> FunctionAgent:
    async def run(ctx: InvocationContext) -> None:
        for word in ("one", "two", "three"):
            await ctx.emit(ctx.text(f"{name} {word}"))

    return FunctionAgent(name, run)


async def main() -> None:
    client = SseDecoder()  # a browser has one built in: EventSource
    got: list[str] = []
    async with Runner(ParallelAgent("pair", [speaker("a"), speaker("b")])) as runner:
        stream = SseEncoder()
        async with runner.run("Go.", on_consumer_gone="detach") as run:
            async for event in run:
                got += [frame.data for frame in client.feed(stream.event(event))]
                if len(got) == 6:
                    break  # the connection is lost; the run goes on

        print(f"cut off after event {client.last_id}")
        cursor = Cursor.parse(client.last_id)  # what the browser sends as Last-Event-ID
        stream = SseEncoder(cursor)
        async with runner.attach(run.id, after=cursor.position) as rest:
            async for event in rest:
                got += [frame.data for frame in client.feed(stream.event(event))]

    events = [Event.from_json(data) for data in got]
    print(f"{len(events)} events, {len({event.serial for event in events})} different ones")
    print(sorted(event.text for event in events if event.text))


if __name__ == "__main__":
    anyio.run(main)
