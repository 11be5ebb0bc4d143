"""What a run asks people: how it is written in events, and what counts as an answer.

On the wire it is ADK's protocol: a question is a tool call named `adk_request_input` or `adk_request_confirmation` in
an event of the agent that asks, the answer a tool result with its id in a later message of the user.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from agentflow.content import Record, ToolCall, ToolResult
from agentflow.errors import AnswerRefused, ConfigError
from agentflow.events import Event

REQUEST_INPUT = "adk_request_input"
REQUEST_CONFIRMATION = "adk_request_confirmation"
ASKING = frozenset({REQUEST_INPUT, REQUEST_CONFIRMATION})
"""Names of the calls that are questions to people. No model reads them."""

WAITING = "waiting"
"""In `ToolResult.extra`: the call has no answer yet; the value is the last segment of its branch."""

LONG_RUNNING = "longRunning"
"""In `ToolResult.extra`: only where a long-running tool stands; its answer may come later, by the call's id."""

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Question(Record):
    """Something that a run waits to be told. Answer it with `runner.run(answers={question.id: ...})`.

    Attributes:
        id: What the answer names.
        kind: `"input"`: of `ctx.request_input`; any value that fits `schema`. `"confirmation"`: whether a tool may run;
            `True` or `False`, or `{"confirmed": ..., "payload": ...}`. `"result"`: of a long-running tool's call.
        message: For the person.
        payload: What they need to know to answer.
        schema: JSON schema of the answer; `None` takes any value.
        call: The tool call that it is about.
        path: Path of the agent that asks.
        branch: Its branch, dotted.
        invocation_id: The run that waits; answering lets it go on.
    """

    kind: Literal["input", "confirmation", "result"]
    message: str
    id: str = ""
    payload: Any = None
    schema: dict[str, Any] | None = None
    call: ToolCall | None = None
    path: str = ""
    branch: str = ""
    invocation_id: str = ""

    def as_call(self) -> ToolCall:
        """The tool call that asks it."""
        if self.kind == "confirmation":
            assert self.call is not None
            asked: dict[str, Any] = {"hint": self.message, "confirmed": False}
            if self.payload is not None:
                asked["payload"] = self.payload
            args = {"originalFunctionCall": _original(self.call), "toolConfirmation": asked}
            return ToolCall(self.id, REQUEST_CONFIRMATION, args)
        told = {"message": self.message, "payload": self.payload, "responseSchema": self.schema}
        return ToolCall(self.id, REQUEST_INPUT, {key: value for key, value in told.items() if value is not None})


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Confirmation(Record):
    """What somebody said to a tool call that had to be confirmed.

    Attributes:
        confirmed: They agreed.
        payload: What they said besides, any JSON.
    """

    confirmed: bool
    payload: Any = None


def type_adapter(schema: Any) -> TypeAdapter[Any] | None:
    """What validates answers by a type.

    Raises:
        ConfigError: No JSON schema can be made of it.
    """
    if schema is None:
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(schema)
        adapter.json_schema()
    except PydanticUserError as error:
        raise ConfigError(f"request_input: no JSON schema can be made of {schema!r}: {error}") from error
    return adapter


def new_question(message: str, adapter: TypeAdapter[Any] | None, payload: Any, id: str) -> Question:
    """A question of `ctx.request_input`."""
    schema = adapter.json_schema() if adapter is not None else None
    return Question(kind="input", id=id, message=message, payload=payload, schema=schema)


def questions_in(event: Event) -> list[Question]:
    """The questions that an event of an agent's asks."""
    if event.author == "user":  # who could otherwise ask, and agree with himself
        return []
    found = []
    for part in event.parts:
        if type(part) is ToolCall and part.name in ASKING:
            found.append(_input(part) if part.name == REQUEST_INPUT else _confirmation(part))
        elif type(part) is ToolResult and part.extra and WAITING in part.extra and LONG_RUNNING in part.extra:
            call = ToolCall(part.id, part.name)
            found.append(Question(kind="result", id=part.id, message=f"the result of {part.name!r}", call=call))
    for question in found:
        question.path, question.branch, question.invocation_id = event.path, event.branch, event.invocation_id
    return found


