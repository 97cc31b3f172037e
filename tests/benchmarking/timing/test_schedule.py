import itertools
import math
from collections.abc import Callable, Container
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from qbench.benchmarking.stats import FEWEST_ROUNDS
from qbench.benchmarking.timing.clock import Block, CallTimer
from qbench.benchmarking.timing.rounds import MOST_VOIDED
from qbench.benchmarking.timing.schedule import (
    Measurement,
    measure,
    measure_blocks,
)
from qbench.benchmarking.timing.settings import MODES, Settings
from qbench.benchmarking.timing.warmup import Warmup, shared_calls, warm_up
from qbench.errors import InconclusiveError, UsageError

Seconds = Callable[[], float]


class Machine:
    """Fake candidates, and a clock that moves only while one of them runs."""

    def __init__(self) -> None:
        self.now = 0
        self.log: list[int] = []
        self.calls: list[Callable[[], None]] = []

    def clock(self) -> int:
        return self.now

    def add(self, seconds: Seconds) -> None:
        index = len(self.calls)

        def call() -> None:
            self.now += round(seconds() * 1e9)
            self.log.append(index)

        self.calls.append(call)

    def measure(self, settings: Settings | None = None) -> Measurement:
        return measure(self.calls, settings or Settings(), clock=self.clock)

    def warm_up(self, settings: Settings | None = None) -> Warmup:
        timer = CallTimer(self.calls[0], self.clock)
        return warm_up(timer, settings or Settings(), self.clock)


def machine_of(*seconds: Seconds) -> Machine:
    machine = Machine()
    for one in seconds:
        machine.add(one)
    return machine


def steady(seconds: float) -> Seconds:
    return lambda: seconds


def noisy(seconds: float, relative: float, rng: np.random.Generator) -> Seconds:
    return lambda: seconds * math.exp(rng.normal(0, relative))


def test_identical_steady_candidates_are_the_same() -> None:
    found = machine_of(steady(0.004), steady(0.004)).measure()
    assert [one.value for one in found.ratios] == [1.0, 1.0]
    assert found.verdicts == ("same", "same")
    assert found.control.value == 1.0
    assert found.trusted
    assert found.reached
    assert found.unsettled == (False, False)
    # Narrow at the first look, after 20 rounds, and at the second.
    assert len(found.orders) == 25


def test_ratio_above_one_means_faster_than_the_first() -> None:
    found = machine_of(steady(0.004), steady(0.002), steady(0.008)).measure()
    assert [one.value for one in found.ratios] == pytest.approx([1, 2, 0.5])
    assert found.verdicts == ("same", "faster", "slower")


def test_one_candidate_alone_still_has_its_control() -> None:
    found = machine_of(steady(0.004)).measure()
    assert [one.value for one in found.ratios] == [1.0]
    assert found.trusted


def test_a_small_slowdown_is_found_in_noise() -> None:
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        machine = machine_of(noisy(0.01, 0.03, rng), noisy(0.0103, 0.03, rng))
        found += machine.measure().verdicts[1] == "slower"
    assert found >= 38


def test_identical_noisy_candidates_rarely_differ() -> None:
    trials, excluded, beyond = 50, 0, 0
    for seed in range(trials):
        rng = np.random.default_rng(1000 + seed)
        machine = machine_of(*(noisy(0.01, 0.03, rng) for _ in range(2)))
        found = machine.measure(Settings(seed=seed))
        twin = found.ratios[1]
        excluded += not twin.low <= 1 <= twin.high
        beyond += found.verdicts[1] in ("faster", "slower") or not found.trusted
    # 5 % are due by the interval's own confidence.
    assert excluded <= 0.12 * trials
    assert beyond == 0


def test_slow_drift_of_the_machine_cancels() -> None:
    machine = Machine()
    for factor in (1.0, 1.1):
        machine.add(lambda factor=factor: 0.004 * factor * (1 + machine.now * 1e-9))
    found = machine.measure(MODES["quick"])
    assert found.ratios[1].value == pytest.approx(1 / 1.1, rel=0.02)
    assert found.verdicts[1] == "slower"


