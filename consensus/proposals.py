"""The proposals of recent views: the first verified one of each, which is the one to vote for."""

from typing import Final, NamedTuple

from consensus.messages import ShownProposal
from consensus.types import NO_SIGNATURE

PROPOSAL_VIEWS_BEHIND_MAX: Final = 64
"""A proposal this far below the current view is of no use any more."""


class Seen(NamedTuple):
    """A proposal without its block, which is in the tree."""

    block_id: bytes
    signature: bytes


class Proposals:
    """By view. A second one that differs may convict its author, so the first stays."""

    def __init__(self) -> None:
        self._seen: dict[int, Seen] = {}
        self._told: set[int] = set()

    def find(self, view: int) -> Seen | None:
        """The first proposal of a view."""
        return self._seen.get(view)

    def add(self, view: int, block_id: bytes, signature: bytes) -> Seen:
        """Take a verified proposal; returns the first of its view, be it this one or not."""
        return self._seen.setdefault(view, Seen(block_id, signature))

    def add_own(self, view: int, block_id: bytes) -> None:
        """The node itself leads this view and proposed this block, whatever came in its name."""
        self._seen[view] = Seen(block_id, NO_SIGNATURE)

    def show(self, view: int) -> ShownProposal | None:
        """The first proposal of a view, to be shown to others; None if there is none, or if it is
        this node's own."""
        seen = self._seen.get(view)
        if seen is None or seen.signature == NO_SIGNATURE:
            return None
        return ShownProposal(view, seen.block_id, seen.signature)

    def find_rival(self, view: int, block_id: bytes) -> ShownProposal | None:
        """The first proposal of a view if it is of another block than this one."""
        shown = self.show(view)
        return shown if shown is not None and shown.block_id != block_id else None

    def take_rival(self, view: int, block_id: bytes) -> ShownProposal | None:
        """As `find_rival`, once a view."""
        rival = None if view in self._told else self.find_rival(view, block_id)
        if rival is not None:
            self._told.add(view)
        return rival

    def prune(self, view: int) -> None:
        """Forget what is too far below the current view."""
        oldest = view - PROPOSAL_VIEWS_BEHIND_MAX
        for old in [each for each in self._seen if each < oldest]:
            del self._seen[old]
        self._told = {each for each in self._told if each >= oldest}
