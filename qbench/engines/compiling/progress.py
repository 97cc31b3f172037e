"""How far a build is, from the nested phases that the compiler reports."""

from qbench.engines.compiling.protocol import Progress


class BuildProgress:
    """Folds the events of one build into one fraction that never falls."""

    def __init__(self) -> None:
        self._open: list[Progress] = []
        self._fraction = 0.0

    def after(self, event: Progress) -> float:
        """Return which part of the build is done, from 0 to 1, once `event` has come."""
        names = [phase.phase for phase in self._open]
        if event.phase in names:
            del self._open[names.index(event.phase) :]
        elif event.parent in names:
            del self._open[names.index(event.parent) + 1 :]
        else:
            self._open.clear()
        self._open.append(event)
        self._fraction = max(self._fraction, _fraction(self._open))
        return self._fraction


def _fraction(phases: list[Progress]) -> float:
    """Return the part that is done where each phase is one step of the one before it."""
    done, share = 0.0, 1.0
    for phase in phases:
        steps = max(phase.steps, 1)
        done += share * min(phase.step, steps) / steps
        share = share / steps if phase.step < steps else 0.0
    return done
