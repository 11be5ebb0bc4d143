"""What is kept and what goes: a session with all that belongs to it, and all sessions that are old or too many."""

from collections import Counter

from agentflow.errors import ConfigError, StaleSession
from agentflow.services.artifacts import ArtifactService
from agentflow.services.memory import MemoryService
from agentflow.services.sessions import SessionKey, SessionService

_PAGE = 200


async def delete_session(
    key: SessionKey,
    *,
    sessions: SessionService,
    artifacts: ArtifactService | None = None,
    memory: MemoryService | None = None,
    expected_version: int | None = None,
) -> None:
    """Remove a session and, from the stores that are given, its artifacts and what is remembered of it.

    What belongs to its user stays. If this fails half-way, call it again: what is gone already is no error.

    Args:
        key: The session.
        sessions: Where it is.
        artifacts: Where its files are.
        memory: What remembers it.
        expected_version: Remove it only if its version is this.

    Raises:
        StaleSession: The version is another. Nothing was removed.
        ServiceError: Storage failed.
    """
    await sessions.delete(key, expected_version=expected_version)
    if artifacts is not None:
        await artifacts.delete_session(key)
    if memory is not None:
        await memory.delete_session(key)


async def prune(
    sessions: SessionService,
    *,
    artifacts: ArtifactService | None = None,
    memory: MemoryService | None = None,
    app_name: str | None = None,
    user_id: str | None = None,
    before: float | None = None,
    keep: int | None = None,
    dry_run: bool = False,
) -> list[SessionKey]:
    """Remove sessions that are old, or too many, with all that belongs to them; gives their keys, the oldest last.

    A session goes if `before` and `keep`, where they are given, both say so. One that is written to meanwhile stays.

    Args:
        sessions: Where they are.
        artifacts: Where their files are.
        memory: What remembers them.
        app_name: Of this app only.
        user_id: Of this user only.
        before: Those go that were last written to before this (`updated_at`; seconds since the epoch).
        keep: Of each user in each app, so many stay, those changed last.
        dry_run: Only say which would go.

    Raises:
        ConfigError: Neither `before` nor `keep` is given, or one makes no sense.
        ServiceError: Storage failed; call it again.
    """
    if before is None and keep is None:
        raise ConfigError("prune: say what goes, with before=... or keep=...")
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 0):
        raise ConfigError(f"prune: keep must be a whole number, 0 or more, not {keep!r}")
    seen: Counter[tuple[str, str]] = Counter()
    gone = []
    last: int | None = None
    while page := await sessions.list(app_name, user_id, limit=_PAGE, before=last):
        last = page[-1].changed
        for info in page:
            owner = info.app_name, info.user_id
            seen[owner] += 1
            if (keep is not None and seen[owner] <= keep) or (before is not None and info.updated_at >= before):
                continue
            if not dry_run:
                try:
                    await delete_session(
                        info.key, sessions=sessions, artifacts=artifacts, memory=memory, expected_version=info.version
                    )
                except StaleSession:
                    continue
            gone.append(info.key)
    return gone
