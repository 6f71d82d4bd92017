"""Work that must not run on the node's event loop, each kind where it belongs.

| module | what it holds |
|---|---|
| `engine` | `EngineWorker`: the engine in a process of its own, blocks in, results and views out |
| `crypto` | `CryptoPool`: processes for batch-sized cryptography |
| `threads` | `ConsensusCrypto`: single BLS operations on threads |
| `errors` | what a worker's end and a refused query look like |
| `process`, `child` | the two ends of a worker process: spawning, framed pipes, death |
| `engine_messages`, `engine_main`, `snapshots`, `views` | the engine's process |
| `background_save` | its fork, which saves the state while the engine goes on |
| `crypto_messages`, `crypto_main` | a crypto process |

Why processes: a pipeline of many tiny native calls holds and re-takes the interpreter lock at each
of them, so on threads it would neither run in parallel nor leave the event loop alone. Why threads
for BLS: one verification is one native call of a millisecond that releases the lock.

Worker processes hold no keys. They ignore the signals that a terminal or a service manager sends to
the whole group, because the node decides when they end: by closing their stdin. Since only the node
holds the other end of that pipe, its death, however it comes, ends them too. (A parent-death signal
would do harm: Linux ties it to the thread that spawned the child, which here is a short-lived one.)
A worker trusts the node; the bytes *inside* its requests come from the network and are judged as
such.
"""
