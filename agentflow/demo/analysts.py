"""Four readers of a text that need no model, and the report that puts their findings together.

They select and count what the text says and write nothing of their own: every name, keyword and
sentence they return stands in the text. `METHODS` says how, in a line each; `PROMPTS` asks a model
for the same.

    report = synthesis([analyse(part) for part in sections(text)])

Each takes any text in any language and raises `ValueError` when there is none. They know English
best: stop words, titles and verbs of speech of other languages are words like any other. Time grows
with the length of the text, no faster.
"""

import importlib
import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import cast

from agentflow.demo._entities import Entities as Entities, Entity as Entity, Kind as Kind, entities as entities
from agentflow.demo._findings import (
    Analysis as Analysis,
    Finding as Finding,
    Keyword as Keyword,
    Keywords as Keywords,
    Label as Label,
    Sentiment as Sentiment,
    Summary as Summary,
    label,
)
from agentflow.demo._prose import WORD, says_little, select, sentences as cut, tidy, unix_lines
from agentflow.demo._report import synthesis as synthesis
from agentflow.demo._sections import Section as Section, sections as sections

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "sentiment": "VADER's word list and rules (Hutto & Gilbert 2014), the mean over all sentences",
        "entities": "words with capitals inside sentences, counted; their kind from the words beside them",
        "summary": "sentences with the most frequent words, as they stand (after SumBasic, Nenkova & Vanderwende 2005)",
        "keywords": "frequent phrases without stop words, not again in longer ones (after C-value, Frantzi 2000)",
    }
)
"""What each analyst does, for the line in which a run says that no model was asked."""

PROMPTS: Mapping[str, str] = MappingProxyType(
    {
        "sentiment": (
            "Judge the sentiment of the text the user sends. First line: positive, negative or neutral, then a "
            "score from -1 to 1 and how sure you are in percent. Then quote, word for word, the most positive and "
            "the most negative sentence. Nothing else."
        ),
        "entities": (
            "List the people, places and organisations that the text the user sends names. One a line, the most "
            "prominent first: name, kind (person, place, organisation or other), and a few words on its part in "
            "the text. Only names that stand in the text, spelled as there. If it names none, say so."
        ),
        "summary": (
            "Summarise the text the user sends in exactly two sentences of your own. Only what the text says; no "
            "opinion, no introduction."
        ),
        "keywords": (
            "Give the five keywords or short phrases that best say what the text the user sends is about, the "
            "most important first, on one line, separated by commas. Prefer the text's own words. Nothing else."
        ),
        "synthesis": (
            "The user sends what four analysts found in each section of one document: sentiment, names, summary "
            "and keywords. Write one report in Markdown, at most 400 words: how the sentiment moves from section "
            "to section, the leading names and the sections they appear in, the keywords of the whole, and a "
            "summary of the whole. Use only what the findings say; where one is missing, say so."
        ),
    }
)
"""What a model is told to do the work of each analyst, and of the synthesis; the text is the user's message."""


def sentiment(text: str) -> Sentiment:
    """Score each sentence by VADER's word list and rules.

    Raises:
        ValueError: The text is empty or blank.
        ImportError: vaderSentiment isn't installed; the message names the extra.

    Source: C. J. Hutto and E. Gilbert, VADER, ICWSM 2014.
    """
    score = _vader()
    scored = [(score(each.translate(_PLAIN)), each) for each in _sentences(text)]
    mean = round(math.fsum(each for each, _ in scored) / len(scored), 4)
    best = max(scored, key=lambda each: each[0])
    worst = min(scored, key=lambda each: each[0])
    return Sentiment(
        label=label(mean),
        score=mean,
        sentences=len(scored),
        most_positive=best[1] if best[0] > 0 else None,
        most_negative=worst[1] if worst[0] < 0 else None,
    )


def summary(text: str, *, sentences: int = 2) -> Summary:
    """Select the sentences whose words are the most frequent, each adding something new.

    A sentence scores the probabilities of its words, stop words left out, by its length; once it is chosen, the
    probabilities of its words are squared, so that the next one is about something else. Statements of 10 to 40 words
    go first, told before spoken; questions and torn quotations come only when there is nothing else.

    Args:
        text: Anything that isn't blank.
        sentences: At most so many.

    Raises:
        ValueError: The text is empty or blank, or `sentences` is below 1.

    Source: after A. Nenkova and L. Vanderwende, The Impact of Frequency on Summarization, 2005 (SumBasic).
    """
    return Summary(tuple(select(_sentences(text), sentences)))


