"""The local analysts: they lose nothing, invent nothing, and take any text."""

import builtins
import importlib
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from importlib.resources import files

import pytest
from hypothesis import given, strategies as st

from agentflow.demo import analysts
from agentflow.demo._prose import words
from agentflow.demo.analysts import (
    ANALYSTS,
    METHODS,
    PROMPTS,
    Analysis,
    Finding,
    Section,
    analyse,
    entities,
    keywords,
    sections,
    sentiment,
    summary,
    synthesis,
)

ALICE = (files("agentflow.demo") / "text.txt").read_text("utf-8")
CHAPTERS = sections(ALICE)
ANALYSES = [analyse(chapter) for chapter in CHAPTERS]

pieces = st.sampled_from(
    [
        *(
            "\n",
            "\n\n",
            "\r\n\r\n",
            "\r",
            "  ",
            "\t",
            "# One\n",
            "## Two ##\n",
            "###\n",
            "```\n",
            "CHAPTER IV\n\n",
            "Part 2: Sea\n\n",
        ),
        *(
            "Alice",
            "alice",
            "The Queen of Hearts",
            "Mr. Smith",
            "U.S.",
            "NASA",
            "O’Brien’s",
            "don't",
            "it was",
            "good",
            "awful",
        ),
        *(". ", "! ", "?’ ", "... ", "; ", "—", "“", "”", "‘", "’", "- item", "* * *", "| a | b |", "_I_", "42"),
        *("🎉", "👩‍👩‍👧", "漢字。", "Straße", "हिन्दी", "مرحبا", "\0", "\ud800", "\u2028", "\ufeff", "\x85"),
    ]
)
texts = st.one_of(
    st.text(max_size=200), st.lists(pieces, max_size=60).map(" ".join), st.lists(pieces, max_size=60).map("".join)
)
visible = texts.filter(lambda text: bool(text.removeprefix("\ufeff").strip()))


def one_line(text: str) -> str:
    return " ".join(text.split())


def whole(parts: tuple[Section, ...]) -> str:
    return "".join(part.heading + part.text for part in parts)


# --- the text that is shipped ---------------------------------------------------------------------------------------


def test_the_shipped_text_is_alice_in_twelve_chapters_and_nothing_else() -> None:
    assert len(ALICE.split()) == 26_377
    assert [chapter.title for chapter in CHAPTERS][::11] == ["Down the Rabbit-Hole", "Alice’s Evidence"]
    assert len(CHAPTERS) == 12
    assert all(1_000 < len(chapter.text.split()) < 3_000 for chapter in CHAPTERS)
    front = one_line(CHAPTERS[0].heading)
    assert front == "ALICE’S ADVENTURES IN WONDERLAND Lewis Carroll CHAPTER I. Down the Rabbit-Hole"
    for boilerplate in ("gutenberg", "copyright", "license", "electronic", "http", "edition"):
        assert boilerplate not in ALICE.lower()


def test_its_characters_are_found_where_they_appear() -> None:
    first, mad_tea_party = ANALYSES[0], ANALYSES[6]
    assert first.entities is not None
    assert mad_tea_party.entities is not None
    assert {"Alice", "White Rabbit", "Dinah"} <= {entity.name for entity in first.entities.found}
    assert [entity.name for entity in mad_tea_party.entities.found[:4]] == ["Alice", "Hatter", "Dormouse", "March Hare"]
    assert all(entity.kind == "person" for entity in mad_tea_party.entities.found[:4])
    assert mad_tea_party.keywords is not None
    assert {"Alice", "March Hare", "Hatter"} <= {keyword.phrase for keyword in mad_tea_party.keywords.found}


# --- sections -------------------------------------------------------------------------------------------------------


@given(visible, st.integers(1, 30), st.integers(0, 30))
def test_sections_hold_the_whole_text_in_order(text: str, part_words: int, more: int) -> None:
    parts = sections(text, part_words=part_words, max_words=part_words + more)
    assert whole(parts) == text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    assert [word for part in parts for word in words(part.heading + part.text)] == words(text)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert all(part.text.strip() and part.title for part in parts)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(20, 80))
