"""The contract of artifact stores, as tests."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from agentflow.errors import ConfigError
from agentflow.services.artifacts import Artifact, ArtifactService, Content
from agentflow.services.sessions import SessionKey
from agentflow.testing._pytest import Suite
from agentflow.testing._store_suite import raises

KEY = SessionKey("app", "ada", "s1")
OTHER_SESSION = SessionKey("app", "ada", "s2")
OTHER_USER = SessionKey("app", "bob", "s1")
OTHER_APP = SessionKey("other", "ada", "s1")
NAMES = ["report.pdf", "no extension", "..", ".hidden", "a.tar.gz", "naïve 用户 🦉.md", "CON", "a:b", "user", "x" * 120]
NAMES += ['O\'Hara "x".txt', "100%_;--"]
BAD_NAMES = ["", "user:", "a/b", "/etc/passwd", "../a", "a\\b", "a\nb", "a\x00b", "a\x1fb", "user:a/b", "a\ud800b"]


class ArtifactServiceSuite(Suite, ABC):
    """Every promise of `ArtifactService`, as a test. Subclass it, say how to make one, and pytest runs them all.

    Each test makes a store of its own, which must be empty, and closes it. See `SessionServiceSuite`.
    """

    @abstractmethod
    async def make(self) -> ArtifactService:
        """An empty store."""

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[ArtifactService]:
        """A new store, closed in the end."""
        async with self._within_limit(await self.make()) as service:
            yield service

    # Saving and loading

    async def test_versions_count_from_one(self) -> None:
        async with self.opened() as artifacts:
            assert [await artifacts.save(KEY, "a.txt", f"take {n}") for n in range(1, 5)] == [1, 2, 3, 4]
            assert await artifacts.save(KEY, "b.txt", "other file") == 1
            assert list(await artifacts.versions(KEY, "a.txt")) == [1, 2, 3, 4]

    async def test_the_latest_version_is_loaded_or_the_one_that_is_asked_for(self) -> None:
        async with self.opened() as artifacts:
            for n in range(1, 12):
                await artifacts.save(KEY, "a.txt", f"take {n}")
            assert (await loaded(artifacts, KEY, "a.txt")).text == "take 11"
            for n in (1, 2, 10, 11):
                one = await loaded(artifacts, KEY, "a.txt", version=n)
                assert (one.version, one.text) == (n, f"take {n}")

    async def test_an_id_alone_names_no_session(self) -> None:
        """Whoever forgets the key's other two parts learns of it, instead of finding nothing."""
        async with self.opened() as artifacts:
            await artifacts.save(KEY, "a.txt", "x")
            calls: list[Callable[[Any], Awaitable[object]]] = [
                lambda key: artifacts.save(key, "a.txt", "y"),
                lambda key: artifacts.open(key, "a.txt"),
                lambda key: artifacts.load(key, "a.txt"),
                lambda key: artifacts.versions(key, "a.txt"),
                lambda key: artifacts.delete(key, "a.txt"),
                artifacts.list,
                artifacts.delete_session,
            ]
            for wrong in ("s1", None, ("app", "ada", "s1"), b"s1"):
                for call in calls:
                    await raises(ConfigError, call(wrong))
            assert list(await artifacts.versions(KEY, "a.txt")) == [1]

    async def test_what_is_not_there_is_none(self) -> None:
        async with self.opened() as artifacts:
            await artifacts.save(KEY, "a.txt", "x")
            assert await artifacts.load(KEY, "b.txt") is None
            for version in (0, 2, -1):
                assert await artifacts.load(KEY, "a.txt", version=version) is None
            assert list(await artifacts.versions(KEY, "b.txt")) == []
            assert list(await artifacts.list(OTHER_SESSION)) == []

    async def test_an_artifact_knows_what_it_is(self) -> None:
        async with self.opened() as artifacts:
            content = bytes(range(256)) * 3
            await artifacts.save(KEY, "a.bin", b"first")
            await artifacts.save(KEY, "a.bin", content, mime_type="image/png")
            one = await loaded(artifacts, KEY, "a.bin")
            assert (one.filename, one.version, one.data, one.mime_type) == ("a.bin", 2, content, "image/png")
            assert one.sha256 == sha256(content).hexdigest()
            first = await loaded(artifacts, KEY, "a.bin", version=1)
            assert (first.sha256, first.mime_type) == (sha256(b"first").hexdigest(), "application/octet-stream")
            assert 0 < first.created_at <= one.created_at

    async def test_text_is_stored_as_utf_8(self) -> None:
        async with self.opened() as artifacts:
            text = "naïve 用户 🦉\r\n\x00 e\u0301"
            await artifacts.save(KEY, "a.txt", text)
            one = await loaded(artifacts, KEY, "a.txt")
            assert (one.data, one.text, one.mime_type) == (text.encode(), text, "text/plain")
            await artifacts.save(KEY, "a.txt", "<p>", mime_type="text/html")
            assert (await loaded(artifacts, KEY, "a.txt")).mime_type == "text/html"

    async def test_text_with_a_lone_surrogate_can_be_saved_and_read(self) -> None:
        async with self.opened() as artifacts:
            await artifacts.save(KEY, "a.txt", "a\ud800b")
            text = (await loaded(artifacts, KEY, "a.txt")).text
            assert (text[0], text[-1]) == ("a", "b")
            text.encode()

    async def test_an_empty_file_is_a_file(self) -> None:
        async with self.opened() as artifacts:
            contents: list[Content] = [b"", "", stream([])]
            for number, content in enumerate(contents, 1):
                assert await artifacts.save(KEY, "empty", content) == number
                assert (await loaded(artifacts, KEY, "empty")).data == b""
            assert (await loaded(artifacts, KEY, "empty")).sha256 == sha256(b"").hexdigest()

    async def test_a_stream_of_bytes_is_stored_as_one_file(self) -> None:
        async with self.opened() as artifacts:
            chunks = [b"a" * 1_000, b"", b"\xff\x00", b"z"]
            assert await artifacts.save(KEY, "s.bin", stream(chunks)) == 1
            one = await loaded(artifacts, KEY, "s.bin")
            assert (one.data, one.mime_type) == (b"".join(chunks), "application/octet-stream")
            assert one.sha256 == sha256(one.data).hexdigest()
            await artifacts.save(KEY, "s.bin", stream(chunks), mime_type="video/mp4")
            assert (await loaded(artifacts, KEY, "s.bin")).mime_type == "video/mp4"

    async def test_a_stream_that_breaks_stores_nothing(self) -> None:
        """No version is used up either: they have no gaps."""
        async with self.opened() as artifacts:
            await artifacts.save(KEY, "s.bin", b"whole")
            try:
                await artifacts.save(KEY, "s.bin", stream([b"half"], OSError("the wire was cut")))
            except OSError:
                pass
            else:
                raise AssertionError("the stream's own error was not raised")
            assert list(await artifacts.versions(KEY, "s.bin")) == [1]
            assert (await loaded(artifacts, KEY, "s.bin")).data == b"whole"
            assert await artifacts.save(KEY, "s.bin", b"next") == 2

    async def test_a_save_that_is_cancelled_midway_stores_nothing(self) -> None:
        async with self.opened() as artifacts:
            reached = anyio.Event()

            async def endless() -> AsyncIterator[bytes]:
                yield b"half"
                reached.set()
                await anyio.sleep_forever()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(artifacts.save, KEY, "s.bin", endless())
                await reached.wait()
                tasks.cancel_scope.cancel()
            assert list(await artifacts.list(KEY)) == []
            assert await artifacts.save(KEY, "s.bin", b"next") == 1

    async def test_a_big_file_comes_back_whole(self) -> None:
        async with self.opened() as artifacts:
            content = bytes(range(256)) * 40_000  # 10 MB
            await artifacts.save(KEY, "big.bin", content)
            await artifacts.save(KEY, "streamed.bin", stream([content[:5_000_000], content[5_000_000:]]))
            for name in ("big.bin", "streamed.bin"):
                one = await loaded(artifacts, KEY, name)
                assert one.data == content
                assert one.sha256 == sha256(content).hexdigest()

    # Names

    async def test_malformed_names_are_refused(self) -> None:
        async with self.opened() as artifacts:
            for name in BAD_NAMES:
                await refused(artifacts, name)
            assert list(await artifacts.list(KEY)) == []

    async def test_names_with_any_control_character_are_refused(self) -> None:
        """Also DEL and those above it, which terminals obey."""
        async with self.opened() as artifacts:
            for name in ("a\x7fb", "a\x85b", "a\x9bb"):
                await refused(artifacts, name)

    async def test_all_other_names_are_taken_as_they_are(self) -> None:
        async with self.opened() as artifacts:
            for name in [*NAMES, "A", "a"]:
                await artifacts.save(KEY, name, name)
                await artifacts.save(KEY, f"user:{name}", f"user:{name}")
            names = [*NAMES, "A", "a"]
            assert list(await artifacts.list(KEY)) == sorted([*names, *(f"user:{name}" for name in names)])
            for name in await artifacts.list(KEY):
                one = await loaded(artifacts, KEY, name)
                assert (one.filename, one.text) == (name, name)

    # Who sees what

    async def test_a_file_belongs_to_its_session(self) -> None:
        async with self.opened() as artifacts:
            keys = [KEY, OTHER_SESSION, OTHER_USER, OTHER_APP]
            for number, key in enumerate(keys):
                assert list(await artifacts.list(key)) == []
                for take in range(number + 1):
                    assert await artifacts.save(key, "a.txt", "/".join(key)) == take + 1
            for number, key in enumerate(keys):
                assert (await loaded(artifacts, key, "a.txt")).text == "/".join(key)
                assert len(await artifacts.versions(key, "a.txt")) == number + 1
            await artifacts.delete(KEY, "a.txt")
            assert all([await artifacts.load(key, "a.txt") for key in keys[1:]])

    async def test_a_file_of_the_user_is_seen_by_all_sessions_of_theirs(self) -> None:
        async with self.opened() as artifacts:
            assert await artifacts.save(KEY, "user:cv.txt", "old") == 1
            assert await artifacts.save(OTHER_SESSION, "user:cv.txt", "new") == 2
            await artifacts.save(KEY, "a.txt", "session's own")
            for key in (KEY, OTHER_SESSION, SessionKey("app", "ada", "not yet there")):
                one = await loaded(artifacts, key, "user:cv.txt")
                assert (one.filename, one.text, one.version) == ("user:cv.txt", "new", 2)
                assert list(await artifacts.versions(key, "user:cv.txt")) == [1, 2]
            assert list(await artifacts.list(KEY)) == ["a.txt", "user:cv.txt"]
            assert list(await artifacts.list(OTHER_SESSION)) == ["user:cv.txt"]
            for key in (OTHER_USER, OTHER_APP):
                assert await artifacts.load(key, "user:cv.txt") is None
                assert list(await artifacts.list(key)) == []

    async def test_a_file_of_the_user_and_one_of_the_session_are_two(self) -> None:
        async with self.opened() as artifacts:
            await artifacts.save(KEY, "a.txt", "session")
            await artifacts.save(KEY, "user:a.txt", "user")
            assert (await loaded(artifacts, KEY, "a.txt")).text == "session"
            assert (await loaded(artifacts, KEY, "user:a.txt")).text == "user"
            await artifacts.delete(KEY, "a.txt")
            assert list(await artifacts.list(KEY)) == ["user:a.txt"]

    async def test_names_are_listed_once_and_sorted(self) -> None:
        async with self.opened() as artifacts:
            for name in ("b", "user:c", "a", "user:a", "z", "b", "Z"):
                await artifacts.save(KEY, name, "x")
            assert list(await artifacts.list(KEY)) == ["Z", "a", "b", "user:a", "user:c", "z"]

    # Deleting

    async def test_one_version_is_deleted(self) -> None:
        async with self.opened() as artifacts:
            for n in range(1, 4):
                await artifacts.save(KEY, "a.txt", f"take {n}")
            await artifacts.delete(KEY, "a.txt", version=2)
            assert list(await artifacts.versions(KEY, "a.txt")) == [1, 3]
            assert await artifacts.load(KEY, "a.txt", version=2) is None
            assert (await loaded(artifacts, KEY, "a.txt")).version == 3
            await artifacts.delete(KEY, "a.txt", version=3)
            assert (await loaded(artifacts, KEY, "a.txt")).version == 1

    async def test_all_versions_are_deleted(self) -> None:
        async with self.opened() as artifacts:
            for name in ("a.txt", "a.txt", "b.txt", "user:a.txt"):
                await artifacts.save(KEY, name, "x")
            await artifacts.delete(KEY, "a.txt")
            assert await artifacts.load(KEY, "a.txt") is None
            assert await artifacts.load(KEY, "a.txt", version=1) is None
            assert list(await artifacts.versions(KEY, "a.txt")) == []
            assert list(await artifacts.list(KEY)) == ["b.txt", "user:a.txt"]
            await artifacts.delete(OTHER_SESSION, "user:a.txt")
            assert list(await artifacts.list(KEY)) == ["b.txt"]

    async def test_a_file_without_versions_is_not_listed(self) -> None:
        async with self.opened() as artifacts:
            await artifacts.save(KEY, "a.txt", "x")
            await artifacts.delete(KEY, "a.txt", version=1)
            assert list(await artifacts.list(KEY)) == []
            assert await artifacts.load(KEY, "a.txt") is None

    async def test_numbers_are_never_used_again(self) -> None:
        async with self.opened() as artifacts:
            for name in ("a.txt", "user:a.txt"):
                for _ in range(3):
                    await artifacts.save(KEY, name, "x")
                await artifacts.delete(KEY, name, version=3)
                assert await artifacts.save(KEY, name, "x") == 4
                await artifacts.delete(KEY, name)
                assert await artifacts.save(KEY, name, "back") == 5
                assert list(await artifacts.versions(KEY, name)) == [5]

    async def test_deleting_what_is_not_there_is_no_error(self) -> None:
        async with self.opened() as artifacts:
            await artifacts.delete(KEY, "a.txt")
            await artifacts.delete(KEY, "a.txt", version=1)
            await artifacts.save(KEY, "a.txt", "x")
            await artifacts.delete(KEY, "a.txt", version=7)
            await artifacts.delete(OTHER_USER, "a.txt")
            await artifacts.delete(OTHER_SESSION, "a.txt")
            assert list(await artifacts.versions(KEY, "a.txt")) == [1]

    async def test_all_files_of_a_session_are_deleted(self) -> None:
        """As if it had never had one: numbers begin anew. The user's files stay, and so do those of others."""
        async with self.opened() as artifacts:
            for key in (KEY, OTHER_SESSION, OTHER_USER, OTHER_APP):
                for name in ("a.txt", "a.txt", "b.txt", "user:cv.txt"):
                    await artifacts.save(key, name, "/".join(key))
            await artifacts.delete_session(KEY)
            await artifacts.delete_session(SessionKey("app", "ada", "never there"))
            assert list(await artifacts.list(KEY)) == ["user:cv.txt"]
            assert await artifacts.load(KEY, "a.txt") is None
            for key in (OTHER_SESSION, OTHER_USER, OTHER_APP):
                assert list(await artifacts.versions(key, "a.txt")) == [1, 2]
            assert list(await artifacts.versions(KEY, "user:cv.txt")) == [1, 2]
            assert await artifacts.save(KEY, "a.txt", "new") == 1

    # Piece by piece

    async def test_a_file_is_read_piece_by_piece(self) -> None:
        """What it is is known before its content is read; it can be read again, or left half-way."""
        async with self.opened() as artifacts:
            content = bytes(range(256)) * 12_000  # 3 MB
            await artifacts.save(KEY, "a.bin", stream([content[:100_001], content[100_001:]]), mime_type="image/png")
            await artifacts.save(KEY, "a.bin", "newer")
            stored = await artifacts.open(KEY, "a.bin", version=1)
            assert stored is not None
            assert (stored.filename, stored.version, stored.mime_type) == ("a.bin", 1, "image/png")
            assert (stored.size_bytes, stored.sha256) == (len(content), sha256(content).hexdigest())
            async for chunk in stored:
                assert 0 < len(chunk) < 1_000_000
                break
            for _ in range(2):
                chunks = [chunk async for chunk in stored]
                assert len(chunks) > 1
                assert b"".join(chunks) == content
            assert (await stored.read()).data == content
            latest = await artifacts.open(KEY, "a.bin")
            assert latest is not None
            assert [chunk async for chunk in latest] == [b"newer"]
            for name, version in (("b.bin", None), ("a.bin", 3), ("a.bin", 0)):
                assert await artifacts.open(KEY, name, version=version) is None

    async def test_what_is_copied_from_file_to_file_is_the_same(self) -> None:
        async with self.opened() as artifacts:
            content = bytes(range(256)) * 4_000
            await artifacts.save(KEY, "a.bin", content)
            stored = await artifacts.open(KEY, "a.bin")
            assert stored is not None
            assert await artifacts.save(OTHER_USER, "b.bin", stored, mime_type=stored.mime_type) == 1
            copy = await loaded(artifacts, OTHER_USER, "b.bin")
            assert (copy.data, copy.sha256) == (content, stored.sha256)

    # Several writers

    async def test_many_tasks_save_one_file_at_once(self) -> None:
        """Each gets a number of its own, and what it saved is under that number."""
        async with self.opened() as artifacts:
            saved: dict[int, str] = {}

            async def save(name: str) -> None:
                await checkpoint()
                version = await artifacts.save(KEY, "a.txt", stream([name.encode(), b"!"]))
                assert version not in saved
                saved[version] = f"{name}!"

            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(save, f"task {number}")
            assert sorted(saved) == list(range(1, 21))
            assert list(await artifacts.versions(KEY, "a.txt")) == list(range(1, 21))
            for version, text in saved.items():
                assert (await loaded(artifacts, KEY, "a.txt", version=version)).text == text


async def stream(chunks: list[bytes], error: Exception | None = None) -> AsyncIterator[bytes]:
    """The chunks, one at a time; then the error, if there is one."""
    for chunk in chunks:
        await checkpoint()
        yield chunk
    if error is not None:
        raise error


async def loaded(artifacts: ArtifactService, key: SessionKey, filename: str, *, version: int | None = None) -> Artifact:
    """An artifact that must be there."""
    artifact = await artifacts.load(key, filename, version=version)
    assert artifact is not None
    return artifact


async def refused(artifacts: ArtifactService, name: str) -> None:
    """Saving under this name must fail."""
    try:
        await artifacts.save(KEY, name, "x")
    except ConfigError:
        return
    raise AssertionError(f"the name {name!r} was not refused")
