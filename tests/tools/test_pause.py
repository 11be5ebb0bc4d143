"""A run that asks a person pauses, and goes on where it was when the answer comes."""

import operator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint
from pydantic import BaseModel

from agentflow import (
    Actions,
    Agent,
    AnswerRefused,
    ConfigError,
    Event,
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Paused,
    Plugin,
    PluginError,
    Run,
    Runner,
    SequentialAgent,
    Text,
    ToolResult,
    Usage,
    tool,
)
from agentflow.agents.branches import Branches
from agentflow.events import AgentComplete
from tests.core.actors import says
from tests.tools.callers import caller


@dataclass
class Talk:
    """A session of one tree: each `say` is a run in a Runner of its own, as after a restart."""

    root: Agent
    settings: dict[str, Any] = field(default_factory=dict)
    store: InMemorySessionService = field(default_factory=InMemorySessionService)
    runs: list[Run] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    async def say(self, message: Any = None, **answers: Any) -> Run:
        """Run to the end; an answer is named by the words of its question."""
        asked = {q.message.split()[0]: q.id for run in self.runs for q in run.result.pending}
        by_id = {asked[word]: value for word, value in answers.items()}
        with anyio.fail_after(1000):
            runner = Runner(self.root, sessions=self.store, **self.settings)
            async with runner, runner.run(message, session_id="s", answers=by_id) as run:
                self.events = [event async for event in run]
        self.runs.append(run)
        return run

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.events if event.text and not event.partial]

    @property
    def pending(self) -> list[str]:
        return [question.message for question in self.runs[-1].result.pending]

    def records(self, name: str, events: list[Event] | None = None) -> list[Any]:
        told = [event.lifecycle for event in (self.events if events is None else events) if event.lifecycle]
        return [record for record in told if record.name == name]

    async def log(self) -> list[Event]:
        [info] = await self.store.list(self.root.name)
        session = await self.store.get(info.key)
        assert session is not None
        return session.events


def asks(name: str, *questions: str, schema: Any = None, **options: Any) -> FunctionAgent:
    """Says something, asks each question, and says what it was told."""

    async def turn(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(f"{name} begins"))
        for question in questions or (f"{name}?",):
            answer = await ctx.request_input(question, schema=schema)
            await ctx.emit(ctx.text(f"{name}: {answer}"))

    return FunctionAgent(name, turn, **options)


async def test_a_question_pauses_the_run_and_is_in_its_result_and_in_the_log() -> None:
    talk = Talk(asks("a", "Which way?"))
    run = await talk.say("go")
    assert (run.status, run.result.status, run.result.error) == ("paused", "paused", None)
    [question] = run.result.pending
    assert (question.kind, question.message, question.path, question.branch) == ("input", "Which way?", "a", "")
    assert question.invocation_id == run.id
    [asked] = [event for event in await talk.log() if event.long_running_tool_ids]
    assert asked.long_running_tool_ids == (question.id,)
    [part] = asked.parts
    assert (part.id, part.name, part.args) == (question.id, "adk_request_input", {"message": "Which way?"})
    assert '"longRunningToolIds":["' in asked.to_json()
    assert Event.from_json(asked.to_json()) == asked
    ends = [record.outcome for record in talk.records("agent_complete")]
    assert ends == ["paused"]


async def test_an_answer_lets_the_run_go_on_under_its_own_id_without_saying_again_what_was_said() -> None:
    talk = Talk(asks("a", "Which way?"))
    first = await talk.say("go")
    second = await talk.say(Which="left")
    assert second.id == first.id
    assert talk.texts == ["a: left"]
    assert (second.result.status, second.result.pending) == ("ok", ())
    said = [event.text for event in await talk.log() if event.text]
    assert said == ["go", "a begins", "a: left"]
    log = await talk.log()
    assert len({event.id for event in log}) == len(log)
    assert [event.serial for event in log] == list(range(1, len(log) + 1))


async def test_the_agent_that_goes_on_has_the_users_first_words() -> None:
    heard: list[str] = []

    async def turn(ctx: InvocationContext) -> None:
        await ctx.request_input("Sure")
        heard.append(ctx.user_text)

    talk = Talk(FunctionAgent("a", turn))
    await talk.say("the task")
    await talk.say(Sure=True)
    assert heard == ["the task"]


async def test_a_sequence_stops_and_goes_on_at_the_step_that_asked() -> None:
    talk = Talk(SequentialAgent("s", [says("before", "draft"), asks("a"), says("after", "published")]))
    await talk.say("go")
    assert talk.texts == ["draft", "a begins"]
    await talk.say(**{"a?": "yes"})
    assert talk.texts == ["a: yes", "published"]
    story = [(record.agent_name, record.resumed) for record in talk.records("agent_start")]
    assert story == [("s", True), ("a", True), ("after", False)]


