"""Files in and out: what is read is checked, what is written appears all at once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ptg.data.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData

#: Lists the files of a finished run; its presence means that all of them are there.
MANIFEST = "run.json"


def read_h5ad(path: Path, option: str) -> AnnData:
    """Read an AnnData file, or raise an InputError that names the option and the path."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{option} {str(path)!r} {found}. Pass an .h5ad file.")
    import anndata

    try:
        return _with_plain_strings(anndata.read_h5ad(path))
    except PermissionError as error:
        raise InputError(f"{option} {str(path)!r} cannot be read: {error.strerror}.") from error
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{option} {str(path)!r} is not a readable .h5ad file: {_reason(error)}.") from error


def _with_plain_strings(adata: AnnData) -> AnnData:
    """Replace pandas' nullable strings, which not every anndata can write back, by objects and categories."""
    import pandas as pd

    for frame in (adata.obs, adata.var):
        if isinstance(frame.index.dtype, pd.StringDtype):
            frame.index = pd.Index(frame.index.to_numpy(dtype=object), dtype=object)
        for name in frame.columns[[isinstance(dtype, pd.StringDtype) for dtype in frame.dtypes]]:
            frame[name] = pd.Categorical(frame[name].to_numpy(dtype=object, na_value=None))
    return adata


def _reason(error: BaseException) -> str:
    """Say what went wrong in a few words."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


class OutputFolder:
    """A folder whose new files appear together when the block ends, or not at all.

    Files are written to a temporary folder inside it, which also shows at once whether the folder can be written to,
    and renamed at the end, the manifest last. Files of an earlier run into the same folder are replaced or removed;
    other files stay.

    Raises
    ------
    InputError
        The folder cannot be written to, at any time; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._created = not path.exists()
        self._staging = path

    def __enter__(self) -> OutputFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._staging = Path(tempfile.mkdtemp(prefix=".ptg-unfinished-", dir=self.path))
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def new_file(self, name: str) -> Path:
        """Where to write the file that will be called `name`, which may hold folders."""
        path = self._staging / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._publish()
        except OSError as failure:
            raise self._unwritable(failure) from failure
        finally:
            self._clean_up()
        if isinstance(error, OSError):
            raise self._unwritable(error) from error

    def _publish(self) -> None:
        files = sorted(path.relative_to(self._staging) for path in self._staging.rglob("*") if path.is_file())
        for name in _files_of(self.path / MANIFEST):
            (self.path / name).unlink(missing_ok=True)
        placed: list[Path] = []
        try:
            # The manifest goes last: where it is, everything is.
            for name in sorted(files, key=lambda file: file.name == MANIFEST):
                placed.append(self.path / name)
                placed[-1].parent.mkdir(parents=True, exist_ok=True)
                (self._staging / name).replace(placed[-1])
        except BaseException:
            self._take_back(placed)
            raise

    def _take_back(self, placed: list[Path]) -> None:
        for path in placed:
            path.unlink(missing_ok=True)
            if path.parent != self.path and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()

    def _clean_up(self) -> None:
        if self._staging != self.path:
            shutil.rmtree(self._staging, ignore_errors=True)
        if self._created and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"--out {str(self.path)!r} cannot be written: {_reason(error)}.")


def _files_of(manifest: Path) -> Iterable[Path]:
    """List the files of an earlier run, the manifest first; only such as lie in its own folder."""
    try:
        names = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    inside = [Path(name) for name in names if isinstance(name, str)]
    return [Path(MANIFEST), *(path for path in inside if not path.is_absolute() and ".." not in path.parts)]


def write_text(text: str, path: Path) -> None:
    """Write a text file in one go: on an error, an older file of that name is still there."""
    part = path.with_name(f".{path.name}.ptg-unfinished")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"--out {str(path)!r} cannot be written: {_reason(error)}.") from error
