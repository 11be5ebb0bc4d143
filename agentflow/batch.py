"""Many runs of one agent: results as they come, and a journal from which an interrupted batch goes on."""

import json
import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sized
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from io import BufferedRandom
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from agentflow._turn import error_info
from agentflow.content import PARTS, Data, Part, Text, UserContent, as_parts, from_wire, part_to_wire, to_wire
from agentflow.core import Agent
from agentflow.errors import BatchStopped, ConfigError, RunError
from agentflow.events import ErrorInfo, Usage
from agentflow.policies import Limits
from agentflow.runner import Runner

Inputs = Iterable[Any] | AsyncIterable[Any]

_KINDS = tuple(PARTS.values())

_LINE = b'{"index": '
"""What a journal's lines begin with, also one that was cut short."""


@dataclass(frozen=True, slots=True)
class BatchInput:
    """An input with a name, or with state of its own.

    Attributes:
        message: What the agent is told.
        id: What the caller knows it by.
        state: What its session begins with.
    """

    message: Any
    id: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What came of one input.

    Attributes:
        index: Its place among the inputs, from 0.
        id: The input's.
        status: `ok` or `error`.
        output: The last structured value, else the text.
        text: The last words.
        error: What went wrong, as it is stored.
        exception: The same as an exception; not where it was read from a journal.
        seconds: How long it took.
        usage: What models charged for it.
        session_id: Its session.
        resumed: It was done before, and read from the journal.
    """

    index: int
    id: str = ""
    status: Literal["ok", "error"]
    output: Any = None
    text: str = ""
    error: ErrorInfo | None = None
    exception: Exception | None = None
    seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)
    session_id: str = ""
    resumed: bool = False

    @property
    def ok(self) -> bool:
        """Whether it went well."""
        return self.status == "ok"

    def to_json(self, digest: str = "") -> str:
        """One line of JSON, as it stands in a journal; `digest` is that of the input."""
        wire: dict[str, Any] = {"index": self.index, "id": self.id, "status": self.status, "output": self.output}
        if self.text != self.output:
            wire["text"] = self.text
        if self.error is not None:
            wire["error"] = to_wire(self.error)
        wire |= {"seconds": round(self.seconds, 3), "usage": to_wire(self.usage), "session": self.session_id}
        return json.dumps(wire | ({"digest": digest} if digest else {}), ensure_ascii=False, allow_nan=False)


@dataclass(slots=True)
class BatchProgress:
    """How far a batch has come.

    Attributes:
        total: How many inputs there are, where that is known.
        ok: How many went well, those done before included.
        failed: How many didn't.
        resumed: How many of both were done before.
        running: How many are at work.
        seconds: Since the batch began.
        usage: What models charged for, this time.
    """

    total: int | None = None
    ok: int = 0
    failed: int = 0
    resumed: int = 0
    running: int = 0
    seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)

    @property
    def done(self) -> int:
        """How many have ended."""
        return self.ok + self.failed

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take at this pace, where that can be said."""
        fresh = self.done - self.resumed
        if self.total is None or not fresh:
            return None
        return max(0.0, self.seconds / fresh * (self.total - self.done))


