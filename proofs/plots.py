"""Small plots as inline SVG: how close the comparisons came, and the arrays of a case."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import log1p, prod
from typing import Any

import numpy as np

WIDTH, HEIGHT, CELL = 300, 64, 13


def strip(ratios: list[int], tightest: float | None, label: str) -> str:
    """Draw a histogram of ratios over the axis from 0 to 1, with a mark at the tightest.

    Bars are as high as the logarithm of their count: one comparison alone is still seen.
    """
    unit, highest = WIDTH / len(ratios), log1p(max(ratios))
    bars = ""
    for i, count in enumerate(ratios):
        if count:
            high = HEIGHT * log1p(count) / highest
            low, up = i / len(ratios), (i + 1) / len(ratios)
            more = " and more" if i + 1 == len(ratios) else ""
            bars += (
                f'<rect x="{i * unit:.4g}" y="{HEIGHT - high:.4g}" width="{unit - 1:.4g}" '
                f'height="{high:.4g}"><title>{count:,} from {low:g} to {up:g}{more}</title></rect>'
            )
    mark = "" if tightest is None else _mark(min(max(tightest, 0.0), 1.0) * WIDTH, tightest)
    ticks = "".join(
        f'<line x1="{x * WIDTH}" x2="{x * WIDTH}" y1="{HEIGHT}" y2="{HEIGHT + 4}"/>'
        f'<text x="{x * WIDTH}" y="{HEIGHT + 15}" text-anchor="middle">{x:g}</text>'
        for x in (0, 0.5, 1)
    )
    return (
        f'<svg class="strip" role="img" aria-label="{escape(label)}" '
        f'viewBox="-8 -6 {WIDTH + 16} {HEIGHT + 24}" width="{WIDTH + 16}" height="{HEIGHT + 24}">'
        f'<g class="bars">{bars}</g><line x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>'
        f"{ticks}{mark}</svg>"
    )


def _mark(x: float, tightest: float) -> str:
    return (
        f'<line class="mark" x1="{x:.5g}" x2="{x:.5g}" y1="-6" y2="{HEIGHT}">'
        f"<title>tightest: {tightest:.6g}</title></line>"
    )


def heat(name: str, values: Any) -> str:
    """Draw an array of any rank, its last axis across; colour is sign, opacity size.

    Slices of an array of three axes or more stand side by side.
    """
    array = np.array(values, dtype=float)
    shape = array.shape
    slices = array.reshape((-1, *shape[-2:])) if array.ndim > 2 else np.atleast_2d(array)[None]
    rows, columns = slices.shape[1:]
    largest = float(np.abs(array).max()) or 1.0
    wide = len(slices) * (columns * CELL + 5) - 5
    drawn = "".join(_cells(slices, largest))
    size = " × ".join(map(str, shape)) or "number"
    return (
        f'<figure class="heat"><svg role="img" aria-label="{escape(name)}" width="{wide}" '
        f'height="{rows * CELL}" viewBox="0 0 {wide} {rows * CELL}">{drawn}</svg>'
        f"<figcaption>{escape(name)}<br/><small>{size}, {_range(array)}</small></figcaption>"
        "</figure>"
    )


def _cells(slices: Any, largest: float) -> Iterator[str]:
    count, rows, columns = slices.shape
    for k, i, j in np.ndindex(count, rows, columns):
        value = float(slices[k, i, j])
        sign = "positive" if value > 0 else "negative" if value else "zero"
        yield (
            f'<rect class="{sign}" x="{k * (columns * CELL + 5) + j * CELL}" y="{i * CELL}" '
            f'width="{CELL - 1}" height="{CELL - 1}" fill-opacity="{abs(value) / largest:.3g}">'
            f"<title>{value!r}</title></rect>"
        )


def _range(array: Any) -> str:
    low, high = float(array.min()) + 0.0, float(array.max()) + 0.0  # no −0
    if prod(array.shape) == 1 or low == high:
        return f"{low:.4g}"
    return f"{low:.4g} … {high:.4g}"