def test_parts_by_size_end_with_a_paragraph_and_are_of_a_size(lengths: list[int], part_words: int) -> None:
    text = "\n\n".join(" ".join(["word"] * length) for length in lengths)
    parts = sections(text, part_words=part_words, max_words=part_words)
    assert whole(parts) == text
    for part in parts[:-1]:
        assert part.text.endswith("\n\n") or max(lengths) > part_words
    assert all(len(part.text.split()) <= 2 * part_words + max(min(max(lengths), part_words), 1) for part in parts)


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("# Book\n\n## One\n\na b\n\n## Two\n\nc", ["One", "Two"]),
        ("# Book\n\nIntro.\n\n## One\n\na b\n\n## Two\n\nc\n\n### Deeper\n\nd", ["Book", "One", "Two"]),
        ("# One #\n\na\n\n```\n# no heading\n```\n\n# Two\n\nb", ["One", "Two"]),
        ("# Only\n\ntext", ["Only"]),
        ("# A heading and nothing else", ["Whole text"]),
        ("CHAPTER I\n\nThe Start\n\nIt began.\n\nCHAPTER II\n\nThe End\n\nIt ended.", ["The Start", "The End"]),
        ("CHAPTER I\nThe Start\n\nIt began.\n\nCHAPTER II\nThe End\n\nIt ended.", ["The Start", "The End"]),
        ("Chapter 1: Rain\n\nIt fell.\n\nChapter 2. Sun\n\nIt shone.", ["Rain", "Sun"]),
        ("PART ONE\n\nCHAPTER I\n\nit began.\n\nCHAPTER II\n\nit ended.", ["CHAPTER I", "CHAPTER II"]),
        (
            "Letter the First\n\ndear sister,\n\nLetter the Second\n\ndear brother,",
            ["Letter the First", "Letter the Second"],
        ),
        ("Chapter 1 of this report is about rain, which\nfell.\n\nchapter 2\n\nis not.", ["Whole text"]),
        ("Chapter 1: One\n\nChapter 2: Two\n\nChapter 1: One\n\na\n\nChapter 2: Two\n\nb", ["One", "Two"]),
        ("CHAPTER I\nit began\n\nCHAPTER II\nit ended", ["Whole text"]),
        ("one two\n\nthree four\n\nfive six", ["Whole text"]),
    ],
)
def test_a_text_is_divided_where_its_author_did(text: str, titles: list[str]) -> None:
    parts = sections(text)
    assert [part.title for part in parts] == titles
    assert whole(parts) == text


def test_what_stands_before_the_first_heading_is_a_section_if_it_is_more_than_a_title_page() -> None:
    preface = "word " * 30
    assert [part.title for part in sections(f"{preface}\n\n# A\n\na\n\n# B\n\nb")] == ["Opening", "A", "B"]
    assert [part.title for part in sections("By Me\n\n# A\n\na\n\n# B\n\nb")] == ["A", "B"]


def test_a_heading_at_the_very_end_stays_with_the_text_above_it() -> None:
    parts = sections("# A\n\na\n\n# B\n")
    assert [(part.title, part.text) for part in parts] == [("A", "\na\n\n# B\n")]


def test_long_sections_and_texts_without_headings_are_divided_by_size() -> None:
    long = sections("# A\n\n" + "one two three.\n\n" * 10 + "# B\n\nshort", part_words=10, max_words=20)
    assert [part.title for part in long] == ["A, part 1", "A, part 2", "A, part 3", "B"]
    assert [part.heading for part in long] == ["# A\n", "", "", "# B\n"]
    assert [len(part.text.split()) for part in sections("One two three. " * 100, part_words=50)] == [
        51,
        48,
        51,
        51,
        48,
        51,
    ]
    assert [part.title for part in sections("word " * 40, part_words=20)] == ["Part 1", "Part 2"]


def test_a_text_without_spaces_is_divided_too() -> None:
    parts = sections("彼女は笑った。" * 1_000, part_words=500, max_words=500)
    assert len(parts) == 7
    assert all(part.text.endswith("。") for part in parts)


