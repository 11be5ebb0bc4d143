"""What a tool returned, as something that a model can read and a store can keep."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from agentflow.content import PARTS, Blob, Data, FileRef, Part, Text, ToolResult, clean_json
from agentflow.core import ToolContext
from agentflow.errors import InvalidEvent

_PARTS = tuple(PARTS.values())
_PLAIN = (str, bool, int, float, type(None))


def as_result(tool: str, value: Any) -> tuple[Any, tuple[Part, ...]]:
    """A JSON value for the model, and the pictures and files that go with it.

    Raises:
        InvalidEvent: It is nothing that JSON can say.
    """
    if isinstance(value, ToolResult):
        return value.result, ()
    if isinstance(value, _PARTS):
        value = (value,)
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, _PARTS) for part in value):
        return _said(value)
    if isinstance(value, _PLAIN):
        return value, ()
    try:
        plain = to_jsonable_python(value)
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidEvent(f"tool {tool!r} returned what JSON can't say: {error}") from error
    return clean_json(plain, f"the result of tool {tool!r}")[0], ()


def _said(parts: Sequence[Any]) -> tuple[Any, tuple[Part, ...]]:
    words: list[Any] = []
    beside: list[Part] = []
    for part in parts:
        if isinstance(part, Text):
            words.append(part.text)
        elif isinstance(part, Data):
            words.append(part.value)
        elif isinstance(part, (Blob, FileRef)):
            words.append(f"[{part.name or part.mime_type or 'a file'}: attached]")
            beside.append(part)
        else:
            words.append(getattr(part, "result", getattr(part, "text", "")))
    if all(isinstance(word, str) for word in words):
        return "\n".join(words), tuple(beside)
    return words[0] if len(words) == 1 else words, tuple(beside)


async def shorten(ctx: ToolContext, result: Any, limit: int) -> Any:
    """`result`, or, where it is longer than the limit, its beginning and where all of it is."""
    text = isinstance(result, str)
    if (len(result) * 4 <= limit) if text else isinstance(result, _PLAIN):
        return result
    whole = result.encode("utf-8", errors="replace") if text else to_json(result)
    if len(whole) <= limit:
        return result
    name = re.sub(r"[^\w-]", "_", f"{ctx.tool.name}-{ctx.call.id}") + (".txt" if text else ".json")
    await ctx.save_artifact(name, whole, mime_type="text/plain" if text else "application/json")
    head = whole[:limit].decode("utf-8", errors="ignore")
    return f"{head}\n[cut here: {len(whole):,} bytes in all; the whole result is the artifact {name!r}]"
