"""From stored batches to what the engine executes: the one place that opens batch bodies.

The engine's process, the replay and the simulator all come through here, so what a height contains
cannot be read in two ways.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from committee.committee import Member
from crypto.codec import DecodeError
from engine.block import BlockInput, EngineEnvelope, Reporter
from mempool.batch import decode_batch_body
from mempool.envelope import BodyKind, Envelope, decode_envelope


class OrderedBatch(NamedTuple):
    """One batch of a delivered height."""

    body: bytes
    """It passed `mempool.batch.check_batch`."""
    refused: tuple[int, ...]
    """Positions of the envelopes that the header ledger refused."""


def open_batch(batch: OrderedBatch) -> Iterator[EngineEnvelope]:
    """A batch's envelopes for the engine, in order: those that passed and carry instructions.

    Key changes take effect in the header ledger alone. Raises AssertionError for a body that no
    check can have passed: executing a part of it would be another result than everybody's.
    """
    refused = frozenset(batch.refused)
    for position, envelope in enumerate(_decode(batch.body)):
        header = envelope.header
        if position not in refused and header.kind is BodyKind.PLAIN:
            yield EngineEnvelope(header.envelope_id(), header.sender, header.nonce, envelope.body)


def make_reporters(members: Iterable[Member]) -> tuple[Reporter, ...]:
    """Whose oracle reports count, and for how much."""
    return tuple(Reporter(member.oracle_key, member.power) for member in members)


def make_block_input(
    *,
    height: int,
    time_ms: int,
    seed: bytes,
    batches: Iterable[OrderedBatch],
    reporters: tuple[Reporter, ...],
) -> BlockInput:
    """What `engine.apply.apply_block` gets for a height. Raises as `open_batch`."""
    envelopes = tuple(envelope for batch in batches for envelope in open_batch(batch))
    return BlockInput(height, time_ms, seed, envelopes, reporters=reporters)


def _decode(body: bytes) -> list[Envelope]:
    try:
        return [decode_envelope(data) for data in decode_batch_body(body).envelopes]
    except DecodeError as error:
        raise AssertionError("a delivered batch was checked, so it decodes") from error
