"""What happens to a user's bytes before and at the order: admission, batches, the header ledger.

| module | what it holds |
|---|---|
| `envelope` | the wire form: clear header, signature, body |
| `keys` | the body of a `KEYS` envelope: session keys come and go |
| `refusal` | every reason for which an envelope can be turned away, with its stable code |
| `validity` | what makes one envelope valid from its own bytes alone; new body kinds extend it |
| `batch` | the body of a lane's batch, and the check that a member runs before acknowledging one |
| `nonce` | the window that lets a (key, nonce) pair through once and never again |
| `account` | one account of the ledger: credit, windows, session keys living and dead |
| `ledger` | the header ledger: who may, when, and who pays; authoritative, at commit |
| `admission` | the same questions asked early at one node's door; advisory, bounded |
| `batcher` | admitted bytes to batch bodies: by time and size, fair between senders |

An envelope's path: `Admission.precheck` (no signature), a worker verifies the signature,
`Admission.admit` queues it in the `Batcher`, `Batcher.take` yields a batch body, every member runs
`check_batch` on it, and at commit `HeaderLedger.apply_block` lets it pass or refuses it for good.

Everything here is deterministic and pure: time comes in as an argument, signatures are verified
by a scheme that is passed in, and nothing imports consensus.
"""

import rota_build

__path__ = rota_build.extend("mempool", __path__)
