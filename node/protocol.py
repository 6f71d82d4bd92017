"""The order door's language: what clients and a node say to each other over one TCP connection.

Each frame is a 4-byte big-endian length and one MessagePack value (`node.framing`). A client may
send requests without waiting; every answer names its request. After `Subscribe` the node also
sends events, numbered without gaps within their subscription; a client that reads too slowly is
disconnected with `door.slow_consumer` rather than allowed to hold memory.

Receipt levels, in rising order of promise:

| level | promise |
|---|---|
| `received` | none: the node put it in its pool |
| `available` | certified retrievable, survives a crash of all nodes; ordered unless it expires, |
| | provided that the node whose lane carries it does not fork that lane (and is convicted), and |
| | that not all who hold the lane's newest certificate, that node among them, lose it at once |
| `ordered` | committed at `height`; position final |
| `executed` | executed, and the result is certified by a quorum |
| `refused` | final; `code` says why |
"""

from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple

from msgspec import Meta, Raw, Struct

from crypto.types import Digest, Ed25519PublicKey, Uint
from mempool.batch import OPAQUE_TRANSACTION_MAX_BYTES
from mempool.envelope import ENVELOPE_SIZE_MAX_BYTES

DOOR_VERSION: Final = 1
DOOR_FRAME_MAX_BYTES: Final = 1 << 20
"""One frame from a client, length excluded."""
ENVELOPES_MAX_PER_REQUEST: Final = 256
REQUESTS_IN_FLIGHT_MAX: Final = 64
"""Requests of one connection without an answer. A client lets one more wait; a door reads no
further."""
SUBSCRIPTIONS_MAX: Final = 16
"""Subscriptions of one connection."""

RequestId = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class ReceiptLevel(StrEnum):
    """How far an envelope has come. Append-only."""

    RECEIVED = "received"
    AVAILABLE = "available"
    ORDERED = "ordered"
    EXECUTED = "executed"
    REFUSED = "refused"

    @property
    def rank(self) -> int:
        """Levels of one envelope only rise. A refusal is of one copy: another copy may still
        pass, so it ranks below `ORDERED`."""
        return _RANKS[self]


_RANKS: Final = {
    ReceiptLevel.RECEIVED: 0,
    ReceiptLevel.AVAILABLE: 1,
    ReceiptLevel.REFUSED: 2,
    ReceiptLevel.ORDERED: 3,
    ReceiptLevel.EXECUTED: 4,
}


class Channel(StrEnum):
    """What a client can subscribe to."""

    RECEIPTS = "receipts"
    """Level changes and instruction results of one account's envelopes (`account` is required)."""
    BLOCKS = "blocks"
    """Committed blocks and certified results."""
    TRADES = "trades"
    """Fills of all markets as they are certified."""
    ACCOUNT = "account"
    """What certified blocks did to one account, whoever asked for it (`account` is required)."""


ACCOUNT_CHANNELS: Final = frozenset({Channel.RECEIPTS, Channel.ACCOUNT})
"""Channels of one account each."""


# ---- requests ------------------------------------------------------------------------------


class Hello(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="hello"):
    """First frame of a client. Answer: `Welcome` or `Refused`."""

    version: int


class SubmitEnvelopes(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="submit"
):
    """Encoded `mempool.envelope.Envelope`s. Answer: `Submitted`, one result each, in order."""

    request: RequestId
    envelopes: Annotated[
        tuple[Annotated[bytes, Meta(max_length=ENVELOPE_SIZE_MAX_BYTES)], ...],
        Meta(min_length=1, max_length=ENVELOPES_MAX_PER_REQUEST),
    ]


class SubmitOpaque(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="submit_opaque"
):
    """Fixed-size transactions of another namespace, back to back. Answer: `OpaqueSubmitted`."""

    request: RequestId
    namespace: Annotated[int, Meta(ge=1, le=2**32 - 1)]
    transaction_size_bytes: Annotated[int, Meta(ge=1, le=OPAQUE_TRANSACTION_MAX_BYTES)]
    data: Annotated[bytes, Meta(min_length=1, max_length=DOOR_FRAME_MAX_BYTES)]


class Subscribe(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="subscribe"):
    """Answer: `Subscribed`, then events that carry `request` as their subscription."""

    request: RequestId
    channel: Channel
    account: Ed25519PublicKey | None = None


class Query(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="query"):
    """Ask for a view by name (`QUERIES`). Answer: `Answer` or `Refused`.

    Arguments are whole numbers, strings, bytes or None. msgspec decodes no union of strings and
    bytes, so the view that is asked judges them.
    """

    request: RequestId
    name: Annotated[str, Meta(max_length=32)]
    arguments: Annotated[tuple[Any, ...], Meta(max_length=8)] = ()


STATEMENTS_KEPT: Final = 8
"""Statements of solvency that a node keeps, the newest: a client has so many saves of the state's
time to ask another node for the same."""


class QueryForm(NamedTuple):
    """How a view is asked for, for people."""

    arguments: str
    answer: str


