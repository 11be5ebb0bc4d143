"""The names in a text, found by their capitals; what kind of name, by the words beside them."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from agentflow.demo._prose import TITLES, WORD, says_little, tidy, unix_lines, word_set

Kind = Literal["person", "place", "organisation", "other"]
_KINDS: tuple[Kind, ...] = ("organisation", "place", "person")

_SPEECH = word_set(
    """
    said says asked asks replied replies answered answers cried cries exclaimed exclaims shouted whispered thought
    thinks added adds remarked remarks repeated muttered murmured continued interrupted sighed growled roared
    screamed shrieked begged pleaded called inquired observed declared announced explained told tells wrote writes
    believes knew felt laughed smiled nodded wept
    """
)
_INSIDE = word_set("in near across throughout visited reached")
_TOWARDS = re.compile(
    r"(?:going|gone|went|came|come|returned|travell?ed|sailed|moved|fled|drove|flew|journey|train|ship) (?:to|from)"
    r"|(?:capital|city|town|village|coast|north|south|east|west) of"
)
_PLACE_ENDS = word_set(
    """
    street road avenue lane square river island islands city town village county country mountain mountains hill
    hills lake sea ocean bay coast valley park bridge castle station airport desert forest
    """
)
_ORGANISATION_WORDS = word_set(
    """
    company inc ltd llc plc corp corporation gmbh university college school academy institute bank ministry
    department committee commission council society association foundation agency party union parliament senate
    congress court church army navy museum press club
    """
)
_NO_PLACE = re.compile(r"(?:ish|ese|[ie]an)$|^(?:French|German|Latin|Greek|Dutch|Arabic|Hebrew|Welsh|Hindi|God)$")
_ROMAN = re.compile(r"[IVXLCDM]+")
_LINKS = word_set("of the de del della di da du la le van von der den bin al")
_ENDING = re.compile(r"['’](?:s|d|ll|ve|re|m)$", re.IGNORECASE)
_NEVER_ALONE = word_set("mr mrs ms miss mme dr prof rev sir st gen col capt")
_DAYS = word_set("monday tuesday wednesday thursday friday saturday sunday")
_MONTHS = word_set("january february march april may june july august september october november december")
_BEFORE_A_MONTH = word_set("in of since by until last next early mid late")
_FULL_LINE = 45  # characters: after fewer, a line ended because its author ended it
_STARTS = re.compile(r"""[.!?…:\n\t•*_#"“”„‘«(\[—–|>`]|--|(?:^|\s)['-]""")
"""What, between two words, lets the second have a capital without being a name."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A name.

    Attributes:
        name: As the text writes it.
        kind: `other` when nothing beside it told.
        count: Times the text has it; a longer name that contains it is another name.
        evidence: What told the kind, for people: `beside a verb of speech, 41 times`.
    """

    name: str
    kind: Kind
    count: int
    evidence: str


@dataclass(frozen=True, slots=True)
class Entities:
    """The names of a text, the most frequent first, then in order of appearance; may be empty."""

    found: tuple[Entity, ...]

    def __str__(self) -> str:
        return ", ".join(f"{each.name} ({each.count})" for each in self.found[:8]) or "no names"


@dataclass(slots=True)
class _Token:
    word: str  # without 's, 'd, 'll
    start: int
    end: int
    joined: bool  # only white space since the word before, or the stop of an initial or a title
    forced: bool  # a capital here says nothing
    whole: bool  # nothing was taken off


def entities(text: str, *, top: int | None = None) -> Entities:
    """The people, places and organisations that a text names.

    A name is a run of words with capitals, `of`, `the`, `von` and the like allowed inside (`William the
    Conqueror`). A word counts as capitalised by right if it has its capital inside sentences too, and
    more often than not; at the start of a sentence alone, twice and never small. Stop words never do.

    What kind it is, the words beside it say, by the most votes: a title (`Father William`) or a verb of
    speech means a person; `in` before it or `River` at its end, a place; `Ltd` or `University` in it, an
    organisation. Nothing is looked up, so a name that the text only drops is `other`, and a text that
    capitalises all nouns, as German does, has many "names".

    Args:
        text: Anything that isn't blank.
        top: At most so many; `None` means all.

    Raises:
        ValueError: The text is empty or blank.
    """
    if not text.strip():
        raise ValueError("there is nothing to analyse: the text is empty")
    text = unix_lines(text)
    tokens = list(_tokens(text))
    counts: Counter[str] = Counter()
    votes: dict[str, Counter[tuple[Kind, str]]] = defaultdict(Counter)
    for first, last in _runs(tokens):
        name = tidy(text[tokens[first].start : tokens[last].end])
        counts[name] += 1
        votes[name].update(_votes(tokens, first, last))
    return Entities(tuple(_entity(name, count, votes[name]) for name, count in counts.most_common(top)))


def _tokens(text: str) -> Iterator[_Token]:
    before: _Token | None = None
    for found in WORD.finditer(text):
        word = _ENDING.sub("", found[0])
        joined, forced = False, True
        if before:
            gap = text[before.end : found.start()]
            if gap.isspace():
                full_line = "\n" not in gap or before.end - text.rfind("\n", 0, before.end) > _FULL_LINE
                joined = before.whole and gap.count("\n") < 2 and full_line
                forced = "\n" in gap
            elif gap[:1] == "." and gap[1:].isspace() and (_is_title(before.word) or _is_initial(before.word)):
                joined, forced = True, False
            else:
                forced = _STARTS.search(gap) is not None
        before = _Token(word, found.start(), found.start() + len(word), joined, forced, word == found[0])
        yield before


def _is_title(word: str) -> bool:
    return word.lower() in TITLES


def _is_initial(word: str) -> bool:
    return len(word) == 1 and word.isupper() and word != "I"


def _names(tokens: list[_Token]) -> list[bool]:
    """For each word, whether it has its capital by right."""
    inside: Counter[str] = Counter()
    forced: Counter[str] = Counter()
    small: Counter[str] = Counter()
    for token in tokens:
        if token.word[0].isupper():
            (forced if token.forced else inside)[token.word] += 1
        else:
            small[token.word.lower()] += 1
    shouted = [len(token.word) > 1 and token.word.isupper() for token in tokens]
    stressed = any(loud and small[token.word.lower()] for token, loud in zip(tokens, shouted, strict=True))

    @cache
    def by_right(word: str) -> bool:
        if not word[0].isupper() or len(word) == 1 or says_little(word) or word.lower() in _DAYS:
            return False
        often = inside[word] + forced[word] > small[word.lower()]
        if word.isupper():  # an acronym, if not a Roman number nor in a text that stresses words by capitals
            return not stressed and len(word) <= 6 and not _ROMAN.fullmatch(word)
        if inside[word]:
            return often
        return forced[word] > 1 and not small[word.lower()] and not word.endswith(("ly", "ing", "ed"))

    names = [
        by_right(token.word) and not (loud and ((shouted[max(at - 1, 0)] and at > 0) or any(shouted[at + 1 : at + 2])))
        for at, (token, loud) in enumerate(zip(tokens, shouted, strict=True))
    ]
    for at, token in enumerate(tokens):  # "in March"; yet a March Hare is a name
        if names[at] and at and token.word.lower() in _MONTHS and tokens[at - 1].word.lower() in _BEFORE_A_MONTH:
            names[at] = False
    for at in range(len(tokens) - 2, -1, -1):  # "Ada Lovelace" at the start of a sentence; "J. Smith", "Mr. Smith"
        word, low = tokens[at].word, tokens[at].word.lower()
        if names[at + 1] and tokens[at + 1].joined and not names[at] and word[0].isupper() and not shouted[at]:
            known = says_little(word) or low in _DAYS | _MONTHS
            names[at] = not known and (not small[low] or _is_title(word) or _is_initial(word))
    return names


def _runs(tokens: list[_Token]) -> Iterator[tuple[int, int]]:
    """First and last word of each name."""
    names = _names(tokens)
    at, count = 0, len(tokens)

    def goes_on(first: int, last: int) -> int:
        """Where the name has its next word, or 0."""
        for following in range(last + 1, min(last + 4, count)):
            if not tokens[following].joined:
                return 0
            if names[following]:
                return following
            link = tokens[following].word
            if link not in _LINKS or (link == "the" and tokens[following - 1].word != "of" and last > first):
                return 0
        return 0

    while at < count:
        first = last = at
        at += 1
        if not names[first]:
            continue
        while following := goes_on(first, last):
            last = following
        at = last + 1
        if first < last or tokens[first].word.lower() not in _NEVER_ALONE | _MONTHS:
            yield first, last


def _votes(tokens: list[_Token], first: int, last: int) -> Iterator[tuple[Kind, str]]:
    named = [token.word.lower() for token in tokens[first : last + 1]]
    if named[0] in TITLES:
        yield "person", "a title"
    if len(named) > 1 and not _ORGANISATION_WORDS.isdisjoint(named):
        yield "organisation", "a word for a body of people in it"
    elif len(named) > 1 and named[-1] in _PLACE_ENDS:
        yield "place", "a word for a place at its end"
    whole = tokens[last].whole and not _NO_PLACE.search(tokens[last].word)
    if whole and first > 1 and tokens[first].joined and tokens[first - 1].joined:
        phrase = f"{tokens[first - 2].word} {tokens[first - 1].word}".lower()
        if _TOWARDS.fullmatch(phrase):
            yield "place", f"after {phrase!r}"
    before = first
    while before and tokens[before].joined:
        before -= 1
        word = tokens[before].word.lower()
        if word in _SPEECH:
            yield "person", "a verb of speech beside it"
        if word in _INSIDE and before == first - 1 and whole:
            yield "place", f"after {word!r}"
        if word not in ("the", "poor", "little", "old", "young"):
            break
    if last + 1 < len(tokens) and tokens[last + 1].joined and tokens[last + 1].word in _SPEECH:
        yield "person", "a verb of speech beside it"


def _entity(name: str, count: int, votes: Counter[tuple[Kind, str]]) -> Entity:
    kinds: Counter[Kind] = Counter()
    for (kind, _), times in votes.items():
        kinds[kind] += times
    if not kinds:
        return Entity(name, "other", count, "its capital alone")
    most = max(kinds.values())  # even: what the name itself says, not its company
    best = next(kind for kind in _KINDS if kinds[kind] == most)
    reasons = [(why, times) for (kind, why), times in votes.most_common() if kind == best]
    evidence = "; ".join(f"{why}, {times} times" if times > 1 else why for why, times in reasons)
    return Entity(name, best, count, evidence)
