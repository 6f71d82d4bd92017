"""The TLS certificate of a node: its Ed25519 identity key, self-signed (RFC 5280, RFC 8410).

Peers pin the whole certificate, and trust nothing else about it: no name, no authority, no date.
So it is a pure function of the key and the name (Ed25519 signatures are deterministic): it needs no
file of its own and never expires in the middle of a night.
"""

from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

_NOT_BEFORE: Final = datetime(2020, 1, 1, tzinfo=UTC)
_NOT_AFTER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280, section 4.1.2.5: the date of a certificate without a well-defined end."""


def compute_certificate(identity_secret: bytes, name: str) -> bytes:
    """Return the DER certificate of the node `name` with this 32-byte Ed25519 seed."""
    key = Ed25519PrivateKey.from_private_bytes(identity_secret)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    return builder.sign(key, algorithm=None).public_bytes(Encoding.DER)


def certificate_key(certificate: bytes) -> bytes | None:
    """Return the Ed25519 public key in a DER certificate, or None if there is no such thing."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError:
        return None
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None
