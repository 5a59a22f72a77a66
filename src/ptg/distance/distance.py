"""The class `Distance`: what users call. It only says which pairs of groups it wants, and in which shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ptg.data import InputError, check_string, choose_labels, entry_point, read_groups, read_labels, select_groups
from ptg.distance import contrasts as contrast_table
from ptg.distance.arrays import ArrayDistances
from ptg.distance.evaluate import Bootstrap
from ptg.distance.layout import OnesidedLayout, PairwiseLayout, as_list
from ptg.distance.metrics import make_metric
from ptg.distance.of_contrasts import ContrastDistances
from ptg.execute.device import resolve_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from ptg.distance.intervals import BootstrapDraws
    from ptg.execute.device import MultiGpu


class Distance(ArrayDistances, ContrastDistances):
    """Distances between groups of cells.

    Parameters
    ----------
    metric
        ``"edistance"`` (default) or another name. Whole distributions: ``"mean_pairwise"``, ``"mmd"``,
        ``"wasserstein"``, ``"sinkhorn_divergence"``, ``"classifier_proba"``, ``"classifier_cp"``. Group means:
        ``"euclidean"``, ``"root_mean_squared_error"``, ``"mse"``, ``"mean_absolute_error"``, ``"pearson_distance"``,
        ``"spearman_distance"``, ``"kendalltau_distance"``, ``"cosine_distance"``, ``"r2_distance"``,
        ``"mahalanobis"``. Column by column: ``"sym_kldiv"``, ``"t_test"``, ``"ks_test"``, ``"nb_ll"`` (raw counts),
        ``"mean_var_distribution"``. `ptg.distance.metrics.available` has definition and source of each.
    layer_key
        Layer with the cells, ``"X"`` for `adata.X`. Not together with `obsm_key`.
    obsm_key
        Embedding with the cells. ``"X_pca"`` if neither key is given.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; by default ``ptg.settings.device``.
    **metric_options
        Options of the metric. ``edistance`` has ``estimator="unbiased"`` (default: means within a group over its
        n(n-1) pairs of different cells) or ``"biased"`` (over n² pairs, as in pertpy), and ``cell_wise_metric``
        (default ``"euclidean"``). Metrics of group means have ``agg_fct`` (default ``"mean"``, or a function). ``mmd``
        has `kernel`, `gamma` and `degree`. ``wasserstein`` and ``sinkhorn_divergence`` have `epsilon`, `epsilon_scale`,
        `tol`, `max_iter` and `relaxation`: see
        `ptg.distance.metrics.transport.Wasserstein`.

    Attributes
    ----------
    metric, layer_key, obsm_key
        What was chosen.

    Raises
    ------
    InputError
        Unknown metric, option or device, or both keys given.

    Notes
    -----
    Cells may be dense or sparse, float32 or float64; float64 is computed in float64, float32 is multiplied in float32
    and summed in float64. Cells without a label belong to no group. The distance of a group to itself is 0. A distance
    that is not defined (a group of one cell with the unbiased energy distance; a constant mean with a correlation) is
    NaN, and one warning lists such groups. Distances of all pairs of n cells take n²/2 cell-to-cell distances for
    ``edistance``, of which no more than a few blocks are ever in memory.

    Examples
    --------
    >>> import numpy as np, pandas as pd, anndata as ad, ptg
    >>> adata = ad.AnnData(
    ...     obs=pd.DataFrame({"target": ["NT", "NT", "A", "A"]}, index=list("abcd")),
    ...     obsm={"X_pca": np.array([[0.0], [1.0], [4.0], [5.0]])},
    ... )
    >>> ptg.Distance("edistance").onesided_distances(adata, "target", "NT").to_dict()
    {'A': 6.0, 'NT': 0.0}
    """

    @entry_point
    def __init__(
        self,
        metric: str = "edistance",
        layer_key: str | None = None,
        obsm_key: str | None = None,
        *,
        device: str | None = None,
        **metric_options: Any,
    ) -> None:
        self._metric = make_metric(metric, metric_options)
        if layer_key is not None and obsm_key is not None:
            raise InputError(f"layer_key={layer_key!r} and obsm_key={obsm_key!r} exclude each other. Pass one of them.")
        self.metric = self._metric.record.name
        self.layer_key = None if layer_key is None else check_string("layer_key", layer_key)
        self.obsm_key = None if obsm_key is None else check_string("obsm_key", obsm_key)
        if layer_key is None and obsm_key is None:
            self.obsm_key = "X_pca"
        resolve_device(device)
        self.device = device

    @property
    def diagnostics(self) -> pd.DataFrame | None:
        """How each pair of the last call was solved, for metrics that iterate; None for others and before any call.

        A row for each pair of different groups, with columns X, Y (their names), epsilon, n_iterations, marginal_error
        and converged. With a bootstrap: the mean epsilon, and the worst of all draws.
        """
        return self._metric.diagnostics

    @entry_point
    def pairwise(
        self,
        adata: AnnData,
        groupby: str,
        *,
        groups: Sequence[Any] | None = None,
        bootstrap: bool = False,
        n_bootstrap: int = 100,
        random_state: int = 0,
        return_draws: bool = False,
        multi_gpu: MultiGpu = None,
        show_progressbar: bool = True,
    ) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame] | tuple[pd.DataFrame, pd.DataFrame, BootstrapDraws]:
        """Compute the distances between all groups.

        Parameters
        ----------
        adata
            The data; not changed.
        groupby
            Column of `adata.obs` with the groups.
        groups
            Groups to compare, in this order; all by default, in category order.
        bootstrap
            Return means and variances over resamples instead. A draw resamples every group once, for all its pairs.
        n_bootstrap, random_state
            Number of resamples, and their seed. The resamples of a group depend on its name, not on the other groups.
        return_draws
            Return also the distances of every draw, from which `BootstrapDraws.interval` makes confidence intervals.
        multi_gpu
            GPUs to use: None or True for all, False for the current one, a list of numbers or text such as ``"0,2"``.
            Without effect on a CPU.
        show_progressbar
            Show progress on a terminal or in a notebook.

        Returns
        -------
        DataFrame, groups x groups, both axes named `groupby`; with `bootstrap` a tuple (means, variances) of such, and
        with `return_draws` a third element: `BootstrapDraws` with a column for each pair of groups, (row, column), a
        symmetric metric's only once. For ``r2_distance`` the row is the truth and the column the prediction.

        Raises
        ------
        InputError
            A column, key or group does not exist, or an argument is out of range.
        """
        self._metric.require_pairs()
        resampling = Bootstrap.checked(bootstrap, n_bootstrap, random_state, return_draws)
        groups_of_cells = read_groups(adata, groupby, groups)
        layout = PairwiseLayout(groups_of_cells.names, groupby, self._metric.record.symmetric)
        cells = self._find(adata, groups_of_cells)
        values = self._evaluate(cells, layout, resampling, multi_gpu, show_progressbar)
        means = layout.table(values.means, f"pairwise {self.metric}")
        if values.variances is None:
            return means
        variances = layout.table(values.variances, f"pairwise {self.metric} variance")
        if values.draws is None:
            return means, variances
        return means, variances, self._draws(cells, layout, values.draws, layout.pair_index(), multi_gpu)

    @entry_point
    def onesided_distances(
        self,
        adata: AnnData,
        groupby: str,
        selected_group: Any,
        *,
        groups: Sequence[Any] | None = None,
        bootstrap: bool = False,
        n_bootstrap: int = 100,
        random_state: int = 0,
        return_draws: bool = False,
        multi_gpu: MultiGpu = None,
        show_progressbar: bool = True,
    ) -> pd.Series[float] | pd.DataFrame | tuple[Any, ...]:
        """Compute the distances of groups to one control, or to several.

        Parameters
        ----------
        adata, groupby
            As in `pairwise`.
        selected_group
            The control, or a sequence of controls.
        groups
            Groups to compare with it, in this order; all by default, in category order.
        bootstrap, n_bootstrap, random_state, return_draws, multi_gpu, show_progressbar
            As in `pairwise`.

        Returns
        -------
        For one control a Series indexed by group and named ``"<metric> to <control>"``; for a sequence of controls a
        DataFrame with a column for each. A control's entry for itself is 0. With `bootstrap` a tuple (means,
        variances) of such, and with `return_draws` a third element: `BootstrapDraws` with a column for each group, or
        (group, control).

        Raises
        ------
        InputError
            A column, key, group or control does not exist, or an argument is out of range.
        """
        resampling = Bootstrap.checked(bootstrap, n_bootstrap, random_state, return_draws)
        controls, several = as_list(selected_group)
        codes, labels = read_labels(adata, groupby, argument="groupby")
        names = choose_labels(groups, groupby, labels)
        contrast_table.check_references(controls, groupby, labels)
        extra = [control for control in controls if control not in names]
        selected = select_groups(codes, labels, [*names, *extra])
        positions = np.array([selected.index(control) for control in controls])
        layout = OnesidedLayout(names, groupby, controls, positions)
        cells = self._find(adata, selected)
        values = self._evaluate(cells, layout, resampling, multi_gpu, show_progressbar)
        results = layout.results(values, self.metric, several=several)
        if values.draws is not None:
            results += (self._draws(cells, layout, values.draws, layout.pair_index(several=several), multi_gpu),)
        return results if len(results) > 1 else results[0]
