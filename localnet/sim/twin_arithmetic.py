"""What it takes to count and to draw twins scenarios: permutations, and groups that do not meet."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import factorial, gcd, prod

Cycle = tuple[int, ...]
Relation = tuple[int, ...]
"""For each sending host the mask of those that hear it."""


def group_by_power(powers: Sequence[int], members: Sequence[int]) -> list[list[int]]:
    """Members that may be renamed among each other."""
    classes: dict[int, list[int]] = {}
    for member in members:
        classes.setdefault(powers[member], []).append(member)
    return [classes[power] for power in sorted(classes)]


def partitions(total: int, largest: int | None = None) -> Iterator[tuple[int, ...]]:
    """All ways to write a number as a sum, parts falling."""
    if total == 0:
        yield ()
        return
    for part in range(min(total, largest or total), 0, -1):
        for rest in partitions(total - part, part):
            yield (part, *rest)


def count_permutations(lengths: Sequence[int]) -> int:
    """Permutations with cycles of these lengths."""
    alike = Counter(lengths)
    symmetries: int = prod(length**count * factorial(count) for length, count in alike.items())
    return factorial(sum(lengths)) // symmetries


def find_cycles(mapping: dict[int, int]) -> tuple[Cycle, ...]:
    """The cycles of a permutation, each from its lowest element on."""
    cycles: list[Cycle] = []
    seen: set[int] = set()
    for start in sorted(mapping):
        cycle: list[int] = []
        while start not in seen:
            seen.add(start)
            cycle.append(start)
            start = mapping[start]
        if cycle:
            cycles.append(tuple(cycle))
    return tuple(cycles)


def count_pair_cycles(lengths: Sequence[int]) -> int:
    """Cycles on ordered pairs of different hosts."""
    within = sum(length - 1 for length in lengths)
    between = sum(
        gcd(one, other) for place, one in enumerate(lengths) for other in lengths[place + 1 :]
    )
    return within + 2 * between


def weigh_groups(lengths: Sequence[int]) -> tuple[int, int, int]:
    """Pairs of disjoint groups, not empty, that a renaming keeps; that it swaps; and no groups."""
    count = len(lengths)
    kept = (3**count - 2 * 2**count + 1) // 2
    swapped = (prod(3 if length % 2 == 0 else 1 for length in lengths) - 1) // 2
    return kept, swapped, 1


def separate(hosts: int, one: set[int], other: set[int]) -> Relation:
    """Everybody hears everybody, but for the two sets, which do not hear each other."""
    whole = (1 << hosts) - 1
    without = dict.fromkeys(one, other) | dict.fromkeys(other, one)
    return tuple(whole & ~sum(1 << each for each in without.get(host, ())) for host in range(hosts))
