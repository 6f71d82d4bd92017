"""What the parts of a snapshot are all checked for."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from engine.errors import SnapshotError

_Key = TypeVar("_Key", bytes, int)


def require_rising(keys: Sequence[_Key], what: str) -> None:
    """Equal states have equal bytes, so each list has one order. Raises `SnapshotError`."""
    if any(left >= right for left, right in pairwise(keys)):
        raise SnapshotError(f"{what} are not in rising order")
