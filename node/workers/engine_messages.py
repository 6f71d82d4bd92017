"""What the node and its engine process say to each other.

Every request is answered, in the order of the requests. The bodies of an `Execute`'s batches follow
it as frames of their own, so that they cross without being copied into a message.
"""

from typing import Final

from msgspec import Struct

from crypto.types import Digest, Uint
from engine.block import Reporter
from engine.genesis import EngineGenesis

FRAME_MAX_BYTES: Final = 1 << 30
"""One frame in either direction. The largest are genesis and outputs; both ends are ours, so this
only keeps a broken stream from asking for all memory."""


class ExecuteRequest(Struct, frozen=True):
    """One height's contents, as the node holds them."""

    height: int
    """One above the worker's."""
    time_ms: int
    seed: bytes
    batches: tuple[tuple[bytes, tuple[int, ...]], ...]
    """(body, positions of the envelopes that the header ledger refused), in execution order."""
    reporters: tuple[Reporter, ...]
    """The whole committee."""


class ExecuteResult(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """What executing a height gave."""

    height: Uint
    market_root: Digest
    receipts_root: Digest
    instructions: Uint
    fills: Uint
    is_empty: bool
    """Nothing happened that anybody is to be told of."""
    output: bytes
    """The encoded `engine.block.BlockOutput`, for the archive and the streams."""


class Open(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """First request: load the newest snapshot, or genesis. Answer: `Opened`."""

    chain_id: Digest
    genesis: EngineGenesis
    directory: str


class Execute(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """Run a height; as many frames with batch bodies follow. Answer: `ExecuteResult`."""

    height: Uint
    time_ms: Uint
    seed: Digest
    refused: tuple[tuple[Uint, ...], ...]
    """By batch."""
    reporters: tuple[Reporter, ...]


class Ask(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """A query. Answer: `Answered` or `Refused`."""

    name: str
    arguments: bytes
    """An encoded tuple, hostile."""


class Save(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """Begin to save the state as it is. Answer: `Saving`, or `StorageFailed` for this save or the
    one before."""

    height: Uint
    """The worker's."""


class SaveNow(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """Save the state and answer when that is durable. Answer: `Saved` or `StorageFailed`."""

    height: Uint
    """The worker's."""


Request = Open | Execute | Ask | Save | SaveNow


class Opened(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """The state is loaded."""

    height: Uint


class Answered(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """The answer to a query."""

    body: bytes
    """MessagePack of plain maps, lists, strings, integers and bytes."""


class Refused(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """The query cannot be answered (`WorkerQueryError`)."""

    code: str
    detail: str


class Saved(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """The snapshot is durable."""


class Saving(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=8):
    """The state is being saved; nothing has to wait for it."""


class StorageFailed(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """Loading or saving failed (`StorageError`)."""

    code: str
    message: str


class Broken(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=7):
    """The engine found itself wrong; the process ends after this."""

    code: str
    detail: str


Reply = ExecuteResult | Opened | Answered | Refused | Saving | Saved | StorageFailed | Broken