def test_following_oneself_does_not_favour_the_baseline() -> None:
    # A block that follows one of the same model finds its caches warm: four calls make a block.
    rng = np.random.default_rng(0)
    machine = Machine()
    for index in range(2):
        machine.add(
            lambda index=index: (
                (0.0092 if machine.log[-4:] == [index] * 4 else 0.01)
                * math.exp(rng.normal(0, 0.005))
            )
        )
    found = machine.measure(Settings(max_rounds=400, half_width=0.0001))
    assert found.block_calls == (3, 3)
    assert found.ratios[1].value == pytest.approx(1, abs=0.005)
    assert found.control.value == pytest.approx(1, abs=0.005)


def test_the_call_that_leads_into_a_block_is_not_timed() -> None:
    # The first call after another model is cold.
    machine = Machine()
    for index in range(2):
        machine.add(lambda i=index: 0.03 if machine.log and machine.log[-1] == i else 0.09)
    found = machine.measure()
    assert found.block_calls == (1, 1)
    for samples in found.samples:
        np.testing.assert_allclose(samples, 0.03)


def test_orders_are_permutations_drawn_anew_and_seeded() -> None:
    def orders(seed: int) -> list[list[int]]:
        machine = machine_of(*(steady(0.02) for _ in range(3)))
        return machine.measure(Settings(seed=seed)).orders.tolist()

    first = orders(1)
    assert all(sorted(order) == list(range(6)) for order in first)
    assert len({tuple(order) for order in first}) > len(first) / 2
    assert {order[0] for order in first} == set(range(6))
    assert first == orders(1)
    assert first != orders(2)


