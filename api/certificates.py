"""The server's own certificate authority and certificate, made on the first start.

The authority stays; the server's certificate is made anew when an address is missing from it or its end is near, so
clients that trust the authority (every kubeconfig of ours) never notice.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dataplane import atomic_file

_AUTHORITY_LIFETIME: Final = timedelta(days=3650)
_SERVER_LIFETIME: Final = timedelta(days=365)
_RENEW_BEFORE: Final = timedelta(days=90)
_CLOCK_SKEW: Final = timedelta(hours=1)
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class CertificatesDamaged(Exception):
    """A key or certificate in the data directory cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} cannot be used: {self.reason}; restore it from a copy, or remove {self.path.parent} to start over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What clients may call the server."""

    addresses: frozenset[IPAddress]
    hosts: frozenset[str]

    def are_in(self, certificate: x509.Certificate) -> bool:
        listed = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = set(listed.get_values_for_type(x509.IPAddress))
        return self.addresses <= addresses and self.hosts <= set(listed.get_values_for_type(x509.DNSName))


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where the parts are, below one directory."""

    directory: Path

    @property
    def authority(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def authority_key(self) -> Path:
        return self.directory / "ca.key"

    @property
    def server(self) -> Path:
        """Certificate and key in one file, so that no crash can leave one of each."""
        return self.directory / "server.pem"


def prepare(files: Files, names: Names, now: datetime) -> None:
    """Make what is missing, old or does not name every address."""
    files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _authority(files, now)
    if files.server.exists():
        server = _load(files.server)
        if _is_good(server.certificate, authority, names, now):
            return
    server = _issue(authority, names, now)
    atomic_file.write(files.server, _pem(server.certificate) + _key_pem(server.key))


def _authority(files: Files, now: datetime) -> Identity:
    if files.authority.exists():
        key = _load_key(files.authority_key)
        return Identity(certificate=_load_certificate(files.authority), key=key)
    authority = _found(now)
    # The key first: a certificate without its key would stop the next start.
    atomic_file.write(files.authority_key, _key_pem(authority.key))
    atomic_file.write(files.authority, _pem(authority.certificate), mode=0o644)
    return authority


def _found(now: datetime) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("podwire-ca")
    usage = _key_usage(signs_certificates=True)
    certificate = (
        _builder(name, name, key, now, _AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Identity(certificate=certificate, key=key)


def _issue(authority: Identity, names: Names, now: datetime) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name("podwire-api"), authority.certificate.subject, key, now, _SERVER_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(list(_alternatives(names))), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Identity(certificate=certificate, key=key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _alternatives(names: Names) -> Iterable[x509.GeneralName]:
    yield from (x509.DNSName(host) for host in sorted(names.hosts))
    yield from (x509.IPAddress(address) for address in sorted(names.addresses, key=lambda a: (a.version, int(a))))


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _is_good(certificate: x509.Certificate, authority: Identity, names: Names, now: datetime) -> bool:
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, a new one is better
        return False
    return now + _RENEW_BEFORE < certificate.not_valid_after_utc and names.are_in(certificate)


def _load(path: Path) -> Identity:
    return Identity(certificate=_load_certificate(path), key=_load_key(path))


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CertificatesDamaged(path, str(error)) from error


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_key_block(path.read_bytes()), password=None)
    except (OSError, ValueError) as error:
        raise CertificatesDamaged(path, str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificatesDamaged(path, f"it holds a {type(key).__name__}, not an elliptic-curve key")
    return key


def _key_block(pem: bytes) -> bytes:
    """The key out of a file that starts with a certificate."""
    return pem[max(pem.find(b"-----BEGIN PRIVATE KEY"), 0) :]


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