async def test_siblings_go_on_and_the_group_gathers_once_when_all_have_ended() -> None:
    gate = anyio.Event()

    async def slow(ctx: InvocationContext) -> None:
        await gate.wait()
        await ctx.emit(ctx.text("slow"))

    async def asker(ctx: InvocationContext) -> None:
        try:
            await ctx.request_input("Well?")
            await ctx.emit(ctx.text("well"))
        finally:
            gate.set()

    heard: list[str] = []

    async def reads(ctx: InvocationContext) -> None:
        heard.extend(event.text for event in await ctx.history() if event.text)

    group = ParallelAgent("p", [FunctionAgent("asker", asker), FunctionAgent("slow", slow)])
    talk = Talk(SequentialAgent("s", [group, FunctionAgent("reads", reads)]))
    run = await talk.say("go")
    assert talk.texts == ["slow"]
    assert [q.branch for q in run.result.pending] == ["p.asker"]
    assert run.result.outcomes["p.slow"].ok
    run = await talk.say(**{"Well?": 1})
    assert talk.texts == ["well"]
    assert heard == ["go", "slow", "well"]
    assert {name: outcome.status for name, outcome in run.result.outcomes.items()} == {"p.asker": "ok", "p.slow": "ok"}
    names = [event.lifecycle.name for event in await talk.log() if event.lifecycle]
    assert (names.count("scatter_start"), names.count("gather_complete")) == (1, 1)
    [gather] = talk.records("gather_complete", await talk.log())
    assert (gather.successful, gather.gathered_results) == (2, ["asker", "slow"])


async def test_several_questions_are_answered_together_or_one_after_the_other_in_any_order() -> None:
    def tree() -> Agent:
        return ParallelAgent("p", [asks("a", "A"), asks("b", "B"), asks("c", "C")])

    talk = Talk(tree())
    await talk.say("go")
    assert sorted(talk.pending) == ["A", "B", "C"]
    await talk.say(C=3)
    assert (talk.texts, sorted(talk.pending)) == (["c: 3"], ["A", "B"])
    run = await talk.say(B=2, A=1)
    assert (sorted(talk.texts), talk.pending, run.result.status) == (["a: 1", "b: 2"], [], "ok")
    assert run.result.text == "a: 1\n\nb: 2\n\nc: 3"


async def test_one_that_still_waits_isnt_begun_again() -> None:
    begun: list[str] = []

    def counts(name: str) -> FunctionAgent:
        async def turn(ctx: InvocationContext) -> None:
            begun.append(name)
            await ctx.request_input(name)

        return FunctionAgent(name, turn)

    talk = Talk(ParallelAgent("p", [counts("a"), SequentialAgent("s", [counts("b")])]))
    await talk.say("go")
    await talk.say(a=1)
    assert sorted(begun) == ["a", "a", "b"]
    starts = [event.author for event in talk.events if event.lifecycle and event.lifecycle.name.endswith("_start")]
    assert starts == ["p", "a"]


async def test_an_agent_may_ask_again_and_again() -> None:
    talk = Talk(asks("a", "One", "Two", "Three"))
    await talk.say("go")
    for word, answer in (("One", 1), ("Two", 2), ("Three", 3)):
        assert talk.pending == [word]
        await talk.say(**{word: answer})
        assert talk.texts == [f"a: {answer}"]
    assert talk.runs[-1].result.status == "ok"
    assert len({run.id for run in talk.runs}) == 1


async def test_a_loop_goes_on_in_the_iteration_that_paused() -> None:
    async def turn(ctx: InvocationContext) -> None:
        if ctx.iteration == 2:
            await ctx.request_input("Two?")
        await ctx.emit(ctx.text(f"after {ctx.iteration}"))

    counted: list[int] = []

    def until(ctx: InvocationContext) -> bool:
        counted.append(ctx.iteration or 0)
        return False

    root = LoopAgent("l", [says("draft", "draft"), FunctionAgent("asks", turn)], max_iterations=3, until=until)
    talk = Talk(root)
    await talk.say("go")
    assert talk.texts == ["draft", "after 1", "draft"]
    await talk.say(**{"Two?": True})
    assert talk.texts == ["after 2", "draft", "after 3"]
    assert counted == [1, 2, 3]
    iterations = [record.iteration for record in talk.records("loop_iteration", await talk.log())]
    assert iterations == [1, 2, 3]


async def test_loops_in_loops_and_groups_in_groups_find_their_place() -> None:
    async def turn(ctx: InvocationContext) -> None:
        n = ctx.state.get("n", 0) + 1
        await ctx.emit(ctx.text(f"step {n}"))
        if n in (3, 6):
            await ctx.request_input(f"Q{n}")
            await ctx.emit(ctx.text(f"answered {n}"))
        ctx.state["n"] = n

    inner = LoopAgent("inner", [FunctionAgent("step", turn)], max_iterations=2)
    group = ParallelAgent("p", [SequentialAgent("s", [inner, says("end", "end")])])
    talk = Talk(LoopAgent("outer", [group], max_iterations=4))
    await talk.say("go")
    assert talk.texts == ["step 1", "step 2", "end", "step 3"]
    await talk.say(Q3=1)
    assert talk.texts == ["answered 3", "step 4", "end", "step 5", "step 6"]
    await talk.say(Q6=1)
    assert talk.texts == ["answered 6", "end", "step 7", "step 8", "end"]
    assert (await talk.store.get(talk.runs[0].session)).state["n"] == 8


