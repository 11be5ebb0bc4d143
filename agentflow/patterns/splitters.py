"""From a long text, many records or a folder to chunks of a size that a model can take."""

import csv
import io
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import anyio

from agentflow._settings import check_functions, check_texts
from agentflow.errors import ConfigError

Count = Callable[[str], float]
"""How big a piece of text is, in tokens or whatever else is to be counted."""

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_WORD = re.compile(
    r"\s*(?:[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|[^\s\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)\s*"
)
"""A word with the spaces around it; scripts that don't write any are taken character by character."""


def approximate_tokens(text: str) -> float:
    """Roughly how many tokens a model makes of `text`: a quarter of its bytes.

    Good for sizing chunks. A tokenizer's own count can be given to any splitter instead.
    """
    return len(text.encode("utf-8", "replace")) / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of what was split.

    Attributes:
        text: Its words.
        start: Where it begins in the source, in characters; `text` is the source's from `start` to `end`.
        end: Where it ends.
        title: The headings it stands under, or the file it is from.
        value: The record or records that it is of, as JSON values.
    """

    text: str
    start: int = 0
    end: int = 0
    title: str = ""
    value: Any = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is not cut any further."""

    start: int
    end: int
    size: float


@dataclass(frozen=True, slots=True)
class TokenSplitter:
    """Cuts a text between words, into chunks of at most `size` tokens.

    A word or a fenced code block that is bigger is a chunk by itself: they are never cut.

    Args:
        size: Of a chunk, by `count`.
        overlap: How much of a chunk's end the next one begins with, at most.
        count: What is counted.

    Raises:
        ConfigError: `size` isn't above `overlap`, or one of them is negative.
    """

    size: float
    overlap: float = 0
    count: Count = approximate_tokens

    def __post_init__(self) -> None:
        _check_sizes(self, self.size, self.overlap)
        check_functions("TokenSplitter", count=self.count)

    def __call__(self, source: object) -> Iterator[Chunk]:
        """The chunks of a text, one by one."""
        text = _as_text(source, self)
        pieces = (piece for block, code in _blocks(text) for piece in self._pieces(text, block, code))
        return _pack(text, pieces, self.size, self.overlap)

    def _pieces(self, text: str, block: tuple[int, int], code: bool) -> Iterator[_Piece]:
        return iter([_piece(text, *block, self.count)]) if code else _words(text, *block, self.count)


@dataclass(frozen=True, slots=True)
class SentenceSplitter:
    """Puts whole sentences together to chunks of at most `size` tokens. Needs the extra `split`.

    A sentence that is bigger is cut between words. `SentenceSplitter(5, count=lambda sentence: 1)` takes five.

    Args:
        size: Of a chunk, by `count`.
        overlap: How much of a chunk's end the next one begins with, at most, in whole sentences.
        language: Two letters; some 300 are known.
        count: What is counted.

    Raises:
        ConfigError: `size` isn't above `overlap`, one of them is negative, or the extra isn't installed.
    """

    size: float
    overlap: float = 0
    language: str = "en"
    count: Count = approximate_tokens

    def __post_init__(self) -> None:
        _check_sizes(self, self.size, self.overlap)
        check_texts("SentenceSplitter", language=self.language)
        check_functions("SentenceSplitter", count=self.count)
        _sentence_library()

    def __call__(self, source: object) -> Iterator[Chunk]:
        """The chunks of a text, one by one."""
        text = _as_text(source, self)
        return _pack(text, self.pieces(text, 0, len(text)), self.size, self.overlap)

    def pieces(self, text: str, start: int, end: int) -> Iterator[_Piece]:
        """The sentences of a part of a text; code blocks whole, longer sentences word by word."""
        for (first, last), code in _blocks(text, start, end):
            if code:
                yield _piece(text, first, last, self.count)
                continue
            for sentence in _sentence_library()(self.language, text[first:last]):
                piece = _piece(text, first, first + len(sentence), self.count)
                first = piece.end
                if piece.size <= self.size:
                    yield piece
                else:
                    yield from _words(text, piece.start, piece.end, self.count)


