"""A turn of an agent that thinks: ask the model, run its tools, until it has answered or another takes over."""

import json
from collections.abc import Sequence
from inspect import isawaitable
from typing import Any

from agentflow._turn import error_info
from agentflow.agents._asking import ask, event_of, spoken
from agentflow.agents._contents import GO_ON, Contents
from agentflow.agents._instructions import identity, joined, render
from agentflow.agents._output import Answer, AnswerTool, Misfit, answer_of
from agentflow.agents._thinker import Thinker, TokenBudget
from agentflow.agents._transfer import TRANSFER, TransferTool, advice
from agentflow.content import Data, Part, Text, Thinking, ToolCall, ToolResult
from agentflow.core import InvocationContext, Tool
from agentflow.errors import ConfigError, InvalidAnswer, LimitExceeded
from agentflow.events import Actions, Event
from agentflow.journal import Past
from agentflow.models.base import CallSite, Message, ModelRequest, ModelResponse, ServerTool, ToolSpec
from agentflow.tools.calls import Called, close_calls, resume_calls, run_calls
from agentflow.tools.toolset import Toolset, resolve_tools

_NOTHING = Actions()

_MOST_IDLE = 3
"""How often in a row a model may think and say nothing before its turn ends."""

_MOST_HANDOVERS = 32
"""How often in a row agents may hand over; more is two of them that each think the other should answer."""


class Talk:
    """One turn of an LlmAgent."""

    __slots__ = (
        "agent", "answer", "answering", "calls", "ctx", "idle", "interrupted", "misfits", "model", "repair", "steps",
        "targets", "tools",
    )  # fmt: skip

    def __init__(self, agent: Thinker, ctx: InvocationContext) -> None:
        self.agent = agent
        self.ctx = ctx
        self.model = agent.model_or(ctx._services.model)
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
        try:
            await self._talk(more, stream)
        finally:
            ctx._run.asking.discard(ctx)

    async def _talk(self, more: bool, stream: bool) -> None:
        agent, ctx = self.agent, self.ctx
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
        answers = [event for event in past.events if event.finish_reason is not None]
        self.steps = len(answers)
        self.calls = sum(type(part) is ToolCall for event in answers for part in event.parts)
        called = await resume_calls(self.ctx, self.tools, hooks=self.agent._hooks, limit=self.agent.tool_concurrency)
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
                session_id=run.key.session_id, tracing=run.tracing, span=ctx._span, rng=lambda: run.rng,
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
        request.tools = [
            ToolSpec(tool.name, tool.description, tool.parameters, tool.strict, extra=tool.extra)
            for tool in tools
            if tool.declared
        ]
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
        texts = [await render(above, ctx) for above in agent.global_instructions()]
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
        calls = [part for part in event.parts if type(part) is ToolCall]
        try:
            await ctx.emit(event)
            if agent.max_tool_calls is not None and self.calls + len(calls) > agent.max_tool_calls:
                raise self._used_up("max_tool_calls", self.calls)
        except BaseException:
            if event.serial is not None:
                close_calls(ctx, calls)
            raise
        self.calls += len(calls)
        self.repair = ()
        called = await run_calls(ctx, calls, self.tools, hooks=agent._hooks, limit=agent.tool_concurrency)
        return await self._have_called(called)

    async def _have_called(self, called: Called) -> bool:
        """Tools have answered; gives whether the model is to be asked what it makes of it."""
        agent, ctx, actions = self.agent, self.ctx, called.actions or _NOTHING
        if actions.skip_summarization and not called.waiting and agent.output_key is not None:
            ctx.state[agent.output_key] = _value_of(called.parts)
        if called.parts or called.actions is not None:
            event = event_of(ctx, called.parts, None)
            event.__dict__["actions"] = called.actions
            try:
                await ctx.emit(event)
            except BaseException:
                if event.serial is None:
                    results = [part for part in called.parts if type(part) is ToolResult]
                    close_calls(ctx, [ToolCall(result.id, result.name) for result in results], results)
                raise
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
        data = None
        if self.answer is not None:
            try:
                data = self.answer.read(response.text)
            except Misfit as misfit:
                event.__dict__["error"] = error_info(misfit)
        if event.error is None:
            await self._give(event, data)
            return False
        await self.ctx.emit(event)
        complaint = event.error.message
        self.misfits += 1
        if self.misfits > self.agent.output_retries:
            raise self._misfit(complaint)
        again = f"That answer doesn't fit: {complaint}. Give all of it again, as JSON that fits the schema."
        self.repair = (Message("assistant", event.parts), Message("user", (Text(again),)))
        return True

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
        target = next((agent for agent in self.targets if agent.name == name), None)
        if target is None:
            raise ConfigError(f"agent {ctx.path!r} can't hand over to {name!r}, as one of its tools wants")
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


def _value_of(parts: Sequence[Part]) -> Any:
    """What tools answered, where that is the agent's answer: the value of the one, or of all in order."""
    values = [part.result for part in parts if type(part) is ToolResult]
    return values[0] if len(values) == 1 else values


def _handovers(ctx: InvocationContext) -> int:
    """How many agents in a row have handed over to get here."""
    count = 0
    above = ctx._parent
    while above is not None and isinstance(above.agent, Thinker):
        count += 1
        above = above._parent
    return count