async def test_an_escalation_from_before_the_pause_still_ends_the_loop() -> None:
    async def escalates(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event("enough", actions=Actions(escalate=True)))

    group = ParallelAgent("p", [FunctionAgent("e", escalates), asks("a", "A")])
    talk = Talk(LoopAgent("l", [group], max_iterations=5))
    await talk.say("go")
    await talk.say(A=1)
    assert talk.runs[-1].result.status == "ok"
    assert len([e for e in await talk.log() if e.lifecycle and e.lifecycle.name == "loop_iteration"]) == 1


async def test_an_escalation_that_an_inner_loop_took_ends_no_other() -> None:
    async def escalates(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event("enough", actions=Actions(escalate=True)))

    inner = LoopAgent("inner", [FunctionAgent("e", escalates)], max_iterations=5)

    async def once(ctx: InvocationContext) -> None:
        if ctx.iteration == 1:
            await ctx.request_input("A")

    talk = Talk(LoopAgent("outer", [inner, FunctionAgent("a", once)], max_iterations=2))
    await talk.say("go")
    await talk.say(A=1)
    assert talk.texts == ["enough"]
    assert talk.runs[-1].result.status == "ok"


async def test_what_branches_brought_before_the_pause_is_reduced_at_the_join() -> None:
    def votes(name: str, n: int, question: str = "") -> FunctionAgent:
        async def turn(ctx: InvocationContext) -> None:
            ctx.state["votes"] = [n]
            await ctx.emit(ctx.text(f"{name} voted"))
            if question:
                await ctx.request_input(question)
                ctx.state["votes"] = [n + 100]

        return FunctionAgent(name, turn)

    inner = ParallelAgent("inner", [votes("c", 3), votes("d", 4)], on_conflict={"votes": operator.add})
    plain = ParallelAgent("plain", [votes("e", 5)])
    root = ParallelAgent("p", [votes("a", 1), votes("b", 2, "B"), inner, plain], on_conflict={"votes": operator.add})
    talk = Talk(root)
    await talk.say("go")
    await talk.say(B=1)
    session = await talk.store.get(talk.runs[0].session)
    assert session.state["votes"] == [1, 2, 102, 3, 4, 5]


@pytest.mark.parametrize("again", ["the voter", "its sequence", "its loop"])
async def test_a_vote_from_before_the_pause_is_dropped_with_the_attempt_that_made_it(again: str) -> None:
    """What goes on after the pause, fails and is tried again votes anew; what others brought stays."""
    tries: list[int] = []

    async def first(ctx: InvocationContext) -> None:
        ctx.state["votes"] = [f"first {ctx.iteration or 0}"]
        await ctx.emit(ctx.text("first voted"))

    async def turn(ctx: InvocationContext) -> None:
        if ctx.iteration == 1:
            return
        tries.append(len(tries))
        ctx.state["votes"] = [f"try {len(tries)}"]
        await ctx.emit(ctx.text("voted"))
        if len(tries) < 3:
            await ctx.request_input("sure?")
            raise OSError("once")

    own = 2 if again == "the voter" else None
    line: list[Agent] = [FunctionAgent("first", first), FunctionAgent("voter", turn, retry=own)]
    tree: Agent
    if again == "its loop":
        tree = LoopAgent("line", line, max_iterations=2, retry=2)
    else:
        tree = SequentialAgent("line", line, retry=2 if again == "its sequence" else None)

    async def vote(ctx: InvocationContext) -> None:
        ctx.state["votes"] = ["other"]

    talk = Talk(ParallelAgent("p", [tree, FunctionAgent("other", vote)], on_conflict={"votes": operator.add}))
    await talk.say("go")
    await talk.say(**{"sure?": True})
    session = await talk.store.get(talk.runs[0].session)
    assert session is not None
    assert talk.runs[-1].status == "ok"
    assert len(tries) == 3
    firsts = ["first 1", "first 2"] if again == "its loop" else ["first 0"]
    assert session.state["votes"] == [*firsts, "try 3", "other"]


