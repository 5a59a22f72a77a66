"""AnnData to an .h5ad file, on a disk that may be full."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData


class PatientFile(io.RawIOBase):
    """A file that keeps its first error to itself until asked.

    The HDF5 library does not survive a failing write: objects that are still open cannot be closed any more, and the
    process ends with a segmentation fault. This file tells the library that all went well, drops what it writes from
    then on, and raises the error in `check`, after everything was closed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all of `data`, or remember why not."""
        block = memoryview(data).cast("B")
        written = 0
        while written < len(block) and self._error is None:
            try:
                written += self._file.write(block[written:]) or 0
            except OSError as error:
                self._error = error
        return len(block)

    def readinto(self, buffer: Any) -> int:
        """Read what is there; zeros beyond the end, which only dropped writes leave behind."""
        block = memoryview(buffer).cast("B")
        found = self._file.readinto(block) or 0
        block[found:] = bytes(len(block) - found)
        return len(block)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def truncate(self, size: int | None = None, /) -> int:
        """Cut or extend the file, or remember why not."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def flush(self) -> None:
        """Nothing is buffered here."""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def writable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def write_h5ad(adata: AnnData, path: Path) -> None:
    """Write an AnnData file.

    Parameters
    ----------
    adata
        The data; columns of strings become categories, as in ``AnnData.write_h5ad``.
    path
        The file to write.

    Raises
    ------
    OSError
        The disk is full, or the file cannot be written for another reason. Part of a file is left behind.
    """
    import h5py
    from anndata.io import write_elem

    adata.strings_to_categoricals()
    with PatientFile(path) as target:
        with h5py.File(target, "w") as file:
            write_elem(file, "/", adata)
        target.check()
