"""How a committee comes to a threshold key without trusting anybody: the ceremony's rules.

Everybody deals out shares of a secret of its own, and the key is the sum (Pedersen, "A
threshold cryptosystem without a trusted party", 1991); resharing deals out the old shares instead,
which keeps the public key (Desmedt and Jajodia, 1997). All of it happens in transactions of the
chain, so everybody agrees on who dealt, who complained and who counts, whatever got lost on the
way. This package decides that, from the order of transactions alone.

| module | what it holds |
|---|---|
| `plan` | who takes part, for how long, and the terms of one attempt |
| `transactions` | dealing, complaint, acknowledgement |
| `checks` | what cryptography must decide, as plain data, and its three possible answers |
| `attempt` | the rules of one attempt, transaction by transaction |
| `machine` | attempts until one succeeds; root and snapshot |
| `faults` | self-contained evidence of what a member did wrong |
| `judge` | the checks' answers by cryptography (`crypto.dkg`) |
| `member` | what a member deals, complains about and acknowledges |
| `mock` | transactions and answers without cryptography, for simulation and tests |

An attempt begins at the end of a block, which freezes who takes part, and runs through three
windows of fixed length in heights:

1. **Dealing.** A fresh key: each participant deals once. Resharing: each holder of the old key
   deals once for each of its tickets. The first dealing of a slot counts. A second, different one,
   or one that anybody can see to be invalid, disqualifies its dealer.
2. **Complaint.** Whoever was dealt a share that contradicts the dealing's public part opens that
   share, with proof. Everybody judges the same: the dealer is disqualified, or the complainer is.
   At the end the dealings that count are fixed: for a fresh key all that are left, if their dealers
   hold two thirds of the participants' power; for resharing the first as many, in chain order, as
   the old key's threshold.
3. **Acknowledgement.** Each participant proves that it holds working shares of the new key.

The attempt succeeds if, at the end of the last block of the third window, the acknowledged tickets
reach `Tickets.tickets_to_switch`. Otherwise the next attempt begins at that very block, with those
who acknowledged, if they hold a quorum of all power, and with everybody again if not. The first
windows are as the plan says; each attempt doubles them, up to eight times.

Whoever is disqualified deals nothing and is not heard as a complainer for the rest of the attempt;
it still receives its shares and may acknowledge them.

The rules call no cryptography. `Ceremony.find_check` says what there is to decide about a
transaction, if anything; the answers come back with the block. The page `docs/design/ceremony.md`
says what whoever orders transactions can gain, and what was decided against.
"""
