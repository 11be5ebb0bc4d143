"""Who sees what, in random trees and orders, against a direct reading of the rule.

To an agent are visible the committed events of its ancestors from before its fork, its own branch's, and those of each
instance of a parallel group whose gather event precedes its current step in its own line. Failed attempts that were
retried and branches that lost a race are hidden.
"""

from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from agentflow import (
    Actions,
    Agent,
    Event,
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Retry,
    Runner,
    SequentialAgent,
)
from agentflow.events import AgentParallelComplete, AgentParallelStart, AgentStart, GatherComplete, ScatterStart
from agentflow.history import History, visible_by_prefix
from agentflow.testing import SeededScheduler

many_trees = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True)
class Leaf:
    """Says this often; every second turn fails, is tried again, ends the loop."""

    says: int = 1
    fails: bool = False
    retry: bool = False
    escalates: bool = False


@dataclass(frozen=True)
class Line:
    """A Sequential, or a Loop of so many rounds."""

    children: tuple["Tree", ...]
    rounds: int = 0
    retry: bool = False


@dataclass(frozen=True)
class Fan:
    children: tuple["Tree", ...]
    on_error: str = "collect"
    stop_when: str = "all"
    at_once: int | None = None
    retry: bool = False


Tree = Leaf | Line | Fan


def inside(trees: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    children = st.lists(trees, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Line, children, st.integers(0, 2), st.booleans()),
        st.builds(
            Fan,
            children,
            st.sampled_from(["collect", "ignore", "cancel"]),
            st.sampled_from(["all", "all", "first_success", "escalation"]),
            st.none() | st.integers(1, 2),
            st.booleans(),
        ),
    )


LEAVES = st.builds(Leaf, st.integers(0, 2), st.booleans(), st.booleans(), st.booleans())
TREES = inside(st.recursive(LEAVES, inside, max_leaves=8))


@dataclass
class Seen:
    """What an agent was shown: the ids of events, when the log had so many."""

    run: str
    branch: str
    log: int
    ids: list[str] = field(default_factory=list)


class Forest:
    """Makes agents of trees, and keeps what they are shown."""

    def __init__(self, sessions: InMemorySessionService) -> None:
        self.sessions = sessions
        self.numbers = count(1)
        self.seen: list[Seen] = []

    async def look(self, ctx: InvocationContext) -> None:
        ids = [event.id for event in await ctx.history()]
        session = await self.sessions.get(ctx.session, recent=0)
        assert session is not None
        self.seen.append(Seen(ctx.invocation_id, ctx.branch, session.version, ids))

    def agent(self, tree: Tree) -> Agent:
        name = f"{type(tree).__name__[0].lower()}{next(self.numbers)}"
        again = Retry(attempts=2, delay=0) if tree.retry else None
        if isinstance(tree, Leaf):
            return FunctionAgent(name, self.turn(tree), retry=again)
        children = [self.agent(child) for child in tree.children]
        if isinstance(tree, Fan):
            return ParallelAgent(
                name,
                children,
                on_error=tree.on_error,
                stop_when=tree.stop_when,
                max_concurrency=tree.at_once,
                retry=again,
            )
        if tree.rounds:
            return LoopAgent(name, children, max_iterations=tree.rounds, retry=again)
        return SequentialAgent(name, children, retry=again)

    def turn(self, leaf: Leaf):
        turns = count(1)

        async def take(ctx: InvocationContext) -> None:
            odd = next(turns) % 2 == 1
            await self.look(ctx)
            for number in range(leaf.says):
                await ctx.emit(ctx.text(f"{ctx.path} {number}"))
                await self.look(ctx)
            if leaf.fails and odd:
                raise RuntimeError(ctx.path)
            if leaf.escalates and not odd:
                await ctx.emit(ctx.event("enough", actions=Actions(escalate=True)))

        return take


# The rule, read word for word off the log


def under(event: Event, branch: str) -> bool:
    return not branch or event.branch == branch or event.branch.startswith(f"{branch}.")


def hidden(log: list[Event]) -> set[str]:
    """Failed attempts that were retried, and branches that lost a race."""
    ids: set[str] = set()
    for place, event in enumerate(log):
        record = event.lifecycle
        if isinstance(record, AgentStart) and record.attempt > 1:
            since = last(
                log[:place], event, event.branch, AgentStart, lambda other, event=event: other.path == event.path
            )
            ids |= {other.id for other in log[since:place] if mine(other, event) and under(other, event.branch)}
        elif isinstance(record, GatherComplete):
            since = last(
                log[:place], event, event.branch, ScatterStart, lambda other, event=event: other.path == event.path
            )
            ids |= {
                other.id
                for other in log[since:place]
                for branch in record.hidden
                if mine(other, event) and under(other, branch)
            }
    return ids


def mine(event: Event, other: Event) -> bool:
    return event.invocation_id == other.invocation_id


def last(log: list[Event], of: Event, branch: str, kind: type, fits) -> int:
    """Index of the last such record of the same run on a branch."""
    return max(
        place
        for place, event in enumerate(log)
        if isinstance(event.lifecycle, kind) and mine(event, of) and event.branch == branch and fits(event)
    )