QUERIES: Final[dict[str, QueryForm]] = {
    "status": QueryForm("", "heights, peers, queues, workers, who stands convicted, alarms"),
    "block": QueryForm("[height or block id]", "a committed block; default: the newest"),
    "commit": QueryForm("[height or block id]", "the quorum certificate that certifies the block"),
    "certificate": QueryForm(
        "[height or block id]",
        "the checkpoint header of a height and its state certificate, if any, also as it was"
        " signed; default: the newest own checkpoint",
    ),
    "envelope": QueryForm("envelope id", "its level, height, code and results"),
    "markets": QueryForm("", "all markets"),
    "book": QueryForm("market id or symbol, [levels]", "the best levels of both sides"),
    "trades": QueryForm(
        "[market id or nil, limit]", "the newest certified trades, oldest first; default: of all"
    ),
    "accounts": QueryForm(
        "[account id to start after or nil], [limit]",
        "account ids with balances, by rising id; the last id is where the next page starts after",
    ),
    "account": QueryForm(
        "account id", "balance, margin, positions, open and waiting orders, liquidation"
    ),
    "events": QueryForm(
        "account id, height, [leaf]",
        "what certified blocks did to the account from there on (`account` events), and the height"
        " and leaf to go on from",
    ),
    "orders": QueryForm("account id", "the account's open orders"),
    "solvency": QueryForm(
        "[account id or nil], [height]",
        "the statement of solvency of a height with the certificate of its state, and the proof of"
        " what the account is owed; default: the newest that is certified",
    ),
    "order": QueryForm("order id", "one open or waiting order"),
    "proof": QueryForm(
        "`account` and an id; `market`, `options` or `withdrawal` and a number; or `system`",
        "height and market root of the newest state, and the proof of this leaf under it; the"
        " height's `certificate` certifies the root if it is a checkpoint",
    ),
    "liquidations": QueryForm(
        "[account id to start after or nil], [limit]",
        "accounts under liquidation, by rising id: stage, holdings, and what an auction offers",
    ),
    "insurance": QueryForm(
        "", "the insurance fund, who is under liquidation, and the exchange's other pools"
    ),
}
"""Every view of a node. Heights, ids of markets and orders and limits are whole numbers; ids of
blocks, envelopes and accounts are 32 bytes; what stands in brackets may be left out."""

Submission = SubmitEnvelopes | SubmitOpaque
"""The requests that may be large."""

ClientFrame = Hello | SubmitEnvelopes | SubmitOpaque | Subscribe | Query


# ---- answers and events --------------------------------------------------------------------


class Welcome(Struct, frozen=True, array_like=True, tag="welcome"):
    version: int
    node: str
    chain_id: Digest
    committed_height: Uint
    time_ms: Uint
    """The node's clock, for choosing nonces."""


class Refused(Struct, frozen=True, array_like=True, tag="refused"):
    """A request that could not be served. `request` is None when it could not even be read."""

    request: RequestId | None
    code: str
    detail: str


class SubmitResult(Struct, frozen=True, array_like=True):
    envelope_id: bytes
    """Empty when the bytes could not be decoded."""
    code: str | None
    """None: received. Else the reason why the node refused it."""


class Submitted(Struct, frozen=True, array_like=True, tag="submitted"):
    request: RequestId
    results: tuple[SubmitResult, ...]


class OpaqueSubmitted(Struct, frozen=True, array_like=True, tag="opaque_submitted"):
    request: RequestId
    count: int
    """Transactions taken: all or none."""
    code: str | None


class Subscribed(Struct, frozen=True, array_like=True, tag="subscribed"):
    request: RequestId
    committed_height: Uint


class Answer(Struct, frozen=True, array_like=True, tag="answer"):
    request: RequestId
    body: Raw
    """MessagePack of plain maps, lists, strings, integers and bytes."""


class ReceiptEvent(Struct, frozen=True, array_like=True, tag="receipt"):
    """An envelope reached a level."""

    subscription: RequestId
    sequence: Uint
    envelope_id: Digest
    level: ReceiptLevel
    height: Uint
    """0 while it has none."""
    code: str | None
    results: Any
    """With `executed`: the engine's receipts, one map an instruction; else None. A node hands over
    their encoding as `Raw`, a client gets plain values: msgspec decodes no union of `Raw` and
    None."""


class BlockEvent(Struct, frozen=True, array_like=True, tag="block"):
    """A block was committed."""

    subscription: RequestId
    sequence: Uint
    height: Uint
    view: Uint
    block_id: Digest
    author: int
    time_ms: Uint
    lanes: int
    """Lane tips in the block."""


class DeliveredEvent(Struct, frozen=True, array_like=True, tag="delivered"):
    """A committed block's contents are complete on this node and passed to execution."""

    subscription: RequestId
    sequence: Uint
    height: Uint
    envelopes: int
    refused: int
    opaque: dict[int, int]
    """Transactions of other namespaces, by namespace."""


class ExecutedEvent(Struct, frozen=True, array_like=True, tag="executed"):
    """A height's result is certified."""

    subscription: RequestId
    sequence: Uint
    height: Uint
    state_root: Digest
    instructions: int
    fills: int


class TradeEvent(Struct, frozen=True, array_like=True, tag="trade"):
    subscription: RequestId
    sequence: Uint
    height: Uint
    trade: Raw
    """One `engine` fill."""


class AccountEvents(Struct, frozen=True, array_like=True, tag="account_events"):
    """What a certified height did to an account, or a part of it that fits into a frame."""

    subscription: RequestId
    sequence: Uint
    height: Uint
    events: Raw
    """Maps of the fields of `engine` fills and events, in the order of the height's leaves
    (`node.account_events`)."""


class AccountEventsMissed(Struct, frozen=True, array_like=True, tag="account_events_missed"):
    """This stream does not tell what these heights did, which are certified by now; the query
    `events` does."""

    subscription: RequestId
    sequence: Uint
    from_height: Uint
    to_height: Uint
    """The last of them."""


ServerFrame = (
    Welcome
    | Refused
    | Submitted
    | OpaqueSubmitted
    | Subscribed
    | Answer
    | ReceiptEvent
    | BlockEvent
    | DeliveredEvent
    | ExecutedEvent
    | TradeEvent
    | AccountEvents
    | AccountEventsMissed
)