def test_blocks_run_in_the_order_that_is_told() -> None:
    machine = machine_of(steady(0.01), steady(0.04))
    found = machine.measure()
    runs = {0: 2, 1: 1}
    assert found.block_calls == (2, 1)
    wanted = [lane // 2 for order in found.orders.tolist() for lane in order]
    expected = [lane for lane in wanted for _ in range(runs[lane] + 1)]
    assert machine.log[-len(expected) :] == expected


def test_blocks_last_at_least_their_seconds() -> None:
    found = machine_of(steady(0.0007), steady(0.05)).measure()
    assert found.block_calls == (29, 1)
    assert len(found.samples[0]) == len(found.orders) * 2 * 29


def test_nothing_is_clipped() -> None:
    count = 0

    def seconds() -> float:
        nonlocal count
        count += 1
        return 3.0 if count % 50 == 0 else 0.01

    found = machine_of(seconds, steady(0.01)).measure(Settings(max_seconds=1000))
    assert found.samples[0].max() == pytest.approx(3.0)
    assert found.ratios[1].value == pytest.approx(1.0)


def test_block_figures_and_samples_tell_the_same() -> None:
    rng = np.random.default_rng(0)
    found = machine_of(*(noisy(0.006, 0.1, rng) for _ in range(2))).measure(MODES["quick"])
    for candidate, samples in enumerate(found.samples):
        blocks = samples.reshape(len(found.orders), 2, found.block_calls[candidate])
        np.testing.assert_array_equal(np.median(blocks, axis=2), found.figures[:, candidate])


def test_the_cap_of_seconds_ends_a_noisy_measurement() -> None:
    rng = np.random.default_rng(0)
    machine = machine_of(*(noisy(0.02, 0.5, rng) for _ in range(2)))
    found = machine.measure(Settings(max_seconds=5))
    assert not found.reached
    assert 5 <= found.seconds < 6
    assert found.verdicts[1] == "inconclusive"


def test_the_cap_of_seconds_leaves_enough_rounds_for_an_interval() -> None:
    found = machine_of(steady(30), steady(20)).measure(Settings(max_seconds=1))
    assert len(found.orders) == FEWEST_ROUNDS
    assert found.ratios[1].value == pytest.approx(1.5)


def test_the_cap_of_rounds() -> None:
    rng = np.random.default_rng(0)
    machine = machine_of(*(noisy(0.02, 0.5, rng) for _ in range(2)))
    assert len(machine.measure(Settings(max_rounds=33)).orders) == 33


def test_each_round_is_reported() -> None:
    machine = machine_of(steady(0.02), steady(0.02))
    heard: list[tuple[int, float]] = []
    measure(machine.calls, Settings(), lambda *told: heard.append(told), machine.clock)
    assert [rounds for rounds, _ in heard] == list(range(1, 26))
    assert {width for _, width in heard[:19]} == {math.inf}
    assert {width for _, width in heard[19:]} == {0.0}


def test_a_control_beyond_one_percent_is_not_trusted() -> None:
    found = machine_of(steady(0.02), steady(0.02)).measure()
    # Second blocks took 3 % longer in every round.
    broken = replace(found, figures=found.figures * [[[1.0, 1.03]]])
    assert broken.control.value == pytest.approx(1 / 1.03)
    assert not broken.trusted
    assert found.trusted


def test_a_poor_control_widens_the_margin() -> None:
    found = machine_of(steady(0.0206), steady(0.02)).measure()
    assert found.verdicts[1] == "faster"
    poor = replace(found, figures=found.figures * [[[1.0, 1.02]]])
    assert poor.ratios[1].value == pytest.approx(1.03)
    assert poor.verdicts[1] == "same"


def test_warm_up_waits_until_timings_agree() -> None:
    drift = iter([*np.linspace(0.09, 0.03, 10), *[0.03] * 100])
    machine = machine_of(lambda: next(drift))
    found = machine.warm_up()
    assert not found.unsettled
    assert 12 <= len(machine.log) <= 14
    assert found.block.pace == pytest.approx(0.03)


def test_warm_up_is_capped_and_says_so() -> None:
    restless = itertools.cycle([0.03, 0.06, 0.12])
    machine = machine_of(lambda: next(restless), steady(0.02))
    assert machine.warm_up(Settings(warmup_seconds=1)).unsettled
    assert 1 <= machine.now * 1e-9 < 1.12
    assert machine.measure(Settings(max_rounds=20)).unsettled == (True, False)


def test_warm_up_of_a_slow_call_has_three_windows() -> None:
    machine = machine_of(steady(100))
    assert not machine.warm_up().unsettled
    assert len(machine.log) == 4


def test_warm_up_ends_with_the_block_of_the_warm_call() -> None:
    first = iter([0.1, 0.05])
    machine = machine_of(lambda: next(first, 0.001))
    assert machine.warm_up().block.pace == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("paces", "calls"),
    [
        ([0.0051, 0.0049], (5, 5)),  # 4 and 5 of their own
        ([0.0049, 0.0101, 0.0051, 0.0099], (5, 3, 5, 3)),
        ([0.004, 0.0049, 0.006], (5, 5, 5)),  # each is about as fast as the one before
        ([0.03, 0.02, 0.01], (1, 1, 2)),
        ([0.004], (5,)),
    ],
)
def test_candidates_of_about_one_pace_time_equally_many_calls(
    paces: list[float], calls: tuple[int, ...]
) -> None:
    blocks = [Block(np.array([pace]), pace, pace) for pace in paces]
    assert shared_calls(blocks, 0.02) == calls


def test_twins_are_the_same_where_calls_become_faster_along_a_block() -> None:
    """One seems slower than the other while it warms up, so that it needs a call less."""
    machine = Machine()
    for slow in (1.02, 0.98):

        def seconds(index: int = len(machine.calls), slow: float = slow) -> float:
            row = itertools.takewhile(lambda ran: ran == index, reversed(machine.log))
            ramp = 1 + 0.08 * 0.5 ** len(list(itertools.islice(row, 20)))
            return 0.005 * ramp * (slow if len(machine.log) < 60 else 1.0)

        machine.add(seconds)
    assert machine.measure().ratios[1].value == pytest.approx(1, abs=0.002)


class Watch:
    """Finds the blocks disturbed that it was told of, counted from 1."""

    def __init__(self, machine: Machine, blocks: Container[int]) -> None:
        self._machine, self._blocks = machine, blocks
        self.count = 0
        self.disturbed: list[int] = []

    def before_block(self) -> None:
        self.count += 1

    def after_block(self) -> str | None:
        if self.count not in self._blocks:
            return None
        self.disturbed.append(self._machine.log[-1])
        return f"disturbed in block {self.count}"


def watched(
    machine: Machine, blocks: Container[int], settings: Settings
) -> tuple[Measurement, Watch]:
    watch = Watch(machine, blocks)
    timers = [CallTimer(call, machine.clock) for call in machine.calls]
    return measure_blocks(timers, settings, watch=watch, clock=machine.clock), watch


