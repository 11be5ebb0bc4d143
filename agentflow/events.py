"""The event: what agents emit, sessions store and consumers read; and the lifecycle records it may carry."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
)
from pydantic_core import to_json as json_bytes

from agentflow.content import (
    Part,
    Record,
    Text,
    ToolCall,
    ToolResult,
    as_parts,
    camel,
    clean_json,
    clean_record,
    clean_text,
    from_wire,
    part_to_wire,
    to_wire,
)
from agentflow.errors import InvalidEvent

Status = Literal["ok", "error", "timeout", "cancelled", "skipped", "paused"]
"""How an agent's turn ended. `skipped`: it never began. `paused`: it goes on when a question is answered."""


@dataclass(slots=True, eq=False, repr=False)
class Usage(Record):
    """What models charged for. Two of them can be added.

    Attributes:
        input_tokens: All that was read, from a cache and to be cached included.
        output_tokens: All that was written, thoughts included.
        cache_read_tokens: How many of the input came from a cache.
        cache_write_tokens: How many of the input were put into a cache.
        reasoning_tokens: How many of the output were thoughts, where the provider says so.
        model_calls: Calls of a model.
        cost: US dollars; 0 where no price is known.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    model_calls: int = 0
    cost: float = 0.0
    extra: dict[str, Any] | None = field(default=None, kw_only=True, repr=False)

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.model_calls + other.model_calls,
            self.cost + other.cost,
        )


@dataclass(slots=True, eq=False, repr=False)
class ErrorInfo(Record):
    """An error as it is stored.

    Attributes:
        type: Name of the exception's class.
        message: What it said.
        retryable: It may pass: trying again is worth it. Models' errors say so.
    """

    type: str
    message: str
    retryable: bool = False
    extra: dict[str, Any] | None = field(default=None, kw_only=True, repr=False)


@dataclass(slots=True, eq=False, repr=False)
class Actions(Record):
    """What an event does besides being read.

    Attributes:
        state_delta: Keys written, published when the event is committed.
        state_removed: Keys deleted.
        contributions: What a branch adds to keys that its Parallel reduces; folded at the join, not before.
        artifact_delta: File name to the version saved.
        escalate: True ends the nearest enclosing loop, a name the loop of that name.
        transfer_to_agent: Name of the agent that takes over.
        skip_summarization: The tool result is the answer; no model reads it.
    """

    state_delta: dict[str, Any] = field(default_factory=dict)
    state_removed: list[str] = field(default_factory=list)
    contributions: dict[str, Any] = field(default_factory=dict)
    artifact_delta: dict[str, int] = field(default_factory=dict)
    escalate: bool | str = False
    transfer_to_agent: str | None = None
    skip_summarization: bool = False
    extra: dict[str, Any] | None = field(default=None, kw_only=True, repr=False)


@dataclass(slots=True, eq=False, repr=False, frozen=True)
class AgentStart(Record):
    """An agent's turn begins; again, with what went wrong, for each retry. Frozen: events share equal ones.

    `own_branch`: it runs beside others of the same parent, on a branch that joins when it ends. `resumed`: it goes on
    after a pause, in the place where it was. `isolated`: it sees nothing from before its line, only what it is told.
    `waited_ms`: from the failure of the attempt before to this one.
    """

    agent_name: str
    agent_type: str = ""
    attempt: int = 1
    error: ErrorInfo | None = None
    own_branch: bool = False
    resumed: bool = False
    isolated: bool = False
    waited_ms: float = 0.0
    extra: dict[str, Any] | None = field(default=None, kw_only=True, repr=False)
    name: ClassVar[str] = "agent_start"


@dataclass(slots=True, eq=False, repr=False)
class AgentComplete(Record):
    """An agent's turn has ended: exactly one for each that began.

    Attributes:
        execution_time_ms: From its start, retries and waits for the consumer included.
        attempts: How often it was tried.
        reason: Why it was cancelled, where someone said.
        result_summary: The first words of its last text.
    """

    agent_name: str
    outcome: str
    execution_time_ms: float = 0.0
    attempts: int = 1
    result_summary: str = ""
    error: ErrorInfo | None = None
    reason: str = ""
    extra: dict[str, Any] | None = field(default=None, kw_only=True, repr=False)
    name: ClassVar[str] = "agent_complete"


@dataclass(slots=True, eq=False, repr=False)
class LoopIteration(Record):
    """A loop begins an iteration; the first is 1."""

    agent_name: str
    iteration: int
    max_iterations: int | None = None
    extra: dict[str, Any] | None = field(default=None, kw_only=True, repr=False)
    name: ClassVar[str] = "loop_iteration"


@dataclass(slots=True, eq=False, repr=False)
class ScatterStart(Record):
    """A parallel group opens: what its branches work on, and under which limits.

    `alone`: they see nothing of the talk before them, only what each is told.
    """

    agent_name: str
    num_agents: int
    agent_names: list[str]
    task: str = ""
    timeout_per_agent: float | None = None
    max_concurrency: int | None = None
    alone: bool = False
    extra: dict[str, Any] | None = field(default=None, kw_only=True, repr=False)
    name: ClassVar[str] = "scatter_start"


@dataclass(slots=True, eq=False, repr=False, frozen=True)
class AgentParallelStart(AgentStart):
    """A branch begins. `step_id` is its place in the tree, `worker_id` the process that runs it. Frozen too."""

    step_id: str = ""
    worker_id: str = ""
    queue_ms: float = 0.0
    name: ClassVar[str] = "agent_parallel_start"


@dataclass(slots=True, eq=False, repr=False)
class AgentParallelComplete(AgentComplete):
    """A branch has ended; this is its agent's terminal event too."""

    name: ClassVar[str] = "agent_parallel_complete"