def test_sizes_that_make_no_sense_are_refused() -> None:
    for part_words, max_words in ((0, 10), (10, 9)):
        with pytest.raises(ValueError, match="part_words"):
            sections("text", part_words=part_words, max_words=max_words)


# --- what all four have in common -----------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", ["", " ", "\n\r\n\t", "\u2028"])
@pytest.mark.parametrize("analyst", [sections, *ANALYSTS.values()])
def test_no_text_is_an_error_that_says_so(analyst: Callable[[str], object], blank: str) -> None:
    with pytest.raises(ValueError, match="nothing to analyse"):
        analyst(blank)


@given(visible)
def test_any_text_gets_findings_that_stand_in_it(text: str) -> None:
    flat = one_line(text)
    mood = sentiment(text)
    assert -1 <= mood.score <= 1
    assert mood.sentences >= 1
    for quoted in (mood.most_positive, mood.most_negative):
        assert quoted is None or quoted in flat
    names = entities(text).found
    assert all(one_line(entity.name) in flat and entity.count >= 1 for entity in names)
    phrases = keywords(text).found
    assert len(phrases) <= 5
    assert all(keyword.phrase in flat and flat.count(keyword.phrase) >= 1 for keyword in phrases)
    chosen = summary(text, sentences=3).sentences
    assert 1 <= len(chosen) <= 3
    place = 0
    for sentence in chosen:
        place = flat.index(sentence, place) + len(sentence)


@given(visible)
def test_the_same_text_gets_the_same_report(text: str) -> None:
    assert synthesis([analyse(part) for part in sections(text)]) == synthesis(
        [analyse(part) for part in sections(text)]
    )


@pytest.mark.parametrize("name", ANALYSTS)
def test_line_endings_make_no_difference(name: str) -> None:
    chapter = CHAPTERS[6].text
    for ending in ("\r\n", "\r"):
        assert ANALYSTS[name](chapter.replace("\n", ending)) == ANALYSTS[name](chapter)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(ALICE * 7, id="Alice seven times"),
        pytest.param(ALICE.upper(), id="capitals"),
        pytest.param("漢字です。" * 30_000, id="no spaces"),
        pytest.param("a" * 1_000_000, id="one word"),
        pytest.param("." * 1_000_000, id="stops"),
        pytest.param("Alice" + " " * 1_000_000 + "; Bob", id="white space"),
        pytest.param("🎉 👍🏽. " * 2_000, id="pictures"),
        pytest.param("Queen of the " * 16_000, id="a name without end"),
        pytest.param("CHAPTER I\n\nfoo\n\n" * 12_000, id="chapters"),
        pytest.param(
            " ".join(f"w{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}" for n in range(17_000)),
            id="all new",
        ),
    ],
)
def test_a_long_text_of_any_kind_is_read_to_its_end(text: str) -> None:
    """Up to a megabyte. Quadratic time would show here as minutes."""
    assert whole(sections(text)) == text
    for analyst in ANALYSTS.values():
        assert str(analyst(text))


def test_one_word_is_a_text() -> None:
    (part,) = sections("Hello")
    found = analyse(part)
    assert str(found.sentiment) == "neutral (+0.00)"
    assert str(found.entities) == "no names"
    assert str(found.summary) == "Hello"
    assert str(found.keywords) == "no keywords"


def test_findings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        CHAPTERS[0].title = "Other"  # type: ignore[misc]  # that is the point
    with pytest.raises(TypeError):
        PROMPTS["sentiment"] = "?"  # type: ignore[index]  # that is the point


# --- each by itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("What a wonderful day! I love this place, everybody is happy and kind.", "positive"),
        ("I’m so ‘happy’—truly “delighted”…", "positive"),
        ("🎉 😍", "positive"),
        ("This is not good. I hate the terrible noise and the awful smell.", "negative"),
        ("I don’t like it.", "negative"),
        ("The table has four legs.", "neutral"),
        ("12345 ***", "neutral"),
    ],
)
def test_sentiment_of_plain_cases(text: str, label: str) -> None:
    assert sentiment(text).label == label