@dataclass(frozen=True, slots=True)
class SectionSplitter:
    """Cuts Markdown at its headings; a section of more than `size` tokens is cut on between sentences.

    Each chunk's `title` is the headings that it stands under. Headings inside of code are none, and code blocks are
    never cut. Needs the extra `split`.

    Args:
        size: Of a chunk, by `count`; `None` leaves sections whole.
        level: Headings down to this one begin a chunk: 1 is `#`.
        overlap: Within a section that is cut.
        language: For its sentences.
        count: What is counted.

    Raises:
        ConfigError: A size can't work, or the extra isn't installed.
    """

    size: float | None = None
    level: int = 6
    overlap: float = 0
    language: str = "en"
    count: Count = approximate_tokens

    def __post_init__(self) -> None:
        check_texts("SectionSplitter", language=self.language)
        check_functions("SectionSplitter", count=self.count)
        if self.size is not None:
            _check_sizes(self, self.size, self.overlap)
            _sentence_library()
        if isinstance(self.level, bool) or self.level not in range(1, 7):
            raise ConfigError(f"SectionSplitter: level must be 1 to 6, not {self.level!r}")
        _markdown()

    def __call__(self, source: object) -> Iterator[Chunk]:
        """The sections of a text, one by one."""
        text = _as_text(source, self)
        lines = [0]
        for line in text.splitlines(keepends=True):
            lines.append(lines[-1] + len(line))
        starts, code = self._structure(text, lines)
        starts.append((len(text), 0, ""))
        titles: dict[int, str] = {}
        for (start, level, title), (end, _, _) in pairwise(starts):
            titles = {above: name for above, name in titles.items() if above < level}
            titles[level] = title
            path = " > ".join(name for name in titles.values() if name)
            if not text[start:end].strip():
                continue
            if self.size is None:
                yield _chunk(text, start, end, path)
            else:
                inside = [block for block in code if start <= block[0] < end]
                yield from _pack(text, self._pieces(text, start, end, inside), self.size, self.overlap, path)

    def _structure(self, text: str, lines: list[int]) -> tuple[list[tuple[int, int, str]], list[tuple[int, int]]]:
        """Where sections begin, with their level and heading; and where code is."""
        tokens = _markdown().parse(_same_lines(text))
        starts, code = [(0, 0, "")], []
        for index, token in enumerate(tokens):
            if token.map is None:
                continue
            start, end = lines[token.map[0]], lines[min(token.map[1], len(lines) - 1)]
            if token.type in ("fence", "code_block"):
                code.append((start, end))
            elif token.type == "heading_open" and token.level == 0 and int(token.tag[1]) <= self.level:
                starts.append((start, int(token.tag[1]), tokens[index + 1].content.strip()))
        return starts, code

    def _pieces(self, text: str, start: int, end: int, code: list[tuple[int, int]]) -> Iterator[_Piece]:
        assert self.size is not None
        sentences = SentenceSplitter(self.size, self.overlap, self.language, self.count)
        for first, last in code:
            yield from sentences.pieces(text, start, first)
            yield _piece(text, first, last, self.count)
            start = last
        yield from sentences.pieces(text, start, end)