def line(log: list[Event], run: str, branch: str, start: int, end: int) -> list[Event]:
    """What was said on a branch from `start` to `end` of the log, and what joined it there."""
    found = []
    for place, event in enumerate(log[:end]):
        if place < start or event.branch != branch or (branch and event.invocation_id != run):
            continue
        if event.lifecycle is None:
            found.append(event)
        elif isinstance(event.lifecycle, GatherComplete):
            opened = last(log[:place], event, branch, ScatterStart, lambda other, event=event: other.path == event.path)
            group = f"{branch}.{event.author}." if branch else f"{event.author}."
            depth = group.count(".") + 1
            branches = {
                other.branch
                for other in log[opened:place]
                if mine(other, event) and other.branch.startswith(group) and other.branch.count(".") + 1 == depth
            }
            for child in branches:
                found += line(log, event.invocation_id, child, opened, place)
    return found


def rule(log: list[Event], run: str, branch: str) -> list[str]:
    found: list[Event] = []
    end = len(log)
    segments = branch.split(".") if branch else []
    while segments:
        here = ".".join(segments)
        began = max(
            place
            for place, event in enumerate(log[:end])
            if isinstance(event.lifecycle, AgentParallelStart)
            and event.lifecycle.attempt == 1
            and (event.invocation_id, event.branch) == (run, here)
        )
        found += line(log, run, here, began, end)
        group = segments[-2]
        segments = segments[:-2]
        above = ".".join(segments)
        end = last(log[:began], log[began], above, ScatterStart, lambda event, group=group: event.author == group)
    found += line(log, run, "", 0, end)
    lost = hidden(log)
    return [event.id for event in sorted(found, key=lambda event: event.serial or 0) if event.id not in lost]


async def run_twice(tree: Tree, seed: int, **options) -> tuple[list[Event], list[Seen]]:
    """Two runs in one session; what was stored, and what the agents were shown."""
    sessions = InMemorySessionService()
    forest = Forest(sessions)
    root = forest.agent(tree)
    async with SeededScheduler(seed) as scheduler, Runner(root, sessions=sessions, scheduler=scheduler) as runner:
        for message in ("go", "again"):
            try:
                async with runner.run(message, session_id="s", **options) as run:
                    async for _ in run:
                        pass
            except* RuntimeError:
                pass
    session = await sessions.get(run.session)
    assert session is not None
    return session.events, forest.seen


@many_trees
@given(TREES, st.integers(0, 99), st.sampled_from([0, 0, 3]))
async def test_an_agent_sees_what_the_rule_says(tree, seed, lookahead):
    log, seen = await run_twice(tree, seed, lookahead=lookahead)
    for one in seen:
        assert one.ids == rule(log[: one.log], one.run, one.branch), (one, told(log))


@many_trees
@given(TREES, st.integers(0, 99))
async def test_a_log_that_is_read_back_shows_what_the_live_run_showed(tree, seed):
    log, seen = await run_twice(tree, seed)
    again = [Event.from_json(event.to_json()) for event in log]
    for one in seen:
        shown = History(again[: one.log]).visible(one.run, one.branch)
        assert [event.id for event in shown] == one.ids


@many_trees
@given(TREES, st.integers(0, 99))
async def test_the_log_is_in_order_and_every_branch_that_began_ends_once(tree, seed):
    log, _ = await run_twice(tree, seed)
    assert [event.serial for event in log] == list(range(1, len(log) + 1))
    places = {(event.invocation_id, event.branch) for event in log}
    for run, branch in places:
        seqs = [event.seq for event in log if (event.invocation_id, event.branch) == (run, branch)]
        assert seqs == list(range(1, len(seqs) + 1))
        if branch:
            records = [event.lifecycle for event in log if (event.invocation_id, event.branch) == (run, branch)]
            began = sum(isinstance(record, AgentParallelStart) and record.attempt == 1 for record in records)
            assert began == sum(isinstance(record, AgentParallelComplete) for record in records) > 0
    # and with adk-go's rule, branches are prefixes
    for branch in {event.branch for event in log}:
        shown = {event.id for event in visible_by_prefix(log, branch)}
        for event in log:
            related = not branch or not event.branch or f"{branch}.".startswith(f"{event.branch}.")
            assert (event.id in shown) == (related and event.lifecycle is None)


@pytest.mark.parametrize("seed", range(5))
async def test_the_rule_is_no_empty_promise(seed):
    """The oracle tells apart what it must: siblings, joins, failed attempts, losers."""
    talk = Leaf(says=1)
    tree = Line((Fan((talk, Leaf(says=1, fails=True, retry=True))), Fan((talk, talk), stop_when="first_success"), talk))
    log, seen = await run_twice(tree, seed)
    shown = [one for one in seen if one.run == log[0].invocation_id]
    texts = {event.id: event.text for event in log}
    first_fan = [[texts[id] for id in one.ids] for one in shown if one.branch.startswith("f2.")]
    assert all(len({text.split()[0] for text in seen_here} - {"go"}) <= 1 for seen_here in first_fan)
    assert ["go", "l1.f2.l3 0"] in first_fan
    assert first_fan.count(["go"]) == 3  # twice by the one that was tried again
    end = [texts[id] for id in shown[-1].ids]
    assert {"go", "l1.f2.l3 0", "l1.f2.l4 0"} < set(end)
    assert len(end) == len(set(end))
    losers = {"l1.f5.l6 0", "l1.f5.l7 0"} - set(end)
    assert len(losers) == 1


def told(log: list[Event]) -> str:
    """The log, for a failure to be read."""
    return "\n" + "\n".join(
        f"{event.serial:3} {event.id[-4:]:>5} {event.branch or '-':20} {event.path:20} {event.lifecycle or event.text}"
        for event in log
    )
