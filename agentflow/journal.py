"""A paused run as its log tells of it: which turns are over, which wait for an answer, and what has been answered.

A run that is answered goes on under its own id. Its tree is entered again from the root; a turn that is over is not
taken again, one that waits for what is still not answered goes on waiting, and one whose answer has come is taken again
from its beginning, without saying again what it had said.
"""

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from operator import itemgetter
from typing import Any

from agentflow.content import Part, ToolCall, ToolResult
from agentflow.errors import AnswerRefused, RunError
from agentflow.events import (
    AgentComplete,
    AgentStart,
    Event,
    GatherComplete,
    LoopIteration,
    ScatterStart,
    Usage,
)
from agentflow.outcome import Outcome
from agentflow.questions import (
    ASKING,
    LONG_RUNNING,
    WAITING,
    Confirmation,
    Question,
    as_answer,
    questions_in,
    read_confirmation,
)
from agentflow.state import REMOVED, Earlier


class Past:
    """One turn of a paused run, as it was.

    Attributes:
        status: How it ended; `"running"` where the log doesn't say.
        apart: Whether it ran beside others of the same parent, on a branch of its own.
        loop: The iteration that it had begun last, where it is a loop's.
        replay: How many of its own events, stored already, it is still to emit again.
        then: What the keys that they wrote were before them, and become as it goes on.
        usage: What models charged for it, those that it directs aside; and for all of it before it began again.
        seconds: How long it took.
        since: The place in the log where it began.
        until: The place in the log where it ended last; 0 if it never did.
        watched: Whether somebody may have dropped some of its events.
    """

    __slots__ = (
        "_asked", "_escalated", "_journal", "_used", "agent", "apart", "branch", "calls", "children", "error", "events",
        "groups", "iteration", "loop", "path", "questions", "replay", "said", "seconds", "since", "status", "then",
        "until", "usage", "watched",
    )  # fmt: skip

    def __init__(self, journal: "Journal", event: Event, start: AgentStart) -> None:
        self._journal = journal
        self._used = False
        self._asked: dict[str, int] = {}
        self.agent = start.agent_name
        self.apart = start.own_branch
        self.path = event.path
        self.branch = event.branch
        self.iteration = event.iteration
        self.status: Any = "running"
        self.error: RunError | None = None
        self.usage = Usage()
        self.seconds = 0.0
        self.since = event.serial or 0
        self.until = 0
        self.watched = False
        self.children: list[Past] = []
        self.begin()

    def begin(self) -> None:
        """Its turn began, perhaps again after a failure: what came before doesn't count."""
        self.usage = self.spent()
        self.children = []
        self.events: list[Event] = []
        self.questions: list[Question] = []
        self.calls: dict[str, ToolCall] = {}
        self.groups: dict[str, int] = {}
        self._escalated: list[tuple[tuple[str, ...], bool | str]] = []
        self.loop = 0
        self.replay = 0
        self.then: dict[str, Any] = {}
        self.said: Event | tuple[Outcome, ...] | None = None

    def next_child(self, path: str, branch: str, iteration: int | None) -> "Past | None":
        """The next turn of this child's that has not been asked for yet, whether on this branch or apart from it."""
        for past in self.children:
            line = ".".join(past.branch.split(".")[:-2]) if past.apart else past.branch
            if not past._used and (past.path, line, past.iteration) == (path, branch, iteration):
                return past
        return None

    def child(self, path: str, branch: str, iteration: int | None) -> "Past | None":
        """The next turn of this child's that has not been asked for yet."""
        for past in self.children:
            if not past._used and (past.path, past.branch, past.iteration) == (path, branch, iteration):
                past._used = True
                return past
        return None

    def outcome(self) -> Outcome:
        """How it ended."""
        spent = self.spent()
        return Outcome(
            agent=self.agent,
            branch=self.branch,
            status=self.status,
            said=self.said,
            error=self.error,
            duration=self.seconds,
            usage=None if spent == Usage() else spent,
        )

    def spent(self) -> Usage:
        """What models charged for it, and for whoever it directs."""
        return sum((past.spent() for past in self.children), self.usage)

    def escalations(self) -> list[tuple[tuple[str, ...], bool | str]]:
        """Where it, or whoever it directs, ended a loop that runs it, and which."""
        made = list(self._escalated)
        for past in self.children:
            if not self.calls or past.branch == self.branch:  # what is inside of a tool call ends nothing outside
                made += past.escalations()
        return [one for one in made if one[1] not in (True, self.agent)] if self.loop else made

    def brought_it(self, earlier: Earlier) -> bool:
        """Whether it was in this turn, or in one of those that it directs."""
        return self.since < earlier.serial and _under(earlier.path, self.path) and _under(earlier.branch, self.branch)

    def brought(self, group: str, branch: str) -> dict[str, list[tuple[Earlier, Any]]]:
        """What a branch of this still open group brought to keys that are folded at a join, by key, in order.

        Groups inside of it that are still open will ask for themselves; one that has ended has brought its own fold.
        """
        since = self.groups.get(group, 0)
        inner = [prefix for prefix in self._journal.open_groups() if _under(prefix, branch)]
        found: dict[str, list[tuple[Earlier, Any]]] = {}
        for serial, where, path, values in self._journal.contributions:
            if serial > since and _under(where, branch) and not any(_under(where, prefix) for prefix in inner):
                for key, value in values.items():
                    found.setdefault(key, []).append((Earlier(serial, where, path), value))
        return found

    def waits_for(self, below: str | None = None) -> list[Question]:
        """What it, and whoever it directs, waits for; `below` a branch: only on that and what is under it."""
        return [question for _, question in self._asks(below) if question.id not in self._journal.answers]

    def news(self, below: str | None = None) -> list[Question]:
        """Which of these have been answered since who asks them paused."""
        answered = self._journal.answered
        return [question for past, question in self._asks(below) if answered.get(question.id, 0) > past.until]

    def _asks(self, below: str | None) -> Iterator[tuple["Past", Question]]:
        for question in self.questions:
            if below is None or _under(question.branch, below):
                yield self, question
        for past in self.children:
            if past.status == "paused":
                yield from past._asks(below)

    def words(self) -> list[Event]:
        """What it, and whoever it directs, had said, in order; questions aside."""
        return [
            event
            for event in self._journal.said
            if self.since < (event.serial or 0) < (self.until or inf)
            and _under(event.path, self.path)
            and (not self.branch or _under(event.branch, self.branch))
        ]

    def repeats(self, branch: str) -> bool:
        """Whether it said before what it says next on this branch: it begins again, and isn't yet where it was."""
        return (self.replay > 0 or (self.watched and not self._arrived())) and branch == self.branch

    def _arrived(self) -> bool:
        """Whether it has come again to where it paused. Counting doesn't tell if some of its words were dropped."""
        asked = [question for question in self.questions if question.kind == "input" and question.branch == self.branch]
        paused = [past for past in self.children if past.status == "paused"]
        return self._asked.get(self.branch, 0) == len(asked) and all(past._used for past in paused)

    def step(self) -> None:
        """The next of its stored events has been repeated."""
        if self.replay:
            actions = self.events[len(self.events) - self.replay].actions
            self.replay -= 1
            if actions is not None:
                self.then.update(actions.state_delta)
                self.then.update(dict.fromkeys(actions.state_removed, REMOVED))

    def view(self, state: dict[str, Any]) -> dict[str, Any]:
        """State as it was for the turn at this point, as far as its own writes go; `state` itself when it is done."""
        if not self.replay or not self.then:
            return state
        return {key: value for key, value in (state | self.then).items() if value is not REMOVED}

    def next_input(self, branch: str) -> Question | None:
        """The next question of `ctx.request_input` on this branch, in the order in which they were asked."""
        asked = [question for question in self.questions if question.kind == "input" and question.branch == branch]
        place = self._asked.get(branch, 0)
        if place >= len(asked):
            return None
        self._asked[branch] = place + 1
        return asked[place]

    def answer(self, question: Question) -> ToolResult | None:
        """What has been answered to a question."""
        return self._journal.answers.get(question.id)

    def given(self, call_id: str) -> ToolResult | None:
        """What has been answered to a long-running tool's call."""
        return self._journal.answers.get(call_id)

    def confirmation(self, call_id: str) -> "tuple[Question, Confirmation | None] | None":
        """The question whether a call may run, and what was said to it; `None` if nobody asked."""
        for question in reversed(self.questions):
            if question.kind == "confirmation" and question.call is not None and question.call.id == call_id:
                answer = self.answer(question)
                return question, read_confirmation(question, answer.result) if answer is not None else None
        return None

    def waiting_calls(self) -> list[tuple[ToolCall, ToolResult]]:
        """Tool calls that have no answer yet, each with what stands in its place."""
        latest: dict[str, ToolResult] = {}
        for event in self.events:
            for part in event.parts:
                if type(part) is ToolResult:
                    latest[part.id] = part
        return [
            (self.calls[id], result)
            for id, result in latest.items()
            if result.extra and WAITING in result.extra and id in self.calls
        ]


