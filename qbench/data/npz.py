"""NumPy .npz files as a source, for models with several inputs or inputs that are no images."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.artifacts import DAMAGED_ARRAYS
from qbench.data.samples import (
    Sample,
    file_digest,
    files_below,
    filled,
    fingerprint,
    share_batch,
)
from qbench.errors import DataError
from qbench.formatting import counted
from qbench.model.spec import TensorSpec, shape_text

Arrays = dict[str, NDArray[Any]]


class NpzSource:
    """Samples in one .npz file, or in all those below a folder; axis 0 of every array counts them.

    Where the inputs share no batch (see `share_batch`), each file is one sample: its arrays go to
    the model as they are.

    One file is held in memory at a time, so a set larger than that belongs in several files.
    """

    def __init__(self, path: Path, specs: Sequence[TensorSpec]) -> None:
        """Check every file against the model's inputs `specs`.

        Raises:
            DataError: There is no such file, or names, shapes or element types do not fit.
        """
        self._path, self._specs = path, tuple(specs)
        self._root = path if path.is_dir() else path.parent
        names = files_below(path, (".npz",)) if path.is_dir() else (path.name,)
        if not names:
            raise DataError(f"no .npz files in {path}; write them with numpy.savez")
        self._lock = threading.Lock()
        self._cached: tuple[str, Arrays] = ("", {})
        self._digests = {name: file_digest(self._root / name) for name in names}
        self._rows = [(name, row) for name in names for row in self._rows_of(name)]

    def __len__(self) -> int:
        """Return the number of samples in all files."""
        return len(self._rows)

    def name(self, index: int) -> str:
        """Return the file and the row of a sample, as in `batch.npz[3]`; a whole file has none."""
        file, row = self._rows[index]
        return file if row is None else f"{file}[{row}]"

    def load(self, index: int) -> Sample:
        """Return one row of every array, or all of a file that is one sample.

        Raises:
            DataError: The file was changed since it was checked.
        """
        file, row = self._rows[index]
        arrays = self._arrays(file)
        if row is None:
            return Sample(file, dict(arrays), is_call=True)
        feeds = {s.name: filled(arrays[s.name][row : row + 1], s) for s in self._specs}
        return Sample(self.name(index), feeds)

    def digest(self, index: int) -> str:
        """Return the SHA-256 of the file that holds a sample."""
        return self._digests[self._rows[index][0]]

    def fingerprint(self) -> str:
        """Return one SHA-256 over the sorted names and file hashes of the samples."""
        return fingerprint(self)

    def describe(self) -> str:
        """Return the number of samples and the path."""
        return f"{counted(len(self), 'sample')} in {self._path}"

    def _arrays(self, file: str) -> Arrays:
        with self._lock:
            if self._cached[0] != file:
                self._cached = (file, _read(self._root / file, self._specs))
            return self._cached[1]

    def _rows_of(self, file: str) -> Sequence[int | None]:
        arrays = self._arrays(file)
        if _is_call(arrays, self._specs):
            return [None]
        return range(len(arrays[self._specs[0].name]))


def _read(path: Path, specs: Sequence[TensorSpec]) -> Arrays:
    """Return the arrays of a file, checked against the inputs `specs`.

    Raises:
        DataError: The file is unreadable, or names, shapes or element types do not fit.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: _native(array) for name, array in file.items()}
    except DAMAGED_ARRAYS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} is no .npz file of plain arrays ({reason}); write it again"
        ) from error
    _check_names(path, set(arrays), {spec.name for spec in specs})
    is_call = _is_call(arrays, specs)
    for spec in specs:
        _check_array(path, arrays[spec.name], spec, is_call=is_call)
    counts = {name: len(array) for name, array in arrays.items() if not is_call}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise DataError(
            f"{path} holds {counts} samples; every array needs as many, and at least one"
        )
    return arrays


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array in this machine's byte order; runtimes know no other."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _is_call(arrays: Arrays, specs: Sequence[TensorSpec]) -> bool:
    """Return whether a file holds the inputs of one call, whole, and not samples along axis 0.

    Besides where the inputs share no batch, that is where the arrays are not equally long, and fit
    the inputs as they are: a sequence with its time first, [T, N, 64], and a state [1, N, 128].
    """
    if not share_batch(specs):
        return True
    lengths = {array.shape[:1] for array in arrays.values()}
    return len(lengths) > 1 and _fit_as_they_are(arrays, specs)


def _fit_as_they_are(arrays: Arrays, specs: Sequence[TensorSpec]) -> bool:
    """Return whether the arrays have the shapes of the inputs, and equal names equal sizes."""
    named: dict[str, int] = {}
    for spec in specs:
        shape = arrays[spec.name].shape
        if len(shape) != len(spec.shape):
            return False
        for size, dim in zip(shape, spec.shape, strict=True):
            wanted = named.setdefault(dim, size) if isinstance(dim, str) else dim
            if wanted not in (None, size):
                return False
    return True


def _check_names(path: Path, found: set[str], wanted: set[str]) -> None:
    wrong = [f"lacks {name!r}" for name in sorted(wanted - found)]
    wrong += [f"has {name!r}, which is no input" for name in sorted(found - wanted)]
    if wrong:
        inputs = ", ".join(sorted(wanted))
        raise DataError(f"{path} {' and '.join(wrong)}; its arrays must be named {inputs}")


def _check_array(path: Path, array: NDArray[Any], spec: TensorSpec, *, is_call: bool) -> None:
    shape = spec.shape if is_call else ("samples", *spec.shape[1:])
    same_rank = array.ndim == len(spec.shape) and (array.ndim > 0 or is_call)
    pairs = zip(array.shape, shape, strict=False)
    if not same_rank or any(isinstance(dim, int) and dim != size for size, dim in pairs):
        raise DataError(
            f"{path}: {spec.name!r} has shape {list(array.shape)}, but the input needs "
            f"[{shape_text(shape, ', ')}]; reshape it"
        )
    if array.dtype != spec.dtype:
        raise DataError(f"{path}: {spec.name!r} {_other_type(array.dtype, spec.dtype)}")


def _other_type(found: np.dtype[Any], wanted: np.dtype[Any]) -> str:
    """Return what is wrong with an array's type, and what to do."""
    if not _is_saved(wanted):
        return (
            f"belongs to an input of {wanted.name}, a type that .npz files do not keep; "
            "export the model with an input of float32"
        )
    cure = f"save it with .astype({wanted.name!r})"
    if _is_saved(found):
        return f"is {found.name}, but the input is {wanted.name}; {cure}"
    return (
        f"was saved in a type that .npz files do not keep, such as bfloat16 (only its "
        f"{found.itemsize} bytes an element are left), and the input is {wanted.name}; {cure}"
    )


def _is_saved(dtype: np.dtype[Any]) -> bool:
    """Return whether a file keeps the type; those of ml_dtypes become plain bytes."""
    return dtype.kind != "V"
