"""Every behaviour tells its lie, the honest agree and go on, and only the guilty are convicted."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from consensus.checkpoints import is_checkpoint
from consensus.effects import Received, Send, ServeBatches, ServeCommitted
from consensus.evidence import decode_evidence
from consensus.messages import (
    BLOCKS_MAX_PER_RESPONSE,
    BatchMessage,
    BlockResponse,
    BulkMessage,
    CommittedResponse,
    ControlMessage,
    LaneCertificate,
    Message,
    Proposal,
    SnapshotOffer,
    StateVote,
    Timeout,
    Vote,
    encode_message,
)
from crypto.codec import decode
from localnet.byzantine import UnknownBehaviourError, behaviours, find_behaviour
from localnet.sim.faults import CrashFault, CutFault, Fault, LossFault, WipeFault
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.watchers import Watcher
from localnet.sim.scenario import Outcome, run_schedule
from localnet.sim.schedule import Liar, Network, Schedule
from node.joining import OFFERS_WAIT_MS

LIAR = 1
OTHERS = frozenset((0, 2, 3))

# Somebody honest is away now and then, so that views fail.
ABSENCE: tuple[Fault, ...] = (
    CrashFault(at_ms=150, duration_ms=1_200, host=2),
    CrashFault(at_ms=1_600, duration_ms=1_200, host=3),
)
# Nothing is certified for a while, so that everybody gets to build on genesis.
NO_VOTES: tuple[Fault, ...] = (
    LossFault(at_ms=0, duration_ms=6_000, permille=1_000, kinds=("vote",)),
)
# Blocks are seen and voted for, and certified only now and then.
LOST_VOTES: tuple[Fault, ...] = (
    LossFault(at_ms=100, duration_ms=4_000, permille=700, kinds=("vote",)),
)
# One member gets no proposals, one misses everything: both ask the liar first.
MISSED_BLOCKS: tuple[Fault, ...] = (
    CutFault(at_ms=50, duration_ms=1_500, senders=(1, 2, 3), receivers=(0,), kinds=("proposal",)),
)
MISSED_CHAIN: tuple[Fault, ...] = (CrashFault(at_ms=50, duration_ms=20_000, host=0),)
# Two members get no batches from the honest.
MISSED_BATCHES: tuple[Fault, ...] = (
    CutFault(at_ms=100, duration_ms=1_500, receivers=(0,), kinds=("batch",), senders=(2, 3)),
    CutFault(at_ms=100, duration_ms=1_500, receivers=(3,), kinds=("batch",), senders=(0, 2)),
)
# A member whose disk is lost begins with a snapshot, and hears late what the honest offer: after a
# second round, or after the time for which a single offer waits. The liar has little power, so that
# both count as guilty and everything is asked for.
JOIN_POWERS = (4, 1, 4, 1)


def join_hearing_after(deaf_ms: int) -> tuple[Fault, ...]:
    return (
        WipeFault(at_ms=2_500, duration_ms=1, host=3, is_joining=True),
        CutFault(
            at_ms=2_500,
            duration_ms=deaf_ms,
            senders=(0, 2),
            receivers=(3,),
            kinds=("snapshot_offer",),
        ),
    )


JOIN_SOON = join_hearing_after(1_200)
JOIN_LATE = join_hearing_after(OFFERS_WAIT_MS + 3_000)


@dataclass
class Wire(Watcher):
    """What a liar asked its host to send, and what it heard."""

    cluster: NodeCluster
    sent: list[tuple[int, frozenset[int], Any]] = field(default_factory=list)
    """(time, other receivers, message)."""
    served: int = 0
    order: list[tuple[str, int]] = field(default_factory=list)
    """Own and foreign votes as they came: (who, view)."""

    def on_effect(self, index: int, effect: Any) -> None:
        if index != LIAR:
            return
        if isinstance(effect, Send):
            others = frozenset(effect.to) - {LIAR}
            if isinstance(effect.message, Vote) and LIAR in effect.to:
                self.order.append(("mine", effect.message.data.view))
            if others:
                self.sent.append((self.cluster.world.now_ms, others, effect.message))
        elif isinstance(effect, ServeBatches | ServeCommitted):
            self.served += 1

    def on_received(self, index: int, event: Received) -> None:
        if index == LIAR and event.sender != LIAR and isinstance(event.message, Vote):
            self.order.append(("other", event.message.data.view))

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for _, _, message in self.sent if isinstance(message, kind)]

    def contents(self, kind: type[Any], key: Callable[[Any], Any]) -> dict[Any, set[Any]]:
        """Different messages of a kind by what should make them one."""
        found: dict[Any, set[Any]] = defaultdict(set)
        for message in self.of(kind):
            found[key(message)].add(encode_message(message))
        return found

    def says_two(self, kind: type[Any], key: Callable[[Any], Any]) -> bool:
        return any(len(each) > 1 for each in self.contents(kind, key).values())

    def reaches(self, kind: type[Any]) -> set[int]:
        """How many others such messages went to."""
        return {len(others) for _, others, message in self.sent if isinstance(message, kind)}


def view_of(message: Vote | Timeout) -> int:
    return message.data.view


def is_proposed_twice(wire: Wire) -> bool:
    return wire.says_two(Proposal, lambda proposal: proposal.view)


def is_voted_twice(wire: Wire) -> bool:
    return wire.says_two(Vote, view_of)


def is_given_up_twice(wire: Wire) -> bool:
    return wire.says_two(Timeout, view_of)


def is_vote_after_timeout(wire: Wire) -> bool:
    given_up: set[int] = set()
    for message in (each for _, _, each in wire.sent):
        if isinstance(message, Timeout):
            given_up.add(message.data.view)
        elif isinstance(message, Vote) and message.data.view in given_up:
            return True
    return False


def is_pivotal_vote_missing(wire: Wire) -> bool:
    """Its own votes come after all others', and it withheld one for good while one was away."""
    others: dict[int, int] = defaultdict(int)
    voted = set()
    for who, view in wire.order:
        if who == "mine":
            assert others[view] >= 3, "the others were enough"
            voted.add(view)
        else:
            others[view] += 1
    return bool(voted) and bool(set(others) - voted)