class Journal:
    """What the log of a session says of one of its runs.

    Args:
        run_id: The run.
        events: The session's, oldest first.

    Attributes:
        root: Its root's turn; `None` if it never began.
        user_content: What the user said to start it.
        answers: What has been answered, by question.
        answered: The place in the log of each answer.
        count: The highest number of an event's id.
        said: What its agents said, questions aside.
        tool_calls: How many tool calls an agent's model made, by path and branch.
    """

    def __init__(self, run_id: str, events: Iterable[Event]) -> None:
        self.run_id = run_id
        self.root: Past | None = None
        self.user_content: tuple[Part, ...] = ()
        self.answers: dict[str, ToolResult] = {}
        self.answered: dict[str, int] = {}
        self.count = 0
        self.tool_calls: Counter[tuple[str, str]] = Counter()
        self.said: list[Event] = []
        self.contributions: list[tuple[int, str, str, dict[str, Any]]] = []  # serial, branch, path
        self._latest: dict[tuple[str, str], Past] = {}
        self._state: dict[str, Any] = {}
        for event in events:
            if event.author == "user" and not event.path:
                results = [part for part in event.parts if type(part) is ToolResult]
                self.answer(results, event.serial or 0)
                if event.invocation_id == run_id and not self.user_content and not results:
                    self.user_content = event.parts
            elif event.invocation_id == run_id:
                self._add(event)
            if event.actions is not None:
                self._state.update(event.actions.state_delta)
                for key in event.actions.state_removed:
                    self._state.pop(key, None)
            number = event.id.rpartition("-")[2]
            if event.invocation_id == run_id and number.isdecimal():
                self.count = max(self.count, int(number))

    def answer(self, results: Iterable[ToolResult], serial: int) -> None:
        """Enter answers that stand at `serial` in the log."""
        for result in results:
            self.answers[result.id], self.answered[result.id] = result, serial

    def open_groups(self) -> list[str]:
        """The beginnings of the branches of all groups that haven't gathered."""
        return [f"{past.branch}.{name}".lstrip(".") for past in self._latest.values() for name in past.groups]

    def _add(self, event: Event) -> None:
        record = event.lifecycle
        if isinstance(record, AgentStart):
            self._start(event, record)
            return
        past = self.find(event.path, event.branch)
        if past is None:
            return
        if event.actions is not None and event.actions.contributions:
            self.contributions.append((event.serial or 0, event.branch, event.path, event.actions.contributions))
        if event.usage is not None:
            past.usage = past.usage + event.usage
        if isinstance(record, AgentComplete):
            past.until = event.serial or 0
            self._end(past, record)
        elif isinstance(record, LoopIteration):
            past.loop = record.iteration
        elif isinstance(record, ScatterStart):
            past.groups[record.agent_name] = event.serial or 0
        elif isinstance(record, GatherComplete):
            self._folded(past, record.agent_name)
            lasts = {child.branch.rpartition(".")[2]: child for child in past.children}
            past.said = tuple(lasts[name].outcome() for name in record.outcomes if name in lasts)
        elif record is None and event.author != "user":
            self._said(past, event)

    def _folded(self, past: Past, group: str) -> None:
        """A group has ended: it says itself what it has folded; what else its branches brought doesn't count."""
        since, inside = past.groups.pop(group, 0), f"{past.branch}.{group}".lstrip(".")
        first = bisect(self.contributions, since, key=itemgetter(0))
        self.contributions[first:] = [one for one in self.contributions[first:] if not _under(one[1], inside)]

    def _start(self, event: Event, record: AgentStart) -> None:
        key = (event.path, event.branch)
        past = self._latest.get(key)
        if past is not None and (record.resumed or record.attempt > 1):
            past.status = "running"
            if record.attempt > 1:
                past.begin()
                self.contributions = [
                    one
                    for one in self.contributions
                    if one[0] <= past.since or not (_under(one[1], past.branch) and _under(one[2], past.path))
                ]
            return
        past = self._latest[key] = Past(self, event, record)
        above = event.path.rpartition(".")[0]
        parent = self.find(above, event.branch) if above else None
        if parent is not None:
            parent.children.append(past)
        elif self.root is None or not above:
            self.root = past

    def _end(self, past: Past, record: AgentComplete) -> None:
        past.status, past.seconds = record.outcome, record.execution_time_ms / 1000
        if record.error is not None:
            past.error = RunError(f"{record.error.type}: {record.error.message}", agent=past.path, branch=past.branch)
        parent = self.find(past.path.rpartition(".")[0], past.branch)
        if parent is not None and parent.branch == past.branch and past.said is not None:
            parent.said = past.said

    def _said(self, past: Past, event: Event) -> None:
        if not event.long_running_tool_ids:
            self.said.append(event)
        past.questions += questions_in(event)
        if event.branch != past.branch:
            return  # inside of a tool call
        past.events.append(event)
        if event.actions is not None and event.actions.escalate:
            past._escalated.append((event.segments, event.actions.escalate))
        past.replay = len(past.events)
        for key in (*event.actions.state_delta, *event.actions.state_removed) if event.actions is not None else ():
            past.then.setdefault(key, self._state.get(key, REMOVED))
        if event.parts:
            past.said = event
        for part in event.parts:
            if type(part) is ToolCall:
                past.calls[part.id] = part
                self.tool_calls[past.path, past.branch] += part.name not in ASKING

    def find(self, path: str, branch: str) -> Past | None:
        """The latest turn at `path` on this branch, or on that which it is forked from."""
        while True:
            past = self._latest.get((path, branch))
            if past is not None or not branch:
                return past
            branch = ".".join(branch.split(".")[:-2])