async def test_a_vote_of_an_earlier_iteration_stays_when_one_of_a_later_is_tried_again() -> None:
    tries: list[int] = []

    async def turn(ctx: InvocationContext) -> None:
        tries.append(len(tries))
        ctx.state["votes"] = [f"iteration {ctx.iteration}, try {len(tries)}"]
        await ctx.emit(ctx.text("voted"))
        if ctx.iteration == 2 and len(tries) < 4:
            await ctx.request_input("sure?")
            raise OSError("once")

    loop = LoopAgent("loop", [FunctionAgent("voter", turn, retry=2)], max_iterations=2)
    talk = Talk(ParallelAgent("p", [loop], on_conflict={"votes": operator.add}))
    await talk.say("go")
    await talk.say(**{"sure?": True})
    session = await talk.store.get(talk.runs[0].session)
    assert session is not None
    assert session.state["votes"] == ["iteration 1, try 1", "iteration 2, try 4"]


async def test_what_is_tried_again_after_a_pause_begins_from_its_beginning() -> None:
    """A loop from its first iteration, as it would have without the pause."""
    asked: list[int] = []

    async def once(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(f"iteration {ctx.iteration}"))
        if ctx.iteration == 2 and len(asked) < 2:
            asked.append(len(asked))
            await ctx.request_input("sure?")
            raise OSError("once")

    talk = Talk(LoopAgent("loop", [FunctionAgent("a", once)], max_iterations=2, retry=2))
    await talk.say("go")
    await talk.say(**{"sure?": True})
    assert talk.runs[-1].status == "ok"
    assert talk.texts == ["iteration 1", "iteration 2"]


async def test_a_failure_beside_a_pause_fails_the_run() -> None:
    asked = anyio.Event()

    async def asker(ctx: InvocationContext) -> None:
        try:
            await ctx.request_input("Well?")
        finally:
            asked.set()

    async def fails(ctx: InvocationContext) -> None:
        await asked.wait()
        raise ValueError("no")

    talk = Talk(ParallelAgent("p", [FunctionAgent("a", asker), FunctionAgent("f", fails)]))
    with pytest.raises(ValueError, match="no"):
        await talk.say("go")
    ends = [(r.agent_name, r.outcome) for r in talk.records("agent_complete", await talk.log())]
    assert ends == [("p", "error")]


async def test_a_failure_that_was_collected_before_the_pause_is_still_collected() -> None:
    async def fails(ctx: InvocationContext) -> None:
        raise ValueError("no")

    talk = Talk(ParallelAgent("p", [FunctionAgent("f", fails), asks("a", "A")], on_error="collect"))
    await talk.say("go")
    run = await talk.say(A=1)
    outcome = run.result.outcomes["p.f"]
    assert (outcome.status, str(outcome.error)) == ("error", "ValueError: no")


async def test_a_group_that_is_settled_doesnt_wait_for_who_asks() -> None:
    asked = anyio.Event()

    async def asker(ctx: InvocationContext) -> None:
        try:
            await ctx.request_input("Well?")
        finally:
            asked.set()

    async def wins(ctx: InvocationContext) -> None:
        await asked.wait()
        await ctx.emit(ctx.text("won"))

    talk = Talk(ParallelAgent("p", [FunctionAgent("a", asker), FunctionAgent("w", wins)], stop_when="first_success"))
    run = await talk.say("go")
    assert (run.result.status, run.result.pending, run.result.text) == ("ok", (), "won")
    [asked_event] = [event for event in await talk.log() if event.long_running_tool_ids]
    async with Runner(talk.root, sessions=talk.store) as runner:
        with pytest.raises(AnswerRefused, match="any more"):
            async with runner.run(session_id="s", answers={asked_event.long_running_tool_ids[0]: 1}):
                pass


async def test_a_custom_agent_doesnt_go_on_past_a_child_that_asks_even_if_it_catches_everything() -> None:
    done: list[str] = []

    async def director(ctx: InvocationContext) -> None:
        done.append("first")
        await ctx.run(says("first", "one"))
        try:
            await ctx.run(asks("a", "A"))
        except Exception:
            done.append("caught")
        done.append("danger")
        async with ctx.open(says("last", "two")) as events:
            async for event in events:
                await ctx.emit(event)

    talk = Talk(FunctionAgent("director", director))
    await talk.say("go")
    assert done == ["first"]
    await talk.say(A="yes")
    assert talk.texts == ["a: yes", "two"]
    assert done == ["first", "first", "danger"]


async def test_a_child_that_is_watched_may_ask() -> None:
    async def director(ctx: InvocationContext) -> None:
        async with ctx.open(says("first", "one")) as events:
            async for event in events:
                await ctx.emit(event)
        async with ctx.open(asks("a", "A")) as events:
            async for event in events:
                await ctx.emit(event)

    talk = Talk(FunctionAgent("director", director))
    await talk.say("go")
    assert (talk.texts, talk.pending) == (["one", "a begins"], ["A"])
    await talk.say(A=1)
    assert talk.texts == ["a: 1"]