EVERY_BRANCH = "*"
"""Stands for all branches of a group in the list of those that are hidden."""


@dataclass(slots=True, eq=False, repr=False)
class GatherComplete(Record):
    """A parallel group has ended, and what it said can be seen by whatever follows it.

    Attributes:
        total_agents: Branches declared: `successful`, `failed` (errors and timeouts), `cancelled` and `skipped` ones.
        total_time_ms: Wall time of the group.
        gathered_results: Names of the branches that succeeded, in declaration order.
        outcomes: Name to outcome, in declaration order.
        hidden: Branches (dotted) that lost a race: their words stay in the log and out of prompts. `*` is all of them:
            who directed them says what came of it.
        reason: Why the group ended early, where it did.
    """

    agent_name: str
    total_agents: int
    successful: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    total_time_ms: float = 0.0
    gathered_results: list[str] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    reason: str = ""
    extra: dict[str, Any] | None = field(default=None, kw_only=True, repr=False)
    name: ClassVar[str] = "gather_complete"


@dataclass(slots=True, eq=False, repr=False)
class SynthesisStart(Record):
    """The gathered results are about to be made one."""

    agent_name: str
    aggregation_strategy: str
    input_results_count: int = 0
    extra: dict[str, Any] | None = field(default=None, kw_only=True, repr=False)
    name: ClassVar[str] = "synthesis_start"


@dataclass(slots=True, eq=False, repr=False)
class SynthesisComplete(Record):
    """The gathered results have been made one.

    Attributes:
        agreement: The share of the answers that agree with the one that was chosen.
        quality: What a metric or a judge of quality gave.
        saved_calls: Branches that were cut short, or never started, because enough was known.
    """

    agent_name: str
    aggregation_strategy: str
    input_results_count: int = 0
    final_result_summary: str = ""
    synthesis_time_ms: float = 0.0
    agreement: float | None = None
    quality: float | None = None
    saved_calls: int = 0
    extra: dict[str, Any] | None = field(default=None, kw_only=True, repr=False)
    name: ClassVar[str] = "synthesis_complete"


@dataclass(slots=True, eq=False, repr=False)
class UnknownLifecycle(Record):
    """A lifecycle record of a name that this version doesn't know, exactly as it was read."""

    raw: dict[str, Any]

    @property
    def name(self) -> str:
        """The name that its writer gave it."""
        return str(self.raw.get("name", ""))


Lifecycle = (
    AgentStart
    | AgentComplete
    | LoopIteration
    | ScatterStart
    | AgentParallelStart
    | AgentParallelComplete
    | GatherComplete
    | SynthesisStart
    | SynthesisComplete
    | UnknownLifecycle
)
plain_start = lru_cache(4096)(AgentStart)
"""`AgentStart` for who has started before: most starts differ in nothing, and each run would make and keep its own."""
plain_parallel_start = lru_cache(4096)(AgentParallelStart)
"""The same for a branch."""
LIFECYCLE: dict[str, type[Any]] = {
    cls.name: cls
    for cls in (
        AgentStart,
        AgentComplete,
        LoopIteration,
        ScatterStart,
        AgentParallelStart,
        AgentParallelComplete,
        GatherComplete,
        SynthesisStart,
        SynthesisComplete,
    )
}
_LIFECYCLE_TYPES = frozenset([*LIFECYCLE.values(), UnknownLifecycle])


def _read_lifecycle(value: Any) -> Any:
    if value is None or type(value) in _LIFECYCLE_TYPES:
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"lifecycle must be a lifecycle record or its JSON object, not {type(value).__name__}")
    cls = LIFECYCLE.get(value.get("name", ""))
    if cls is None:
        return UnknownLifecycle(dict(value))
    error = value.get("error")
    if isinstance(error, Mapping):
        value = {**value, "error": from_wire(ErrorInfo, error)}
    return from_wire(cls, value, skip="name")


