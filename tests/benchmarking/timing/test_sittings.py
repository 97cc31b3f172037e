"""Loading anew between rounds: how often, and what it makes of the intervals."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from qbench.benchmarking.stats import half_width
from qbench.benchmarking.timing.clock import CallTimer
from qbench.benchmarking.timing.schedule import Measurement, measure_blocks
from qbench.benchmarking.timing.settings import MODES, Settings
from qbench.benchmarking.timing.sittings import SITTING_ROUNDS, Reload, Wait, affordable
from qbench.errors import ModelError

NORMAL = Settings()


class Machine:
    """Fake candidates of 20 ms, each process and each load of which has a speed of its own.

    Args:
        between: Standard deviation of the logarithm of a load's time.
        within: That of a call's.
        factors: The time of each candidate beside that of the first.
        seconds: What loading each takes.
        process_seconds: What starting a process for each takes; empty where they have none.
        processes: Standard deviation of the logarithm of a process's time.
    """

    def __init__(
        self,
        between: float,
        within: float,
        factors: tuple[float, ...] = (1.0, 1.0),
        seconds: tuple[float, ...] = (0.05, 0.05),
        seed: int = 0,
        *,
        process_seconds: tuple[float, ...] = (),
        processes: float = 0.0,
    ) -> None:
        self.now, self.loading = 0.0, 0.0
        self.log: list[str] = []
        self._between, self._within = between, within
        self._factors, self._seconds = factors, seconds
        self._process_seconds, self._among_processes = process_seconds, processes
        self._rng, self._process_rng = map(np.random.default_rng, (seed, [seed, 1]))
        self._loads = [self._drawn(between) for _ in factors]
        self._processes = [self._drawn_process() for _ in factors]

    def clock(self) -> int:
        return round(self.now * 1e9)

    def measure(self, settings: Settings = NORMAL, *, anew: bool = True) -> Measurement:
        lanes = range(len(self._factors))
        timers = [CallTimer(lambda lane=lane: self._call(lane), self.clock) for lane in lanes]  # type: ignore[misc]
        reloads = [self._reloads(lane) for lane in lanes]
        return measure_blocks(timers, settings, reloads=reloads if anew else (), clock=self.clock)

    @property
    def loads(self) -> list[str]:
        """What was loaded, without the calls."""
        return [entry for entry in self.log if not entry.startswith("call")]

    def _reloads(self, lane: int) -> list[Reload]:
        found = [Reload(partial(self._begun, lane, self._load), self._seconds[lane])]
        if self._process_seconds:
            seconds = self._process_seconds[lane]
            found.insert(0, Reload(partial(self._begun, lane, self._start), seconds))
        return found

    def _begun(self, lane: int, do: Callable[[int], None]) -> Wait:
        self.log.append(f"begin {lane}")
        return partial(do, lane)

    def _drawn(self, deviation: float) -> float:
        return math.exp(self._rng.normal(0, deviation))

    def _drawn_process(self) -> float:
        return math.exp(self._process_rng.normal(0, self._among_processes))

    def _call(self, lane: int) -> None:
        speed = self._processes[lane] * self._loads[lane] * self._drawn(self._within)
        self.now += 0.02 * self._factors[lane] * speed
        self.log.append(f"call {lane}")

    def _load(self, lane: int) -> None:
        self._spend(self._seconds[lane])
        self._loads[lane] = self._drawn(self._between)
        self.log.append(f"load {lane}")

    def _start(self, lane: int) -> None:
        self._spend(self._process_seconds[lane])
        self._loads[lane] = self._drawn(self._between)
        self._processes[lane] = self._drawn_process()
        self.log.append(f"start {lane}")

    def _spend(self, seconds: float) -> None:
        self.now += seconds
        self.loading += seconds


def test_every_candidate_is_loaded_anew_after_a_sitting() -> None:
    machine = Machine(0, 0)
    found = machine.measure()
    # Narrow at the end of the eighth sitting, and again at the tenth, a fourth as many rounds on.
    assert found.sittings.tolist() == [sitting for sitting in range(10) for _ in range(5)]
    assert found.loads == (10, 10)
    drawn = [" ".join(machine.loads[start : start + 4]) for start in range(0, 4 * 9, 4)]
    assert len(machine.loads) == 4 * 9
    # Neither is always loaded last, which would favour it.
    assert set(drawn) == {"begin 0 begin 1 load 1 load 0", "begin 1 begin 0 load 0 load 1"}
    assert machine.log[-1].startswith("call")


def test_intervals_are_first_looked_at_after_the_fewest_sittings() -> None:
    for sittings in (3, 5, 8):
        found = Machine(0, 0).measure(Settings(min_sittings=sittings, min_rounds=10))
        looks = [sittings, math.ceil(sittings * 1.25)]
        assert found.loads == (looks[1], looks[1])


def test_calls_between_loading_and_the_next_round_are_not_timed() -> None:
    machine = Machine(0, 0)
    found = machine.measure()
    loaded = machine.log.index("load 0")  # the last that is waited for
    assert machine.log[loaded + 1 : loaded + 7] == ["call 0"] * 3 + ["call 1"] * 3
    assert len(found.samples[0]) == 2 * len(found.orders)


def test_what_takes_long_to_load_has_longer_sittings() -> None:
    machine = Machine(0.001, 0.05, seconds=(1.0, 1.0))
    found = machine.measure(Settings(max_seconds=60, half_width=0.001))
    assert np.bincount(found.sittings)[:-1].min() > 2 * SITTING_ROUNDS
    assert machine.loading == 2 * (found.loads[0] - 1)
    assert 0.2 < machine.loading / found.seconds <= 1 / 3


def test_what_takes_too_long_to_load_is_not_loaded_anew() -> None:
    machine = Machine(0, 0, (1.0, 1.0, 1.0), (0.1, 60.0, 0.1))
    found = machine.measure()
    assert found.loads == (10, 1, 10)
    assert "load 1" not in machine.log


@pytest.mark.parametrize(
    ("seconds", "settings", "lanes"),
    [
        ([0.1, 0.1], MODES["quick"], (0, 1)),
        ([3.0, 3.0], MODES["quick"], ()),
        ([3.0, 3.0], MODES["normal"], (0, 1)),
        ([9.0, 1.0, 0.1], MODES["normal"], (1, 2)),
        ([1.0, 0.5, 2.0], MODES["quick"], (0, 1)),
        ([0.0, 0.0], Settings(min_rounds=6, max_rounds=14), ()),
        ([], MODES["quick"], ()),
    ],
)
def test_those_that_load_fastest_are_loaded_anew(
    seconds: list[float], settings: Settings, lanes: tuple[int, ...]
) -> None:
    reloads = [(Reload(no_load, one),) for one in seconds]
    assert tuple(affordable(reloads, settings)) == lanes


@pytest.mark.parametrize(
    ("processes", "settings", "are_fresh"),
    [
        ([0.3] * 3, MODES["quick"], True),
        ([0.3] * 8, MODES["quick"], False),
        ([0.3] * 8, MODES["normal"], True),
        ([5.0, 0.3, 5.0], MODES["normal"], False),
        ([5.0, 0.3, 5.0], MODES["strict"], True),
        ([30.0, 30.0], MODES["strict"], False),
    ],
)
def test_all_get_fresh_processes_where_there_is_time_or_none_does(
    processes: list[float], settings: Settings, are_fresh: bool
) -> None:
    reloads = [(Reload(no_load, one), Reload(no_load, 0.05)) for one in processes]
    found = affordable(reloads, settings)
    assert list(found) == list(range(len(processes)))
    way = 0 if are_fresh else -1
    assert all(reload is reloads[lane][way] for lane, reload in found.items())


def test_those_that_load_too_slowly_keep_no_other_from_a_fresh_process() -> None:
    slow, quick = (Reload(no_load, 60.0),), (Reload(no_load, 0.3), Reload(no_load, 0.05))
    assert affordable([quick, slow, quick], MODES["normal"]) == {0: quick[0], 2: quick[0]}


def test_no_sitting_is_begun_where_the_time_is_up() -> None:
    machine = Machine(0, 0, (50.0, 50.0))  # a call of a second
    found = machine.measure(Settings(max_seconds=1))
    assert len(found.orders) == SITTING_ROUNDS + 1
    assert found.loads == (1, 1)


def test_sittings_too_few_for_an_interval_over_them_are_not_looked_at() -> None:
    machine = Machine(0, 0.001, seconds=(3.0, 3.0))
    found = machine.measure()
    assert found.loads[0] >= 3
    assert len(found.orders) > 150


def shares(anew: bool, between: float, within: float) -> tuple[float, float, float]:
    """Return how often 1 is excluded, is wholly beyond 1 %, and how often 3 % more is found."""
    trials, excluded, beyond, slower = 60, 0, 0, 0
    for seed in range(trials):
        machine = Machine(between, within, (1.0, 1.0, 1.03), (0.05,) * 3, seed)
        found = machine.measure(anew=anew)
        twin = found.ratios[1]
        excluded += not twin.low <= 1 <= twin.high
        beyond += found.verdicts[1] in ("faster", "slower")
        slower += found.verdicts[2] == "slower"
    return excluded / trials, beyond / trials, slower / trials


def test_loads_that_differ_are_told_from_candidates_that_differ() -> None:
    excluded, beyond, slower = shares(True, between=0.005, within=0.01)
    assert excluded <= 0.1
    assert beyond == 0
    assert slower >= 0.95


def test_without_loading_anew_one_load_is_taken_for_the_candidate() -> None:
    excluded, _, _ = shares(False, between=0.005, within=0.01)
    assert excluded > 0.4


def process_shares(process_seconds: tuple[float, ...]) -> tuple[float, float]:
    """Return how often 1 is excluded, and how often 3 % more is found, where processes differ."""
    trials, excluded, slower = 60, 0, 0
    for seed in range(trials):
        machine = Machine(
            *(0.002, 0.01, (1.0, 1.0, 1.03), (0.05,) * 3, seed),
            process_seconds=process_seconds,
            processes=0.005,
        )
        found = machine.measure()
        twin = found.ratios[1]
        excluded += not twin.low <= 1 <= twin.high
        slower += found.verdicts[2] == "slower"
    return excluded / trials, slower / trials


def test_processes_that_differ_are_told_from_candidates_that_differ() -> None:
    excluded, slower = process_shares((0.3,) * 3)
    assert excluded <= 0.1
    assert slower >= 0.95


def test_in_one_process_it_is_taken_for_the_candidate() -> None:
    excluded, _ = process_shares(())
    assert excluded > 0.4


def test_where_loads_are_alike_noise_within_decides() -> None:
    excluded, beyond, slower = shares(True, between=0.0, within=0.02)
    assert excluded <= 0.1
    assert beyond == 0
    assert slower >= 0.95


def test_the_control_compares_each_load_with_itself() -> None:
    found = Machine(0.03, 1e-4).measure(Settings(max_rounds=100))
    assert half_width(found.ratios[1]) > 0.005
    assert half_width(found.control) < 0.0001


def test_what_cannot_be_loaded_again_ends_the_measurement() -> None:
    machine = Machine(0, 0)
    timers = [CallTimer(lambda: machine._call(0), machine.clock)]

    def fail() -> None:
        raise ModelError("no memory")

    reloads = [[Reload(lambda: fail, 0.0)]]
    with pytest.raises(ModelError, match="no memory"):
        measure_blocks(timers, NORMAL, reloads=reloads, clock=machine.clock)


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("at", ["begin", "wait"])
def test_where_one_fails_no_other_is_left_half_loaded(failing: int, at: str) -> None:
    machine = Machine(0, 0, (1.0,) * 3, (0.05,) * 3)
    log: list[str] = []

    def begin(lane: int) -> Wait:
        if (lane, at) == (failing, "begin"):
            raise ModelError("no memory")
        log.append(f"begin {lane}")
        return partial(wait, lane)

    def wait(lane: int) -> None:
        log.append(f"end {lane}")
        if lane == failing:
            raise ModelError("no memory")

    timers = [CallTimer(partial(machine._call, lane), machine.clock) for lane in range(3)]
    reloads = [[Reload(partial(begin, lane), 0.0)] for lane in range(3)]
    with pytest.raises(ModelError, match="no memory"):
        measure_blocks(timers, NORMAL, reloads=reloads, clock=machine.clock)
    begun = [entry.removeprefix("begin ") for entry in log if entry.startswith("begin")]
    ended = [entry.removeprefix("end ") for entry in log if entry.startswith("end")]
    assert (str(failing) in begun) == (at == "wait")
    assert sorted(ended) == sorted(begun)


def no_load() -> Wait:
    raise AssertionError("it is only planned")
