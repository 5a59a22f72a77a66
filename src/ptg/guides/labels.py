"""One label per cell from the guides it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptg.kernels.contract.mixture import Assignments


def guide_labels(guides: NDArray[Any], names: NDArray[Any], *, none: str) -> pd.Categorical:
    """Label cells with at most one guide.

    Parameters
    ----------
    guides
        (n_cells,) the guide of each cell, -1 for none.
    names
        (n_guides,) strings, unique.
    none
        Label of a cell without guide.
    """
    return _categorical(np.where(guides < 0, len(names), guides), np.append(names, none))


def combination_labels(
    assignments: Assignments, names: NDArray[Any], *, none: str, multiple: str, joiner: str, most: int
) -> pd.Categorical:
    """Label cells with the names of all their guides, joined in the order of the columns.

    Parameters
    ----------
    assignments
        The guides of each cell, ascending in each cell.
    names
        (n_guides,) strings, unique.
    none, multiple
        Labels of cells without guide and of cells with more than `most`.
    joiner
        Put between two names.

    Notes
    -----
    Cells are never looped over: after k rounds, cells with the same first k guides share a code, and text is made once
    per code.
    """
    indptr, indices = assignments
    n_assigned = np.diff(indptr)
    codes = (n_assigned > most).astype(np.int64)  # into texts: 0 is none, 1 is multiple
    texts = [np.array([none, multiple], dtype=object)]
    n_texts = 2
    cells = np.flatnonzero((n_assigned > 0) & (n_assigned <= most))
    code_of_first, text_of_first = np.zeros(cells.size, dtype=np.int64), np.array([""], dtype=object)
    position = 0
    while cells.size:
        pair = code_of_first * len(names) + indices[indptr[cells] + position]
        code_of_first, distinct = pd.factorize(pair)
        first, guide = np.divmod(distinct, len(names))
        text_of_first = text_of_first[first] + (joiner if position else "") + names[guide]
        position += 1
        complete = n_assigned[cells] == position
        codes[cells[complete]] = n_texts + code_of_first[complete]
        texts.append(text_of_first)
        n_texts += len(text_of_first)
        cells, code_of_first = cells[~complete], code_of_first[~complete]
    return _categorical(codes, np.concatenate(texts))


def _categorical(codes: NDArray[Any], texts: NDArray[Any]) -> pd.Categorical:
    """Make the categorical of ``texts[codes]``: only texts in use, sorted, equal ones merged."""
    used = np.flatnonzero(np.bincount(codes, minlength=len(texts)))
    categories, position = np.unique(texts[used], return_inverse=True)
    new_code = np.full(len(texts), -1, dtype=np.int64)
    new_code[used] = position
    return pd.Categorical.from_codes(new_code[codes], categories=pd.Index(categories, dtype=object))
