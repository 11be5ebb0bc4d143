"""One run at a time in a session: who waits, who is refused, in what order."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow import (
    ConfigError,
    InMemorySessionService,
    InvocationContext,
    Runner,
    SessionBusy,
    SessionKey,
    agent,
)
from tests.core.actors import fails, read, says, sleeps


async def test_who_came_first_is_first() -> None:
    async with Runner(says("a", "x")) as runner, anyio.create_task_group() as tasks:
        order = []

        async def turn(number: int) -> None:
            async with runner.run(f"{number}", session_id="s") as run:
                order.append(number)
                await run.wait()

        async with runner.run("first", session_id="s"):
            for number in range(5):
                tasks.start_soon(turn, number)
                await checkpoint()
                await checkpoint()
            assert order == []
    assert order == [0, 1, 2, 3, 4]


async def test_a_turn_begins_when_the_one_before_it_has_ended_and_stored_everything() -> None:
    heard = []

    @agent
    async def listener(ctx: InvocationContext) -> None:
        heard.append([event.text for event in await ctx.history() if event.text])
        await ctx.emit(ctx.text(f"re: {ctx.user_text}"))

    async with Runner(listener) as runner, anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(read, runner.run(f"{number}", session_id="s"))
            await checkpoint()
            await checkpoint()
    assert heard[2] == ["0", "re: 0", "1", "re: 1", "2"]


async def test_reject_is_an_error_before_anything_is_stored() -> None:
    async with Runner(sleeps("a", 50)) as runner, runner.run("go", session_id="s") as run:
        with pytest.raises(SessionBusy, match="'s' is busy"):
            await read(runner.run("no", session_id="s", on_busy="reject"))
        session = await runner.sessions.get(run.session)
        assert "no" not in [event.text for event in session.events]
        await read(runner.run("other session", session_id="t", on_busy="reject"))
        await read(runner.run("other user", user_id="u", session_id="s", on_busy="reject"))


async def test_who_gives_up_waiting_loses_its_place_and_nothing_else() -> None:
    async with Runner(says("a", "x")) as runner:
        async with runner.run("go", session_id="s"):
            with anyio.move_on_after(1):
                await read(runner.run("impatient", session_id="s"))
        run = await read(runner.run("next", session_id="s", on_busy="reject"))
        session = await runner.sessions.get(run.session)
    assert "impatient" not in [event.text for event in session.events]


@pytest.mark.parametrize("on_busy", ["wait", "reject"])
async def test_waiting_for_one_s_own_run_is_an_error(on_busy) -> None:
    caught = []

    @agent
    async def selfish(ctx: InvocationContext) -> None:
        with pytest.raises(SessionBusy) as error:
            await read(runner.run("me again", session_id="s", on_busy=on_busy))
        caught.append(str(error.value))

    async with Runner(selfish) as runner:
        with anyio.fail_after(5):
            await read(runner.run("go", session_id="s"))
    assert len(caught) == 1


async def test_waiting_for_the_run_that_started_one_s_own_run_is_an_error_too() -> None:
    caught = []

    @agent
    async def inner(ctx: InvocationContext) -> None:
        with pytest.raises(SessionBusy, match="wait for itself") as error:
            await read(outer_runner.run("deadlock", session_id="s"))
        caught.append(str(error.value))

    @agent
    async def outer(ctx: InvocationContext) -> None:
        await read(inner_runner.run("go", session_id="other"))

    store = InMemorySessionService()
    async with (
        Runner(outer, sessions=store, app_name="app") as outer_runner,
        Runner(inner, sessions=store, app_name="app") as inner_runner,
    ):
        with anyio.fail_after(5):
            await read(outer_runner.run("go", session_id="s"))
    assert len(caught) == 1


async def test_two_runners_on_one_store_take_turns() -> None:
    store = InMemorySessionService()
    one = Runner(sleeps("a", 5), sessions=store, app_name="app")
    two = Runner(says("b", "x"), sessions=store, app_name="app")
    async with one, two, anyio.create_task_group() as tasks:
        tasks.start_soon(read, one.run("go", session_id="s"))
        await anyio.sleep(1)
        with pytest.raises(SessionBusy):
            await read(two.run("go", session_id="s", on_busy="reject"))
        await read(two.run("go", session_id="s"))
    session = await store.get(SessionKey("app", "user", "s"))
    texts = [event.text for event in session.events if event.text]
    assert texts == ["go", "good night", "good morning", "go", "x"]


async def test_a_failed_run_frees_its_session() -> None:
    async with Runner(fails("a", "x")) as runner:
        for _ in range(3):
            with pytest.raises(ValueError, match="a failed"):
                await read(runner.run("go", session_id="s", on_busy="reject"))


@pytest.mark.parametrize("bad", [{"on_busy": "queue"}, {"lookahead": -1}, {"lookahead": True}, {"session_id": " "},
                                 {"user_id": ""}, {"on_consumer_gone": "ignore"}])  # fmt: skip
async def test_settings_that_can_t_work_are_refused_at_once(bad) -> None:
    async with Runner(says("a", "x")) as runner:
        with pytest.raises(ConfigError):
            runner.run("go", **bad)


async def test_a_runner_that_is_not_entered_says_how_to_enter_it() -> None:
    runner = Runner(says("a", "x"))
    with pytest.raises(ConfigError, match="async with Runner"):
        await read(runner.run("go"))
    async with runner:
        await read(runner.run("go"))
        with pytest.raises(ConfigError, match="entered already"):
            await runner.__aenter__()
    with pytest.raises(ConfigError, match="async with Runner"):
        await read(runner.run("go"))
