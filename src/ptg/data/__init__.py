"""AnnData in, arrays and groups out: the only floor that knows how AnnData stores things."""

from ptg.data.checks import check_choice, check_flag, check_integer, check_number, check_options, check_string
from ptg.data.errors import InputError, entry_point, listed, not_found, warn
from ptg.data.groups import Groups, check_label, groups_from_codes, read_groups, read_labels, read_obs
from ptg.data.matrix import Matrix, as_matrix, check_anndata, check_counts, dense_rows, read_counts, read_matrix
from ptg.data.normalize import log_normalize, looks_raw
from ptg.data.write import StagedWrites

__all__ = [
    "Groups",
    "InputError",
    "Matrix",
    "StagedWrites",
    "as_matrix",
    "check_anndata",
    "check_choice",
    "check_counts",
    "check_flag",
    "check_integer",
    "check_label",
    "check_number",
    "check_options",
    "check_string",
    "dense_rows",
    "entry_point",
    "groups_from_codes",
    "listed",
    "log_normalize",
    "looks_raw",
    "not_found",
    "read_counts",
    "read_groups",
    "read_labels",
    "read_matrix",
    "read_obs",
    "warn",
]
