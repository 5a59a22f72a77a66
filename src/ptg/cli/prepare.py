"""Cells and labels for an analysis: which cells take part, with which target, in which units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ptg.cli.journal import Journal
from ptg.data import InputError, listed, log_normalize, looks_raw, not_found, read_labels, read_matrix, read_obs
from ptg.plot.style import counted
from ptg.report.results import GuideResults

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

_LARGEST_LOG = 25.0
"""No log1p of counts per ten thousand, nor of any other usual depth, is larger than this."""


def match_cells(rna: AnnData, guides: AnnData, journal: Journal) -> tuple[AnnData, AnnData]:
    """Bring both files to the cells that they share, in the order of the expression file. Both are copies."""
    shared = rna.obs_names[rna.obs_names.isin(guides.obs_names)]
    if shared.empty:
        raise InputError(
            f"rna and guides have no cell name in common (rna: {rna.obs_names[0]!r}, ..., "
            f"guides: {guides.obs_names[0]!r}, ...). Make obs_names agree."
        )
    with journal.step("Matching cells") as step:
        for name, adata in {"expression": rna, "guide": guides}.items():
            missing = adata.n_obs - len(shared)
            if missing:
                step.note(f"Left out: {counted(missing, 'cell')} in the {name} file only.")
        step.remark = f"{len(shared):,} cells have both expression and guide counts"
        return rna[shared].copy(), guides[shared].copy()


def assign_labels(guides: AnnData, target_key: str, control: str) -> tuple[GuideResults, pd.Series[Any]]:
    """Turn assigned guides into one target for each cell.

    Parameters
    ----------
    guides
        Guide counts after an assignment, with ``layers["assigned_guides"]``.
    target_key
        Column of ``guides.var`` with the target of each guide.
    control
        The control, which must be the target of some guide.

    Returns
    -------
    results
        Number of cells by outcome.
    labels
        Target of each cell, categorical; missing for cells with no guide or with guides of several targets. A cell
        with several guides of one target has that target.
    """
    targets = read_guide_targets(guides, target_key, control)
    names = list(dict.fromkeys(targets))
    code = np.array([names.index(target) for target in targets])
    member = sp.csr_matrix((np.ones(len(code)), (np.arange(len(code)), code)), shape=(len(code), len(names)))
    hits = sp.csr_matrix(sp.csr_matrix(guides.layers["assigned_guides"]) @ member)
    hits.eliminate_zeros()
    n_targets = np.diff(hits.indptr)
    one = n_targets == 1
    labels = np.full(guides.n_obs, -1, dtype=np.int64)
    labels[one] = hits.indices[hits.indptr[:-1][one]]
    outcome = {
        "guides of one target": int(one.sum()),
        "guides of several targets": int((n_targets > 1).sum()),
        "no guide": int((n_targets == 0).sum()),
    }
    column = pd.Series(pd.Categorical.from_codes(labels, pd.Index(names)), index=guides.obs_names)
    return GuideResults(guides, target_key, outcome), column


def read_guide_targets(guides: AnnData, target_key: str, control: str) -> list[str]:
    """Read the target of each guide, or raise an InputError where one is missing or none is the control."""
    if target_key not in guides.var:
        raise not_found("guide-target", target_key, "guides.var", list(guides.var.columns))
    column = guides.var[target_key]
    if column.isna().any():
        without = list(guides.var_names[column.isna()])
        raise InputError(f"guide-target={target_key!r} is missing for {listed(without)}. Give every guide a target.")
    targets = [str(target) for target in column]
    if control not in targets:
        raise not_found("control", control, f"guides.var[{target_key!r}]", list(dict.fromkeys(targets)))
    return targets


def keep_labelled_cells(rna: AnnData, key: str, journal: Journal) -> AnnData:
    """Copy the cells that have a label, the labels as categories."""
    with journal.step("Labels") as step:
        codes, names = read_labels(rna, key, argument="perturbation")
        labelled = codes >= 0
        if not labelled.all():
            step.note(f"Left out: {counted(int((~labelled).sum()), 'cell')} without a label in {key!r}.")
        screen = rna[labelled].copy()
        screen.obs[key] = pd.Categorical.from_codes(codes[labelled], pd.Index([str(name) for name in names]))
        step.remark = f"{screen.n_obs:,} cells in {len(names):,} groups"
    return screen


def drop_empty_cells(screen: AnnData, size_factor: str | None, journal: Journal) -> AnnData:
    """Leave out cells that cannot be normalised because they have no count and no size factor."""
    if size_factor is not None or screen.X is None:
        return screen
    empty = np.asarray(abs(screen.X).sum(axis=1)).ravel() == 0
    if not empty.any():
        return screen
    if empty.all():
        raise InputError(f"none of the {counted(screen.n_obs, 'cell')} has an RNA count. Pass the expression in X.")
    with journal.step("Empty cells") as step:
        step.note(f"Left out: {counted(int(empty.sum()), 'cell')} without a single RNA count.")
        step.remark = f"{int(empty.sum()):,} left out"
        return screen[~empty].copy()


def normalise(screen: AnnData, size_factor: str | None) -> str:
    """Bring ``X`` to log1p of counts per ten thousand, in place, and say what was done."""
    values = read_matrix(screen)
    if looks_raw(values):
        depth: NDArray[Any] | None = None
        if size_factor is not None:
            depth = read_obs(screen, size_factor, argument="size_factor").to_numpy()
        screen.layers["counts"] = values
        screen.X = log_normalize(values, depth)
        by = f"the size factors in {size_factor!r}" if size_factor else "each cell's own sum"
        return f"raw counts were scaled to 10,000 per cell by {by}, then natural log1p"
    if size_factor is not None:
        raise InputError(
            f"size_factor={size_factor!r} was given, but X is not raw counts. Leave it out, or pass counts."
        )
    stored = values.data if sp.issparse(values) else values
    low, high = float(stored.min(initial=0.0)), float(stored.max(initial=0.0))
    if low < 0 or high > _LARGEST_LOG:
        raise InputError(
            f"X is neither raw counts nor log1p-normalised: values from {low:g} to {high:g}. "
            "Pass whole-number counts, or the natural log1p of counts scaled to one depth."
        )
    return "X holds fractions and was taken as log1p-normalised already"
