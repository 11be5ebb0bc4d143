"""Errors: one tree, fields to act on, where it happened, and all of it survives the way to another process."""

import copy
import pickle

import anyio
import pytest

import agentflow
from agentflow import (
    Actions,
    AgentflowError,
    AgentTimeout,
    AnswerRefused,
    BatchStopped,
    CommitUnknown,
    ConfigError,
    ContextEnded,
    Event,
    FunctionAgent,
    InMemorySessionService,
    InstructionError,
    InvalidAnswer,
    InvalidArchive,
    InvalidArguments,
    InvalidCursor,
    InvalidEvent,
    InvocationContext,
    LimitExceeded,
    Limits,
    ModelError,
    NoDecision,
    NotConfirmed,
    ParallelAgent,
    Plugin,
    PluginError,
    Retry,
    RunError,
    Runner,
    RunNotFound,
    SequentialAgent,
    ServiceError,
    SessionBusy,
    SessionError,
    SessionExists,
    SessionNotFound,
    StaleSession,
    StateConflict,
    TooFewAnswers,
    ToolError,
    ToolTimeout,
    Usage,
    agent,
    errors,
)
from agentflow.testing import FailingSessionService
from tests.core.actors import fails, play, read, says, sleeps, writes

PLACE = {"agent": "team.critic", "branch": "p.critic", "invocation_id": "e-1"}
FIELDS: dict[type[AgentflowError], dict[str, object]] = {
    AgentflowError: {},
    ConfigError: {},
    ContextEnded: {},
    InvalidEvent: {},
    SessionError: {},
    SessionNotFound: {},
    SessionExists: {},
    SessionBusy: {},
    StaleSession: {"expected": 3, "actual": 4},
    AnswerRefused: {},
    RunNotFound: {},
    InvalidCursor: {},
    InvalidArchive: {"line": 3},
    BatchStopped: {"failures": 3},
    ToolError: {},
    InvalidArguments: {},
    NotConfirmed: {},
    RunError: PLACE,
    AgentTimeout: {"seconds": 1.5, **PLACE},
    ModelError: {
        "kind": "rate_limit",
        "retryable": True,
        "retry_after": 2.0,
        "status": 429,
        "provider": "anthropic",
        "model": "claude",
        "request_id": "req_1",
        "shown": False,
        "usage": Usage(3),
        **PLACE,
    },
    LimitExceeded: {"limit": "tokens", "spent": {"tokens": 7}, **PLACE},
    StateConflict: {"key": "k", "branches": ("p.a", "p.b"), **PLACE},
    InstructionError: {"key": "topic", **PLACE},
    InvalidAnswer: PLACE,
    ToolTimeout: {"tool": "search", "seconds": 1.5, **PLACE},
    PluginError: {"plugin": "mine", "hook": "on_event", **PLACE},
    TooFewAnswers: {"successes": 1, "needed": 3, "causes": (), **PLACE},
    NoDecision: {"candidates": ("4", "5"), **PLACE},
    ServiceError: {},
    CommitUnknown: {},
}
KINDS = pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)


def test_every_error_is_in_this_list_and_public() -> None:
    kinds = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert kinds == set(FIELDS)
    assert all(getattr(agentflow, kind.__name__) is kind for kind in kinds)


def test_the_tree_in_the_docs_is_the_tree() -> None:
    parents = ["AgentflowError"]
    drawn: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        before, found, rest = line.partition("── ")
        if found:
            depth = len(before) // 4
            name = rest.split()[0]
            parents[depth:] = [name]
            drawn[name] = parents[depth - 1]
    real = {kind.__name__: kind.__bases__[0].__name__ for kind in FIELDS if kind is not AgentflowError}
    assert drawn == real
    assert issubclass(AgentTimeout, TimeoutError)


@KINDS
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_comes_out_of_a_pickle_as_it_went_in(kind: type[AgentflowError], protocol: int) -> None:
    error = kind("what went wrong", **FIELDS[kind])
    error.add_note("in agent 'a'")
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is kind
    assert (str(back), back.args) == ("what went wrong", ("what went wrong",))
    assert {name: getattr(back, name) for name in FIELDS[kind]} == FIELDS[kind]
    assert back.__notes__ == ["in agent 'a'"]


@KINDS
def test_an_error_can_be_copied(kind: type[AgentflowError]) -> None:
    error = kind("what went wrong", **FIELDS[kind])
    back = copy.copy(error)
    assert (type(back), str(back), vars(back)) == (kind, "what went wrong", vars(error))


