"""The node: everything between the pure protocol parts and the outside world.

| file | what |
|---|---|
| `core` | `NodeCore`: the whole node as one pure state machine |
| `core_config` | what it is set to and tells of itself |
| `delivery`, `execution`, `results`, `clerk` | its parts: from a commit to receipts |
| `batch_checks` | its parts: which batches are being checked |
| `submissions`, `offences`, `tracking` | its parts: clients, evidence, where envelopes stand |
| `events` | what it adds to the events and effects of `consensus` |
| `host` | carries its effects out on trio |
| `durability`, `clock`, `timers`, `serving`, `executor` | its parts; the first: "durable first" |
| `runtime`, `failures` | one node as a process, and how it ends |
| `recovery`, `replay` | what a node resumes from; repeating the whole chain |
| `engine_input` | how stored batches become what the engine executes, everywhere |
| `door`, `protocol`, `streams`, `queries` | the order door |
| `client`, `client_stream`, `envelopes` | its other side, and what is submitted there |
| `transport`, `storage`, `workers`, `service`, `framing` | connections, disks, processes, threads |
| `config`, `home`, `keystores`, `genesis`, `network`, `logs`, `cli` | what operators touch |
"""

import rota_build

__path__ = rota_build.extend("node", __path__)
