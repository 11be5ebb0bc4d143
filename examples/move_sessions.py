"""A talk is kept in a file, forked, and moved to another store. Run: `python examples/move_sessions.py`."""

from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from agentflow import InMemorySessionService, InvocationContext, Runner, SQLiteStore, agent
from agentflow.archive import export_session, import_sessions


@agent
async def clerk(ctx: InvocationContext) -> None:
    ctx.state["items"] = [*ctx.state.get("items", []), ctx.user_text]
    await ctx.emit(ctx.text(f"So far: {', '.join(ctx.state['items'])}"))


async def main(folder: Path) -> None:
    async with SQLiteStore(folder / "talks.db") as store:
        async with Runner(clerk, sessions=store.sessions) as runner:
            for words in ("an umbrella", "a raincoat", "a submarine"):
                async with runner.run(words, session_id="order") as run:
                    print((await run.wait()).text)

        (info,) = await store.sessions.list()
        half = await store.sessions.fork(info.key, at=info.version * 2 // 3, session_id="without the submarine")
        lines = [line async for line in export_session(half, sessions=store.sessions)]
        print(f"{len(lines)} lines, the first begins {lines[0][:40]}...")

    elsewhere = InMemorySessionService()
    async for moved in import_sessions(lines, sessions=elsewhere):
        print(f"{moved.id}: {(await elsewhere.list())[0].state}")


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        anyio.run(main, Path(place))