def _write_lifecycle(value: Any) -> Any:
    if value is None:
        return None
    if type(value) is UnknownLifecycle:
        return value.raw
    wire = {"name": value.name, **to_wire(value)}
    if "error" in wire:
        wire["error"] = to_wire(wire["error"])
    return wire


def _record(cls: type[Any]) -> Any:
    def read(value: Any) -> Any:
        if value is None or type(value) is cls:
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"must be {cls.__name__} or its JSON object, not {type(value).__name__}")
        return from_wire(cls, value)

    def write(value: Any) -> Any:
        return None if value is None else to_wire(value)

    wire = dict[str, Any] | None
    return PlainValidator(read, json_schema_input_type=wire), PlainSerializer(write, return_type=wire)


_wire = dict[str, Any]
_parts = (
    PlainValidator(as_parts, json_schema_input_type=list[_wire]),
    PlainSerializer(lambda parts: [part_to_wire(part) for part in parts], return_type=list[_wire]),
)
_lifecycle = (
    PlainValidator(_read_lifecycle, json_schema_input_type=_wire | None),
    PlainSerializer(_write_lifecycle, return_type=_wire | None),
)


class Event(BaseModel):
    """One thing that happened in a run. Frozen; what is left out is filled in when an agent emits it.

    Attributes:
        id: Unique in the session; given when it is emitted.
        seq: Place in its branch of its run, from 1, without gaps; given at commit. `None` for partial events.
        serial: Place in its session, from 1, without gaps, in commit order; given at commit. What to order by.
        invocation_id: The run.
        timestamp: Seconds since the epoch, when it was emitted.
        author: Name of the agent, or of whom it speaks for; `"user"` is the user alone.
        branch: Dotted; empty on the root's line.
        path: Dotted path of the agent from the root, for instance `"panel.views.critic"`.
        iteration: Number of the nearest enclosing loop's iteration, from 1.
        parts: The content. A string or a list of strings is taken as text.
        partial: A streamed piece; delivered, never stored. `response_id` ties it to its final event.
        actions: State written, escalation, transfer; `None` when it does nothing but speak.
        finish_reason: Why the model that said it stopped: `stop`, `tool_calls`, `max_tokens` (it was cut off), ...
        lifecycle: Set on events that tell of the run itself; they never enter a prompt.
        long_running_tool_ids: The calls in it whose answer may come in a later message: questions to people among them.

    JSON (`to_json`, `from_json`) has ADK's camelCase names, leaves defaults out, and keeps unknown fields.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=camel,
        populate_by_name=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        defer_build=True,  # a run builds its own events; who validates or writes JSON pays for that, not every import
    )

    id: str = ""
    seq: int | None = None
    serial: int | None = None
    invocation_id: str = ""
    timestamp: float = 0.0
    author: str = ""
    branch: str = ""
    path: str = ""
    iteration: int | None = None
    parts: Annotated[tuple[Part, ...], *_parts] = ()
    partial: bool = False
    response_id: str | None = None
    actions: Annotated[Actions | None, *_record(Actions)] = None
    usage: Annotated[Usage | None, *_record(Usage)] = None
    error: Annotated[ErrorInfo | None, *_record(ErrorInfo)] = None
    finish_reason: str | None = None
    lifecycle: Annotated[Lifecycle | None, *_lifecycle] = None
    long_running_tool_ids: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Its words: all `Text` parts, joined. Empty when it has none."""
        parts = self.parts
        if len(parts) == 1 and type(parts[0]) is Text:
            return parts[0].text
        return "".join(part.text for part in parts if type(part) is Text)

    @property
    def is_final(self) -> bool:
        """Whether it ends what its author has to say for now: no piece, and no tool call or result that others follow.

        What a model said before its provider interrupted it isn't final either. A result that no model reads is, and so
        is a question to people.

        Source: adk-go `session/session.go`, `IsFinalResponse`.
        """
        if self.partial or self.lifecycle is not None or self.finish_reason == "pause":
            return False
        if self.long_running_tool_ids or (self.actions is not None and self.actions.skip_summarization):
            return True
        return not any(type(part) in (ToolCall, ToolResult) for part in self.parts)

    @property
    def segments(self) -> tuple[str, ...]:
        """The branch, split."""
        return tuple(self.branch.split(".")) if self.branch else ()

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Without what is as it is in most events."""
        for name, value in super().__repr_args__():
            if name is None or name not in _blank or value != _blank[name]:
                yield name, value

    def to_json(self) -> str:
        """One line of JSON; `from_json` gives back an equal event."""
        wire = _spoken(self)
        if wire is not None:
            return json_bytes(wire, inf_nan_mode="null").decode()
        return self.model_dump_json(by_alias=True, exclude_defaults=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Event":
        """The event that `to_json`, here or in another version, wrote.

        Raises:
            pydantic.ValidationError: It isn't one.
        """
        return cls.model_validate_json(text)


class _Blank:
    """An event's fields, as what they are by default.

    As the attributes of an object, so that the keys of this dict and of all copies of it are one table: half the memory
    of an event, which the collector has to walk through.
    """

    def __init__(self) -> None:
        for name, info in Event.model_fields.items():
            setattr(self, name, info.default)


_new = object.__new__
_blank: dict[str, Any] = vars(_Blank())
_all_fields = set(Event.model_fields)
# The slots of every pydantic model, written directly: a third of what `model_construct` or validating costs.
_set_fields = BaseModel.__dict__["__dict__"].__set__
_set_names = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__


def event_form(invocation_id: str, author: str, branch: str, path: str, iteration: int | None) -> dict[str, Any]:
    """What all events of one turn have in common, for `build_event`."""
    form = _blank.copy()
    form["invocation_id"] = invocation_id
    form["author"] = author
    form["branch"] = branch
    form["path"] = path
    form["iteration"] = iteration
    return form


def build_event(
    form: dict[str, Any],
    id: str,
    timestamp: float,
    parts: tuple[Part, ...] = (),
    lifecycle: Lifecycle | None = None,
    partial: bool = False,
) -> Event:
    """An event from values known to be right, without validating them again. For this package's own events."""
    fields = form.copy()
    fields["id"] = id
    fields["timestamp"] = timestamp
    if lifecycle is None:
        fields["parts"] = parts
        if partial:
            fields["partial"] = True
    else:
        fields["lifecycle"] = lifecycle
    event = _new(Event)
    _set_fields(event, fields)
    _set_names(event, _all_fields)
    _set_extra(event, None)
    _set_private(event, None)
    return event


