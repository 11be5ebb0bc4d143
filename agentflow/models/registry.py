"""A model by its name: `"claude-opus-5-5"`, `"openai:gpt-6"`, or what you have registered."""

import difflib
import weakref
from collections.abc import Callable
from importlib import import_module

from agentflow.errors import ConfigError
from agentflow.models.base import Model

Factory = Callable[[str], Model]

CLAUDE = (
    "claude-opus-5-5",
    "claude-sonnet-5-5",
    "claude-haiku-5-5",
    "claude-fable-5-2",
    "claude-mythos-5-2",
    "claude-opus-5",
    "claude-sonnet-5",
    "claude-opus-4-8",
    "claude-sonnet-4-6",
    "claude-haiku-4-5",
)
"""Names to correct a misspelt one by; others that begin with `claude-` are taken as they are."""

_homes = {
    "claude-": "agentflow.models.anthropic:AnthropicModel",
    "anthropic:": "agentflow.models.anthropic:AnthropicModel",
    "openai:": "agentflow.models.openai:OpenAIModel",
    "pydantic-ai:": "agentflow.models.pydantic_ai:PydanticAIModel",
}
_factories: dict[str, Factory] = {}
_made: "weakref.WeakValueDictionary[str, Model]" = weakref.WeakValueDictionary()


def resolve_model(model: Model | str) -> Model:
    """The model that a name stands for; a model is itself. Agents that name the same one share it, and its client.

    `claude-...` is Anthropic's, `openai:...` speaks to OpenAI or, by `OPENAI_BASE_URL`, to whatever speaks like it,
    `pydantic-ai:provider:...` is any that pydantic-ai knows. Nothing is imported or opened before it is first asked.

    Raises:
        ConfigError: No provider is known for this name.
    """
    if isinstance(model, Model):
        return model
    if not isinstance(model, str) or not model.strip():
        raise ConfigError(f"a model is a Model or a name like 'claude-opus-5-5', not {model!r}")
    found = _made.get(model)
    if found is None:
        found = _made[model] = _make(model)
    return found


def register_model(prefix: str, factory: Factory) -> None:
    """Have names that begin with `prefix` made by `factory`, which gets the whole name.

    Raises:
        ConfigError: The prefix is empty.
    """
    if not prefix:
        raise ConfigError("register_model: the prefix must not be empty")
    _factories[prefix] = factory
    for name in [name for name in _made if name.startswith(prefix)]:
        del _made[name]


def _make(name: str) -> Model:
    for prefix in sorted(_factories, key=len, reverse=True):
        if name.startswith(prefix):
            return _factories[prefix](name)
    for prefix, home in _homes.items():
        if name.startswith(prefix) and name != prefix:
            module, _, kind = home.partition(":")
            model: Model = getattr(import_module(module), kind)(name.removeprefix(prefix) if ":" in prefix else name)
            return model
    raise ConfigError(f"no provider is known for the model {name!r}{suggestion(name)}")


def suggestion(name: str) -> str:
    """What may have been meant, for an error message."""
    near = difflib.get_close_matches(name.lower(), [*CLAUDE, *_factories, *_homes], n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    known = ", ".join(repr(prefix + "...") for prefix in [*_homes, *_factories])
    return f"; a name begins with one of {known}"
