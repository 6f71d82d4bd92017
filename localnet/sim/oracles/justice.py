"""Evidence only against the guilty, and always against those whose guilt an honest node held.

The oracle overhears what the guilty say to the honest. Two contents that contradict each other, in
the hands of one honest node in one of its lives and at a time when that node still counts both, are
a *chance*. Whoever gave `CHANCES_MIN` of them for one offence to one node stands convicted of it at
the end, on every node. One is not enough: the view may end between the two.

A leader that shows one honest node one block of a view and another node another gives nobody two
contents, but a *split*: members that see a view fail show each other what they saw, and whoever
sees a quorum certify another block than its own shows that to the voters. In which order the halves
and the certificate come makes no difference. So splits in `CHANCES_MIN` views convict like chances.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from consensus.effects import Misbehaviour, Persist, Received, Store
from consensus.messages import (
    BatchMessage,
    BlockResponse,
    CommittedResponse,
    Message,
    Proposal,
    ShownProposal,
    StateVote,
    Timeout,
    Vote,
)
from consensus.types import StateCertificate
from crypto.codec import decode_lenient
from localnet.sim.oracles.certificates import Judge
from localnet.sim.oracles.proof import Offence, Prosecutor
from localnet.sim.oracles.watchers import Watcher
from node.events import BlockNotice
from node.offences import EVIDENCE_TABLE
from node.recovery import CERTIFICATE_BY_HEIGHT_TABLE

CHANCES_MIN: Final = 3

LANE_WINDOW: Final = 64
"""Batches this far above a lane's cursor are surely looked at."""

VOTE_VIEWS_BEHIND: Final = 1
VOTE_VIEWS_AHEAD: Final = 10
"""Votes of views so far away are counted."""


_UNJUDGED: Final = (BlockResponse, CommittedResponse)
"""Messages in which this oracle does not check every signature."""

_BLAMED: Final = ("signature.invalid", "state.vote_invalid")
"""What a node says of whoever sent a bad signature to consensus."""


class _Place(NamedTuple):
    """Where an honest member says one thing only."""

    kind: type
    """Of the message."""
    author: int
    number: int
    """A view, a height or a sequence."""


