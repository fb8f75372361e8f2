"""Tokenizers from nothing, made and saved so that every version of transformers reads the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import BertTokenizerFast

_BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def word_tokenizer(words: Sequence[str], **special: str) -> BertTokenizerFast:
    """BERT's tokenizer, with these words for a vocabulary.

    **Arguments:**

    - special: further special tokens, such as `bos_token="[DEC]"`.
    """
    return _of_files(BertTokenizerFast, {"vocab.txt": "\n".join([*_BERT, *special.values(), *words])}, **special)


def pair_tokenizer(kind: Any, texts: Sequence[str], *, vocab_size: int, **options: Any) -> Any:
    """A tokenizer whose tokens are pairs of pairs of bytes, as CLIP's and GPT-2's, learnt from the texts.

    **Arguments:**

    - kind: `CLIPTokenizerFast` or `GPT2TokenizerFast`.
    - vocab_size: tokens at most.
    - options: of `kind`, such as `model_max_length`.
    """
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    nothing_merged = {"vocab.json": json.dumps(vocabulary), "merges.txt": "#version: 0.2\n"}
    return _of_files(kind, nothing_merged, **options).train_new_from_iterator(texts, vocab_size=vocab_size)


def _of_files(kind: Any, files: dict[str, str], **options: Any) -> Any:
    """What every version knows is how to read a tokenizer from its files."""
    with TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        return kind.from_pretrained(folder, **options)
