"""One after the other."""

from collections.abc import Sequence

from agentflow.core import Agent, Callback, InvocationContext
from agentflow.errors import ConfigError
from agentflow.policies import Retry


class SequentialAgent(Agent):
    """Run the sub-agents one after the other, on the same branch: each sees what those before it said.

    An error ends the sequence and is raised. An escalation inside of it ends the enclosing loop, and so the sequence
    too where that loop runs it; without a loop it changes nothing.

    Args:
        name: Unique in the tree.
        sub_agents: At least one, in order.
        description: What it is good for.
        timeout: Seconds for the whole sequence.
        retry: When it fails it begins again from the first.
        before_agent: See `Agent`.
        after_agent: See `Agent`.

    Raises:
        ConfigError: No sub-agents.

    Source: adk-go `agent/workflowagents/sequentialagent`; unlike there, an error ends it.
    """

    directs_others = True

    def __init__(
        self,
        name: str,
        sub_agents: Sequence[Agent],
        *,
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

    def check(self) -> None:
        """Check the settings; see `Agent.check`."""
        super().check()
        if not self.sub_agents:
            raise ConfigError(f"SequentialAgent {self.name!r} needs at least one sub-agent")

    async def run(self, ctx: InvocationContext) -> None:
        """Take a turn."""
        for child in self.sub_agents:
            await ctx._hand_over(child)
            if ctx.halted():
                break
