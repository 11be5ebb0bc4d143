"""An agent as a tool."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from agentflow._settings import check_flags
from agentflow.core import Agent, Tool, ToolContext
from agentflow.errors import ConfigError, InvalidArguments
from agentflow.tools.function import NeedsConfirmation, OnToolError

_REQUEST = {
    "type": "object",
    "properties": {"request": {"type": "string", "description": "What it is to do, and all that it must know."}},
    "required": ["request"],
    "additionalProperties": False,
}


class AgentTool(Tool):
    """An agent that a model may call like a function, and whose answer it reads.

    It runs in the same run: same plugins, limits, state, artifacts, cancellation and trace. Its events are in the
    stream and in the log under its own path, on a line of its own; the model that called it reads its last words, or
    its structured value, alone. What it may have to ask people pauses the caller too.

    Args:
        agent: Who is called. It need not be a sub-agent of the caller's.
        name: By default the agent's.
        description: By default the agent's.
        input_schema: What it is called with, a pydantic model: it is told that as JSON. By default the agent's own,
            where it has one, else one text, `request`.
        isolated: It sees only what it is told. If not, also the talk up to the call.
        skip_summarization: Its answer is the caller's: no model reads it.
        timeout: See `Tool`; likewise the others.
        sequential: See `Tool`.
        on_error: See `Tool`.
        require_confirmation: See `Tool`.
        max_result_bytes: See `Tool`.
        strict: See `Tool`.
        extra: See `Tool`.

    Raises:
        ConfigError: A setting can't work. From a call: the agent is among those that led to it, and the model is told.

    Source: adk-go `tool/agenttool`; unlike there, it is no run of its own.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        name: str | None = None,
        description: str | None = None,
        input_schema: type[BaseModel] | None = None,
        isolated: bool = True,
        skip_summarization: bool = False,
        timeout: float | str | None = None,
        sequential: bool = False,
        on_error: OnToolError = "return",
        require_confirmation: NeedsConfirmation = False,
        max_result_bytes: int = 256 * 1024,
        strict: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(agent, Agent):
            raise ConfigError(f"AgentTool needs an agent, not {agent!r}")
        super().__init__(
            agent.name if name is None else name,
            description=agent.description if description is None else description,
            timeout=timeout,
            sequential=sequential,
            on_error=on_error,
            require_confirmation=require_confirmation,
            max_result_bytes=max_result_bytes,
            strict=strict,
            extra=extra,
        )
        check_flags(f"tool {self.name!r}", isolated=isolated, skip_summarization=skip_summarization)
        if input_schema is not None and not (isinstance(input_schema, type) and issubclass(input_schema, BaseModel)):
            raise ConfigError(f"tool {self.name!r}: input_schema must be a pydantic model, not {input_schema!r}")
        self.agent = agent
        self.input_schema: type[BaseModel] | None = input_schema or vars(agent).get("input_schema")
        self.isolated = isolated
        self.skip_summarization = skip_summarization
        self._parameters: dict[str, Any] | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        if self.input_schema is None:
            return _REQUEST
        if self._parameters is None:
            self._parameters = self.input_schema.model_json_schema()
        return self._parameters

    async def run(self, ctx: ToolContext, args: dict[str, Any]) -> Any:
        """Let the agent take its turn, and return what came of it.

        Raises:
            InvalidArguments: They don't fit the schema.
            ConfigError: The agent is among those that led to this call.
        """
        caller: Any = ctx._parent
        while caller is not None:
            if caller.agent is self.agent:
                raise ConfigError(
                    f"agent {self.agent.name!r} can't be a tool of {ctx.path!r}: it is at work there already, "
                    "and would call itself without end"
                )
            caller = caller._parent
        ctx.isolates = self.isolated
        outcome = await ctx.run(self.agent, message=self._message(args))
        ctx.actions.skip_summarization = self.skip_summarization
        return outcome.output

    def _message(self, args: dict[str, Any]) -> str:
        if self.input_schema is not None:
            try:
                return self.input_schema.model_validate(args).model_dump_json()
            except ValidationError as error:
                raise InvalidArguments(f"the arguments don't fit the schema of {self.name!r}: {error}") from None
        request = args.get("request")
        if not isinstance(request, str) or len(args) != 1:
            raise InvalidArguments(f"{self.name!r} takes one argument, `request`, a text")
        return request
