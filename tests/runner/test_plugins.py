"""Plugins: which hook is called when, what they may change, and what becomes of their mistakes."""

import anyio
import pytest

from agentflow import (
    ConfigError,
    Event,
    InvocationContext,
    ParallelAgent,
    Plugin,
    PluginError,
    Runner,
    SequentialAgent,
    Text,
)
from tests.core.actors import fails, play, read, says, sleeps, yields
from tests.faults.checks import log_problems


class Diary(Plugin):
    """Writes down every hook that is called."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.name = name
        self.diary = diary

    def note(self, hook: str, ctx: InvocationContext) -> None:
        self.diary.append(f"{self.name}.{hook} {ctx.agent.name}")

    async def on_user_message(self, ctx, message):
        self.note("on_user_message", ctx)

    async def before_run(self, ctx):
        self.note("before_run", ctx)

    async def on_event(self, ctx, event):
        what = event.lifecycle.name if event.lifecycle else event.text
        self.diary.append(f"{self.name}.on_event {what}")

    async def after_run(self, ctx):
        self.note("after_run", ctx)

    async def before_agent(self, ctx):
        self.note("before_agent", ctx)

    async def after_agent(self, ctx):
        self.note("after_agent", ctx)

    async def close(self):
        self.diary.append(f"{self.name}.close")


async def test_hooks_are_called_in_order_around_callbacks() -> None:
    diary: list[str] = []
    a = says(
        "a",
        "x",
        before_agent=lambda ctx: diary.append("callback before a"),
        after_agent=lambda ctx: diary.append("callback after a"),
    )
    await play(a, plugins=[Diary("one", diary), Diary("two", diary)])
    assert diary == [
        "one.on_user_message a",
        "two.on_user_message a",
        "one.before_run a",
        "two.before_run a",
        "one.on_event agent_start",
        "two.on_event agent_start",
        "one.before_agent a",
        "two.before_agent a",
        "callback before a",
        "one.on_event x",
        "two.on_event x",
        "one.after_agent a",
        "two.after_agent a",
        "callback after a",
        "one.on_event agent_complete",
        "two.on_event agent_complete",
        "one.after_run a",
        "two.after_run a",
        "one.close",
        "two.close",
    ]


@pytest.mark.parametrize("hook", ["before_agent", "before_run", "after_agent"])
async def test_the_first_plugin_that_answers_ends_the_round(hook: str) -> None:
    diary: list[str] = []

    class Answers(Plugin):
        async def answer(self, ctx: InvocationContext) -> str:
            return "mine"

    setattr(Answers, hook, Answers.answer)
    played = await play(
        says("a", "x", before_agent=lambda ctx: diary.append("callback"), after_agent=lambda ctx: "callback"),
        plugins=[Answers(), Diary("late", diary)],
    )
    assert played.texts == (["x", "mine"] if hook == "after_agent" else ["mine"])
    assert f"late.{hook} a" not in diary
    assert "late.after_run a" in diary
    assert played.run.result.text == "mine"
    if hook != "before_run":  # which stands for all of the agents: what it says is said in nobody's turn
        assert log_problems(played.session.events) == []


async def test_a_plugin_may_answer_instead_of_one_agent_in_a_tree() -> None:
    class Stands(Plugin):
        async def before_agent(self, ctx: InvocationContext) -> Event | None:
            return ctx.text("in your stead") if ctx.agent.name == "b" else None

    root = SequentialAgent("s", [says("a", "x"), ParallelAgent("p", [says("b", "never"), says("c", "z")])])
    played = await play(root, plugins=[Stands()])
    assert sorted(played.texts) == ["in your stead", "x", "z"]
    assert next(event for event in played.events if event.text == "in your stead").branch == "p.b"


async def test_a_plugin_may_replace_the_user_s_message_before_it_is_stored() -> None:
    class Polite(Plugin):
        async def on_user_message(self, ctx, message):
            return [*message, Text(", please")]

    heard = []
    a = says("a", "x", before_agent=lambda ctx: heard.append(ctx.user_text))
    played = await play(a, "go", plugins=[Polite()])
    assert heard == ["go, please"]
    assert played.session.events[0].text == "go, please"


async def test_a_plugin_may_replace_an_event_but_not_what_it_is() -> None:
    class Shouts(Plugin):
        async def on_event(self, ctx, event):
            if event.lifecycle is None:
                return Event(
                    id="other", author="other", branch="x.y", parts=event.text.upper(), partial=not event.partial
                )
            return None

    async def turn_events(**settings):
        return (await play(ParallelAgent("p", [says("a", "x")]), new_id=lambda: "run", **settings)).events

    plain, shouted = await turn_events(), await turn_events(plugins=[Shouts()])
    for one, other in zip(plain, shouted, strict=True):
        for field in ("id", "author", "branch", "path", "partial", "invocation_id", "seq", "serial"):
            assert getattr(one, field) == getattr(other, field)
    assert [event.text for event in shouted if event.text] == ["X"]


async def test_partial_events_pass_by_plugins_too_and_are_still_not_stored() -> None:
    class Shouts(Plugin):
        async def on_event(self, ctx, event):
            return event.model_copy(update={"parts": (Text(event.text.upper()),)}) if event.partial else None

    played = await play(yields("a", "word"), plugins=[Shouts()])
    assert [event.text for event in played.events if event.text] == ["W", "word"]
    assert [event.text for event in played.session.events if event.text] == ["go", "word"]


HOOKS = ["on_user_message", "before_run", "on_event", "before_agent", "after_agent", "after_run"]


@pytest.mark.parametrize("hook", HOOKS)
async def test_an_error_in_a_hook_names_plugin_and_hook_and_leaves_a_valid_session(hook: str) -> None:
    class Broken(Plugin):
        name = "broken-one"

        async def fail(self, *args: object) -> None:
            raise ValueError("oops")

    setattr(Broken, hook, Broken.fail)
    async with Runner(SequentialAgent("s", [says("a", "x")]), plugins=[Broken()]) as runner:
        run = runner.run("go", session_id="s")
        with pytest.raises(PluginError, match=f"'broken-one' failed in {hook}") as caught:
            await read(run)
        session = await runner.sessions.get(run.session)
    assert (caught.value.plugin, caught.value.hook) == ("broken-one", hook)
    assert isinstance(caught.value.__cause__, ValueError)
    assert log_problems(session.events) == []
    assert run.status == "error"


@pytest.mark.parametrize("how", ["ok", "error", "break", "cancel", "answered", "limit", "dropped"])
async def test_after_run_comes_after_every_run_however_it_ended(how: str) -> None:
    diary: list[str] = []

    class Answers(Plugin):
        async def before_run(self, ctx):
            return "mine" if how == "answered" else None

    root = {"error": fails("a", "x"), "limit": sleeps("a", 2000)}.get(how, says("a", "x", "y"))
    async with Runner(root, plugins=[Answers(), Diary("d", diary)]) as runner:
        async with runner.run("go") as run:
            try:
                async for event in run:
                    if how == "cancel":
                        run.cancel()
                    if how == "break" and event.text:
                        break
                    if how == "dropped":
                        raise KeyError
                    if how == "limit" and event.text:
                        run.cancel("limit")
            except (ValueError, KeyError):
                pass
        with anyio.fail_after(5):
            await run.wait()
    assert [entry for entry in diary if "after_run" in entry] == ["d.after_run a"]


async def test_after_run_may_still_read_state_and_usage() -> None:
    seen = []

    class Last(Plugin):
        async def after_run(self, ctx: InvocationContext) -> None:
            seen.append((dict(ctx.state), ctx.session.session_id, ctx.usage.total_tokens))

    await play(says("a", "x"), state={"k": 1}, plugins=[Last()])
    assert seen == [({"k": 1}, "s", 0)]


async def test_plugins_that_can_t_be_are_refused() -> None:
    class Mine(Plugin):
        pass

    for plugins in ([Mine], [object()], [Mine(), Mine()]):
        with pytest.raises(ConfigError, match="plugin"):
            Runner(says("a"), plugins=plugins)


async def test_an_on_event_that_returns_no_event_is_an_error_that_says_so() -> None:
    class Wrong(Plugin):
        async def on_event(self, ctx, event):
            return "text"

    with pytest.raises(PluginError, match=r"'Wrong': on_event must return an Event or None, not str"):
        await play(says("a", "x"), plugins=[Wrong()])
