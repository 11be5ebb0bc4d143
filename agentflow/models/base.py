"""What a model is asked and what it answers, whoever the provider is."""

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from random import Random
from types import TracebackType
from typing import Any, Literal, Self, get_args

import anyio
from anyio.lowlevel import RunVar
from opentelemetry.trace import Span

from agentflow._settings import check_flags, check_kind, check_names, check_whole
from agentflow.content import Blob, Part, Record, Text, ToolCall, part_to_wire
from agentflow.errors import ConfigError
from agentflow.events import Usage
from agentflow.models._calls import call_model
from agentflow.models.limiter import ConcurrencyLimiter
from agentflow.models.prices import Price
from agentflow.policies import Retry, seconds
from agentflow.tracing import Tracing

FinishReason = Literal[
    "stop", "tool_calls", "max_tokens", "stop_sequence", "pause", "refusal", "context_window", "other"
]
"""Why a model stopped. `pause`: it was interrupted in a long turn and goes on when it is asked again."""

Effort = Literal["low", "medium", "high", "xhigh", "max"]
ALLOWED = "AGENTFLOW_ALLOW_MODEL_REQUESTS"
"""The environment variable that, set to `0`, forbids requests to real providers; see `agentflow.testing`."""


@dataclass(slots=True, eq=False, repr=False)
class Message(Record):
    """One turn of the talk that a model reads.

    Never change one after it was sent once: adapters keep its provider form in `form`, so that a talk of a thousand
    messages isn't converted a thousand times. Keep the message and pass it again, and only what is new costs anything.
    """

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]
    form: Any = field(default=None, kw_only=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self.role == other.role and self.parts == other.parts

    __hash__ = None  # it holds lists and mappings

    def __repr__(self) -> str:
        return f"Message({self.role!r}, {self.parts!r})"

    @property
    def text(self) -> str:
        """Its words."""
        return "".join(part.text for part in self.parts if type(part) is Text)


@dataclass(slots=True, eq=False, repr=False)
class ToolSpec(Record):
    """A tool as a model sees it.

    Attributes:
        name: What the model calls it by.
        description: What it does.
        parameters: JSON schema of its arguments, an object.
        strict: The provider guarantees that arguments fit the schema, where it can.
        extra: More, by the provider's names: `defer_loading`, `input_examples`, ...
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool = False
    extra: dict[str, Any] | None = field(default=None, kw_only=True)


@dataclass(slots=True, eq=False, repr=False)
class ServerTool(Record):
    """A tool that the provider itself has and runs, declared in its own words.

    ServerTool({"type": "web_search_20260318", "name": "web_search", "max_uses": 3})
    """

    block: dict[str, Any]
    provider: str = "anthropic"


@dataclass(slots=True, eq=False, repr=False)
class OutputSchema(Record):
    """The answer is to be JSON that fits a schema, by the provider's own means.

    Attributes:
        schema: JSON Schema.
        name: What the provider calls the answer, where it wants a name.
        strict: The provider guarantees that the answer fits, where it can.
    """

    schema: dict[str, Any]
    name: str = "answer"
    strict: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """How a model is to generate. `None` leaves it to the model; what one provider lacks is ignored there.

    Attributes:
        max_tokens: The most tokens that an answer may have.
        temperature: How freely it chooses.
        top_p: Nucleus sampling.
        stop: Texts at which it stops.
        seed: For models that can repeat themselves.
        effort: How much work it puts into an answer.
        thinking: `True` lets it think as much as it sees fit, a number is a budget of tokens, `False` is none.
        show_thinking: Whether the thoughts are sent as readable text, or only sealed.
        parallel_tool_calls: Whether one answer may hold several tool calls.
        strict_tools: The provider guarantees that arguments fit their schema, for all tools.
        cache: Let the provider cache what begins the prompt: `True`, or for how long. On where `None`.
        timeout: Seconds without a word from the provider, after which a call is given up.
        extra: More, by the provider's own names, put into its request as it is.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    effort: Effort | None = None
    thinking: bool | int | None = None
    show_thinking: bool | None = None
    parallel_tool_calls: bool | None = None
    strict_tools: bool | None = None
    cache: bool | Literal["5m", "1h"] | None = None
    timeout: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("max_tokens", 1), ("thinking", 1), ("temperature", 0), ("top_p", 0)):
            value = getattr(self, name)
            if value is None or (name == "thinking" and isinstance(value, bool)):
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
                raise ConfigError(f"ModelSettings({name}=...) must be a number of at least {least}, not {value!r}")
        if self.effort is not None and self.effort not in get_args(Effort):
            raise ConfigError(f"ModelSettings(effort=...) must be one of {get_args(Effort)}, not {self.effort!r}")
        if self.cache not in (None, True, False, "5m", "1h"):
            raise ConfigError(f"ModelSettings(cache=...) must be a bool, '5m' or '1h', not {self.cache!r}")
        for name in ("show_thinking", "parallel_tool_calls", "strict_tools"):
            if (value := getattr(self, name)) is not None:
                check_flags("ModelSettings", **{name: value})
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, int)):
            raise ConfigError(f"ModelSettings(seed=...) must be a whole number, not {self.seed!r}")
        if not isinstance(self.extra, Mapping):
            raise ConfigError(f"ModelSettings(extra=...) must be values by their names, not {self.extra!r}")
        object.__setattr__(self, "timeout", seconds(self.timeout, "ModelSettings: timeout"))
        object.__setattr__(self, "stop", check_names("ModelSettings", "stop", self.stop, lone=True))

    def over(self, base: "ModelSettings") -> "ModelSettings":
        """These where they say something, else those of `base`."""
        changes = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) not in (None, (), {})}
        if self.extra and base.extra:
            changes["extra"] = {**base.extra, **self.extra}
        return replace(base, **changes) if changes else base


