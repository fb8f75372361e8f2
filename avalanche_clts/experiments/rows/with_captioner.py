"""Strategies beside whose answer the pair's captioner is asked: what each is worth to one who asks it anyway."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import captioner, clts, colours, er
from .row import Row, Setup

if TYPE_CHECKING:
    from avalanche.training.templates import SupervisedTemplate

# CLTS, and replay at the budgets that come near it; the colour and line of each.
_LOOKS = {
    "clts": (colours.RED, "--"),
    "er-63x": (colours.SLATE, ":"),
    "er-count": (colours.PINK, "--"),
    "er-total": (colours.PINK, ":"),
}


def with_captioner(row: Row) -> Row:
    """The row, its p(class) times the captioner's; with the hyper-parameters that it has alone."""

    def build(setup: Setup) -> SupervisedTemplate:
        from ...asking_plugin import AskCaptionerPlugin

        agent = row.build(setup)
        agent.plugins.append(AskCaptionerPlugin(pair=setup.pair))
        return agent

    colour, line = _LOOKS[row.name]
    return replace(
        row,
        name=f"{row.name}+captioner",
        description=f"{row.name}, whose p(class) is multiplied by the captioner's",
        build=build,
        keeps=f"{row.keeps}, and class names",
        colour=colour,
        line=line,
        family=f"{row.family}+captioner" if row.family else "",
        like=row.name,
        uses_pair=True,
        unfit=captioner.unfit,
        unfit_pair=captioner.unfit_pair,
    )


ROWS = [with_captioner(row) for row in (*clts.ROWS, *er.ROWS) if row.name in _LOOKS]