def test_a_round_that_is_disturbed_is_run_again() -> None:
    blocks = (1, 7, 8)
    found, watch = watched(machine_of(steady(0.02), steady(0.01)), blocks, Settings(max_rounds=20))
    assert len(found.orders) == 20
    assert watch.count == 20 * 4 + 1 + 2 + 1  # a round ends with the block that was disturbed
    assert found.voided == tuple(watch.disturbed.count(candidate) for candidate in range(2))
    assert sum(found.voided) == 3
    assert found.disturbance is None
    assert found.reached


def test_nothing_of_a_disturbed_round_is_kept() -> None:
    """The clock is slow whenever the watch finds a block disturbed."""
    machine = Machine()
    watch = Watch(machine, range(9, 12))
    for seconds in (0.02, 0.01):
        machine.add(lambda seconds=seconds: 0.5 if watch.count in range(9, 12) else seconds)
    timers = [CallTimer(call, machine.clock) for call in machine.calls]
    found = measure_blocks(timers, Settings(), watch=watch, clock=machine.clock)
    assert len(watch.disturbed) == 3
    assert max(samples.max() for samples in found.samples) == pytest.approx(0.02)
    assert found.ratios[1].value == pytest.approx(2)


def test_too_many_disturbed_rounds_end_the_measurement() -> None:
    machine = machine_of(steady(0.02), steady(0.01))
    found, _ = watched(machine, range(4 * 10 + 1, 1000), Settings())
    assert len(found.orders) == 10
    assert sum(found.voided) == MOST_VOIDED
    assert found.disturbance == f"disturbed in block {4 * 10 + MOST_VOIDED}"


def test_disturbed_rounds_do_not_outlast_the_cap_of_seconds() -> None:
    machine = machine_of(steady(0.5), steady(0.5))
    found, _ = watched(machine, range(4 * 10 + 1, 1000), Settings(max_seconds=60))
    assert len(found.orders) == 10
    assert 0 < sum(found.voided) < MOST_VOIDED
    assert found.seconds == pytest.approx(60, rel=0.1)


def test_too_few_good_rounds_settle_nothing() -> None:
    machine = machine_of(steady(0.02), steady(0.01))
    with pytest.raises(
        InconclusiveError, match=r"50 rounds were voided, since disturbed in block 70"
    ):
        watched(machine, range(4 * 5 + 1, 1000), Settings())


def test_nothing_to_measure() -> None:
    with pytest.raises(UsageError, match="nothing to measure; name at least one model"):
        measure([], Settings())


@pytest.mark.parametrize("rounds", [{"min_rounds": 5}, {"max_rounds": 19}])
def test_settings_that_cannot_hold_an_interval(rounds: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="use 6 <= min_rounds <= max_rounds"):
        Settings(**rounds)


@pytest.mark.parametrize("half_width", [0.0, -0.1, math.nan, math.inf])
def test_settings_with_an_impossible_target(half_width: float) -> None:
    with pytest.raises(UsageError, match=r"cannot be reached; use 0\.01"):
        Settings(half_width=half_width)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["max_seconds", "block_seconds", "warmup_seconds"])
def test_settings_of_no_time(name: str, seconds: float) -> None:
    with pytest.raises(UsageError, match=f"{name} {seconds} is no time; use"):
        Settings(**{name: seconds})


@pytest.mark.parametrize("name", ["max_seconds", "block_seconds"])
def test_settings_that_leave_no_time(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name} 0\.0 is no time; use seconds above 0"):
        Settings(**{name: 0.0})


def test_modes_and_settings_are_fixed() -> None:
    assert {name: mode.half_width for name, mode in MODES.items()} == {
        "quick": 0.02,
        "normal": 0.01,
        "strict": 0.005,
    }
    with pytest.raises(AttributeError, match="immutable"):
        MODES["quick"].seed = 3  # type: ignore[misc]
    assert msgspec.json.decode(msgspec.json.encode(MODES["quick"]), type=Settings) == MODES["quick"]


def test_without_reloads_there_is_one_sitting() -> None:
    found = machine_of(steady(0.02), steady(0.02)).measure()
    assert found.sittings.tolist() == [0] * len(found.orders)
    assert found.loads == (1, 1)
