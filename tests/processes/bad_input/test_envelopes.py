"""Envelopes and instructions that nobody should sign: each gets its code and changes nothing."""

from collections.abc import Callable
from typing import Any

import msgpack

from crypto import ed25519
from crypto.codec import encode
from engine.instructions import (
    Amend,
    Bundle,
    Cancel,
    CancelAll,
    Instruction,
    MarketOrder,
    OracleReport,
    PlaceOrder,
    Side,
)
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX, ORDER_SIZE_MAX_LOTS, PRICE_MAX_TICKS
from mempool.envelope import BodyKind

INDEX_TICKS = 600_000

BAD_ENVELOPES: list[tuple[str, Callable[[Any], bytes]]] = [
    ("envelope.malformed", lambda signer: b"garbage"),
    ("envelope.malformed", lambda signer: signer.good(Cancel(client_id=1)).data + b"\x00"),
    ("envelope.malformed", lambda signer: signer.good(Cancel(client_id=1)).data[:-1]),
    ("envelope.wrong_chain", lambda signer: signer.changed(chain_id=bytes(32))),
    ("envelope.namespace_unsupported", lambda signer: signer.changed(namespace=7)),
    ("envelope.kind_unsupported", lambda signer: signer.changed(kind=BodyKind.SEALED)),
    ("envelope.keys_malformed", lambda signer: signer.changed(kind=BodyKind.KEYS)),
    ("envelope.body_mismatch", lambda signer: signer.other_body()),
    ("envelope.signature_invalid", lambda signer: signer.forged()),
    ("envelope.signature_invalid", lambda signer: signer.changed(bytes(32))),
    ("envelope.expired", lambda signer: signer.changed(expiry_height=1)),
    ("envelope.expiry_too_far", lambda signer: signer.changed(expiry_height=2**62)),
    ("nonce.too_old", lambda signer: signer.changed(nonce=1)),
    ("nonce.too_far", lambda signer: signer.changed(nonce=2**62)),
    ("account.unknown", lambda signer: signer.stranger()),
    (
        "key.unauthorised",
        lambda signer: signer.changed(
            bytes(range(32)), signer=ed25519.public_key(bytes(range(32)))
        ),
    ),
]


def test_a_bad_envelope_is_refused_at_the_door_and_changes_nothing(unharmed, signer) -> None:
    before = unharmed.ask("account", signer.account), unharmed.ask("orders", signer.account)
    codes = [signer.submit(make(signer)) for _, make in BAD_ENVELOPES]
    assert codes == [code for code, _ in BAD_ENVELOPES]
    assert (
        unharmed.ask("account", signer.account),
        unharmed.ask("orders", signer.account),
    ) == before


def test_an_envelope_counts_once(unharmed, signer) -> None:
    envelope = signer.good(Cancel(client_id=1))
    assert signer.execute(envelope) == [["order.unknown"]]
    assert signer.submit(envelope.data) == "nonce.duplicate"
    assert signer.submit(signer.changed(nonce=envelope.nonce)) == "nonce.duplicate"


def bid(**fields: Any) -> PlaceOrder:
    """An order that would rest far below the market."""
    defaults = {"market": 1, "side": Side.BUY, "price_ticks": INDEX_TICKS - 1_000, "size_lots": 1}
    return PlaceOrder(**defaults | fields)


def bundle(*instructions: Instruction) -> bytes:
    return encode(Bundle(tuple(instructions)))


BAD_INSTRUCTIONS: list[tuple[str, Instruction]] = [
    ("order.unknown_market", bid(market=999)),
    ("order.unknown_market", bid(market=-1)),
    ("order.unknown_market", bid(market=2**63 - 1)),
    ("order.size_not_positive", bid(size_lots=0)),
    ("order.size_not_positive", bid(size_lots=-(2**63))),
    ("order.size_overflow", bid(size_lots=ORDER_SIZE_MAX_LOTS + 1)),
    ("order.size_overflow", bid(size_lots=2**63 - 1)),
    ("order.price_not_positive", bid(price_ticks=0)),
    ("order.price_not_positive", bid(price_ticks=-1)),
    ("order.price_overflow", bid(price_ticks=PRICE_MAX_TICKS + 1)),
    ("order.price_overflow", bid(price_ticks=2**64 - 1)),
    (
        "order.notional_overflow",
        bid(price_ticks=PRICE_MAX_TICKS, size_lots=ORDER_SIZE_MAX_LOTS),
    ),
    ("order.client_id_invalid", bid(client_id=-1)),
    ("order.good_til_invalid", bid(good_til_ms=-1)),
    ("order.price_not_positive", MarketOrder(1, Side.BUY, 0, 1)),
    ("order.unknown", Cancel(order_id=2**63 - 1)),
    ("order.reference_invalid", Cancel()),
    ("order.unknown_market", CancelAll(market=999)),
    ("order.unknown", Amend(1, 0, 500_000, 1)),
    ("oracle.not_a_reporter", OracleReport(1, 600_000, 1, 1)),
]

BAD_BUNDLES: list[tuple[str, bytes]] = [
    ("bundle.malformed", b"\xc1"),
    ("bundle.malformed", msgpack.packb([[[99, 1]]])),
    ("bundle.malformed", msgpack.packb([[[1, 1, 1, 1.5, 1]]])),
    ("bundle.malformed", b"\x91" * 60_000),
    ("bundle.empty", bundle()),
    (
        "bundle.too_many_instructions",
        bundle(*[Cancel(client_id=1)] * (INSTRUCTIONS_PER_BUNDLE_MAX + 1)),
    ),
]


def test_bad_instructions_get_receipts_and_change_nothing(unharmed, signer) -> None:
    signer.report_prices(INDEX_TICKS)
    before = unharmed.ask("account", signer.account), unharmed.ask("orders", signer.account)
    instructions = [instruction for _, instruction in BAD_INSTRUCTIONS]
    first, *others = signer.execute(
        signer.good(*instructions), *(signer.body(body) for _, body in BAD_BUNDLES)
    )
    assert first == [code for code, _ in BAD_INSTRUCTIONS]
    assert others == [[code] for code, _ in BAD_BUNDLES]
    assert (
        unharmed.ask("account", signer.account),
        unharmed.ask("orders", signer.account),
    ) == before
    # The very next good one goes through.
    assert signer.execute(signer.good(bid(client_id=7))) == [["ok"]]
    assert len(unharmed.ask("orders", signer.account)) == len(before[1]) + 1
    assert signer.execute(signer.good(CancelAll())) == [["ok"]]