def keywords(text: str, *, top: int = 5) -> Keywords:
    """Rank the words and phrases between stop words and punctuation.

    A phrase scores log2(words + 1) times its count, the count of the most frequent longer phrase around it taken off:
    where all turtles are mock turtles, `turtle` is no keyword. Even scores stand in order of appearance.

    Args:
        text: Anything that isn't blank.
        top: At most so many.

    Raises:
        ValueError: The text is empty or blank.

    Source: after K. Frantzi, S. Ananiadou and H. Mima, The C-value/NC-value Method, 2000.
    """
    if not text.strip():
        raise ValueError("there is nothing to analyse: the text is empty")
    forms: defaultdict[_Phrase, Counter[str]] = defaultdict(Counter)
    for run in _content_runs(unix_lines(text)):
        for part in _parts(tuple(run), 3):
            forms[tuple(word.lower() for word in part)][" ".join(part)] += 1
    counts = {phrase: written.total() for phrase, written in forms.items()}
    inside: Counter[_Phrase] = Counter()
    for phrase, count in counts.items():
        if count > 1:
            for shorter in _parts(phrase, len(phrase) - 1):
                inside[shorter] = max(inside[shorter], count)
    found = [
        Keyword(forms[phrase].most_common(1)[0][0], count, math.log2(len(phrase) + 1) * (count - inside[phrase]))
        for phrase, count in counts.items()
        if count > 1 or len(phrase) == 1
    ]
    found.sort(key=lambda each: -each.score)
    return Keywords(tuple(found[:top]))


ANALYSTS: Mapping[str, Callable[[str], Finding]] = MappingProxyType(
    {"sentiment": sentiment, "entities": entities, "summary": summary, "keywords": keywords}
)
"""The four by name, in the order of an `Analysis`."""


def analyse(section: Section) -> Analysis:
    """All four over one section, one after the other."""
    text = section.text
    return Analysis(section, sentiment(text), entities(text), summary(text), keywords(text))


def _sentences(text: str) -> list[str]:
    if not text.strip():
        raise ValueError("there is nothing to analyse: the text is empty")
    return list(cut(text)) or [tidy(text)]


_Phrase = tuple[str, ...]


def _parts(run: _Phrase, longest: int) -> Iterator[_Phrase]:
    for size in range(1, longest + 1):
        for at in range(len(run) - size + 1):
            yield run[at : at + size]


def _content_runs(text: str) -> Iterator[list[str]]:
    """Words that say something and have only white space between them, a possessive 's taken off."""
    run: list[str] = []
    end = 0
    for found in WORD.finditer(text):
        word = found[0]
        gap = text[end : found.start()]
        if run and not (gap.isspace() and gap.count("\n") < 2):
            yield run
            run = []
        end = found.end()
        bare = word[:-2] if word[-2:] in ("'s", "’s") else word
        little = says_little(word) or (len(bare) < 3 and bare.isascii())
        if not little:
            run.append(bare)
        if run and (little or bare != word):
            yield run
            run = []
    if run:
        yield run


_PLAIN = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "—": " - ", "–": " - ", "…": "..."}
)


@cache
def _vader() -> Callable[[str], float]:
    """The compound score of a sentence, -1 to 1; the word list is read once."""
    try:
        module = importlib.import_module("vaderSentiment.vaderSentiment")
    except ImportError as error:
        raise ImportError(
            "the sentiment analyst needs vaderSentiment: pip install 'agentflow-py[examples]'", name="vaderSentiment"
        ) from error
    with warnings.catch_warnings():  # it opens its files with codecs.open, deprecated in Python 3.14
        warnings.simplefilter("ignore", DeprecationWarning)
        analyser = module.SentimentIntensityAnalyzer()
    return lambda sentence: cast("float", analyser.polarity_scores(sentence)["compound"])
