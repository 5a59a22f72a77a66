"""AnnData in, arrays and groups out: the only floor that knows how AnnData stores things."""

from ptg.data.checks import check_choice, check_flag, check_integer, check_number, check_options, check_string
from ptg.data.errors import InputError, entry_point, listed, not_found, warn
from ptg.data.gpu_arrays import all_true, array_module, current_device, gpu_of, is_gpu_array, is_sparse, sparse_module
from ptg.data.groups import (
    Groups,
    check_label,
    choose_labels,
    groups_from_codes,
    read_groups,
    read_labels,
    read_obs,
    select_groups,
)
from ptg.data.matrix import (
    Matrix,
    as_matrix,
    check_anndata,
    check_counts,
    check_finite,
    dense_rows,
    find_matrix,
    layer_names,
    read_counts,
    read_matrix,
)
from ptg.data.normalize import log_normalize, looks_raw
from ptg.data.write import StagedWrites

__all__ = [
    "Groups",
    "InputError",
    "Matrix",
    "StagedWrites",
    "all_true",
    "array_module",
    "as_matrix",
    "check_anndata",
    "check_choice",
    "check_counts",
    "check_finite",
    "check_flag",
    "check_integer",
    "check_label",
    "check_number",
    "check_options",
    "check_string",
    "choose_labels",
    "current_device",
    "dense_rows",
    "entry_point",
    "find_matrix",
    "gpu_of",
    "groups_from_codes",
    "is_gpu_array",
    "is_sparse",
    "layer_names",
    "listed",
    "log_normalize",
    "looks_raw",
    "not_found",
    "read_counts",
    "read_groups",
    "read_labels",
    "read_matrix",
    "read_obs",
    "select_groups",
    "sparse_module",
    "warn",
]
