"""Work dealt to a pool of workers, and one answer made of what they did."""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Literal

import anyio

from agentflow._settings import check_flags
from agentflow.agents.branches import Branch, Branches
from agentflow.core import Agent, Callback, InvocationContext
from agentflow.errors import ConfigError, InvalidAnswer, TooFewAnswers
from agentflow.patterns._calls import Bound, Function
from agentflow.patterns._feed import Crew, Feed, Splitter, at_work, feed, plain_item, source_of, worker
from agentflow.patterns._panel import Asked
from agentflow.patterns._scatter import OnError, Plan, Seat, usable, why_missing
from agentflow.patterns._settings import own_agents
from agentflow.patterns.aggregate import Aggregator
from agentflow.patterns.answers import RESULT
from agentflow.patterns.counting import whole
from agentflow.patterns.result import PatternResult
from agentflow.patterns.scatter_gather import Aggregation, as_aggregator
from agentflow.patterns.splitters import RecordSplitter
from agentflow.policies import Retry, seconds
from agentflow.state import OnConflict, check_on_conflict

Dispatch = Literal["free", "round_robin"] | Callable[[Any], Hashable]


class FanOutResult(PatternResult):
    """What a `FanOutFanIn` answers; `branches` are the items, in order.

    Attributes:
        strategy: How the results became one.
        workers: Which worker did each item.
        reason: Why it was decided so, where that is said.
    """

    schema_name: ClassVar[str] = f"{RESULT}FanOutResult"

    strategy: str = ""
    workers: tuple[str, ...] = ()
    reason: str = ""


