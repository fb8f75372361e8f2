"""The file of captions: what is written comes back, and nothing else gets in."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avalanche_clts import Caption
from avalanche_clts.memory import captions
from avalanche_clts.memory.captions import decode_captions, encode_captions

CORPUS = sorted((Path(__file__).parent / "fuzz" / "corpus").iterdir())
GOOD = {"text": "a red star", "class": 3, "experience": 1, "task": 0, "seed": 7}

small = st.integers(0, 2**31 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=500)
some_captions = st.lists(st.builds(Caption, texts, small, small, small, st.integers(0, 2**32 - 1)), max_size=20)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


def decoded(content: bytes) -> list[Caption]:
    return decode_captions(io.BytesIO(content))


def zipped(*records: Any) -> bytes:
    return gzip.compress("\n".join(json.dumps(record) for record in records).encode())


@given(some_captions)
def test_what_is_written_is_read(written: list[Caption]) -> None:
    assert decoded(encode_captions(written)) == written


@given(some_captions, st.data())
def test_a_file_that_is_cut_or_changed_is_refused_or_the_same(written: list[Caption], data: st.DataObject) -> None:
    content = encode_captions(written)
    place = data.draw(st.integers(0, len(content) - 1))
    for hurt in (
        content[:place],
        content[:place] + bytes([content[place] ^ data.draw(st.integers(1, 255))]) + content[place + 1 :],
    ):
        try:
            found = decoded(hurt)
        except ValueError:
            continue
        assert found in (written, [])  # a change in the header, such as its time, changes nothing


@given(st.dictionaries(st.sampled_from([*GOOD, "more"]), anything))
def test_a_record_of_other_values_is_refused(values: dict[str, Any]) -> None:
    record = {**GOOD, **values}
    plain = record.keys() == GOOD.keys() and isinstance(record["text"], str)
    limits = {"class": 2**31, "experience": 2**31, "task": 2**31, "seed": 2**32}
    plain = plain and all(type(record[f]) is int and 0 <= record[f] < limit for f, limit in limits.items())
    if plain:
        assert len(decoded(zipped(record))) == 1
    else:
        with pytest.raises(ValueError, match="line 1: "):
            decoded(zipped(record))


@settings(max_examples=300)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_captions_or_an_error(content: bytes, folded: bool) -> None:
    try:
        found = decoded(gzip.compress(content) if folded else content)
    except ValueError:
        return
    assert decoded(encode_captions(found)) == found


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_the_corpus_of_the_fuzzer_is_survived(file: Path) -> None:
    content = file.read_bytes()
    whole = {"line", "two-lines", "file", "members", "escapes", "no-newline", "empty"}
    if file.name in whole:
        decoded(gzip.compress(content[1:]) if content[0] % 2 else content[1:])
    else:
        with pytest.raises(ValueError, match="not a whole file"):
            decoded(gzip.compress(content[1:]) if content[0] % 2 else content[1:])


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    bomb = gzip.compress(bytes(2**28))
    tracemalloc.start()
    with pytest.raises(ValueError, match="longer than 65536 bytes"):
        decoded(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


def test_lines_without_an_end_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "_MOST_BYTES", 10_000)
    with pytest.raises(ValueError, match="more than 10000 bytes"):
        decoded(zipped(*[GOOD] * 1000))


def test_a_caption_that_could_not_be_read_is_not_written() -> None:
    for bad in (Caption("\ud83d", 0, 0, 0, 0), Caption("a", -1, 0, 0, 0), Caption("a" * 2**16, 0, 0, 0, 0)):
        with pytest.raises(ValueError, match=r"surrogates|class must be|longer than"):
            encode_captions([bad])