def run_batch(
    agent: Agent | Runner,
    inputs: Inputs,
    *,
    max_concurrency: int = 8,
    journal: str | os.PathLike[str] | None = None,
    retry_failed: bool = False,
    max_failures: int | None = None,
    message: Callable[[Any], UserContent] | None = None,
    limits: Limits | None = None,
    user_id: str = "user",
) -> "Batch":
    """Run an agent on each of many inputs, and give each result as it comes.

    ```python
    async with run_batch(grader, essays, journal="grades.jsonl") as batch:
        async for result in batch:
            print(result.index, result.output)
    ```

    Each input has a run and a session of its own. One that fails fails nobody else: its error is in its result. With a
    journal, a batch that was interrupted goes on where it stopped: each result is a line there before it is given,
    and an input that has one isn't run again. Those results are given too, marked `resumed`. A run that asks people
    has failed, since nobody answers in a batch; with a Runner of your own its session can be answered later.

    Args:
        agent: What is run; or an entered Runner, for a store or plugins of your own. Without one, sessions are
            dropped when their run has ended.
        inputs: Text, content parts, `BatchInput`s, or any JSON values, which the agent gets as JSON text and as `Data`.
            An (async) iterator is read as it is needed, so there may be any number.
        max_concurrency: How many runs at the same time.
        journal: A file of JSON lines, made if it isn't there.
        retry_failed: Run inputs again whose result in the journal is an error.
        max_failures: Stop when more than so many have failed, this time.
        message: Makes of an input what the agent is told.
        limits: What each run may spend.
        user_id: Whose sessions they are.

    Raises:
        ConfigError: A setting can't work. On entering, or while it is read: the journal is of other inputs, or no
            journal at all.
        BatchStopped: While it is read: too many have failed.
    """
    if not isinstance(agent, (Agent, Runner)):
        raise ConfigError(f"run_batch needs an agent or a Runner, not {agent!r}")
    if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, (Iterable, AsyncIterable)):
        raise ConfigError(f"run_batch: inputs must be a list or an iterator of them, not {type(inputs).__name__}")
    for what, number, least in (("max_concurrency", max_concurrency, 1), ("max_failures", max_failures, 0)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < least):
            raise ConfigError(f"run_batch: {what} must be a whole number of at least {least}, not {number!r}")
    if retry_failed and journal is None:
        raise ConfigError("run_batch: retry_failed needs a journal")
    return Batch(
        agent, inputs, max_concurrency=max_concurrency, journal=None if journal is None else _Journal(Path(journal)),
        retry_failed=retry_failed, max_failures=max_failures, message=message, limits=limits, user_id=user_id,
    )  # fmt: skip


