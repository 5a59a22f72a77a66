"""The class `Distance`: what users call. It only says which pairs of groups it wants, and in which shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ptg.data import (
    InputError,
    as_matrix,
    check_flag,
    check_string,
    choose_labels,
    entry_point,
    find_matrix,
    listed,
    read_groups,
    read_labels,
    select_groups,
    warn,
)
from ptg.distance import contrasts as contrast_table
from ptg.distance.evaluate import Bootstrap, PairValues, evaluate
from ptg.distance.layout import ListLayout, OnesidedLayout, PairwiseLayout, as_list
from ptg.distance.metrics import make_metric
from ptg.distance.sample import Sample
from ptg.execute import open_run, to_host
from ptg.execute.device import resolve_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from ptg.data import Groups, Matrix
    from ptg.distance.layout import Layout
    from ptg.execute.device import MultiGpu


class MeanVar(NamedTuple):
    """Mean and population variance of a distance over bootstrap draws."""

    mean: float
    variance: float


class Distance:
    """Distances between groups of cells.

    Parameters
    ----------
    metric
        ``"edistance"`` (default), ``"euclidean"``, ``"root_mean_squared_error"``, ``"mse"``,
        ``"mean_absolute_error"``, ``"pearson_distance"``, ``"cosine_distance"``, ``"r2_distance"``,
        ``"wasserstein"`` or ``"sinkhorn_divergence"``; `ptg.distance.metrics.available` has the definition and the
        source of each.
    layer_key
        Layer with the cells, ``"X"`` for `adata.X`. Not together with `obsm_key`.
    obsm_key
        Embedding with the cells. ``"X_pca"`` if neither key is given.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; by default ``ptg.settings.device``.
    **metric_options
        Options of the metric. ``edistance`` has ``estimator="unbiased"`` (default: means within a group over its
        n(n-1) pairs of different cells) or ``"biased"`` (over n² pairs, as in pertpy). ``wasserstein`` and
        ``sinkhorn_divergence`` have `epsilon`, `epsilon_scale`, `tol`, `max_iter` and `relaxation`: see
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
    def __call__(self, X: Matrix, Y: Matrix) -> float:
        """Compute the distance between two groups of cells.

        Parameters
        ----------
        X, Y
            Cells x columns, dense or sparse, on the host or on a GPU.

        Returns
        -------
        The distance; for ``r2_distance`` X is the truth and Y the prediction.

        Raises
        ------
        InputError
            Not matrices of finite numbers with the same columns.

        Examples
        --------
        >>> import numpy as np, ptg
        >>> ptg.Distance("euclidean")(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]))
        5.0
        """
        return float(self._of_two(X, Y, None).means[0])

    @entry_point
    def bootstrap(self, X: Matrix, Y: Matrix, *, n_bootstrap: int = 100, random_state: int = 0) -> MeanVar:
        """Compute mean and variance of the distance over resamples of both groups.

        Parameters
        ----------
        X, Y
            Cells x columns, dense or sparse, on the host or on a GPU.
        n_bootstrap
            Number of resamples. Each draws as many cells as the group has, with replacement.
        random_state
            Seed; the same seed gives the same resamples on any device.

        Returns
        -------
        MeanVar: mean and population variance (divided by `n_bootstrap`) of the distance.

        Notes
        -----
        A resample holds some cells more than once, at distance 0 of each other. The mean over resamples of the unbiased
        energy distance is therefore near the biased one; the distance itself is what the other methods return.
        """
        values = self._of_two(X, Y, Bootstrap.checked(True, n_bootstrap, random_state))
        assert values.variances is not None
        return MeanVar(float(values.means[0]), float(values.variances[0]))

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
        multi_gpu: MultiGpu = None,
        show_progressbar: bool = True,
    ) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
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
        multi_gpu
            GPUs to use: None or True for all, False for the current one, a list of numbers or text such as ``"0,2"``.
            Without effect on a CPU.
        show_progressbar
            Show progress on a terminal or in a notebook.

        Returns
        -------
        DataFrame, groups x groups, both axes named `groupby`; with `bootstrap` a tuple (means, variances) of such. For
        ``r2_distance`` the row is the truth and the column the prediction.

        Raises
        ------
        InputError
            A column, key or group does not exist, or an argument is out of range.
        """
        resampling = Bootstrap.checked(bootstrap, n_bootstrap, random_state)
        cells = read_groups(adata, groupby, groups)
        layout = PairwiseLayout(cells.names, groupby, self._metric.record.symmetric)
        values = self._evaluate((adata, cells), layout, resampling, multi_gpu, show_progressbar)
        means = layout.table(values.means, f"pairwise {self.metric}")
        if values.variances is None:
            return means
        return means, layout.table(values.variances, f"pairwise {self.metric} variance")

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
        multi_gpu: MultiGpu = None,
        show_progressbar: bool = True,
    ) -> (
        pd.Series[float] | pd.DataFrame | tuple[pd.Series[float], pd.Series[float]] | tuple[pd.DataFrame, pd.DataFrame]
    ):
        """Compute the distances of groups to one control, or to several.

        Parameters
        ----------
        adata, groupby
            As in `pairwise`.
        selected_group
            The control, or a sequence of controls.
        groups
            Groups to compare with it, in this order; all by default, in category order.
        bootstrap, n_bootstrap, random_state, multi_gpu, show_progressbar
            As in `pairwise`.

        Returns
        -------
        For one control a Series indexed by group and named ``"<metric> to <control>"``; for a sequence of controls a
        DataFrame with a column for each. A control's entry for itself is 0. With `bootstrap` a tuple (means,
        variances) of such.

        Raises
        ------
        InputError
            A column, key, group or control does not exist, or an argument is out of range.
        """
        resampling = Bootstrap.checked(bootstrap, n_bootstrap, random_state)
        controls, several = as_list(selected_group)
        codes, labels = read_labels(adata, groupby, argument="groupby")
        names = choose_labels(groups, groupby, labels)
        contrast_table.check_references(controls, groupby, labels)
        extra = [control for control in controls if control not in names]
        cells = select_groups(codes, labels, [*names, *extra])
        layout = OnesidedLayout(names, groupby, controls, np.array([cells.index(control) for control in controls]))
        values = self._evaluate((adata, cells), layout, resampling, multi_gpu, show_progressbar)
        if several:
            means = layout.table(values.means)
            return means if values.variances is None else (means, layout.table(values.variances))
        column = layout.column(values.means, f"{self.metric} to {controls[0]}")
        if values.variances is None:
            return column
        return column, layout.column(values.variances, f"pairwise {self.metric} variance to {controls[0]}")

    @entry_point
    def contrast_distances(
        self,
        adata: AnnData,
        contrasts: pd.DataFrame,
        *,
        multi_gpu: MultiGpu = None,
        show_progressbar: bool = True,
    ) -> pd.DataFrame:
        """Compute the distance of each contrast.

        Parameters
        ----------
        adata
            The data; not changed.
        contrasts
            One row per contrast: first the groupby column with the group to compare, then ``reference`` with its
            control, then columns of `adata.obs` whose level both must have. `create_contrasts` builds such a table.
        multi_gpu, show_progressbar
            As in `pairwise`.

        Returns
        -------
        Copy of `contrasts` with one more column, named as the metric. NaN for a contrast without cells, with one
        warning that lists such contrasts.

        Raises
        ------
        InputError
            The table is not as described, or names a column or label that does not exist.
        """
        resolved = contrast_table.resolve_contrasts(adata, contrasts)
        has_cells = (resolved.left >= 0) & (resolved.right >= 0)
        layout = ListLayout(resolved.left[has_cells], resolved.right[has_cells])
        distances = np.full(len(contrasts), np.nan)
        values = self._evaluate((adata, resolved.groups), layout, None, multi_gpu, show_progressbar)
        distances[has_cells] = to_host(values.means)
        if not has_cells.all():
            missing = contrast_table.describe_rows(contrasts[~has_cells])
            warn(f"{len(missing)} contrast(s) have no cells and are NaN: {listed(missing)}.")
        return contrasts.assign(**{self.metric: distances})

    @staticmethod
    @entry_point
    def create_contrasts(
        adata: AnnData,
        groupby: str,
        selected_group: Any,
        *,
        groups: Sequence[Any] | None = None,
        split_by: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Build a table for `contrast_distances`: every group against the control.

        Parameters
        ----------
        adata
            The data.
        groupby
            Column of `adata.obs` with the groups.
        selected_group
            The control, or a sequence of controls: every group is then compared with each of them.
        groups
            Groups to compare; all but the controls by default.
        split_by
            Column(s) of `adata.obs`: compare within each combination of their levels in which the control has cells.

        Returns
        -------
        DataFrame with columns `groupby`, ``reference`` and those of `split_by`, sorted by reference, levels and group.
        Cells with a missing label or level do not count.

        Examples
        --------
        >>> import numpy as np, pandas as pd, anndata as ad, ptg
        >>> obs = pd.DataFrame({"target": ["NT", "A", "B", "NT"], "donor": ["1", "1", "1", "2"]}, index=list("abcd"))
        >>> ptg.Distance.create_contrasts(ad.AnnData(obs=obs), "target", "NT", split_by="donor")
          target reference donor
        0      A        NT     1
        1      B        NT     1
        """
        return contrast_table.create_contrasts(adata, groupby, selected_group, groups=groups, split_by=split_by)

    @staticmethod
    @entry_point
    def validate_contrasts(adata: AnnData, contrasts: pd.DataFrame) -> None:
        """Check a table of contrasts as `contrast_distances` does.

        Raises
        ------
        InputError
            The table is not as described there, or names a column or label that does not exist.
        """
        contrast_table.resolve_contrasts(adata, contrasts)

    def _of_two(self, X: Matrix, Y: Matrix, bootstrap: Bootstrap | None) -> PairValues:
        with open_run(self.metric, device=self.device, show_progressbar=False, near=(X, Y)) as run:
            x, y = (as_matrix(cells, name, bring=run.to_device) for cells, name in ((X, "X"), (Y, "Y")))
            sample = Sample.of_two(x, y)
            return evaluate(self._metric, sample, np.array([0]), np.array([1]), bootstrap=bootstrap, run=run)

    def _evaluate(
        self,
        cells: tuple[AnnData, Groups],
        layout: Layout,
        bootstrap: Bootstrap | None,
        multi_gpu: MultiGpu,
        show_progressbar: bool,
    ) -> PairValues:
        adata, groups = cells
        values, name = find_matrix(adata, layer=self.layer_key, obsm=self.obsm_key, argument="layer_key")
        show = check_flag("show_progressbar", show_progressbar)
        with open_run(
            self.metric, device=self.device, multi_gpu=multi_gpu, show_progressbar=show, near=(values,)
        ) as run:
            sample = Sample.of_groups(as_matrix(values, name, bring=run.to_device), groups)
            left, right = layout.pairs(run.arrays)
            distinct = layout.distinct
            return evaluate(self._metric, sample, left, right, bootstrap=bootstrap, run=run, distinct=distinct)
