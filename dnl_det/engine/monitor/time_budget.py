"""Keep what a task costs below a share of the time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class TimeBudget:
    """Says whether an occasional task may run, so that it takes at most a share of all time.

    Args:
        share: of the time since :meth:`start`, this task's included; 0.02 is 2 %.

    Attributes:
        spent: seconds that the task has taken.
    """

    def __init__(self, share: float):
        self.share = share
        self.spent = 0.0
        self._last: float | None = None
        self._start = time.perf_counter()

    def start(self) -> None:
        """Count from now."""
        self._start = time.perf_counter()
        self.spent = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def allows(self, first: float) -> bool:
        """Whether the task stays within its share, should it take as long as the last time.

        Args:
            first: seconds it will take the first time, as far as can be guessed.
        """
        expected = first if self._last is None else self._last
        return self.spent + expected <= self.share * (self.elapsed + expected)

    def add(self, seconds: float) -> None:
        """Count something that the last time has caused elsewhere."""
        self._last = (self._last or 0.0) + seconds
        self.spent += seconds

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Count the time in this context."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._last = time.perf_counter() - start
            self.spent += self._last