def commit_event(event: Event, *, seq: int, serial: int) -> None:
    """Give an event its place in the log; for session stores, in `append`, and nobody else."""
    event.__dict__["seq"] = seq
    event.__dict__["serial"] = serial


def copy_event(event: Event) -> Event:
    """A copy to be stamped, so that what an agent holds doesn't change in its hands."""
    fresh = _new(type(event))
    _set_fields(fresh, event.__dict__.copy())
    _set_names(fresh, event.__pydantic_fields_set__)
    _set_extra(fresh, event.__pydantic_extra__)
    _set_private(fresh, None)
    return fresh


def clean_event(event: Event, where: str) -> int:
    """Make all that `event` holds safe for every store, in place; gives its rough size.

    Raises:
        InvalidEvent: It holds what JSON can't.
    """
    fields = event.__dict__
    size = 0
    try:
        parts = as_parts(fields["parts"])
    except ValueError as error:
        raise InvalidEvent(f"{where}: {error}") from error
    cleaned = []
    for part in parts:
        part, weight = clean_record(part, where)
        cleaned.append(part)
        size += weight
    fields["parts"] = tuple(cleaned)
    for name in ("actions", "usage", "error"):
        if fields[name] is not None:
            fields[name], weight = clean_record(fields[name], where)
            size += weight
    for name in ("id", "author", "response_id"):
        if fields[name] is not None:
            fields[name] = clean_text(str(fields[name]))
            size += len(fields[name])
    if event.__pydantic_extra__:
        extra, weight = clean_json(event.__pydantic_extra__, where)
        _set_extra(event, extra)
        size += weight
    return size


_spoken_fields = ("id", "invocation_id", "timestamp", "author", "branch", "path", "parts")
_spoken_values = itemgetter(*_spoken_fields)
_other_values = itemgetter(*(_blank.keys() - set(_spoken_fields)))
_nothing_else = _other_values(_blank)


def _spoken(event: Event) -> dict[str, Any] | None:
    """The JSON object of an event that says one text and does nothing else, as most do; `None` for all others.

    To write it costs half of what pydantic takes to look at every field.
    """
    fields = event.__dict__
    id, invocation_id, timestamp, author, branch, path, parts = _spoken_values(fields)
    if len(parts) != 1 or type(said := parts[0]) is not Text or said.extra or _other_values(fields) != _nothing_else:
        return None
    if not (id and invocation_id and timestamp and author and path) or type(timestamp) is not float:
        return None
    if event.__pydantic_extra__ or type(event) is not Event:
        return None
    wire = {"id": id, "invocationId": invocation_id, "timestamp": timestamp, "author": author, "branch": branch}
    if not branch:
        del wire["branch"]
    wire["path"] = path
    wire["parts"] = [{"kind": "text", "text": said.text}]
    return wire
