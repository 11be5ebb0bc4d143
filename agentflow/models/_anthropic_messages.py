"""A talk as Claude's API takes it: valid whatever the history, and converted once.

The API refuses a talk that doesn't begin with the user, a tool call without its result in the very next message, a
result without its call, an id that occurs twice, an empty text. Histories have all of these: runs are cancelled between
call and result, results come late, branches are cut off. So what is sent is put together from what was said.

What one message becomes is kept on it (`Message.form`), as blocks and as JSON, so that a talk of a thousand messages
costs a walk over a list and the joining of strings.
"""

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Literal

from agentflow.content import (
    Blob,
    Data,
    FileRef,
    Part,
    ProviderBlock,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    part_from_wire,
)
from agentflow.models._anthropic_stream import CONTAINER, PROVIDER
from agentflow.models.base import Message

Block = dict[str, Any]
Role = Literal["user", "assistant"]

LOST = "The call was interrupted before it had a result."
GO_ON = "Go on."
BEGIN = "(What came before is left out.)"
_IMAGES = frozenset(("image/jpeg", "image/png", "image/gif", "image/webp"))
_OWN_CALL = ("caller", "toolset_name", "cache_control")
_OWN_RESULT = ("toolset_name", "cache_control")


class Form:
    """What one message becomes; a turn of its own, where its neighbours are of the other role."""

    __slots__ = ("_inner", "_whole", "calls", "container", "content", "results", "role", "served")

    def __init__(self, message: Message) -> None:
        self.role: Role = message.role
        self.content: list[Block] = []
        self.calls: list[str] = []
        self.results: list[Block] = []
        self.served = False  # it has calls or results of the provider's own tools
        self.container: Block | None = None
        self._inner: bytes | None = None
        self._whole: bytes | None = None
        for part in message.parts:
            if type(part) is ToolResult:
                self.results.append(result_block(part))
                continue
            if type(part) is ProviderBlock and part.provider == CONTAINER:
                self.container = part.block
                continue
            block = assistant_block(part) if self.role == "assistant" else user_block(part)
            if block is None:
                continue
            kind = block["type"]
            if kind == "tool_use":
                self.calls.append(block["id"])
            elif kind.endswith(("_tool_use", "_tool_result")):
                self.served = True
            self.content.append(block)

    @property
    def items(self) -> "list[Form | Block]":
        """Itself."""
        return [self]

    def blocks(self) -> list[Block]:
        """Its content; not to be changed."""
        return self.content

    def inner(self) -> bytes:
        """The content as JSON, without the brackets around it."""
        if self._inner is None:
            self._inner = dumps(self.content)[1:-1]
        return self._inner

    def json(self) -> bytes:
        """The message as JSON."""
        if self._whole is None:
            self._whole = b'{"role":"%s","content":[%s]}' % (self.role.encode(), self.inner())
        return self._whole


