"""The rows of a comparison, a file each: how a strategy is built, what is searched for it, what it keeps."""

from . import (
    caption_replay,
    captioner,
    clts,
    cumulative,
    der,
    er,
    er_ace,
    ewc,
    expert_gate,
    feature_replay,
    gdumb,
    generative_replay,
    heads,
    icarl,
    joint,
    lwf,
    naive,
    name_only,
    ncm,
    ridge,
    si,
    slda,
    synthetic_data,
    with_captioner,
)
from .row import Results, Row, Setup

__all__ = ["COMPARED", "ROWS", "Results", "Row", "Setup"]

# In the order of the table.
_FILES = (
    joint,
    cumulative,
    clts,
    name_only,
    captioner,
    with_captioner,
    caption_replay,
    er,
    er_ace,
    der,
    gdumb,
    icarl,
    generative_replay,
    expert_gate,
    heads,
    ncm,
    slda,
    ridge,
    feature_replay,
    ewc,
    lwf,
    si,
    naive,
    synthetic_data,
)
ROWS: dict[str, Row] = {row.name: row for file in _FILES for row in file.ROWS}
COMPARED = [name for name, row in ROWS.items() if row.compared]