def check_answers(
    events: Sequence[Event], answers: Mapping[str, Any], parts: Iterable[Part]
) -> tuple[list[ToolResult], Journal | None]:
    """The answers as they are to be stored, and the run that waits for them, with them entered.

    There is no such run where all of them are late results of long-running tools, for which nobody waits. An answer
    that is stored already, and on which nobody has acted yet, may be given again: it isn't stored twice.

    Args:
        events: All of the session.
        answers: Values by question.
        parts: The user's message; tool results in it are answers.

    Raises:
        AnswerRefused: An answer to what was never asked, is answered already, or is no longer waited for; one that
            doesn't fit; or answers to several runs.
    """
    given: list[tuple[str, Any]] = [*answers.items(), *((part.id, part) for part in parts if type(part) is ToolResult)]
    asked = {question.id: question for event in events for question in questions_in(event)}
    late = {result.id: result for event in events for result in _long_running(event)}
    results: dict[str, ToolResult] = {}
    for id, value in given:
        if id in results:
            raise AnswerRefused(f"question {id!r} is answered twice")
        if id in asked:
            results[id] = as_answer(asked[id], value)
        elif id in late:
            results[id] = value if isinstance(value, ToolResult) else ToolResult(id, late[id].name, value)
            _check_name(id, results[id].name, late[id].name)
        else:
            raise AnswerRefused(f"nobody asked {id!r} in this session")
    runs = sorted({asked[id].invocation_id for id in results if id in asked})
    if not runs:
        return list(results.values()), None
    if len(runs) > 1:
        raise AnswerRefused(f"these answers belong to {len(runs)} runs ({', '.join(runs)}): answer each by itself")
    journal = Journal(runs[0], events)
    for id, result in results.items():
        if id in asked:
            _check_waits(journal, asked[id], result)
    new = [result for id, result in results.items() if id not in asked or id not in journal.answers]
    journal.answer(new, (events[-1].serial or 0) + 1)
    return new, journal


