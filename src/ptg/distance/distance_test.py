"""The class `DistanceTest`: permutation tests of distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ptg.data import (
    InputError,
    check_choice,
    check_integer,
    check_label,
    check_number,
    choose_labels,
    entry_point,
    listed,
    read_labels,
    select_groups,
    warn,
)
from ptg.distance import contrasts as contrast_table
from ptg.distance.distance import Distance
from ptg.distance.evaluate import evaluate
from ptg.distance.null import permutation_null
from ptg.distance.tool import DistanceTool
from ptg.execute import to_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.distance.tool import Cells
    from ptg.execute.device import MultiGpu

CORRECTIONS = (
    "bonferroni",
    "sidak",
    "holm-sidak",
    "holm",
    "simes-hochberg",
    "hommel",
    "fdr_bh",
    "fdr_by",
    "fdr_tsbh",
    "fdr_tsbky",
)
"""Names of `statsmodels.stats.multitest.multipletests`."""


class DistanceTest(DistanceTool):
    """Permutation tests of distances between groups of cells and a contrast group.

    Parameters
    ----------
    metric
        Any metric of `ptg.Distance`.
    n_perms
        Number of permutations. The smallest possible p-value is ``1 / (1 + n_perms)``.
    layer_key, obsm_key
        Where the cells are, as in `ptg.Distance`; ``"X_pca"`` if neither is given.
    padj_threshold
        A group is significant if its p-value is below it.
    correction
        Correction for multiple tests, by its name in `statsmodels.stats.multitest.multipletests`: ``"holm-sidak"``
        (default), ``"holm"``, ``"bonferroni"``, ``"sidak"``, ``"simes-hochberg"``, ``"hommel"``, ``"fdr_bh"``,
        ``"fdr_by"``, ``"fdr_tsbh"`` or ``"fdr_tsbky"``.
    cell_wise_metric
        Distance between cells, for metrics that have a choice.
    random_state
        Seed. The permutations of a group depend on it and on the names and sizes of the group and the contrast, not on
        other groups, the device or the number of threads; the first 1,000 of 10,000 are those of ``n_perms=1000``.
    alpha
        pertpy's older name of `padj_threshold`; None leaves that as it is.
    device
        As in `ptg.Distance`.
    **metric_options
        Options of the metric, such as ``estimator``.

    Attributes
    ----------
    metric, n_perms, layer_key, obsm_key, padj_threshold, correction, random_state
        What was chosen.
    distance
        The `ptg.Distance` whose values are tested.

    Raises
    ------
    InputError
        An argument is not accepted.

    Notes
    -----
    The null hypothesis is that the cells of the group and of the contrast have the same distribution. For each group,
    the labels of its cells and of the contrast's are permuted among them, all permutations that keep the two sizes
    being equally likely, and the distance is computed each time [1]_:

    ``pvalue = (1 + number of permutations with distance >= the observed one) / (1 + n_perms)``

    which is never 0, and at most `a` with a probability of at most `a` where the null hypothesis holds [2]_. A distance
    within rounding of the observed one counts as equal: closer than 1e-9 of the largest distance of the group's
    permutations, or 1e-6 for float32 cells and for metrics found by iteration. pertpy 1.4.0 counts larger ones only,
    takes at least one, and divides by `n_perms`; it also counts the contrast as one of the tests to correct for.

    Cells of one batch, donor or guide are more alike than others, and not exchangeable: where the group and the
    contrast differ in these, p-values are too small. Test contrasts within their levels then (`test_contrasts`).

    The energy distance needs of a permutation only the sum of distances within the smaller of the two sides; distances
    are computed in blocks and never stored. Metrics of means need a sum of cells. All others are evaluated anew for
    each permutation.

    References
    ----------
    .. [1] Rizzo and Székely, Energy distance, 2016, 10.1002/wics.1375
    .. [2] Phipson and Smyth, Permutation p-values should never be zero, 2010, 10.2202/1544-6115.1585

    Examples
    --------
    >>> import numpy as np, pandas as pd, anndata as ad, ptg
    >>> cells = np.random.default_rng(1).normal(size=(60, 2)) + np.repeat([[0.0], [0.0], [3.0]], 20, axis=0)
    >>> obs = pd.DataFrame({"target": np.repeat(["NT", "A", "B"], 20)}, index=[f"c{i}" for i in range(60)])
    >>> adata = ad.AnnData(obs=obs, obsm={"X_pca": cells})
    >>> table = ptg.DistanceTest("edistance", n_perms=999)(adata, "target", contrast="NT")
    >>> table["significant_adj"].to_dict()
    {'A': False, 'B': True, 'NT': False}
    """

    @entry_point
    def __init__(
        self,
        metric: str = "edistance",
        *,
        n_perms: int = 1000,
        layer_key: str | None = None,
        obsm_key: str | None = None,
        padj_threshold: float = 0.05,
        correction: str = "holm-sidak",
        cell_wise_metric: Any = None,
        random_state: int = 0,
        alpha: float | None = None,
        device: str | None = None,
        **metric_options: Any,
    ) -> None:
        if cell_wise_metric is not None:
            metric_options["cell_wise_metric"] = cell_wise_metric
        self.distance = Distance(metric, layer_key=layer_key, obsm_key=obsm_key, device=device, **metric_options)
        self._take_over(self.distance)
        self.n_perms = check_integer("n_perms", n_perms, minimum=1)
        threshold = ("padj_threshold", padj_threshold) if alpha is None else ("alpha", alpha)
        self.padj_threshold = check_number(*threshold, minimum=0.0, maximum=1.0, open_ends=True)
        self.correction = check_choice("correction", correction, CORRECTIONS)
        self.random_state = check_integer("random_state", random_state, minimum=0)

    @entry_point
    def __call__(
        self,
        adata: AnnData,
        groupby: str,
        contrast: Any,
        show_progressbar: bool = True,
        *,
        groups: Sequence[Any] | None = None,
        multi_gpu: MultiGpu = None,
    ) -> pd.DataFrame:
        """Test every group against the contrast group.

        Parameters
        ----------
        adata
            The data; not changed.
        groupby
            Column of `adata.obs` with the groups. Cells without a label take no part.
        contrast
            The group to test against, usually the control.
        show_progressbar
            Show progress on a terminal or in a notebook.
        groups
            Groups to test, in this order; all by default, in category order.
        multi_gpu
            As in `Distance.pairwise`.

        Returns
        -------
        DataFrame indexed by group, named `groupby`, with columns

        - ``distance``: to the contrast group, as `Distance.onesided_distances` has it;
        - ``pvalue``, ``significant``: of the permutation test, and whether it is below `padj_threshold`;
        - ``pvalue_adj``, ``significant_adj``: corrected for the number of groups tested, without the contrast;
        - ``effect``: distance minus the mean distance of the permutations;
        - ``zscore``: effect in standard deviations of the distance over the permutations; NaN where they are all
          the same;
        - ``pvalue_error``: Monte-Carlo standard error of ``pvalue``, ``sqrt(pvalue (1 - pvalue) / n_perms)``.

        The contrast has a row where it is among the groups, with distance 0, p-values 1 and NaN in the last three. A
        group whose distance is not defined, for its labels or for a permutation of them, has NaN, is not significant
        and does not count in the correction; one warning lists such groups.

        Raises
        ------
        InputError
            A column, key or group does not exist, or an argument is out of range.
        """
        codes, labels = read_labels(adata, groupby, argument="groupby")
        names = choose_labels(groups, groupby, labels)
        check_label("contrast", contrast, groupby, labels)
        tested = np.array([name != contrast for name in names])
        if not tested.any():
            raise InputError(f"there is no group but the contrast {contrast!r}. Pass groups to test against it.")
        selected = select_groups(codes, labels, names if contrast in names else [*names, contrast])
        left = np.flatnonzero(tested)
        right = np.full(len(left), selected.index(contrast))
        columns = self._test(self._find(adata, selected), (left, right), multi_gpu, show_progressbar)
        table = pd.DataFrame(_CONTRAST_ROW, index=pd.Index(names, name=groupby))
        for name, values in columns.items():
            table.loc[tested, name] = values
        return table

    @entry_point
    def test_contrasts(
        self,
        adata: AnnData,
        contrasts: pd.DataFrame,
        *,
        show_progressbar: bool = True,
        multi_gpu: MultiGpu = None,
    ) -> pd.DataFrame:
        """Test each contrast of a table.

        Parameters
        ----------
        adata
            The data; not changed.
        contrasts
            Table as `Distance.contrast_distances` takes it; `Distance.create_contrasts` builds one.
        show_progressbar, multi_gpu
            As in `__call__`.

        Returns
        -------
        Copy of `contrasts` with the columns of `__call__`; the correction is over all contrasts of the table. NaN for a
        contrast without cells, with one warning that lists such contrasts.

        Raises
        ------
        InputError
            The table is not as described there, or names a column or label that does not exist.
        """
        resolved = contrast_table.resolve_contrasts(adata, contrasts)
        same = resolved.has_cells & (resolved.left == resolved.right)
        if same.any():
            row = contrasts.index[same].tolist()[0]
            raise InputError(f"contrasts row {row!r} compares a group with itself. Leave such rows out.")
        has_cells = resolved.has_cells
        pairs = resolved.left[has_cells], resolved.right[has_cells]
        columns = self._test(self._find(adata, resolved.groups), pairs, multi_gpu, show_progressbar)
        table = contrasts.assign(**{name: False if name in _FLAGS else np.nan for name in columns})
        for name, values in columns.items():
            table.loc[has_cells, name] = values
        contrast_table.warn_of_missing(contrasts[~has_cells])
        return table

    def _test(
        self,
        cells: Cells,
        pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
        multi_gpu: MultiGpu,
        show_progressbar: bool,
    ) -> dict[str, NDArray[Any]]:
        """Test pairs of groups; the columns of the result."""
        self._metric.require_pairs()
        with self._open(cells, multi_gpu, show_progressbar) as (unsorted, run):
            sample = unsorted.on_device(run)
            observed = to_host(evaluate(self._metric, sample, *pairs, bootstrap=None, run=run).means)
            null = permutation_null(
                self._metric, sample, pairs, n_perms=self.n_perms, random_state=self.random_state, run=run
            )
        _warn_of_undefined(
            self.metric, [sample.names[x] for x in pairs[0][np.isnan(null.pvalues) & ~np.isnan(observed)]]
        )
        adjusted = _adjust(null.pvalues, self.padj_threshold, self.correction)
        with np.errstate(invalid="ignore"):  # NaN where both are infinite
            effects = observed - null.means
        spread = np.where(null.standard_deviations > 0, null.standard_deviations, np.nan)
        return {
            "distance": observed,
            "pvalue": null.pvalues,
            "significant": null.pvalues < self.padj_threshold,
            "pvalue_adj": adjusted[0],
            "significant_adj": adjusted[1],
            "effect": effects,
            "zscore": effects / spread,
            "pvalue_error": np.sqrt(null.pvalues * (1.0 - null.pvalues) / self.n_perms),
        }


_CONTRAST_ROW = {
    "distance": 0.0,
    "pvalue": 1.0,
    "significant": False,
    "pvalue_adj": 1.0,
    "significant_adj": False,
    "effect": np.nan,
    "zscore": np.nan,
    "pvalue_error": np.nan,
}
_FLAGS = ("significant", "significant_adj")


def _warn_of_undefined(metric: str, names: list[Any]) -> None:
    if names:
        warn(
            f"{len(names)} p-value(s) of {metric} are NaN: for some permutations of the labels of groups "
            f"{listed(names)} it is not defined, although it is for the labels as they are."
        )


def _adjust(
    pvalues: NDArray[np.float64], threshold: float, correction: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Correct p-values for their number; NaN stays NaN and does not count."""
    from statsmodels.stats.multitest import multipletests

    adjusted, significant = np.full(len(pvalues), np.nan), np.zeros(len(pvalues), dtype=bool)
    known = np.isfinite(pvalues)
    if known.any():
        with np.errstate(divide="ignore"):  # the logarithm of 1 - p for p = 1
            significant[known], adjusted[known], *_ = multipletests(pvalues[known], alpha=threshold, method=correction)
    return adjusted, significant
