"""A deterministic world for the pure cores: virtual time, network, disks, crashes, worker delays.

Everything that happens follows from one seed. `network` hosts any machine with `start` and `step`;
`cluster` builds committees of consensus cores in it; `oracles` say what must never happen. The
same core objects run here and in a real node, so a failing seed is a failing protocol.
"""