class Justice(Watcher):
    """See the module docstring."""

    effects = (Persist, BlockNotice, Misbehaviour)

    def __init__(
        self,
        guilty: Iterable[int],
        exempt: Iterable[int],
        prosecutor: Prosecutor,
        judge: Judge,
        find_view: Callable[[int], int | None],
    ) -> None:
        """What `exempt` hosts hear and say proves nothing. `find_view` tells the view of a host,
        None for one that takes no part in consensus at the moment."""
        self._guilty = frozenset(guilty)
        self.exempt = frozenset(exempt)
        self._prosecutor = prosecutor
        self._rules = judge
        self._find_view = find_view
        self.proven: set[Offence] = set()
        """Of whom committed blocks carry evidence that holds."""
        self.found: Counter[Offence] = Counter()
        """How many nodes found and kept it."""
        self._chances: Counter[tuple[int, Offence]] = Counter()
        self._heard: dict[int, dict[_Place, Message]] = {}
        self._proposed: dict[_Place, dict[int, bytes]] = {}
        """Ids of the blocks that the honest saw first, by host."""
        self._distrusted: set[tuple[int, int]] = set()
        """(host, member): who once broke a rule may not be listened to any more."""
        self._suspect: set[tuple[int, int]] = set()
        """(host, member): who said something there that may hold a bad signature."""
        self._certified: Counter[int] = Counter()
        self._cursors: Counter[tuple[int, int]] = Counter()
        self._judged: set[int] = set()

    # ---- what is told --------------------------------------------------------------------------

    def on_start(self, index: int) -> None:
        """What a node held in memory is gone."""
        self._heard[index] = {}
        for seen in self._proposed.values():
            seen.pop(index, None)
        self._take_back(index, self._guilty)

    def _take_back(self, index: int, members: frozenset[int]) -> None:
        """Whatever these members gave a host, it need not have noticed."""
        for key in [key for key in self._chances if key[0] == index and key[1][0] in members]:
            del self._chances[key]
        for place, seen in self._proposed.items():
            if place.author in members:
                seen.pop(index, None)

    def on_effect(self, index: int, effect: Any) -> None:
        match effect:
            case Persist(store=Store.ARCHIVE, puts=puts):
                for put in puts:
                    if put.table == EVIDENCE_TABLE:
                        self.found[self._judge(index, put.value)] += 1
                    elif put.table == CERTIFICATE_BY_HEIGHT_TABLE:
                        height = decode_lenient(StateCertificate, put.value).header.height
                        self._certified[index] = max(self._certified[index], height)
            case BlockNotice(_, block):
                for tip in block.lanes:
                    self._cursors[index, tip.data.author] = tip.data.sequence
                if block.evidence and block.height not in self._judged:
                    self._judged.add(block.height)
                    self._judge_block(block.evidence)
            case Misbehaviour(member, code, _):
                assert code not in _BLAMED or (index, member) in self._suspect, (
                    f"node {index} refuses a signature of {member}, and all were good"
                )
                # What breaks a rule by itself is refused before it is compared with anything.
                self._distrusted.add((index, member))
                self._take_back(index, frozenset((member,)))
            case _:
                pass

    def _judge(self, index: int, encoded: bytes) -> Offence:
        """A node says that it has proof."""
        offence = self._prosecutor.judge_encoded(encoded)
        assert offence is not None, f"node {index} holds evidence that proves nothing"
        offender, kind = offence
        assert offender in self._guilty, f"node {index} has {kind} against the honest {offender}"
        return offence

    def _judge_block(self, evidence: tuple[bytes, ...]) -> None:
        """Whatever a leader put into a block: most of what liars put there is invented."""
        for encoded in evidence:
            offence = self._prosecutor.judge_encoded(encoded)
            if offence is not None:
                offender, kind = offence
                assert offender in self._guilty, f"{kind} proven against the honest {offender}"
                self.proven.add(offence)

    # ---- what is overheard ---------------------------------------------------------------------

    def on_received(self, index: int, event: Received) -> None:
        author, message = event.sender, event.message
        if author not in self._guilty:
            return
        if (index, author) not in self._suspect and not self._is_sound(author, message):
            self._suspect.add((index, author))
        place = find_place(author, message)
        if place is None or not self._is_counted(index, place):
            return
        held = self._heard.setdefault(index, {}).setdefault(place, message)
        if isinstance(message, Proposal) and held is message:
            said = self._prosecutor.state(message)
            assert said is not None, "a proposal says something"
            self._proposed.setdefault(place, {})[index] = said.content
        if held is message or (index, author) in self._distrusted:
            return
        first, second = self._prosecutor.state(held), self._prosecutor.state(message)
        offence = first and second and self._prosecutor.judge(first, second)
        if offence:
            self._chances[index, offence] += 1

    def _is_sound(self, author: int, message: Message) -> bool:
        """Is every signature in it good, for all that can be told here?"""
        if isinstance(message, _UNJUDGED):
            return False
        shown = getattr(message, "proposal", message)
        if isinstance(shown, ShownProposal):
            leader = self._rules.find_leader(shown.view)
            if not self._prosecutor.is_signed(self._prosecutor.state_shown(leader, shown)):
                return False
        said = self._prosecutor.state(message)
        if said is not None and (said.author != author or not self._prosecutor.is_signed(said)):
            return False
        try:
            self._rules.judge_message(message)
        except AssertionError:
            return False
        return True

    def _is_counted(self, index: int, place: _Place) -> bool:
        """Is the message one of those that the host looks at now?"""
        number = place.number
        if place.kind is BatchMessage:
            return 0 < number - self._cursors[index, place.author] <= LANE_WINDOW
        if place.kind is StateVote:
            return 0 < number - self._certified[index] <= LANE_WINDOW
        view = self._find_view(index)
        if view is None:
            return False
        if place.kind is Vote:
            is_near = view - VOTE_VIEWS_BEHIND <= number <= view + VOTE_VIEWS_AHEAD
            return is_near and index in map(self._rules.find_leader, (number, number + 1))
        if place.kind is Timeout:
            return number == view
        return view <= number

    # ---- the end -------------------------------------------------------------------------------

    def outstanding(self, convictions: Mapping[int, Iterable[Offence]]) -> list[str]:
        """What a node still has to learn of what is proven or had to be, given who stands
        convicted on which node."""
        due = self.proven | {
            offence for (_, offence), count in self._chances.items() if count >= CHANCES_MIN
        }
        splits = Counter(
            place.author for place, seen in self._proposed.items() if len(set(seen.values())) > 1
        )
        due |= {(author, "DoubleProposal") for author in splits if splits[author] >= CHANCES_MIN}
        return [
            f"node {index} has not convicted {offender} of {kind}"
            for index, convicted in sorted(convictions.items())
            for offender, kind in sorted(due.difference(convicted))
        ]

    def validate(self, convictions: Mapping[int, Iterable[Offence]]) -> None:
        """At the end: all that must stand convicted do, and nobody else."""
        missing = self.outstanding(convictions)
        assert not missing, "; ".join(missing)
        for index, convicted in sorted(convictions.items()):
            for offender, kind in convicted:
                assert offender in self._guilty, f"node {index} convicts the honest {offender}"
                assert (offender, kind) in self.proven, f"{kind} of {offender} was never proven"


def find_place(author: int, message: Message) -> _Place | None:
    """Where a message takes its place; None for one that takes none, or somebody else's."""
    match message:
        case Vote(data=data) | Timeout(data=data) if message.author == author:
            return _Place(type(message), author, data.view)
        case Proposal(view=view) if message.author == author:
            return _Place(Proposal, author, view)
        case StateVote(header=header) if message.author == author:
            return _Place(StateVote, author, header.height)
        case BatchMessage(signed_header=signed) if signed.header.author == author:
            return _Place(BatchMessage, author, signed.header.sequence)
        case _:
            return None
