"""Nodes that depend on each other: each starts as soon as what it waits for is there."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, overload

from agentflow._settings import check_flags
from agentflow.content import Text
from agentflow.core import Agent, Callback, InvocationContext
from agentflow.errors import ConfigError
from agentflow.patterns._calls import Function, FunctionStep, Inputs, is_async, mismatch
from agentflow.patterns._flow import Blueprint, Flow, GraphResult as GraphResult, OnError
from agentflow.patterns._node import Node as Node, agent_of, named, vertex
from agentflow.patterns._plan import Join, Plan
from agentflow.policies import Retry
from agentflow.state import OnConflict, check_on_conflict

F = TypeVar("F", bound=Callable[..., Any])

_GIVEN = ("message", "results")
"""What a function may ask for besides its dependencies: the words that the graph works on, and all results by name."""


class GraphAgent(Agent):
    """Run nodes that depend on each other, each as soon as what it waits for is there.

    There are no waves: a node that ends starts whatever was waiting for it alone. Each node is a branch: it sees the
    talk up to the graph, and gets the results of its dependencies, not their talk. What follows the graph sees its
    answer, not what its nodes said.

    Args:
        name: Unique in the tree. A node's branch adds `{name}.{node}`.
        nodes: `Node`s; agents and functions that depend on nothing may stand for themselves.
        outputs: Names of the nodes whose results are the answer; by default those that nothing depends on.
        max_concurrency: How many nodes may run at the same time; `None` means all that are ready.
        on_error: `"cancel"`: the first failure cancels the others and is raised. `"collect"`: what depends on a failed
            node is skipped, all else goes on, and the result says what is missing; if no output went well, that is a
            `TooFewAnswers`.
        show_branches: Let what follows see what each node said.
        on_conflict: See `ParallelAgent`.
        description: What it is good for.
        timeout: Seconds for the whole graph.
        retry: When it fails all of it begins again.
        before_agent: See `Agent`.
        after_agent: See `Agent`.

    Raises:
        ConfigError: Nodes that depend on each other in a circle, on nothing that is there, or can't ever run; a
            function whose parameters can't be served; a setting that can't work.
        ExceptionGroup: From a run, when two or more nodes failed. A lone failure is raised as itself.
    """

    directs_others = True

    def __init__(
        self,
        name: str,
        nodes: Sequence[Node | Agent | Function],
        *,
        outputs: Sequence[str] = (),
        max_concurrency: int | None = None,
        on_error: OnError = "cancel",
        show_branches: bool = False,
        on_conflict: OnConflict = "last",
        description: str = "",
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
        before_agent: Callback | Sequence[Callback] = (),
        after_agent: Callback | Sequence[Callback] = (),
    ) -> None:
        owner = f"GraphAgent {name!r}"
        if isinstance(nodes, (str, Node, Agent)) or not isinstance(nodes, Sequence) or not nodes:
            raise ConfigError(f"{owner} needs a list of nodes, not {nodes!r}")
        all_named = [named(node if isinstance(node, Node) else Node(node), owner) for node in nodes]
        super().__init__(
            name,
            sub_agents=[agent_of(node) for node in all_named],
            description=description,
            timeout=timeout,
            retry=retry,
            before_agent=before_agent,
            after_agent=after_agent,
        )
        self.nodes = tuple(all_named)
        self.outputs = outputs
        self.max_concurrency = max_concurrency
        self.on_error = on_error
        self.show_branches = show_branches
        self.on_conflict = on_conflict
        self.blueprint: Blueprint | None = None

    def check(self) -> None:
        """Check the graph; see `Agent.check`."""
        super().check()
        owner = f"GraphAgent {self.name!r}"
        if [agent.name for agent in self.sub_agents] != [node.name for node in self.nodes]:
            raise ConfigError(f"{owner}: its nodes can't be changed by clone; make another GraphAgent")
        cap = self.max_concurrency
        if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
            raise ConfigError(f"{owner}: max_concurrency must be a whole number of at least 1, not {cap!r}")
        if self.on_error not in ("cancel", "collect"):
            raise ConfigError(f"{owner}: on_error must be 'cancel' or 'collect', not {self.on_error!r}")
        check_flags(owner, show_branches=self.show_branches)
        if not isinstance(self.outputs, Sequence):
            raise ConfigError(f"{owner}: outputs must be a list of the names of nodes, not {self.outputs!r}")
        vars(self)["on_conflict"] = check_on_conflict(self.on_conflict, owner)
        plan = Plan(owner, [vertex(node, owner) for node in self.nodes])
        outputs = [self.outputs] if isinstance(self.outputs, str) else list(self.outputs)
        for name in outputs:
            if name not in plan.number:
                raise ConfigError(f"{owner}: there is no node {name!r} to be an output")
        callbacks = [self._check_node(index, plan) for index in range(len(self.nodes))]
        vars(self)["outputs"] = tuple(outputs or [plan.names[index] for index in plan.sinks])
        vars(self)["blueprint"] = Blueprint(
            name=self.name,
            plan=plan,
            nodes=self.nodes,
            agents=self.sub_agents,
            types=[self._promised(dependencies) for dependencies in plan.after],
            when=[when for when, _ in callbacks],
            message=[message for _, message in callbacks],
            outputs=self.outputs,
            max_concurrency=cap,
            on_error=self.on_error,
            show_branches=self.show_branches,
            on_conflict=self.on_conflict,
        )

    def _promised(self, dependencies: Sequence[int]) -> dict[str, Any]:
        """What these nodes say they return, by name."""
        steps = [self.sub_agents[index] for index in dependencies]
        inputs = {step.name: step.inputs for step in steps if isinstance(step, FunctionStep)}
        return {name: one.returns for name, one in inputs.items() if one is not None and one.returns is not None}

    def _check_node(self, index: int, plan: Plan) -> tuple[Inputs | None, Inputs | None]:
        """Whether every function of a node can be given what it wants; gives what `when` and `message` want."""
        node, agent = self.nodes[index], self.sub_agents[index]
        owner = f"GraphAgent {self.name!r}: node {node.name!r}"
        if isinstance(agent, FunctionStep):
            assert agent.inputs is not None
            self._check_inputs(agent.inputs, index, plan, owner, node.args)
            if node.message is not None:
                raise ConfigError(f"{owner} is a function: it takes values by name, and no message")
        elif node.args:
            raise ConfigError(f"{owner} is an agent: it takes a message, and no args")
        found = []
        for what, function in (("when", node.when), ("message", node.message)):
            inputs = None
            if callable(function):
                if is_async(function):
                    raise ConfigError(f"{owner}: {what} must be a plain function of results, not an async one")
                inputs = Inputs(function, f"{owner}: {what}")
                self._check_inputs(inputs, index, plan, f"{owner}: {what}", {})
            elif what == "when" and function is not None:
                raise ConfigError(f"{owner}: when must be a function of results, not {function!r}")
            found.append(inputs)
        return found[0], found[1]

    def _check_inputs(self, inputs: Inputs, index: int, plan: Plan, owner: str, args: Mapping[str, Any]) -> None:
        known = {plan.names[dependency]: dependency for dependency in plan.after[index]}
        unknown = next((name for name in args if name not in inputs.names), None)
        if unknown is not None:
            raise ConfigError(f"{owner} has no parameter {unknown!r} for what args gives it")
        for name in inputs.names:
            if name in args or (name in _GIVEN and name not in known):
                continue
            if name not in known:
                if name not in inputs.required:
                    continue
                hint = f"add it to after=[{name!r}]" if name in plan.number else "it is no node"
                raise ConfigError(f"{owner} wants {name!r}, which it does not depend on: {hint}")
            if plan.joins[index] != "all" and name in inputs.required:
                raise ConfigError(
                    f"{owner}: {name!r} may be missing (join={plan.joins[index]!r}), so give it a default"
                )
            given, wanted = self._promised([known[name]]).get(name), inputs.types[name]
            if given is not None and wanted is not None and mismatch(given, wanted):
                raise ConfigError(f"{owner} wants {name!r} as {_shown(wanted)}, but that node returns {_shown(given)}")

    async def run(self, ctx: InvocationContext) -> None:
        """Take a turn."""
        assert self.blueprint is not None  # `check` made it
        flow = Flow(self.blueprint, ctx)
        async with flow:
            flow.go_on()
        text, data = flow.result()
        await ctx.emit(ctx.event(*([Text(text)] if text else []), data))


class Graph:
    """Puts a `GraphAgent` together, function by function.

    ```python
    graph = Graph("report", max_concurrency=4)

    @graph.node
    async def topic(message: str) -> str: ...

    @graph.node(after=[topic], retry=3)
    async def research(topic: str) -> str: ...

    agent = graph.build()
    ```

    Args:
        name: The agent's.
        outputs: See `GraphAgent`.
        max_concurrency: See `GraphAgent`.
        on_error: See `GraphAgent`.
        show_branches: See `GraphAgent`.
        on_conflict: See `GraphAgent`.
        timeout: See `GraphAgent`.
        retry: See `GraphAgent`.
    """

    def __init__(
        self,
        name: str,
        *,
        outputs: Sequence[str] = (),
        max_concurrency: int | None = None,
        on_error: OnError = "cancel",
        show_branches: bool = False,
        on_conflict: OnConflict = "last",
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
    ) -> None:
        self.name = name
        self.nodes: list[Node] = []
        self._settings = partial(
            GraphAgent,
            outputs=outputs,
            max_concurrency=max_concurrency,
            on_error=on_error,
            show_branches=show_branches,
            on_conflict=on_conflict,
            timeout=timeout,
            retry=retry,
        )

    def add(self, node: Node | Agent | Function) -> Node:
        """Add a node."""
        added = named(node if isinstance(node, Node) else Node(node), f"Graph {self.name!r}")
        self.nodes.append(added)
        return added

    @overload
    def node(self, work: F, /) -> F: ...

    @overload
    def node(
        self,
        /,
        *,
        name: str = "",
        after: Any = (),
        join: Join = "all",
        priority: float = 0,
        when: Callable[..., bool] | None = None,
        routes: Mapping[str, Any] | None = None,
        route_by: Callable[[Any], Any] | None = None,
        args: Mapping[str, Any] | None = None,
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
    ) -> Callable[[F], F]: ...

    def node(
        self,
        work: Any = None,
        /,
        *,
        name: str = "",
        after: Any = (),
        join: Join = "all",
        priority: float = 0,
        when: Callable[..., bool] | None = None,
        routes: Mapping[str, Any] | None = None,
        route_by: Callable[[Any], Any] | None = None,
        args: Mapping[str, Any] | None = None,
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
    ) -> Any:
        """Make a function a node: `@graph.node`, or `@graph.node(after=[...])`; it stays the function that it is.

        Args:
            work: The function.
            name: See `Node`, here and below.
            after: What it depends on.
            join: How much of that has to go well.
            priority: Higher goes first.
            when: Whether it runs at all.
            routes: What follows it, by its answer.
            route_by: Makes of its result a label.
            args: Further arguments.
            timeout: Seconds for its turn.
            retry: What to do when it fails.
        """

        def make(function: F) -> F:
            self.add(
                Node(
                    function, name=name, after=after, join=join, priority=priority, when=when, routes=routes or {},
                    route_by=route_by, args=args or {}, timeout=timeout, retry=retry,
                )
            )  # fmt: skip
            return function

        return make if work is None else make(work)

    def build(self) -> GraphAgent:
        """The agent.

        Raises:
            ConfigError: See `GraphAgent`.
        """
        return self._settings(self.name, self.nodes)


def _shown(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))
