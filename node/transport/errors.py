"""Errors of a peer connection. Each ends that connection and nothing else."""


class PeerError(Exception):
    """The other side is not who it must be, or does not keep to the protocol.

    | code | meaning |
    |---|---|
    | `peer.preamble` | the connection does not begin like one of ours |
    | `peer.certificate` | its certificate is not the one listed for that member |
    | `peer.hello` | its greeting is malformed |
    | `peer.version`, `peer.chain` | it runs another protocol version, or another chain |
    | `peer.direction` | it dialed a member that must dial it |
    | `peer.session` | a bulk connection for no running control connection, or used again |
    | `peer.crowded_out` | it had not proven who it is, and newer ones needed its place |
    | `peer.rationed` | too many handshakes from its address have failed |
    | `peer.seal` | a sealed frame does not open: forged, repeated, out of order or damaged |
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