def test_sentiment_quotes_the_sentences_at_both_ends() -> None:
    found = sentiment(
        "It rained. I love my wonderful friends!\nThe train was late. The accident was horrible and\nsad."
    )
    assert found.most_positive == "I love my wonderful friends!"
    assert found.most_negative == "The accident was horrible and sad."
    assert found.sentences == 4
    calm = sentiment("It rained.")
    assert (calm.most_positive, calm.most_negative) == (None, None)


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def missing(name: str, package: str | None = None) -> object:
        if name.startswith("vaderSentiment"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    analysts._vader.cache_clear()
    with pytest.raises(ImportError, match=r"agentflow-py\[examples\]") as caught:
        sentiment("text")
    assert caught.value.name == "vaderSentiment"
    assert str(keywords("apples and apples")) == "apples"  # the others go on


def test_kinds_of_names_come_from_the_words_beside_them() -> None:
    text = (
        "Barack Obama, who worked with Mr. Biden in Washington, visited Paris. The University of Oxford and Acme Ltd "
        "wrote to J. K. Rowling. ‘Yes,’ said poor Anna. Anna’s train to Lyon left Baker Street at noon. On Monday NASA "
        "and the staff of NASA cheered William the Conqueror."
    )
    found = {entity.name: entity for entity in entities(text).found}
    assert {name: entity.kind for name, entity in found.items()} == {
        "Barack Obama": "other",
        "Mr. Biden": "person",
        "Washington": "place",
        "Paris": "place",
        "University of Oxford": "organisation",
        "Acme Ltd": "organisation",
        "J. K. Rowling": "other",
        "Anna": "person",
        "Lyon": "place",
        "Baker Street": "place",
        "NASA": "other",
        "William the Conqueror": "other",
    }
    assert found["NASA"].count == found["Anna"].count == 2
    assert found["Washington"].evidence == "after 'in'"
    assert found["Barack Obama"].evidence == "its capital alone"


def test_capitals_alone_make_no_name() -> None:
    assert (
        entities(
            "It was VERY hot. The door was open. Suddenly it shut. Open it! I said so, and it was very late."
        ).found
        == ()
    )
    assert entities("THE WHOLE TEXT SHOUTS. IT SHOUTS ABOUT BERLIN.").found == ()
    assert [entity.name for entity in entities("Bob likes tea. Bob likes milk.").found] == ["Bob"]
    assert [entity.name for entity in entities("We met Ann\nYesterday\nand Cid.").found] == ["Ann", "Cid"]
    assert [entity.name for entity in entities("We met Ann and Cid and Ann.", top=1).found] == ["Ann"]
    assert [entity.name for entity in entities("It was in March Ann met the March Hare, on a Monday.").found] == [
        "Ann",
        "March Hare",
    ]


def test_a_name_may_run_over_the_end_of_a_line() -> None:
    text = "it was already late in the evening when the White\nRabbit came, and a minute later the White Rabbit left."
    assert [(entity.name, entity.count) for entity in entities(text).found] == [("White Rabbit", 2)]


def test_keywords_are_phrases_and_not_their_parts() -> None:
    text = "The mock turtle sang. A mock turtle wept, the mock turtle’s tears were salt, and salt is salt."
    assert [(keyword.phrase, keyword.count) for keyword in keywords(text, top=2).found] == [
        ("mock turtle", 3),
        ("salt", 3),
    ]
    assert keywords("and of the 12 ...").found == ()


def test_keywords_are_written_as_the_text_does_most_often() -> None:
    assert keywords("Rain. The rain and the rain.", top=1).found[0].phrase == "rain"


def test_a_summary_says_what_most_of_the_text_is_about() -> None:
    text = (
        "The harbour of the town was rebuilt by the council after the storm of 1901. Hello! "
        "‘Who paid for the harbour and the town and the council?’ asked a man. My hat is green. "
        "The council borrowed money for the harbour, and the town paid it back for decades."
    )
    found = summary(text, sentences=2)
    assert found.sentences == (
        "The harbour of the town was rebuilt by the council after the storm of 1901.",
        "The council borrowed money for the harbour, and the town paid it back for decades.",
    )
    assert str(found) == " ".join(found.sentences)


def test_a_summary_is_never_longer_than_the_text() -> None:
    assert summary("One. Two.", sentences=5).sentences == ("One.", "Two.")
    with pytest.raises(ValueError, match="at least one sentence"):
        summary("One.", sentences=0)


def test_sentences_end_where_a_reader_would_say() -> None:
    text = (
        "Mr. Smith met J. Doe. ‘Stop!’ cried she. “Why?” He paid 3.50 in St. Ives…\nthen left\n\n- first item\n"
        "- second\nno stop at the paragraph's end\n\nnext.漢字。次。"
    )
    assert summary(text, sentences=20).sentences == (
        "Mr. Smith met J. Doe.",
        "‘Stop!’ cried she.",
        "“Why?”",
        "He paid 3.50 in St. Ives… then left",
        "- first item",
        "- second no stop at the paragraph's end",
        "next.漢字。",
        "次。",
    )


# --- the report -----------------------------------------------------------------------------------------------------


def test_the_report_puts_all_chapters_together() -> None:
    report = synthesis(ANALYSES, title="Alice")
    assert report.startswith("# Alice\n\n12 sections, 26,301 words.\n\n## Sentiment\n\n")
    assert "| 7 | A Mad Tea-Party | " in report
    assert "- **Alice** (person): 393 × in sections 1–12\n" in report
    assert "- **Hatter** (person): 55 × in sections 6–7, 11\n" in report
    assert "- **court**: 15 × in section 11\n" in report
    assert "\n12. **Alice’s Evidence**: " in report
    assert "Missing" not in report
    flat = one_line(ALICE)
    short = report.partition("## Summary\n\n")[2].partition("\n")[0]
    assert all(sentence in flat for sentence in summary(short, sentences=9).sentences)


def test_the_report_names_what_is_missing() -> None:
    half = [Analysis(CHAPTERS[0]), *ANALYSES[1:3], Analysis(CHAPTERS[3], sentiment=sentiment("Good!"))]
    report = synthesis(half)
    assert report.endswith(
        "## Missing\n\n- sentiment of section 1\n- entities of sections 1, 4\n- summary of sections 1, 4\n"
        "- keywords of sections 1, 4\n"
    )
    nothing = synthesis([Analysis(CHAPTERS[0])])
    assert "## Sentiment" not in nothing
    assert "## Names" not in nothing
    assert "## Summary" not in nothing
    with pytest.raises(ValueError, match="no section"):
        synthesis([])


def test_the_trend_is_told_by_the_first_and_the_last_third() -> None:
    def report(*each: str) -> str:
        return synthesis([Analysis(Section(n, f"S|{n}", "", text), sentiment(text)) for n, text in enumerate(each, 1)])

    good, bad, plain = "I love it.", "I hate it.", "It is blue."
    assert "rising from -0.57 in the first third to +0.64 in the last" in report(bad, plain, good)
    assert "falling from +0.64" in report(good, bad)
    assert "about level" in report(good, bad, good)
    assert "Brightest in 3, *S|3*" in report(bad, plain, good)
    assert "| 1 | S\\|1 | negative (-0.57) | `" in report(bad, plain, good)
    assert "third" not in report(good)


def test_a_text_about_nobody_has_no_names() -> None:
    report = synthesis([analyse(part) for part in sections("it is so.")])
    assert "## Names\n\nNone found.\n" in report


def test_every_analyst_has_a_method_and_a_prompt() -> None:
    assert list(ANALYSTS) == list(METHODS) == [name for name in PROMPTS if name != "synthesis"]
    assert ANALYSTS["summary"] is summary
    found: Finding = ANALYSTS["keywords"]("apples and apples")
    assert str(found) == "apples"


def test_nothing_is_read_or_imported_but_the_word_list(monkeypatch: pytest.MonkeyPatch) -> None:
    sentiment("warm up")
    monkeypatch.setattr(builtins, "open", lambda *_: pytest.fail("opened a file"))
    assert analyse(CHAPTERS[0]) == ANALYSES[0]
