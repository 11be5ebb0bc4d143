"""One question to many branches: waves, early stops, deadlines, duplicates of stragglers."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import anyio
from anyio.lowlevel import checkpoint

from agentflow._place import Timer
from agentflow.agents.branches import Branch, Branches
from agentflow.content import UserContent
from agentflow.core import Agent, InvocationContext
from agentflow.errors import AgentTimeout, TooFewAnswers
from agentflow.events import GatherComplete
from agentflow.outcome import Outcome
from agentflow.patterns.aggregate import EarlyStop
from agentflow.patterns.answers import answered
from agentflow.patterns.policies import Hedge
from agentflow.state import OnConflict

_RECHECK = 0.01
"""Seconds, at the least, after which a branch that waits for room is looked at again."""

_MOST = 5
"""Reasons, and names for one of them, that an error message has room for."""

OnError = Literal["collect", "cancel"]
Rater = Callable[[int, Outcome], Awaitable[str]]
"""Told of each branch that has ended, one after the other, by its place; takes its time to say why that is enough."""


@dataclass(slots=True)
class Seat:
    """A branch to be: who works on it, and what came of it.

    Attributes:
        name: What it is called in results; that of its branch.
        outcome: How it ended.
        counted: It ended before the group was settled, so its outcome belongs to what was decided on.
        branch: The branch whose outcome it is, of several if it was slow.
    """

    agent: Agent
    name: str
    weight: float = 1.0
    message: UserContent = None
    outcome: Outcome | None = None
    counted: bool = False
    branch: Branch | None = None
    branches: list[Branch] = field(default_factory=list)

    def ran(self) -> float | None:
        """When it began, if it has."""
        first = self.branches[0].ctx if self.branches else None
        return first.began if first is not None and first.began >= 0 else None


@dataclass(slots=True, kw_only=True)
class Plan:
    """How the branches are run."""

    timeout: float | None = None
    max_concurrency: int | None = None
    min_successes: int = 1
    on_error: OnError = "collect"
    deadline: float | None = None
    wave: int | None = None
    hedge: Hedge | None = None
    hide: bool = True
    on_conflict: OnConflict = "last"


class _Group(Branches):
    """Branches whose words may be hidden from what follows, since the answer says what is to be known of them."""

    hide = True
    seats: Sequence[Seat] = ()
    unasked: Sequence[Seat] = ()
    on_end: Callable[[Branch], None]

    def ended(self, branch: Branch) -> None:
        try:
            self.on_end(branch)
        except Exception as error:  # of an aggregator's rule: the group's failure, not that of who has just ended
            self.broken, self.failed = error, True
            self._stop_all(f"{type(error).__name__} in early_stop")
        super().ended(branch)

    def _declared(self) -> list[str]:
        return [seat.name for seat in self.seats]

    def hides(self, branch: Branch, outcome: Outcome) -> bool:
        return self.hide or super().hides(branch, outcome)

    def _gather(self, results: Sequence[Outcome], *, hidden: bool) -> GatherComplete:
        record = super()._gather(results, hidden=hidden)
        record.total_agents += len(self.unasked)
        record.skipped += len(self.unasked)
        record.outcomes.update({seat.name: "skipped" for seat in self.unasked})
        return record


class Scatter:
    """One round: every seat is asked, until all have answered or enough is known.

    Attributes:
        wall: Seconds from the opening of the group to its end.
        saved: Why the rest wasn't needed; empty if all was.
    """

    def __init__(
        self,
        ctx: InvocationContext,
        seats: Sequence[Seat],
        plan: Plan,
        *,
        stopper: EarlyStop | None = None,
        rater: Rater | None = None,
        name: str | None = None,
        task: str | None = None,
    ) -> None:
        self.ctx = ctx
        self.seats = seats
        self.plan = plan
        self.stopper = stopper
        self.rater = rater
        self.wall = 0.0
        self.saved = ""
        self.late: AgentTimeout | None = None
        self._place_of: dict[int, int] = {}  # of a branch, by its index
        self._open = len(seats)  # whose outcome isn't known
        self._added = 0
        self._successes = 0
        self._durations: list[float] = []
        self._rated: list[Seat] = []
        self._group = _Group(
            ctx,
            name=name,
            agents=[seat.agent for seat in seats],
            task=task,
            max_concurrency=plan.max_concurrency,
            timeout=plan.timeout,
            on_conflict=plan.on_conflict,
        )
        self._group.hide, self._group.on_end, self._group.seats = plan.hide, self._ended, seats

    async def run(self) -> None:
        """Ask, and wait for what is needed.

        Raises:
            TooFewAnswers: Fewer than `min_successes` went well, or a pattern that gives up on a failure had several.
            AgentTimeout: The deadline passed, and partial results won't do.
            Exception: The failure of a branch, of a pattern that gives up on one.
        """
        ctx = self.ctx
        began = ctx._run.now()
        async with self._group:
            timers = ctx._timers
            try:
                with anyio.CancelScope() as scope:
                    if self.plan.deadline is not None:
                        scope.deadline = ctx._run.now() + self.plan.deadline
                        ctx._timers = (*timers, Timer(scope, ctx._run.now))  # stands still while a reader is waited for
                    await self._listen()
                if scope.cancelled_caught:
                    self._out_of_time()
            finally:
                ctx._timers = timers
            self._group.unasked = self.seats[self._added :]
        self.wall = ctx._run.now() - began
        await checkpoint()  # branches that were cancelled from outside are not failures: who was too stops here
        self._settle()
        self._check()

    async def _listen(self) -> None:
        self._ask()
        plan = self.plan
        if self._added == len(self.seats) and self.rater is None and plan.hedge is None and plan.deadline is None:
            return  # what each end decides, `_ended` does; the group waits for all by itself
        while True:
            branch = await self._next()
            if branch is None:
                if self._group.group.reason or self._added == len(self.seats):
                    return
                self._ask()
                continue
            seat = self.seats[self._place_of[branch.index]]
            if self.rater is not None and seat.branch is branch and not self._group.group.reason:
                await self._rate(seat)

    async def _rate(self, seat: Seat) -> None:
        """Rate an answer; once one is good enough, those that haven't been rated by then don't count."""
        assert self.rater is not None and seat.branch is not None and seat.outcome is not None
        self._rated.append(seat)
        enough = await self.rater(self._place_of[seat.branch.index], seat.outcome)
        if enough and self._successes >= self.plan.min_successes and len(self._rated) < len(self.seats):
            self.saved = enough
            for other in self.seats:
                other.counted = other.counted and other in self._rated
            self._group.stop(enough)

    def _ended(self, branch: Branch) -> None:
        """A branch has ended; decided here, before the next in line begins."""
        if self._group.group.reason or (branch.outcome is not None and branch.outcome.status == "paused"):
            return  # one that waits for people has not ended; the group waits for it, if nothing decides it before
        seat = self._heard(branch)
        if seat is None or seat.outcome is None:
            return
        reason = self._given_up(seat)
        if not reason and self.stopper is not None:
            wanted = self.stopper(self._place_of[branch.index], seat.outcome)
            if wanted and self._successes >= self.plan.min_successes and self._open:
                reason = self.saved = wanted
        if reason:
            self._group.stop(reason)

    def _ask(self) -> None:
        """The next wave; by default it is all."""
        count = len(self.seats) if self.plan.wave is None else self._added + self.plan.wave
        for place in range(self._added, min(count, len(self.seats))):
            self._add(place)
            self._added += 1

    def _add(self, place: int, *, again: bool = False) -> None:
        """Start a seat's branch; again, before any that waits for room, if the first takes too long."""
        seat = self.seats[place]
        name = f"{seat.name}#again" if again else seat.name
        branch = self._group.add(seat.agent, name=name, message=seat.message, priority=again)
        seat.branches.append(branch)
        self._place_of[branch.index] = place

    async def _next(self) -> Branch | None:
        """The next branch that has ended; meanwhile, duplicates of those that take too long."""
        hedge = self.plan.hedge
        while hedge is not None:
            # of a seat that failed nobody knows what time it would have taken
            patience = hedge.patience(self._durations, self._open + len(self._durations))
            if patience is None:
                break
            waits = [self._wait_for(seat, patience) for seat in self.seats[: self._added]]
            soonest = min(waits, default=float("inf"))
            if soonest == float("inf"):
                break
            if soonest > 0:
                with anyio.move_on_after(soonest):
                    return await self._group.next()
                continue
            self._add(waits.index(soonest), again=True)
        return await self._group.next()

    def _wait_for(self, seat: Seat, patience: float) -> float:
        """Seconds until a duplicate is to be started, or until it is worth asking again; infinite if never."""
        if seat.outcome is not None or len(seat.branches) > 1:
            return float("inf")
        began = seat.ran()
        return max(patience, _RECHECK) if began is None else began + patience - self.ctx._run.now()

    def _heard(self, branch: Branch) -> Seat | None:
        """A branch has ended: its seat, if that settles how the seat did."""
        seat = self.seats[self._place_of[branch.index]]
        outcome = branch.outcome
        assert outcome is not None
        if seat.outcome is not None:
            return None
        others = [twin for twin in seat.branches if twin is not branch and twin.outcome is None]
        if others and not outcome.ok:
            return None  # its duplicate may do better
        for twin in others:
            self._group.cancel(twin)
        seat.outcome, seat.branch, seat.counted = outcome, branch, True
        self._open -= 1
        self._successes += answered(outcome)
        if outcome.ok:
            self._durations.append(outcome.duration)
        return seat

    def _given_up(self, seat: Seat) -> str:
        """Why there is no use in going on, after this outcome."""
        assert seat.outcome is not None
        if answered(seat.outcome):
            return ""
        if self.plan.on_error == "cancel" and not seat.outcome.ok:
            return f"{seat.name} failed"
        if self._successes + self._open < self.plan.min_successes:
            return f"{self.plan.min_successes} successes can't be reached any more"
        return ""

    def _out_of_time(self) -> None:
        """The deadline has passed."""
        ctx, seconds = self.ctx, self.plan.deadline or 0.0
        self._group.stop(f"the time for answers is up after {seconds:g} s")
        if self.plan.on_error == "cancel":
            self.late = AgentTimeout(
                f"agent {ctx.path!r} had {self._open} of {len(self.seats)} answers to wait for after {seconds:g} s",
                seconds=seconds, agent=ctx.path, branch=ctx.branch, invocation_id=ctx.invocation_id,
            )  # fmt: skip

    def _settle(self) -> None:
        """Give every seat an outcome, those too that were cut short or never asked."""
        prefix = ".".join((*self.ctx._place.segments, self._group.name))
        for seat in self.seats:
            if seat.outcome is not None:
                continue
            ended = [branch for branch in seat.branches if branch.outcome is not None]
            if ended:
                seat.branch = next((branch for branch in ended if branch.outcome and branch.outcome.ok), ended[0])
                seat.outcome = seat.branch.outcome
                # what ends while the rest is cut short comes too late for a decision, but not for a deadline
                seat.counted = not self.saved
            else:
                seat.outcome = Outcome(agent=seat.agent.name, branch=f"{prefix}.{seat.name}", status="skipped")
                self.ctx._run.outcomes[seat.outcome.branch] = seat.outcome

    def _check(self) -> None:
        if self.late is not None:
            raise self.late
        outcomes = [seat.outcome for seat in self.seats if seat.outcome is not None]
        errors = [outcome.error for outcome in outcomes if isinstance(outcome.error, Exception)]
        if self.plan.on_error == "cancel" and errors:
            if len(errors) == 1:
                raise errors[0]
            raise ExceptionGroup(f"{len(errors)} branches of {self.ctx.agent.name!r} failed", errors)
        successes = sum(answered(outcome) for outcome in outcomes)
        needed = self.plan.min_successes
        if successes < needed:
            whys = self._whys()
            raise TooFewAnswers(
                f"agent {self.ctx.path!r}: {successes} of {len(self.seats)} branches answered, {needed} must"
                + (f": {whys}" if whys else ""),
                successes=successes,
                needed=needed,
                causes=tuple(errors),
            )

    def _whys(self) -> str:
        """Why answers are missing, each reason once."""
        whys: dict[str, list[str]] = {}
        for seat in self.seats:
            if not usable(seat):
                whys.setdefault(why_missing(seat), []).append(seat.name)
        reasons = [f"{_some(names)}: {why}" for why, names in whys.items()]
        return "; ".join(reasons[:_MOST]) + (f"; and {len(reasons) - _MOST} more" if len(reasons) > _MOST else "")


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _MOST
    return ", ".join(names[:_MOST]) + (f" and {rest} more" if rest > 0 else "")


def usable(seat: Seat) -> bool:
    """Whether it has an answer that counts."""
    return seat.counted and seat.outcome is not None and answered(seat.outcome)


def why_missing(seat: Seat) -> str:
    """Why a seat has no answer that counts."""
    outcome = seat.outcome
    assert outcome is not None
    if outcome.ok:
        return "came too late" if not seat.counted else "said nothing"
    if outcome.status in ("error", "timeout"):
        return f"{type(outcome.error).__name__}: {outcome.error}"[:300]
    return {"cancelled": "cut short", "paused": "waits for people"}.get(outcome.status, "never asked")