def watches(child: Agent, *, drops: str = "", copies: bool = False) -> FunctionAgent:
    """Says of each event that it has seen it, and passes it on unless it begins with `drops`."""

    async def turn(ctx: InvocationContext) -> None:
        seen = 0
        async with ctx.open(child) as events:
            async for event in events:
                seen += 1
                if drops and event.text.startswith(drops):
                    continue
                await ctx.emit(ctx.text(f"{ctx.agent.name} saw {seen}: {event.text}"))
                words = tuple(Text(part.text.upper()) for part in event.parts if type(part) is Text)
                await ctx.emit(event.model_copy(update={"parts": words}) if copies else event)
        await ctx.emit(ctx.text(f"{ctx.agent.name} saw {seen} in all"))

    return FunctionAgent(f"w-{child.name}", turn, sub_agents=[child])


async def test_who_watches_cannot_drop_or_change_a_question() -> None:
    async def turn(ctx: InvocationContext) -> None:
        async with ctx.open(child) as events:
            async for event in events:
                if event.text:
                    await ctx.emit(event.model_copy(update={"parts": (Text("changed"),)}))

    child = asks("a", "A")
    talk = Talk(FunctionAgent("w", turn, sub_agents=[child]))
    await talk.say("go")
    assert (talk.texts, talk.pending) == (["changed"], ["A"])
    await talk.say(A=1)
    assert (talk.texts, talk.runs[-1].result.status) == (["changed"], "ok")


@pytest.mark.parametrize("copies", [False, True])
async def test_who_watches_sees_again_what_was_said_before_the_pause_and_says_what_is_new(copies: bool) -> None:
    async def turn(ctx: InvocationContext) -> None:
        for word in ("um one", "um two", "begins"):
            await ctx.emit(ctx.text(word))
        await ctx.emit(ctx.text("um three"))
        for question in "AB":
            await ctx.emit(ctx.text(f"told {await ctx.request_input(question)}"))

    def said(*words: str) -> list[str]:
        return [word.upper() if copies and "saw" not in word else word for word in words]

    child = SequentialAgent("s", [says("first", "draft"), FunctionAgent("a", turn)])
    talk = Talk(watches(child, drops="um", copies=copies))
    await talk.say("go")
    assert talk.texts[-2:] == said("w-s saw 4: begins", "begins")
    await talk.say(A=1)
    assert talk.texts == said("w-s saw 3: told 1", "told 1")  # what it had dropped isn't there to be seen
    await talk.say(B=2)
    assert talk.texts == said("w-s saw 4: told 2", "told 2", "w-s saw 4 in all")
    assert not any(event.text.startswith("um") for event in await talk.log())


async def test_watchers_of_watchers_see_again_what_was_said_before_the_pause() -> None:
    talk = Talk(watches(watches(asks("a", "A"))))
    await talk.say("go")
    await talk.say(A=1)
    assert talk.texts == [
        "w-w-a saw 3: w-a saw 2: a: 1",
        "w-a saw 2: a: 1",
        "w-w-a saw 4: a: 1",
        "a: 1",
        "w-w-a saw 5: w-a saw 2 in all",
        "w-a saw 2 in all",
        "w-w-a saw 5 in all",
    ]


async def test_who_watches_an_agent_that_thinks_sees_again_what_it_had_said() -> None:
    @tool(require_confirmation=True)
    async def pay() -> str:
        return "paid"

    talk = Talk(watches(caller("c", [pay], [("pay", {})])))
    run = await talk.say("go")
    before = [event.text for event in await talk.log() if event.author == "w-c" and event.text]
    answers = {run.result.pending[0].id: True}
    async with Runner(talk.root, sessions=talk.store) as runner, runner.run(session_id="s", answers=answers) as run:
        texts = [event.text async for event in run if event.author == "w-c" and event.text]
    assert run.result.status == "ok"
    assert texts[-1] == f"w-c saw {len(before) + len(texts) - 1} in all"


async def test_what_was_paid_for_an_event_that_is_dropped_again_is_charged_once() -> None:
    async def turn(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event("um", usage=Usage(input_tokens=10)))
        await ctx.emit(ctx.text("begins"))
        await ctx.request_input("A")

    talk = Talk(watches(FunctionAgent("a", turn), drops="um"))
    await talk.say("go")
    await talk.say(A=1)
    assert sum(event.usage.input_tokens for event in await talk.log() if event.usage) == 10


async def test_who_watches_says_what_is_new_though_it_had_spoken_of_what_it_dropped() -> None:
    async def turn(ctx: InvocationContext) -> None:
        async with ctx.open(child) as events:
            async for event in events:
                await ctx.emit(ctx.text(f"saw {event.text}"))
                if event.text == "told 1":
                    await ctx.emit(event)

    async def asking(ctx: InvocationContext) -> None:
        for word in ("one", "two", "three"):
            await ctx.emit(ctx.text(word))
        await ctx.emit(ctx.text(f"told {await ctx.request_input('A')}"))

    child = FunctionAgent("a", asking)
    talk = Talk(FunctionAgent("w", turn, sub_agents=[child]))
    await talk.say("go")
    assert talk.texts == ["saw one", "saw two", "saw three"]
    await talk.say(A=1)
    assert talk.texts == ["saw told 1", "told 1"]


