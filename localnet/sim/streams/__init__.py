"""Random streams for the engine alone: everything switched on in one genesis, judged each block.

The simulator runs whole nodes, so a block costs it milliseconds and its traders are civil. Here the
engine gets what no trader sends: every instruction there is, for strangers and for sub-accounts,
with numbers at the ends of their ranges, over price falls, clock jumps, expiries, liquidations and
bids on them, and after each block everything is asked that can be asked of a state
(`check`). `rota sim engine` runs them; docs/simulator.md tells how to use it.

- `conditions`: the genesis of a stream, and its temper: what prices, sizes and clocks do.
- `hands`: one instruction after the other; `draw`: blocks of them.
- `check`: what holds after every block, and which rule broke.
- `stream`: a stream as a file, and running one; `cut`: the smallest one that fails alike.
- `plants`: faults of the engine that the streams must find.
"""
