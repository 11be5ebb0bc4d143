"""Every error agentflow raises on purpose, in one tree.

    AgentflowError
    ├── ConfigError            the program is wrong: fix the code
    │   └── ContextEnded       a context was used after its agent's turn
    ├── InvalidEvent           an agent emitted what is no event, or one that can't be stored
    ├── SessionError           the session can't take this run or this write
    │   ├── SessionNotFound
    │   ├── SessionExists
    │   ├── SessionBusy        another run holds it
    │   ├── StaleSession       someone else wrote first
    │   └── AnswerRefused      an answer to what nobody asked, or waits for
    ├── RunNotFound            nothing to attach to
    ├── InvalidCursor          a client asks to go on from where nobody can have been
    ├── InvalidArchive         exported sessions are damaged, or something else: `.line`
    ├── ToolError              a tool failed, and says so in words for the model
    │   ├── InvalidArguments   it was called with what doesn't fit
    │   └── NotConfirmed       somebody said no to the call
    ├── BatchStopped           too many runs of a batch have failed
    ├── RunError               this run failed: `.agent`, `.branch`, `.invocation_id`
    │   ├── AgentTimeout       also a `TimeoutError`
    │   ├── ModelError         a model didn't answer: `.kind`, `.retryable`, `.retry_after`, `.status`
    │   ├── LimitExceeded      a budget ran out: `.limit`, `.spent`
    │   ├── StateConflict      two branches wrote one key: `.key`, `.branches`
    │   ├── TooFewAnswers      too few branches of a pattern went well: `.causes`
    │   ├── NoDecision         the answers don't decide it: a tie, a quorum that was missed: `.candidates`
    │   ├── InstructionError   a template names what isn't there: `.key`
    │   ├── InvalidAnswer      an answer that doesn't fit its schema, or that a pattern can't use
    │   ├── ToolTimeout        a tool was still at work when its time was up: `.tool`, `.seconds`
    │   └── PluginError        a hook failed: `.plugin`, `.hook`
    └── ServiceError           storage failed; nothing was written
        └── CommitUnknown      storage didn't answer in time: written or not, nobody knows

Cancellation is not here: it is the backend's own and always passes through. What an agent's own code raises stays what
it is; a note on it (`__notes__`) names the agent, the branch and the run.
"""

from collections.abc import Mapping
from typing import Any, Literal


class AgentflowError(Exception):
    """Base of every error that agentflow raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only constructors don't survive the default pickling, and durable runs carry errors between processes.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[AgentflowError], args: tuple[Any, ...], fields: dict[str, Any]) -> AgentflowError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class ConfigError(AgentflowError):
    """The program is wrong: a name, a tree or a setting that can't work. Nothing has run."""


class ContextEnded(ConfigError):
    """A context was used after the turn of its agent had ended."""


class InvalidEvent(AgentflowError):
    """An agent emitted something that is no `Event`, or an event that no store can take. It was not stored."""


class SessionError(AgentflowError):
    """The session can't take this run or this write. Nothing was stored."""


class SessionNotFound(SessionError):
    """There is no such session."""


class SessionExists(SessionError):
    """A session with this id is there already."""


class SessionBusy(SessionError):
    """Another run holds the session, and waiting was not wanted or would never end."""


class StaleSession(SessionError):
    """The session has moved on since it was read: read it again, then write.

    Attributes:
        expected: The version that the writer had read.
        actual: The version that the session has.
    """

    def __init__(self, message: str, *, expected: int, actual: int) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class AnswerRefused(SessionError):
    """An answer to a question that was never asked, is answered already or no longer waits; or one that doesn't fit."""


class RunNotFound(AgentflowError):
    """The Runner knows no run of this id."""


class InvalidCursor(AgentflowError):
    """What a client sent as its position in a run is none."""


class InvalidArchive(AgentflowError):
    """Exported sessions are damaged, cut short, of a newer version, or something else altogether.

    Attributes:
        line: Which line, from 1.
    """

    def __init__(self, message: str, *, line: int) -> None:
        super().__init__(message)
        self.line = line


class ToolError(AgentflowError):
    """A tool failed. Raise it in yours: the model reads the message as it is, without a type in front of it."""


class InvalidArguments(ToolError, ValueError):
    """A model called a tool with arguments that don't fit its schema. The model is told, and may try again."""


class NotConfirmed(ToolError):
    """Somebody was asked whether a tool call may run, and said no. The model is told."""


class BatchStopped(AgentflowError):
    """More runs of a batch have failed than it takes. What was done is in its journal.

    Attributes:
        failures: How many.
    """

    def __init__(self, message: str, *, failures: int) -> None:
        super().__init__(message)
        self.failures = failures


class RunError(AgentflowError):
    """One run failed.

    Attributes:
        agent: Path of the agent that failed, for instance `"team.critic"`; empty for the run itself.
        branch: Its branch, dotted; empty for the root's line.
        invocation_id: Id of the run.
    """

    def __init__(self, message: str, *, agent: str = "", branch: str = "", invocation_id: str = "") -> None:
        super().__init__(message)
        self.agent = agent
        self.branch = branch
        self.invocation_id = invocation_id


class AgentTimeout(RunError, TimeoutError):
    """An agent or a branch was still at work when its time was up.

    Attributes:
        seconds: The time it had.
    """

    def __init__(
        self, message: str, *, seconds: float, agent: str = "", branch: str = "", invocation_id: str = ""
    ) -> None:
        super().__init__(message, agent=agent, branch=branch, invocation_id=invocation_id)
        self.seconds = seconds


