"""What an event is made of: content parts, their wire form, and what makes them safe to store.

A part is a slotted dataclass told apart by `kind`. On the wire it is an object with `kind` and camelCase names. Fields
and kinds of a newer writer are kept (`extra`, `UnknownPart`) and written back as they came.
"""

import binascii
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from agentflow.errors import InvalidEvent

R = TypeVar("R")
MAX_DEPTH = 100
"""How deep JSON values may nest in a part or in state; parsers of stores and clients stop at about twice that."""

_LAYOUTS: dict[Any, list[tuple[str, str, Any, type | None]]] = {}
_UNSAFE = re.compile("[\x00\ud800-\udfff]")


class Record:
    """What parts, lifecycle records and the like have in common: equal by value, readable, slotted.

    Their dataclasses take `eq` and `repr` from here: generating both for each of thirty classes is what half of the
    package's import time would go to.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _names(type(self)))

    __hash__ = None  # type: ignore[assignment]  # they hold lists and mappings

    def __repr__(self) -> str:
        shown = []
        for f in fields(self):  # type: ignore[arg-type]  # all are dataclasses
            value = getattr(self, f.name)
            default = f.default_factory() if f.default_factory is not MISSING else f.default
            if f.name != "extra" and (default is MISSING or value != default):
                shown.append(f"{f.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _names(cls: type[Any]) -> list[str]:
    return [f.name for f in fields(cls)]


def _extra() -> Any:
    return field(default=None, kw_only=True, repr=False)


@dataclass(slots=True, eq=False, repr=False)
class Text(Record):
    """Words, as they were said."""

    text: str
    extra: dict[str, Any] | None = _extra()
    kind: ClassVar[str] = "text"


@dataclass(slots=True, eq=False, repr=False)
class Thinking(Record):
    """A model's reasoning. `signature` and `redacted` are the provider's own and go back to it verbatim."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    extra: dict[str, Any] | None = _extra()
    kind: ClassVar[str] = "thinking"


@dataclass(slots=True, eq=False, repr=False)
class ToolCall(Record):
    """A model asks for a tool. `id` ties it to its `ToolResult`."""

    id: str
    name: str
    args: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] | None = _extra()
    kind: ClassVar[str] = "tool_call"


@dataclass(slots=True, eq=False, repr=False)
class ToolResult(Record):
    """What a tool answered.

    Attributes:
        id: That of the `ToolCall`.
        name: The tool's.
        result: Any JSON value.
        is_error: The call failed; `result` says how.
    """

    id: str
    name: str
    result: Any = None
    is_error: bool = False
    extra: dict[str, Any] | None = _extra()
    kind: ClassVar[str] = "tool_result"


@dataclass(slots=True, eq=False, repr=False)
class Blob(Record):
    """Bytes that travel with the event (an image, a document).

    Attributes:
        data: The bytes; in JSON, base64.
        mime_type: What they are, for instance `"image/png"`.
        name: A file name, for people.
    """

    data: bytes
    mime_type: str = "application/octet-stream"
    name: str | None = None
    extra: dict[str, Any] | None = _extra()
    kind: ClassVar[str] = "blob"


@dataclass(slots=True, eq=False, repr=False)
class FileRef(Record):
    """A file that stays where it is.

    Attributes:
        uri: Its address.
        mime_type: What it is, for instance `"application/pdf"`; `None` if that isn't known.
        name: A file name, for people.
    """

    uri: str
    mime_type: str | None = None
    name: str | None = None
    extra: dict[str, Any] | None = _extra()
    kind: ClassVar[str] = "file"


@dataclass(slots=True, eq=False, repr=False)
class Data(Record):
    """A structured value, for programs rather than for readers.

    Attributes:
        value: Any JSON.
        schema_name: What the value is called: the name of the type that it was made from, for instance.
    """

    value: Any
    schema_name: str | None = None
    extra: dict[str, Any] | None = _extra()
    kind: ClassVar[str] = "data"


@dataclass(slots=True, eq=False, repr=False)
class ProviderBlock(Record):
    """A block that only its provider understands, kept raw so that it can be sent back."""

    provider: str
    block: dict[str, Any]
    extra: dict[str, Any] | None = _extra()
    kind: ClassVar[str] = "provider"


