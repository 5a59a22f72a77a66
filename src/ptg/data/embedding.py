"""Principal components of expression, for tools that need an embedding and find none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptg.data.checks import check_integer
from ptg.data.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ptg.data.matrix import Matrix


def highly_variable(adata: AnnData, matrix: Matrix) -> Matrix:
    """Take the columns of the highly variable genes, all where none are marked in ``var["highly_variable"]``.

    Raises
    ------
    InputError
        The column exists, but no gene is marked or some have no value.
    """
    if "highly_variable" not in adata.var:
        return matrix
    marks = adata.var["highly_variable"]
    if marks.isna().any() or not marks.astype(bool).any():
        raise InputError(
            "var['highly_variable'] marks no gene, or lacks values: there is nothing to compute principal components "
            "from. Mark the genes with True and False, or remove the column."
        )
    return matrix[:, marks.to_numpy(dtype=bool)]


def principal_components(matrix: Matrix, n_components: int) -> NDArray[Any]:
    """Compute the scores of cells on the leading principal components.

    Parameters
    ----------
    matrix
        (n_cells, n_genes) dense or sparse; sparse data is centred implicitly and never made dense.
    n_components
        Number of components, at least 1; at most ``min(n_cells, n_genes) - 1`` are returned.

    Returns
    -------
    (n_cells, n_components) in the dtype of `matrix`, ordered by variance. The same on every call: the solver (ARPACK)
    starts from a fixed vector, and each component's largest loading is positive.

    Notes
    -----
    A matrix of one row or one column has no such component; it gets a single column of zeros or of its centred values.

    Examples
    --------
    >>> import numpy
    >>> points = numpy.array([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [2.0, 2.0, 1.0]])
    >>> numpy.abs(principal_components(points, 1)[:, 0]).round(3).tolist()
    [1.414, 0.0, 1.414]
    """
    from sklearn.decomposition import PCA

    wanted = check_integer("n_components", n_components, minimum=1)
    limit = min(matrix.shape) - 1
    if limit < 1:
        values = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
        return np.ascontiguousarray((values - values.mean(axis=0))[:, :1])
    model = PCA(n_components=min(wanted, limit), svd_solver="arpack", random_state=0)
    scores = model.fit_transform(matrix)
    loadings = model.components_
    largest = loadings[np.arange(len(loadings)), np.abs(loadings).argmax(axis=1)]
    return np.ascontiguousarray(scores * np.where(largest < 0, -1, 1).astype(scores.dtype))
