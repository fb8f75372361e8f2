"""Which classes a text names, and where."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

# Letters and digits with their accents, or other signs that are no punctuation, such as the "++" of "C++".
_TOKEN = re.compile(r"(?:[^\W_][\u0300-\u036f]*)+|[^\w\s\-/'’‘.,;:()!?\"“”]+")
_WITHIN_NAMES = {"", "-", "_", "/", "'", "’", "&"}  # between two tokens of a name, whatever its own spelling has there
_LONGER_BEFORE = re.compile(r"[-_/]\s*$|\w['’]$")  # the word goes on before the name ("fire-truck", "o'clock")
_LONGER_BEHIND = re.compile(r"\s*[-_/]")
# What follows the letter "a", where a noun or adjective would follow the article.
_NO_NOUN = {
    *("on", "in", "with", "at", "of", "is", "and", "or", "by", "against", "over", "under", "beside", "near", "next"),
    *("from", "to", "it", "its", "as", "for", "that"),
}
_NAMED_A = {"a", "an", "the", "letter", "character", "sign"}  # what comes before the letter
_ARTICLES = {"a", "an", "the"}
_IRREGULAR = (
    ("man", "men"),
    ("child", "children"),
    ("person", "people"),
    ("mouse", "mice"),
    ("goose", "geese"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("ox", "oxen"),
    ("us", "i"),  # cacti
)


class Mention(NamedTuple):
    """A class name in a text.

    **Arguments:**

    - name: as `Names.key` gives it.
    - start, end: of it in the text, in characters.
    - exact: whether it is the name as it is, and no other number of it ("trucks") or part of a word ("fire-truck").
    """

    name: tuple[str, ...]
    start: int
    end: int
    exact: bool


class Names:
    """Class names, to be found in texts: whole words, in any case and spacing, in the singular and in the plural.

    Of names within each other the longer is meant: "aquarium fish" names no fish. Equal names are one.

    **Arguments:**

    - names: of all classes.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._exact: dict[tuple[str, ...], set[str]] = {}
        self._around: dict[tuple[str, ...], set[tuple[str, str]]] = {}
        for name in names:
            key = self.key(name)
            if key:
                self._exact.setdefault(key, set()).update(_signs_between(name))
                self._around.setdefault(key, set()).add(_signs_around(name))
        self._others: dict[tuple[str, ...], tuple[str, ...]] = {}
        for key in self._exact:
            for form in _other_numbers(key[-1]):
                self._others.setdefault((*key[:-1], form), key)
        self._longest = max(map(len, self._exact), default=0)

    @staticmethod
    def key(name: str) -> tuple[str, ...]:
        """The name as it is compared; empty for one without letters and digits, which no text is found to name."""
        return tuple(_folded(token) for token in _TOKEN.findall(name))

    def mentions(self, text: str) -> list[Mention]:
        """All classes that the text names, in order."""
        found = list(self._all(text))
        return [
            m
            for m in found
            if not any(o.start <= m.start and m.end <= o.end and (o.end - o.start > m.end - m.start) for o in found)
        ]

    def may_join(self, name: str) -> bool:
        """Whether the name can make another one with the words around it, as "fish" after "aquarium" does."""
        key = set(self.key(name))
        alike = (known for names in (self._exact, self._others) for known in names)
        return any(len(known) > 1 and known != self.key(name) and key & set(known) for known in alike)

    def _all(self, text: str) -> Iterator[Mention]:
        tokens = list(_TOKEN.finditer(text))
        said = [_folded(token[0]) for token in tokens]
        for i in range(len(tokens)):
            for j in range(i + 1, min(i + self._longest, len(tokens)) + 1):
                words = tuple(said[i:j])
                name = words if words in self._exact else self._others.get(words)
                if name is None or not self._joined(name, text, tokens[i:j]):
                    continue
                if len(words) == 1 and words[0] in _ARTICLES and _is_article(text, tokens, said, i):
                    continue
                start, end = self._whole(name, text, tokens[i].start(), tokens[j - 1].end())
                within = _LONGER_BEFORE.search(text[:start]) or _LONGER_BEHIND.match(text[end:])
                yield Mention(name, start, end, exact=name == words and not within)

    def _whole(self, name: tuple[str, ...], text: str, start: int, end: int) -> tuple[int, int]:
        """Where a name begins and ends with the signs that are its own, as the bracket is of "crane (bird)"."""
        before = [b for b, _ in self._around[name] if text.endswith(b, 0, start)]
        behind = [b for _, b in self._around[name] if text.startswith(b, end)]
        return start - max(map(len, before), default=0), end + max(map(len, behind), default=0)

    def _joined(self, name: tuple[str, ...], text: str, tokens: list[re.Match[str]]) -> bool:
        """Whether the tokens stand together as those of a name do."""
        allowed = _WITHIN_NAMES | self._exact[name]
        return all(text[a.end() : b.start()].strip() in allowed for a, b in pairwise(tokens))


def _signs_between(name: str) -> set[str]:
    tokens = list(_TOKEN.finditer(name))
    return {name[a.end() : b.start()].strip() for a, b in pairwise(tokens)}


def _signs_around(name: str) -> tuple[str, str]:
    """What stands before the first letter of a name, and behind its last."""
    tokens = list(_TOKEN.finditer(name))
    return name[: tokens[0].start()].strip(), name[tokens[-1].end() :].strip()


def _is_article(text: str, tokens: list[re.Match[str]], said: list[str], i: int) -> bool:
    """Whether token `i`, an article by its spelling, is one, and not the letter."""
    if i + 1 == len(tokens) or (i > 0 and said[i - 1] in _NAMED_A):
        return False
    return not text[tokens[i].end() : tokens[i + 1].start()].strip() and said[i + 1] not in _NO_NOUN


def _folded(token: str) -> str:
    """Without case and accents, which tokenizers take away."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", token) if not unicodedata.combining(c))
    return plain.casefold() or token


def _other_numbers(word: str) -> set[str]:
    """What may be the plural of a word, or its singular. Some of it is no word; that does no harm."""
    if len(word) < 2 or not word.isalpha():
        return set()
    found = {word + "s", word + "es"}
    endings = [*_IRREGULAR, ("y", "ies"), ("f", "ves"), ("fe", "ves")]
    for one, many in endings:
        if word.endswith(one):
            found.add(word[: len(word) - len(one)] + many)
        if word.endswith(many) and many != "i":
            found.add(word[: len(word) - len(many)] + one)
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        found |= {word[:-1], *([word[:-2]] if word.endswith("es") else [])}
    return found - {word, ""}