def is_late(wire: Wire) -> bool:
    delays = [
        at_ms - message.block.time_ms
        for at_ms, _, message in wire.sent
        if isinstance(message, Proposal)
    ]
    return bool(delays) and min(delays) >= 150


def is_state_wrong(wire: Wire) -> bool:
    votes, headers = wire.of(StateVote), wire.cluster.order.headers
    for vote in votes:
        own = headers.get(vote.header.height.to_bytes(8, "big"))
        assert own is None or decode(type(vote.header), own) != vote.header
    return bool(votes)


def is_innocent_accused(wire: Wire) -> bool:
    accused = {
        decode_evidence(encoded).offender
        for proposal in wire.of(Proposal)
        for encoded in proposal.block.evidence
    }
    return accused == OTHERS


def is_censoring(wire: Wire) -> bool:
    authors = {tip.data.author for proposal in wire.of(Proposal) for tip in proposal.block.lanes}
    return bool(wire.of(Proposal)) and authors <= {LIAR}


def is_empty(wire: Wire) -> bool:
    return bool(wire.of(Proposal)) and not any(
        is_checkpoint(proposal.block) and proposal.block.lanes for proposal in wire.of(Proposal)
    )


def is_flooding(wire: Wire) -> bool:
    return len(wire.sent) > 600


def is_fork_certified(wire: Wire) -> bool:
    certified: dict[int, set[bytes]] = defaultdict(set)
    for message in wire.of(LaneCertificate):
        data = message.certificate.data
        if data.author == LIAR:
            certified[data.sequence].add(data.batch_id)
    return any(len(ids) == 2 for ids in certified.values())


def is_stale(wire: Wire) -> bool:
    return len({proposal.block.qc for proposal in wire.of(Proposal)}) == 1


def is_oversized(wire: Wire) -> bool:
    return any(
        len(each.blocks) == BLOCKS_MAX_PER_RESPONSE
        for kind in (BlockResponse, CommittedResponse)
        for each in wire.of(kind)
    )


