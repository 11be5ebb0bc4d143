"""Agents that answer what they are told to, when they are told to."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from agentflow import Data, FunctionAgent, InvocationContext, Usage
from agentflow.content import as_parts
from agentflow.core import Agent
from agentflow.patterns.result import CompetitionResult, DecompositionResult, ScatterGatherResult
from tests.core.actors import Played, play


@dataclass(frozen=True)
class Fails:
    """In a script: it raises instead of answering."""

    message: str = "no idea"


@dataclass(frozen=True)
class Hangs:
    """In a script: it never ends by itself."""


@dataclass(frozen=True)
class Silent:
    """In a script: it ends without a word."""


def answers(name: str, answer: Any, *, after: float = 0.0, tokens: int = 0, **options: Any) -> FunctionAgent:
    """Says one thing after so many seconds; a text is text, everything else data."""
    return script(name, [answer], after=[after], tokens=tokens, **options)


def script(
    name: str,
    lines: Sequence[Any],
    *,
    after: Sequence[float] | Callable[[int], float] = (),
    tokens: int = 0,
    **options: Any,
) -> FunctionAgent:
    """Each of its branches says another of the lines: that of its ordinal."""

    async def turn(ctx: InvocationContext) -> None:
        last = ctx.branch.rpartition(".")[2]
        ordinal = int(last.partition("#")[2] or 1) if last.startswith(name) and "again" not in last else 1
        place = (ordinal - 1) % len(lines)
        delay = after(place) if callable(after) else after[place] if after else 0.0
        await anyio.sleep(delay)
        line = lines[place]
        if isinstance(line, Fails):
            raise ValueError(line.message)
        if isinstance(line, Hangs):
            await anyio.sleep_forever()
        if isinstance(line, Silent):
            return
        usage = Usage(input_tokens=tokens, model_calls=1, cost=tokens / 1000) if tokens else None
        parts = as_parts(line) if isinstance(line, str) else (Data(line),)
        await ctx.emit(ctx.event(*parts, usage=usage))

    return FunctionAgent(name, turn, **options)


def echoes(name: str, heard: list[str] | None = None, reply: Any = None, **options: Any) -> FunctionAgent:
    """Keeps what it was told, and says `reply`: a value, or a function of what it was told."""

    async def turn(ctx: InvocationContext) -> None:
        if heard is not None:
            heard.append(ctx.user_text)
        answer = reply(ctx.user_text) if callable(reply) else ctx.user_text if reply is None else reply
        await ctx.emit(ctx.text(answer) if isinstance(answer, str) else ctx.event(Data(answer)))

    return FunctionAgent(name, turn, **options)


async def gathered(root: Agent, message: str = "What is 6 x 7?", **settings: Any) -> ScatterGatherResult:
    played = await play(root, message, **settings)
    return ScatterGatherResult.of(played.run.result)


async def competed(root: Agent, message: str = "Write a haiku", **settings: Any) -> CompetitionResult:
    played = await play(root, message, **settings)
    return CompetitionResult.of(played.run.result)


async def decomposed(root: Agent, message: str = "Write a report", **settings: Any) -> DecompositionResult:
    played = await play(root, message, **settings)
    return DecompositionResult.of(played.run.result)


__all__ = [
    "Fails", "Hangs", "Played", "Silent", "answers", "competed", "decomposed", "echoes", "gathered", "play", "script",
]  # fmt: skip


def spoken(value: object) -> str:
    """A parameter in a test's name, the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
