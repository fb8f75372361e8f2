"""Class names as a person says them: from the labels of files to words, and into a prompt."""

from __future__ import annotations

import csv
import logging
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

_logger = logging.getLogger("avalanche_clts")

_WORDNET_ID = re.compile(r"n\d{8}")
# "0 - zero", "001.Black_footed_Albatross", "3: cat"; but not "747-400" or "3.5 inch disk".
_NUMBERED = re.compile(r"(?:\d+(?:\s+[-–—]\s+|[.:)]\s*)(?=[^\W\d]))+")
# What may be a number of its own kind ("1_euro") unless every label of a data set has one.
_PERHAPS_NUMBERED = re.compile(r"(\d+)[\s_.:)–—-]+(?=[^\W\d])")
_HUMP = r"(?:[A-Z][a-z]{2,}|[A-Z]{2,}(?![a-z]))"
_CAMEL = re.compile(rf"(?:[a-z]{{2,}}|{_HUMP}){_HUMP}+")  # not "iPhone", "McDonald"
_HUMPS = re.compile(rf"^[a-z]{{2,}}|{_HUMP}")


def words(label: str, meanings: Mapping[str, str] | None = None) -> str:
    """A label of a data set as words: "aquarium fish" for "aquarium_fish", "zero" for "0 - zero", "T-shirt or top" for
    "T-shirt/top", "annual crop" for "AnnualCrop", "goldfish" for "n01443537". What is words already stays as it is.

    **Arguments:**

    - label: of a class, such as the name of its folder.
    - meanings: of WordNet ids, as `wordnet_words` reads them. None, or where it lacks one: those that timm ships, if it
        is installed (the extra `wordnet`); an id that is not known stays as it is.
    """
    return _in_words(label, meanings or {}, without_number=True)


def _in_words(label: str, meanings: Mapping[str, str], *, without_number: bool) -> str:
    text = " ".join(unicodedata.normalize("NFC", label).replace("_", " ").split())
    known = _WORDNET_ID.match(text)
    if known and known.end() == len(text):
        return _meaning(text, meanings)
    if known:  # "n02085620-Chihuahua"
        text = text[known.end() :].lstrip(" -.") or text
    text = _NUMBERED.sub("", text, count=1) if without_number and _NUMBERED.match(text) else text
    text = " ".join(_from_camel_case(word) for word in text.split())
    text = re.sub(r"(?<=\w\w)\s*/\s*(?=\w)|(?<=\w)\s*/\s*(?=\w\w)", " or ", text)  # "N/A" is one word
    text = re.sub(r"(?<=[a-z]{3})(?=\d+$)", " ", text)  # "cup1", but not "mp3"
    return text.strip(" /") or label


def words_of(labels: Sequence[str], folder: Path | None = None) -> list[str]:
    """All labels of a data set as words; see `words`. Together they tell what one of them does not: whether numbers in
    front are a numbering ("1_cat", "2_dog") or names ("1_euro", "2_euro"), and capitals a style ("SeaLake", "Forest").

    **Arguments:**

    - labels: of all classes.
    - folder: that the data lie in. A `words.txt` in it, or beside it, says what WordNet ids mean.
    """
    meanings = wordnet_words(folder) if folder is not None and any(map(_WORDNET_ID.match, labels)) else {}
    numbers = [_PERHAPS_NUMBERED.match(label) for label in labels]
    counted = {number[1] for number in numbers if number}
    bare = [label[number.end() :] if number else label for label, number in zip(labels, numbers, strict=True)]
    if len(labels) > 1 and len(counted) == len(set(bare)) == len(labels) and _is_numbering(counted):
        labels = bare
    if any(_CAMEL.fullmatch(word) for label in labels for word in label.split("_")):
        labels = [label.lower() if re.fullmatch(r"[A-Z][a-z]+", label) else label for label in labels]
    # What alone tells two labels apart is part of their names: a number ("1.cat", "3.cat"), or how they are spelt.
    said = [words(label, meanings) for label in labels]
    said = _apart(labels, said, [_in_words(label, meanings, without_number=False) for label in labels])
    return _apart(labels, said, labels)


def _apart(labels: Sequence[str], said: Sequence[str], otherwise: Sequence[str]) -> list[str]:
    """What is said of each label, otherwise where another label is called the same."""
    meant = {text: {label for label, its in zip(labels, said, strict=True) if its == text} for text in said}
    return [text if len(meant[text]) == 1 else other for text, other in zip(said, otherwise, strict=True)]


