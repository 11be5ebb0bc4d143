"""Again and again."""

from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction

from agentflow._turn import LoopFrame
from agentflow.core import Agent, Callback, InvocationContext
from agentflow.errors import ConfigError
from agentflow.events import LoopIteration
from agentflow.policies import Retry


class LoopAgent(Agent):
    """Run the sub-agents in order, again and again, on the same branch.

    It ends after `max_iterations`, when `until` says so, or when an agent inside escalates
    (`Actions(escalate=True)`, or the loop's name to end an outer one). The agent that escalates finishes its turn;
    those after it are skipped. Only the nearest loop ends. Events carry the number of the iteration.

    Args:
        name: Unique in the tree.
        sub_agents: At least one, in order.
        max_iterations: At most so often; `None` leaves it to the agents inside.
        until: Asked with the context after each iteration; true ends the loop.
        description: What it is good for.
        timeout: Seconds for all iterations together.
        retry: When it fails it begins again from the first iteration.
        before_agent: See `Agent`.
        after_agent: See `Agent`.

    Raises:
        ConfigError: No sub-agents, or nothing that could ever end it.

    Source: adk-go `agent/workflowagents/loopagent`; unlike there, an escalation doesn't end outer loops.
    """

    directs_others = True

    def __init__(
        self,
        name: str,
        sub_agents: Sequence[Agent],
        *,
        max_iterations: int | None = None,
        until: Callable[[InvocationContext], bool] | None = None,
        description: str = "",
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
        before_agent: Callback | Sequence[Callback] = (),
        after_agent: Callback | Sequence[Callback] = (),
    ) -> None:
        super().__init__(
            name,
            sub_agents=sub_agents,
            description=description,
            timeout=timeout,
            retry=retry,
            before_agent=before_agent,
            after_agent=after_agent,
        )
        self.max_iterations = max_iterations
        self.until = until

    def check(self) -> None:
        """Check the settings; see `Agent.check`."""
        super().check()
        most = self.max_iterations
        if not self.sub_agents:
            raise ConfigError(f"LoopAgent {self.name!r} needs at least one sub-agent")
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ConfigError(f"LoopAgent {self.name!r}: max_iterations must be at least 1, or None, not {most!r}")
        if self.until is not None and (not callable(self.until) or iscoroutinefunction(self.until)):
            raise ConfigError(f"LoopAgent {self.name!r}: until must be a function of the context, not an async one")
        if most is None and self.until is None and self.timeout is None:
            inside = [agent for child in self.sub_agents for agent in child.walk()]
            if all(agent.directs_others for agent in inside):
                raise ConfigError(
                    f"LoopAgent {self.name!r} could never end: nothing in it can escalate; "
                    "give it max_iterations or until"
                )

    async def run(self, ctx: InvocationContext) -> None:
        """Take a turn."""
        past = ctx._past
        began = past.loop if past is not None else 0  # before the run paused
        iteration = max(0, began - 1)
        await ctx.flush()
        while iteration != self.max_iterations:
            iteration += 1
            frame = LoopFrame(self.name, ctx._loop)
            inner = ctx.within(frame, iteration)
            if iteration != began:
                await inner.tell(LoopIteration(self.name, iteration, self.max_iterations))
            try:
                for child in self.sub_agents:
                    await inner._hand_over(child)
                    if inner.halted():
                        return
                if self.until is not None:
                    enough = self.until(inner)
                    await inner.flush()
                    if enough:
                        return
            finally:
                inner.ended = True
                ctx._said, ctx._links = inner._said or ctx._said, inner._links
