"""Threshold encryption of order bodies: sealed by anyone, opened only by the committee together.

The scheme is TDH2 of Shoup and Gennaro ("Securing threshold cryptosystems against chosen ciphertext
attack", EUROCRYPT 1998) on BLS12-381, with pairings in the place of each share's own proof.

| module | what it holds | runs where |
|---|---|---|
| `sealed` | the bytes of a sealed body, its size classes, the label it is bound to | |
| `sealing` | seal one message; open one body under its key | client; worker |
| `proof` | the header proof, one by one and for a whole batch | worker |
| `key` | the committee's public key and its tickets' verification keys | |
| `polynomial` | values of polynomials, in the clear and in commitments | |
| `lagrange` | combination of shares by small integers | |
| `shares` | a member's shares; one share judged for evidence | worker |
| `opening` | shares of a block to its keys, culprits named; recorded keys verified | worker |
| `beacon` | randomness by the same means, of a second secret | worker |
| `weights` | random weights of batch checks | |
| `mock_dealer` | keys for unit tests and vectors | never in a node |

Notation, used in all of them: G1 = <G>, G2 = <H> of prime order r with pairing e; Gbar a second
generator of G1 whose logarithm nobody knows; committee secret x with Y = xG and Y2 = xH; W tickets
s = 1..W holding x_s = f(s) for a polynomial f of degree tau - 1 with f(0) = x, and VK_s = x_s H.

- **Seal** under label L: U = uG, Ubar = u Gbar, key = KDF(uY, U, L), body by AEAD under it. Proof
  that log_G U = log_Gbar Ubar, its challenge over L, the body, U and Ubar: A = wG, Abar = w Gbar,
  z = w + cu.
- **Header check**: zG = A + cU and z Gbar = Abar + c Ubar, both up to the curve's cofactor.
- **Share** of ticket s: D_s = (x_s / (W-1)!) U. Dividing by (W-1)! makes every coefficient below an
  integer, so that combining costs no multiplication of full size.
- **Combine** tau shares: K = sum of ((W-1)! lambda_s) D_s = xU, lambda_s the Lagrange coefficients
  at zero.
- **Verify** a block's keys: e(sum of b_j K_j, H) = e(sum of b_j U_j, Y2) for random b_j.
- **Judge** one share: e((W-1)! D_s, H) = e(U, VK_s).

A key that passes is right whoever made the shares, so shares are judged only where it does not.

Whatever comes from outside is checked where it enters. What a `CheckedPoint` is was checked by
`proof.check_headers` in this node. Functions take and give lists of bytes, so that a worker process
can run them on a whole block at once: many small calls on threads would queue for the interpreter.
Randomness is an argument. The page `docs/design/sealed-mempool.md` says why each check is there.
"""
