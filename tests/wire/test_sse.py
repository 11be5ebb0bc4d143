"""Frames and cursors: what a reader who was cut off gets is what was missing, and what is written reads back."""

import json

import anyio
import pytest
from hypothesis import given, strategies as st

from agentflow import Event, FunctionAgent, InvocationContext, ParallelAgent, Runner
from agentflow.errors import AgentflowError, InvalidCursor
from agentflow.wire.sse import KEEP_ALIVE, Cursor, Frame, NdjsonEncoder, SseDecoder, SseEncoder


def speaker(name: str, pieces: int) -> FunctionAgent:
    async def run(ctx: InvocationContext) -> None:
        for number in range(pieces):
            await ctx.emit(ctx.text(f"{number} ", partial=True, response_id=name))
        await ctx.emit(ctx.text("".join(f"{number} " for number in range(pieces))))

    return FunctionAgent(name, run)


def pair() -> ParallelAgent:
    return ParallelAgent("pair", [speaker("a", 3), ParallelAgent("more", [speaker("b", 2), speaker("c", 4)])])


positions = st.builds(Cursor, st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))


@given(positions)
def test_a_cursor_reads_back(cursor: Cursor) -> None:
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize("text", ["x", "-1", "1.", ".5", "1.2.3", " 1", "1\n", "٣", "9" * 40, "1e3"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor, match="is no position in a run") as refused:
        Cursor.parse(text)
    assert isinstance(refused.value, AgentflowError)


def test_no_cursor_is_the_beginning() -> None:
    assert Cursor.parse(None) == Cursor.parse("") == Cursor(0, 0)


def test_a_frame_is_what_the_standard_says() -> None:
    stream = SseEncoder(Cursor(4, 1))
    assert stream.retry(500) == b"retry: 500\n\n"
    piece, whole = (
        Event(id="p", author="a", parts="hé\n", partial=True),
        Event(id="w", author="a", parts="hé", serial=5),
    )
    assert stream.event(piece) == (
        'id: 4.2\ndata: {"id":"p","author":"a","parts":[{"kind":"text","text":"hé\\n"}],"partial":true}\n\n'.encode()
    )
    assert stream.event(whole).startswith(b"id: 5\ndata: {")
    assert stream.event(piece).startswith(b"id: 5.1\n")
    assert stream.end("error", error="no\nluck") == (
        b'event: end\nid: 5.1\ndata: {"status": "error", "error": "no\\nluck"}\n\n'
    )


async def test_who_was_cut_off_at_any_frame_gets_the_rest_and_nothing_twice() -> None:
    """Cut after each frame of a run in turn, pieces included, as a server and a client do it."""
    with anyio.fail_after(60):
        cut = 0
        while True:
            cut += 1
            got: list[str] = []
            async with Runner(pair()) as runner:
                run = runner.run("go", on_consumer_gone="detach")
                stream, decoder = SseEncoder(), SseDecoder()
                async with run:
                    run_id, key = run.id, run.session
                    async for event in run:
                        got += [frame.data for frame in decoder.feed(stream.event(event))]
                        if len(got) == cut:
                            break
                if len(got) < cut:
                    break
                cursor = Cursor.parse(decoder.last_id)
                stream = SseEncoder(cursor)
                ids = [cursor]
                async with runner.attach(run_id, after=cursor.position) as rest:
                    async for event in rest:
                        for frame in decoder.feed(stream.event(event)):
                            got.append(frame.data)
                            ids.append(Cursor.parse(frame.id))
                session = await runner.sessions.get(key)
            assert session is not None
            events = [Event.from_json(data) for data in got]
            stored = [event.serial for event in events if event.serial is not None]
            assert stored == [event.serial for event in session.events if event.path]
            assert ids == sorted(set(ids))  # each once, and in order
            pieces = [event.id for event in events if event.partial]
            assert len(pieces) == len(set(pieces))
    assert cut > 20


async def test_lines_of_json_hold_cursor_event_and_end() -> None:
    stream = NdjsonEncoder()
    async with Runner(pair()) as runner, runner.run("go") as run:
        lines = [stream.event(event) async for event in run]
    lines += [stream.keep_alive(), stream.end("ok")]
    read = [json.loads(line) for line in b"".join(lines).splitlines() if line]
    assert [Cursor.parse(line["cursor"]).position for line in read][-1] == run.position
    assert Event.from_json(json.dumps(read[0]["event"])).lifecycle is not None
    assert read[-1] == {"cursor": str(run.position), "end": {"status": "ok"}}


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20), max_size=8),
    st.sampled_from(["\n", "\r", "\r\n"]),
    st.booleans(),
    st.data(),
)
def test_frames_are_read_however_the_bytes_come(
    texts: list[str], newline: str, marked: bool, data: st.DataObject
) -> None:
    """In pieces of any size, with any of the three line ends, with and without a byte order mark."""
    wire = "\ufeff" if marked else ""
    for number, text in enumerate(texts):
        wire += f":{text}{newline}id:{number}{newline}data: {text}{newline}data:{text}{newline}{newline}"
        wire += KEEP_ALIVE.decode().replace("\n", newline)
    raw = wire.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    decoder = SseDecoder()
    frames = [
        frame
        for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)
        for frame in decoder.feed(raw[start:end])
    ]
    frames += decoder.feed(b"\n" if newline == "\r" else b"")  # what follows a lone return decides nothing
    assert frames == [
        Frame(f"{text}\n{text.removeprefix(' ')}", "message", str(number)) for number, text in enumerate(texts)
    ]


def test_a_client_follows_the_standard() -> None:
    decoder = SseDecoder()
    frames = decoder.feed(
        b"event: end\nid: 7\nid: a\0b\nretry: 20\nretry: soon\nother: x\ndata\n\nevent: lost\n\ndata: x\n\n"
    )
    assert frames == [Frame("", "end", "7"), Frame("x", "message", "7")]
    assert (decoder.last_id, decoder.retry) == ("7", 20)
    assert decoder.feed(b"data: half") == []


def test_a_frame_without_end_is_refused() -> None:
    """However its lines are cut into pieces."""
    for piece in (b"data: " + bytes(1024 * 1024) + b"\n", b"\ndata: " + bytes(1024 * 1024)):
        decoder = SseDecoder()
        decoder.feed(b"data: begun")
        for _ in range(63):
            decoder.feed(piece)
        with pytest.raises(ValueError, match="larger than"):
            decoder.feed(bytes(1024 * 1024))