@dataclass(slots=True, eq=False, repr=False, kw_only=True)
class CallSite:
    """Who asks: what spans, errors and waits of a call are tied to. Not part of what the model reads.

    Attributes:
        agent: The agent's name.
        path: Its place in the tree.
        branch: Its branch.
        invocation_id: The run.
        session_id: The session.
        tracing: The Runner's instruments, where somebody traces.
        span: The agent's span.
        rng: Gives the run's randomness, for the jitter of retries.
        lost: What a call was charged that was broken off from outside, by a cancellation or by who read its pieces: no
            answer and no `ModelError` tells of it. Models add to it, with `lose`.
    """

    agent: str = ""
    path: str = ""
    branch: str = ""
    invocation_id: str = ""
    session_id: str = ""
    tracing: Tracing | None = None
    span: Span | None = None
    rng: Callable[[], Random] | None = None
    lost: Usage | None = None

    def lose(self, usage: Usage | None) -> None:
        """The call that is broken off had been charged this."""
        if usage is not None:
            self.lost = usage if self.lost is None else self.lost + usage


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class ModelRequest(Record):
    """One call of a model: plugins may change it before it is sent.

    Attributes:
        messages: Oldest first. Roles may repeat and tool calls may lack results: adapters make it valid.
        model: The model's name; empty for the one of the `Model` that is asked.
        system: Instructions.
        tools: What it may call.
        tool_choice: `"auto"`, `"any"` (it must call one), `"none"`, or the name of the one that it must call.
        output_schema: What the answer must look like.
        settings: How to generate.
        site: Who asks.
    """

    messages: list[Message]
    model: str = ""
    system: str = ""
    tools: list[ToolSpec | ServerTool] = field(default_factory=list)
    tool_choice: str | None = None
    output_schema: OutputSchema | None = None
    settings: ModelSettings = field(default_factory=ModelSettings)
    site: CallSite | None = None


