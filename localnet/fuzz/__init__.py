"""Fuzzing: real messages and files, bent a little, given to everything that reads outside bytes.

- `trees` takes bytes apart into values and puts values together to bytes, well-formed or not;
- `mutator` bends: a few changes to the tree or to the bytes, all from one seed;
- `corpus` holds what is bent: messages, records, snapshots and files, harvested (`harvest`,
  `door_harvest`, `file_harvest`) from simulated clusters;
- `contract` says what a decoder owes to any input, and judges one input;
- `targets` lists all decoders; `peer` and `client` feed whole clusters;
- `campaign` runs seeds, keeps inputs that came to something new, and shrinks what breaks a rule.

Nothing here is part of the node.
"""
