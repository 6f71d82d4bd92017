"""Do all nodes tell the same story? Compares every block and every root that they report.

This is the localnet's safety check: it sees only what nodes send to any client, and believes none
of them more than another.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

HEIGHTS_REMEMBERED_MAX: Final = 4_096
"""Heights of one node that are kept to compare with nodes that lag behind."""

CONTRADICTIONS_MAX: Final = 100
"""Contradictions that are kept; the first ones tell the most."""


class Contradiction(NamedTuple):
    """Two nodes say different things about one height."""

    kind: str
    """`block` or `state_root`."""
    height: int
    node: str
    value: bytes
    other_node: str
    other_value: bytes

    def __str__(self) -> str:
        return (
            f"{self.kind} at height {self.height}: {self.node} says {self.value.hex()[:16]}, "
            f"{self.other_node} says {self.other_value.hex()[:16]}"
        )


class Agreement:
    """What every node said about every height, and where two of them differ."""

    def __init__(self) -> None:
        self.contradictions: list[Contradiction] = []
        self._said: dict[tuple[str, str], OrderedDict[int, bytes]] = {}

    def observe(self, node: str, kind: str, height: int, value: bytes) -> None:
        """A node said that the `kind` of `height` is `value`."""
        own = self._said.setdefault((kind, node), OrderedDict())
        # The node itself is among those compared: it may contradict what it said before.
        for (other_kind, other_node), said in self._said.items():
            if other_kind == kind and said.get(height, value) != value:
                self._contradict(Contradiction(kind, height, node, value, other_node, said[height]))
        own[height] = value
        if len(own) > HEIGHTS_REMEMBERED_MAX:
            own.popitem(last=False)

    def _contradict(self, contradiction: Contradiction) -> None:
        if len(self.contradictions) < CONTRADICTIONS_MAX:
            self.contradictions.append(contradiction)

    def highest_common(self, kind: str, nodes: list[str]) -> tuple[int, bytes] | None:
        """The highest height about which all these nodes said the same, and what; None if none."""
        if not nodes:
            return None
        stories = [self._said.get((kind, node), OrderedDict[int, bytes]()) for node in nodes]
        common = set(stories[0]).intersection(*stories[1:])
        for height in sorted(common, reverse=True):
            if all(story[height] == stories[0][height] for story in stories):
                return height, stories[0][height]
        return None
