"""A network of nodes on one machine, and everything that puts nodes to the test.

| part | what |
|---|---|
| `network`, `folder`, `markets` | laying out homes, genesis and accounts from one seed |
| `up`, `supervisor`, `lifeline`, `control`, `detached` | starting and stopping processes |
| `monitor`, `status`, `agreement`, `audit`, `report` | what nodes say, and if it fits together |
| `traders`, `trading_floor`, `courier`, `reporters`, `tape` | demo traders and recorded trades |
| `bench` | `rota bench` |
| `sim` | the virtual world that hosts consensus cores and whole nodes |

Nothing below imports it: a node contains no switch for any of this.
"""
