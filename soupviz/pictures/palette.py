"""One colour, one meaning (Okabe-Ito); a shape repeats what a colour says."""

INGREDIENT = "#56B4E9"
SOUP = "#E69F00"
BEST = "#009E73"
REJECTED = "#999999"
BASE = "#CC79A7"
ENSEMBLE = "#0072B2"

NEUTRAL = "#6B7782"
"""Rules, outlines and diagonals: at least 3 to 1 against both themes' backgrounds, as WCAG asks of graphics."""

COLORS = {
    "ingredient": INGREDIENT,
    "soup": SOUP,
    "best": BEST,
    "base": BASE,
    "rejected": REJECTED,
    "ensemble": ENSEMBLE,
}

SHAPES = {
    "ingredient": "circle",
    "soup": "M0,-1.2L0.28,-0.39L1.14,-0.37L0.46,0.15L0.71,0.97L0,0.48L-0.71,0.97L-0.46,0.15L-1.14,-0.37L-0.28,-0.39Z",
    "best": "diamond",
    "base": "square",
    "rejected": "cross",
    "ensemble": "M0,-1L0.87,-0.5L0.87,0.5L0,1L-0.87,0.5L-0.87,-0.5Z",
}
"""Vega's symbols, or a path: a soup is a star, an ensemble a hexagon."""

OF_CLASSES = (
    "#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#DDCC77", "#332288", "#44AA99", "#882255",
    "#999933", "#CC6677", "#117733", "#AA4499", "#88CCEE",
)  # fmt: skip
"""Of the classes of pixels, in turn: none of the colours above, and apart for eyes that lack one kind of cone.

Source: Paul Tol's bright and muted schemes, technical note SRON/EPS/TN/09-002, issue 3.2.
"""