async def test_children_in_tasks_of_ones_own_go_on_where_a_question_of_another_stopped_them() -> None:
    heard: list[list[str]] = []

    def works(name: str) -> FunctionAgent:
        async def turn(ctx: InvocationContext) -> None:
            await ctx.emit(ctx.text(f"{name} begins"))
            for _ in range(50):
                await checkpoint()
            await ctx.emit(ctx.text(f"{name} ends"))

        return FunctionAgent(name, turn)

    inner = ParallelAgent("p", [works("d"), works("e")])
    children = [asks("a", "A"), works("b"), asks("c", "C"), inner]

    async def director(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("director begins"))
        async with anyio.create_task_group() as tasks:
            for child in children:
                tasks.start_soon(ctx.run, child)
        heard.append(sorted(event.text for event in await ctx.history() if event.text))

    talk = Talk(FunctionAgent("director", director, sub_agents=children))
    run = await talk.say("go")
    while run.result.status == "paused":
        assert len(talk.runs) < 5
        run = await talk.say(**dict.fromkeys(talk.pending, 1))
    words = ["director begins", "go", "a: 1", "c: 1", *(f"{name} begins" for name in "abcde")]
    words = sorted([*words, *(f"{name} ends" for name in "bde")])
    assert sorted(event.text for event in await talk.log() if event.text) == words
    assert heard == [words]
    assert [len(talk.records(name, await talk.log())) for name in ("scatter_start", "gather_complete")] == [1, 1]
    ends = [event.lifecycle for event in await talk.log() if isinstance(event.lifecycle, AgentComplete)]
    assert {record.outcome for record in ends} == {"ok", "paused"}


async def test_a_child_that_was_given_up_before_the_question_stays_given_up() -> None:
    begun: list[str] = []

    async def slow(ctx: InvocationContext) -> None:
        begun.append("slow")
        await ctx.emit(ctx.text("slow begins"))
        await anyio.sleep_forever()

    child = FunctionAgent("slow", slow)

    async def director(ctx: InvocationContext) -> None:
        async with ctx.open(child) as events:
            async for event in events:
                await ctx.emit(event)
                break
        await ctx.emit(ctx.text(f"told {await ctx.request_input('A')}"))

    talk = Talk(FunctionAgent("director", director, sub_agents=[child]))
    await talk.say("go")
    await talk.say(A=1)
    assert (begun, talk.texts) == (["slow"], ["told 1"])


async def test_a_generator_may_ask_from_within_its_own_task_group() -> None:
    async def turn(ctx: InvocationContext):
        yield ctx.text("begins", partial=True)
        yield ctx.text("begins")
        answers = []
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                answers.append(await ctx.request_input("A"))

            tasks.start_soon(ask)
        yield ctx.text(f"told {answers}")

    talk = Talk(FunctionAgent("a", turn))
    await talk.say("go")
    await talk.say(A=1)
    assert talk.texts == ["told [1]"]
    assert not any(event.partial for event in talk.events)


async def test_branches_of_ones_own_may_ask() -> None:
    async def director(ctx: InvocationContext) -> None:
        async with Branches(ctx, keep=False) as group:
            for name in "abc":
                group.add(asks("worker"), name=name, message=name)
            told = []
            while (branch := await group.next()) is not None:
                told.append(branch.name)
        await ctx.emit(ctx.text(f"gathered {sorted(told)}"))

    talk = Talk(FunctionAgent("director", director))
    run = await talk.say("go")
    assert len(run.result.pending) == 3
    async with Runner(talk.root, sessions=talk.store) as runner:
        answers = {question.id: question.branch for question in run.result.pending}
        async with runner.run(session_id="s", answers=answers) as run:
            texts = [event.text async for event in run if event.text]
    assert sorted(texts) == [
        "gathered ['a', 'b', 'c']",
        "worker: director.a",
        "worker: director.b",
        "worker: director.c",
    ]


async def test_after_callbacks_wait_for_the_real_end_and_state_before_the_question_is_kept() -> None:
    log: list[str] = []

    async def turn(ctx: InvocationContext) -> None:
        ctx.state["before"] = ctx.state.get("before", 0) + 1
        await ctx.request_input("A")
        ctx.state["after"] = 1

    talk = Talk(FunctionAgent("a", turn, after_agent=lambda ctx: log.append("after")))
    await talk.say("go")
    assert (log, (await talk.store.get(talk.runs[0].session)).state) == ([], {"before": 1})
    await talk.say(A=1)
    assert log == ["after"]


