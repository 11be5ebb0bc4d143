"""Little agents that tests are played with, and a way to play them to the end."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import anyio
from anyio.lowlevel import checkpoint

from agentflow import (
    Actions,
    Agent,
    Event,
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    Run,
    Runner,
    Session,
    SessionService,
)


@dataclass
class Played:
    """What came of a run: what the reader got, the handle, and the session as it is stored."""

    events: list[Event]
    run: Run
    session: Session

    @property
    def texts(self) -> list[str]:
        """What was said, in order."""
        return [event.text for event in self.events if event.text and not event.partial]

    @property
    def story(self) -> list[str]:
        """What was said, and what happened: `agent_start a`, `a: hello`, ..."""
        return [
            f"{event.lifecycle.name} {event.author}" if event.lifecycle else f"{event.author}: {event.text}"
            for event in self.events
        ]

    def records(self, name: str) -> list:
        """The lifecycle records of this name."""
        return [event.lifecycle for event in self.events if event.lifecycle and event.lifecycle.name == name]


async def play(
    root: Agent,
    message: str | None = "go",
    *,
    sessions: SessionService | None = None,
    session_id: str = "s",
    state: dict[str, object] | None = None,
    lookahead: int = 0,
    **settings,
) -> Played:
    """Run `root` to its end, which must come by itself; `settings` are the Runner's."""
    store = sessions or InMemorySessionService()
    with anyio.fail_after(1000):
        async with Runner(root, sessions=store, **settings) as runner:
            async with runner.run(message, session_id=session_id, state=state, lookahead=lookahead) as run:
                events = [event async for event in run]
            session = await store.get(run.session)
    assert session is not None
    return Played(events, run, session)


async def read(run: Run, into: list[Event] | None = None) -> Run:
    """Read a run to its end, and keep its events in `into`; raises what it raises."""
    async with run:
        async for event in run:
            if into is not None:
                into.append(event)
    return run


def hears(name: str, heard: list[str], **options) -> FunctionAgent:
    """Adds to `heard` what it sees when its turn comes: the texts of its history."""

    async def turn(ctx: InvocationContext) -> None:
        heard.extend(event.text for event in await ctx.history() if event.text)

    return FunctionAgent(name, turn, **options)


def refuses(name: str, *words: str) -> FunctionAgent:
    """Speaks, waits for ever, and fails in its clean-up."""

    async def turn(ctx: InvocationContext) -> None:
        try:
            for word in words:
                await ctx.emit(ctx.text(word))
            await anyio.sleep_forever()
        finally:
            raise ValueError(f"{name} failed")

    return FunctionAgent(name, turn)


def swallows(name: str) -> FunctionAgent:
    """Waits until it is cancelled, and takes no notice."""

    async def turn(ctx: InvocationContext) -> None:
        with suppress(BaseException):
            await anyio.sleep_forever()

    return FunctionAgent(name, turn)


def says(name: str, *words: str, **options) -> FunctionAgent:
    """A coroutine that emits each of `words`."""

    async def turn(ctx: InvocationContext) -> None:
        for word in words:
            await ctx.emit(ctx.text(word))

    return FunctionAgent(name, turn, **options)


def yields(name: str, *words: str, **options) -> FunctionAgent:
    """An async generator that yields `words`, each streamed as a partial event first, from within a scope."""

    async def turn(ctx: InvocationContext):
        await ctx.history()
        with anyio.CancelScope():
            for word in words:
                yield ctx.text(word[:1], partial=True, response_id=word)
                yield ctx.text(word, response_id=word)

    return FunctionAgent(name, turn, **options)


def writes(name: str, **state: object) -> FunctionAgent:
    """Writes state, some with its event and some when it ends; `user_x` is written as `user:x`."""

    async def turn(ctx: InvocationContext) -> None:
        for key, value in state.items():
            ctx.state[key.replace("user_", "user:").replace("temp_", "temp:")] = value
            await ctx.emit(ctx.text(f"wrote {key}"))
            await checkpoint()
            ctx.state[f"last_{name}"] = key

    return FunctionAgent(name, turn)


def fails(name: str, *words: str, **options) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        for word in words:
            await ctx.emit(ctx.text(word))
        raise ValueError(f"{name} failed")

    return FunctionAgent(name, turn, **options)


def flaky(name: str, failures: int, **options) -> FunctionAgent:
    """Fails so often in each run, then goes well."""
    tries: Counter[tuple[str, str, int | None]] = Counter()

    async def turn(ctx: InvocationContext):
        key = (ctx.invocation_id, ctx.branch, ctx.iteration)
        tries[key] += 1
        yield ctx.text(f"try {tries[key]}")
        if tries[key] <= failures:
            raise ValueError(f"{name} failed")

    return FunctionAgent(name, turn, **options)


def sleeps(name: str, seconds: float, **options) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("good night"))
        await anyio.sleep(seconds)
        await ctx.emit(ctx.text("good morning"))

    return FunctionAgent(name, turn, **options)


def escalates(name: str, target: bool | str = True, at: int = 1) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        if ctx.iteration is None or ctx.iteration >= at:
            await ctx.emit(ctx.event("enough", actions=Actions(escalate=target)))
        await ctx.emit(ctx.text("bye"))

    return FunctionAgent(name, turn)