def test_a_subclass_with_fields_of_its_own_survives_too() -> None:
    back = pickle.loads(pickle.dumps(Overdrawn(5, account="a")))
    assert (type(back), str(back), back.account, back.agent) == (Overdrawn, "5 too much", "a", "")


class Overdrawn(RunError):
    def __init__(self, amount: int, *, account: str) -> None:
        super().__init__(f"{amount} too much")
        self.account = account


# Where it happened


async def failure_of(
    root: FunctionAgent | SequentialAgent | ParallelAgent, **settings
) -> tuple[Exception, list[Event]]:
    """What a run raises, and what was stored."""
    async with Runner(root, **settings) as runner:
        run = runner.run("go", session_id="s")
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it raises
            await read(run)
        session = await runner.sessions.get(run.session)
        assert run.result.error is caught.value
    assert session is not None
    return caught.value, list(session.events)


async def test_a_foreign_error_is_itself_with_one_note_that_says_where() -> None:
    error, events = await failure_of(SequentialAgent("s", [SequentialAgent("inner", [fails("a")])]), new_id=lambda: "r")
    assert type(error) is ValueError
    assert error.__notes__ == ["in agent 's.inner.a' (run r)"]
    record = next(event.lifecycle for event in events if event.lifecycle and event.lifecycle.name == "agent_complete")
    assert (record.error.type, record.error.message, record.error.retryable) == ("ValueError", "a failed", False)


async def test_the_note_names_the_branch() -> None:
    error, _ = await failure_of(ParallelAgent("p", [fails("a"), says("b")]), new_id=lambda: "r")
    assert error.__notes__ == ["in agent 'p.a' on branch 'p.a' (run r)"]


async def test_errors_of_several_branches_each_have_their_note() -> None:
    both = ParallelAgent("p", [fails("a"), fails("b")], on_error="collect")
    played = await play(both, new_id=lambda: "r")
    notes = {name: outcome.error.__notes__ for name, outcome in played.run.result.outcomes.items()}
    assert notes == {name: [f"in agent '{name}' on branch '{name}' (run r)"] for name in ("p.a", "p.b")}


async def test_an_error_that_was_raised_again_keeps_the_place_where_it_came_from() -> None:
    @agent(sub_agents=[fails("a")])
    async def outer(ctx: InvocationContext) -> None:
        try:
            await ctx.run(ctx.agent.sub_agents[0])
        except ValueError as error:
            error.add_note("seen by outer")
            raise

    error, _ = await failure_of(outer, new_id=lambda: "r")
    assert error.__notes__ == ["in agent 'outer.a' (run r)", "seen by outer"]


async def test_an_error_that_takes_no_note_and_has_no_words_is_raised_all_the_same() -> None:
    class Mute(Exception):
        retryable = True

        def add_note(self, note: str) -> None:
            raise TypeError("frozen")

        def __str__(self) -> str:
            raise TypeError("mute")

    @agent
    async def a(ctx: InvocationContext) -> None:
        raise Mute

    error, events = await failure_of(a)
    assert type(error) is Mute
    assert (events[-1].lifecycle.error.message, events[-1].lifecycle.error.retryable) == ("", True)


@pytest.mark.parametrize("retry", [None, Retry(attempts=1)])
async def test_a_run_error_knows_agent_branch_and_run(retry: Retry | None) -> None:
    @agent(retry=retry)
    async def a(ctx: InvocationContext) -> None:
        raise RunError("no")

    error, _ = await failure_of(ParallelAgent("p", [a]), new_id=lambda: "r")
    assert type(error) is RunError
    assert (error.agent, error.branch, error.invocation_id) == ("p.a", "p.a", "r")
    assert not hasattr(error, "__notes__")


async def test_a_run_error_that_says_where_is_left_alone() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        raise RunError("no", agent="elsewhere", branch="b", invocation_id="x")

    error, _ = await failure_of(SequentialAgent("s", [a]))
    assert (error.agent, error.branch, error.invocation_id) == ("elsewhere", "b", "x")


async def test_an_agent_out_of_time_says_which_and_how_long_it_had() -> None:
    error, events = await failure_of(ParallelAgent("p", [sleeps("a", 60, timeout="5s")]), new_id=lambda: "r")
    assert type(error) is AgentTimeout
    assert str(error) == "agent 'p.a' was still at work after 5 s"
    assert (error.seconds, error.agent, error.branch, error.invocation_id) == (5.0, "p.a", "p.a", "r")
    ends = {event.author: event.lifecycle.outcome for event in events if hasattr(event.lifecycle, "outcome")}
    assert ends == {"a": "timeout", "p": "error"}


