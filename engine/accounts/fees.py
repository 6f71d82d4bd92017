"""Fee tiers: who has traded more in the last epochs pays less.

    epoch     the block time in whole `epoch_ms`, counted from 1
    volume    notional that an account and its sub-accounts traded in an epoch, as maker or taker;
              trades among themselves do not count
    tier      how many steps the sum over the last `epochs` full epochs has reached
    fee       the market's own, less the reduction of the tier

The present epoch does not count yet, so a tier holds for a whole epoch: neither the order of a
block nor the trade itself moves the fee that a margin check has reckoned with. A fill costs one
addition for each side. Nothing is done when an epoch ends: whoever trades next drops what is too
old, and who does not trade has the same leaf for ever.

Genesis makes sure that the best rebate is never above what a taker of the best tier pays
(`genesis.validate_genesis`), so that no pair of accounts can be paid for trading together.
"""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Final

from crypto.digest import ZERO_DIGEST, Domain, digest
from engine.limits import PPM, VOLUME_MAX_MICROQUOTE
from engine.products import multiply

if TYPE_CHECKING:
    from engine.accounts.account import Account
    from engine.state import EngineState
    from engine.trading.market import Market

_EPOCH: Final = Struct(">QQ")
"""epoch, volume."""

_EARLIER_PREFIX: Final = digest(Domain.STATE, b"volume")


class Volume:
    """What an owner has traded, by epoch."""

    __slots__ = ("amounts", "earlier", "epochs")

    def __init__(self) -> None:
        self.epochs: list[int] = []
        """Rising; only those with trades, and none that was too old at the last one."""
        self.amounts: list[int] = []
        """Micro-quote."""
        self.earlier: bytes | None = None
        """Cached digest of all epochs but the last; None when it must be computed anew."""


def encode_volume(volume: Volume) -> bytes:
    """The committed form: the last epoch, and the digest of those before it."""
    earlier = volume.earlier
    if earlier is None:
        earlier = ZERO_DIGEST
        if len(volume.epochs) > 1:
            pairs = zip(volume.epochs[:-1], volume.amounts[:-1], strict=True)
            records = b"".join([_EPOCH.pack(epoch, amount) for epoch, amount in pairs])
            earlier = sha256(_EARLIER_PREFIX + records).digest()
        volume.earlier = earlier
    return _EPOCH.pack(volume.epochs[-1], volume.amounts[-1]) + earlier


def install_fee_tiers(state: EngineState, market: Market) -> None:
    """Work out a new market's fees by tier.

    Bounded so that no taker is paid, and no maker more than any taker pays: genesis sees to it for
    its markets, but options may have lower fees than the market on whose index they are.
    """
    fees = state.genesis.fee_tiers
    if fees is None:
        return
    least_ppm = max(market.taker_fee_ppm - fees.tiers[-1].taker_reduction_ppm, 0)
    for tier in fees.tiers:
        maker_ppm = market.maker_fee_ppm - tier.maker_reduction_ppm
        taker_ppm = market.taker_fee_ppm - tier.taker_reduction_ppm
        market.maker_fees.append(max(maker_ppm, -least_ppm))
        market.taker_fees.append(max(taker_ppm, 0))


def enter_fee_epoch(state: EngineState) -> None:
    """System phase: the epoch that the block time is in."""
    fees = state.genesis.fee_tiers
    if fees is not None:
        state.fee_epoch = state.time_ms // fees.epoch_ms + 1


def find_tier(state: EngineState, account: Account) -> int:
    """The account's step of the fee schedule, 0 for none."""
    owner = account.owner
    if owner.tier_epoch != state.fee_epoch:
        owner.tier = compute_tier(state, owner)
        owner.tier_epoch = state.fee_epoch
    return owner.tier


def find_taker_fee_ppm(state: EngineState, account: Account, market: Market) -> int:
    """What the account pays in a market for what it takes, whether it or its liquidation acts."""
    return market.taker_fees[find_tier(state, account)]


def compute_fee(notional_microquote: int, fee_ppm: int) -> int:
    """The signed fee, rounded up: the user pays more or receives less."""
    return -(-multiply(fee_ppm, notional_microquote) // PPM)


def compute_trailing_volume(state: EngineState, owner: Account) -> int:
    """What counts for an owner's tier, micro-quote."""
    fees = state.genesis.fee_tiers
    volume = owner.volume
    if fees is None or volume is None:
        return 0
    first = state.fee_epoch - fees.epochs
    return sum(
        amount
        for epoch, amount in zip(volume.epochs, volume.amounts, strict=True)
        if first <= epoch < state.fee_epoch
    )


def compute_epoch_volume(state: EngineState, owner: Account) -> int:
    """What an owner has traded in the present epoch, micro-quote."""
    volume = owner.volume
    if volume is None or volume.epochs[-1] != state.fee_epoch:
        return 0
    return volume.amounts[-1]


def compute_tier(state: EngineState, owner: Account) -> int:
    """The last step that the trailing volume has reached."""
    fees = state.genesis.fee_tiers
    if fees is None:
        return 0
    trailing = compute_trailing_volume(state, owner)
    return sum(1 for tier in fees.tiers if tier.volume_microquote <= trailing)


def note_trade(state: EngineState, maker: Account, taker: Account, notional: int) -> None:
    """Count a trade between two owners for both of them."""
    if maker is not taker:
        _add_volume(state, maker, notional)
        _add_volume(state, taker, notional)


def _add_volume(state: EngineState, owner: Account, notional: int) -> None:
    volume = owner.volume
    if volume is None:
        volume = owner.volume = Volume()
    epoch = state.fee_epoch
    if not volume.epochs or volume.epochs[-1] != epoch:
        fees = state.genesis.fee_tiers
        assert fees is not None, "there are epochs"
        while volume.epochs and volume.epochs[0] < epoch - fees.epochs:
            del volume.epochs[0]
            del volume.amounts[0]
        volume.epochs.append(epoch)
        volume.amounts.append(0)
        volume.earlier = None
    volume.amounts[-1] = min(volume.amounts[-1] + notional, VOLUME_MAX_MICROQUOTE)
    state.mark_dirty(owner)