@dataclass(frozen=True, slots=True)
class RecordSplitter:
    """Takes records, a few at a time.

    Args:
        per_chunk: How many make a chunk.
        format: What a text holds: `"lines"`, `"jsonl"`, or `"csv"` with a first line of names. A list of records is
            taken as it is, whatever this says.

    Raises:
        ConfigError: A setting can't work. While it splits: a line is no JSON.
    """

    per_chunk: int = 1
    format: Literal["lines", "jsonl", "csv"] = "lines"

    def __post_init__(self) -> None:
        if isinstance(self.per_chunk, bool) or not isinstance(self.per_chunk, int) or self.per_chunk < 1:
            raise ConfigError(f"RecordSplitter: per_chunk must be a whole number of at least 1, not {self.per_chunk!r}")
        if self.format not in ("lines", "jsonl", "csv"):
            raise ConfigError(f"RecordSplitter: format must be 'lines', 'jsonl' or 'csv', not {self.format!r}")

    def __call__(self, source: object) -> Iterator[Chunk]:
        """The records, one chunk after the other."""
        records = self._records(source) if isinstance(source, str) else iter(_as_records(source))
        number = 0
        while group := [record for _, record in zip(range(self.per_chunk), records, strict=False)]:
            text = "\n".join(_record_text(record) for record in group)
            value = group[0] if self.per_chunk == 1 else group
            yield Chunk(text=text, start=number, end=number + len(group), value=value)
            number += len(group)

    def _records(self, text: str) -> Iterator[Any]:
        if self.format == "csv":
            yield from csv.DictReader(io.StringIO(text))
            return
        for number, line in enumerate(io.StringIO(text), 1):
            if not line.strip():
                continue
            if self.format == "lines":
                yield line.strip()
                continue
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ConfigError(f"RecordSplitter: line {number} is no JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class FileSplitter:
    """Reads the text files of a folder, in the order of their names, one at a time.

    Whatever the source is, it is these files that are read: no message can name others.

    Args:
        folder: Where they are.
        pattern: Which: `*.md`, or `**/*.py` for all below.
        then: What cuts each file's text; by default a file is a chunk.
        encoding: What doesn't fit it is replaced.

    Raises:
        ConfigError: While it splits: there is no such folder.
    """

    folder: str | Path
    pattern: str = "*"
    then: Callable[[str], Iterable[Chunk]] | None = None
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if not isinstance(self.folder, (str, Path)):
            raise ConfigError(f"FileSplitter: folder must be a path, not {self.folder!r}")
        check_texts("FileSplitter", pattern=self.pattern, encoding=self.encoding)
        if self.then is not None:
            check_functions("FileSplitter", then=self.then)

    async def __call__(self, source: object) -> AsyncIterator[Chunk]:
        """The chunks of each file; their `title` begins with its path in the folder."""
        folder = anyio.Path(self.folder)
        if not await folder.is_dir():
            raise ConfigError(f"FileSplitter: there is no folder {str(self.folder)!r}")
        for path in sorted([path async for path in folder.glob(self.pattern)]):
            if not await path.is_file():
                continue
            text = await path.read_text(self.encoding, errors="replace")
            name = path.relative_to(folder).as_posix()
            for chunk in self.then(text) if self.then is not None else [_chunk(text, 0, len(text), "")]:
                title = f"{name} > {chunk.title}" if chunk.title else name
                yield Chunk(text=chunk.text, start=chunk.start, end=chunk.end, title=title, value=chunk.value)


def _check_sizes(splitter: object, size: float, overlap: float) -> None:
    name = type(splitter).__name__
    for what, value in (("size", size), ("overlap", overlap)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise ConfigError(f"{name}: {what} must be a number, 0 or more, not {value!r}")
    if size <= overlap:
        raise ConfigError(f"{name}: size must be above overlap, and they are {size!r} and {overlap!r}")


def _as_text(source: object, splitter: object) -> str:
    if not isinstance(source, str):
        raise ConfigError(f"{type(splitter).__name__} splits text, not {type(source).__name__}")
    return source


def _as_records(source: object) -> Iterable[Any]:
    if not isinstance(source, Iterable) or isinstance(source, (bytes, dict)):
        raise ConfigError(f"RecordSplitter takes text or a list of records, not {type(source).__name__}")
    return source


def _record_text(record: object) -> str:
    return record if isinstance(record, str) else json.dumps(record, ensure_ascii=False)


def _piece(text: str, start: int, end: int, count: Count) -> _Piece:
    return _Piece(start, end, count(text[start:end]))


def _words(text: str, start: int, end: int, count: Count) -> Iterator[_Piece]:
    for match in _WORD.finditer(text, start, end):
        yield _Piece(match.start(), match.end(), count(match[0]))


def _blocks(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[tuple[int, int], bool]]:
    """A text as paragraphs and the fenced code blocks between them: where each is, and whether it is code."""
    end = len(text) if end is None else end
    begin, here, fence = start, start, ""
    while here < end:
        stop = text.find("\n", here, end)
        stop = end if stop < 0 else stop + 1
        mark = _FENCE.match(text[here:stop])
        if fence:
            if mark and mark[1].startswith(fence) and not text[here:stop].strip().strip(fence[0]):
                yield (begin, stop), True
                begin, fence = stop, ""
        elif mark:
            if begin < here:
                yield (begin, here), False
            begin, fence = here, mark[1]
        elif not text[here:stop].strip() and text[begin:here].strip():
            yield (begin, stop), False
            begin = stop
        here = stop
    if begin < end:
        yield (begin, end), bool(fence)


def _pack(text: str, pieces: Iterator[_Piece], size: float, overlap: float, title: str = "") -> Iterator[Chunk]:
    """Pieces that lie next to each other, put together as long as they fit."""
    held: deque[_Piece] = deque()
    total, fresh = 0.0, False  # whether there is more in `held` than the last chunk's end
    for piece in pieces:
        if held and total + piece.size > size:
            if fresh:
                yield from _worth(text, held[0].start, held[-1].end, title)
            while held and (total > overlap or total + piece.size > size):
                total -= held.popleft().size
            total = total if held else 0.0
        held.append(piece)
        total, fresh = total + piece.size, True
    if held and fresh:
        yield from _worth(text, held[0].start, held[-1].end, title)


def _worth(text: str, start: int, end: int, title: str) -> Sequence[Chunk]:
    """The chunk, unless nothing but spaces is in it."""
    chunk = _chunk(text, start, end, title)
    return (chunk,) if chunk.text else ()


def _chunk(text: str, start: int, end: int, title: str) -> Chunk:
    """A part of a text, without the spaces around it."""
    part = text[start:end]
    words = part.strip()
    start += len(part) - len(part.lstrip()) if words else 0
    return Chunk(text=words, start=start, end=start + len(words), title=title)


def _same_lines(text: str) -> str:
    """`text` with every line end that Python knows as one that Markdown knows, so that both count the same lines."""
    return "\n".join(text.splitlines()) + "\n"


@cache
def _sentence_library() -> Callable[[str, str], Iterable[str]]:
    """`sentencex.segment`, loaded on first use."""
    segment: Callable[[str, str], Iterable[str]] = _needed("sentencex").segment
    return segment


@cache
def _markdown() -> Any:
    """A parser of Markdown, loaded on first use."""
    return _needed("markdown_it").MarkdownIt("commonmark")


def _needed(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError("splitting by sentences or sections needs: pip install 'agentflow-py[split]'") from error
