"""Splitters: nothing is lost, nothing is cut that must not be, and no chunk is larger than asked for."""

import json
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from agentflow.errors import ConfigError
from agentflow.patterns.splitters import (
    Chunk,
    FileSplitter,
    RecordSplitter,
    SectionSplitter,
    SentenceSplitter,
    TokenSplitter,
    approximate_tokens,
)


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Files are read in threads, which a clock that jumps doesn't wait for."""
    return request.param


CODE = "```python\ndef f():\n\n    return 'a # b'\n# not a heading\n```"
GUIDE = f"""Before all headings.

# Guide

Hello. This is the guide!

## Install

{CODE}

Then go on.

### Deeper

Setext below

Use
===

Words   > and

    indented code

    # no heading either

# Install

The other one.
"""

pieces = st.text(alphabet="ab é漢字\n\t`~#.!?", max_size=8)
texts = st.lists(
    pieces | st.just(f"\n{CODE}\n") | st.sampled_from(["Dr. No. ", "word ", "\n\n", "# H\n", "~~~\n"]), max_size=25
)


def words(text: str) -> list[str]:
    return text.split()


def covered(text: str, chunks: list[Chunk]) -> set[int]:
    return {at for chunk in chunks for at in range(chunk.start, chunk.end)}


@settings(max_examples=150, deadline=None)
@given(texts, st.integers(3, 40), st.integers(0, 2))
@pytest.mark.parametrize("kind", [TokenSplitter, SentenceSplitter, SectionSplitter])
def test_chunks_are_the_text_itself_and_leave_nothing_out_but_spaces(
    kind: type, parts: list[str], size: int, overlap: int
) -> None:
    text = "".join(parts)
    chunks = list(kind(size=size, overlap=overlap, count=len)(text))
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text == chunk.text.strip() != ""
    left = {at for at, char in enumerate(text) if not char.isspace()} - covered(text, chunks)
    assert not left
    assert [chunk.start for chunk in chunks] == sorted(chunk.start for chunk in chunks)
    if not overlap:
        assert all(one.end <= other.start for one, other in pairwise(chunks))


@settings(max_examples=150, deadline=None)
@given(texts, st.integers(3, 40), st.integers(0, 2))
def test_no_word_and_no_code_block_is_cut_and_only_they_make_a_chunk_too_large(
    parts: list[str], size: int, overlap: int
) -> None:
    text = "".join(parts)
    fences = [(match.start(), match.end()) for match in re.finditer(re.escape(CODE), text)]
    for chunk in TokenSplitter(size, overlap=overlap, count=len)(text):
        for at in (chunk.start, chunk.end):
            if 0 < at < len(text):
                pair = text[at - 1 : at + 1]
                assert pair != pair.replace(" ", "") or re.search(r"[漢字\s]", pair) or "`" in pair or "~" in pair, pair
        if "~" not in text and text.count("```") == 2 * len(fences):
            assert not [
                fence for fence in fences if fence[0] < chunk.start < fence[1] or fence[0] < chunk.end < fence[1]
            ]
        if len(chunk.text) > size:
            assert "```" in chunk.text or "~~~" in chunk.text or len(words(chunk.text)) == 1


def test_tokens_with_an_overlap_of_whole_words() -> None:
    chunks = list(TokenSplitter(4, overlap=2, count=lambda text: len(text.split()))("a b c d e f g h i"))
    assert [chunk.text for chunk in chunks] == ["a b c d", "c d e f", "e f g h", "g h i"]


def test_tokens_are_counted_by_who_counts_them() -> None:
    assert approximate_tokens("four") == 1
    assert [chunk.text for chunk in TokenSplitter(3)("four four four four")] == ["four four", "four four"]
    counted: list[str] = []

    def count(text: str) -> float:
        counted.append(text)
        return 1

    assert [chunk.text for chunk in TokenSplitter(2, count=count)("a b c")] == ["a b", "c"]
    assert [text.strip() for text in counted] == ["a", "b", "c"]


def test_scripts_without_spaces_are_cut_between_characters() -> None:
    assert [chunk.text for chunk in TokenSplitter(3, count=len)("漢字かな漢字")] == ["漢字か", "な漢字"]


def test_a_fence_that_is_not_closed_reaches_to_the_end_and_a_longer_one_holds_a_shorter() -> None:
    inner = "````\n```\nx y z\n```\n````"
    assert [chunk.text for chunk in TokenSplitter(1, count=len)(f"a\n{inner}\nb")] == ["a", inner, "b"]
    assert [chunk.text for chunk in TokenSplitter(1, count=len)("a\n```\nx y z\n\nw")] == ["a", "```\nx y z\n\nw"]


def test_sentences_stay_whole_and_abbreviations_end_none() -> None:
    text = "Dr. Smith paid 3.50 dollars. He left! Did he?"
    five = SentenceSplitter(1, count=lambda sentence: 1)
    assert [chunk.text for chunk in five(text)] == ["Dr. Smith paid 3.50 dollars.", "He left!", "Did he?"]
    assert [chunk.text for chunk in SentenceSplitter(8)(text)] == ["Dr. Smith paid 3.50 dollars.", "He left! Did he?"]
    assert [chunk.text for chunk in SentenceSplitter(3)("one two three four five")] == ["one two", "three four", "five"]


def test_an_overlap_of_sentences() -> None:
    splitter = SentenceSplitter(2, overlap=1, count=lambda sentence: 1)
    assert [chunk.text for chunk in splitter("Tea first. Then milk. Stir it. Drink.")] == [
        "Tea first. Then milk.",
        "Then milk. Stir it.",
        "Stir it. Drink.",
    ]


