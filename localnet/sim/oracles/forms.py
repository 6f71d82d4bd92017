"""Whatever breaks a rule of form by itself is refused, under that rule's own code.

The liar says of each of its messages which rule it breaks (`localnet.byzantine.malformed`); how the
product finds out is the product's affair. Not each message is looked at, for a node ignores what is
out of date; but where `HEARD_MIN` of a kind were looked at and none was refused, the rule is gone.
It is gone, too, where it comes to verifying the signatures in such a message.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from consensus.effects import Misbehaviour, Received, Send
from consensus.messages import (
    Advance,
    CommittedRequest,
    CommittedResponse,
    Proposal,
    Timeout,
    Vote,
)
from localnet.sim.oracles.certificates import Judge
from localnet.sim.oracles.watchers import Watcher

HEARD_MIN: Final = 4
"""All honest nodes taken together."""


class Forms(Watcher):
    """See the module docstring."""

    effects = (Misbehaviour, Send)

    def __init__(
        self,
        members: Iterable[int],
        exempt: Iterable[int],
        find_view: Callable[[int], int | None],
        find_fault: Callable[[int, Any], str | None],
    ) -> None:
        """`members` break rules of form, and no others. What `exempt` hosts refuse proves nothing.
        `find_view` tells the view of a host, None for one that takes no part in consensus;
        `find_fault` the rule that a member's message breaks."""
        self._members = frozenset(members)
        self.exempt = frozenset(exempt)
        self._find_view = find_view
        self._find_fault = find_fault
        self.heard: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._asked: set[tuple[int, int]] = set()
        """(host, member): an answer is awaited."""
        self._proposed: set[tuple[int, int]] = set()
        """(host, view): a proposal in which nothing is broken was heard."""

    def on_start(self, index: int) -> None:
        """What a node held in memory is gone."""
        self._asked = {each for each in self._asked if each[0] != index}

    def on_effect(self, index: int, effect: Any) -> None:
        match effect:
            case Send(to=to, message=CommittedRequest()):
                self._asked.update((index, member) for member in to)
            case Misbehaviour(member, code, _) if member in self._members:
                self.refused[code] += 1
                passed = sorted(fault for fault in self.heard if not self.refused[fault])
                assert not code.startswith("signature."), (
                    f"node {index} verifies what breaks {passed} by its form"
                )
            case _:
                pass

    def on_received(self, index: int, event: Received) -> None:
        sender, message = event.sender, event.message
        if sender not in self._members:
            return
        fault = self._find_fault(sender, message)
        if fault is None and isinstance(message, Proposal):
            self._proposed.add((index, message.view))
        if fault is None or not self._is_looked_at(index, sender, message):
            return
        self.heard[fault] += 1
        assert self.heard[fault] <= HEARD_MIN or self.refused[fault], (
            f"{fault} is broken {HEARD_MIN} times, and never refused"
        )

    def _is_looked_at(self, index: int, sender: int, message: Any) -> bool:
        """Is it of use to the host as things stand?"""
        view = self._find_view(index)
        if view is None:
            return False
        match message:
            case Timeout(data=data):
                return data.view >= view
            case Proposal(view=proposed):
                # What else is signed for a view, or signed alike, says nothing new after that.
                return proposed >= view and (index, proposed) not in self._proposed
            case Advance(qc=qc, tc=tc):
                return qc.view >= view or (tc is not None and tc.view >= view)
            case CommittedResponse():
                is_awaited = (index, sender) in self._asked
                self._asked.discard((index, sender))
                return is_awaited
            case _:
                return True


class SignedProposals(Watcher):
    """Nobody votes for a block that its leader has not signed, whoever sent it."""

    messages = (Vote,)
    arrivals = (Proposal,)

    def __init__(
        self,
        guilty: Iterable[int],
        exempt: Iterable[int],
        judge: Judge,
    ) -> None:
        """Only the `guilty` propose what they have not signed, and `exempt` hosts vote for it. But
        what these hear counts, too: a proposal is signed well if it ever was, for anybody."""
        self._guilty = frozenset(guilty)
        self._exempt = frozenset(exempt)
        self._judge = judge
        self._is_signed: dict[bytes, bool] = {}
        """Of each block that the guilty proposed: was it ever signed well?"""

    def on_received(self, index: int, event: Received) -> None:
        message = event.message
        if event.sender in self._guilty and isinstance(message, Proposal):
            block_id = self._judge.find_block_id(message.block)
            if not self._is_signed.get(block_id):
                self._is_signed[block_id] = self._judge.is_signed(message, block_id)

    def on_sent(self, index: int, message: Any) -> None:
        if index not in self._exempt and isinstance(message, Vote):
            data = message.data
            assert self._is_signed.get(data.block_id, True), (
                f"node {index} votes in view {data.view} for what its leader has not signed"
            )