class Batch:
    """A batch at work: enter it, iterate it, leave it. Made by `run_batch`.

    Leaving the block early cancels what is at work; what is in the journal stays there.
    """

    def __init__(
        self,
        agent: Agent | Runner,
        inputs: Inputs,
        *,
        max_concurrency: int,
        journal: "_Journal | None",
        retry_failed: bool,
        max_failures: int | None,
        message: Callable[[Any], UserContent] | None,
        limits: Limits | None,
        user_id: str,
    ) -> None:
        self._own = isinstance(agent, Agent)
        self._runner = Runner(agent) if isinstance(agent, Agent) else agent
        self._inputs = inputs
        self._workers = max_concurrency
        self._journal = journal
        self._retry_failed = retry_failed
        self._max_failures = max_failures
        self._message = message
        self._limits = limits
        self._user_id = user_id
        self._progress = BatchProgress(total=len(inputs) if isinstance(inputs, Sized) else None)
        self._failures = 0
        self._began = 0.0
        self._stopping = False
        self._error: Exception | None = None
        self._tasks: TaskGroup | None = None
        self._scopes: set[anyio.CancelScope] = set()  # of what is at work: who reads isn't to be cancelled with it
        self._queue: AsyncGenerator[tuple[int, Any]] | None = None
        self._results: MemoryObjectReceiveStream[BatchResult] | None = None

    async def __aenter__(self) -> Self:
        if self._results is not None:
            raise ConfigError("a batch is entered once: call run_batch(...) again for another")
        if self._journal is not None:
            self._journal.open()
        try:
            if self._own:
                await self._runner.__aenter__()
        except BaseException:
            self._close_journal()
            raise
        self._began = anyio.current_time()
        send, self._results = anyio.create_memory_object_stream[BatchResult]()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._queue, lock = _numbered(self._inputs), anyio.Lock()
        for _ in range(self._workers):
            self._tasks.start_soon(self._work, self._queue, lock, send.clone(), name="agentflow batch")
        send.close()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None and self._results is not None and self._queue is not None
        self.cancel()
        self._results.close()
        cancelled = isinstance(error, anyio.get_cancelled_exc_class())
        try:
            await self._tasks.__aexit__(*((kind, error, trace) if cancelled else (None, None, None)))  # noqa: ASYNC102 - all in it is cancelled
        finally:
            try:
                await self._queue.aclose()  # noqa: ASYNC102 - it waits for nothing: it is between two inputs
                if self._own:
                    await self._runner.__aexit__(kind, error, trace)  # noqa: ASYNC102 - bounded
            finally:
                self._close_journal()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BatchResult:
        if self._results is None:
            raise ConfigError("enter the batch first: async with run_batch(...) as batch")
        try:
            return await self._results.receive()
        except anyio.EndOfStream:
            error, self._error = self._error, None
            if error is not None:
                raise error from None
            raise StopAsyncIteration from None

    @property
    def progress(self) -> BatchProgress:
        """How far it has come."""
        if self._results is not None:
            self._progress.seconds = anyio.current_time() - self._began
        return self._progress

    def cancel(self) -> None:
        """Stop: what is at work is cancelled, nothing more is started, and the stream ends."""
        self._stopping = True
        for scope in self._scopes:
            scope.cancel()

    # How it is done

    async def _work(
        self, queue: AsyncGenerator[tuple[int, Any]], lock: anyio.Lock, results: MemoryObjectSendStream[BatchResult]
    ) -> None:
        with results:
            while not self._stopping:
                result: BatchResult | None = None
                with anyio.CancelScope() as scope:
                    self._scopes.add(scope)
                    result = await self._next(queue, lock)
                self._scopes.discard(scope)
                if result is None:
                    return
                with suppress(anyio.BrokenResourceError):
                    await results.send(result)  # also when it was cancelled meanwhile: what is done is given

    async def _next(self, queue: AsyncGenerator[tuple[int, Any]], lock: anyio.Lock) -> BatchResult | None:
        """The result of the next input; `None` if there is none, or the batch can't go on."""
        try:
            async with lock:
                number, value = await anext(queue)
            return await self._result(number, value if isinstance(value, BatchInput) else BatchInput(value))
        except StopAsyncIteration:
            return None
        except Exception as error:  # of the inputs, or of the journal
            self._error = self._error or error
            self._stopping = True
            return None

    async def _result(self, number: int, given: BatchInput) -> BatchResult:
        """The result of an input: from the journal, or of a run."""
        parts = _parts(given.message if self._message is None else self._message(given.message))
        digest = _digest(parts)
        progress, journal = self._progress, self._journal
        known = journal.take(number, digest) if journal is not None else None
        if known is not None and (known.ok or not self._retry_failed):
            progress.resumed += 1
            progress.ok += known.ok
            progress.failed += not known.ok
            return known
        progress.running += 1
        try:
            result = await self._run(number, given, parts)
        finally:
            progress.running -= 1
        if journal is not None:
            journal.add(result.to_json(digest))
        progress.ok += result.ok
        progress.failed += not result.ok
        progress.usage = progress.usage + result.usage
        if not result.ok:
            self._failures += 1
            if self._max_failures is not None and self._failures > self._max_failures:
                self._stopping = True
                self._error = BatchStopped(
                    f"{self._failures} inputs have failed (max_failures={self._max_failures}); the last is number "
                    f"{number}: {type(result.exception).__name__}: {result.exception}",
                    failures=self._failures,
                )
        return result

    async def _run(self, number: int, given: BatchInput, parts: tuple[Part, ...]) -> BatchResult:
        runner, began = self._runner, anyio.current_time()
        exception: Exception | None = None
        run = runner.run(parts, user_id=self._user_id, state=given.state, limits=self._limits)
        try:
            async with run:
                await run.wait()
        except Exception as error:
            exception = error
        if exception is None and run.status == "cancelled":  # by a plugin, or by who has the Runner
            exception = RunError(f"the run was cancelled: {run.result.reason}", invocation_id=run.id)
        elif exception is None and run.status == "paused":
            asked = "; ".join(question.message for question in run.result.pending)
            exception = RunError(f"it waits for people, and nobody answers in a batch: {asked}", invocation_id=run.id)
        if run.status == "pending":  # it never began: the batch itself can't go on
            assert exception is not None
            raise exception
        came = run.result
        if self._own:
            await runner.sessions.delete(run.session)
        return BatchResult(
            index=number, id=given.id, status="error" if exception else "ok", output=came.output, text=came.text,
            error=error_info(exception) if exception else None, exception=exception, usage=came.usage,
            seconds=anyio.current_time() - began, session_id=run.session.session_id,
        )  # fmt: skip

    def _close_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()


