"""Faults of the engine that random streams must find: a check that never fails shows nothing.

They are planted as the simulator's mutants are (`localnet.sim.mutants.plant`), in memory. Each is
of another sort, and the entry says by which rule it has to show.
"""

from typing import Final, NamedTuple

from localnet.sim.mutants.plant import Mutant, make_mutant, planted
from localnet.sim.streams.stream import run_seed
from localnet.sim.violation import Violation

PLANTS: Final[tuple[Mutant, ...]] = (
    make_mutant(
        "settlement_rounds_up",
        "what an option pays at its settlement is rounded down",
        "Pools: .*settlement pool",
        "engine.options.settlement:compute_payoff",
        "return lots * value * series.underlying.unit // price_count",
        "return -(-lots * value * series.underlying.unit // price_count)",
    ),
    make_mutant(
        "vote_leaves_no_mark",
        "a market whose average premium moved has its leaf written anew",
        "Root: ",
        "engine.prices.mark:_take_vote",
        "    market.dirty = True\n",
        "",
    ),
    make_mutant(
        "volume_leaves_no_mark",
        "an owner whose sub-account has traded has its leaf written anew",
        "Root: ",
        "engine.accounts.fees:_add_volume",
        "    state.mark_dirty(owner)\n",
        "",
    ),
    make_mutant(
        "order_by_position",
        "a sender's envelopes go by nonce and then by id, wherever they stand in the block",
        "Twin: .*order of the envelopes",
        "engine.schedule:rank_envelopes",
        "envelope.nonce, envelope.envelope_id, envelope)\n        for envelope in envelopes",
        "envelope.nonce, place.to_bytes(8), envelope)\n"
        "        for place, envelope in enumerate(envelopes)",
    ),
    make_mutant(
        "restored_marks_move",
        "a restored market knows with which index its mark was computed, so that it stands still",
        "Twin: .*restored engine",
        "engine.snapshots.whole:_unpack_mark",
        "    mark.index_price = market.index_price\n",
        "",
    ),
    make_mutant(
        "marks_move_unseen",
        "when a mark moves, what was remembered of accounts' margins counts no more",
        "(Cache|Twin): ",
        "engine.prices.mark:update_marks",
        "state.margin_epoch += 1",
        "state.margin_epoch += 0",
    ),
    make_mutant(
        "bids_take_without_paying",
        "a slice of an account takes as much from it as its bidder receives",
        "conservation: ",
        "engine.liquidation.handover:hand_over",
        "account.quote -= sign * paid[market_id]",
        "account.quote -= min(sign * paid[market_id], 0)",
    ),
)


class Find(NamedTuple):
    """Which stream found a fault, and by what."""

    seed: int
    blocks: int
    violation: Violation


def find(plant: Mutant, seeds: range, blocks_max: int) -> Find | None:
    """The first stream on which a planted fault shows as its entry says. Only where the sources
    run."""
    for seed in seeds:
        with planted(plant):
            ran = run_seed(seed, blocks_max)
        if ran.violation is not None and plant.is_shown_by(ran.violation):
            return Find(seed, ran.blocks, ran.violation)
    return None