@dataclass(slots=True, eq=False, repr=False)
class UnknownPart(Record):
    """A part of a kind that this version doesn't know, exactly as it was read."""

    raw: dict[str, Any]

    @property
    def kind(self) -> str:
        """The kind that its writer gave it."""
        return str(self.raw.get("kind", ""))


Part = Text | Thinking | ToolCall | ToolResult | Blob | FileRef | Data | ProviderBlock | UnknownPart
"""What events and messages are made of, told apart by `kind` or `isinstance`."""
PARTS: dict[str, type[Any]] = {
    cls.kind: cls for cls in (Text, Thinking, ToolCall, ToolResult, Blob, FileRef, Data, ProviderBlock)
}
_PART_TYPES = frozenset([*PARTS.values(), UnknownPart])
UserContent = str | Part | Sequence[Part | str] | None
"""What an agent may be told: text, a part, or a list of them."""


def as_parts(value: Any) -> tuple[Part, ...]:
    """`value` as parts: a string is one `Text`, a part is itself, a list holds parts, strings or their wire form.

    Raises:
        ValueError: Something in it is none of these.
    """
    if type(value) is str:
        return (Text(value),)
    if type(value) is tuple and all(type(item) in _PART_TYPES for item in value):
        return value
    if value is None:
        return ()
    if isinstance(value, Mapping) and "kind" not in value:
        raise ValueError("content must be text or parts: give any other value as Data(value)")
    if isinstance(value, (str, Mapping)) or type(value) in _PART_TYPES:
        value = (value,)
    if not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray)):
        raise ValueError(f"content must be text, a part or a list of parts, not {type(value).__name__}")
    return tuple(_as_part(item) for item in value)


def _as_part(item: Any) -> Part:
    if type(item) in _PART_TYPES:
        return item  # type: ignore[no-any-return]  # the line above is the check
    if isinstance(item, str):
        return Text(item)
    if isinstance(item, Mapping):
        return part_from_wire(item)
    raise ValueError(f"a content part must be Text, ToolCall, Data, ... or a string, not {type(item).__name__}")


def part_to_wire(part: Part) -> dict[str, Any]:
    """The JSON object of a part."""
    if type(part) is UnknownPart:
        return part.raw
    wire = {"kind": part.kind, **to_wire(part)}
    if type(part) is Blob:
        wire["data"] = binascii.b2a_base64(part.data, newline=False).decode("ascii")
    return wire


def part_from_wire(wire: Mapping[str, Any]) -> Part:
    """The part that a JSON object holds; of an unknown kind, an `UnknownPart`.

    Raises:
        ValueError: A known kind lacks a field or has one of the wrong type.
    """
    cls = PARTS.get(wire.get("kind", ""))
    if cls is None:
        return UnknownPart(dict(wire))
    part: Part = from_wire(cls, wire, skip="kind")
    if isinstance(part, Blob) and isinstance(part.data, str):
        part.data = binascii.a2b_base64(part.data, strict_mode=True)
    return part


def _layout(cls: Any) -> list[tuple[str, str, Any, type | None]]:
    """Name, wire name, default and, where it is a plain one, the type of each field; `extra` apart. Worked out once."""
    rows = _LAYOUTS.get(cls)
    if rows is None:
        plain: dict[Any, type] = {kind: kind for kind in (str, bool, int, float)}
        rows = _LAYOUTS[cls] = []
        for f in fields(cls):
            if f.name != "extra":
                default = f.default if f.default_factory is MISSING else f.default_factory()
                rows.append((f.name, camel(f.name), default, plain.get(f.type)))
    return rows


def camel(name: str) -> str:
    """`invocation_id` as ADK writes it on the wire: `invocationId`."""
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


def to_wire(record: Any) -> dict[str, Any]:
    """The JSON object of a record: camelCase names, fields at their default left out, unknown fields put back."""
    wire = {}
    for name, alias, default, _ in _layout(type(record)):
        value = getattr(record, name)
        if value is not default and value != default:
            wire[alias] = value
    if record.extra:
        wire.update(record.extra)
    return wire