async def test_a_budget_that_ran_out_says_which_and_what_was_spent() -> None:
    error, _ = await failure_of(
        SequentialAgent("s", [says("a", "1", "2", "3")]), limits=Limits(events=2), new_id=lambda: "r"
    )
    assert type(error) is LimitExceeded
    assert (error.limit, error.spent["events"]) == ("events", 2)
    assert (error.agent, error.branch, error.invocation_id) == ("s.a", "", "r")


async def test_a_state_conflict_says_which_key_and_branches() -> None:
    error, _ = await failure_of(
        ParallelAgent("p", [writes("a", k=1), writes("b", k=2)], on_conflict="error"), new_id=lambda: "r"
    )
    assert type(error) is StateConflict
    assert error.key == "k"
    assert set(error.branches) == {"p.a", "p.b"}
    assert error.branch == error.branches[1]
    assert error.invocation_id == "r"


async def test_an_error_of_ours_that_is_no_run_error_has_a_note_too() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event(actions=Actions(escalate="nowhere")))

    error, _ = await failure_of(SequentialAgent("s", [a]), new_id=lambda: "r")
    assert type(error) is InvalidEvent
    assert error.__notes__ == ["in agent 's.a' (run r)"]


async def test_a_failure_that_could_not_be_stored_at_once_is_stored_with_what_comes_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = FailingSessionService(InMemorySessionService(), fail_at=4, calls={"append"})  # the end of a
    error, events = await failure_of(SequentialAgent("s", [fails("a")]), sessions=store)
    assert str(error) == "a failed"
    told = [f"{event.lifecycle.name} {event.author}" for event in events if event.lifecycle]
    assert told == ["agent_start s", "agent_start a", "agent_complete a", "agent_complete s"]
    assert [event.lifecycle.error.message for event in events[-2:]] == ["a failed", "a failed"]
    assert "the end of agent 's.a' could not be stored yet" in caplog.text


# Plugins


class Strict(Plugin):
    def __init__(self, hook: str, error: Exception) -> None:
        self.error = error
        setattr(type(self), hook, type(self).fail)

    async def fail(self, *args: object) -> None:
        raise self.error


def failing(hook: str, error: Exception) -> Plugin:
    """A plugin named `Strict` whose `hook` raises `error`."""
    return type("Strict", (Strict,), {})(hook, error)


@pytest.mark.parametrize("hook", ["on_user_message", "before_run", "on_event", "before_agent", "after_agent"])
async def test_an_error_of_ours_that_a_plugin_raises_on_purpose_is_raised_as_itself(hook: str) -> None:
    mine = LimitExceeded("enough", limit="cost", spent={"cost": 1.0})
    error, _ = await failure_of(says("a", "one"), plugins=[failing(hook, mine)])
    assert error is mine


async def test_an_error_of_a_plugin_says_whose_turn_it_was() -> None:
    error, _ = await failure_of(
        ParallelAgent("p", [says("a", "one")]), plugins=[failing("after_agent", KeyError("k"))], new_id=lambda: "r"
    )
    assert type(error) is PluginError
    assert str(error) == "plugin 'Strict' failed in after_agent: KeyError: 'k'"
    assert (error.plugin, error.hook) == ("Strict", "after_agent")
    assert (error.agent, error.branch, error.invocation_id) == ("p.a", "p.a", "r")
    assert repr(error.__cause__) == "KeyError('k')"


async def test_a_plugin_that_fails_to_close_is_named_when_the_others_are_closed() -> None:
    closed = []

    class Last(Plugin):
        async def close(self) -> None:
            closed.append("last")

    with pytest.raises(PluginError, match="plugin 'Strict' failed in close: full") as caught:
        await play(says("a", "one"), plugins=[failing("close", OSError("full")), Last()])
    assert (caught.value.plugin, caught.value.hook, closed) == ("Strict", "close", ["last"])
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_plugin_that_takes_for_ever_to_close_is_given_up_and_named(caplog: pytest.LogCaptureFixture) -> None:
    closed = []

    class Slow(Plugin):
        async def close(self) -> None:
            await anyio.sleep_forever()

    class Last(Plugin):
        async def close(self) -> None:
            closed.append("last")

    began = anyio.current_time()
    assert (await play(says("a", "one"), plugins=[Slow(), Last()], teardown_timeout=3)).texts == ["one"]
    assert anyio.current_time() - began == pytest.approx(3)
    assert closed == ["last"]
    assert "plugin 'Slow' was not closed within 3 s" in caplog.text
