"""Fuzzing: real messages and files, bent a little, given to everything that reads outside bytes.

Nothing here is part of the node. docs/simulator.md tells how to use it.

- what is bent: `corpus`, filled from simulated clusters (`ground` is one that has run) by
  `harvest`, `door_harvest`, `file_harvest` and `worker_harvest`.
- how: `trees` takes bytes apart into values and puts values together to bytes, well-formed or not;
  `mutator` makes a few changes to the tree or to the bytes, all from one seed.
- what reads it: `contract` says what a decoder owes to any input, and judges one input; `targets`
  lists all decoders, from `wire_targets`, `door_targets`, `stream_targets`, `stored_targets`,
  `proof_targets`, `key_targets`, `ceremony_targets`, `file_targets` and `cluster_targets`.
- whole clusters: `peer` and `client` speak to one, `hostile` is the member in whose name, `script`
  is what was said.
- many inputs: `campaign` runs seeds and keeps inputs that came to something new, `workers` survive
  those that end their process.
- what is left of a finding: `minimise` cuts it down, `saved` is its file; `cli` is `rota sim fuzz`.
"""