def test_sections_have_the_headings_they_stand_under() -> None:
    chunks = list(SectionSplitter()(GUIDE))
    assert [chunk.title for chunk in chunks] == [
        "",
        "Guide",
        "Guide > Install",
        "Guide > Install > Deeper",
        "Use",
        "Install",
    ]
    assert CODE in chunks[2].text
    assert "# no heading either" in chunks[4].text
    assert [chunk.title for chunk in SectionSplitter(level=1)(GUIDE)] == ["", "Guide", "Use", "Install"]


def test_a_section_that_is_too_long_is_cut_on_and_keeps_its_title_and_its_code() -> None:
    chunks = list(SectionSplitter(30, count=len)(GUIDE))
    titled = [chunk for chunk in chunks if chunk.title == "Guide > Install"]
    assert [chunk.text for chunk in titled] == ["## Install", CODE, "Then go on."]
    assert max(len(chunk.text) for chunk in chunks if chunk.text != CODE) <= 41  # an indented block is code too


def test_line_ends_of_other_systems_move_nothing() -> None:
    text = GUIDE.replace("\n", "\r\n")
    chunks = list(SectionSplitter()(text))
    assert [chunk.title for chunk in chunks] == [chunk.title for chunk in SectionSplitter()(GUIDE)]
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    odd = "# A\n\nx\x0cy\u2028z\n\n# B\n\nw"
    assert [(chunk.title, chunk.text) for chunk in SectionSplitter()(odd)] == [
        ("A", "# A\n\nx\x0cy\u2028z"),
        ("B", "# B\n\nw"),
    ]


def test_records_of_lines_json_csv_and_lists() -> None:
    assert [chunk.value for chunk in RecordSplitter()("a\n\n b \nc")] == ["a", "b", "c"]
    assert [chunk.value for chunk in RecordSplitter(2)(["a", "b", "c"])] == [["a", "b"], ["c"]]
    found = list(RecordSplitter(format="jsonl")('{"a": 1}\n[2]\n"x"\n'))
    assert [chunk.value for chunk in found] == [{"a": 1}, [2], "x"]
    assert [json.loads(chunk.text) for chunk in found[:2]] == [{"a": 1}, [2]]
    rows = list(RecordSplitter(format="csv")('name,note\nx,"a\nb"\ny,\n'))
    assert [chunk.value for chunk in rows] == [{"name": "x", "note": "a\nb"}, {"name": "y", "note": ""}]
    assert [(chunk.start, chunk.end) for chunk in RecordSplitter(2)("abc")] == [(0, 1)]
    numbers = iter(range(5))
    assert next(RecordSplitter(2)(numbers)).value == [0, 1]
    assert list(numbers) == [2, 3, 4]  # no more is taken than is asked for


def test_a_line_that_is_no_json_is_named() -> None:
    with pytest.raises(ConfigError, match="line 3 is no JSON"):
        list(RecordSplitter(format="jsonl")("1\n\n{nope\n"))


async def test_files_come_in_order_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# B\n\nbee")
    (tmp_path / "a.md").write_text("# A\n\nay\n\n## A2\n\nmore")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.md").write_bytes(b"sea \xff")
    (tmp_path / "x.txt").write_text("not this one")
    whole = [(chunk.title, chunk.text) async for chunk in FileSplitter(tmp_path, "**/*.md")("other/files")]
    assert whole == [("a.md", "# A\n\nay\n\n## A2\n\nmore"), ("b.md", "# B\n\nbee"), ("sub/c.md", "sea \ufffd")]
    cut = [chunk.title async for chunk in FileSplitter(str(tmp_path), "*.md", then=SectionSplitter())(None)]
    assert cut == ["a.md > A", "a.md > A > A2", "b.md > B"]
    with pytest.raises(ConfigError, match="there is no folder"):
        [chunk async for chunk in FileSplitter(tmp_path / "none")("")]


def test_nothing_and_spaces_give_nothing() -> None:
    for splitter in (TokenSplitter(5), SentenceSplitter(5), SectionSplitter(), SectionSplitter(5), RecordSplitter()):
        assert list(splitter("")) == list(splitter(" \n\n \t")) == []


def test_a_long_text_is_split_as_it_is_read() -> None:
    """The first chunk costs no more than the first paragraph."""
    counted = 0

    def count(text: str) -> float:
        nonlocal counted
        counted += 1
        return 1

    text = "One two three. Four five.\n\n" * 10_000
    assert next(SentenceSplitter(2, count=count)(text)).text == "One two three. Four five."
    assert counted < 10


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: TokenSplitter(0), "size must be above overlap"),
    (lambda: TokenSplitter(5, overlap=5), "size must be above overlap"),
    (lambda: TokenSplitter(-1), "size must be a number"),
    (lambda: TokenSplitter(True), "size must be a number"),
    (lambda: SentenceSplitter(float("inf")), "size must be a number"),
    (lambda: SentenceSplitter(5, overlap=-1), "overlap must be a number"),
    (lambda: SectionSplitter("5"), "size must be a number"),  # type: ignore[arg-type]
    (lambda: SectionSplitter(level=0), "level must be 1 to 6"),
    (lambda: RecordSplitter(0), "per_chunk must be"),
    (lambda: RecordSplitter(format="xml"), "format must be"),  # type: ignore[arg-type]
    (lambda: list(TokenSplitter(5)(["a"])), "TokenSplitter splits text, not list"),
    (lambda: list(RecordSplitter()(5)), "takes text or a list of records, not int"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("module", ["sentencex", "markdown_it"])
def test_without_the_extra_it_says_what_to_install(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentflow.patterns import splitters

    splitters._sentence_library.cache_clear()
    splitters._markdown.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    make = SentenceSplitter if module == "sentencex" else SectionSplitter
    with pytest.raises(ConfigError, match=r"pip install 'agentflow-py\[split\]'"):
        make(5)
