"""Members that a node hears no more.

A ban follows one signature that does not verify, or one batch that is bad: an honest member sends
neither, and each costs milliseconds to find. It is this node's own judgement, lasts until its
restart and proves nothing to others; proof is evidence.

Each kind of message keeps bans of its own: the acknowledgements, the certificates and the batches
of lanes, the votes on state, and all that orders blocks (votes, timeouts, proposals and what comes
with them). So a member that is broken in one part still counts in the others, and no fault outside
the ordering path takes power away from it.
"""


class Bans:
    """Who is banned from one kind of message; never more than the committee."""

    def __init__(self) -> None:
        self._members: set[int] = set()

    def __contains__(self, member: int) -> bool:
        return member in self._members

    def __len__(self) -> int:
        return len(self._members)

    def add(self, *members: int) -> None:
        """Hear these no more."""
        self._members.update(members)
