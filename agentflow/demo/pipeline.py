"""The document analysis as agents: four analysts at once over each section, sections at once, then a synthesis."""

import importlib.util
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread

from agentflow.agents.function import FunctionAgent
from agentflow.agents.llm import LlmAgent
from agentflow.agents.parallel import ParallelAgent
from agentflow.agents.sequential import SequentialAgent
from agentflow.content import Data, Text
from agentflow.core import Agent, InvocationContext
from agentflow.demo.analysts import (
    ANALYSTS,
    PROMPTS,
    Analysis,
    Entities,
    Entity,
    Finding,
    Keyword,
    Keywords,
    Section,
    Sentiment,
    Summary,
    sections,
    synthesis,
)
from agentflow.errors import ConfigError
from agentflow.models.base import Message, Model

TEXT = Path(__file__).with_name("text.txt")
"""The text that comes with it: "Alice's Adventures in Wonderland"."""
NOTE = "No model is asked: the analysts are local code, made for English, that selects and counts."
"""For people, so that nobody takes the findings for a model's."""

_READ: dict[str, Callable[[dict[str, Any]], Finding]] = {
    "sentiment": lambda value: Sentiment(**value),
    "entities": lambda value: Entities(tuple(Entity(**each) for each in value["found"])),
    "summary": lambda value: Summary(tuple(value["sentences"])),
    "keywords": lambda value: Keywords(tuple(Keyword(**each) for each in value["found"])),
}


def document_analysis(
    text: str, *, title: str = "Document analysis", max_concurrency: int = 4, model: Model | str | None = None
) -> SequentialAgent:
    """An agent that analyses `text`; what the user says to it doesn't matter.

    Its last words are the report. What one analyst fails to find is missing there; the others go on.

    Args:
        text: Anything that isn't blank.
        title: The heading of the report.
        max_concurrency: How many sections at the same time; each has four analysts.
        model: Who reads it; local code, if nobody.

    Raises:
        ConfigError: There is no such model; without one, vaderSentiment isn't installed, and the message names the
            extra.
        ValueError: The text is blank.
    """
    if model is None and importlib.util.find_spec("vaderSentiment") is None:
        raise ConfigError(
            "the sentiment analyst needs vaderSentiment, which the extra `examples` brings: "
            "pip install 'agentflow-py[examples]'"
        )
    parts = sections(text)
    digits = len(str(len(parts)))
    readers = [
        ParallelAgent(
            f"section-{part.number:0{digits}}",
            [_analyst(name, part, digits, model) for name in ANALYSTS],
            on_error="collect",
            description=part.title,
        )
        for part in parts
    ]
    return SequentialAgent(
        "document",
        [
            ParallelAgent("sections", readers, max_concurrency=max_concurrency, on_error="collect"),
            _synthesis(parts, title, model),
        ],
    )


def _analyst(name: str, section: Section, digits: int, model: Model | str | None) -> Agent:
    full_name = f"{name}-{section.number:0{digits}}"
    description = f"{name} of {section.title!r}"
    if model is not None:
        text = [Message("user", (Text(section.text),))]
        return LlmAgent(
            full_name,
            model=model,
            instruction=PROMPTS[name],
            description=description,
            history=lambda ctx, messages: text,
        )
    work = ANALYSTS[name]

    async def run(ctx: InvocationContext) -> None:
        finding = await anyio.to_thread.run_sync(work, section.text)
        data = Data({"section": section.number, **asdict(finding)}, schema_name=name)
        await ctx.emit(ctx.event(f"{finding}", data))

    return FunctionAgent(full_name, run, description=description)


def _synthesis(parts: tuple[Section, ...], title: str, model: Model | str | None) -> Agent:
    if model is None:
        return FunctionAgent("synthesis", partial(_synthesise, parts=parts, title=title))
    return LlmAgent(
        "synthesis", model=model, instruction=PROMPTS["synthesis"], history=partial(_findings, title, parts)
    )


async def _findings(
    title: str, parts: tuple[Section, ...], ctx: InvocationContext, messages: list[Message]
) -> list[Message]:
    """What all analysts have said, section by section, as the one message that the synthesis reads."""
    said = {
        event.author: event.text
        for event in await ctx.history()
        if event.invocation_id == ctx.invocation_id and event.author != "user"
    }
    told = [f"# {title}"]
    for part in parts:
        told.append(f"## Section {part.number}: {part.title}")
        for name in ANALYSTS:
            words = [text for author, text in said.items() if _is_of(author, name, part)]
            told.append(f"{name}: {words[-1] if words else 'missing'}")
    return [Message("user", (Text("\n\n".join(told)),))]


def _is_of(author: str, name: str, section: Section) -> bool:
    head, _, number = author.rpartition("-")
    return head == name and int(number) == section.number


async def _synthesise(ctx: InvocationContext, *, parts: tuple[Section, ...], title: str) -> None:
    """Put together what all analysts have said: by now, it can be seen from here."""
    found: dict[int, dict[str, Finding]] = {}
    for event in await ctx.history():
        for part in event.parts:
            if event.invocation_id == ctx.invocation_id and isinstance(part, Data) and part.schema_name in _READ:
                value = dict(part.value)
                number = value.pop("section")
                found.setdefault(number, {})[part.schema_name] = _READ[part.schema_name](value)
    analyses = [Analysis(part, **found.get(part.number, {})) for part in parts]  # type: ignore[arg-type]  # by name
    await ctx.emit(ctx.text(await anyio.to_thread.run_sync(partial(synthesis, analyses, title=title))))
