"""The contract of artifact stores: files beside a session, in versions."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, fields

from agentflow.content import Record, clean_text
from agentflow.errors import ConfigError
from agentflow.services.sessions import SessionKey

USER = "user:"
"""A file name that begins with this belongs to the user: every session of theirs sees it."""

Content = bytes | str | AsyncIterable[bytes]


CHUNK = 256 * 1024
"""How many bytes of a stored file are read at once."""


@dataclass(slots=True, eq=False, repr=False, kw_only=True)
class ArtifactInfo(Record):
    """One version of a file, without its content.

    Attributes:
        filename: As it was saved, `user:` included.
        version: From 1, without gaps.
        mime_type: What it is, for instance `"text/plain"`.
        size_bytes: Size of the content.
        sha256: Hash of the content, in hex.
        created_at: Seconds since the epoch.
    """

    filename: str
    version: int
    mime_type: str
    size_bytes: int
    sha256: str
    created_at: float


@dataclass(slots=True, eq=False, repr=False, kw_only=True)
class Artifact(ArtifactInfo):
    """One version of a file, its content in memory: an `ArtifactInfo` and `data`."""

    data: bytes

    @property
    def text(self) -> str:
        """The content as UTF-8; what isn't becomes U+FFFD."""
        return self.data.decode("utf-8", errors="replace")


@dataclass(slots=True, eq=False, repr=False, kw_only=True)
class StoredArtifact(ArtifactInfo, ABC):
    """One version of a file, its content where it is stored: `async for chunk in artifact` reads it piece by piece.

    It holds nothing open. Each iteration begins at the beginning; when the last chunk has been read, all of them have
    been compared with `sha256`.

    Raises:
        ServiceError: From the iteration: it was deleted meanwhile, or is damaged.
    """

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def read(self) -> Artifact:
        """All of it."""
        data = b"".join([chunk async for chunk in self])
        info = {f.name: getattr(self, f.name) for f in fields(ArtifactInfo)}
        return Artifact(data=data, **info)


class ArtifactService(ABC):
    """Stores artifacts. Any number of tasks may call any method at once.

    The suite `agentflow.testing.ArtifactServiceSuite` holds every promise made here; run it against your own.

    Source: adk-go `artifact/service.go`.
    """

    @abstractmethod
    async def save(self, key: SessionKey, filename: str, data: Content, *, mime_type: str | None = None) -> int:
        """Save a new version, and return its number: 1, 2, 3, ...

        Args:
            key: The session; with `user:` in the name, only its app and user count.
            filename: Not empty; no slash, backslash or control character.
            data: Bytes, text (stored as UTF-8), or a stream of bytes, which needn't fit in memory.
            mime_type: By default `text/plain` for text, else `application/octet-stream`.

        Raises:
            ConfigError: The name is malformed.
            ServiceError: Storage failed; nothing was written.
        """

    @abstractmethod
    async def open(self, key: SessionKey, filename: str, *, version: int | None = None) -> StoredArtifact | None:
        """One version to be read piece by piece, by default the latest; `None` if there is none."""

    async def load(self, key: SessionKey, filename: str, *, version: int | None = None) -> Artifact | None:
        """One version, all of it, by default the latest; `None` if there is none."""
        stored = await self.open(key, filename, version=version)
        return await stored.read() if stored is not None else None

    @abstractmethod
    async def list(self, key: SessionKey) -> Sequence[str]:
        """The file names that the session sees, its user's included, sorted."""

    @abstractmethod
    async def versions(self, key: SessionKey, filename: str) -> Sequence[int]:
        """The versions of a file, ascending; empty if there is none."""

    @abstractmethod
    async def delete(self, key: SessionKey, filename: str, *, version: int | None = None) -> None:
        """Remove one version, or all. No error if there is none; numbers are never used again."""

    @abstractmethod
    async def delete_session(self, key: SessionKey) -> None:
        """Remove all files of a session, as if it had never had one; those of its user stay."""

    async def aclose(self) -> None:
        """Let go of what the store holds open."""
        return None


def check_filename(filename: object) -> str:
    """`filename`, if artifacts may be called that.

    Raises:
        ConfigError: They may not.
    """
    if not isinstance(filename, str) or not filename.removeprefix(USER):
        raise ConfigError(f"an artifact needs a file name, not {filename!r}")
    if (
        any(char in "/\\" or ord(char) < 32 or 127 <= ord(char) < 160 for char in filename)
        or clean_text(filename) != filename
    ):
        raise ConfigError(f"artifact name {filename!r}: no slashes, backslashes or control characters")
    return filename


async def read_content(data: Content, mime_type: str | None) -> tuple[bytes, str]:
    """All of `data` as bytes, and its type.

    Raises:
        ConfigError: It is neither bytes nor text nor a stream of bytes.
    """
    if isinstance(data, str):
        return data.encode("utf-8", errors="replace"), mime_type or "text/plain"
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data), mime_type or "application/octet-stream"
    if isinstance(data, AsyncIterable):
        return b"".join([bytes(chunk) async for chunk in data]), mime_type or "application/octet-stream"
    raise ConfigError(f"an artifact is bytes, text or a stream of bytes, not {type(data).__name__}")
