"""Class names as a person says them: from the labels of files to words, and into a prompt."""

from __future__ import annotations

import csv
import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
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
    text = " ".join(unicodedata.normalize("NFC", label).replace("_", " ").split())
    known = _WORDNET_ID.match(text)
    if known and known.end() == len(text):
        return _meaning(text, meanings or {})
    if known:  # "n02085620-Chihuahua"
        text = text[known.end() :].lstrip(" -.") or text
    text = _NUMBERED.sub("", text, count=1) if _NUMBERED.match(text) else text
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
    if len(labels) > 1 and len(counted) == len(set(bare)) == len(labels):
        labels = bare
    if any(_CAMEL.fullmatch(word) for label in labels for word in label.split("_")):
        labels = [label.lower() if re.fullmatch(r"[A-Z][a-z]+", label) else label for label in labels]
    return [words(label, meanings) for label in labels]


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
        "the class names are WordNet ids, such as n01443537; pip install avalanche-clts[wordnet] to have them in words, "
        "put a words.txt beside the folders, or give class_names"
    )


def _from_camel_case(word: str) -> str:
    if not _CAMEL.fullmatch(word):
        return word
    return " ".join(hump if hump.isupper() else hump.lower() for hump in _HUMPS.findall(word))
