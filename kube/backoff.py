"""How long to wait after a failure: the one retry rule, as a function of what is given to it."""

from dataclasses import dataclass

# 2**n of a process that fails for a year would be a large number for nothing; no real `longest` is so far away.
_DOUBLINGS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits that double from `first` to `longest` seconds."""

    first: float
    longest: float

    def delay(self, failures: int, jitter: float = 0.0) -> float:
        """Seconds to wait after so many failures in a row.

        `jitter` in [0, 1) takes up to half of it away: many clients that lost one server do not come back together.
        """
        full = min(self.longest, self.first * 2.0 ** min(max(failures - 1, 0), _DOUBLINGS))
        return full * (1.0 - jitter / 2.0)