def _input(part: ToolCall) -> Question:
    message, schema = part.args.get("message", ""), part.args.get("responseSchema")
    return Question(kind="input", id=part.id, message=message, payload=part.args.get("payload"), schema=schema)


def _confirmation(part: ToolCall) -> Question:
    original, asked = part.args.get("originalFunctionCall", {}), part.args.get("toolConfirmation", {})
    call = ToolCall(original.get("id", ""), original.get("name", ""), original.get("args", {}))
    hint, payload = asked.get("hint", ""), asked.get("payload")
    return Question(kind="confirmation", id=part.id, message=hint, payload=payload, call=call)


def as_answer(question: Question, value: Any) -> ToolResult:
    """An answer as it is stored: `value`, or what a `ToolResult` holds.

    Raises:
        AnswerRefused: It is none to this question.
    """
    name = {"input": REQUEST_INPUT, "confirmation": REQUEST_CONFIRMATION}.get(question.kind, "")
    if question.kind == "result" and question.call is not None:
        name = question.call.name
    error = False
    if isinstance(value, ToolResult):
        if value.name and value.name != name:
            raise AnswerRefused(f"{question.id!r} is a question of {name!r}, not of {value.name!r}")
        value, error = value.result, value.is_error
    if question.kind == "confirmation":
        value = {"confirmed": value} if isinstance(value, bool) else value
        read_confirmation(question, value)
    elif question.schema is not None and not _fits(question.schema, value):
        raise AnswerRefused(
            f"the answer to question {question.id!r} ({question.message}) must fit {json.dumps(question.schema)}, "
            f"not {value!r}"
        )
    return ToolResult(question.id, name, value, is_error=error)


def read_confirmation(question: Question, value: Any) -> Confirmation:
    """What an answer says: `{"confirmed": bool, "payload": ...}`, or that as JSON text in `{"response": ...}`.

    Raises:
        AnswerRefused: Neither, or it is about another call than the question.
    """
    said = value
    if isinstance(said, Mapping) and isinstance(said.get("response"), str):
        try:
            said = json.loads(said["response"])
        except ValueError:
            said = None
    if not isinstance(said, Mapping) or not isinstance(said.get("confirmed"), bool):
        raise AnswerRefused(
            f'question {question.id!r} is answered with true or false, or {{"confirmed": ...}}, not {value!r}'
        )
    about, call = said.get("originalFunctionCall"), question.call
    if about is not None and call is not None and about != _original(call):
        raise AnswerRefused(f"the answer to question {question.id!r} is about another call than the question")
    return Confirmation(confirmed=said["confirmed"], payload=said.get("payload"))


def _original(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "name": call.name, "args": call.args}


def _fits(schema: Mapping[str, Any], value: Any) -> bool:
    """Whether a value fits a JSON schema at first sight; who asked validates it in full."""
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "anyOf" in schema:
        return any(_fits(one, value) for one in schema["anyOf"])
    kinds = schema.get("type", ())
    types = tuple(kind for name in ([kinds] if isinstance(kinds, str) else kinds) for kind in _TYPES.get(name, ()))
    if types and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        return all(name in value for name in schema.get("required", ())) and all(
            _fits(known[name], item) for name, item in value.items() if name in known
        )
    return not (isinstance(value, list) and "items" in schema) or all(_fits(schema["items"], item) for item in value)


class Paused(BaseException):
    """A turn waits for an answer, and ends here until there is one.

    Not an error, so `except Exception` lets it pass, as it does a cancellation: what has to be agreed to must not be
    done because somebody caught too much. The run's stream ends normally, with the status `"paused"`.

    Attributes:
        questions: What it waits for.
    """

    def __init__(self, questions: Iterable[Question] = ()) -> None:
        self.questions = tuple({question.id or id(question): question for question in questions}.values())
        super().__init__(", ".join(question.message for question in self.questions))


def pause_in(error: BaseException) -> Paused | None:
    """The pause that an exception is, or that a group of them holds."""
    if isinstance(error, Paused):
        return error
    if isinstance(error, BaseExceptionGroup):
        pauses = [pause for inner in error.exceptions if (pause := pause_in(inner)) is not None]
        if pauses:
            return Paused(question for pause in pauses for question in pause.questions)
    return None
