"""A graph at work."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import anyio

from agentflow.agents.branches import Branch, Branches, fatal
from agentflow.content import Data, UserContent
from agentflow.core import Agent, InvocationContext
from agentflow.errors import InvalidAnswer, TooFewAnswers
from agentflow.outcome import Outcome
from agentflow.patterns._calls import Bound, FunctionStep, Inputs, waited, worked
from agentflow.patterns._node import Node
from agentflow.patterns._plan import Plan, Progress
from agentflow.patterns._render import answers, in_words
from agentflow.patterns.answers import RESULT, answer_of
from agentflow.patterns.result import Metrics, PatternResult
from agentflow.state import OnConflict

OnError = Literal["cancel", "collect"]

_MOST_OUTPUT = 1_000_000
"""Characters of nodes' answers that a result repeats; beyond that they are in their own events alone."""

_THREADS = 40
"""Plain functions that run at the same time where nothing else is said."""


class GraphResult(PatternResult):
    """What a `GraphAgent` answers.

    `answer` is the result of its output node; of several, their results by name. `branches` has a line for each node,
    in order of declaration; of one that didn't run, `why`.
    """

    schema_name: ClassVar[str] = f"{RESULT}GraphResult"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """A graph that was checked: all that a run of it needs to know.

    Attributes:
        name: The graph's.
        plan: Its shape.
        nodes: In order of declaration.
        agents: Who takes the turn of each.
        types: What each node's dependencies promise to return, by their names.
        when: What each node's condition wants to be given, if it has one.
        message: Likewise for what makes its message.
        outputs: Names of the nodes whose results are the answer.
        max_concurrency: See `GraphAgent`, here and below.
        on_error: What a failure does.
        show_branches: Whether what follows sees what nodes said.
        on_conflict: What happens when two nodes write one state key.
    """

    name: str
    plan: Plan
    nodes: Sequence[Node]
    agents: Sequence[Agent]
    types: Sequence[Mapping[str, Any]]
    when: Sequence[Inputs | None]
    message: Sequence[Inputs | None]
    outputs: Sequence[str]
    max_concurrency: int | None
    on_error: OnError
    show_branches: bool
    on_conflict: OnConflict


