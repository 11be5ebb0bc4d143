"""What Claude streams, put together: deltas to pieces as they come, blocks to parts in the end."""

import json
from typing import Any

from agentflow.content import Part, ProviderBlock, Text, Thinking, ToolCall
from agentflow.errors import ModelError
from agentflow.events import Usage
from agentflow.models._sdk import count_of, mapping_of, text_of
from agentflow.models.base import FinishReason, ModelResponse, Refusal

PROVIDER = "anthropic"
CONTAINER = "anthropic.container"
"""Provider of the part that remembers where code was run; the next request runs its code there too."""

_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "max_tokens",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_window",
    "compaction": "pause",
}
_CUT_OFF = frozenset(("max_tokens", "context_window", "refusal"))


class Answer:
    """One answer as it grows. Feed it each event, then ask for the response.

    Args:
        shown_as: Its response id, where that isn't its own: it goes on with an earlier answer.
    """

    def __init__(self, shown_as: str | None = None) -> None:
        self.response_id = shown_as
        self.model = ""
        self.begun = False
        self.blocks: list[dict[str, Any]] = []
        self.usage: dict[str, Any] = {}
        self.end: dict[str, Any] = {}
        self.finished = False
        self._json: dict[int, list[str]] = {}
        self._text: dict[int, list[str]] = {}

    def feed(self, event: Any) -> ModelResponse | None:
        """Take in the next event; gives the piece that it adds, where it adds one that can be shown.

        Raises:
            ModelError: It makes no sense here.
        """
        try:
            part = self._take(event)
        except Exception as error:
            raise self.broken(f"an event made no sense: {json.dumps(event, default=str)[:200]}") from error
        if part is None:
            return None
        return ModelResponse(parts=(part,), partial=True, response_id=self.response_id, model=self.model)

    def _take(self, event: Any) -> Part | None:
        kind = event["type"]
        if kind == "content_block_delta":
            return self._delta(event["index"], event["delta"])
        if kind == "content_block_start":
            return self._start(event["index"], event["content_block"])
        if kind == "content_block_stop":
            self._stop(event["index"])
        elif kind == "message_delta":
            delta, usage = mapping_of(event["delta"]), mapping_of(event["usage"])
            self.end.update({key: value for key, value in delta.items() if value is not None})
            self.usage.update({key: value for key, value in usage.items() if value is not None})
            if event.get("context_management"):
                self.end["context_management"] = event["context_management"]
            self.finished = "stop_reason" in self.end
        elif kind == "message_start":
            message = mapping_of(event["message"])
            self.usage = dict(mapping_of(message["usage"]))
            self.model = text_of(message["model"])
            self.response_id = self.response_id or text_of(message["id"])
            self.begun = True
        elif kind == "message_stop":
            self.finished = True
        return None

    def broken(self, why: str) -> ModelError:
        """The error for an answer that can't be understood; it knows what was charged so far."""
        return ModelError(
            f"the answer of model {self.model!r} broke off or made no sense: {why}",
            kind="stream",
            provider=PROVIDER,
            model=self.model,
            usage=self.used(),
        )

    def response(self) -> ModelResponse:
        """The whole answer.

        Raises:
            ModelError: The stream ended before it did.
        """
        if not (self.begun and self.finished):
            raise self.broken("the stream ended before the answer did")
        try:
            return self._whole()
        except Exception as error:
            raise self.broken(f"{error!r} in it") from error

    def _whole(self) -> ModelResponse:
        reason = _REASONS.get(self.end.get("stop_reason", ""), "other")
        for index in range(len(self.blocks)):
            self._stop(index)
        parts = [part for block in self.blocks if (part := self._part(block, reason)) is not None]
        if self.end.get("container"):
            parts.append(ProviderBlock(CONTAINER, mapping_of(self.end["container"])))
        stop = self.end.get("stop_details") or {}
        refusal = None
        if reason == "refusal":
            refusal = Refusal(str(stop.get("explanation") or ""), stop.get("category"))
        more = {key: value for key, value in self.end.items() if key not in ("stop_reason", "stop_details")}
        return ModelResponse(
            parts=tuple(parts),
            response_id=self.response_id,
            finish_reason=reason,
            usage=self.used(),
            model=self.model,
            refusal=refusal,
            details=more or None,
        )

    def used(self) -> Usage | None:
        """What was charged so far. Input is all of it: what was read from and written to the cache included."""
        if not self.begun:
            return None
        usage = self.usage
        read, write = count_of(usage.get("cache_read_input_tokens")), count_of(usage.get("cache_creation_input_tokens"))
        details = usage.get("output_tokens_details")
        return Usage(
            count_of(usage.get("input_tokens")) + read + write,
            count_of(usage.get("output_tokens")),
            read,
            write,
            count_of(details.get("thinking_tokens")) if isinstance(details, dict) else 0,
            1,
            extra={"serverToolUse": usage["server_tool_use"]} if usage.get("server_tool_use") else None,
        )

    def _start(self, index: int, block: dict[str, Any]) -> Part | None:
        if index != len(self.blocks):
            raise IndexError(index)
        block = dict(mapping_of(block))
        kind = text_of(block["type"])
        self.blocks.append(block)
        if kind.endswith("tool_use"):
            self._json[index] = []
            return _input_piece(block, "") if kind == "tool_use" else None
        if kind in ("text", "thinking"):
            begun = text_of(block.get(kind) or "")
            self._text[index] = [begun]
            if begun:
                return Text(begun) if kind == "text" else Thinking(begun)
        return None

    def _delta(self, index: int, delta: dict[str, Any]) -> Part | None:
        kind = delta["type"]
        if kind == "text_delta":
            text = text_of(delta["text"])
            self._text[index].append(text)
            return Text(text) if text else None
        if kind == "thinking_delta":
            thought = text_of(delta["thinking"])
            self._text[index].append(thought)
            return Thinking(thought) if thought else None
        block = self.blocks[index]
        if kind == "input_json_delta":
            self._json[index].append(text_of(delta["partial_json"]))
            return _input_piece(block, delta["partial_json"]) if block["type"] == "tool_use" else None
        if kind == "signature_delta":
            block["signature"] = text_of(delta["signature"])
        elif kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
        else:  # of a kind that is newer than this: what it says are fields of the block
            block.update({key: value for key, value in mapping_of(delta).items() if key != "type"})
        return None

    def _stop(self, index: int) -> None:
        block = self.blocks[index]
        if index in self._text:
            block[block["type"]] = "".join(self._text.pop(index))
        elif index in self._json:
            self._read_input(block, "".join(self._json.pop(index)))

    def _read_input(self, block: dict[str, Any], text: str) -> None:
        if not text:
            return
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if isinstance(value, dict):
            block["input"] = value
        else:
            block["input"] = {"INVALID_JSON": text}  # as the provider advises: the tool's own check tells the model

    def _part(self, block: dict[str, Any], reason: FinishReason) -> Part | None:
        kind = block.get("type")
        if kind == "text":
            citations = block.get("citations")
            return (
                Text(text_of(block["text"]), extra={"citations": citations} if citations else None)
                if block["text"]
                else None
            )
        if kind == "thinking":
            signature = block.get("signature")
            return Thinking(text_of(block["thinking"]), signature if isinstance(signature, str) else None)
        if kind == "redacted_thinking":
            return Thinking(redacted=text_of(block["data"]))
        if kind == "tool_use":
            if reason in _CUT_OFF and "INVALID_JSON" in block["input"]:
                return None  # it was cut off in the middle of its arguments: nobody may run that
            more = {key: block[key] for key in ("caller", "toolset_name") if block.get(key) is not None}
            return ToolCall(
                text_of(block["id"]), text_of(block["name"]), mapping_of(block["input"]), extra=more or None
            )
        return ProviderBlock(PROVIDER, block) if kind else None


def _input_piece(block: dict[str, Any], delta: str) -> ToolCall:
    return ToolCall(text_of(block["id"]), text_of(block["name"]), {}, extra={"delta": delta})
