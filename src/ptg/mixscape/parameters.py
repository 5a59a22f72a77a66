"""The checked arguments of `perturbation_signature`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ptg.data import InputError, check_choice, check_integer, check_options, check_string

#: Ways to choose a cell's reference controls.
REF_SELECTION_MODES = ("nn", "split_by")

#: Where the signature is kept.
OUTPUTS = ("auto", "layer", "graph")

#: Neighbour searches and their options; all but the first are approximate and run on a GPU, by cuVS.
KNN_ALGORITHMS: dict[str, list[str]] = {
    "brute": [],
    "ivfflat": ["n_lists", "n_probes"],
    "ivfpq": ["n_lists", "n_probes", "pq_bits", "pq_dim"],
    "cagra": ["graph_degree", "intermediate_graph_degree", "itopk_size"],
}


@dataclass(frozen=True)
class SignatureParameters:
    """Arguments of `perturbation_signature`, each checked; see there for what they mean."""

    ref_selection_mode: str
    split_by: str | None
    n_neighbors: int
    use_rep: str | None
    n_dims: int | None
    n_pcs: int | None
    knn_algorithm: str
    knn_options: dict[str, int]
    batch_size: int | None
    output: str


def check_signature_parameters(
    *,
    ref_selection_mode: object,
    split_by: object,
    n_neighbors: object,
    use_rep: object,
    n_dims: object,
    n_pcs: object,
    knn_algorithm: object,
    knn_kwargs: object,
    batch_size: object,
    output: object,
) -> SignatureParameters:
    """Check everything that can be checked without looking at the data."""
    mode = check_choice("ref_selection_mode", ref_selection_mode, REF_SELECTION_MODES)
    if mode == "split_by" and split_by is None:
        raise InputError(
            "split_by=None with ref_selection_mode='split_by'. Name the obs column whose groups share their controls."
        )
    algorithm = check_choice("knn_algorithm", knn_algorithm, list(KNN_ALGORITHMS))
    return SignatureParameters(
        ref_selection_mode=mode,
        split_by=None if split_by is None else check_string("split_by", split_by),
        n_neighbors=check_integer("n_neighbors", n_neighbors, minimum=1),
        use_rep=None if use_rep is None else check_string("use_rep", use_rep),
        n_dims=_optional_integer("n_dims", n_dims, minimum=1),
        n_pcs=_optional_integer("n_pcs", n_pcs, minimum=0),
        knn_algorithm=algorithm,
        knn_options=_check_knn_options(algorithm, knn_kwargs),
        batch_size=_optional_integer("batch_size", batch_size, minimum=1),
        output=check_choice("output", output, OUTPUTS),
    )


def _optional_integer(argument: str, value: object, *, minimum: int) -> int | None:
    return None if value is None else check_integer(argument, value, minimum=minimum)


def _check_knn_options(algorithm: str, knn_kwargs: object) -> dict[str, int]:
    options: Any = {} if knn_kwargs is None else knn_kwargs
    if not isinstance(options, dict):
        raise InputError(f"knn_kwargs={knn_kwargs!r} is not a dict. Pass a dict of options, or None.")
    check_options("knn_kwargs", options, KNN_ALGORITHMS[algorithm])
    return {name: check_integer(f"knn_kwargs[{name!r}]", value, minimum=1) for name, value in options.items()}
