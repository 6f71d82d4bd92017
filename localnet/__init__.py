"""A network of nodes on one machine, and everything that puts nodes to the test.

| part | what |
|---|---|
| `network`, `folder`, `markets` | laying out homes, genesis and accounts from one seed |
| `plans`, `supervisor`, `lifeline` | command lines of processes; starting and stopping them |
| `cluster`, `control`, `ask` | a running localnet, and how other commands talk to it |
| `up`, `detached`, `cli`, `byz_cli`, `screen` | the commands |
| `monitor`, `status`, `agreement`, `audit`, `report` | what nodes say, and if it fits together |
| `verdicts` | what a run came to, whatever ran it |
| `traders`, `trading_floor`, `courier`, `reporters`, `tape` | demo traders and recorded trades |
| `crash`, `crash_crowd` | a market that falls, and who is caught in it |
| `options_day`, `options_crowd` | options that live for minutes, and who trades them |
| `bench` | `rota bench` |
| `byzantine` | members that lie, in the simulator and as processes |
| `sim` | the virtual world that hosts consensus cores and whole nodes |
| `fuzz` | real messages and files, bent, for everything that reads outside bytes |
| `faults` | breaking a running localnet: links, messages, processes, clocks, disks |
| `scenarios` | what `rota fault run` carries out: faults and liars in time, and what is expected |

Nothing below imports it: a node contains no switch for any of this. Inside, behaviours know nothing
of what runs them, and what runs nodes nothing of faults; import contracts keep it so.
"""
