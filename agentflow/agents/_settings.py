"""Whether the settings of an LlmAgent can work, said when it is built."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentflow.core import Tool
from agentflow.errors import ConfigError
from agentflow.models.base import ModelSettings, ServerTool
from agentflow.models.registry import resolve_model
from agentflow.tools.function import as_tool
from agentflow.tools.toolset import Toolset

CALLBACKS = ("before_model", "after_model", "on_model_error", "before_tool", "after_tool", "on_tool_error")
_COUNTS = ("max_steps", "max_tool_calls", "tool_concurrency")


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """Bounds what an agent reads: as many of the user's last turns as fit, the last in any case.

    Attributes:
        max_tokens: Roughly: a token is taken to be four characters.
    """

    max_tokens: int

    def __post_init__(self) -> None:
        _whole(self.max_tokens, "TokenBudget: max_tokens", least=1)


def check_settings(fields: dict[str, Any], owner: str) -> None:
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
    for name in CALLBACKS:
        value = fields[name]
        if value != ():
            fields[name] = (value,) if callable(value) else tuple(value) if isinstance(value, Sequence) else (None,)
            if not all(map(callable, fields[name])):
                raise ConfigError(f"{owner}: {name} must be a function, or a list of them")
    for name in _COUNTS:
        if fields[name] is not None:
            _whole(fields[name], f"{owner}: {name}", least=1)
    _whole(fields["output_retries"], f"{owner}: output_retries", least=0)
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
        _whole(history, f"{owner}: history", least=1)
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


def _whole(value: object, what: str, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{what} must be a whole number of at least {least}, not {value!r}")