def is_repeating(wire: Wire) -> bool:
    newest, old = 0, 0
    for vote in wire.of(Vote):
        old += vote.data.view < newest - 3
        newest = max(newest, vote.data.view)
    return old > 0


@dataclass(frozen=True)
class Lie:
    """How it shows."""

    seen: Callable[[Wire], bool] = lambda wire: True
    refused: frozenset[str] = frozenset()
    """Codes with which the honest refuse it, all of them."""
    convicted: frozenset[str] = frozenset()
    """Evidence that stands against it at the end."""
    faults: tuple[Fault, ...] = ()


def refused(*codes: str, faults: tuple[Fault, ...] = ()) -> Lie:
    return Lie(refused=frozenset(codes), faults=faults)


def convicted(kind: str, seen: Callable[[Wire], bool]) -> Lie:
    return Lie(seen, convicted=frozenset((kind,)))


def is_endless(wire: Wire) -> bool:
    return any(len(each.offer) > 500_000 for each in wire.of(SnapshotOffer))


MALFORMED = (
    *(f"availability.{rule}" for rule in ("author", "epoch", "power", "sequence_zero", "signers")),
    *(f"block.{rule}" for rule in ("evidence_invalid", "evidence_repeated", "field_unused")),
    *(f"block.{rule}" for rule in ("height", "lanes_order", "parent_mismatch", "qc_older_than_tc")),
    *(f"block.{rule}" for rule in ("state_too_new", "tc_needless", "view_not_above_qc")),
    "block.view_unjustified",
    *(f"proposal.{rule}" for rule in ("author", "block_author", "epoch", "view_mismatch")),
    "proposal.not_leader",
    *(f"qc.{rule}" for rule in ("epoch", "height_zero", "power", "signers", "view_zero")),
    *(f"state.{rule}" for rule in ("epoch", "power", "signers")),
    "sync.blocks_missing",
    *(f"tc.{rule}" for rule in ("epoch", "group_empty", "groups_order", "high_qc_not_maximum")),
    *(f"tc.{rule}" for rule in ("high_qc_view", "power", "signers", "signers_overlap", "tip_view")),
    *(f"timeout.{rule}" for rule in ("author", "epoch", "high_qc_mismatch", "high_qc_view")),
    *(f"timeout.{rule}" for rule in ("high_qc_older_than_tc", "tc_needless", "tip_view")),
    "timeout.view_unjustified",
    *(f"vote.{rule}" for rule in ("author", "epoch", "height_zero", "view_zero")),
)