ModelErrorKind = Literal[
    "rate_limit",
    "overloaded",
    "server",
    "timeout",
    "connection",
    "stream",
    "auth",
    "permission",
    "billing",
    "not_found",
    "bad_request",
    "too_large",
    "context_window",
    "refusal",
    "unknown",
]
"""What went wrong with a model call, in the words of no provider. `stream`: the answer broke off or made no sense."""

_RETRYABLE = frozenset(("rate_limit", "overloaded", "server", "timeout", "connection", "stream"))


class ModelError(RunError):
    """A model didn't answer, or not as it should have.

    Attributes:
        kind: What went wrong.
        retryable: Whether asking again may help.
        retry_after: Seconds that the provider asks to wait, where it said so.
        status: The HTTP status, where there was one.
        provider: Whose model it is, for instance `"anthropic"`.
        model: Its name.
        request_id: The provider's id of the call, for its support.
        shown: Whether pieces of the answer had been streamed already.
        usage: What the failed call cost, as far as the provider had said: a `Usage`, or `None`.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ModelErrorKind = "unknown",
        retryable: bool | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        provider: str = "",
        model: str = "",
        request_id: str | None = None,
        shown: bool = False,
        usage: Any = None,
        agent: str = "",
        branch: str = "",
        invocation_id: str = "",
    ) -> None:
        super().__init__(message, agent=agent, branch=branch, invocation_id=invocation_id)
        self.kind: ModelErrorKind = kind
        self.retryable = kind in _RETRYABLE if retryable is None else retryable
        self.retry_after = retry_after
        self.status = status
        self.provider = provider
        self.model = model
        self.request_id = request_id
        self.shown = shown
        self.usage = usage


class LimitExceeded(RunError):
    """A run's budget ran out.

    Attributes:
        limit: Which one: a field name of `Limits`, or what a pattern calls its own.
        spent: What the run had spent by then, by the same names.
    """

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        spent: Mapping[str, float],
        agent: str = "",
        branch: str = "",
        invocation_id: str = "",
    ) -> None:
        super().__init__(message, agent=agent, branch=branch, invocation_id=invocation_id)
        self.limit = limit
        self.spent = dict(spent)


class StateConflict(RunError):
    """Two branches of one Parallel wrote the same key and its `on_conflict` is `"error"`.

    The second write is dropped, with the event that it was in; others that were pending still are.

    Attributes:
        key: The state key.
        branches: Both branches, the first writer's first.
    """

    def __init__(
        self,
        message: str,
        *,
        key: str,
        branches: tuple[str, str],
        agent: str = "",
        branch: str = "",
        invocation_id: str = "",
    ) -> None:
        super().__init__(message, agent=agent, branch=branch, invocation_id=invocation_id)
        self.key = key
        self.branches = branches


class TooFewAnswers(RunError):
    """Fewer branches of a pattern went well than it needs; none at all, perhaps.

    Attributes:
        successes: How many went well.
        needed: How many it needs.
        causes: What the others raised, in order of declaration.
    """

    def __init__(
        self,
        message: str,
        *,
        successes: int,
        needed: int,
        causes: tuple[BaseException, ...] = (),
        agent: str = "",
        branch: str = "",
        invocation_id: str = "",
    ) -> None:
        super().__init__(message, agent=agent, branch=branch, invocation_id=invocation_id)
        self.successes = successes
        self.needed = needed
        self.causes = causes


class NoDecision(RunError):
    """The answers don't decide it: they tie and nothing breaks the tie, or none of them reached the quorum.

    Attributes:
        candidates: The answers that were ahead, in order of declaration.
    """

    def __init__(
        self,
        message: str,
        *,
        candidates: tuple[Any, ...] = (),
        agent: str = "",
        branch: str = "",
        invocation_id: str = "",
    ) -> None:
        super().__init__(message, agent=agent, branch=branch, invocation_id=invocation_id)
        self.candidates = candidates


class InstructionError(RunError):
    """An instruction's template names a state key or an artifact that isn't there.

    Attributes:
        key: The name that it asks for.
    """

    def __init__(self, message: str, *, key: str, agent: str = "", branch: str = "", invocation_id: str = "") -> None:
        super().__init__(message, agent=agent, branch=branch, invocation_id=invocation_id)
        self.key = key


class InvalidAnswer(RunError):
    """An answer can't be used: it doesn't fit its `output_schema`, is text to a mean, is a verdict on nobody."""


class ToolTimeout(RunError, TimeoutError):
    """A tool was still at work when its time was up. The model is told, unless the tool's `on_error` is `"raise"`.

    Attributes:
        tool: Name of the tool.
        seconds: The time it had.
    """

    def __init__(
        self, message: str, *, tool: str, seconds: float, agent: str = "", branch: str = "", invocation_id: str = ""
    ) -> None:
        super().__init__(message, agent=agent, branch=branch, invocation_id=invocation_id)
        self.tool = tool
        self.seconds = seconds


class PluginError(RunError):
    """A plugin's hook failed; `__cause__` is what it raised.

    Attributes:
        plugin: Name of the plugin.
        hook: Name of its method.
    """

    def __init__(
        self, message: str, *, plugin: str, hook: str, agent: str = "", branch: str = "", invocation_id: str = ""
    ) -> None:
        super().__init__(message, agent=agent, branch=branch, invocation_id=invocation_id)
        self.plugin = plugin
        self.hook = hook


class ServiceError(AgentflowError):
    """A service (sessions, artifacts, memory) failed; nothing was written."""


class CommitUnknown(ServiceError):
    """Storage did not answer in time: the write may or may not have happened. Never retried blindly."""
