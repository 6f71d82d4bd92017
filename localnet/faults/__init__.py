"""Faults on a running localnet: a proxy between the nodes, and bad parts around each node.

A localnet that is started with `--faults` runs the same nodes in a worse world. What is to go wrong
now stands in one table that the supervisor writes and all others read; each entry says by itself
when it ends. docs/faults.md tells how to use it.

- what goes wrong: `model` (faults as data), `words` for what is wrong with one, `table` (those in
  force).
- who carries it out: `desk` at the supervisor, `proxy` with `flow` on connections; around the node
  `node_main`, with `weather` (what is bad for it now), `bad_network` and `bad_disk`.
- a running localnet: `cluster` is one with all of these, `commands` asks it, `cli` is `rota fault`.
- scenarios: `scenario` (the file) with `expectations` and `days` (what happens to a market),
  `runner` (one run), `scenario_cluster` (in which it happens), `twins`, `quorum` (what faults leave
  whole).
- what is measured: `progress`, `orders`, `memory`, `strikes`, and `disks` when all is stopped.
- what a crash did: `market_record` out of the blocks, `market_chart` as a picture.
- what options came to: `options_record` out of the blocks, held against `settlement_audit`, which
  shares nothing with the engine, and `options_chart`; `conservation` and `drawing` serve both.
- what it came to: `verdict` judges, `report` tells.
"""
