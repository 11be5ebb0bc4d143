"""What reaches a turn, and what it reaches: a message, people, artifacts, memory, what it was before a pause."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from agentflow._turn import Turn
from agentflow.content import UserContent, as_parts
from agentflow.errors import ConfigError
from agentflow.events import Actions, Event, build_event
from agentflow.outcome import Outcome
from agentflow.questions import Paused, Question, new_question, type_adapter
from agentflow.services.artifacts import Artifact
from agentflow.services.memory import MemoryHit

T = TypeVar("T")


class Reach(Turn):
    """That part of an `InvocationContext`."""

    __slots__ = ()

    def told(self, message: UserContent) -> None:
        """It is told something of its own, as by a user; those it runs are told the same.

        Raises:
            ConfigError: No such content.
        """
        try:
            self._content, self._hears = as_parts(message), True
        except ValueError as error:
            raise ConfigError(f"message for agent {self.path!r}: {error}") from None

    async def hear(self) -> None:
        """Put what it was told on its line."""
        run = self._run
        assert self._content is not None
        event = build_event(self.form, run.new_id(), run.time(), self._content)
        event.__dict__["author"] = "user"
        run.clean(event, self.path)
        self._content = event.parts
        telling = run.tell(event, self)
        if telling is not None:
            await telling

    async def request_input(self, message: str, *, schema: Any = None, payload: Any = None) -> Any:
        """Ask a person, and return the answer.

        While there is none the turn ends here, as if cancelled, and the run pauses: a Sequential and a Loop stop, the
        branches of a Parallel go on, and the question is stored and in `run.result.pending`. A later
        `runner.run(answers={question.id: ...}, session_id=...)` lets the run go on: this turn begins again from its
        beginning, doesn't say again what it had said, doesn't run again whom it had run, and gets its answer here.

        Args:
            message: The question, for the person.
            schema: A type that the answer is validated by, for instance `bool` or a pydantic model; `None` takes any
                JSON value. What doesn't fit is asked again.
            payload: JSON that the person needs to know.

        Raises:
            Paused: No answer yet. `except Exception` doesn't catch it; don't catch it yourself.
            ConfigError: No JSON schema can be made of `schema`.
        """
        self._check()
        adapter = type_adapter(schema)
        problem = ""
        while True:
            past, answer = self._past, None
            question = past.next_input(self._place.branch) if past is not None else None
            if question is None:
                question = new_question(message + problem, adapter, payload, f"adk-{self._run.new_id()}")
                [question] = await self.ask((question,))
            elif past is not None:
                answer = past.answer(question)
            if answer is None:
                self.status = "paused"  # at once: whom this cancels is to go on when it does
                raise Paused((question,))
            if past is not None and past.branch == self._place.branch:
                self.repeat()
            try:
                return answer.result if adapter is None else adapter.validate_python(answer.result)
            except ValidationError as error:
                problem = f" (the answer {answer.result!r} doesn't fit: {error.errors()[0]['msg']})"

    def repeats(self, event: object) -> bool:
        """Whether it said this before the run paused. If so, it has now done again what is stored of it up to there."""
        past = self._past
        if past is None or not isinstance(event, Event) or not past.repeats(self._place.branch):
            return False
        if not event.partial:
            self.repeat()
        return True

    def repeat(self) -> None:
        """It has done again what is stored of it already: the state is as it was after that."""
        assert self._past is not None
        self._past.step()
        if self._state is not None:
            self._state.rebase(self._past.view(self._run.state))

    def go_on(self) -> None:
        """It repeats nothing, but goes on from what is stored."""
        if self._past is not None:
            self._past.replay, self._past.watched = 0, False
            if self._state is not None:
                self._state.rebase(self._run.state)

    async def ask(self, questions: Sequence[Question]) -> list[Question]:
        """Store questions, in one event of this turn's; gives them as they can be answered."""
        ids = tuple(question.id for question in questions)
        await self.emit(Event(parts=tuple(question.as_call() for question in questions), long_running_tool_ids=ids))
        here, run_id = self._place.branch, self._run.id
        return [replace(question, path=self.path, branch=here, invocation_id=run_id) for question in questions]

    async def resource(
        self, key: object, opener: Callable[[], AbstractAsyncContextManager[T]], *, renew: T | None = None
    ) -> T:
        """Something that stays open while the Runner lives, the same for all runs: a connection, a pool.

        It is opened when first asked for, in a task of the Runner's, and closed when the Runner ends.

        Args:
            key: What it is known by; must be hashable.
            opener: Called, without arguments, for an async context manager that opens and closes it.
            renew: What was got before and is of no use any more: unless somebody was faster it is closed, and opened
                again.

        Raises:
            Exception: What opening it raised.
        """
        self._check()
        value: T = await self._services.resources.get(key, opener, renew=renew)
        return value

    def drop_resource(self, key: object) -> None:
        """Close what is open under `key`, or is being opened; who asks next opens it again."""
        self._services.resources.drop(key)

    async def save_artifact(self, filename: str, data: bytes | str, *, mime_type: str | None = None) -> int:
        """Save a file beside the session, as a new version, and tell of it in an event.

        Args:
            filename: Without slashes; `user:` in front makes it the user's, in all sessions.
            data: Text is stored as UTF-8.
            mime_type: By default plain text for text, else bytes.

        Returns:
            The version, from 1.
        """
        self._check()
        version = await self._services.artifacts.save(self._run.key, filename, data, mime_type=mime_type)
        await self.emit(Event(actions=Actions(artifact_delta={filename: version})))
        return version

    async def load_artifact(self, filename: str, *, version: int | None = None) -> Artifact | None:
        """The artifact of this name, or `None`: the latest version, or the one asked for."""
        self._check()
        return await self._services.artifacts.load(self._run.key, filename, version=version)

    async def list_artifacts(self) -> Sequence[str]:
        """The names of the artifacts that the session sees, its user's included, sorted."""
        self._check()
        return await self._services.artifacts.list(self._run.key)

    async def search_memory(self, query: str, *, limit: int = 10) -> Sequence[MemoryHit]:
        """What the memory service remembers of this user for `query`, best first."""
        self._check()
        return await self._services.memory.search(self._run.key.app_name, self._run.key.user_id, query, limit=limit)

    def recall(self, ctx: "Turn") -> Outcome | None:
        """What came of the turn that `ctx` is made for before the run paused, where it is over; else it goes on.

        Raises:
            Paused: What it waits for has still not been answered.
        """
        past = self._past.child(ctx.path, ctx._place.branch, ctx.iteration) if self._past is not None else None
        if past is None:
            return None
        ctx._past, past.watched = past, ctx._watch is not None
        waiting = past.waits_for() if past.status == "paused" and not past.news() else ()
        if waiting:
            ctx.status = "paused"
            raise Paused(waiting)
        if past.status in ("paused", "running"):
            ctx._hears = False
            ctx.count(past.usage)
            return None
        for segments, target in past.escalations():
            for frame in self.loops_to_end(target):
                frame.ended.append(segments)
        self._said = past.said or self._said
        self.count(past.spent())
        return past.outcome()