@dataclass(slots=True, eq=False, repr=False)
class Refusal(Record):
    """Why a model wouldn't answer, as far as it says.

    Attributes:
        explanation: In words; empty if it said nothing.
        category: The provider's name for the reason.
    """

    explanation: str = ""
    category: str | None = None


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class ModelResponse(Record):
    """What a model answered, or a streamed piece of it (`partial`).

    Attributes:
        parts: In the order in which they came; of a piece, only what is new. Input of a tool call is streamed as a
            `ToolCall` whose `extra["delta"]` is a piece of JSON.
        partial: It is a piece.
        response_id: The provider's id of the answer; its pieces have it too.
        finish_reason: Why it stopped; `None` in a piece.
        usage: What it cost. `usage.extra` says how often it was tried and how long it waited, where it did.
        model: The model that answered, as the provider names it.
        refusal: Set when it wouldn't answer.
        details: What else the provider said of the end, by its own names.
    """

    parts: Sequence[Part]
    partial: bool = False
    response_id: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    model: str = ""
    refusal: Refusal | None = None
    details: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """Its words."""
        return "".join(part.text for part in self.parts if type(part) is Text)

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tools that it wants called."""
        return [part for part in self.parts if type(part) is ToolCall]


OnChunk = Callable[[ModelResponse], Awaitable[None]]
"""Is given each streamed piece of an answer, and holds the model up until it returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a model can do.

    Attributes:
        tools: It can call tools.
        parallel_tool_calls: Several in one answer.
        output_schema: It can be held to a schema by its own means.
        output_schema_with_tools: Also while it has tools.
        thinking: It can think before it speaks.
        images: It reads images.
        documents: It reads PDF files.
        max_input_tokens: Size of its context window, where known.
        max_output_tokens: The most it can answer, where known.
    """

    tools: bool = True
    parallel_tool_calls: bool = True
    output_schema: bool = True
    output_schema_with_tools: bool = True
    thinking: bool = False
    images: bool = False
    documents: bool = False
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.name.startswith("max_"):
                if value is not None:
                    check_whole("Capabilities", **{setting.name: value})
            else:
                check_flags("Capabilities", **{setting.name: value})


def check_model(
    model: object, settings: object, retry: object, limiter: object, price: object, capabilities: object
) -> None:
    """Check what a model is made with; each may be `None`.

    Raises:
        ConfigError: One is of the wrong kind.
    """
    owner = type(model).__name__
    check_kind(owner, ModelSettings, settings=settings)
    check_kind(owner, Retry, retry=retry)
    check_kind(owner, ConcurrencyLimiter, limiter=limiter)
    check_kind(owner, Price, price=price)
    check_kind(owner, Capabilities, capabilities=capabilities)


class Model(ABC):
    """Someone who can be asked. Implement `generate`; agents use `call`.

    A model object may serve any number of agents, runs and event loops at once. What it holds open is opened when it is
    first needed, once per event loop, and closed when the last who entered it (`async with model:`) leaves; a Runner
    does that for the models of its tree.

    Attributes:
        name: The model's name, as its provider spells it.
        provider: Whose it is, by OpenTelemetry's names: `anthropic`, `openai`, ...
        capabilities: What it can do.
        retry: How often to ask again when it fails in a way that may pass, as long as nothing of an answer was shown.
        limiter: How many of its calls may be on their way at once.
        price: What it costs, where `genai-prices` doesn't know or is wrong.
    """

    name: str
    provider: str = ""
    capabilities: Capabilities = Capabilities()
    retry: Retry | None = Retry(jitter=0.5)
    limiter: ConcurrencyLimiter | None = None
    price: Price | None = None

    @abstractmethod
    async def generate(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        """Answer. Pieces are pushed to `on_chunk`, where there is one, before the whole is returned.

        Raises:
            ModelError: It couldn't.
        """

    async def call(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        """`generate` as agents call it: retried, in its turn, under a `chat` span, with its cost.

        A failure that may pass is retried as long as no piece of the answer was shown; a `retry-after` is obeyed, up to
        the `max_delay` of `retry`.

        Raises:
            ModelError: It couldn't answer; it names the agent.
        """
        response: ModelResponse = await call_model(self, request, on_chunk)
        return response

    async def count_tokens(self, request: ModelRequest) -> int:
        """How many tokens the request has; a rough estimate where the provider can't be asked."""
        return estimate_tokens(request)

    async def aclose(self) -> None:  # noqa: B027 - most have nothing open
        """Let go of what this event loop holds open. It is opened again when it is needed."""

    async def __aenter__(self) -> Self:
        holders = _holders()
        holders[self] = holders.get(self, 0) + 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        holders = _holders()
        holders[self] -= 1
        if not holders[self]:
            del holders[self]
            with anyio.CancelScope(shield=True):
                await self.aclose()  # noqa: ASYNC102 - closing sockets doesn't wait for anyone

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


_held: "RunVar[dict[Model, int]]" = RunVar("agentflow models in use")  # a value for each event loop: belongs to none


def _holders() -> dict[Model, int]:
    holders = _held.get(None)
    if holders is None:
        holders = {}
        _held.set(holders)
    return holders


def estimate_tokens(request: ModelRequest) -> int:
    """Roughly how many tokens a request has, without asking anyone: a token is about four characters of English."""
    size = len(request.system) + sum(len(str(tool)) for tool in request.tools)
    return size // 4 + sum(4 + sum(map(_weight, message.parts)) for message in request.messages)


def _weight(part: Part) -> int:
    if type(part) is Text:
        return len(part.text) // 4
    if type(part) is Blob:
        return 1600  # about what a full-sized image or a page of a document costs
    return len(str(part_to_wire(part))) // 4


def check_allowed(what: str, host: str) -> None:
    """Refuse to talk to a real provider where that is forbidden; this machine and reserved names are none.

    Raises:
        ConfigError: Real requests are forbidden: `AGENTFLOW_ALLOW_MODEL_REQUESTS` is `0`.
    """
    if os.environ.get(ALLOWED, "1").strip().lower() not in ("0", "false", "no", "off"):
        return
    if host == "localhost" or host.startswith("127.") or host == "::1" or host.endswith((".invalid", ".test")):
        return
    raise ConfigError(
        f"{what} would ask {host}, and real model requests are forbidden here ({ALLOWED}=0): "
        "use a model of agentflow.testing, or allow it"
    )
