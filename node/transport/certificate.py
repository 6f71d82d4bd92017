"""Certificates: a member's identity key in the form in which TLS wants it.

A certificate is a pure function of the identity secret and the member's name (Ed25519 signatures
are deterministic, serial and validity are fixed), so it can be made again at any time and never
expires; what it is worth is decided by the committee's registry, not by its dates.
"""

import datetime
import os
import secrets
import ssl
import tempfile
from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crypto.scheme import SECRET_SIZE_BYTES

CERTIFICATE_SIZE_MAX_BYTES: Final = 4096
"""A member's certificate has about 500 bytes."""

_SERIAL: Final = 1
_NOT_BEFORE: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
"""RFC 5280, 4.1.2.5: stands for "no expiry"."""


class CertificateError(Exception):
    """These bytes are not the certificate of that identity key."""

    code = "certificate.invalid"


def make_certificate(identity_secret: bytes, name: str) -> bytes:
    """The self-signed certificate (DER) of a 32-byte identity secret for a member's name."""
    key = _load_secret(identity_secret)
    public_key = key.public_key()
    # The common name holds the key (32 bytes, 64 digits, the longest it may be): TLS looks trust
    # anchors up by subject, so subjects must differ.
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(NameOID.COMMON_NAME, public_key.public_bytes_raw().hex()),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public_key)
        .serial_number(_SERIAL)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        # Not an authority: a member can vouch for itself and for nobody else.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .sign(key, algorithm=None)
    )
    return certificate.public_bytes(serialization.Encoding.DER)


def validate_certificate(certificate: bytes, identity_key: bytes) -> None:
    """Raise `CertificateError` unless this is a certificate that `identity_key` signed for
    itself. Call it on every certificate of a configuration before it becomes a trust anchor."""
    if len(certificate) > CERTIFICATE_SIZE_MAX_BYTES:
        raise CertificateError(f"larger than {CERTIFICATE_SIZE_MAX_BYTES} bytes")
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        public_key = parsed.public_key()
        if not isinstance(public_key, Ed25519PublicKey):
            raise CertificateError("its key is not an Ed25519 key")
        if public_key.public_bytes_raw() != identity_key:
            raise CertificateError("its key is not the registered identity key")
        public_key.verify(parsed.signature, parsed.tbs_certificate_bytes)
        if parsed.subject != parsed.issuer:
            raise CertificateError("it is not self-signed")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(str(error)) from error
    except InvalidSignature as error:
        raise CertificateError("its signature does not verify") from error


def make_server_context(
    identity_secret: bytes, certificate: bytes, anchors: Iterable[bytes]
) -> ssl.SSLContext:
    """For listening: asks the dialer for a certificate and accepts exactly the `anchors`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # No tickets: a session resumed without a certificate would have to be authenticated again.
    context.num_tickets = 0
    return _prepare(context, identity_secret, certificate, anchors)


def make_client_context(
    identity_secret: bytes, certificate: bytes, anchors: Iterable[bytes]
) -> ssl.SSLContext:
    """For dialing: accepts exactly the `anchors`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _prepare(context, identity_secret, certificate, anchors)


def _prepare(
    context: ssl.SSLContext, identity_secret: bytes, certificate: bytes, anchors: Iterable[bytes]
) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    if data := b"".join(anchors):
        context.load_verify_locations(cadata=data)
    _load_own_certificate(context, identity_secret, certificate)
    return context


def _load_own_certificate(
    context: ssl.SSLContext, identity_secret: bytes, certificate: bytes
) -> None:
    """Python takes keys from files only: the file is ours alone, encrypted under a password that
    never leaves this function, and gone at its end."""
    password = secrets.token_bytes(32).hex().encode()
    key = _load_secret(identity_secret).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    chain = x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)
    file, path = tempfile.mkstemp(prefix="rota-")
    try:
        with open(file, "wb") as opened:
            opened.write(key + chain)
        context.load_cert_chain(path, password=password)
    finally:
        os.unlink(path)


def _load_secret(identity_secret: bytes) -> Ed25519PrivateKey:
    assert len(identity_secret) == SECRET_SIZE_BYTES
    return Ed25519PrivateKey.from_private_bytes(identity_secret)