def from_wire(cls: type[R], wire: Mapping[str, Any], *, skip: str = "") -> R:
    """The record of type `cls` that a JSON object holds, written by either kind of name; the rest goes to `extra`.

    Raises:
        ValueError: A field is missing or of the wrong type.
    """
    known: dict[str, Any] = {}
    rest = dict(wire)
    rest.pop(skip, None)
    for name, alias, default, plain in _layout(cls):
        if alias in rest:
            value = rest.pop(alias)
        elif name in rest:
            value = rest.pop(name)
        elif default is MISSING:
            raise ValueError(f"{cls.__name__} needs {alias!r}")
        else:
            continue
        if plain is not None and type(value) is not plain and not (plain is float and type(value) is int):
            raise ValueError(f"{cls.__name__}.{alias} must be {plain.__name__}, not {type(value).__name__}")
        known[name] = value
    return cls(**known, extra=rest or None)  # type: ignore[call-arg]  # every record has `extra`


def clean_text(text: str) -> str:
    """`text` with NUL and lone surrogates replaced by U+FFFD, so that every store and every client accepts it."""
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSAFE.sub("\ufffd", text)


def clean_json(value: Any, where: str) -> tuple[Any, int]:
    """A copy of a JSON value that every store accepts (text cleaned, NaN and infinities null), and its rough size.

    The copy means that changing a list later doesn't change what was stored.

    Args:
        value: None, bool, int, float, str, or lists, tuples and string-keyed mappings of them.
        where: What it is, for the error.

    Raises:
        InvalidEvent: It holds something else, or nests deeper than `MAX_DEPTH`.
    """
    return _clean(value, where, 0)


def _clean(value: Any, where: str, depth: int) -> tuple[Any, int]:
    if value is None or value is True or value is False:
        return value, 5
    if isinstance(value, str):
        text = clean_text(str(value))
        return text, len(text) + 2
    if isinstance(value, int):
        return int(value), max(8, value.bit_length() // 3)
    if isinstance(value, float):
        return (float(value) if math.isfinite(value) else None), 18
    if depth >= MAX_DEPTH:
        raise InvalidEvent(f"{where} nests deeper than {MAX_DEPTH} levels")
    size = 2
    if isinstance(value, Mapping):
        clean: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidEvent(f"{where} has the key {key!r}: JSON keys are strings")
            clean[clean_text(key)], weight = _clean(item, where, depth + 1)
            size += weight + len(key) + 3
        return clean, size
    if isinstance(value, (list, tuple)):
        items = []
        for item in value:
            cleaned, weight = _clean(item, where, depth + 1)
            items.append(cleaned)
            size += weight + 1
        return items, size
    raise InvalidEvent(
        f"{where} holds a {type(value).__name__}, which JSON can't: store text, numbers, lists and mappings "
        "(for a pydantic model, its `model_dump(mode='json')`)"
    )


def clean_record(record: R, where: str) -> tuple[R, int]:
    """A copy of a record of which every field is safe for every store and nothing can change later; its rough size.

    Raises:
        InvalidEvent: It holds what JSON can't, or a text field holds something else.
    """
    cleaned: dict[str, Any] = {}
    size = 0
    plain = {name: kind for name, _, _, kind in _layout(type(record))}
    for name in _names(type(record)):
        value = getattr(record, name)
        if plain.get(name) is str and not isinstance(value, str):
            raise InvalidEvent(f"{where}: {type(record).__name__}.{name} must be text, not {type(value).__name__}")
        if plain.get(name) in (int, float) and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise InvalidEvent(f"{where}: {type(record).__name__}.{name} must be a finite number, not {value!r}")
        if isinstance(value, Record):
            value, weight = clean_record(value, where)
        elif isinstance(value, (bytes, bytearray, memoryview)) and isinstance(record, Blob):
            value, weight = bytes(value), len(value) * 4 // 3
        else:
            value, weight = clean_json(value, f"{where}: {type(record).__name__}.{name}")
        cleaned[name] = value
        size += weight
    return type(record)(**cleaned), size