def dumps(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def form_of(message: Message) -> Form:
    """What a message becomes, worked out once."""
    form = message.form
    if type(form) is not Form:
        form = message.form = Form(message)
    return form


class Turn:
    """One message of what is sent, put together from several, or from what nobody said."""

    __slots__ = ("items", "role")

    def __init__(self, role: Role, items: "list[Form | Block]") -> None:
        self.role: Role = role
        self.items = items

    def blocks(self) -> list[Block]:
        """Its content."""
        content: list[Block] = []
        for item in self.items:
            if type(item) is Form:
                content.extend(item.content)
            else:
                content.append(item)  # type: ignore[arg-type]  # the other of two
        return content

    def json(self) -> bytes:
        """The message as JSON."""
        content = b",".join([item.inner() if type(item) is Form else dumps(item) for item in self.items])
        return b'{"role":"%s","content":[%s]}' % (self.role.encode(), content)


def build_turns(messages: Sequence[Message]) -> list[Form | Turn]:
    """Valid turns, whatever the messages are.

    Results stand right behind their calls, whenever they came; the last one given for a call counts. A call that has
    none gets one that says so; a result of no call is left out. Neighbours of one role become one turn. The user has
    the last word, unless the model is in the middle of using a tool of the provider's own.

    Args:
        messages: Oldest first.
    """
    forms: list[Form] = []
    results: dict[str, Block] = {}
    seen: set[str] = set()
    served = repeated = going_on = False
    for message in messages:
        form = message.form
        if type(form) is not Form:
            form = form_of(message)
        forms.append(form)
        if form.results or form.calls or form.served:
            served = served or form.served
            for block in form.results:
                results[block["tool_use_id"]] = block
            for call in form.calls:
                repeated = repeated or call in seen
                seen.add(call)
    if served:
        forms, going_on = _without_half_served(forms)
    if repeated:
        forms = _with_own_ids(forms)
        results = {block["tool_use_id"]: block for form in forms for block in form.results}
    turns: list[Form | Turn] = []
    role: Role | None = None
    for form in forms:
        if not form.content:
            continue
        if form.role != role:
            if role is None and form.role == "assistant":
                turns.append(_saying(BEGIN))
            role = form.role
            turns.append(form)
        else:
            last = turns[-1]
            if type(last) is Form:
                last = turns[-1] = Turn(role, [last])
            last.items.append(form)
        if form.calls:
            role = "user"
            turns.append(Turn(role, [results.get(call) or _lost(call) for call in form.calls]))
    if not going_on and role != "user":
        turns.append(_saying(GO_ON))
    return turns


def _saying(text: str) -> Turn:
    return Turn("user", [{"type": "text", "text": text}])


def _lost(call: str) -> Block:
    return {"type": "tool_result", "tool_use_id": call, "content": LOST, "is_error": True}


def _with_own_ids(forms: list[Form]) -> list[Form]:
    """Some model gave one id to several calls: number them, and give each result to the latest call before it."""
    taken = {call for form in forms for call in form.calls}
    current: dict[str, str] = {}
    renamed = []
    for form in forms:
        if not form.calls and not form.results:
            renamed.append(form)
            continue
        other = _copy(form)
        other.calls = []
        for place, block in enumerate(other.content):
            if block["type"] == "tool_use":
                call = fresh = block["id"]
                number = 1
                while call in current and fresh in taken:
                    number += 1
                    fresh = f"{call}_{number}"
                taken.add(fresh)
                current[call] = fresh
                other.calls.append(fresh)
                other.content[place] = {**block, "id": fresh}
        for place, block in enumerate(other.results):
            call = block["tool_use_id"]
            other.results[place] = {**block, "tool_use_id": current.get(call, call)}
        renamed.append(other)
    return renamed


def _copy(form: Form) -> Form:
    other = Form.__new__(Form)
    other.role, other.served, other.container = form.role, form.served, form.container
    other._inner = other._whole = None
    other.content, other.calls, other.results = list(form.content), list(form.calls), list(form.results)
    return other


def _without_half_served(forms: list[Form]) -> tuple[list[Form], bool]:
    """Leave out calls of the provider's own tools that have no result, and results without a call.

    Such a call may stand where the model is still at it: at the very end (`pause_turn`), and where it waits for tools
    of ours that it called from its code.

    Returns:
        What is left, and whether it ends in the middle of such a call.
    """
    called: set[str] = set()
    answered: set[str] = set()
    for form in forms:
        if form.served:
            for block in form.content:
                if block["type"].endswith("_tool_use"):
                    called.add(block["id"])
                elif block["type"].endswith("_tool_result"):
                    answered.add(block["tool_use_id"])
    whole = called & answered
    going_on = False
    last = max((place for place, form in enumerate(forms) if form.content), default=-1)
    if last >= 0 and forms[last].role == "assistant":
        pending = [block["id"] for block in forms[last].content if _is_pending(block, answered)]
        if forms[last].calls:  # it waits for them: what it called them from is still running
            callers = {(block.get("caller") or {}).get("tool_id") for block in forms[last].content}
            pending = [call for call in pending if call in callers]
        whole.update(pending)
        going_on = bool(pending) and not forms[last].calls
    kept = []
    for form in forms:
        if form.served and not all(_served_id(block) in whole for block in form.content if _served_id(block)):
            form = _copy(form)
            form.content = [block for block in form.content if not _served_id(block) or _served_id(block) in whole]
        kept.append(form)
    return kept, going_on


def _is_pending(block: Block, answered: set[str]) -> bool:
    if not block["type"].endswith("_tool_use") or block["id"] in answered:
        return False
    return "INVALID_JSON" not in block["input"]  # which was cut off in its arguments


def _served_id(block: Block) -> str | None:
    if block["type"].endswith("_tool_use"):  # `server_tool_use`, `mcp_tool_use`
        return str(block["id"])
    return str(block["tool_use_id"]) if block["type"].endswith("_tool_result") else None


def assistant_block(part: Part) -> Block | None:
    """A part of the model's own words; `None` if it has no place there."""
    kind = type(part)
    if kind is Text:
        return _text(part, own=True)
    if kind is ToolCall:
        return _call(part)
    if kind is Thinking:
        return _thinking(part)
    if kind is ProviderBlock:
        return part.block if part.provider == PROVIDER else None  # type: ignore[union-attr]
    return _note(part)  # a picture that another model made, for instance: this one can't have said it


def user_block(part: Part) -> Block | None:
    """A part of what the model is told; `None` if it has no place there."""
    kind = type(part)
    if kind is Text:
        return _text(part, own=False)
    if kind is Blob:
        return _blob(part)
    if kind is FileRef:
        return _file(part)
    if kind is Data:
        return {"type": "text", "text": _dump_data(part)}
    if kind is ProviderBlock:
        return part.block if part.provider == PROVIDER else None  # type: ignore[union-attr]
    if kind is ToolCall:
        return _note(part)
    return None


def result_block(part: ToolResult) -> Block:
    """What a tool answered. A list of parts (their wire form, or a mapping with `parts`) is content of its own."""
    content = _result_content(part.result)
    block: Block = {"type": "tool_result", "tool_use_id": safe_id(part.id)}
    if not isinstance(content, str) or content.strip():
        block["content"] = content
    if part.is_error:
        block["is_error"] = True
    _keep(part, block, _OWN_RESULT)
    return block


def _result_content(result: Any) -> str | list[Block]:
    if isinstance(result, str):
        return result
    wires = result.get("parts") if isinstance(result, dict) and set(result) == {"parts"} else result
    if isinstance(wires, list) and wires and all(isinstance(wire, dict) and "kind" in wire for wire in wires):
        try:
            blocks = [user_block(part_from_wire(wire)) for wire in wires]
        except ValueError:
            return _json(result)
        return [block for block in blocks if block is not None] or _json(result)
    return _json(result)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _text(part: Any, *, own: bool) -> Block | None:
    if not part.text.strip():
        return None
    block: Block = {"type": "text", "text": part.text}
    _keep(part, block, ("citations",) if own else ("cache_control",))
    return block


def _keep(part: Any, block: Block, names: tuple[str, ...]) -> None:
    """Fields of the provider's that travelled with a part."""
    if part.extra:
        for name in names:
            if part.extra.get(name) is not None:
                block[name] = part.extra[name]


def _call(part: Any) -> Block:
    block: Block = {"type": "tool_use", "id": safe_id(part.id), "name": part.name, "input": part.args}
    _keep(part, block, _OWN_CALL)
    return block


def safe_id(call: str) -> str:
    """An id as the API takes it: other models and people give ids with other characters in them."""
    if call.isascii() and call.replace("-", "_").isidentifier():
        return call
    clean = "".join(char if char.isascii() and (char.isalnum() or char in "_-") else "_" for char in call)
    return clean or "call"


def _thinking(part: Any) -> Block | None:
    if part.extra and part.extra.get("provider", PROVIDER) != PROVIDER:
        return None
    if part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted}
    if part.signature is None:
        return None  # not Claude's, or cut off: the API would refuse it
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _dump_data(part: Any) -> str:
    return f"{part.schema_name}: {_json(part.value)}" if part.schema_name else _json(part.value)