LIES: dict[str, Lie] = {
    "accomplice": Lie(lambda wire: len(wire.of(Vote)) > 40),
    "bad_signature_ack": refused("lane.ack_invalid"),
    "bad_signature_proposal": refused("signature.invalid"),
    "bad_signature_state_vote": refused("state.vote_invalid"),
    "bad_signature_timeout": refused("signature.poison", faults=ABSENCE),
    "bad_signature_vote": refused("signature.poison"),
    "censoring_leader": Lie(is_censoring),
    "certified_fork": convicted(
        "DoubleBatch",
        is_fork_certified,
    ),
    "conflicting_timeouts": convicted("DoubleTimeout", is_given_up_twice),
    "conflicting_timeouts_split": Lie(is_given_up_twice),
    "double_state_vote": convicted(
        "DoubleStateVote", lambda wire: wire.says_two(StateVote, lambda vote: vote.header.height)
    ),
    "double_vote": convicted("DoubleVote", is_voted_twice),
    "double_vote_split": Lie(is_voted_twice),
    "empty_blocks": Lie(is_empty),
    "endless_manifest": Lie(is_endless, faults=JOIN_LATE),
    "equivocating_leader": convicted("DoubleProposal", is_proposed_twice),
    "equivocating_leader_both": convicted("DoubleProposal", is_proposed_twice),
    "equivocating_leader_halves": convicted("DoubleProposal", is_proposed_twice),
    "equivocating_leader_one": convicted("DoubleProposal", is_proposed_twice),
    "equivocating_leader_voting": Lie(
        is_voted_twice, convicted=frozenset(("DoubleProposal", "DoubleVote"))
    ),
    "false_accuser": Lie(is_innocent_accused),
    "false_manifest": refused("offer.false", faults=JOIN_LATE),
    "false_pieces": refused("offer.chunk_false", faults=JOIN_SOON),
    "forged_last_certificate": refused("tc.power"),
    "forged_qc": refused("qc.power"),
    "forged_state": refused("state.power"),
    "forked_lane": convicted(
        "DoubleBatch",
        lambda wire: wire.says_two(BatchMessage, lambda batch: batch.signed_header.header.sequence),
    ),
    "forked_lane_split": Lie(
        lambda wire: wire.says_two(BatchMessage, lambda batch: batch.signed_header.header.sequence)
    ),
    "future_epoch": refused("vote.epoch", "proposal.epoch", "timeout.epoch"),
    "future_view": refused("block.view_unjustified", "timeout.view_unjustified"),
    "garbage_blocks": refused("sync.chain_broken", faults=MISSED_BLOCKS),
    "garbage_bodies": refused("lane.batch_malformed", faults=MISSED_BATCHES),
    "hollow_advance": refused("signature.invalid"),
    "hollow_availability": refused("lane.certificate_invalid", "signature.invalid"),
    "hollow_inside": refused("signature.invalid", faults=ABSENCE),
    "hollow_last_certificate": refused("signature.invalid"),
    "hollow_offer": refused("offer.signature", faults=JOIN_SOON),
    "hollow_proof": refused("signature.invalid", faults=MISSED_CHAIN),
    "hollow_qc": refused("signature.invalid"),
    "hollow_state": refused("signature.invalid"),
    "impersonation": refused(
        "vote.author", "proposal.author", "state.vote_forged", "lane.ack_forged"
    ),
    "invalid_availability": refused("availability.power", "lane.certificate_malformed"),
    "late_leader": Lie(is_late),
    "lowered_tc": refused("tc.high_qc_not_maximum", faults=ABSENCE),
    "malformed": refused(*MALFORMED, faults=MISSED_CHAIN),
    "many_high_qc_views": Lie(is_given_up_twice, faults=ABSENCE),
    "misfit_offer": refused("offer.malformed", faults=JOIN_SOON),
    "older_qc": refused("block.view_unjustified", "block.qc_older_than_tc", faults=ABSENCE),
    "oversized_sync": Lie(
        is_oversized, refused=frozenset(("sync.chain_broken",)), faults=MISSED_CHAIN
    ),
    "reordered_tc": refused("tc.groups_order", faults=LOST_VOTES),
    "replaying": Lie(is_repeating, refused=frozenset(("vote.author",))),
    "request_flood": Lie(is_flooding),
    "shunning": Lie(lambda wire: len(frozenset.union(*(to for _, to, _ in wire.sent))) == 2),
    "silent": Lie(lambda wire: not wire.sent and not wire.served),
    "stale_qc": Lie(is_stale, refused=frozenset(("block.view_unjustified",))),
    "stale_tc": refused("block.view_unjustified", faults=ABSENCE),
    "stale_timeout": refused("timeout.view_unjustified", faults=ABSENCE),
    "tampered_genesis": refused("qc.view_zero", faults=NO_VOTES),
    "twice_counted": refused("tc.signers_overlap", "tc.groups_order"),
    "usurper": refused("proposal.not_leader"),
    "vote_after_timeout": Lie(is_vote_after_timeout),
    "vote_withholding": Lie(lambda wire: not wire.of(Vote)),
    "vote_withholding_pivotal": Lie(is_pivotal_vote_missing, faults=ABSENCE),
    "withheld_batches": Lie(lambda wire: wire.reaches(BatchMessage) == {1} and not wire.served),
    "withholding_leader": Lie(lambda wire: wire.reaches(Proposal) == {2}),
    "withholding_leader_few": Lie(lambda wire: wire.reaches(Proposal) == {1}),
    "withholding_leader_one": Lie(lambda wire: wire.reaches(Proposal) == {1}),
    "wrong_parent": refused(
        "block.parent_mismatch",
        "block.height",
        "block.time_not_above_parent",
        "block.lane_not_above_cursor",
        "block.state_not_newer",
    ),
    "wrong_state_vote": Lie(is_state_wrong),
    "wrong_uncle": refused("block.parent_mismatch"),
}
"""One line for each behaviour."""


