"""The trials of a tuning, kept on disk as they come, so that none is run twice."""

import logging
from pathlib import Path

import msgspec

from qbench.artifacts import SCHEMA_VERSION, check_writable, sha256_bytes, write_json
from qbench.benchmarking import environment
from qbench.benchmarking.result import Accuracy
from qbench.benchmarking.stats import Interval

logger = logging.getLogger(__name__)

FOLDER = Path(".qbench") / "tune"
"""Folder of journals, below the current one."""

_ROUNDING = 1e-9
_UNSEEN = 3.0


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One mix of INT8 and float nodes, and how it did.

    Attributes:
        float_nodes: Nodes that are float by choice, sorted.
        int8_mac_fraction: Share of multiply-accumulates in quantized nodes; None where unknown.
        accuracy: With its difference to the float model; None where it could not be judged.
        speed: Time of the float model / time of this one; None where it was not timed.
        problem: Why it could not be judged or timed, one line. A trial that has neither a speed nor
            a problem is yet to be timed on this machine.
    """

    float_nodes: tuple[str, ...]
    int8_mac_fraction: float | None
    accuracy: Accuracy | None = None
    speed: Interval | None = None
    problem: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be found out."""
        return self.speed is not None or self.problem is not None

    @property
    def change(self) -> Interval | None:
        """The metric minus that of the float model, on the same samples."""
        return self.accuracy.difference if self.accuracy else None

    def meets(self, budget: float) -> bool:
        """Return whether the metric drops by no more than `budget`, as far as it was measured."""
        return self.change is not None and self.change.value >= -budget - _ROUNDING

    def is_within_noise(self, budget: float) -> bool:
        """Return whether other samples might tell otherwise: `budget` lies in the interval.

        Where no sample's outcome changed, the interval has no width. Then up to 3 / n of all
        samples may still change (Hanley and Lippman-Hand, If Nothing Goes Wrong, 1983).
        """
        if self.accuracy is None or self.change is None:
            return False
        is_unchanged = self.accuracy.metric == "top1" and self.change.low == self.change.high
        unseen = _UNSEEN / self.accuracy.n if is_unchanged else 0.0
        return self.change.low - unseen < -budget <= self.change.high


class Journal(msgspec.Struct, kw_only=True):
    """What is known so far.

    Attributes:
        key: What it depends on, hashed; the budget is not part of it.
        baseline: Accuracy of the float model.
        ranking: Nodes in the order in which they are freed.
        trials: In the order in which they were run.
        machine: Hash of the machine that they were timed on; see `this_machine`.
    """

    key: str
    machine: str = ""
    baseline: Accuracy | None = None
    ranking: tuple[str, ...] | None = None
    trials: list[Trial] = []
    schema_version: int = SCHEMA_VERSION

    def find(self, float_nodes: tuple[str, ...]) -> Trial | None:
        """Return the trial with these float nodes, sorted, if it was run."""
        return next((trial for trial in self.trials if trial.float_nodes == float_nodes), None)

    def keep(self, trial: Trial) -> None:
        """Take in a trial, in the place of the one with these float nodes, if there is one."""
        known = self.find(trial.float_nodes)
        if known is None:
            self.trials.append(trial)
        else:
            self.trials[self.trials.index(known)] = trial

    def on(self, machine: str) -> "Journal":
        """Return what holds on another machine: what could be judged there, but no speed."""
        if machine == self.machine:
            return self
        judged = (trial for trial in self.trials if trial.accuracy is not None)
        trials = [msgspec.structs.replace(trial, speed=None, problem=None) for trial in judged]
        return msgspec.structs.replace(self, machine=machine, trials=trials)


def this_machine() -> str:
    """Return a hash of what decides the speed of this machine."""
    traits = environment.machine_of(environment.capture())
    return sha256_bytes(msgspec.json.encode(traits, order="sorted"))


def journal_path(stem: str, target: str, key: str) -> Path:
    """Return the file of a journal: .qbench/tune/<model>.<target>.<key>.json."""
    return FOLDER / f"{stem}.{target}.{key[:12]}.json"


def check_folder() -> None:
    """Make sure, before any work, that journals can be written.

    Raises:
        StorageError: They cannot.
    """
    check_writable(FOLDER / "journal.json", "run where files can be written")


def open_journal(path: Path, key: str, machine: str, *, restart: bool) -> Journal:
    """Return the journal at `path`, or an empty one where there is none for `key`.

    Trials of another machine are yet to be timed on this one.
    """
    fresh = Journal(key=key, machine=machine)
    if restart or not path.exists():
        return fresh
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Journal)
    except (OSError, msgspec.MsgspecError) as error:
        logger.warning("%s cannot be read and starts anew: %s", path, error)
        return fresh
    if found.key != key or found.schema_version != SCHEMA_VERSION:
        return fresh
    elsewhere = "" if found.machine == machine else ", and timed anew: that was another machine"
    logger.info("%d trials are known from %s%s", len(found.trials), path, elsewhere)
    return found.on(machine)


def save_journal(path: Path, journal: Journal) -> None:
    """Write a journal, atomically.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    write_json(path, journal)