class FanOutFanIn(Agent):
    """Split work, deal it to a pool of workers, and make one answer of what they did.

    Unlike a scatter-gather, every worker does a part of the work, so by default a failure is that of all. Each item is
    a branch of its own, which sees nothing of the talk but what the worker is told; what it said stays in the log and
    in the result, and out of later prompts.

    Args:
        name: Unique in the tree. The branch of the third item adds `{name}.{worker}#3`.
        workers: Agents, which are told an item, or functions, which are given it. A plain function runs in a thread.
        splitter: Makes the items of what the agent is told: see `agentflow.patterns.splitters`, or a function of the
            words (of the value, where it is told `Data`) that gives them, also bit by bit. By default each line is
            one, and each entry of a list.
        aggregator: How the results, in the order of the items, become one; see `ScatterGatherAgent`.
        dispatch: Who does an item: `"free"`, the worker that has been free longest; `"round_robin"`, each in turn; or
            a function of the item that gives a key: items of one key go to one worker, in order.
        per_worker: How many items a worker does at the same time.
        on_error: `"cancel"`: the first failure cancels the others and is raised. `"collect"`: the rest goes on, and
            the result says what is missing.
        min_successes: Items that must go well; fewer are a `TooFewAnswers`.
        item_timeout: Seconds for each item, from its start; `"5m"` is understood.
        item_retry: What a function, or an agent, does when it fails on an item; a number is how often to try in all.
        show_branches: Let what follows see what each worker said.
        on_conflict: See `ParallelAgent`.
        description: What it is good for.
        timeout: Seconds for all of it.
        retry: When it fails all of it begins again.
        before_agent: See `Agent`.
        after_agent: See `Agent`.

    Raises:
        ConfigError: A setting can't work.
        InvalidAnswer: From a run: the splitter gave nothing.
        TooFewAnswers: From a run: too few items went well.
        ExceptionGroup: From a run, when two or more items failed. A lone failure is raised as itself.
    """

    directs_others = True

    def __init__(
        self,
        name: str,
        workers: Sequence[Agent | Function],
        *,
        splitter: Splitter | None = None,
        aggregator: Aggregation = "collect",
        dispatch: Dispatch = "free",
        per_worker: int = 1,
        on_error: OnError = "cancel",
        min_successes: int = 1,
        item_timeout: float | str | None = None,
        item_retry: Retry | int | None = None,
        show_branches: bool = False,
        on_conflict: OnConflict = "last",
        description: str = "",
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
        before_agent: Callback | Sequence[Callback] = (),
        after_agent: Callback | Sequence[Callback] = (),
    ) -> None:
        owner = f"FanOutFanIn {name!r}"
        if isinstance(workers, Agent) or not isinstance(workers, Sequence):
            raise ConfigError(f"{owner} needs a list of workers, not {workers!r}")
        super().__init__(
            name,
            sub_agents=[worker(do, owner, f"worker{place}", retry=item_retry) for place, do in enumerate(workers, 1)],
            description=description,
            timeout=timeout,
            retry=retry,
            before_agent=before_agent,
            after_agent=after_agent,
        )
        self._count = len(workers)
        self.splitter: Splitter = RecordSplitter() if splitter is None else splitter
        self.aggregator = aggregator
        self.dispatch = dispatch
        self.per_worker = per_worker
        self.on_error = on_error
        self.min_successes = min_successes
        self.item_timeout: float | None = item_timeout  # type: ignore[assignment]  # `check` makes seconds of it
        self.show_branches = show_branches
        self.on_conflict = on_conflict

    @property
    def workers(self) -> Sequence[Agent]:
        """The pool; after them, `sub_agents` has those that the aggregator runs."""
        return self.sub_agents[: self._count]

    def check(self) -> None:
        """Check the settings; see `Agent.check`."""
        super().check()
        owner, fields = f"FanOutFanIn {self.name!r}", vars(self)
        if not self._count:
            raise ConfigError(f"{owner} needs at least one worker")
        if not callable(self.splitter):
            raise ConfigError(f"{owner}: splitter must be a function of what there is to do, not {self.splitter!r}")
        if self.dispatch not in ("free", "round_robin") and not callable(self.dispatch):
            raise ConfigError(
                f"{owner}: dispatch must be 'free', 'round_robin' or a function of an item, not {self.dispatch!r}"
            )
        for setting in ("per_worker", "min_successes"):
            if not whole(fields[setting]) or fields[setting] < 1:
                raise ConfigError(f"{owner}: {setting} must be a whole number of at least 1, not {fields[setting]!r}")
        if self.on_error not in ("cancel", "collect"):
            raise ConfigError(f"{owner}: on_error must be 'cancel' or 'collect', not {self.on_error!r}")
        check_flags(owner, show_branches=self.show_branches)
        fields["item_timeout"] = seconds(self.item_timeout, f"{owner}: item_timeout")
        fields["on_conflict"] = check_on_conflict(self.on_conflict, owner)
        aggregator = fields["aggregator"] = as_aggregator(self.aggregator, owner)
        aggregator.check(owner, [agent.name for agent in self.workers], 0, False)
        own_agents(self, self._count, ("aggregator",))

    async def run(self, ctx: InvocationContext) -> None:
        """Take a turn."""
        aggregator: Aggregator = self.aggregator  # type: ignore[assignment]  # `check` has seen to it
        pool = _Pool(ctx, self)
        await pool.gather()
        decision = await pool.decide(aggregator)
        await pool.emit(
            FanOutResult.model_construct(
                answer=decision.answer,
                text=decision.text or "",
                branches=pool.branches(decision),
                metrics=pool.metrics(decision),
                strategy=aggregator.strategy,
                workers=tuple(seat.agent.name for seat in pool.seats),
                reason=decision.reason,
            )
        )


