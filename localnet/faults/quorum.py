"""Do these faults leave a quorum that must go on? Pure; what is promised follows from it.

A quorum is whole while enough members are honest, run, and hear each other both ways. Members that
lie are not counted on, whatever they do. Stakes are equal, as scenarios have them.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from localnet.faults.model import (
    Bandwidth,
    Delay,
    EndingFault,
    Fault,
    LinkFault,
    Loss,
    Partition,
    Pause,
    Reset,
    parse_link,
)

HARMLESS_DELAY_MAX_MS: Final = 1_000
"""With the jitter: a link that is slower may outlast a view's timer again and again."""
HARMLESS_LOSS_MAX_PERMILLE: Final = 50
"""What is lost is sent again or fetched; of a link that loses more nothing is promised."""


def has_quorum(faults: Iterable[Fault], nodes: Sequence[str], faulty: Collection[str]) -> bool:
    """Are there enough nodes, none `faulty`, that no fault ends and whose links all carry?"""
    down, bad_links = set(faulty), set()
    for fault in faults:
        if isinstance(fault, EndingFault | Pause):
            down |= set(fault.nodes)
        elif isinstance(fault, LinkFault) and _is_impairing(fault):
            bad_links |= {frozenset(parse_link(each)) for each in fault.links}
    needed = 2 * len(nodes) // 3 + 1
    return _holds_whole(frozenset(nodes) - down, sorted(bad_links, key=sorted), needed)


def _is_impairing(fault: LinkFault) -> bool:
    match fault:
        case Partition() | Reset() | Bandwidth():
            return True
        case Delay(delay_ms=delay_ms, jitter_ms=jitter_ms):
            return delay_ms + jitter_ms > HARMLESS_DELAY_MAX_MS
        case Loss(permille=permille):
            return permille > HARMLESS_LOSS_MAX_PERMILLE
        case _:
            return False


def _holds_whole(up: frozenset[str], bad_links: Sequence[frozenset[str]], needed: int) -> bool:
    """Is there a part of `up` of that size without a bad link inside? One end of each has to go."""
    if len(up) < needed:
        return False
    bad = next((link for link in bad_links if link <= up), None)
    return bad is None or any(_holds_whole(up - {end}, bad_links, needed) for end in sorted(bad))
