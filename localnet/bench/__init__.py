"""Benchmarks of this machine: `rota bench ordering|orders|engine|latency|fairness|keys|all`.

| module | what it measures |
|---|---|
| `ordering` | opaque 512-byte transactions that all nodes committed and hold, a second |
| `orders` | signed instructions executed and certified, a second |
| `latency` | milliseconds from sending an order to seeing it committed, and executed |
| `engine` | instructions a second in one process, without and with state roots, and from a log |
| `sealing`, `ceremonies` | what sealed bodies cost, and key ceremonies in which members lie |
| `fairness` | what omitting, delaying and splitting gains in a block, in both modes of matching |

The first three run real node processes on this machine, so all nodes share its cores. Each warms
up before it measures, says where the CPU time went, and fails with exit code 21 if nothing moved.
`fairness` measures rules and not the machine: the same seed gives the same numbers everywhere.
"""

import rota_build

# One module of it is compiled: what plays messages on a book.
__path__ = rota_build.extend("localnet/bench", __path__)
