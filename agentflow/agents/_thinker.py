"""What an LlmAgent is told when it is built: its settings, whether they can work, and what follows from them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentflow._settings import check_flags, check_whole
from agentflow.agents._asking import AfterModel, BeforeModel, Callbacks, OnModelError
from agentflow.agents._instructions import Instruction
from agentflow.core import Agent, InvocationContext, Tool
from agentflow.errors import ConfigError
from agentflow.models.base import Message, Model, ModelSettings, ServerTool
from agentflow.models.registry import resolve_model
from agentflow.tools.calls import AfterTool, BeforeTool, Hooks, OnToolErrorCallback
from agentflow.tools.function import as_tool
from agentflow.tools.toolset import Toolset

Compaction = Callable[[InvocationContext, list[Message]], Awaitable[Sequence[Message]] | Sequence[Message]]
"""Makes of all that an agent could read what it does read. Called before each model call."""

_CALLBACKS = ("before_model", "after_model", "on_model_error", "before_tool", "after_tool", "on_tool_error")
_NO_CALLBACKS, _NO_HOOKS = Callbacks((), (), ()), Hooks()
_NO_TYPES = (bool, int, float, str, bytes, list, tuple, dict, set)
"""Values of these are no types; what is one, pydantic alone can say."""
_COUNTS = ("max_steps", "max_tool_calls", "tool_concurrency")


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """Bounds what an agent reads: as many of the user's last turns as fit, the last in any case.

    Attributes:
        max_tokens: Roughly: a token is taken to be four characters.
    """

    max_tokens: int

    def __post_init__(self) -> None:
        check_whole("TokenBudget", max_tokens=self.max_tokens)


class Thinker(Agent):
    """What an LlmAgent is, but for what it does; its settings are described there."""

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
    _hooks: Hooks

    def check(self) -> None:
        """Check the settings; see `Agent.check`."""
        super().check()
        fields = vars(self)
        _check_settings(fields, f"{type(self).__name__} {self.name!r}")
        fields["_callbacks"], fields["_hooks"] = _NO_CALLBACKS, _NO_HOOKS
        if self.before_model or self.after_model or self.on_model_error:
            fields["_callbacks"] = Callbacks(self.before_model, self.after_model, self.on_model_error)
        if self.before_tool or self.after_tool or self.on_tool_error:
            fields["_hooks"] = Hooks(before=self.before_tool, after=self.after_tool, on_error=self.on_tool_error)

    @property
    def targets(self) -> tuple[Agent, ...]:
        """Who it may hand over to: its sub-agents, its parent and its parent's other sub-agents, as far as allowed."""
        parent = self.parent
        if not isinstance(parent, Thinker):
            return tuple(self.sub_agents)
        found = list(self.sub_agents)
        if self.transfer_to_parent:
            found.append(parent)
        if self.transfer_to_peers:
            found += [peer for peer in parent.sub_agents if peer is not self]
        return tuple(found)

    def model_or(self, default: Model | None) -> Model:
        """Its model, that of the nearest LlmAgent above that has one, or `default`, the Runner's.

        Raises:
            ConfigError: None has.
        """
        above: Any = self
        while above is not None:
            if isinstance(above, Thinker) and above._model is not None:
                return above._model
            above = above.parent
        if default is None:
            raise ConfigError(
                f"LlmAgent {self.name!r} has no model, nor has an LlmAgent above it, nor the Runner: "
                "give it one, like model='claude-opus-5-5'"
            )
        return default

    def global_instructions(self) -> list[Instruction]:
        """What it and the LlmAgents above it say to all below them, from the top."""
        found: list[Instruction] = []
        above: Any = self
        while above is not None:
            if isinstance(above, Thinker) and above.global_instruction:
                found.append(above.global_instruction)
            above = above.parent
        return found[::-1]


def _check_settings(fields: dict[str, Any], owner: str) -> None:
    """Check the settings in `fields`, and make of them what an agent works with.

    Raises:
        ConfigError: One can't work.
    """
    try:
        fields["_model"] = resolve_model(fields["model"]) if fields["model"] is not None else None
    except ConfigError as error:
        raise ConfigError(f"{owner}: {error}") from None
    for name in ("instruction", "global_instruction"):
        if not isinstance(fields[name], str) and not callable(fields[name]):
            raise ConfigError(f"{owner}: {name} must be text or a function of the context, not {fields[name]!r}")
    for name in _CALLBACKS:
        value = fields[name]
        if value != ():
            fields[name] = (value,) if callable(value) else tuple(value) if isinstance(value, Sequence) else (None,)
            if not all(map(callable, fields[name])):
                raise ConfigError(f"{owner}: {name} must be a function, or a list of them")
    for name in _COUNTS:
        if fields[name] is not None:
            check_whole(owner, **{name: fields[name]})
    check_whole(owner, least=0, output_retries=fields["output_retries"])
    if fields["stream"] is not None:
        check_flags(owner, stream=fields["stream"])
    for name in ("transfer_to_parent", "transfer_to_peers"):
        if fields[name] is not True:
            check_flags(owner, **{name: fields[name]})
    for name in ("output_schema", "input_schema"):
        if isinstance(fields[name], _NO_TYPES):
            raise ConfigError(
                f"{owner}: {name} must be a type, like a pydantic model or list[str], not {fields[name]!r}"
            )
    if fields["include_contents"] not in ("default", "none"):
        raise ConfigError(f"{owner}: include_contents must be 'default' or 'none', not {fields['include_contents']!r}")
    if not isinstance(fields["settings"], ModelSettings):
        raise ConfigError(f"{owner}: settings must be ModelSettings(...), not {fields['settings']!r}")
    if fields["output_key"] is not None and (not isinstance(fields["output_key"], str) or not fields["output_key"]):
        raise ConfigError(f"{owner}: output_key must be a key of state, not {fields['output_key']!r}")
    _check_history(fields["history"], owner)
    if fields["tools"] != ():
        fields["tools"] = _tools(fields["tools"], owner)


def _check_history(history: Any, owner: str) -> None:
    if isinstance(history, int) and not isinstance(history, bool):
        check_whole(owner, history=history)
    elif history is not None and not isinstance(history, TokenBudget) and not callable(history):
        raise ConfigError(
            f"{owner}: history must be a number of turns, a TokenBudget or a function of the context and the messages, "
            f"not {history!r}"
        )


def _tools(tools: Any, owner: str) -> tuple[Tool | Toolset | ServerTool, ...]:
    if isinstance(tools, str) or not isinstance(tools, Sequence):
        raise ConfigError(f"{owner}: tools must be a list, not {tools!r}")
    made: list[Tool | Toolset | ServerTool] = []
    names: set[str] = set()
    for tool in tools:
        if isinstance(tool, Agent):
            raise ConfigError(f"{owner}: agent {tool.name!r} is no tool; AgentTool({tool.name}) makes one of it")
        try:
            made.append(tool if isinstance(tool, (Toolset, ServerTool)) else as_tool(tool))
        except ConfigError as error:
            raise ConfigError(f"{owner}: {error}") from None
        last = made[-1]
        if isinstance(last, Tool):
            if last.name in names:
                raise ConfigError(f"{owner} has two tools named {last.name!r}; give one of them another name")
            names.add(last.name)
    return tuple(made)