async def test_what_a_turn_had_written_is_not_written_twice() -> None:
    seen: list[Any] = []

    async def turn(ctx: InvocationContext) -> None:
        ctx.state["n"] = ctx.state.get("n", 0) + 1
        seen.append(ctx.state["n"])
        await ctx.emit(ctx.text("one"))
        ctx.state["n"] += 10
        if "old" in ctx.state:
            del ctx.state["old"]
        seen.append(ctx.state["n"])
        await ctx.request_input("A")
        seen.append((ctx.state["n"], "old" in ctx.state))
        ctx.state["n"] += 100
        await ctx.request_input("B")
        ctx.state["n"] += 1000

    talk = Talk(SequentialAgent("s", [FunctionAgent("a", turn), says("b", "b")]))
    runner = Runner(talk.root, sessions=talk.store)
    async with runner, runner.run("go", session_id="s", state={"n": 5, "old": 1}) as run:
        await run.wait()
    talk.runs.append(run)
    await talk.say(A=1)
    await talk.say(B=1)
    assert seen == [6, 16, 6, 16, (16, False), 6, 16, (16, False)]
    assert (await talk.store.get(run.session)).state == {"n": 1116}


async def test_an_answer_is_validated_by_its_type_and_asked_again_where_it_doesnt_fit() -> None:
    class Size(BaseModel):
        width: int
        unit: Literal["cm", "in"] = "cm"

    got: list[object] = []

    async def turn(ctx: InvocationContext) -> None:
        got.append(await ctx.request_input("Size?", schema=Size, payload={"of": "the box"}))

    talk = Talk(FunctionAgent("a", turn))
    run = await talk.say("go")
    [question] = run.result.pending
    assert question.payload == {"of": "the box"}
    assert question.schema is not None
    assert question.schema["required"] == ["width"]
    for wrong in ("3", {"unit": "cm"}, {"width": "3"}, {"width": True}, {"width": 3, "unit": "ft"}):
        with pytest.raises(AnswerRefused, match="must fit"):
            await talk.say(**{"Size?": wrong})
    assert len(await talk.log()) == 4
    await talk.say(**{"Size?": {"width": 3}})
    assert got == [Size(width=3)]


async def test_what_only_the_type_itself_can_tell_is_asked_again() -> None:
    from typing import Annotated

    from pydantic import AfterValidator

    def even(value: int) -> int:
        if value % 2:
            raise ValueError("odd")
        return value

    talk = Talk(asks("a", "Number?", schema=Annotated[int, AfterValidator(even)]))
    await talk.say("go")
    await talk.say(**{"Number?": 3})
    assert talk.pending == ["Number? (the answer 3 doesn't fit: Value error, odd)"]
    await talk.say(**{"Number?": 4})
    assert talk.texts == ["a: 4"]


# An answer that nobody has acted on yet


class Ends(Plugin):
    """Ends the run where an answer has just been stored: by an error, as a crash would, or by a cancellation."""

    def __init__(self) -> None:
        self.how = ""
        self.run: Run | None = None

    async def before_run(self, ctx: InvocationContext) -> None:
        if self.how == "error":
            raise OSError("crash")
        if self.how == "cancel":
            assert self.run is not None
            self.run.cancel("enough")
            await checkpoint()


@pytest.mark.parametrize("how", ["error", "cancel"])
@pytest.mark.parametrize("names", ["a", "ab"])
async def test_a_run_that_ended_with_an_answer_just_stored_goes_on_when_it_is_given_again(how: str, names: str) -> None:
    ends = Ends()
    talk = Talk(ParallelAgent("p", [asks(name, name) for name in names]), {"plugins": [ends]})
    run = await talk.say("go")
    ids = {question.message: question.id for question in run.result.pending}

    async def answer(name: str, value: object, how: str = "") -> Run:
        ends.how = how
        async with Runner(talk.root, sessions=talk.store, plugins=[ends]) as runner:
            ends.run = runner.run(session_id="s", answers={ids[name]: value})
            async with ends.run as run:
                talk.events = [event async for event in run]
        return run

    with pytest.raises(PluginError) if how == "error" else nullcontext():
        await answer("a", 1, how)
    with pytest.raises(AnswerRefused, match="has been answered already"):
        await answer("a", 2)
    run = await answer(names[-1], 1)
    assert (run.result.status, sorted(talk.texts)) == ("ok", [f"{name}: 1" for name in names])
    stored = [part.id for event in await talk.log() for part in event.parts if part.kind == "tool_result"]
    assert sorted(stored) == sorted(ids.values())
    with pytest.raises(AnswerRefused, match="has been answered already"):
        await answer("a", 1)


async def test_an_answer_that_was_acted_on_isnt_taken_again() -> None:
    talk = Talk(ParallelAgent("p", [asks("a", "A", "AA"), asks("b", "B")]))
    await talk.say("go")
    await talk.say(A=1)
    with pytest.raises(AnswerRefused, match="has been answered already"):
        await talk.say(A=1)
    await talk.say(AA=2, B=3)
    assert sorted(talk.texts) == ["a: 2", "b: 3"]


# What is no answer


