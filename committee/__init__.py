"""Who orders: the committee and the order state that advances with every committed block.

| module | what it holds |
|---|---|
| `committee` | the members of one epoch, their power, what counts as a quorum |
| `genesis` | which member lists may start a chain |
| `schedule` | who leads which view |
| `tickets` | power to numbers of key shares |
| `ceremony` | the rules by which a threshold key is dealt and handed over |
| `state` | the order state: committee, lane cursors, convictions, newest state certificate |

Everything is integers and plain data: no state of execution, no clock, no I/O.
"""

import rota_build

__path__ = rota_build.extend("committee", __path__)
