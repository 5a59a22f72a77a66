"""The few pieces of HTML that a report is made of. Everything that is not a constant is escaped here."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from ptg.report.figures import Picture

_MOST_ROWS = 200
_OPEN_ROWS = 40
_DASH = "\N{EN DASH}"


def paragraph(text: str, *, remark: bool = False) -> str:
    """Set one paragraph of plain text."""
    return f'<p class="remark">{escape(text)}</p>' if remark else f"<p>{escape(text)}</p>"


def heading(title: str, anchor: str) -> str:
    """Set the heading of a section."""
    return f'<h2 id="{escape(anchor)}">{escape(title)}</h2>'


def numbers(values: Mapping[str, str]) -> str:
    """Set key numbers, each with what it counts."""
    cards = (f'<div class="number"><b>{escape(v)}</b><span>{escape(k)}</span></div>' for k, v in values.items())
    return f'<div class="numbers">{"".join(cards)}</div>'


def picture(image: Picture, caption: str) -> str:
    """Embed a PNG file, with a caption below."""
    data = base64.b64encode(image.png).decode("ascii")
    source = f'<img width="{image.width}" alt="{escape(image.alt)}" src="data:image/png;base64,{data}">'
    return f"<figure>{source}<figcaption>{escape(caption)}</figcaption></figure>"


def notes(items: Iterable[tuple[str, str]]) -> str:
    """Set remarks, each with the step it belongs to."""
    lines = (f"<li><b>{escape(step)}</b>: {escape(text)}</li>" for step, text in items)
    return f'<ul class="notes">{"".join(lines)}</ul>'


def table(frame: pd.DataFrame, *, more_in: str, formats: Mapping[str, str] | None = None) -> str:
    """Set a table; a long one is folded, a very long one is cut.

    Parameters
    ----------
    frame
        Columns are headed by their names, numbers aligned to the right.
    more_in
        File with the whole table, named where rows were cut.
    formats
        Format of numeric columns, e.g. ``{"share": ".1%"}``; by default integers with thousands separators and four
        significant digits for others.
    """
    shown = frame.iloc[:_MOST_ROWS]
    numeric = {name: frame[name].dtype.kind in "iuf" for name in frame.columns}
    head = "".join(f"<th{_class(n=numeric[name])}>{escape(str(name))}</th>" for name in frame.columns)
    chosen = dict(formats or {})
    rows = []
    for values in shown.itertuples(index=False, name=None):
        cells = zip(frame.columns, values, strict=True)
        rows.append(f"<tr>{''.join(_cell(v, chosen.get(name, ''), numeric[name]) for name, v in cells)}</tr>")
    text = f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    if len(frame) > len(shown):
        text += paragraph(f"{len(frame) - len(shown):,} more rows are in {more_in}.", remark=True)
    if len(frame) > _OPEN_ROWS:
        return f"<details><summary>Show the table of {len(frame):,} rows</summary>{text}</details>"
    return text


def _cell(value: Any, spec: str, numeric: bool) -> str:
    text = spell(value, spec)
    return f"<td{_class(n=numeric, empty=text == _DASH)}>{escape(text)}</td>"


def _class(**applies: bool) -> str:
    names = " ".join(name for name, chosen in applies.items() if chosen)
    return f' class="{names}"' if names else ""


def fixed_decimals(values: pd.DataFrame) -> str:
    """Choose one format for numbers that are compared: five digits for the largest of them."""
    largest = float(np.nanmax(np.abs(values.to_numpy(dtype=np.float64)), initial=0.0))
    digits = 4 if largest == 0 else int(np.clip(4 - math.floor(math.log10(largest)), 0, 8))
    return f",.{digits}f"


def spell(value: Any, spec: str = "") -> str:
    """Write one value: a dash where it is missing, integers in full, other numbers with four digits."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return _DASH
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return format(int(value), spec or ",")
    if isinstance(value, (float, np.floating)):
        text = format(float(value), spec or ".4g")
        return text.removeprefix("-") if float(value) < 0 and not text.strip("-0.%") else text
    return str(value) or _DASH