def _is_numbering(numbers: Collection[str]) -> bool:
    """Whether these count something up, from 0 or 1 on or padded with zeros, as years and numbers of doors do not."""
    return min(map(int, numbers)) <= 1 or any(len(number) > 1 and number.startswith("0") for number in numbers)


def wordnet_words(folder: Path) -> dict[str, str]:
    """What WordNet ids mean, from `words.txt` in `folder` or beside it: lines of an id, a tab and its words."""
    for path in (folder / "words.txt", folder.parent / "words.txt"):
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                return {row[0]: row[1] for row in rows if len(row) > 1}
    return {}


def _meaning(wordnet_id: str, meanings: Mapping[str, str]) -> str:
    meaning = meanings.get(wordnet_id) or _timm_meaning(wordnet_id)
    return wordnet_id if meaning is None else " ".join(meaning.split(",")[0].replace("_", " ").split())


@cache
def _timm_meaning(wordnet_id: str) -> str | None:
    try:
        from timm.data import ImageNetInfo
    except ImportError:
        _no_timm()
        return None
    try:
        meaning: str = ImageNetInfo().label_name_to_description(wordnet_id)
    except KeyError:
        return None
    return meaning


@cache
def _no_timm() -> None:
    """Say once what is missing."""
    _logger.warning(
        "the class names are WordNet ids, such as n01443537; pip install avalanche-clts[wordnet] to have them in "
        "words, put a words.txt beside the folders, or give class_names"
    )


def _from_camel_case(word: str) -> str:
    if not _CAMEL.fullmatch(word):
        return word
    return " ".join(hump if hump.isupper() else hump.lower() for hump in _HUMPS.findall(word))


def fill(template: str, class_name: str) -> str:
    """The template with the class name in it, and before it the article that suits: "an apple" from "a {class_name}".

    **Arguments:**

    - template: with `{class_name}` where the name goes; see `require_template`.
    - class_name: in words, as it is to be said.
    """
    *before, end = template.split("{class_name}")
    said = [agreeing(part.format(class_name=class_name), class_name) + class_name for part in before]
    return "".join(said) + end.format(class_name=class_name)


def require_template(argument: str, template: str) -> None:
    """Raise `ValueError` where the template asks for anything but the class name."""
    try:
        fill(template, "")
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError(
            f"{argument} is {template!r}; {{class_name}} is the only thing in braces that it may hold"
        ) from None


def agreeing(before: str, class_name: str) -> str:
    """The words before a class name; where they end in "a" or "an", in the one that suits the name."""
    found = _ARTICLE.search(before)
    if found is None:
        return before
    right = article(class_name)
    said = found[1][0] + right[1:] + found[2] if right else ""  # its first letter keeps its size
    return before[: found.start()] + said


def article(name: str) -> str:
    """The indefinite article before a name: "a", "an", or "" before what is always plural ("scissors")."""
    if _PLURAL.search(name):
        return ""
    first = re.split(r"[\s\-'’/]", name.lstrip("\"'([‘“ "), maxsplit=1)[0]
    if first.lower() in _SAID_WITH_VOWEL:
        return "an"
    if first[:1].isdigit():
        return "an" if first[0] == "8" or first in ("11", "18") else "a"
    if len(first) == 1 or (first.isupper() and not re.search("[AEIOUY]", first)):  # "an X-ray", "an LCD"
        return "an" if unicodedata.normalize("NFD", first.lower())[:1] in tuple("aefhilmnorsx") else "a"
    plain = unicodedata.normalize("NFD", first.lower())
    if re.match(r"hour|honest|honou?r|heir", plain):
        return "an"
    return "an" if plain[:1] in "aeiou" and not _SAID_WITH_CONSONANT.match(plain) else "a"


_ARTICLE = re.compile(r"(?<![^\W_])(an?)(\s+)$", re.IGNORECASE)
_PLURAL = re.compile(
    r"(?<!pair of )\b(?:scissors|shears|pliers|tweezers|(?:sun)?glasses|goggles|binoculars|trousers|pants|jeans|shorts|"
    r"trunks|pyjamas|pajamas|tights|leggings|clothes|cattle)(?: \d+)?$",
    re.IGNORECASE,
)
_SAID_WITH_VOWEL = {"hors", "mri", "suv", "fbi", "nba", "8th", "11th", "18th"}
# "a unicorn", "a ukulele", "a European", "a ewe", "a one"; but "an unidentified", "an umbrella", "an onion".
_SAID_WITH_CONSONANT = re.compile(
    r"uni(?!d|m|n)|unanim|u[bcfhjkqrst][aeiou]|uak|us$|usb$|ukr|uv$|eu|ew|one(?!r|i)|once$|oui"
)
