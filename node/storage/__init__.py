"""What a node remembers, in three stores with three prices.

| store | file | durable | holds |
|---|---|---|---|
| `SafetyStore` | `safety.db` | fsync before commit returns | what was signed, first values kept |
| `ArchiveStore` | `chain.db` | soon; a power cut loses the last moments | blocks and what follows |
| `BatchStore` | `segments/` | fdatasync before the commit returns | batch bytes, append-only |

Rules for maintainers:

1. The stores are blocking and know no event loop. A `GroupCommitter` in front of each carries its
   commits to a worker thread: what was asked for while one commit ran becomes the next, so an
   fsync is shared by everything that waits for it.
2. An error while writing is final. After a failed fsync nobody knows what the kernel kept, and a
   second fsync that succeeds proves nothing (the dirty pages may be gone). The store refuses all
   further work and the process ends; what is on disk decides after the restart.
3. Everything read back is checked against its checksum. Damage is an error with a code, never a
   wrong answer, and never silently skipped; only bytes that were never reported durable (the torn
   tail of the last segment) are cut off.
4. Every store is closed before the interpreter exits: an open apsw connection hangs the exit.
"""
