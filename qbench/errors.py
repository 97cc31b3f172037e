"""The one error tree of qbench.

Every error is one line that names the offending value and says the fix. The command line prints it
and exits with the class's ``exit_code``; a library caller catches the class.

::

    QbenchError                 1  anything below
    ├── UsageError              2  options that contradict each other, or name nothing
    ├── ModelError              1  a model file that cannot be read, or a graph that cannot be used
    ├── DataError               1  images, labels or arrays that are missing, corrupt or misshapen
    │   ├── MismatchError       1  outputs of two models that cannot be compared
    │   └── RecipeError         1  a preprocessing recipe that is unknown or malformed
    ├── CalibrationError        1  statistics that cannot be gathered, or belong to another model
    ├── QuantizationError       1  a plan that cannot be made or written
    ├── EngineError             1  an engine that cannot be built, read or run
    ├── WorkerError             1  a process that ended before its work was done
    ├── StorageError            1  a file that cannot be written (disk full, no permission)
    ├── BudgetError             3  an accuracy budget that was not met, or a regression
    ├── InconclusiveError       4  a measurement that does not settle the question
    └── UnfitError              5  this machine lacks what was asked for (library, provider, GPU)
"""

from typing import ClassVar


class QbenchError(Exception):
    """Base of all errors that qbench raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(QbenchError):
    """Options that contradict each other, or a name that matches nothing."""

    exit_code = 2


class ModelError(QbenchError):
    """A model file that cannot be read, or a graph that cannot be used."""


class DataError(QbenchError):
    """Images, labels or arrays that are missing, corrupt or misshapen."""


class MismatchError(DataError):
    """Outputs of two models that cannot be compared: of other shapes, or one lacks some."""


class RecipeError(DataError):
    """A preprocessing recipe that is unknown or malformed."""


class CalibrationError(QbenchError):
    """Statistics that cannot be gathered, or that belong to another model."""


class QuantizationError(QbenchError):
    """A quantization plan that cannot be made or written."""


class EngineError(QbenchError):
    """An engine that cannot be built, read or run."""


class WorkerError(QbenchError):
    """A process that ended before its work was done."""


class StorageError(QbenchError):
    """A file that cannot be written."""


class BudgetError(QbenchError):
    """An accuracy budget that was not met, or a regression that was found."""

    exit_code = 3


class InconclusiveError(QbenchError):
    """A measurement that does not settle the question."""

    exit_code = 4


class UnfitError(QbenchError):
    """This machine lacks what was asked for: a library, a provider or a GPU."""

    exit_code = 5
