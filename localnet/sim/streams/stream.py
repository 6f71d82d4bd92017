"""A stream as a file, and what running one comes to."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from engine.block import BlockInput, BlockOutput
from engine.genesis import EngineGenesis, GenesisError, validate_genesis
from engine.schedule import decode_bundle
from localnet.sim.streams.check import CheckedEngine
from localnet.sim.streams.draw import Draw
from localnet.sim.violation import Violation, make_violation

VERSION: Final = 1
STREAM_MAX_BYTES: Final = 64 << 20
"""A file with every block of the longest stream."""
BLOCKS_MAX: Final = 100_000
"""Of one stream."""
PHASE: Final = "stream"
"""Of every violation in one."""


class StreamError(ValueError):
    """A file that holds no stream."""


class Stream(Struct, frozen=True, forbid_unknown_fields=True):
    """Blocks, and the genesis that they begin from. Bytes are base64 in a file."""

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    seed: int
    """From which it was drawn; some of it may be cut away."""
    found: Annotated[str, Meta(max_length=4_096)]
    """What is broken at its end, in words."""
    genesis: EngineGenesis
    blocks: Annotated[tuple[BlockInput, ...], Meta(max_length=BLOCKS_MAX)]


class Ran(Struct, frozen=True):
    """What a stream came to."""

    seed: int
    blocks: int
    counts: dict[str, int]
    """Instructions, fills, receipts by code, events by kind."""
    violation: Violation | None
    stream: Stream | None
    """Up to where it broke."""


def run_seed(seed: int, blocks_max: int) -> Ran:
    """Draw a stream block by block, and judge it until it breaks or ends."""
    draw = Draw(seed)
    engine = CheckedEngine(draw.genesis)
    blocks: list[BlockInput] = []
    counts: Counter[str] = Counter()
    for _ in range(blocks_max):
        block = draw.next_block(engine.state)
        blocks.append(block)
        violation = _try(engine, block, counts)
        if violation is not None:
            stream = Stream(VERSION, seed, _describe(violation), draw.genesis, tuple(blocks))
            return Ran(seed, len(blocks), dict(counts), violation, stream)
    return Ran(seed, len(blocks), dict(counts), None, None)


def run_stream(stream: Stream) -> tuple[Violation | None, int]:
    """Judge the blocks of a file: what broke first, and after how many blocks."""
    engine = CheckedEngine(stream.genesis)
    for number, block in enumerate(stream.blocks, 1):
        violation = _try(engine, block, Counter())
        if violation is not None:
            return violation, number
    return None, len(stream.blocks)


def _try(engine: CheckedEngine, block: BlockInput, counts: Counter[str]) -> Violation | None:
    try:
        output = engine.apply(block)
    # Whatever an engine raises at a block is a finding: it would stop every node.
    except Exception as error:
        return make_violation(error, block.time_ms, PHASE)
    _count(output, counts)
    return None


def _count(output: BlockOutput, counts: Counter[str]) -> None:
    counts["instructions"] += output.stats.instructions
    counts["fills"] += output.stats.fills
    counts.update(f"receipt.{receipt.code}" for receipt in output.receipts)
    counts.update(f"event.{type(event).__name__}" for event in output.events)


def _describe(violation: Violation) -> str:
    return f"{violation.oracle}: {violation.detail}"[:4_096]


# ---- files ---------------------------------------------------------------------------------------


def cut_blocks(stream: Stream, blocks: Sequence[BlockInput]) -> Stream:
    """The same stream with some of its blocks, which are numbered anew."""
    return replace(
        stream,
        blocks=tuple(replace(block, height=height) for height, block in enumerate(blocks, 1)),
    )


def encode_stream(stream: Stream) -> bytes:
    """A stream as JSON for people."""
    return msgspec.json.format(msgspec.json.encode(stream), indent=1) + b"\n"


def decode_stream(data: bytes) -> Stream:
    """Read a stream's file. Raises `StreamError`."""
    if len(data) > STREAM_MAX_BYTES:
        raise StreamError("too large for a stream")
    try:
        stream = msgspec.json.decode(data, type=Stream)
        validate_genesis(stream.genesis)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, GenesisError) as error:
        raise StreamError(f"no stream: {error}") from error
    _validate_blocks(stream)
    return stream


def _validate_blocks(stream: Stream) -> None:
    """What whoever feeds an engine promises, its blocks keep."""
    time_ms = stream.genesis.time_ms
    for height, block in enumerate(stream.blocks, 1):
        where = f"block {height}"
        if block.height != height:
            raise StreamError(f"{where} has height {block.height}")
        if block.time_ms < time_ms:
            raise StreamError(f"{where} is earlier than the one before it")
        time_ms = block.time_ms
        if len({each.key for each in block.reporters}) != len(block.reporters):
            raise StreamError(f"{where} names a reporter twice")
    ids = [each.envelope_id for block in stream.blocks for each in block.envelopes]
    if len(set(ids)) != len(ids):
        raise StreamError("two envelopes share one id")


def save_stream(path: Path, stream: Stream) -> None:
    """Write a stream's file. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_stream(stream))


# ---- for people ----------------------------------------------------------------------------------


def describe_block(block: BlockInput) -> list[str]:
    """What is in a block, a line for each thing."""
    lines = [f"height {block.height}, {block.time_ms} ms"]
    named: tuple[tuple[str, Sequence[Any]], ...] = (
        ("deposit", block.deposits),
        ("settled", block.withdrawals_settled),
        ("grant", block.session_grants),
        ("revoked", block.session_revocations),
    )
    lines += [f"  {name}  {each}" for name, entries in named for each in entries]
    for envelope in block.envelopes:
        who = envelope.sender.hex()[:8] + (
            f" by {envelope.signer.hex()[:8]}" * bool(envelope.signer)
        )
        bundle = decode_bundle(envelope.body)
        instructions = bundle if isinstance(bundle, tuple) else (bundle,)
        lines += [f"  {who}  nonce {envelope.nonce}  {each}" for each in instructions]
    return lines
