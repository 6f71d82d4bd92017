"""The proposals of recent views: the first verified one of each, which is the one to vote for, and
what else is known of them.

A leader that proposes two blocks of a view gives an honest member one of them, and the others come
from members that show what they saw. In what order all this arrives is up to the leader, so each
piece stays here until the one that contradicts it comes: at most one proposal that came from the
leader, one that was shown and one certificate for each of the last views.
"""

from typing import Any, Final, NamedTuple

from consensus.messages import ShownProposal
from consensus.types import NO_SIGNATURE, QC

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
        self._shown: dict[int, ShownProposal] = {}
        self._certified: dict[int, QC] = {}
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

    def add_shown(self, shown: ShownProposal) -> None:
        """Take what another member shows, verified. Nobody votes for it or shows it on."""
        self._shown.setdefault(shown.view, shown)

    def add_certified(self, qc: QC) -> None:
        """Take a verified QC: its voters hold a proposal of its block."""
        self._certified.setdefault(qc.view, qc)

    def is_known(self, view: int) -> bool:
        """Is there a proposal of this view, seen or shown?"""
        return view in self._seen or view in self._shown

    def show(self, view: int) -> ShownProposal | None:
        """The first proposal of a view, to be shown to others; None if there is none, or if it is
        this node's own."""
        seen = self._seen.get(view)
        if seen is None or seen.signature == NO_SIGNATURE:
            return None
        return ShownProposal(view, seen.block_id, seen.signature)

    def find_rival(self, view: int, block_id: bytes) -> ShownProposal | None:
        """A proposal of a view, seen or shown, that is of another block than this one."""
        for known in (self.show(view), self._shown.get(view)):
            if known is not None and known.block_id != block_id:
                return known
        return None

    def take_rival(self, view: int) -> tuple[ShownProposal, QC] | None:
        """The first proposal of a view and the certificate of another block of that view, once a
        view."""
        shown, qc = self.show(view), self._certified.get(view)
        if shown is None or qc is None or view in self._told or shown.block_id == qc.block_id:
            return None
        self._told.add(view)
        return shown, qc

    def prune(self, view: int) -> None:
        """Forget what is too far below the current view."""
        oldest = view - PROPOSAL_VIEWS_BEHIND_MAX
        tables: tuple[dict[int, Any], ...] = (self._seen, self._shown, self._certified)
        for table in tables:
            for old in [each for each in table if each < oldest]:
                del table[old]
        self._told = {each for each in self._told if each >= oldest}
