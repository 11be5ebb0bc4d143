"""An agent that thinks: a model, what it is told, and what it may do."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from agentflow.agents._asking import AfterModel, BeforeModel, OnModelError
from agentflow.agents._instructions import Instruction, fill_instruction as fill_instruction
from agentflow.agents._talk import Talk
from agentflow.agents._thinker import Compaction, Thinker, TokenBudget as TokenBudget
from agentflow.agents._transfer import Speakers
from agentflow.content import ToolResult
from agentflow.core import Agent, Callback, InvocationContext, Tool
from agentflow.models.base import Model, ModelSettings, ServerTool
from agentflow.policies import Retry
from agentflow.tools.calls import AfterTool, BeforeTool, OnToolErrorCallback
from agentflow.tools.toolset import Toolset

AnyTool = Tool | Toolset | ServerTool | Callable[..., Any]
"""What an agent may use: a tool, a function, a set of tools, or a tool that the provider itself runs."""


_DEFAULT = ModelSettings()


class LlmAgent(Thinker):
    """An agent whose turn is a talk with a model: it answers, calls tools, or hands over to another agent.

    Its model reads what the agent sees: what the user said, what it said itself, and, fenced as data, what other agents
    said. Answers are streamed as partial events, tied by `response_id` to the event that is stored. The turn ends with
    the first answer that calls no tool; that is what `output_key` and `output_schema` are about.

    Sub-agents are those that it may hand over to, by a tool that its model gets (`transfer_to_agent`); so are its
    parent and its parent's other sub-agents, where the parent is an LlmAgent. Who it hands over to ends its turn, and
    answers what the user says next.

    Args:
        name: Unique in the tree; its model knows it.
        model: A `Model`, or the name of one, like `"claude-opus-5-5"`; by default that of the nearest LlmAgent above.
        instruction: What it is told. `{key}` is replaced by that key of state, `{key?}` may be missing,
            `{artifact.name}` is a file's text; or a function of the context, whose text is taken as it is.
        global_instruction: The same, for it and all LlmAgents below it.
        description: What it is good for; agents that might hand over to it read it.
        tools: What its model may call: functions, tools, toolsets, the provider's own.
        sub_agents: Who it may hand over to.
        output_schema: The type of its answer (a pydantic model, a dataclass, `list[str]`, ...): the answer is JSON that
            fits, and stands in its event as `Data` too.
        output_retries: How often the model may repair an answer that doesn't fit.
        output_key: Where in state its answer is put: the text or, with a schema, the value.
        input_schema: The type of what it is asked, for who runs it as a tool.
        include_contents: `"none"`: it reads only what somebody else said last, and what it did since.
        history: Bounds what it reads: the user's last so many turns, a `TokenBudget`, or a function of the context and
            the messages that returns those to be read.
        settings: How its model generates.
        stream: Whether answers come in pieces; by default as the run says.
        max_steps: How often its model may be asked in one turn.
        max_tool_calls: How many tools it may call in one turn.
        tool_concurrency: How many of them at once.
        transfer_to_parent: Whether it may hand over to its parent. If not, it doesn't keep the floor either: what the
            user says next goes to an agent above it.
        transfer_to_peers: Whether it may hand over to its parent's other sub-agents.
        before_model: Called with the context and the request. The first to return a response (or text) answers instead
            of the model. A function or a list; so are all that follow. Plugins come first.
        after_model: Called with each response, streamed pieces too; the first to return one replaces it.
        on_model_error: Called when the model fails; the first to return a response answers.
        before_tool: Called with the tool's context, the tool and the arguments; what it returns is the result.
        after_tool: Called with the result too; what it returns replaces it.
        on_tool_error: Called with the error; what it returns is the result.
        timeout: See `Agent`.
        retry: See `Agent`.
        before_agent: See `Agent`.
        after_agent: See `Agent`.

    Raises:
        ConfigError: A setting can't work. When it runs: it has no model.

    Source: adk-go `agent/llmagent` and `internal/llminternal`; what differs is in the explanation of agents that think.
    """

    def __init__(
        self,
        name: str,
        *,
        model: Model | str | None = None,
        instruction: Instruction = "",
        global_instruction: Instruction = "",
        description: str = "",
        tools: Sequence[AnyTool] = (),
        sub_agents: Sequence[Agent] = (),
        output_schema: Any = None,
        output_retries: int = 1,
        output_key: str | None = None,
        input_schema: Any = None,
        include_contents: Literal["default", "none"] = "default",
        history: int | TokenBudget | Compaction | None = None,
        settings: ModelSettings | None = None,
        stream: bool | None = None,
        max_steps: int | None = None,
        max_tool_calls: int | None = None,
        tool_concurrency: int | None = None,
        transfer_to_parent: bool = True,
        transfer_to_peers: bool = True,
        before_model: BeforeModel | Sequence[BeforeModel] = (),
        after_model: AfterModel | Sequence[AfterModel] = (),
        on_model_error: OnModelError | Sequence[OnModelError] = (),
        before_tool: BeforeTool | Sequence[BeforeTool] = (),
        after_tool: AfterTool | Sequence[AfterTool] = (),
        on_tool_error: OnToolErrorCallback | Sequence[OnToolErrorCallback] = (),
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
        before_agent: Callback | Sequence[Callback] = (),
        after_agent: Callback | Sequence[Callback] = (),
    ) -> None:
        super().__init__(
            name, description=description, sub_agents=sub_agents, timeout=timeout, retry=retry,
            before_agent=before_agent, after_agent=after_agent,
        )  # fmt: skip
        vars(self).update(
            model=model, instruction=instruction, global_instruction=global_instruction, tools=tools,
            output_schema=output_schema, output_retries=output_retries, output_key=output_key,
            input_schema=input_schema, include_contents=include_contents, history=history,
            settings=settings or _DEFAULT, stream=stream, max_steps=max_steps, max_tool_calls=max_tool_calls,
            tool_concurrency=tool_concurrency, transfer_to_parent=transfer_to_parent,
            transfer_to_peers=transfer_to_peers, before_model=before_model, after_model=after_model,
            on_model_error=on_model_error, before_tool=before_tool, after_tool=after_tool,
            on_tool_error=on_tool_error,
        )  # fmt: skip

    async def run(self, ctx: InvocationContext) -> None:
        """Take a turn."""
        await Talk(self, ctx).run()

    @property
    def shares_floor(self) -> bool:
        """Whether another agent may answer in its place; see `Agent.who_answers`."""
        return bool(self.sub_agents)

    async def who_answers(self, ctx: InvocationContext) -> Agent:
        """Who answers the user: who is asked something by a tool's result, else who spoke last and keeps the floor.

        Source: adk-go `runner/runner.go`, `findAgentToRun`.
        """
        keepers = {agent.name: agent for agent in self._keepers()}
        speakers = await ctx._run.view(ctx._place, "speakers", lambda: Speakers(keepers))
        for part in ctx.user_content:
            if type(part) is ToolResult and part.id in speakers.calls:
                return self.find_agent(speakers.calls[part.id]) or self
        return keepers.get(speakers.last or "", self)

    def _keepers(self) -> list[Agent]:
        """Itself and those below it that keep the floor once they have it: a line of LlmAgents that may go back up."""
        found: list[Agent] = [self]
        for agent in found:
            found += [child for child in agent.sub_agents if isinstance(child, LlmAgent) and child.transfer_to_parent]
        return found
