"""Random samples as a source."""

from collections.abc import Sequence, Set
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qbench.artifacts import sha256_bytes
from qbench.data.samples import Sample, fingerprint, fixed_batch, share_batch
from qbench.errors import DataError
from qbench.model.spec import TensorSpec, is_image, shape_text, with_image_size


class SyntheticSource:
    """Seeded random samples, for latency only: they say nothing about accuracy.

    Floats are standard normal, bytes are pixels, other integers are 0 or 1, which every vocabulary
    and every mask has.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        count: int,
        seed: int,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Fix the shapes: an open first axis is 1, and an image has height and width `size`.

        Of other inputs, a dimension that is named as the first of one is the batch, too.

        Raises:
            DataError: A dimension stays open, or an element type cannot be drawn.
        """
        self._specs, self._count, self._seed = tuple(specs), count, seed
        batches = {spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], str)}
        self._shapes = [_fixed_shape(spec, size, batches) for spec in specs]

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._count

    def name(self, index: int) -> str:
        """Return the number of a sample, as in `synthetic[3]`."""
        return f"synthetic[{index}]"

    def load(self, index: int) -> Sample:
        """Draw a sample; the same index gives the same arrays."""
        random = np.random.default_rng([self._seed, index])
        inputs = zip(self._specs, self._shapes, strict=True)
        feeds = {spec.name: _draw(random, shape, spec.dtype) for spec, shape in inputs}
        return Sample(self.name(index), feeds, is_call=not share_batch(self._specs))

    def digest(self, index: int) -> str:
        """Return the SHA-256 of what a sample is drawn from."""
        names = [(spec.name, spec.dtype.name) for spec in self._specs]
        return sha256_bytes(msgspec.json.encode([self._seed, index, names, self._shapes]))

    def fingerprint(self) -> str:
        """Return one SHA-256 over the names and digests of the samples."""
        return fingerprint(self)

    def describe(self) -> str:
        """Return the number of samples and the seed."""
        return f"{len(self)} random samples (seed {self._seed})"


def _fixed_shape(
    spec: TensorSpec, size: tuple[int, int] | None, batches: Set[str]
) -> tuple[int, ...]:
    if spec.dtype.kind not in "fiub":
        raise DataError(
            f"input {spec.name!r} is of type {spec.dtype.name}, which cannot be drawn at random; "
            "give its arrays with --data FILE.npz"
        )
    rest = [
        1 if dim in batches and not is_image(spec.shape) else dim
        for dim in with_image_size(spec.shape, size)[1:]
    ]
    fixed = tuple(dim for dim in rest if isinstance(dim, int))
    if len(fixed) != len(rest):
        raise DataError(
            f"input {spec.name!r} [{shape_text(spec.shape)}] is dynamic beyond its batch; "
            "give --size 640 for images, or --data FILE.npz"
        )
    return (fixed_batch(spec), *fixed) if spec.shape else ()


def _draw(
    random: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 256 if dtype == np.uint8 else 2, shape).astype(dtype)