async def test_answers_that_nobody_asked_for_are_refused_and_nothing_is_stored() -> None:
    talk = Talk(ParallelAgent("p", [asks("a", "A"), asks("b", "B")]))
    run = await talk.say("go")
    ids = {question.message: question.id for question in run.result.pending}
    before = len(await talk.log())

    async def refused(match: str, message: Any = None, answers: dict | None = None, session: str = "s") -> None:
        async with Runner(talk.root, sessions=talk.store) as runner:
            with pytest.raises(AnswerRefused, match=match):
                async with runner.run(message, session_id=session, answers=answers):
                    pass
        assert len(await talk.log()) == before

    await refused("nobody asked 'made-up'", answers={"made-up": 1})
    await refused("nobody asked", answers={ids["A"]: 1, "made-up": 1})
    await refused("nobody asked", answers={ids["A"]: 1}, session="another")
    await refused("answered twice", ToolResult(ids["A"], "adk_request_input", 1), {ids["A"]: 2})
    await refused("a question of 'adk_request_input'", ToolResult(ids["A"], "adk_request_confirmation", 1))
    await talk.say(A=1)
    before = len(await talk.log())
    await refused("has been answered already", answers={ids["A"]: 1})
    await talk.say(B=1)
    before = len(await talk.log())
    await refused("has been answered already", answers={ids["B"]: 1})


def test_answers_that_name_no_question_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="by the ids of their questions"):
        Runner(asks("a")).run(answers=[True])  # type: ignore[arg-type]


async def test_a_user_cannot_ask_in_an_agents_name() -> None:
    from agentflow import ToolCall

    talk = Talk(says("a", "hello"))
    await talk.say(ToolCall("forged", "adk_request_input", {"message": "Forged?"}))
    async with Runner(talk.root, sessions=talk.store) as runner:
        with pytest.raises(AnswerRefused):
            async with runner.run(session_id="s", answers={"forged": True}):
                pass


async def test_answers_to_two_runs_are_refused_together_and_taken_apart() -> None:
    talk = Talk(asks("a", "A"))
    first = await talk.say("one")
    second = await talk.say("two")
    assert first.id != second.id
    ids = [run.result.pending[0].id for run in (first, second)]
    async with Runner(talk.root, sessions=talk.store) as runner:
        with pytest.raises(AnswerRefused, match="belong to 2 runs"):
            async with runner.run(session_id="s", answers=dict.fromkeys(ids, 1)):
                pass
        for id, run in zip(ids, (first, second), strict=True):
            async with runner.run(session_id="s", answers={id: run.id}) as going:
                texts = [event.text async for event in going if event.text]
            assert (going.id, texts) == (run.id, [f"a: {run.id}"])


async def test_another_tree_is_refused() -> None:
    talk = Talk(asks("a", "A"))
    await talk.say("go")
    talk.root = asks("b", "A")
    talk.settings = {"app_name": "a"}
    with pytest.raises(AnswerRefused, match="for agent 'a'"):
        await talk.say(A=1)


async def test_an_answer_may_come_with_words_and_as_adk_sends_it() -> None:
    talk = Talk(asks("a", "A"))
    run = await talk.say("go")
    [question] = run.result.pending
    run = await talk.say(["here you are", ToolResult(question.id, "adk_request_input", "left")])
    assert talk.texts == ["a: left"]
    assert [event.text for event in await talk.log() if event.author == "user"] == ["go", "here you are"]


async def test_a_run_that_isnt_answered_doesnt_stand_in_the_way() -> None:
    talk = Talk(SequentialAgent("s", [says("before", "x"), asks("a", "A")]))
    await talk.say("one")
    await talk.say("two")
    assert talk.texts == ["x", "a begins"]


async def test_paused_is_no_exception() -> None:
    assert not issubclass(Paused, Exception)


async def test_a_timeout_and_a_retry_dont_touch_a_pause() -> None:
    talk = Talk(SequentialAgent("s", [asks("a", "A", timeout=5, retry=3)], timeout=10))
    await talk.say("go")
    assert talk.pending == ["A"]
    await talk.say(A=1)
    assert talk.texts == ["a: 1"]


async def test_a_cancelled_run_isnt_paused() -> None:
    async def turn(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("begins"))
        await ctx.request_input("A")

    async with Runner(FunctionAgent("a", turn)) as runner, runner.run("go") as run:
        async for _ in run:
            run.cancel("enough")
    assert run.result.status == "cancelled"


def test_a_script_may_answer_too() -> None:
    store = InMemorySessionService()
    first = Runner(asks("a", "A"), sessions=store).run_sync("go", session_id="s")
    assert [event.text for event in first if event.text] == ["a begins"]
    [question] = first.result.pending
    second = Runner(asks("a", "A"), sessions=store).run_sync(session_id="s", answers={question.id: 1})
    assert [event.text for event in second if event.text] == ["a: 1"]