def _check_waits(journal: Journal, question: Question, result: ToolResult) -> None:
    root, id, given = journal.root, question.id, journal.answers.get(question.id)
    waits = root if root is not None and root.status == "paused" else None
    if given is not None:
        again = (given.result, given.is_error) == (result.result, result.is_error)
        if not again or waits is None or all(id != heard.id for heard in waits.news()):
            raise AnswerRefused(f"question {id!r} has been answered already")
    elif waits is None or all(id != waiting.id for waiting in waits.waits_for()):
        raise AnswerRefused(f"nobody waits for an answer to {id!r} any more")
    if question.kind == "confirmation":  # it must be about the call that the model made
        past, call = journal.find(question.path, question.branch), question.call
        if past is None or call is None or past.calls.get(call.id) != call:
            raise AnswerRefused(f"question {id!r} is about a call that no model made")


def _long_running(event: Event) -> Iterator[ToolResult]:
    """Answers of long-running tools that say where they stand."""
    for part in event.parts if event.author != "user" else ():
        if type(part) is ToolResult and part.extra and LONG_RUNNING in part.extra:
            yield part


def _check_name(id: str, name: str, expected: str) -> None:
    if name and name != expected:
        raise AnswerRefused(f"{id!r} is a question of {expected!r}, not of {name!r}")


def _under(branch: str, above: str) -> bool:
    return branch == above or branch.startswith(above + ".")
