"""Where a text divides: at its headings, or at paragraphs after so many words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agentflow.demo._prose import length, tidy, unix_lines

_MARKDOWN = re.compile(r" {0,3}(#{1,6})[ \t]+(?=\S)")
_FENCE = re.compile(r" {0,3}(?:```|~~~)")
_NUMBER = (
    r"(?:[IVXLCDM]+|\d+|(?:the\s+)?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|"
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|last))"
)
_CHAPTER = re.compile(
    rf"(?P<kind>chapter|part|book|volume|section|letter|act|scene|canto|stave|chapitre|kapitel|cap[ií]tulo|capitolo|глава)\s+{_NUMBER}\b[.:)\]—–\s-]*(?P<title>.*)",
    re.IGNORECASE,
)
_LONGEST_HEADING = 100  # characters
_TITLE_PAGE = 30  # words: what stands before the first heading belongs to it if it is shorter
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LINE = re.compile(r"\n\s*|(?<![.!?…])[.!?…]++[\"'’”»)]*+\s+|[。！？]+[」』”’]*\s*")
_WORD = re.compile(r"\s*\S+\s*")


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a text, to be read by itself.

    The `heading` and `text` of all sections, joined, are the whole text again, its lines ended by line feeds.

    Attributes:
        number: From 1, in the order of the text.
        title: For people: the heading without its marks, on one line.
        heading: As it stands, with what else comes before the first line of text; may be empty.
        text: What there is to read; never blank.
    """

    number: int
    title: str
    heading: str
    text: str


def sections(text: str, *, max_words: int = 3_000, part_words: int = 1_000) -> tuple[Section, ...]:
    """Divide a text where its author did, or else by size.

    Headings are Markdown's (`#`; the highest level that occurs twice, fenced code left alone), or else
    lines such as `CHAPTER IV`, `Part 2: The Sea` or `Letter the First` between blank lines. A heading with nothing
    below it (a book above its first chapter, a table of contents) joins the next one.

    Args:
        text: Anything with at least one character that isn't white space.
        max_words: A section with more is divided by size; so is a text without headings that
            has more than `part_words`. Words are what white space separates; in Chinese
            and Japanese, which have none, two characters are a word.
        part_words: The size aimed at then. Cuts are at the ends of paragraphs; inside a paragraph that is
            longer at the end of a line or sentence or, at worst, between two words, never in one.

    Raises:
        ValueError: The text is empty or blank, or a size makes no sense.
    """
    if not 1 <= part_words <= max_words:
        raise ValueError(f"1 <= part_words <= max_words is needed, not {part_words} and {max_words}")
    text = unix_lines(text.removeprefix("\ufeff"))
    if not text.strip():
        raise ValueError("there is nothing to analyse: the text is empty")
    headings = _markdown_headings(text) or _chapter_headings(text)
    found: list[tuple[str, str, str]] = []
    for title, heading, body in _chapters(text, headings):
        parts = list(_parts(body, part_words)) if length(body) > (max_words if headings else part_words) else [body]
        for number, part in enumerate(parts, 1):
            name = title if len(parts) == 1 else f"{title}, part {number}" if headings else f"Part {number}"
            found.append((name, heading if number == 1 else "", part))
    return tuple(Section(number, *each) for number, each in enumerate(found, 1))


_Heading = tuple[int, int, str]  # where it starts, where it ends, its title


def _lines(text: str) -> Iterator[tuple[int, int, str]]:
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield start, end, text[start:end].strip()
        start = end


def _markdown_headings(text: str) -> list[_Heading]:
    levels: dict[int, list[_Heading]] = {}
    fenced = False
    for start, end, line in _lines(text):
        if _FENCE.match(text, start):
            fenced = not fenced
        elif not fenced and (mark := _MARKDOWN.match(text, start)):
            title = line[len(mark[1]) :].strip(" \t#")
            levels.setdefault(len(mark[1]), []).append((start, end, tidy(title) or line))
    for level in sorted(levels):
        if len(levels[level]) > 1:
            return sorted(each for upper in levels if upper <= level for each in levels[upper])
    return levels[min(levels)] if levels else []


def _chapter_headings(text: str) -> list[_Heading]:
    lines = [*_lines(text), (len(text), len(text), "")]
    found: list[_Heading] = []
    above = ""
    for at, (start, end, line) in enumerate(lines[:-1]):
        chapter = _CHAPTER.fullmatch(line) if not above and len(line) <= _LONGEST_HEADING else None
        above = line
        if chapter is None or not chapter["kind"][0].isupper():
            continue
        title = chapter["title"]
        if not title:  # its title may be the next line, or the one after a blank line
            blank = 1 if not lines[at + 1][2] else 0
            _, next_end, below = lines[min(at + 1 + blank, len(lines) - 1)]
            after = lines[min(at + 2 + blank, len(lines) - 1)][2]
            if below and not after and _is_title(below):
                title, end = below, next_end
            elif not blank:
                continue
        elif lines[at + 1][2] or not _is_title(title):
            continue
        found.append((start, end, tidy(title or line)))
    return found


def _is_title(line: str) -> bool:
    """Short, begins with a letter that isn't small or a digit, and doesn't end as sentences in a text do."""
    first = line[:1]
    return (
        len(line) <= _LONGEST_HEADING * 2 // 3
        and first.isalnum()
        and not first.islower()
        and line[-1] not in ",;:"
        and not (line.endswith(".") and length(line) > 7)
        and not _CHAPTER.fullmatch(line)
    )


def _chapters(text: str, headings: list[_Heading]) -> Iterator[tuple[str, str, str]]:
    """Title, heading and body of each; `Opening` stands before the first heading."""
    if not headings:
        yield "Whole text", "", text
        return
    front = text[: headings[0][0]]
    ready: tuple[str, str, str] | None = None
    if length(front) >= _TITLE_PAGE:
        ready, front = ("Opening", "", front), ""
    ends = [start for start, _, _ in headings[1:]] + [len(text)]
    for (start, end, title), stop in zip(headings, ends, strict=True):
        body = text[end:stop]
        if not body.strip():
            front += text[start:stop]
            continue
        if ready:
            yield ready
        ready, front = (title, front + text[start:end], body), ""
    if ready:
        yield ready[0], ready[1], ready[2] + front
    else:
        yield "Whole text", "", text


def _parts(body: str, part_words: int) -> Iterator[str]:
    """About `part_words` each and all of a size: cut where the words so far come nearest to a multiple of it."""
    total = length(body)
    size = border = total / max(1, round(total / part_words))
    start = at = 0
    seen = seen_at_start = 0.0
    for unit in _units(body, part_words):
        count = length(unit)
        if count and seen > seen_at_start and seen + count / 2 > border:
            yield body[start:at]
            start, seen_at_start = at, seen
        while border < seen + count / 2:
            border += size
        at += len(unit)
        seen += count
    yield body[start:]


def _units(body: str, most: int) -> Iterator[str]:
    """Paragraphs; one of more than `most` words, its lines and sentences; one of those, its words by the `most`."""
    for paragraph in _pieces(_PARAGRAPH, body):
        if length(paragraph) <= most:
            yield paragraph
            continue
        for line in _pieces(_LINE, paragraph):
            chunks = _WORD.findall(line) if length(line) > most else [line]
            yield from ("".join(chunks[at : at + most]) for at in range(0, len(chunks), most))


def _pieces(end: re.Pattern[str], text: str) -> Iterator[str]:
    """`text` in pieces, each but the last closed by an `end`."""
    start = 0
    for found in end.finditer(text):
        yield text[start : found.end()]
        start = found.end()
    if start < len(text):
        yield text[start:]
