"""The server's certificates and credentials: made once, renewed in time, never half written."""

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from api import auth, kubeconfig
from api.certificates import CertificatesDamaged, Files, Names, prepare

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HERE = ipaddress.ip_address("192.0.2.1")
THERE = ipaddress.ip_address("2001:db8::1")


def names(*addresses):
    return Names(addresses=frozenset(addresses), hosts=frozenset({"localhost"}))


@pytest.fixture
def files(tmp_path):
    made = Files(directory=tmp_path / "pki")
    prepare(made, names(HERE), NOW)
    return made


def certificate(files):
    return x509.load_pem_x509_certificate(files.server.read_bytes())


def test_the_certificate_is_signed_by_the_authority_and_names_the_addresses(files):
    authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
    certificate(files).verify_directly_issued_by(authority)

    assert names(HERE).are_in(certificate(files))
    assert not names(HERE, THERE).are_in(certificate(files))


def test_a_second_start_changes_nothing(files):
    before = [path.read_bytes() for path in sorted(files.directory.iterdir())]
    prepare(files, names(HERE), NOW + timedelta(days=1))

    assert [path.read_bytes() for path in sorted(files.directory.iterdir())] == before


@pytest.mark.parametrize(
    ("addresses", "days"), [((HERE, THERE), 1), ((HERE,), 300)], ids=["a new address", "its end is near"]
)
def test_the_certificate_is_renewed_under_the_same_authority(files, addresses, days):
    authority, before = files.authority.read_bytes(), certificate(files)
    prepare(files, names(*addresses), NOW + timedelta(days=days))

    assert certificate(files).serial_number != before.serial_number
    assert names(*addresses).are_in(certificate(files))
    assert files.authority.read_bytes() == authority


def test_a_crash_between_the_authoritys_key_and_certificate_heals(files):
    files.authority.unlink()
    prepare(files, names(HERE), NOW)

    certificate(files).verify_directly_issued_by(x509.load_pem_x509_certificate(files.authority.read_bytes()))


@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "server.pem"])
def test_a_damaged_file_is_named(files, name):
    (files.directory / name).write_bytes(b"-----BEGIN NONSENSE")

    with pytest.raises(CertificatesDamaged, match=name):
        prepare(files, names(HERE), NOW)


def test_the_token_stays_and_is_its_owners(tmp_path):
    path = tmp_path / "admin.token"
    token = auth.load_token(path)
    path.chmod(0o644)

    assert auth.load_token(path) == token
    assert len(token) > 40
    assert path.stat().st_mode & 0o077 == 0


def test_an_empty_token_file_lets_nobody_in_with_an_empty_token(tmp_path):
    path = tmp_path / "admin.token"
    path.write_text("\n")

    assert auth.load_token(path)


def test_a_kubeconfig_is_written_only_when_it_changes(tmp_path):
    path = tmp_path / "admin.kubeconfig"
    kubeconfig.write(path, kubeconfig.render("https://192.0.2.1:6443", b"ca", "token"))
    before = path.stat().st_ino
    kubeconfig.write(path, kubeconfig.render("https://192.0.2.1:6443", b"ca", "token"))
    assert path.stat().st_ino == before
    kubeconfig.write(path, kubeconfig.render("https://192.0.2.1:7443", b"ca", "token"))

    assert b":7443" in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