class _Pool(Asked):
    """One turn: items dealt to workers, and how each of them ended."""

    def __init__(self, ctx: InvocationContext, fan: FanOutFanIn) -> None:
        super().__init__(ctx, (), Plan(timeout=fan.item_timeout, hide=not fan.show_branches))
        self.fan = fan
        self.agents = fan.workers
        self.limiter = anyio.CapacityLimiter(len(self.agents) * fan.per_worker)
        self.at_work = [0] * len(self.agents)
        self.free = deque(
            range(len(self.agents))
        )  # for dispatch="free": who has room, the one that waits longest first
        self.queues: list[deque[tuple[Seat, Any]]] = [deque() for _ in self.agents]  # for the other ways
        self.keys: dict[Hashable, int] = {}
        self.dealt: dict[int, tuple[int, Seat]] = {}  # branch to its worker and its seat

    async def gather(self, stopper: object = None, rater: object = None) -> None:
        """Deal all items.

        Raises:
            InvalidAnswer: There are none.
            TooFewAnswers: Too few went well.
            Exception: What a worker raised, if that is to be everyone's failure.
        """
        fan, ctx = self.fan, self.ctx
        began = ctx._run.now()
        group = Crew(
            ctx, fan.on_error, agents=self.agents, timeout=fan.item_timeout, on_conflict=fan.on_conflict,
            private=not fan.show_branches,
        )  # fmt: skip
        async with group, feed(fan.splitter, source_of(ctx), f"agent {ctx.path!r}") as items:
            while await self._fill(group, items):
                branch = await group.next()
                if branch is None:
                    break  # the group was stopped
                self._done(group, branch)
        self.wall, self.rounds, self._asked = ctx._run.now() - began, 1, self.seats
        if not items.count:
            raise InvalidAnswer(f"agent {ctx.path!r}: its splitter gave nothing to work on")
        self._check()

    async def _fill(self, group: Branches, items: Feed) -> bool:
        """Deal items while there is someone to take them; says whether anybody is at work."""
        most = 2 * len(self.agents)
        while not items.over and (self.free if self.fan.dispatch == "free" else sum(map(len, self.queues)) < most):
            item = await items.next()
            if items.over:
                break
            number = self._whose(len(self.seats), item)
            seat = Seat(self.agents[number], f"{self.agents[number].name}#{items.count}")
            self.seats.append(seat)
            if self.at_work[number] < self.fan.per_worker:
                self._start(group, number, seat, item)
            else:
                self.queues[number].append((seat, item))
        return any(self.at_work)

    def _whose(self, place: int, item: Any) -> int:
        """Which worker is to do an item."""
        dispatch = self.fan.dispatch
        if dispatch == "free":
            number = self.free.popleft()
            if self.at_work[number] + 1 < self.fan.per_worker:
                self.free.append(number)
            return number
        if callable(dispatch):
            return self.keys.setdefault(dispatch(plain_item(item)), len(self.keys) % len(self.agents))
        return place % len(self.agents)

    def _start(self, group: Branches, number: int, seat: Seat, item: Any) -> None:
        seat.agent, seat.message = at_work(self.agents[number], item, Bound(limiter=self.limiter))
        seat.branch = group.add(seat.agent, name=seat.name, message=seat.message)
        seat.branches = [seat.branch]
        self.dealt[seat.branch.index] = (number, seat)
        self.at_work[number] += 1

    def _done(self, group: Branches, branch: Branch) -> None:
        number, seat = self.dealt.pop(branch.index)
        if branch.outcome is not None and branch.outcome.status != "paused":
            seat.outcome, seat.counted = branch.outcome, True
        self.at_work[number] -= 1
        if self.queues[number]:
            self._start(group, number, *self.queues[number].popleft())
        elif number not in self.free:
            self.free.append(number)

    def _check(self) -> None:
        errors = [seat.outcome.error for seat in self.seats if seat.outcome is not None]
        well = sum(usable(seat) for seat in self.seats)
        if well < self.fan.min_successes:
            missing = [seat for seat in self.seats if not usable(seat)]
            whys = "; ".join(f"{seat.name}: {why_missing(seat)}" for seat in missing[:5])
            raise TooFewAnswers(
                f"agent {self.ctx.path!r}: {well} of {len(self.seats)} items went well, {self.fan.min_successes} must: "
                f"{whys}{'; ...' if len(missing) > 5 else ''}",
                successes=well,
                needed=self.fan.min_successes,
                causes=tuple(error for error in errors if error is not None),
            )
