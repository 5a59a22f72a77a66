"""Write results to AnnData all at once, or not at all."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from ptg.data.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData

_MISSING = object()


class StagedWrites:
    """Results waiting to be written.

    Used as a context manager: what was staged is written when the block ends without an exception. An error or
    Ctrl-C in the block, or while writing, leaves the AnnData as it was.

    Examples
    --------
    >>> import anndata, numpy
    >>> adata = anndata.AnnData(numpy.zeros((2, 1)))
    >>> with StagedWrites(adata) as staged:
    ...     staged.put("obs", "score", numpy.array([1.0, 2.0]))
    >>> adata.obs["score"].tolist()
    [1.0, 2.0]
    """

    def __init__(self, adata: AnnData) -> None:
        self._adata = adata
        self._writes: list[tuple[str, str, Any]] = []
        self._removals: list[tuple[str, str]] = []

    def put(self, slot: str, key: str, value: Any) -> None:
        """Stage ``getattr(adata, slot)[key] = value`` (obs, var, uns, layers, obsm, obsp, varm)."""
        if not isinstance(key, str) or not key:
            raise InputError(f"the key {key!r} cannot be written to adata.{slot}. Pass a non-empty string.")
        self._writes.append((slot, key, value))

    def remove(self, slot: str, key: str) -> None:
        """Stage the removal of what an earlier call wrote to ``getattr(adata, slot)[key]``, if it is there."""
        self._removals.append((slot, key))

    def __enter__(self) -> StagedWrites:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._commit()

    def _commit(self) -> None:
        before: list[tuple[str, str, Any]] = []
        try:
            for slot, key, value in self._writes:
                mapping = getattr(self._adata, slot)
                before.append((slot, key, mapping.get(key, _MISSING)))
                mapping[key] = value
            for slot, key in self._removals:  # last: nothing after them can fail
                getattr(self._adata, slot).pop(key, None)
        except BaseException:
            for slot, key, old in reversed(before):
                mapping = getattr(self._adata, slot)
                if old is not _MISSING:
                    mapping[key] = old
                elif key in mapping:
                    del mapping[key]
            raise
