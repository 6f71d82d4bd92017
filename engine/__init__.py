"""The market state: a deterministic exchange of perpetuals and options, integers only.

`apply_block(state, block) -> BlockOutput` is the whole interface to the future; everything else
reads. The state root that it gives is the market root of a block's header. The package
is pure: no clock, no randomness, no I/O, no logs, no floats, no division other than floor; nothing
that depends on hash seeds or on the order of arrival reaches an output. It imports `crypto` alone.
Users' mistakes become receipts with stable codes; an exception out of `apply_block` is a bug of
ours and must halt the node.

Phases of a block, in this order, always:

    1 system       the block's committee, oracle reports, indices, marks, funding, expiry of orders,
                   dead men's switches
    2 deposits     and what L1 says became of withdrawals
    3 liquidation  bids for slices; accounts found below their maintenance margin; steps of
                   their liquidations
    4 cancels      cancel, cancel-all, size-down amends; the cancelling half of other amends;
                   arming a dead man's switch, choosing how the account is margined
    5 transfers    collateral from account to account, in turns
    6 triggers     which conditional orders indices and marks reach, which slices are due
    7 post-only    placed in turns, senders ranked by seed; so is what only waits
    8 takers       every other order (a GTC order may take and then rest) and what has woken, in
                   turns likewise; then one auction in each market that matches by them
    9 rounds       what the trades in continuous markets have reached, and what it reaches
    10 withdrawals collateral on its way to L1, in turns, of what the trades have left
    11 invariants  conservation of money, positions summing to zero, no crossed book
    12 root        changed leaves only

Inside a phase the order follows from the block's seed and the contents of its envelopes, never
from their position (`schedule`).

    types        instructions, receipts, block, genesis         msgspec structs; never compiled
    bounds       limits, errors, refusals (which code refuses what)
    state        state, and what it holds: accounts.account, trading.market, trading.book,
                 waiting.orders, options.chains              plain classes with slots
    a block      apply (the phases), order_phases (post-only, takers, rounds), schedule (who goes
                 when), run (what a block gathers), margin, cross_margin (its formulas),
                 products (in machine words), invariants (and open interest)
    accounts/    account, outflow (what may leave), withdrawals, transfers, sub_accounts, fees
                 (tiers), sessions (keys)
    prices/      oracle (indices), premium (of the book), mark, funding, open_interest (margin that
                 grows with it)
    trading/     market, book, placement, matching, resting, cancellation; call_auction (joining,
                 settling), clearing (its price and shares)
    waiting/     orders, waitlist (coming and going), triggers, pairs (one cancels the other),
                 slices (TWAP), dead_man
    liquidation/ distress (who, and whose turn it is), assessment (what they are judged by where
                 an index is stale), stages, phase (closing), bidding,
                 deleverage, handover, views
    options/     params, chains (what the state holds), surface (reported volatilities), listing,
                 marks, settlement (the options' part of phase 1), views
    portfolio/   rules (of a genesis); terms, fixed_point, black76, scenarios (prices), sums (of
                 positions): functions of numbers; margin (what they say of accounts), modes
                 (choosing)
    commitment/  root, records (of orders), leaves (read back); around it proofs and solvency
    snapshots/   whole, and parts of it: accounts, waiting, options, liquidations; checks; chunks
    views        what a gateway shows

What the state holds imports none of the rules that change it (an import contract has the layers).
The structs keep to modules of their own because mypyc drops msgspec's class options without a
word. Units: prices in ticks, sizes in lots, money in micro-quote (10^-6), rates in ppm, times in
milliseconds. `docs/engine.md` says it all for users; `docs/design/engine.md` tells why.
"""

import rota_build

__path__ = rota_build.extend("engine", __path__)
