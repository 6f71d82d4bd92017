"""What the node and its engine worker say to each other."""

from typing import Any

from msgspec import Raw, Struct

from engine.genesis import EngineGenesis

# ---- requests ------------------------------------------------------------------------------


class Load(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="load"):
    """First: begin from the newest good snapshot, or from genesis. Answer: `Loaded`."""

    genesis: EngineGenesis
    chain_id: bytes
    directory: str


class ExecuteRequest(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="execute"
):
    """Run one height. Answer: `ExecuteResult`."""

    height: int
    """One above the engine's."""
    time_ms: int
    seed: bytes
    batches: tuple[tuple[bytes, tuple[int, ...]], ...]
    """(checked batch body, positions of the envelopes that the header ledger refused)."""
    reporters: tuple[tuple[bytes, int], ...]
    """Members' (oracle key, power)."""


class SaveRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="save"):
    """Write a snapshot if the state is at `height`. Answer: `Saved`."""

    height: int


class QueryRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="query"):
    """Look at the state. Answer: `QueryAnswer`."""

    name: str
    arguments: tuple[Any, ...]


Request = Load | ExecuteRequest | SaveRequest | QueryRequest


# ---- answers -------------------------------------------------------------------------------


class Loaded(Struct, frozen=True, array_like=True, tag="loaded"):
    """Where the engine stands."""

    height: int
    skipped: tuple[str, ...]
    """Snapshots that could not be used, each with the reason."""


class ExecuteResult(Struct, frozen=True, array_like=True, tag="executed"):
    """One executed height."""

    height: int
    output: bytes
    """Encoded `engine.block.BlockOutput`."""
    market_root: bytes
    receipts_root: bytes
    instructions: int
    fills: int


class Saved(Struct, frozen=True, array_like=True, tag="saved"):
    """Whether a snapshot of the height that was asked for is on disk now."""

    is_saved: bool


class QueryAnswer(Struct, frozen=True, array_like=True, tag="answer"):
    """A view, or why there is none."""

    body: Raw
    code: str | None = None
    detail: str = ""


class Failed(Struct, frozen=True, array_like=True, tag="failed"):
    """The engine cannot go on; the worker ends after this."""

    code: str
    """`engine.invariant`: the books do not balance. `engine.failed`: any other error of ours.
    `storage.full`, `storage.failed`: the snapshot could not be written."""
    detail: str


Reply = Loaded | ExecuteResult | Saved | QueryAnswer | Failed
"""What `decode_lenient` is given; `Failed` may stand for any of the others."""
