"""How a committee comes to a secret that nobody knows, and hands it on: the mathematics.

Joint-Feldman key generation (Pedersen, EUROCRYPT 1991; Gennaro, Jarecki, Krawczyk, Rabin, J.
Cryptology 2007) with encrypted shares and complaints that anybody can judge, as in EthDKG
(Schindler, Judmayer, Stifter, Weippl 2019); resharing after Desmedt and Jajodia 1997. Every message
is a transaction; the order of the chain says which dealings count, so nothing here is interactive.

| module | what it holds |
|---|---|
| `sharing` | who receives how many shares of what: all that the messages are bound to |
| `proofs` | knowledge of logarithms, equality of two |
| `encryption_key` | the key to which a member's shares are encrypted, and its proof |
| `dealing` | one dealer's polynomials in commitments and encrypted shares; is it publicly valid? |
| `receiving` | a recipient opens its shares or complains; who is to blame, as anybody can see |
| `outcome` | qualified dealings to the committee's keys and to one member's secrets |
| `acknowledgement` | proof that a member holds its shares |

A dealing shares two secrets at once: one that bodies are sealed to and one of the beacon. Notation
as in `crypto.threshold`; for each of the two, dealer d has a polynomial f with coefficients a_k.

- **Deal**: C_k = a_k H; R = rho G, and for recipient i with the encryption key ek_i = dk_i G the
  shares f(s) of its tickets s, each plus a pad of KDF(rho ek_i). Fresh: Y_d = a_0 G as well. Proofs
  of knowledge of rho, and of a_0 where it is fresh.
- **Public validity**: fresh e(Y_d, H) = e(G, C_0); resharing C_0 = VK_s of the dealer's old ticket.
- **Receive**: dk_i R gives the pads; f(s) H = sum of s^k C_k.
- **Complain**: reveal dk_i R with a proof that it has the same logarithm as ek_i. It opens this
  dealer's shares for this recipient, to everyone and no others, and shows who lied.
- **Outcome**, fresh: the sum of all qualified dealings. Resharing: the sum of as many as the old
  threshold with the Lagrange coefficients of their old tickets; the secret, and so the public key,
  stays what it was.
- **Acknowledge**: sum of w_s x_s times a hashed point, with weights w_s that follow from the keys.

A dealer that sees the others' dealings first can bias the public key, not learn the secret; neither
sealing nor unique signatures mind. The public key is no randomness.
"""
