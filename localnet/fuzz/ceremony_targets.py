"""Decoders of key ceremonies: transactions, evidence and snapshots, bent from two small ones."""

from functools import lru_cache
from itertools import product
from typing import Final, NamedTuple, get_args

from committee.ceremony.attempt import CeremonyRefusal
from committee.ceremony.checks import JudgedTransaction, Verdict
from committee.ceremony.faults import (
    CeremonyFault,
    CeremonyFaultError,
    compute_offence,
    decode_fault,
    find_checks,
    make_double_dealing,
)
from committee.ceremony.machine import Ceremony, CeremonyError
from committee.ceremony.mock import MockMember
from committee.ceremony.plan import CeremonyPlan, Holder, OldKey, Participant, Slot, Windows
from committee.ceremony.transactions import (
    CeremonyMessage,
    CeremonyTransaction,
    decode_transaction,
)
from crypto.codec import DecodeError, decode_lenient, encode
from crypto.mock import MockIdentity, derive_test_secret
from localnet.fuzz.contract import RefusedError, Target, require
from localnet.fuzz.corpus import Corpus, kind_of

_SIZE: Final = 4
_HEIGHT: Final = 10


class _Scene(NamedTuple):
    """A ceremony before a block of each window, and what was said in them."""

    states: tuple[tuple[bytes, bytes], ...]
    """Snapshot and root."""
    transactions: tuple[CeremonyTransaction, ...]
    faults: tuple[CeremonyFault, ...]


@lru_cache(maxsize=2)
def _play(is_reshare: bool) -> _Scene:
    """A ceremony in which the last dealer cheats the first participant and deals twice."""
    identity = MockIdentity()
    secrets = [derive_test_secret(f"ceremony {number}") for number in range(_SIZE)]
    members = [MockMember(identity, secret) for secret in secrets]
    keys = [identity.public_key(secret) for secret in secrets]
    participants = tuple(Participant(key, key[:16] * 3, 1) for key in keys)
    old_key = OldKey(bytes(32), 3, tuple(Holder(key, 1) for key in keys)) if is_reshare else None
    plan = CeremonyPlan(bytes(32), 1, participants, old_key, Windows(2, 2, 2))
    ceremony = Ceremony(plan, _HEIGHT)
    terms = ceremony.terms
    slots = [Slot(dealer, dealer + 1 if is_reshare else 0) for dealer in range(_SIZE)]
    dealings = [members[slot.dealer].deal(terms, slot) for slot in slots[:-1]]
    bad = members[-1].deal(terms, slots[-1], cheated=[0])
    other = members[-1].deal(terms, slots[-1], salt=b"other")
    complaint = members[0].complain(terms, 0, bad)
    false = members[1].complain(terms, 1, dealings[0])
    acknowledgements = [members[number].acknowledge(terms, number) for number in range(_SIZE)]
    states: list[tuple[bytes, bytes]] = []
    faults: list[CeremonyFault] = [make_double_dealing(terms, bad, other)]
    for said in ([*dealings, bad], [], [complaint], [], acknowledgements[:1], acknowledgements[1:]):
        states.append((ceremony.snapshot(), ceremony.root()))
        judged = [JudgedTransaction(each, Verdict.UPHELD) for each in said]
        faults += ceremony.apply_block(ceremony.height + 1, judged).faults
    states.append((ceremony.snapshot(), ceremony.root()))
    lying = Ceremony(plan, _HEIGHT)
    step = lying.apply_block(_HEIGHT + 1, [JudgedTransaction(other, Verdict.REFUTED)])
    transactions = (*dealings[:1], bad, other, complaint, false, acknowledgements[2])
    return _Scene(tuple(states), transactions, (*faults, *step.faults))


def harvest_ceremonies(corpus: Corpus) -> None:
    """What both kinds of ceremony hold."""
    for is_reshare in (False, True):
        scene = _play(is_reshare)
        for state in scene.states:
            corpus.add("ceremony", encode(state))
        for transaction in scene.transactions:
            kind = kind_of("ceremony_message", type(transaction.message))
            corpus.add(kind, encode(transaction))
        for fault in scene.faults:
            corpus.add(kind_of("ceremony_fault", type(fault)), encode(fault))


def _apply_transaction(data: bytes) -> None:
    """Whatever a transaction says, every state takes it, also twice, under any answer."""
    transaction = decode_transaction(data)
    require(encode(transaction) == data, "two encodings of one transaction")
    taken = False
    for is_reshare in (False, True):
        for (snapshot, root), verdict in product(_play(is_reshare).states, Verdict):
            ceremony = Ceremony.restore(snapshot, root)
            if isinstance(ceremony.find_check(transaction), CeremonyRefusal):
                continue
            taken = True
            judged = JudgedTransaction(transaction, verdict)
            step = ceremony.apply_block(ceremony.height + 1, [judged, judged])
            require(step.refusals[1] is not None, "heard twice")
            for fault in step.faults:
                require(decode_fault(encode(fault)) == fault, "evidence that is none")
            again = Ceremony.restore(ceremony.snapshot(), ceremony.root())
            require(again.snapshot() == ceremony.snapshot(), "not stored as it is")
    if not taken:
        raise RefusedError("ceremony.refused")


def _judge_fault(data: bytes) -> None:
    """Evidence, under every answer that its checks could have."""
    fault = decode_fault(data)
    require(encode(fault) == data, "two encodings of one piece of evidence")
    checks = find_checks(fault)
    for verdicts in product(Verdict, repeat=len(checks)):
        offence = compute_offence(fault, verdicts)
        require(
            offence is None or Verdict.FORGED not in verdicts, "convicted of what nobody signed"
        )


def _restore(data: bytes) -> None:
    snapshot, root = decode_lenient(tuple[bytes, bytes], data)
    require(Ceremony.restore(snapshot, root).snapshot() == snapshot, "two encodings of one state")


CEREMONY_TARGETS: Final = (
    Target(
        "ceremony_transaction",
        tuple(kind_of("ceremony_message", each) for each in get_args(CeremonyMessage)),
        _apply_transaction,
        (DecodeError, RefusedError),
        types=("CeremonyTransaction",),
        weight=100,
    ),
    Target(
        "ceremony_fault",
        tuple(kind_of("ceremony_fault", each) for each in get_args(CeremonyFault)),
        _judge_fault,
        (DecodeError, CeremonyFaultError),
        types=("CeremonyFault",),
        weight=8,
    ),
    Target(
        "ceremony",
        ("ceremony",),
        _restore,
        (DecodeError, CeremonyError),
        types=("CeremonyRecord",),
        weight=4,
    ),
)
