"""Instructions: text with `{state}` templates, or a function of the context; and how they become one system text."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from inspect import isawaitable
from typing import Any

from agentflow.core import InvocationContext
from agentflow.errors import InstructionError, InvalidEvent

InstructionFunction = Callable[[InvocationContext], Awaitable[str] | str]
"""Makes an instruction from the context, anew for each model call; what it returns is not a template."""

Instruction = str | InstructionFunction

_PLACEHOLDER = re.compile(r"\{+[^{}]*\}+")
_SCOPES = ("app:", "user:", "temp:")
_ARTIFACT = "artifact."


async def render(instruction: Instruction, ctx: InvocationContext) -> str:
    """The text of an instruction: a template filled in from state and artifacts, or what its function returns.

    Raises:
        InstructionError: A template names what isn't there.
        InvalidEvent: A function returned something else than text.
    """
    if not isinstance(instruction, str):
        made = instruction(ctx)
        text = await made if isawaitable(made) else made
        if not isinstance(text, str):
            raise InvalidEvent(f"the instruction of agent {ctx.path!r} must return text, not {type(text).__name__}")
        return text
    if "{" not in instruction:
        return instruction
    return await fill_instruction(instruction, ctx)


async def fill_instruction(template: str, ctx: InvocationContext) -> str:
    """Fill `{name}`, `{name?}`, `{app:name}`, `{user:name}`, `{temp:name}` and `{artifact.file}` in `template`.

    A name with `?` may be missing and is then empty, as `None` always is. What couldn't be a name stays as it is, so
    JSON in a prompt survives. Doubled braces don't escape: `{{name}}` is filled too.

    Raises:
        InstructionError: A name that isn't there.

    Source: adk-go `internal/llminternal/instruction_processor.go`.
    """
    filled = []
    for text, name in _pieces(template):
        if name is None:
            filled.append(text)
        elif name.startswith(_ARTIFACT):
            filled.append(await _artifact(name.removeprefix(_ARTIFACT), ctx))
        else:
            filled.append(_value(name, ctx))
    return "".join(filled)


@lru_cache(maxsize=1024)
def _pieces(template: str) -> Sequence[tuple[str, str | None]]:
    """The template cut at its placeholders: plain text with `None`, and placeholders with their name."""
    pieces: list[tuple[str, str | None]] = []
    end = 0
    for match in _PLACEHOLDER.finditer(template):
        name = match[0].strip("{}").strip()
        if _is_name(name):
            pieces += [(template[end : match.start()], None), (match[0], name)]
            end = match.end()
    return (*pieces, (template[end:], None))


def _is_name(name: str) -> bool:
    name = name.removesuffix("?")
    if name.startswith(_ARTIFACT):
        return name != _ARTIFACT
    scope = next((scope for scope in _SCOPES if name.startswith(scope)), "")
    return name.removeprefix(scope).isidentifier()


def _value(name: str, ctx: InvocationContext) -> str:
    key = name.removesuffix("?")
    state = ctx.state
    if key not in state:
        if name.endswith("?"):
            return ""
        near = get_close_matches(key, list(state), n=1)
        raise InstructionError(
            f"the instruction of agent {ctx.path!r} names {{{key}}}, but there is no such key in state"
            f"{f'; did you mean {{{near[0]}}}?' if near else ''} (write {{{key}?}} if it may be missing)",
            key=key,
        )
    return _as_text(state[key])


async def _artifact(name: str, ctx: InvocationContext) -> str:
    filename = name.removesuffix("?")
    artifact = await ctx.load_artifact(filename)
    if artifact is not None:
        return artifact.text
    if name.endswith("?"):
        return ""
    raise InstructionError(
        f"the instruction of agent {ctx.path!r} names the artifact {filename!r}, which isn't there "
        f"(write {{artifact.{filename}?}} if it may be missing)",
        key=f"artifact.{filename}",
    )


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def identity(name: str, description: str) -> str:
    """The sentence that tells a model who it is, in adk-go's words."""
    about = f' The description about you is "{description}".' if description else ""
    return f'You are an agent. Your internal name is "{name}".{about}'


def joined(parts: Sequence[str]) -> str:
    """One system text: those that say something, a blank line between."""
    return "\n\n".join(part for part in parts if part)
