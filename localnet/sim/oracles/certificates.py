"""Every certificate that an honest node adopts is verified again, by code of its own.

Nothing here comes from the code under test but the wire types, the codec that reads them and the
signature scheme: who makes a quorum, which bits of a bitmap count, which bytes were signed, what a
block must carry, are all written down a second time, from the documented formats. A check that
somebody drops or weakens in the product is missed by the product alone.

A node adopts what it persists or says: its safety record, the blocks that it votes for or
archives, its commits, and the certificates in whatever it sends.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgpack

from consensus.block_tree import CommittedTip
from consensus.effects import Persist, Send
from consensus.messages import Advance, LaneCertificate, Message, Proposal, Timeout
from consensus.safety import SafetyState
from consensus.types import (
    QC,
    TC,
    AvailabilityCertificate,
    Block,
    CheckpointHeader,
    StateCertificate,
)
from crypto.codec import decode_lenient, encode
from crypto.scheme import SignatureScheme
from localnet.sim.oracles.watchers import Watcher

HISTORY_MAX: Final = 20_000
"""Certificates remembered as good, so that none is verified again and again; records likewise."""

RECORDS_MAX: Final = 4_096
"""Records remembered as they were read: all nodes write the same ones."""

LEADERS_MAX: Final = 4_096
"""Views whose leader is remembered."""

T = TypeVar("T")

Certificate = QC | TC | AvailabilityCertificate | StateCertificate


def hash_parts(domain: str, *parts: bytes) -> bytes:
    """A digest as the formats define it: SHA-256 over a domain and parts, each with its length."""
    name = domain.encode()
    data = bytes([len(name)]) + name
    for part in parts:
        data += len(part).to_bytes(8, "big") + part
    return hashlib.sha256(data).digest()


def pack(*fields: Any) -> bytes:
    """The canonical bytes of a struct: a MessagePack array of its fields."""
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    return packed


def lay_out_checkpoint(chain_id: bytes, header: CheckpointHeader) -> bytes:
    """What a signature under a result covers: eight words of 32 bytes."""
    numbers = (header.epoch, header.height, header.time_ms)
    epoch, height, time_ms = (number.to_bytes(32, "big") for number in numbers)
    roots = header.order_root + header.market_root + header.receipts_root
    return chain_id + epoch + height + header.block_id + time_ms + roots


def find_leader(powers: Sequence[int], seed: bytes, view: int) -> int:
    """Who leads a view: a hash falls into somebody's share of the power."""
    hashed = hash_parts("rota/leader/v1", seed, view.to_bytes(8, "big"))
    place = int.from_bytes(hashed, "big") % sum(powers)
    for member, power in enumerate(powers):
        place -= power
        if place < 0:
            return member
    raise AssertionError("the place lies within the sum of all power")


