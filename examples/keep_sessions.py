"""A conversation that outlives its process, and goes back to an earlier word: `python examples/keep_sessions.py`."""

from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from agentflow import InvocationContext, Runner, SessionKey, SQLiteStore, agent


@agent
async def parrot(ctx: InvocationContext) -> None:
    heard = [event.text for event in await ctx.history() if event.author == "user"]
    ctx.state["heard"] = len(heard)
    await ctx.emit(ctx.text(" ... ".join(heard)))


async def say(path: Path, words: str) -> SessionKey:
    """One turn, with a store that is opened for it: each could be in a process of its own."""
    async with SQLiteStore(path) as store, Runner(parrot, sessions=store.sessions) as runner:
        async with runner.run(words, session_id="talk") as run:
            print(f"{words!r}: {(await run.wait()).text}")
        return run.session


async def main(path: Path) -> None:
    await say(path, "Hello")
    key = await say(path, "again")
    async with SQLiteStore(path) as store:
        first = [event async for event in store.sessions.events(key) if event.author == "user"]
        await store.sessions.rewind(key, first[1].serial - 1)  # to before the second word
    await say(path, "instead")
    async with SQLiteStore(path) as store:
        for info in await store.sessions.list():
            print(info.id, info.version, info.state)


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        anyio.run(main, Path(folder) / "agents.db")
