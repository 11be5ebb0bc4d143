"""An agent that thinks: a model, what it is told, and what it may do."""

import json
from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any, Literal

from agentflow._turn import Services, error_info
from agentflow.agents._asking import AfterModel, BeforeModel, Callbacks, OnModelError, ask, event_of, spoken
from agentflow.agents._contents import GO_ON, Contents
from agentflow.agents._instructions import Instruction, fill_instruction as fill_instruction, identity, joined, render
from agentflow.agents._output import Answer, AnswerTool, Misfit, answer_of
from agentflow.agents._settings import TokenBudget as TokenBudget, check_settings
from agentflow.agents._transfer import TRANSFER, Speakers, TransferTool, advice
from agentflow.content import Data, Part, Text, Thinking, ToolCall, ToolResult
from agentflow.core import Agent, Callback, InvocationContext, Tool
from agentflow.errors import ConfigError, InvalidAnswer, LimitExceeded
from agentflow.events import Actions, Event
from agentflow.journal import Past
from agentflow.models.base import (
    CallSite,
    Message,
    Model,
    ModelRequest,
    ModelResponse,
    ModelSettings,
    ServerTool,
    ToolSpec,
)
from agentflow.policies import Retry
from agentflow.tools.calls import AfterTool, BeforeTool, Called, Hooks, OnToolErrorCallback, resume_calls, run_calls
from agentflow.tools.toolset import Toolset, resolve_tools

Compaction = Callable[[InvocationContext, list[Message]], Awaitable[Sequence[Message]] | Sequence[Message]]
"""Makes of all that an agent could read what it does read. Called before each model call."""

AgentTool = Tool | Toolset | ServerTool | Callable[..., Any]
"""What an agent may use: a tool, a function, a set of tools, or a tool that the provider itself runs."""

_MOST_IDLE = 3
"""How often in a row a model may think and say nothing before its turn ends."""

_MOST_HANDOVERS = 32
"""How often in a row agents may hand over; more is two of them that each think the other should answer."""


