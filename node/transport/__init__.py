"""Authenticated connections between the members of a committee.

Between any two members the one with the lower index dials; the other listens. There are two
connections a pair, so that no amount of bulk data delays a vote.

```text
control   dialer                                       listener
          "rota/1/c"                               ->
          TLS 1.3, both certificates pinned        <->
          Hello(version, chain, index, random)     <->  Hello(...)
          frames (`node.framing`), empty = keepalive, for as long as it lasts

bulk      "rota/1/b" | session id | attempt        ->   of a running control connection
          sealed empty frame                       ->
                                                   <-   sealed empty frame
          sealed frames, empty = keepalive, for as long as it lasts
```

Who a peer is follows from TLS alone: each member's certificate is self-signed with its registered
Ed25519 identity key and is listed, whole, in the other members' configuration. The listed
certificates are the only trust anchors, and the one that TLS verified must be the one listed for
that member (`certificate`).

Bulk frames are sealed whole with AES-256-GCM under keys that follow from the randoms inside the
control connection, one key per direction and per attempt, with a counter for nonce (`sealing`).
So a frame cannot be forged, repeated, dropped from the middle or moved to another connection: the
next one fails to open, and the connection ends. A stranger who knows the session id (it is sent in
the clear) can open a connection but cannot answer for it; it is dropped and nothing else changes.

What a member sends is queued per peer and per class, within bounds; consensus tolerates loss, and
loss is counted, never silent (`queues`). What arrives is handed over fairly: a peer fills only its
own share and is then read no further until the node catches up. Whatever goes wrong on a
connection ends that connection (`network`).

Rejected: certificates that chain to a committee authority (somebody would hold its key); accepting
any certificate and signing a channel binding afterwards (Python cannot ask for a client
certificate without verifying it, nor read the TLS 1.3 exporter); Noise (cheaper per small message,
but its Python libraries are unmaintained); one connection for both classes (a 4 MiB sync response
in front of a vote costs tens of milliseconds); TLS for bulk (a third of the speed of sealing).
"""
