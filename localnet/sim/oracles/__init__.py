"""What must never happen, checked by code that shares nothing with the product but the types of
what nodes say and write, the codec and the signature schemes.

`watchers` has the base of all oracles and tells each what it asked for; `watch` says who watches
the run of a schedule. Hosts that promise nothing are `exempt`. docs/simulator.md says of each
oracle what it holds, and whose code it is.

- one order and one result: `order`, `ancestry`, `delivery`, `books`, `trades` with `mirror` and
  `call`, `replay` (with the product's own code).
- what is said to clients: `door`, `promises`; to members: `wire`.
- what members sign: `signing`, `rulebook`, with `certificates` for what they adopt.
- blame: `innocence`, `justice` with `proof`, `forms`.
- other lives: `restarts`, `joining`.
- room: `bounds`, `memory`.
"""
