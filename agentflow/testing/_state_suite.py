"""What a session store does when a session is made, and with state."""

from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from agentflow.errors import ConfigError, InvalidEvent, SessionExists
from agentflow.events import Actions
from agentflow.services.sessions import SessionKey
from agentflow.testing._store_suite import KEY, TEXTS, StoreSuite, event_of, raises, read, writing

NAMES = [
    "O'Hara",
    'say "hi"',
    "100%_\\",
    "a.b/c:d?e#f",
    "semi;colon --",
    "naïve café",
    "用户-Ω-🦉",
    " spaced ",
    "NULL",
    "x" * 255,
]


class StateSuite(StoreSuite):
    """Making sessions, and state."""

    # Making sessions

    async def test_a_new_session_is_empty(self) -> None:
        async with self.opened() as sessions:
            made = await sessions.create("app", "ada", "s1")
            assert made.key == KEY
            assert (made.id, made.app_name, made.user_id) == ("s1", "app", "ada")
            assert (made.version, made.state, list(made.events)) == (0, {}, [])
            assert made.created_at == made.updated_at
            assert await read(sessions) == made

    async def test_an_id_is_made_up_for_each_session_without_one(self) -> None:
        async with self.opened() as sessions:
            made = [await sessions.create("app", "ada") for _ in range(5)]
            assert all(one.id for one in made)
            assert len({one.id for one in made}) == 5
            assert {one.key for one in made} == {info.key for info in await sessions.list("app", "ada")}

    async def test_a_session_is_made_once(self) -> None:
        """The second attempt changes nothing, not even the app's state."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1", state={"mine": 1, "app:ours": 1})
            await raises(SessionExists, sessions.create("app", "ada", "s1", state={"mine": 2, "app:ours": 2}))
            assert (await read(sessions)).state == {"mine": 1, "app:ours": 1}

    async def test_of_many_who_make_one_session_at_once_one_succeeds(self) -> None:
        async with self.opened() as sessions:
            made: list[int] = []
            refused: list[int] = []

            async def make(number: int) -> None:
                await checkpoint()
                try:
                    await sessions.create("app", "ada", "s1", state={"by": number})
                    made.append(number)
                except SessionExists:
                    refused.append(number)

            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(make, number)
            assert (len(made), len(refused)) == (1, 9)
            assert (await read(sessions)).state == {"by": made[0]}

    async def test_empty_names_are_refused(self) -> None:
        async with self.opened() as sessions:
            await raises(ConfigError, sessions.create("", "ada", "s1"))
            await raises(ConfigError, sessions.create("app", "", "s1"))
            await raises(ConfigError, sessions.create("app", "ada", ""))
            assert list(await sessions.list("app")) == []

    async def test_names_are_taken_as_they_are(self) -> None:
        """Quotes, wildcards, other scripts; upper and lower case differ."""
        async with self.opened() as sessions:
            keys = [SessionKey(name, name, name) for name in NAMES]
            keys += [SessionKey("app", "ada", "S1"), KEY]
            for number, key in enumerate(keys):
                made = await sessions.create(*key, state={"user:number": number})
                assert made.key == key
                await sessions.append(key, [event_of(str(number))])
            for number, key in enumerate(keys):
                session = await read(sessions, key)
                assert session.key == key
                assert [event.text for event in session.events] == [str(number)]
            for name in NAMES:
                assert [info.key for info in await sessions.list(name, name)] == [SessionKey(name, name, name)]
            assert list(await sessions.list("%")) == []

    # State

    async def test_first_state_goes_where_it_belongs(self) -> None:
        async with self.opened() as sessions:
            state = {"topic": "owls", "app:theme": "dark", "user:name": "Ada", "temp:draft": "x"}
            made = await sessions.create("app", "ada", "s1", state=state)
            assert made.state == {"topic": "owls", "app:theme": "dark", "user:name": "Ada"}
            assert (await sessions.create("app", "ada", "s2")).state == {"app:theme": "dark", "user:name": "Ada"}
            assert (await sessions.create("app", "bob", "s1")).state == {"app:theme": "dark"}
            assert (await sessions.create("other", "ada", "s1")).state == {}

    async def test_first_state_that_is_no_json_is_refused(self) -> None:
        async with self.opened() as sessions:
            await raises(InvalidEvent, sessions.create("app", "ada", "s1", state={"app:fine": 1, "bad": object()}))
            assert await sessions.get(KEY) is None
            assert (await sessions.create("app", "ada", "s1")).state == {}

    async def test_first_state_is_made_safe(self) -> None:
        """NUL and lone surrogates become U+FFFD, what is no number null: the same in every store."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1", state={"text": "a\x00b\ud800c", "nan": float("nan")})
            assert (await read(sessions)).state == {"text": "a\ufffdb\ufffdc", "nan": None}

    async def test_state_follows_the_events(self) -> None:
        """A later event wins, within one append too."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1", state={"a": 0})
            await sessions.append(KEY, [writing({"a": 1, "b": 1}), writing({"a": 2})])
            assert (await read(sessions)).state == {"a": 2, "b": 1}
            await sessions.append(KEY, [writing({"a": 3})])
            assert (await read(sessions)).state == {"a": 3, "b": 1}

    async def test_state_of_the_app_and_of_the_user_is_shared(self) -> None:
        """Sessions that were there before see it, and so do later ones."""
        async with self.opened() as sessions:
            for key in (KEY, SessionKey("app", "ada", "s2"), SessionKey("app", "bob", "s1")):
                await sessions.create(*key)
            await sessions.append(KEY, [writing({"own": 1, "user:name": "Ada", "app:theme": "dark"})])
            assert (await read(sessions)).state == {"own": 1, "user:name": "Ada", "app:theme": "dark"}
            same_user = await read(sessions, SessionKey("app", "ada", "s2"))
            assert same_user.state == {"user:name": "Ada", "app:theme": "dark"}
            assert (await read(sessions, SessionKey("app", "bob", "s1"))).state == {"app:theme": "dark"}
            assert (await sessions.create("app", "ada", "s3")).state == {"user:name": "Ada", "app:theme": "dark"}
            assert (await sessions.create("other", "ada", "s1")).state == {}

    async def test_only_the_exact_prefixes_share_state(self) -> None:
        async with self.opened() as sessions:
            own = {"application": 1, "user": 2, "App:x": 3, "users:x": 4, "x:app:": 5, "temporary": 6}
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [writing(own)])
            assert (await read(sessions)).state == own
            assert (await sessions.create("app", "ada", "s2")).state == {}

    async def test_what_is_deleted_is_gone_and_what_is_none_is_there(self) -> None:
        async with self.opened() as sessions:
            state = {f"{scope}{name}": 1 for scope in ("", "user:", "app:") for name in ("gone", "none")}
            await sessions.create("app", "ada", "s1", state=state)
            none = {f"{scope}none": None for scope in ("", "user:", "app:")}
            await sessions.append(KEY, [writing(none, removed=("gone", "user:gone", "app:gone"))])
            assert (await read(sessions)).state == none
            assert (await sessions.create("app", "ada", "s2")).state == {"user:none": None, "app:none": None}

    async def test_deleting_what_is_not_there_is_no_error_and_it_can_be_written_again(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [writing(removed=("never", "user:never", "app:never"))])
            await sessions.append(KEY, [writing({"k": 1}), writing(removed=("k",)), writing({"k": 2})])
            assert (await read(sessions)).state == {"k": 2}

    async def test_temporary_state_is_never_stored(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [writing({"temp:draft": 1, "kept": 1}), writing(removed=("temp:draft",))])
            assert (await read(sessions)).state == {"kept": 1}

    async def test_contributions_wait_for_the_join(self) -> None:
        """They are part of the event; state changes when the Parallel folds them."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [event_of(actions=Actions(contributions={"votes": 1}))])
            session = await read(sessions)
            assert session.state == {}
            assert session.events[0].actions == Actions(contributions={"votes": 1})

    async def test_state_that_was_read_is_a_copy(self) -> None:
        async with self.opened() as sessions:
            first = {"k": 1}
            await sessions.create("app", "ada", "s1", state=first)
            first["k"] = 2
            session = await read(sessions)
            session.state["k"] = 3
            session.state["app:k"] = 3
            (await sessions.list("app"))[0].state["k"] = 3
            assert (await read(sessions)).state == {"k": 1}

    async def test_any_json_is_state(self) -> None:
        async with self.opened() as sessions:
            deep: Any = "bottom"
            for level in range(90):
                deep = {"down": deep} if level % 2 else [deep]
            values: dict[str, Any] = {
                "none": None,
                "yes": True,
                "no": False,
                "zero": 0,
                "big": 2**100,
                "negative": -(2**63),
                "pi": 3.141592653589793,
                "tiny": 5e-324,
                "huge": 1.7976931348623157e308,
                "empty": {},
                "nothing": [],
                "deep": deep,
                "mixed": [1, "1", 1.5, None, True, {"a": [{}]}],
                "texts": TEXTS,
                "user:用户": {"ключ": "значение"},
                "a.b['c']": 1,
            }
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [writing(values)])
            state = (await read(sessions)).state
            assert state == values
            assert {name: type(value) for name, value in state.items()} == {
                name: type(value) for name, value in values.items()
            }
