"""Distances of contrasts: the part of `Distance` that takes tables of (group, reference) pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data import entry_point
from ptg.distance import contrasts as contrast_table
from ptg.distance.evaluate import Bootstrap
from ptg.distance.layout import ListLayout
from ptg.distance.tool import DistanceTool
from ptg.execute import to_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.distance.intervals import BootstrapDraws
    from ptg.execute.device import MultiGpu


class ContrastDistances(DistanceTool):
    """`contrast_distances`, `create_contrasts` and `validate_contrasts`."""

    @entry_point
    def contrast_distances(
        self,
        adata: AnnData,
        contrasts: pd.DataFrame,
        *,
        bootstrap: bool = False,
        n_bootstrap: int = 100,
        random_state: int = 0,
        return_draws: bool = False,
        multi_gpu: MultiGpu = None,
        show_progressbar: bool = True,
    ) -> pd.DataFrame | tuple[pd.DataFrame, BootstrapDraws]:
        """Compute the distance of each contrast.

        Parameters
        ----------
        adata
            The data; not changed.
        contrasts
            One row per contrast: first the groupby column with the group to compare, then ``reference`` with its
            control, then columns of `adata.obs` whose level both must have. `create_contrasts` builds such a table.
        bootstrap, n_bootstrap, random_state, return_draws, multi_gpu, show_progressbar
            As in `Distance.pairwise`.

        Returns
        -------
        Copy of `contrasts` with one more column, named as the metric. With `bootstrap` it holds the means, and another
        column, ``"<metric>_variance"``, the variances. With `return_draws` a tuple of the table and `BootstrapDraws`,
        whose columns are the index of `contrasts`. NaN for a contrast without cells, with one warning that lists such
        contrasts.

        Raises
        ------
        InputError
            The table is not as described, or names a column or label that does not exist.
        """
        resampling = Bootstrap.checked(bootstrap, n_bootstrap, random_state, return_draws)
        resolved = contrast_table.resolve_contrasts(adata, contrasts)
        has_cells = resolved.has_cells
        layout = ListLayout(resolved.left[has_cells], resolved.right[has_cells])
        cells = self._find(adata, resolved.groups)
        values = self._evaluate(cells, layout, resampling, multi_gpu, show_progressbar)
        table = contrasts.assign(**{self.metric: _spread(values.means, has_cells)})
        if values.variances is not None:
            table[f"{self.metric}_variance"] = _spread(values.variances, has_cells)
        contrast_table.warn_of_missing(contrasts[~has_cells])
        if values.draws is None:
            return table
        return table, self._draws(cells, layout, values.draws, contrasts.index[has_cells], multi_gpu)

    @classmethod
    @entry_point
    def create_contrasts(
        cls,
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

    @classmethod
    @entry_point
    def validate_contrasts(cls, adata: AnnData, contrasts: pd.DataFrame) -> None:
        """Check a table of contrasts as `contrast_distances` does.

        Raises
        ------
        InputError
            The table is not as described there, or names a column or label that does not exist.
        """
        contrast_table.resolve_contrasts(adata, contrasts)


def _spread(values: Any, has_cells: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Put the values of contrasts with cells where these are; NaN elsewhere."""
    spread = np.full(len(has_cells), np.nan)
    spread[has_cells] = to_host(values)
    return spread