class Judge:
    """The rules of certificates and blocks for one committee. `judge_*` raise AssertionError."""

    def __init__(
        self,
        chain_id: bytes,
        powers: Sequence[int],
        public_keys: Sequence[bytes],
        scheme: SignatureScheme,
        leader_seed: bytes = b"",
        epoch: int = 0,
    ) -> None:
        self._chain_id = chain_id
        self._powers = tuple(powers)
        self._keys = tuple(public_keys)
        self._scheme = scheme
        self._leader_seed = leader_seed
        self._epoch = epoch
        self._known: set[Certificate] = set()
        self._records: dict[tuple[type, bytes], Any] = {}
        self._identify = lru_cache(maxsize=RECORDS_MAX)(self._compute_block_id)
        self._leader = lru_cache(maxsize=LEADERS_MAX)(find_leader)

    # ---- records -------------------------------------------------------------------------------

    def read(self, type_: type[T], value: bytes) -> T:
        """A record that some node wrote."""
        found: T | None = self._records.get((type_, value))
        if found is None:
            if len(self._records) >= RECORDS_MAX:
                self._records.clear()
            found = self._records[type_, value] = decode_lenient(type_, value)
        return found

    def read_block(self, value: bytes) -> tuple[Block, bytes]:
        """A written block, and its id."""
        return self.read(Block, value), self._identify(value)

    def _compute_block_id(self, value: bytes) -> bytes:
        return hash_parts("rota/block/v1", self._chain_id, encode(self.read(Block, value)))

    # ---- parts ---------------------------------------------------------------------------------

    def find_leader(self, view: int) -> int:
        """Who leads a view."""
        return self._leader(self._powers, self._leader_seed, view)

    def read_bitmap(self, bitmap: bytes) -> list[int]:
        """The members named, rising: bit i, counted from the lowest of the first byte, is i."""
        count = len(self._powers)
        assert len(bitmap) == (count + 7) // 8, f"a bitmap of {len(bitmap)} bytes for {count}"
        bits = [byte >> place & 1 for byte in bitmap for place in range(8)]
        assert not any(bits[count:]), "a bitmap names a member that does not exist"
        return [index for index, bit in enumerate(bits[:count]) if bit]

    def is_quorum(self, members: Iterable[int]) -> bool:
        """More than two thirds of all power."""
        return 3 * self.compute_power(members) > 2 * sum(self._powers)

    def compute_power(self, members: Iterable[int]) -> int:
        """Of these members, each counted once."""
        return sum(self._powers[member] for member in set(members))

    def _verify(self, members: Sequence[int], message: bytes, signature: bytes, what: str) -> None:
        keys = [self._keys[member] for member in members]
        is_good = (
            self._scheme.verify(keys[0], message, signature)
            if len(keys) == 1
            else self._scheme.verify_aggregate(keys, message, signature)
        )
        assert is_good, f"{what}: members {members} did not sign it"

    def _keep(self, certificate: Certificate) -> None:
        """It was found good: it need not be verified again."""
        if len(self._known) >= HISTORY_MAX:
            self._known.clear()
        self._known.add(certificate)

    # ---- certificates --------------------------------------------------------------------------

    def judge_qc(self, qc: QC) -> None:
        """A quorum voted for the block, or it is the certificate of genesis to the last byte."""
        if qc in self._known:
            return
        data = qc.data
        if data.view == 0:
            genesis_id = hash_parts("rota/genesis/v1", self._chain_id)
            size_bytes = (len(self._powers) + 7) // 8
            expected = (self._epoch, 0, genesis_id, bytes(size_bytes), bytes(96))
            found = (data.epoch, data.height, data.block_id, qc.signers, qc.signature)
            assert found == expected, "a QC of view 0 that is not the one of genesis"
            return
        what = f"QC of view {data.view}"
        assert data.epoch == self._epoch, f"{what}: epoch {data.epoch}"
        assert data.height > 0, f"{what}: height 0"
        signers = self.read_bitmap(qc.signers)
        assert self.is_quorum(signers), f"{what}: {signers} are no quorum"
        packed = pack(data.epoch, data.view, data.height, data.block_id)
        message = hash_parts("rota/vote/v1", self._chain_id, packed)
        self._verify(signers, message, qc.signature, what)
        self._keep(qc)

    def judge_tc(self, tc: TC) -> None:
        """A quorum gave the view up, each member once, and the QC is the newest they named."""
        self.judge_qc(tc.high_qc)
        if tc in self._known:
            return
        what = f"TC of view {tc.view}"
        assert tc.epoch == self._epoch, f"{what}: epoch {tc.epoch}"
        reported = [(group.high_qc_view, group.tip_view) for group in tc.groups]
        assert reported == sorted(set(reported)), f"{what}: groups repeat or do not rise"
        everyone: list[int] = []
        for group in tc.groups:
            signers = self.read_bitmap(group.signers)
            assert signers, f"{what}: an empty group"
            everyone += signers
            packed = pack(tc.epoch, tc.view, group.high_qc_view, group.tip_view)
            message = hash_parts("rota/timeout/v1", self._chain_id, packed)
            self._verify(signers, message, group.signature, what)
        assert len(set(everyone)) == len(everyone), f"{what}: somebody is counted twice"
        assert self.is_quorum(everyone), f"{what}: {everyone} are no quorum"
        newest = max(group.high_qc_view for group in tc.groups)
        assert tc.high_qc.data.view == newest < tc.view, f"{what}: its QC is not the newest named"
        self._keep(tc)

    def judge_availability(self, certificate: AvailabilityCertificate) -> None:
        """More than a third of the power holds the lane up to there."""
        if certificate in self._known:
            return
        data = certificate.data
        what = f"availability of lane {data.author} up to {data.sequence}"
        assert data.epoch == self._epoch, f"{what}: epoch {data.epoch}"
        assert data.author < len(self._powers), f"{what}: no such lane"
        assert data.sequence > 0, f"{what}: nothing"
        signers = self.read_bitmap(certificate.signers)
        is_enough = 3 * self.compute_power(signers) > sum(self._powers)
        assert is_enough, f"{what}: {signers} are too few"
        packed = pack(data.epoch, data.author, data.sequence, data.batch_id)
        message = hash_parts("rota/availability/v1", self._chain_id, packed)
        self._verify(signers, message, certificate.signature, what)
        self._keep(certificate)

    def judge_state(self, certificate: StateCertificate) -> None:
        """A quorum got this result."""
        if certificate in self._known:
            return
        header = certificate.header
        what = f"state certificate of height {header.height}"
        assert header.epoch == self._epoch, f"{what}: epoch {header.epoch}"
        signers = self.read_bitmap(certificate.signers)
        assert self.is_quorum(signers), f"{what}: {signers} are no quorum"
        message = hash_parts("rota/checkpoint/v1", lay_out_checkpoint(self._chain_id, header))
        self._verify(signers, message, certificate.signature, what)
        self._keep(certificate)

    # ---- blocks --------------------------------------------------------------------------------

    def find_block_id(self, block: Block) -> bytes:
        """The digest of all that is in a block."""
        return hash_parts("rota/block/v1", self._chain_id, encode(block))

    def is_signed(self, proposal: Proposal, block_id: bytes) -> bool:
        """Is a proposal signed by whom it names?"""
        epoch, view = (
            number.to_bytes(8, "big") for number in (proposal.block.epoch, proposal.view)
        )
        message = hash_parts("rota/proposal/v1", self._chain_id, epoch, view, block_id)
        return self._scheme.verify(self._keys[proposal.author], message, proposal.signature)

    def judge_block(self, block: Block) -> None:
        """Its leader proposed it, on the parent that its QC names, with reason for its view."""
        what = f"block of view {block.view}"
        self.judge_qc(block.qc)
        assert block.epoch == self._epoch, f"{what}: epoch {block.epoch}"
        assert block.author == self.find_leader(block.view), f"{what}: {block.author} leads not"
        assert block.parent_id == block.qc.data.block_id, f"{what}: its QC is for another parent"
        assert block.height == block.qc.data.height + 1, f"{what}: height {block.height}"
        if block.view == block.qc.data.view + 1:
            assert block.tc is None, f"{what}: a TC that says nothing"
        else:
            assert block.tc is not None, f"{what}: views are left out without a TC"
            self.judge_tc(block.tc)
            assert block.tc.view + 1 == block.view, f"{what}: the TC of view {block.tc.view}"
            newest = max(group.high_qc_view for group in block.tc.groups)
            assert block.qc.data.view >= newest, f"{what}: older than what the TC names"
        authors = [certificate.data.author for certificate in block.lanes]
        assert authors == sorted(set(authors)), f"{what}: lanes repeat or do not rise"
        for certificate in block.lanes:
            self.judge_availability(certificate)
        if block.state_certificate is not None:
            self.judge_state(block.state_certificate)

    def judge_message(self, message: Message) -> None:
        """The certificates in a message."""
        match message:
            case Advance(qc=qc, tc=tc) | Timeout(high_qc=qc, last_tc=tc):
                self.judge_qc(qc)
                if tc is not None:
                    self.judge_tc(tc)
            case LaneCertificate(certificate):
                self.judge_availability(certificate)
            case Proposal(block=block):
                self.judge_block(block)
            case _:
                pass