class LlmAgent(Agent):
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

    model: Model | str | None
    instruction: Instruction
    global_instruction: Instruction
    tools: tuple[Tool | Toolset | ServerTool, ...]
    output_schema: Any
    output_retries: int
    output_key: str | None
    input_schema: Any
    include_contents: Literal["default", "none"]
    history: int | TokenBudget | Compaction | None
    settings: ModelSettings
    stream: bool | None
    max_steps: int | None
    max_tool_calls: int | None
    tool_concurrency: int | None
    transfer_to_parent: bool
    transfer_to_peers: bool
    before_model: tuple[BeforeModel, ...]
    after_model: tuple[AfterModel, ...]
    on_model_error: tuple[OnModelError, ...]
    before_tool: tuple[BeforeTool, ...]
    after_tool: tuple[AfterTool, ...]
    on_tool_error: tuple[OnToolErrorCallback, ...]
    _model: Model | None
    _callbacks: Callbacks

    def __init__(
        self,
        name: str,
        *,
        model: Model | str | None = None,
        instruction: Instruction = "",
        global_instruction: Instruction = "",
        description: str = "",
        tools: Sequence[AgentTool] = (),
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

    def check(self) -> None:
        """Check the settings; see `Agent.check`."""
        super().check()
        check_settings(vars(self), f"LlmAgent {self.name!r}")
        vars(self)["_callbacks"] = Callbacks(self.before_model, self.after_model, self.on_model_error)

    async def run(self, ctx: InvocationContext) -> None:
        """Take a turn."""
        await _Talk(self, ctx).run()

    @property
    def targets(self) -> tuple[Agent, ...]:
        """Who it may hand over to: its sub-agents, its parent and its parent's other sub-agents, as far as allowed."""
        parent = self.parent
        if not isinstance(parent, LlmAgent):
            return tuple(self.sub_agents)
        found = list(self.sub_agents)
        if self.transfer_to_parent:
            found.append(parent)
        if self.transfer_to_peers:
            found += [peer for peer in parent.sub_agents if peer is not self]
        return tuple(found)

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


_DEFAULT = ModelSettings()
_NOTHING = Actions()


class _Talk:
    """One turn of an LlmAgent."""

    __slots__ = (
        "agent", "answer", "answering", "calls", "ctx", "idle", "interrupted", "misfits", "model", "repair", "steps",
        "targets", "tools",
    )  # fmt: skip

    def __init__(self, agent: LlmAgent, ctx: InvocationContext) -> None:
        self.agent = agent
        self.ctx = ctx
        self.model = _model_of(agent, ctx._services)
        self.targets = agent.targets
        self.tools: dict[str, Tool] = {}
        self.answer: Answer | None = answer_of(agent.output_schema) if agent.output_schema is not None else None
        self.answering: AnswerTool | None = None  # where the model can't be held to a schema
        self.misfits = 0
        self.repair: tuple[Message, ...] = ()
        self.interrupted = False
        self.steps = self.calls = self.idle = 0

    async def run(self) -> None:
        agent, ctx = self.agent, self.ctx
        await ctx._services.hold(self.model)
        await self._find_tools()
        stream = ctx._run.stream if agent.stream is None else agent.stream
        more = ctx._past is None or await self._go_on(ctx._past)
        while more:
            if agent.max_steps is not None and self.steps >= agent.max_steps:
                raise self._used_up("max_steps", self.steps)
            self.steps += 1
            response = await ask(ctx, self.model, await self._request(), agent._callbacks, stream=stream)
            if any(type(part) is ToolCall for part in response.parts):
                more = await self._act(response)
            elif response.finish_reason == "pause" or self._only_thought(response):
                self.interrupted = response.finish_reason == "pause"
                await ctx.emit(spoken(ctx, response))
            else:
                more = await self._conclude(response)

    async def _go_on(self, past: Past) -> bool:
        """The turn was paused: do what it waited for; gives whether the model is to be asked."""
        called = await resume_calls(self.ctx, self.tools, hooks=self._hooks(), limit=self.agent.tool_concurrency)
        more = called is None or not (called.parts or called.waiting) or await self._have_called(called)
        results = [event for event in past.events if any(type(part) is ToolResult for part in event.parts)]
        actions = results[-1].actions if results else None
        if actions is not None and actions.transfer_to_agent is not None:  # it was the other that paused
            more = not await self._hand_over(actions.transfer_to_agent)
        return more

    async def _find_tools(self) -> None:
        agent = self.agent
        if agent.tools:
            self.tools = await resolve_tools(
                self.ctx, [tool for tool in agent.tools if not isinstance(tool, ServerTool)]
            )
        if self.targets:
            self.tools[TRANSFER] = TransferTool([target.name for target in self.targets])
        if self.answer is not None:
            able = self.model.capabilities
            if not able.output_schema or (self.tools and not able.output_schema_with_tools):
                self.answering = AnswerTool(self.answer)
                self.tools[self.answering.name] = self.answering

    # What the model is asked

    async def _request(self) -> ModelRequest:
        agent, ctx, run = self.agent, self.ctx, self.ctx._run
        request = ModelRequest(
            messages=await self._messages(),
            model=self.model.name,
            system=await self._system(),
            settings=agent.settings,
            site=CallSite(
                agent=agent.name, path=ctx.path, branch=ctx._place.branch, invocation_id=run.id,
                session_id=run.key.session_id, tracing=run.tracing, span=ctx._span,
            ),
        )  # fmt: skip
        if self.tools or agent.tools:
            await self._declare(request)
        if self.answering is not None:
            request.tool_choice = self.answering.name if len(request.tools) == 1 else "any"
        elif self.answer is not None:
            request.output_schema = self.answer.format
        return request

    async def _declare(self, request: ModelRequest) -> None:
        """Tell the model of the tools, and let them and their sets change the request."""
        tools, given = self.tools.values(), self.agent.tools
        request.tools = [ToolSpec(tool.name, tool.description, tool.parameters) for tool in tools if tool.declared]
        request.tools += [tool for tool in given if isinstance(tool, ServerTool)]
        for tool in tools:
            await tool.prepare(self.ctx, request)
        for toolset in given:
            if isinstance(toolset, Toolset):
                await toolset.prepare(self.ctx, request)

    async def _messages(self) -> list[Message]:
        agent, ctx = self.agent, self.ctx
        view = await ctx._run.view(ctx._place, f"read by {ctx.path}", lambda: Contents(agent.name, ctx.path))
        history = agent.history
        if agent.include_contents == "none":
            messages = view.latest()
        elif history is None:
            messages = view.all()
        elif isinstance(history, int):
            messages = view.turns(history)
        elif isinstance(history, TokenBudget):
            messages = view.within(history.max_tokens)
        else:
            chosen = history(ctx, view.all())
            messages = list(await chosen if isawaitable(chosen) else chosen)
        if self.interrupted and messages[-1] is GO_ON:
            messages.pop()  # the provider goes on where it was, not because somebody says so
        return messages + list(self.repair) if self.repair else messages

    async def _system(self) -> str:
        agent, ctx = self.agent, self.ctx
        texts = [await render(above, ctx) for above in _globals(agent)]
        if agent.instruction:
            texts.append(await render(agent.instruction, ctx))
        texts.append(identity(agent.name, agent.description))
        if self.answering is not None:
            texts.append(f"Give your final answer by calling `{self.answering.name}`, never as text.")
        texts.append(advice(self.targets, agent.parent))
        return joined(texts)

    # What becomes of the answer

    async def _act(self, response: ModelResponse) -> bool:
        """Run the tools that the model calls; gives whether it is to be asked again."""
        agent, ctx = self.agent, self.ctx
        event = spoken(ctx, response)
        await ctx.emit(event)
        calls = [part for part in event.parts if type(part) is ToolCall]
        if agent.max_tool_calls is not None and self.calls + len(calls) > agent.max_tool_calls:
            raise self._used_up("max_tool_calls", self.calls)
        self.calls += len(calls)
        called = await run_calls(ctx, calls, self.tools, hooks=self._hooks(), limit=agent.tool_concurrency)
        return await self._have_called(called)

    def _hooks(self) -> Hooks:
        agent = self.agent
        return Hooks(before=agent.before_tool, after=agent.after_tool, on_error=agent.on_tool_error)

    async def _have_called(self, called: Called) -> bool:
        """Tools have answered; gives whether the model is to be asked what it makes of it."""
        agent, ctx, actions = self.agent, self.ctx, called.actions or _NOTHING
        if actions.skip_summarization and not called.waiting and agent.output_key is not None:
            ctx.state[agent.output_key] = _value_of(called.parts)
        if called.parts or called.actions is not None:
            await ctx.emit(ctx.event(*called.parts, actions=called.actions))
        await called.pause(ctx)
        if actions.transfer_to_agent is not None:
            return not await self._hand_over(actions.transfer_to_agent)
        answering = self.answering
        if answering is not None and answering.given is not None:
            words = Text(json.dumps(answering.given.value, ensure_ascii=False))
            await self._give(event_of(ctx, (words,), None), answering.given)
            return False
        if answering is not None and answering.misfits > agent.output_retries:
            raise self._misfit(answering.complaint)
        return not actions.skip_summarization

    async def _conclude(self, response: ModelResponse) -> bool:
        """The model has answered; gives whether it is to be asked again, since the answer doesn't fit."""
        event = spoken(self.ctx, response)
        if self.answer is None:
            await self._give(event, None)
            return False
        try:
            data = self.answer.read(response.text)
        except Misfit as misfit:
            event.__dict__["error"] = error_info(misfit)
            await self.ctx.emit(event)
            self.misfits += 1
            if self.misfits > self.agent.output_retries:
                raise self._misfit(str(misfit)) from None
            self.repair = (
                Message("assistant", event.parts),
                Message(
                    "user",
                    (Text(f"That answer doesn't fit: {misfit}. Give all of it again, as JSON that fits the schema."),),
                ),
            )
            return True
        await self._give(event, data)
        return False

    async def _give(self, event: Event, data: Data | None) -> None:
        """Emit the answer of this turn."""
        key = self.agent.output_key
        if data is not None:
            event.__dict__["parts"] = (*event.parts, data)
        if key is not None:
            self.ctx.state[key] = event.text if data is None else data.value
        await self.ctx.emit(event)

    async def _hand_over(self, name: str) -> bool:
        """Let another agent go on; gives whether it said something."""
        ctx = self.ctx
        if _handovers(ctx) >= _MOST_HANDOVERS:
            raise self._limit("handovers", _MOST_HANDOVERS, f"agents keep handing over to one another: {ctx.path}")
        target = next(agent for agent in self.targets if agent.name == name)
        return (await ctx.run(target)).said is not None

    def _only_thought(self, response: ModelResponse) -> bool:
        """Whether the model has thought and said nothing: it is to go on."""
        self.idle = self.idle + 1 if response.parts and all(type(part) is Thinking for part in response.parts) else 0
        return 0 < self.idle < _MOST_IDLE

    def _misfit(self, complaint: str) -> InvalidAnswer:
        ctx, attempts = self.ctx, self.agent.output_retries + 1
        return InvalidAnswer(
            f"agent {ctx.path!r} gave no answer that fits its output_schema, in {attempts} attempts: {complaint}",
            agent=ctx.path,
            branch=ctx.branch,
            invocation_id=ctx.invocation_id,
        )

    def _used_up(self, limit: str, spent: int) -> LimitExceeded:
        most = getattr(self.agent, limit)
        return self._limit(limit, spent, f"agent {self.ctx.path!r} has no answer, and its {limit}={most} is used up")

    def _limit(self, limit: str, spent: int, message: str) -> LimitExceeded:
        ctx = self.ctx
        return LimitExceeded(
            message,
            limit=limit,
            spent={limit: spent},
            agent=ctx.path,
            branch=ctx.branch,
            invocation_id=ctx.invocation_id,
        )


def _model_of(agent: LlmAgent, services: Services) -> Model:
    """Its model, that of the nearest LlmAgent above that has one, or the Runner's.

    Raises:
        ConfigError: None has.
    """
    above: Any = agent
    while above is not None:
        if isinstance(above, LlmAgent) and above._model is not None:
            return above._model
        above = above.parent
    if services.model is None:
        raise ConfigError(
            f"LlmAgent {agent.name!r} has no model, nor has an LlmAgent above it, nor the Runner: "
            "give it one, like model='claude-opus-5-5'"
        )
    return services.model


def _globals(agent: LlmAgent) -> list[Instruction]:
    """What it and the LlmAgents above it say to all below them, from the top."""
    found: list[Instruction] = []
    above: Any = agent
    while above is not None:
        if isinstance(above, LlmAgent) and above.global_instruction:
            found.append(above.global_instruction)
        above = above.parent
    return found[::-1]


def _value_of(parts: Sequence[Part]) -> Any:
    """What tools answered, where that is the agent's answer: the value of the one, or of all in order."""
    values = [part.result for part in parts if type(part) is ToolResult]
    return values[0] if len(values) == 1 else values


def _handovers(ctx: InvocationContext) -> int:
    """How many agents in a row have handed over to get here."""
    count = 0
    above = ctx._parent
    while above is not None and isinstance(above.agent, LlmAgent):
        count += 1
        above = above._parent
    return count
