"""Faults on a running localnet: a proxy between the nodes, and bad parts around each node.

A localnet that is started with `--faults` runs the same nodes in a worse world: their connections
go through `localnet.faults.proxy`, and their network, clock and disk are those of
`localnet.faults.node_main`. What is to go wrong now stands in one table (`localnet.faults.table`)
that the supervisor writes and all of them read; each entry says by itself when it ends.
"""