class Certificates(Watcher):
    """See the module docstring."""

    effects = (Persist, Send)

    def __init__(self, judge: Judge, exempt: Iterable[int] = ()) -> None:
        """What `exempt` hosts adopt is their own affair."""
        self._judge = judge
        self.exempt = frozenset(exempt)
        self._good: set[tuple[str, bytes]] = set()
        """(table, value) of records that hold nothing but what was found good."""
        self._readers: dict[str, Callable[[bytes], None]] = {
            "safety": self._read_safety,
            "pending_block": lambda value: judge.judge_block(judge.read(Block, value)),
            "block": lambda value: judge.judge_block(judge.read(Block, value)),
            "commit": lambda value: judge.judge_qc(judge.read(QC, value)),
            "tip": lambda value: judge.judge_qc(judge.read(CommittedTip, value).qc),
            "lane_certificate": lambda value: judge.judge_availability(
                judge.read(AvailabilityCertificate, value)
            ),
            "certificate": lambda value: judge.judge_state(judge.read(StateCertificate, value)),
        }

    def on_effect(self, index: int, effect: Any) -> None:
        if isinstance(effect, Persist):
            for put in effect.puts:
                reader = self._readers.get(put.table)
                if reader is not None and (put.table, put.value) not in self._good:
                    reader(put.value)
                    if len(self._good) >= HISTORY_MAX:
                        self._good.clear()
                    self._good.add((put.table, put.value))
        elif isinstance(effect, Send):
            self._judge.judge_message(effect.message)

    def _read_safety(self, value: bytes) -> None:
        state = self._judge.read(SafetyState, value)
        self._judge.judge_qc(state.high_qc)
        if state.high_tc is not None:
            self._judge.judge_tc(state.high_tc)