def run_watched(schedule: Schedule) -> tuple[Outcome, Wire]:
    wires: list[Wire] = []

    def watch(cluster: NodeCluster) -> None:
        wires.append(Wire(cluster))
        cluster.world.observers.append(wires[0])

    outcome = run_schedule(schedule, watch)
    return outcome, wires[0]


def test_every_behaviour_is_described_here() -> None:
    assert set(LIES) == set(behaviours())
    with pytest.raises(UnknownBehaviourError, match="no behaviour 'honesty'"):
        find_behaviour("honesty")


@pytest.mark.parametrize("behaviour", LIES)
def test_the_lie_shows_and_the_others_agree_and_go_on(behaviour: str) -> None:
    lie = LIES[behaviour]
    liars = (Liar(member=LIAR, behaviour=behaviour),)
    views = 80 if lie.faults else 25
    schedule = Schedule(seed=1, views=views, liars=liars, faults=lie.faults)
    is_joining = lie.faults in (JOIN_SOON, JOIN_LATE)
    if is_joining:
        network = Network(delay_least_ms=30, delay_most_ms=40)
        views = 60 if lie.faults == JOIN_SOON else 105
        schedule = replace(schedule, powers=JOIN_POWERS, views=views, network=network)
    outcome, wire = run_watched(schedule)
    assert outcome.violation is None
    assert outcome.not_asked == {}
    assert ("joined.amnesiac" in outcome.coverage) == is_joining
    assert outcome.committed_height > 10
    assert lie.seen(wire)
    assert wire.cluster.world.hosts[LIAR].machine.lies > 0
    codes = {key.removeprefix("refused.") for key in outcome.coverage if key.startswith("refused.")}
    assert codes >= lie.refused
    kinds = {key.removeprefix("convicted.") for key in outcome.coverage if "convicted." in key}
    assert kinds >= lie.convicted
    for _, _, message in wire.sent[:300]:
        assert decode_message(message) == message


def decode_message(message: Message) -> Message:
    """What a transport would make of it: even a lie must be a message."""
    union = BulkMessage if isinstance(message, BulkMessage) else ControlMessage
    return decode(union, encode_message(message))


@pytest.mark.parametrize("seed", range(8))
def test_with_two_liars_of_seven_the_others_agree_and_go_on(seed: int) -> None:
    random = Random(f"two liars {seed}")
    names = random.sample(list(behaviours()), 2)
    members = random.sample(range(7), 2)
    liars = tuple(
        Liar(member=member, behaviour=name) for member, name in zip(members, names, strict=True)
    )
    outcome = run_schedule(Schedule(seed=seed, powers=(1,) * 7, views=10, liars=liars))
    assert outcome.violation is None
    assert outcome.committed_height > 5


def test_an_accomplice_votes_for_both_blocks_of_an_equivocating_leader_and_is_convicted() -> None:
    liars = (
        Liar(member=1, behaviour="equivocating_leader_both"),
        Liar(member=2, behaviour="accomplice"),
    )
    outcome = run_schedule(Schedule(seed=1, powers=(1,) * 7, views=30, liars=liars))
    assert outcome.violation is None
    assert outcome.coverage["convicted.DoubleProposal"] == 1
    assert outcome.coverage["convicted.DoubleVote"] == 1


@pytest.mark.parametrize("behaviour", ["certified_fork", "bad_signature_vote", "twice_counted"])
def test_the_lie_is_the_same_with_real_signatures(behaviour: str) -> None:
    liars = (Liar(member=LIAR, behaviour=behaviour),)
    outcome = run_schedule(Schedule(seed=1, views=8, liars=liars, real_signatures=True))
    assert outcome.violation is None
    codes = {key.removeprefix("refused.") for key in outcome.coverage if key.startswith("refused.")}
    kinds = {key.removeprefix("convicted.") for key in outcome.coverage if "convicted." in key}
    assert codes >= LIES[behaviour].refused
    assert kinds >= LIES[behaviour].convicted
