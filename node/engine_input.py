"""From stored batches to what the engine executes: the one place that opens batch bodies.

The engine's process, the replay and the simulator all come through here, so what a height contains
cannot be read in two ways.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from committee.committee import Member
from crypto.codec import DecodeError
from engine.block import (
    BlockInput,
    EngineEnvelope,
    Reporter,
    SessionGrant,
    SessionRevocation,
    SessionScope,
)
from mempool.batch import decode_batch_body
from mempool.envelope import BodyKind, Envelope, decode_envelope
from mempool.keys import AuthorizeKey, decode_key_changes


class OrderedBatch(NamedTuple):
    """One batch of a delivered height."""

    body: bytes
    """It passed `mempool.batch.check_batch`."""
    refused: tuple[int, ...]
    """Positions of the envelopes that the header ledger refused."""


SessionChange = SessionGrant | SessionRevocation


def open_batch(batch: OrderedBatch) -> Iterator[EngineEnvelope | SessionChange]:
    """A batch's envelopes for the engine, in order: those that passed.

    Of key changes the engine gets what the keys may do; whether they may sign is for the header
    ledger alone. Raises AssertionError for a body that no check can have passed: executing a part
    of it would be another result than everybody's.
    """
    refused = frozenset(batch.refused)
    for position, envelope in enumerate(_decode(batch.body)):
        header = envelope.header
        if position in refused:
            continue
        sender = header.sender
        if header.kind is BodyKind.PLAIN:
            signer = b"" if header.signer == sender else header.signer
            yield EngineEnvelope(header.envelope_id(), sender, header.nonce, envelope.body, signer)
        elif header.kind is BodyKind.KEYS:
            yield from _read_changes(sender, envelope.body)


def _read_changes(account: bytes, body: bytes) -> Iterator[SessionChange]:
    try:
        changes = decode_key_changes(body)
    except DecodeError as error:
        raise AssertionError("a delivered batch was checked, so its keys decode") from error
    for change in changes:
        if isinstance(change, AuthorizeKey):
            yield SessionGrant(
                account,
                change.key,
                SessionScope(change.scope),
                change.expires_ms,
                change.markets,
                change.subs,
                change.spend_max_microquote,
            )
        else:
            yield SessionRevocation(account, change.key)


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
    parts = [part for batch in batches for part in open_batch(batch)]
    return BlockInput(
        height,
        time_ms,
        seed,
        tuple(part for part in parts if isinstance(part, EngineEnvelope)),
        reporters=reporters,
        session_grants=tuple(part for part in parts if isinstance(part, SessionGrant)),
        session_revocations=tuple(part for part in parts if isinstance(part, SessionRevocation)),
    )


def _decode(body: bytes) -> list[Envelope]:
    try:
        return [decode_envelope(data) for data in decode_batch_body(body).envelopes]
    except DecodeError as error:
        raise AssertionError("a delivered batch was checked, so it decodes") from error
