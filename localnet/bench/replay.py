"""The engine fed from a log: from stored batches to roots, as in a node that starts again.

A block is written down as a node stores it, in batches of encoded envelopes with their headers, and
opened by what every node opens it with (`node.engine_input`). Signatures are the one thing left
out: a batch is stored after they were checked, and a start does not check them again. (`rota
replay`, which trusts nobody, does.)
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from crypto.codec import encode
from engine.apply import apply_block
from engine.block import BlockInput, EngineEnvelope, Reporter
from engine.genesis import EngineGenesis
from engine.state import create_state
from mempool.batch import BatchBody, encode_batch_body
from mempool.envelope import (
    NAMESPACE_ENGINE,
    BodyKind,
    Envelope,
    EnvelopeHeader,
    compute_body_digest,
)
from node.engine_input import OrderedBatch, make_block_input

BATCH_ENVELOPES: Final = 500
"""Envelopes of one batch: far below what one may hold."""

_CHAIN_ID: Final = bytes(32)
_SIGNATURE: Final = bytes(64)


class StoredBlock(NamedTuple):
    """A block as the log holds it."""

    height: int
    time_ms: int
    seed: bytes
    reporters: tuple[Reporter, ...]
    bodies: tuple[bytes, ...]
    """Of its batches."""


class Log(Struct):
    """What one pass executed, and what it came to."""

    blocks: list[StoredBlock] = []
    state_root: bytes = b""
    receipts_root: bytes = b""
    """Both of the last block."""


class ReplayRun(Struct, frozen=True):
    """All logs once more, each from genesis."""

    instructions: int
    blocks: int
    size_bytes: int
    """Of all batches."""
    elapsed_s: float
    s_per_million: float


def store_block(block: BlockInput) -> StoredBlock:
    """Write a block down."""
    envelopes = [encode(_seal(envelope)) for envelope in block.envelopes]
    bodies = tuple(
        encode_batch_body(BatchBody(tuple(envelopes[start : start + BATCH_ENVELOPES]), ()))
        for start in range(0, len(envelopes), BATCH_ENVELOPES)
    )
    return StoredBlock(block.height, block.time_ms, block.seed, block.reporters, bodies)


def open_block(stored: StoredBlock) -> BlockInput:
    """Make the engine's input of what the log holds."""
    return make_block_input(
        height=stored.height,
        time_ms=stored.time_ms,
        seed=stored.seed,
        batches=[OrderedBatch(body, ()) for body in stored.bodies],
        reporters=stored.reporters,
    )


def measure_replay(
    genesis: EngineGenesis, logs: Sequence[Log], after_block: Callable[[], object]
) -> ReplayRun:
    """Execute each log, roots included; `after_block` is what the engine does after each block."""
    instructions = 0
    elapsed_s = 0.0
    for log in logs:
        state = create_state(genesis)
        state_root = receipts_root = b""
        started = time.perf_counter()
        for stored in log.blocks:
            output = apply_block(state, open_block(stored))
            instructions += output.stats.instructions
            state_root, receipts_root = output.state_root, output.receipts_root
            after_block()
        elapsed_s += time.perf_counter() - started
        assert (state_root, receipts_root) == (log.state_root, log.receipts_root), "live = replay"
    return ReplayRun(
        instructions=instructions,
        blocks=sum(len(log.blocks) for log in logs),
        size_bytes=sum(_sum_sizes(log.blocks) for log in logs),
        elapsed_s=round(elapsed_s, 3),
        s_per_million=round(elapsed_s * 1_000_000 / instructions, 3),
    )


def _sum_sizes(blocks: Sequence[StoredBlock]) -> int:
    return sum(len(body) for stored in blocks for body in stored.bodies)


def _seal(envelope: EngineEnvelope) -> Envelope:
    header = EnvelopeHeader(
        chain_id=_CHAIN_ID,
        namespace=NAMESPACE_ENGINE,
        kind=BodyKind.PLAIN,
        sender=envelope.sender,
        signer=envelope.sender,
        nonce=envelope.nonce,
        expiry_height=2**63 - 1,
        body_digest=compute_body_digest(envelope.body),
        body_size_bytes=len(envelope.body),
    )
    return Envelope(header, _SIGNATURE, envelope.body)
