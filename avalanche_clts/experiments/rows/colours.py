"""Colours of the rows' curves: a family of strategies shares a hue.

Every colour stands out from white and from near-black (3:1 at least): pages have both.
"""

GREY, RED, ORANGE, GREEN, PINK, TEAL = "#808080", "#dc3a52", "#cd7600", "#2f9059", "#c2499d", "#1f8f97"
OLIVE, BROWN, SLATE = "#857f00", "#a5673f", "#6b7f99"
BLUE, LIGHT_BLUE, VIOLET = "#3a76d8", "#4f94e8", "#8b62d9"
