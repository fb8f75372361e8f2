"""Coverage-guided fuzzing of the reader of captions files.

    pip install atheris
    python tests/fuzz/captions.py -runs=1000000 -max_len=400 tests/fuzz/corpus

An input is a whole file, or, where its first byte is odd, what such a file unfolds to. The reader must return captions
that can be written and read again, or raise `ValueError`; anything else is a finding.
"""

from __future__ import annotations

import gzip
import io
import sys

import atheris

with atheris.instrument_imports(include=["avalanche_clts.memory.captions", "json", "gzip"]):
    from avalanche_clts.memory.captions import decode_captions, encode_captions


def read(data: bytes) -> None:
    """One input."""
    content = gzip.compress(data[1:], compresslevel=1) if data[:1] and data[0] % 2 else data[1:]
    try:
        captions = decode_captions(io.BytesIO(content))
    except ValueError:
        return
    again = decode_captions(io.BytesIO(encode_captions(captions)))
    assert again == captions


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
