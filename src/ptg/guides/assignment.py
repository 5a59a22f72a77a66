"""The class `GuideAssignment`: reads counts, asks the kernels, labels cells, writes all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ptg.data import (
    InputError,
    StagedWrites,
    array_module,
    check_flag,
    check_integer,
    check_number,
    check_string,
    entry_point,
    is_sparse,
)
from ptg.execute import open_run
from ptg.execute.device import resolve_device
from ptg.guides.labels import combination_labels, guide_labels
from ptg.guides.mixture import fit_guides, warn_of_unfitted
from ptg.guides.source import check_names, find_source

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ptg.guides.source import GuideData, GuideNames, GuideSource
    from ptg.kernels.contract.mixture import Assignments


class GuideAssignment:
    """Assign guides to cells by their counts.

    Three rules: a fixed count (`assign_by_threshold`), the guide with the largest count (`assign_to_max_guide`), and a
    threshold per guide from a mixture of background and signal (`assign_mixture_model`).

    Parameters
    ----------
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; by default ``ptg.settings.device``.

    Notes
    -----
    Every method takes an AnnData or a bare cells x guides matrix (NumPy array, SciPy sparse of any format, DataFrame,
    or CuPy and cupyx alike) of raw counts: non-negative whole numbers of any dtype. With an AnnData each leaves the
    same machine-readable result, a sparse (CSR, int8) 0/1 cells x guides layer, by default
    ``adata.layers["assigned_guides"]``, which the next method overwrites. Where the counts are on a GPU the layer is
    there too, as float32: cupyx has no sparse integers. Memory is in proportion to the nonzero counts; the dense
    matrix is never built.

    Examples
    --------
    >>> import numpy as np, ptg
    >>> counts = np.array([[9, 0], [1, 7], [0, 1]])
    >>> ptg.GuideAssignment().assign_to_max_guide(counts, assignment_threshold=5, var=["A", "B"]).tolist()
    ['A', 'B', 'Negative']
    """

    @entry_point
    def __init__(self, *, device: str | None = None) -> None:
        resolve_device(device)
        self.device = device

    @entry_point
    def assign_by_threshold(
        self,
        adata: GuideData,
        *,
        assignment_threshold: float,
        layer: str | None = None,
        output_layer: str = "assigned_guides",
    ) -> NDArray[Any] | sp.csr_matrix[Any] | sp.csr_array[Any] | None:
        """Assign every guide with at least a fixed count.

        Parameters
        ----------
        adata
            AnnData or bare matrix with raw guide counts, cells x guides.
        assignment_threshold
            The smallest count of an assigned guide; positive.
        layer
            Layer with the counts; None (default) or ``"X"`` is `adata.X`.
        output_layer
            Key of `adata.layers` for the result.

        Returns
        -------
        None for an AnnData: ``adata.layers[output_layer]`` has the result, CSR int8 with 1 where the guide is assigned.
        For a bare matrix the same matrix: a NumPy array for dense input, CSR for sparse.

        Raises
        ------
        InputError
            The counts are missing, negative, fractional, NaN or infinite, or an argument is out of range.

        Examples
        --------
        >>> import numpy as np, ptg
        >>> ptg.GuideAssignment().assign_by_threshold(np.array([[9, 0], [4, 7]]), assignment_threshold=5)
        array([[1, 0],
               [0, 1]], dtype=int8)
        """
        threshold = _check_threshold(assignment_threshold)
        _check_output_layer(check_string("output_layer", output_layer))
        source = find_source(adata, layer, None)
        with open_run("guides by threshold", device=self.device, near=(source.matrix,)) as run:
            counts = source.read_counts(run)
            assignments = run.kernels.mixture.assign_above(
                counts.indptr,
                counts.indices,
                counts.data,
                np.full(len(source.names), threshold),
                resources=run.resources,
            )
        matrix = source.binary_matrix(assignments)
        if not source.is_anndata:
            return _like(source.given, matrix)
        with StagedWrites(source.given) as staged:
            staged.put("layers", output_layer, matrix)
        return None

    @entry_point
    def assign_to_max_guide(
        self,
        adata: GuideData,
        *,
        assignment_threshold: float,
        layer: str | None = None,
        obs_key: str = "assigned_guide",
        no_grna_assigned_key: str = "Negative",
        output_layer: str | None = "assigned_guides",
        var: GuideNames = None,
    ) -> NDArray[Any] | None:
        """Assign the guide with the largest count, if that is large enough.

        Parameters
        ----------
        adata
            AnnData or bare matrix with raw guide counts, cells x guides.
        assignment_threshold
            The smallest count of an assigned guide; positive.
        layer
            Layer with the counts; None (default) or ``"X"`` is `adata.X`.
        obs_key
            Column of `adata.obs` for the labels.
        no_grna_assigned_key
            Label of cells in which no guide reaches the threshold.
        output_layer
            Key of `adata.layers` for the 0/1 matrix; None writes none.
        var
            Names of the guides of a bare matrix, by default ``"0"``, ``"1"``, ...: a DataFrame with this index, an
            Index or a list.

        Returns
        -------
        None for an AnnData: ``adata.obs[obs_key]`` is a categorical of guide names. For a bare matrix the labels, an
        object array of shape (n_cells,).

        Raises
        ------
        InputError
            As in `assign_by_threshold`; guide names repeat or equal `no_grna_assigned_key`.

        Notes
        -----
        Of several guides with the largest count the first in column order is assigned, however the matrix is stored.

        Examples
        --------
        >>> import numpy as np, ptg
        >>> ptg.GuideAssignment().assign_to_max_guide(np.array([[9, 9], [1, 2]]), assignment_threshold=5).tolist()
        ['0', 'Negative']
        """
        threshold = _check_threshold(assignment_threshold)
        check_string("obs_key", obs_key)
        _check_output_layer(output_layer)
        source = find_source(adata, layer, var)
        check_names(source.names, no_grna_assigned_key=check_string("no_grna_assigned_key", no_grna_assigned_key))
        with open_run("largest guide", device=self.device, near=(source.matrix,)) as run:
            counts = source.read_counts(run)
            guides, largest = run.kernels.mixture.max_guide(
                counts.indptr, counts.indices, counts.data, resources=run.resources
            )
        guides = np.where(largest >= threshold, guides, -1)
        labels = guide_labels(guides, source.names, none=no_grna_assigned_key)
        if not source.is_anndata:
            return np.asarray(labels, dtype=object)
        _write(
            source,
            obs_key=obs_key,
            labels=labels,
            output_layer=output_layer,
            assignments=_one_guide_each(guides),
            table={},
        )
        return None

    @entry_point
    def assign_mixture_model(
        self,
        adata: GuideData,
        *,
        layer: str | None = None,
        assigned_guides_key: str = "assigned_guide",
        no_grna_assigned_key: str = "negative",
        max_assignments_per_cell: int = 5,
        multiple_grna_assigned_key: str = "multiple",
        multiple_grna_assignment_string: str = "+",
        only_return_results: bool = False,
        max_iter: int = 90,
        tol: float = 0.0001,
        posterior_threshold: float = 0.5,
        output_layer: str | None = "assigned_guides",
        var: GuideNames = None,
        show_progressbar: bool = True,
    ) -> NDArray[Any] | None:
        """Assign guides by a count threshold per guide, from a mixture of Poisson background and Normal signal.

        Parameters
        ----------
        adata
            AnnData or bare matrix with raw guide counts, cells x guides.
        layer
            Layer with the counts; None (default) or ``"X"`` is `adata.X`.
        assigned_guides_key
            Column of `adata.obs` for the labels.
        no_grna_assigned_key
            Label of cells without guide.
        max_assignments_per_cell
            The largest number of guides that a label spells out.
        multiple_grna_assigned_key
            Label of cells with more guides than that.
        multiple_grna_assignment_string
            Put between the names of several guides, which come in the order of the columns.
        only_return_results
            Return the labels of an AnnData and leave it as it is.
        max_iter
            Largest number of steps from one start, EM and Newton together. A guide for which they do not suffice is not
            fitted and named in a warning; lower values than the default save no time.
        tol
            EM hands over to Newton when no parameter changes by more than this in a step, or after five steps. The
            Newton steps always go on until the objective stands still, so the result hardly depends on it.
        posterior_threshold
            A count belongs to the signal if its posterior probability exceeds this; between 0 and 1, both excluded.
        output_layer
            Key of `adata.layers` for the 0/1 matrix; None writes none.
        var
            Names of the guides of a bare matrix, by default ``"0"``, ``"1"``, ...: a DataFrame with this index, an
            Index or a list.
        show_progressbar
            Show a progress bar while guides are fitted.

        Returns
        -------
        The labels, an object array of shape (n_cells,), for a bare matrix or with `only_return_results`. Otherwise
        None, and the AnnData has

        - ``obs[assigned_guides_key]``: the labels, categorical;
        - ``layers[output_layer]``: 1 where the count reaches the guide's threshold, CSR int8;
        - ``var``: ``poisson_rate``, ``gaussian_mean``, ``gaussian_std`` (all of log2 counts), ``mix_probs_0`` (weight
          of the Poisson), ``mix_probs_1`` (of the Normal), ``threshold`` (a count), ``final_loss`` (minus the log
          joint, without constants of the priors), ``converged``, ``n_iterations`` and ``not_fitted_reason`` (empty
          text for a fitted guide). A guide that is not fitted has NaN and is assigned to no cell.

        Raises
        ------
        InputError
            The counts are missing, negative, fractional, NaN or infinite, an argument is out of range, or guide names
            repeat or equal the label for none or several.

        Warns
        -----
        UserWarning
            Once, with the guides that were not fitted and why.

        Notes
        -----
        The model of crispat [1]_: the nonzero counts of a guide, as y = log2(count), follow
        ``w Normal(y; mu, sd) + (1 - w) rate^y e^-rate / Gamma(y + 1)`` with priors (1 - w, w) ~ Dirichlet(0.9, 0.1),
        mu ~ Normal(3, 2), sd ~ LogNormal(2, 1), rate ~ LogNormal(0, 1). The estimate is the highest local maximum of
        the joint density with mu > rate strictly inside 1e-3 < w < 1 - 1e-3, 0.05 < sd < 50, 1e-4 < rate < 50 and
        -5 < mu < 20: outside, the joint is unbounded. It is found by EM from fixed starts, then Newton. The threshold
        is the smallest count from 1 to the guide's largest for which P(Normal | y) > posterior_threshold.

        Only the histogram of each guide's counts enters, so the result does not depend on the order of cells, and the
        time of fitting hardly on their number.

        References
        ----------
        .. [1] Braunger and Velten, Guide assignment in single-cell CRISPR screens using crispat, 2024,
           doi:10.1101/2024.05.06.592692

        Examples
        --------
        >>> import numpy as np, ptg
        >>> rng = np.random.default_rng(0)
        >>> counts = rng.poisson(0.3, (300, 3))
        >>> counts[np.arange(300), np.arange(300) % 3] = np.round(2 ** rng.normal(5, 1, 300))
        >>> labels = ptg.GuideAssignment().assign_mixture_model(counts, var=["A", "B", "C"])
        >>> labels[:4].tolist()
        ['A', 'B', 'C', 'A']
        """
        check_string("assigned_guides_key", assigned_guides_key)
        most = check_integer("max_assignments_per_cell", max_assignments_per_cell, minimum=1)
        joiner = check_string("multiple_grna_assignment_string", multiple_grna_assignment_string, empty=True)
        check_flag("only_return_results", only_return_results)
        _check_output_layer(output_layer)
        source = find_source(adata, layer, var)
        check_names(
            source.names,
            no_grna_assigned_key=check_string("no_grna_assigned_key", no_grna_assigned_key),
            multiple_grna_assigned_key=check_string("multiple_grna_assigned_key", multiple_grna_assigned_key),
        )
        show, near = check_flag("show_progressbar", show_progressbar), (source.matrix,)
        with open_run("guide mixture", device=self.device, show_progressbar=show, near=near) as run:
            assignments, table = fit_guides(
                run,
                source.read_counts(run),
                max_iter=check_integer("max_iter", max_iter, minimum=1),
                tol=check_number("tol", tol, minimum=0.0),
                posterior_threshold=check_number(
                    "posterior_threshold", posterior_threshold, minimum=0.0, maximum=1.0, open_ends=True
                ),
            )
        labels = combination_labels(
            assignments,
            source.names,
            none=no_grna_assigned_key,
            multiple=multiple_grna_assigned_key,
            joiner=joiner,
            most=most,
        )
        warn_of_unfitted(source.names, table["not_fitted_reason"])
        if not source.is_anndata or only_return_results:
            return np.asarray(labels, dtype=object)
        _write(
            source,
            obs_key=assigned_guides_key,
            labels=labels,
            output_layer=output_layer,
            assignments=assignments,
            table=table,
        )
        return None


def _check_threshold(assignment_threshold: object) -> float:
    return check_number("assignment_threshold", assignment_threshold, minimum=0.0, open_ends=True)


def _check_output_layer(output_layer: object) -> None:
    if output_layer == "X":
        raise InputError("output_layer='X' would be read as adata.X later. Pass another name.")
    if output_layer is not None:
        check_string("output_layer", output_layer)


def _like(given: Any, matrix: Any) -> NDArray[Any] | sp.csr_matrix[Any] | sp.csr_array[Any]:
    """Bring the 0/1 matrix into the kind of matrix that was given."""
    if is_sparse(given):
        return sp.csr_array(matrix) if isinstance(given, sp.sparray) else matrix
    dense: NDArray[Any] = array_module(matrix).asarray(matrix.toarray(), dtype=np.int8)
    return dense


def _one_guide_each(guides: NDArray[Any]) -> Assignments:
    """CSR pattern of cells with one guide, or none where it is -1."""
    from ptg.kernels.contract.mixture import Assignments

    return Assignments(np.concatenate([[0], np.cumsum(guides >= 0)]), guides[guides >= 0])


def _write(
    source: GuideSource,
    *,
    obs_key: str,
    labels: pd.Categorical,
    output_layer: str | None,
    assignments: Assignments,
    table: dict[str, NDArray[Any]],
) -> None:
    with StagedWrites(source.given) as staged:
        staged.put("obs", obs_key, labels)
        if output_layer is not None:
            staged.put("layers", output_layer, source.binary_matrix(assignments))
        for column, values in table.items():
            staged.put("var", column, values)
