"""How a wait grows with the attempts that were in vain: in two paces, both up to a bound.

Waits that stand between the committee and its next block grow gently, by half, because each adds to
an outage. Waits before something is said again double: what they repeat is costly or not urgent.
All arithmetic is on integers and rounds down.
"""

from typing import Final

GROWTHS_MAX: Final = 6
"""A wait that grows by half ends at 1.5 to this power (11.4) times its first value."""

DOUBLINGS_MAX: Final = 4
"""A wait that doubles ends at 16 times its first value."""


def compute_growing_wait_ms(first_ms: int, attempts: int) -> int:
    """Return the wait after `attempts` earlier ones, each half as long again as the one before."""
    growths = min(attempts, GROWTHS_MAX)
    return int(first_ms * 3**growths // 2**growths)


def compute_doubling_wait_ms(first_ms: int, attempts: int) -> int:
    """Return the wait after `attempts` earlier ones, each twice as long as the one before."""
    return first_ms << min(attempts, DOUBLINGS_MAX)
