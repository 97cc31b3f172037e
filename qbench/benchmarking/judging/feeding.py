"""What is fed to a model or an engine in a benchmark, and what judges it.

A `Feeding` is plain values, so that it reaches the process that runs a candidate; there it is
opened. What judges is opened where it is asked for, since labels and references take seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qbench.data.samples import Sample, Source
from qbench.data.synthetic import SyntheticSource
from qbench.errors import DataError
from qbench.model.spec import TensorSpec
from qbench.runtimes.base import Runner
from qbench.runtimes.tensorrt.runner import TensorRtRunner

if TYPE_CHECKING:
    from qbench.benchmarking.judging.judges import Judge
    from qbench.benchmarking.judging.labelled_data import LabelledData
    from qbench.data.choice import DataChoice


@dataclass(frozen=True)
class Feeding:
    """What the candidates of one model are fed.

    What is open is shared by all that use the same object, and does not go to other processes.

    Attributes:
        inputs: Of the model; None of an engine, which tells them only once it is loaded.
        size: Height and width of random samples where the model is dynamic.
        images: What to judge on, with the recipe; None judges nothing.
        reference: The file of the float model that is agreed with where there are no labels.
    """

    inputs: tuple[TensorSpec, ...] | None
    size: tuple[int, int] | None = None
    images: LabelledData | None = None
    reference: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is open behind."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def sample(self, runner: Runner, batch: int | None) -> Sample:
        """Return what to feed while timing: the first good images, or noise of the right shape.

        Args:
            runner: What will be fed.
            batch: Images per call; None for what the model fixes, or 1.

        Raises:
            DataError: The batch is not the model's, or the data does not fit.
        """
        source = self._opened_for(runner).source or self._noise(runner, batch or 1)
        first = first_samples(source, 1)[0]
        if batch is None or batch == first.batch:
            return first
        is_open = {spec.name for spec in runner.inputs if _is_open(spec)}
        if not is_open:
            raise DataError(
                f"the model's batch is fixed to {first.batch}, not {batch}; export it with an "
                f"open batch, or leave out --batch {batch}"
            )
        return _stacked(first_samples(source, batch), is_open)

    def judge(self, runner: Runner) -> Judge | None:
        """Return what judges accuracy; None where there are no images."""
        return self._opened_for(runner).judge

    def check(self) -> None:
        """Open images and labels now, where it is known what they are for.

        Raises:
            DataError: They cannot be used.
            UsageError: The task lacks something.
        """
        if self.inputs is not None:
            _ = self._open(self.inputs).judge

    def read_by(self, decoder: str | None) -> Feeding:
        """Return the same with a decoder of boxes, where one is known and none was asked for."""
        from qbench.evaluation.detect import AUTO

        if decoder is None or self.images is None or self.images.decoder != AUTO:
            return self
        return replace(self, images=replace(self.images, decoder=decoder))

    def forget(self) -> None:
        """Close what is open; it is opened anew where it is needed again."""
        self._known.clear()

    def _opened_for(self, runner: Runner) -> _Opened:
        return self._open(self.inputs if self.inputs is not None else _typical(runner))

    def _open(self, inputs: tuple[TensorSpec, ...]) -> _Opened:
        if inputs not in self._known:
            self._known[inputs] = _Opened(self, inputs)
        return self._known[inputs]

    @cached_property
    def _known(self) -> dict[tuple[TensorSpec, ...], _Opened]:
        """What is open, by the inputs that it is for."""
        return {}

    def _noise(self, runner: Runner, count: int) -> Source:
        inputs = self.inputs if self.inputs is not None else _typical(runner)
        return SyntheticSource(inputs, count=count, seed=0, size=self.size)


def first_samples(source: Source, count: int) -> list[Sample]:
    """Return `count` samples, the first that can be read; where there are fewer, over again.

    Too many that cannot are noticed elsewhere.

    Raises:
        DataError: None can be read.
    """
    found = list(islice(_readable(source), count))
    found = found or [source.load(len(source) - 1)]  # which tells why
    return [found[index % len(found)] for index in range(count)]


def _readable(source: Source) -> Iterator[Sample]:
    for index in range(len(source)):
        with suppress(DataError):
            yield source.load(index)


def _stacked(samples: Sequence[Sample], is_open: set[str]) -> Sample:
    """Return one sample that holds the first image of each, in the inputs whose batch is open."""
    first = samples[0]
    feeds = {
        name: np.concatenate([sample.feeds[name][:1] for sample in samples])
        if name in is_open
        else array
        for name, array in first.feeds.items()
    }
    return Sample(first.name, feeds, first.image_size, stacked=len(samples))


def _is_open(spec: TensorSpec) -> bool:
    return bool(spec.shape) and not isinstance(spec.shape[0], int)


def _typical(runner: Runner) -> tuple[TensorSpec, ...]:
    return runner.typical_inputs() if isinstance(runner, TensorRtRunner) else runner.inputs


class _Opened:
    """The samples of images, and what judges on them; None where there are none.

    Their modules are imported where there are images: timing alone is to begin soon.
    """

    def __init__(self, feeding: Feeding, inputs: tuple[TensorSpec, ...]) -> None:
        self._images, self._reference = feeding.images, feeding.reference
        self.source = None if feeding.images is None else _source(feeding.images.choice, inputs)

    @cached_property
    def judge(self) -> Judge | None:
        if self._images is None or self.source is None:
            return None
        from qbench.benchmarking.judging.judges import TASKS
        from qbench.benchmarking.judging.material import Material
        from qbench.data.choice import chosen_recipe

        images = self._images
        material = Material(
            self.source,
            Path(images.choice.path),
            chosen_recipe(None, images.choice),
            None if images.labels is None else Path(images.labels),
            images.decoder,
            self._reference,
        )
        return TASKS[images.task](material)


def _source(choice: DataChoice, inputs: tuple[TensorSpec, ...]) -> Source:
    from qbench.data.choice import open_choice

    return open_choice(None, inputs, choice)[1]
