"""Cryptography and canonical bytes. Imports nothing of ours; touches no network and no clock.

| module | what it holds | follows |
|---|---|---|
| `scheme` | the interfaces `SignatureScheme` and `IdentityScheme`, `Claim` | |
| `bls` | votes, certificates, checkpoints: signatures that aggregate | draft-irtf-cfrg-bls-signature, suite `BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_`; EIP-2333 master key |
| `group` | BLS12-381 itself: points, scalars, encodings, pairings; what arkworks lets through and we do not | draft-irtf-cfrg-pairing-friendly-curves; RFC 9380 |
| `threshold` | sealing to a committee: header proofs, shares, keys of whole blocks | Shoup and Gennaro 1998 (TDH2) |
| `dkg` | how a committee comes to its secrets and hands them on | Joint-Feldman; EthDKG's complaints |
| `ed25519` | users, peers, batch authors | RFC 8032 |
| `mock` | both interfaces by keyed MACs, for simulation and tests | |
| `aggregation` | partial signatures to one certificate signature, culprits named | |
| `bitmap` | who signed | |
| `merkle` | roots and proofs of a map and of a list | domain tags as in RFC 6962 |
| `merkle_sum` | roots and proofs of liabilities that add up | Maxwell 2013, mended as in Hu, Zhang, Guo 2019 |
| `codec` | typed structs to MessagePack and back, one encoding a value | MessagePack specification |
| `digest` | domain-separated SHA-256 and BLAKE3 | |
| `types` | sized byte strings for messages | |
| `keystore` | secrets at rest | EIP-2335 (scrypt of RFC 7914, PBKDF2 of RFC 8018, AES-CTR of RFC 3686) |

Verification and decoding take hostile bytes: `verify*` and `is_*` answer False, decoders raise
their one error. Signing and sealing take our own values and raise or assert.
"""  # noqa: E501  (table rows do not wrap)

import rota_build

__path__ = rota_build.extend("crypto", __path__)