def _blob(part: Any) -> Block:
    if part.mime_type in _IMAGES:
        return {"type": "image", "source": _base64(part)}
    if part.mime_type == "application/pdf":
        return _titled(part, {"type": "document", "source": _base64(part)})
    if part.mime_type.startswith("text/") or part.mime_type == "application/json":
        text = part.data.decode("utf-8", "replace")
        if not text.strip():
            return {"type": "text", "text": f"[{part.name or 'file'}: empty]"}
        return _titled(part, {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}})
    return _note(part)


def _base64(part: Any) -> Block:
    return {"type": "base64", "media_type": part.mime_type, "data": b64encode(part.data).decode("ascii")}


def _titled(part: Any, block: Block) -> Block:
    if part.name:
        block["title"] = part.name
    _keep(part, block, ("citations", "context", "cache_control"))
    return block


def _file(part: Any) -> Block:
    mime, uri = part.mime_type or "", part.uri
    if uri.startswith("file-id:"):  # uploaded to the provider's Files API before
        source = {"type": "file", "file_id": uri.removeprefix("file-id:")}
    elif uri.startswith(("https://", "http://")):
        source = {"type": "url", "url": uri}
    else:
        return _note(part)
    path = uri.partition("?")[0].lower()
    if mime in _IMAGES or (not mime and path.endswith((".png", ".jpg", ".jpeg", ".gif", ".webp"))):
        return {"type": "image", "source": source}
    if mime == "application/pdf" or source["type"] == "file" or (not mime and path.endswith(".pdf")):
        return _titled(part, {"type": "document", "source": source})
    return _note(part)


def _note(part: Any) -> Block:
    """What can't be sent as it is, told in words."""
    kind = type(part)
    if kind is Blob:
        said = f"{part.name or 'a file'}: {part.mime_type}, {len(part.data):,} bytes, which can't be shown"
    elif kind is FileRef:
        said = f"{part.name or 'a file'}: {part.uri}"
    elif kind is Data:
        said = _dump_data(part)
    elif kind is ToolCall:
        said = f"called {part.name} with {_json(part.args)}"
    else:
        said = f"a part of kind {part.kind}, which can't be shown"
    return {"type": "text", "text": f"[{said}]"}