class _Journal:
    """Results as JSON lines, appended one by one; a line that was cut short by a crash is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BufferedRandom | None = None
        self._known: dict[int, tuple[str, BatchResult]] = {}

    def open(self) -> None:
        """Read what is there, and be ready to write.

        Raises:
            ConfigError: It is no journal, can't be written, or another batch writes it.
        """
        try:
            self._file = file = self.path.open("a+b")
        except OSError as error:
            raise ConfigError(f"the journal {str(self.path)!r} can't be opened: {error.strerror}") from error
        try:
            self._lock(file)
            file.seek(0)
            whole = 0
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    if line[: len(_LINE)] != _LINE[: len(line)]:
                        raise self._foreign(number)
                    break
                whole += len(line)
                if line.strip():
                    self._read(number, line)
            file.truncate(whole)
            file.seek(0, os.SEEK_END)
        except BaseException:
            self.close()
            raise

    def _lock(self, file: BufferedRandom) -> None:
        with suppress(ImportError):  # not on Windows
            fcntl = import_module("fcntl")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"another batch is writing the journal {str(self.path)!r}") from None

    def _read(self, number: int, line: bytes) -> None:
        try:
            wire = json.loads(line)
            error = wire.get("error")
            result = BatchResult(
                index=wire["index"], id=wire["id"], status=wire["status"], output=wire["output"],
                text=wire.get("text", wire["output"]), error=from_wire(ErrorInfo, error) if error else None,
                seconds=wire["seconds"], usage=from_wire(Usage, wire["usage"]), session_id=wire["session"],
                resumed=True,
            )  # fmt: skip
            self._known[result.index] = (wire["digest"], result)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise self._foreign(number) from problem

    def _foreign(self, number: int) -> ConfigError:
        return ConfigError(f"{str(self.path)!r} is no journal of a batch: line {number} is not one of its results")

    def take(self, number: int, digest: str) -> BatchResult | None:
        """The result of an input, if it is there.

        Raises:
            ConfigError: It is that of another input.
        """
        known = self._known.pop(number, None)
        if known is None:
            return None
        if known[0] != digest:
            raise ConfigError(
                f"the journal {str(self.path)!r} is of other inputs: number {number} has changed since. "
                "Take another file, or the inputs that it was begun with"
            )
        return known[1]

    def add(self, line: str) -> None:
        """Append a result; when this returns, it outlives the process."""
        assert self._file is not None
        self._file.write(line.encode("utf-8", "replace") + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


async def _numbered(inputs: Inputs) -> AsyncGenerator[tuple[int, Any]]:
    number = 0
    if isinstance(inputs, AsyncIterable):
        async for value in inputs:
            yield number, value
            number += 1
        return
    for value in inputs:
        yield number, value
        number += 1


def _parts(value: Any) -> tuple[Part, ...]:
    """An input as what an agent is told: text and parts as they are, any other value as JSON to read and to take.

    Raises:
        ConfigError: JSON can't hold it.
    """
    if isinstance(value, (str, _KINDS)):
        return as_parts(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, _KINDS) for part in value):
        return as_parts(value)
    try:
        return (Text(json.dumps(value, ensure_ascii=False, allow_nan=False)), Data(value))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"an input must be text, content or JSON: {error}") from error


def _digest(parts: tuple[Part, ...]) -> str:
    wire = json.dumps([part_to_wire(part) for part in parts], ensure_ascii=True, sort_keys=True, default=str)
    return sha256(wire.encode()).hexdigest()[:16]
