"""Power in small numbers: how many key shares each member of a committee holds.

A threshold key is shared among *tickets*, and work and bytes grow with their number, so power must
be expressed by few of them. Two promises hold exactly, for every set of members at once:

- *secrecy*: a set with less than half of the power holds fewer tickets than the threshold;
- *liveness*: a set with two thirds of the power or more holds at least the threshold.

That is weight separation (Tonkikh and Freitas, "Swiper", 2023). Each member holds power times a
common scale, rounded to the nearest integer (halves up) and at least one, so that everybody answers
for a share. The scale grows from nothing, one rounding step after another, and the first assignment
that keeps both promises is taken. Equal power always gives equal tickets.

No more than `TICKETS_MAX_PER_MEMBER` times n tickets are ever needed. Let S hold less than half of
the power and S' two thirds, A be S without S' and B be S' without S. B has more than T/6 more power
than A. At scale s a member of power p holds at most sp + 1 tickets, and more than sp - 1/2. So B
holds more than sT/6 - |A| - |B|/2 tickets more than A, which is not negative from sT = 6n on; and
there are at most sT + n tickets then.

The threshold is the highest that two thirds of the power reach. It is the total less what a set
below honest power can hold, so `tickets_to_switch` comes to every ticket: see `Tickets`.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from committee.committee import COMMITTEE_SIZE_MAX

TICKETS_MAX_PER_MEMBER: Final = 7
"""See the proof above."""

TICKETS_MAX: Final = TICKETS_MAX_PER_MEMBER * COMMITTEE_SIZE_MAX
"""Tickets of one key."""

TicketCount = Annotated[int, Meta(ge=0, le=TICKETS_MAX)]
"""How many tickets; 0 for a member that has no part in the key."""

_DENSITY_SCALE = 1 << 20
"""Power for each ticket is compared in units of this fraction; it orders a search, nothing else."""


class Tickets(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who holds how many shares of a key, and how many of them work together."""

    counts: Annotated[tuple[TicketCount, ...], Meta(min_length=1, max_length=COMMITTEE_SIZE_MAX)]
    """By member."""
    threshold: Annotated[int, Meta(ge=1, le=TICKETS_MAX)]
    """Tickets that open, all together; one less open nothing."""
    spare: TicketCount
    """The most tickets that any set below honest power holds: what may fail without harm."""

    def __post_init__(self) -> None:
        if not max(self.threshold, self.spare) <= self.total <= TICKETS_MAX:
            raise ValueError("the tickets do not fit their threshold")

    @property
    def total(self) -> int:
        """W."""
        return sum(self.counts)

    @property
    def tickets_to_switch(self) -> int:
        """Tickets that must have proven their shares before the key may be relied upon.

        Of those who proved it, any set below honest power may turn out faulty, and the rest must
        still reach the threshold.
        """
        return self.threshold + self.spare

    def ranges(self) -> tuple[range, ...]:
        """Return the numbers of every member's tickets: 1, 2, ... in the order of members."""
        ranges = []
        first = 1
        for count in self.counts:
            ranges.append(range(first, first + count))
            first += count
        return tuple(ranges)


def compute_tickets(powers: Sequence[int]) -> Tickets:
    """Return the first assignment of the scan that keeps both promises.

    `powers` are positive. 64 members cost about 3 ms, 128 about 10 ms.
    """
    assert powers, "nobody to hold a ticket"
    assert min(powers) > 0, "power is positive"
    minority_power = (sum(powers) - 1) // 2
    # A set holds two thirds or more exactly if those outside it hold no more than this.
    absent_power = sum(powers) // 3
    counts = [1] * len(powers)
    while True:
        if _is_hopeful(powers, counts, minority_power, absent_power):
            tickets = _separate(powers, counts, minority_power, absent_power)
            if tickets is not None:
                return tickets
        counts = _grow(powers, counts)
        assert sum(counts) <= TICKETS_MAX_PER_MEMBER * len(powers), "see the proof above"


def compute_most_tickets(powers: Sequence[int], counts: Sequence[int], power_max: int) -> int:
    """Return the most tickets that a set of members with at most this much power holds.

    Exact: a knapsack. `n * W` steps.
    """
    return _count_within(_compute_least_powers(powers, counts), power_max)


def _grow(powers: Sequence[int], counts: list[int]) -> list[int]:
    """Return the assignment at the next scale that differs: whoever rounds up there, all at once.

    A member of power p gets its ticket number k + 1 at scale (2k + 1) / 2p.
    """
    step, power_of_step = 2 * counts[0] + 1, powers[0]
    for power, count in zip(powers, counts, strict=True):
        if (2 * count + 1) * power_of_step < step * power:
            step, power_of_step = 2 * count + 1, power
    return [
        count + 1 if (2 * count + 1) * power_of_step == step * power else count
        for power, count in zip(powers, counts, strict=True)
    ]


def _is_hopeful(
    powers: Sequence[int], counts: Sequence[int], minority_power: int, absent_power: int
) -> bool:
    """Do the sets that a greedy choice finds leave room for a threshold?

    They are sets, so what they break is broken; only a knapsack tells that nothing is. Most
    assignments of a scan end here, at a hundredth of its cost.
    """
    cheapest = sorted(
        (power * _DENSITY_SCALE // count, power, count)
        for power, count in zip(powers, counts, strict=True)
    )
    minority = _fill(cheapest, minority_power)
    absent = _fill(cheapest, absent_power)
    return minority + absent < sum(counts)


def _fill(cheapest: Iterable[tuple[int, int, int]], power_left: int) -> int:
    """Return the tickets that a set holds which takes whom it still can, cheapest tickets first."""
    tickets = 0
    for _, power, count in cheapest:
        if power <= power_left:
            power_left -= power
            tickets += count
    return tickets


def _separate(
    powers: Sequence[int], counts: Sequence[int], minority_power: int, absent_power: int
) -> Tickets | None:
    """Return these tickets with the highest threshold that keeps both promises, if there is one."""
    least_powers = _compute_least_powers(powers, counts)
    spare = _count_within(least_powers, absent_power)
    threshold = sum(counts) - spare
    if _count_within(least_powers, minority_power) >= threshold:
        return None
    return Tickets(tuple(counts), threshold, spare)


def _compute_least_powers(powers: Sequence[int], counts: Sequence[int]) -> list[int]:
    """Return the least power of a set that holds exactly k tickets, by k; if there is none, more
    than everybody has."""
    unreachable = sum(powers) + 1
    least = [0] + [unreachable] * sum(counts)
    reached = 0
    for power, count in zip(powers, counts, strict=True):
        reached += count
        for tickets in range(reached, count - 1, -1):
            with_member = least[tickets - count] + power
            if with_member < least[tickets]:
                least[tickets] = with_member
    return least


def _count_within(least_powers: Sequence[int], power_max: int) -> int:
    return max(tickets for tickets, power in enumerate(least_powers) if power <= power_max)