class Flow(Branches):
    """One running instance of a graph."""

    def __init__(self, graph: Blueprint, ctx: InvocationContext) -> None:
        super().__init__(ctx, agents=graph.agents, on_conflict=graph.on_conflict, private=not graph.show_branches)
        self.graph = graph
        self.plan = graph.plan
        self.total = len(graph.nodes)
        self._scoped = False  # no node is cancelled by itself
        self.progress = Progress(graph.plan)
        self.values: dict[str, Any] = {}
        self.at_work = 0
        self.came: dict[int, tuple[float, int]] = {}  # when a node became ready that had to wait for room
        self.limiter: anyio.CapacityLimiter | None = None

    def go_on(self) -> None:
        """Start what may start."""
        ready, cap = self.progress.ready, self.graph.max_concurrency
        while len(ready) and not self.group.reason and (cap is None or self.at_work < cap):
            index = ready.pop()
            try:
                self.start(index)
            except Exception as error:  # of `when` or `message`: the graph's failure, not that of a node
                error.add_note(f"in `when` or `message` of node {self.plan.names[index]!r} of {self.graph.name!r}")
                self.give_up(error, f"node {self.plan.names[index]!r} could not start")
                return
        for index in self.progress.take_fresh():
            if index not in self.branches and index not in self.progress.reasons:
                self.came[index] = (self.ctx._run.now(), time.time_ns())

    def start(self, index: int) -> None:
        """Start a node that is ready, unless its condition says no."""
        node, agent = self.graph.nodes[index], self.graph.agents[index]
        when, message = self.graph.when[index], self.graph.message[index]
        if when is not None and node.when is not None and not node.when(**self.pick(when, index)):
            self.progress.skip(index, "its condition didn't hold")
            return
        told: UserContent = None
        if isinstance(agent, FunctionStep):
            bound = Bound(limiter=None if agent.asynchronous else self.threads())
            if agent.inputs is not None and agent.inputs.names:
                bound.values, bound.types = {**self.known(index), **node.args}, self.graph.types[index]
            agent = agent.given(bound)
        elif message is not None and callable(node.message):
            told = node.message(**self.pick(message, index))
        else:
            told = self.usual_message(index) if node.message is None else node.message  # type: ignore[assignment]  # no function
        branch = self.branches[index] = Branch(agent, node.name, index, told, None)
        branch.queued = self.came.pop(index, None)
        self.at_work += 1
        self._start(branch)

    def known(self, index: int) -> dict[str, Any]:
        """The results that a node may use, and what else it may ask for."""
        names = [self.plan.names[dependency] for dependency in self.plan.after[index]]
        values = {name: self.values[name] for name in names if name in self.values}
        return {"message": self.ctx.user_text, "results": values, **values}

    def pick(self, inputs: Inputs, index: int) -> dict[str, Any]:
        """What a callback of a node is given."""
        return inputs.pick(self.known(index), self.graph.types[index], f"node {self.plan.names[index]!r}")

    def threads(self) -> anyio.CapacityLimiter:
        """What bounds the threads of plain functions."""
        if self.limiter is None:
            self.limiter = anyio.CapacityLimiter(self.graph.max_concurrency or _THREADS)
        return self.limiter

    def usual_message(self, index: int) -> UserContent:
        """The results of its dependencies; of a single one, nothing else."""
        names = [self.plan.names[dependency] for dependency in self.plan.after[index]]
        if not names:
            return None
        given = [(name, self.values[name]) for name in names if name in self.values]
        if len(names) == 1:
            return in_words(given[0][1])
        missing = {name: self.why(self.plan.number[name]) for name in names if name not in self.values}
        return answers("", given, missing, request=())

    def why(self, index: int) -> str:
        """Why a node has no result."""
        branch = self.branches.get(index)
        if branch is None or branch.outcome is None:
            return self.progress.reasons.get(index, self.group.reason or "not there yet")
        error = branch.outcome.error
        if error is not None:
            return f"{type(error).__name__}: {error}"
        return self.progress.reasons.get(index, self.group.reason) if not branch.outcome.ok else ""

    def ended(self, branch: Branch) -> None:
        """A node has ended: what may start now?"""
        outcome, index = branch.outcome, branch.index
        assert outcome is not None
        self.at_work -= 1
        if outcome.ok:
            value = self.values[branch.name] = answer_of(outcome)
            try:
                label = self.label(index, value)
            except Exception as error:
                self.give_up(error, f"node {branch.name!r} took no route")
                return
            self.progress.done(index, label)
        elif outcome.error is None and outcome.status != "paused":
            return  # cancelled with the group
        elif outcome.error is None:
            pass  # it waits for an answer, and so does what depends on it; the rest goes on
        elif self.graph.on_error == "cancel" or fatal(outcome.error):
            self.failed = True
            self._stop_all(f"{branch.name} failed")
        else:
            self.progress.failed(index)
        self.go_on()

    def label(self, index: int, value: Any) -> str | None:
        """Which route a node takes.

        Raises:
            InvalidAnswer: None that it has.
        """
        node, routes = self.graph.nodes[index], self.plan.routes[index]
        if not routes:
            return None
        chosen = node.route_by(value) if node.route_by is not None else value
        text = (str(chosen).lower() if isinstance(chosen, bool) else str(chosen)).strip()
        if text in routes:
            return text
        alike = [label for label in routes if label.casefold() == text.casefold().strip(".!\"'`* ")]
        if alike or "*" in routes:
            return alike[0] if alike else "*"
        raise InvalidAnswer(
            f"node {node.name!r} answered {text[:100]!r}, which is none of its routes: {', '.join(map(repr, routes))}"
        )

    def give_up(self, error: Exception, reason: str) -> None:
        """The graph itself has failed."""
        self.broken, self.failed = self.broken or error, True
        self._stop_all(reason)

    def failures(self) -> list[Exception]:
        """What the nodes raised."""
        errors = [branch.outcome.error for branch in self.branches.values() if branch.outcome is not None]
        return [error for error in errors if isinstance(error, Exception)]

    def results(self) -> tuple[Outcome, ...]:
        """The outcomes of all nodes, in order of declaration; those that never began are skipped."""
        ordered = [
            self.branches.get(index) or Branch(self.graph.agents[index], node.name, index, None, None)
            for index, node in enumerate(self.graph.nodes)
        ]
        self.branches.clear()
        self.branches.update({branch.index: branch for branch in ordered})
        return super().results()

    def result(self) -> tuple[str, Data]:
        """What the graph answers, in words and as a `GraphResult`.

        Raises:
            TooFewAnswers: No output went well.
        """
        plan, outputs = self.plan, self.graph.outputs
        found = {name: self.values[name] for name in outputs if name in self.values}
        if not found:
            missing = "; ".join(f"{name!r}: {self.why(plan.number[name]) or 'said nothing'}" for name in outputs)
            raise TooFewAnswers(
                f"no output of {self.graph.name!r} went well: {missing}",
                successes=0,
                needed=1,
                causes=tuple(self.failures()),
            )
        answer = found[outputs[0]] if len(outputs) == 1 else found
        text = "\n\n".join(in_words(value) for value in found.values() if value is not None)
        size = sum(len(value) if isinstance(value, str) else len(in_words(value)) for value in self.values.values())
        nodes = [self.node(branch, shortened=size > _MOST_OUTPUT) for branch in self.branches.values()]
        wire = {"answer": answer, "text": text, "branches": nodes, "metrics": self.metrics(nodes)}
        return text, Data(wire, GraphResult.schema_name)

    def node(self, branch: Branch, *, shortened: bool) -> dict[str, Any]:
        """A node's `BranchResult` as it is stored: a graph may have ten thousand, so what says nothing is left out."""
        outcome, queued = branch.outcome, waited(branch)
        assert outcome is not None
        node = {
            "name": branch.name,
            "agent": branch.name,
            "branch": outcome.branch,
            "status": outcome.status,
            "seconds": round(outcome.duration, 6),
        }
        if not outcome.ok:
            node |= {"counted": False, "why": self.why(branch.index)}
        elif shortened:
            node["shortened"] = True
        else:
            node["output"] = self.values.get(branch.name)
        if queued:
            node["queue_seconds"] = round(queued, 6)
        if outcome.usage is not None:
            node |= {"tokens": outcome.usage.total_tokens, "cost": outcome.usage.cost}
        return node

    def metrics(self, nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What it took."""
        wall = self.ctx._run.now() - self._began
        work = sum(map(worked, self.branches.values()))
        queues = [node.get("queue_seconds", 0.0) for node in nodes]
        skipped = sum(node["status"] == "skipped" for node in nodes)
        usage = self.ctx.usage
        metrics = Metrics(
            wall_seconds=round(wall, 6),
            work_seconds=round(work, 6),
            speedup=round(work / wall, 3) if wall > 0 else 1.0,
            queue_seconds=round(sum(queues), 6),
            longest_queue_seconds=max(queues),
            calls=len(nodes) - skipped,
            saved_calls=skipped,
            tokens=usage.total_tokens,
            cost=usage.cost,
            model_calls=usage.model_calls,
        )
        wire = metrics.model_dump(exclude={"critical_path"})
        tracing = self.ctx._run.tracing
        if tracing is not None:
            charged = {node["name"]: (node["tokens"], node["cost"]) for node in nodes if "tokens" in node}
            tracing.pattern(self.ctx._span, self.graph.name, wire, charged)
        return {**wire, "critical_path": self.critical_path(nodes)}

    def critical_path(self, nodes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What the answer waited for: the output that ended last, who made it ready, who made that one ready, ..."""
        ended = [
            (branch.ctx.began if branch.ctx is not None else 0.0) + node["seconds"]
            for branch, node in zip(self.branches.values(), nodes, strict=True)
        ]
        last: int | None = max((self.plan.number[name] for name in self.graph.outputs), key=lambda index: ended[index])
        steps = []
        while last is not None:
            steps.append({"name": nodes[last]["name"], "seconds": nodes[last]["seconds"]})
            last = self.progress.because.get(last)
        return steps[::-1]
