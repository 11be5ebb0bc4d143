"""What an agent's answer must look like: its JSON schema, and how an answer is read and judged."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from agentflow.content import Data
from agentflow.core import Tool, ToolContext
from agentflow.errors import ConfigError, InvalidArguments
from agentflow.models.base import OutputSchema

ANSWER_TOOL = "set_model_response"
"""The tool that stands in for structured output where a model has none of its own; adk's name for it."""

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


class Misfit(Exception):
    """An answer doesn't fit; the message says why, for the model."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The type of an answer. What isn't a JSON object is asked for as the `result` of one.

    Attributes:
        name: What the type is called.
        schema: JSON schema, of an object.
        wrapped: The answer is the `result` of that object.
    """

    name: str
    schema: dict[str, Any]
    wrapped: bool
    _adapter: TypeAdapter[Any]

    @property
    def format(self) -> OutputSchema:
        """For models that can be held to a schema."""
        return OutputSchema(self.schema, self.name)

    def read(self, text: str) -> Data:
        """The answer that `text` holds.

        Raises:
            Misfit: It holds none that fits.
        """
        fenced = _FENCED.fullmatch(text)
        try:
            value = json.loads(fenced[1] if fenced else text)
        except ValueError as error:
            raise Misfit(f"it is not JSON: {error}") from None
        return self.check(value)

    def check(self, value: Any) -> Data:
        """The answer that a JSON value holds.

        Raises:
            Misfit: It doesn't fit.
        """
        if self.wrapped:
            if not isinstance(value, dict) or "result" not in value:
                raise Misfit("it must be an object with the key 'result'")
            value = value["result"]
        try:
            answer = self._adapter.validate_json(json.dumps(value))
        except ValidationError as error:
            raise Misfit(complaint(error)) from None
        return Data(self._adapter.dump_python(answer, mode="json"), schema_name=self.name)


class AnswerTool(Tool):
    """Takes the answer of a model that can't be held to a schema.

    Attributes:
        given: The answer, once one fits.
        misfits: How many didn't.
        complaint: What was wrong with the last.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(ANSWER_TOOL, description="Give your final answer. Call it once, when you have all you need.")
        self.answer = answer
        self.given: Data | None = None
        self.misfits = 0
        self.complaint = ""

    @property
    def parameters(self) -> dict[str, Any]:
        return self.answer.schema

    async def run(self, ctx: ToolContext, args: dict[str, Any]) -> Any:
        """Judge the answer.

        Raises:
            InvalidArguments: It doesn't fit.
        """
        try:
            self.given = self.answer.check(args)
        except Misfit as misfit:
            self.misfits += 1
            self.complaint = str(misfit)
            raise InvalidArguments(f"the answer doesn't fit: {misfit}") from None
        return {}


@lru_cache(maxsize=256)
def answer_of(kind: Any) -> Answer:
    """What an answer of this type looks like: a pydantic model, a dataclass, a `TypedDict`, `list[str]`, ...

    Raises:
        ConfigError: pydantic can't make a schema of it.
    """
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        schema = adapter.json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise ConfigError(f"output_schema: pydantic can't make a JSON schema of {kind!r}: {error}") from error
    name = re.sub(r"\W+", "_", getattr(kind, "__name__", "answer")).strip("_")
    if schema.get("type") == "object" or "$ref" in schema:
        return Answer(name, schema, False, adapter)
    definitions = schema.pop("$defs", None)
    schema = {"type": "object", "properties": {"result": schema}, "required": ["result"], "additionalProperties": False}
    return Answer(name, schema | ({"$defs": definitions} if definitions else {}), True, adapter)


def complaint(error: ValidationError) -> str:
    """What is wrong with a value, a line for each mistake, for a model to read."""
    lines = []
    for mistake in error.errors(include_url=False, include_context=False):
        where = ".".join(map(str, mistake["loc"]))
        lines.append(f"{where}: {mistake['msg']}" if where else mistake["msg"])
    return "; ".join(lines[:20])
