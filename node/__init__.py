"""The node: everything between the pure protocol parts and the outside world.

| file | what |
|---|---|
| `core` | `NodeCore`: the whole node as one pure state machine |
| `delivery`, `execution`, `results`, `clerk` | its parts: from a commit to receipts |
| `submissions`, `offences`, `tracking` | its parts: clients, evidence, where envelopes stand |
| `events` | what it adds to the events and effects of `consensus` |
| `host` | carries its effects out on trio; decides what "durable first" means |
| `runtime`, `failures` | one node as a process, and how it ends |
| `recovery`, `replay` | what a node resumes from; repeating the whole chain |
| `door`, `protocol`, `streams`, `queries`, `client` | the order door, both sides of it |
| `transport`, `storage`, `workers`, `service`, `framing` | connections, disks, processes, threads |
| `config`, `home`, `keystores`, `genesis`, `network`, `logs`, `cli` | what operators touch |
"""
