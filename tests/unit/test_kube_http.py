"""The client against a real server over loopback: what it sends, how it fails, whom it trusts."""

import datetime as dt
import ipaddress
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
import structlog.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kube.connection import Connection, ConnectionConfigError
from kube.errors import ApiError, Conflict, NotFound, Unreachable, to_status
from kube.http import JSON_PATCH, Client, UndecodableAnswer
from kube.objects import Service
from kube.resources import NODES, SERVICES
from tests.kube_server import KubeServer, kube_server, service

TOKEN = "hush-token"


@pytest.fixture
def server() -> Iterator[KubeServer]:
    with kube_server() as server:
        yield server


@pytest.fixture
def client(server) -> Iterator[Client]:
    client = Client(Connection(server=server.url, token=TOKEN), "podwire-test")
    yield client
    client.close()


# --- what is sent


def test_credentials_and_agent_go_with_every_request(server, client):
    client.list(SERVICES)
    _, _, _, headers, _ = server.requests[-1]
    assert (headers["Authorization"], headers["User-Agent"]) == (f"Bearer {TOKEN}", "podwire-test")


@pytest.mark.parametrize(
    ("call", "method", "path", "body_and_type"),
    [
        (lambda c: c.get(NODES, "n1"), "GET", "/api/v1/nodes/n1", (b"", None)),
        (
            lambda c: c.create(SERVICES, {"spec": {}}, "default"),
            "POST",
            "/api/v1/namespaces/default/services",
            (b'{"spec":{}}', "application/json"),
        ),
        (
            lambda c: c.replace(NODES, "n1", {"spec": {}}, subresource="status"),
            "PUT",
            "/api/v1/nodes/n1/status",
            (b'{"spec":{}}', "application/json"),
        ),
        (
            lambda c: c.patch(NODES, "n1", {"spec": None}),
            "PATCH",
            "/api/v1/nodes/n1",
            (b'{"spec":null}', "application/merge-patch+json"),
        ),
        (
            lambda c: c.patch(NODES, "n1", [], content_type=JSON_PATCH),
            "PATCH",
            "/api/v1/nodes/n1",
            (b"[]", "application/json-patch+json"),
        ),
        (
            lambda c: c.delete(SERVICES, "web", "default", grace_period=0),
            "DELETE",
            "/api/v1/namespaces/default/services/web",
            (b'{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}', "application/json"),
        ),
    ],
    ids=["get", "create", "replace", "patch", "json patch", "delete"],
)
def test_each_verb_is_one_request(server, client, call, method, path, body_and_type):
    server.answers.append((200, b"{}"))
    call(client)
    sent_method, sent_path, _, headers, sent_body = server.requests[-1]
    assert (sent_method, sent_path, (sent_body, headers.get("Content-Type"))) == (method, path, body_and_type)


def test_a_path_in_the_servers_url_comes_first(server):
    client = Client(Connection(server=f"{server.url}/k8s/clusters/c-1"))
    server.answers.append((200, b"{}"))
    client.get(NODES, "n1")
    assert server.requests[-1][1] == "/k8s/clusters/c-1/api/v1/nodes/n1"


def test_a_token_is_sent_until_its_file_is_there(server, tmp_path):
    client = Client(Connection(server=server.url, token="old", token_file=tmp_path / "token"))
    client.list(SERVICES)
    (tmp_path / "token").write_text("new\n")
    client.list(SERVICES)
    assert [headers["Authorization"] for _, _, _, headers, _ in server.requests] == ["Bearer old", "Bearer new"]


def test_a_token_file_is_read_again_when_it_changes(server, tmp_path):
    token = tmp_path / "token"
    token.write_text("first\n")
    client = Client(Connection(server=server.url, token_file=token))
    client.list(SERVICES)
    fresh = tmp_path / "fresh"
    fresh.write_text("second\n")
    fresh.rename(token)
    client.list(SERVICES)
    token.unlink()
    client.list(SERVICES)
    sent = [headers["Authorization"] for _, _, _, headers, _ in server.requests]
    assert sent == ["Bearer first", "Bearer second", "Bearer second"]


def test_requests_share_a_connection(server, client):
    for _ in range(5):
        client.list(SERVICES)
    assert server.accepted == 1


# --- what comes back


def test_bytes_come_back_as_the_server_sent_them(server, client):
    server.answers.append((200, b'{"odd":  1}'))
    assert client.get(NODES, "n1") == b'{"odd":  1}'


def test_decode_gives_a_typed_object(server, client):
    server.answers.append((200, json.dumps(service("web", clusterIP="10.96.0.7")).encode()))
    assert client.get(SERVICES, "web", "default", decode=Service).spec.cluster_ip == "10.96.0.7"


def test_decode_of_a_list_follows_all_pages(server, client):
    for number in range(1001):
        server.put(service(f"web-{number}"))
    assert len(client.list(SERVICES, decode=Service)) == 1001


def test_a_watch_gives_complete_lines(server, client):
    server.stream_answers.append(b'{"a":1}\n\n{"b":2}\n{"cut":')
    stream = client.watch(SERVICES, query={"resourceVersion": "1"})
    assert list(stream) == [b'{"a":1}', b'{"b":2}']
    stream.close()


# --- how it fails


def test_a_refusal_is_the_servers_error(server, client):
    refusal = Conflict.of(NODES, "n1")
    server.answers.append((409, json.dumps(to_status(refusal)).encode()))
    with pytest.raises(Conflict) as error:
        client.replace(NODES, "n1", {})
    assert error.value.message == refusal.message


def test_a_refused_watch_is_the_servers_error(server, client):
    server.answers.append((404, b"404 page not found"))
    with pytest.raises(NotFound):
        client.watch(SERVICES, query={"resourceVersion": "1"})


def test_a_redirect_is_not_followed(server, client):
    server.answers.append((307, b""))
    with pytest.raises(ApiError) as error:
        client.get(NODES, "n1")
    assert error.value.code == 307
    assert len(server.requests) == 1


def test_an_answer_that_is_not_json_is_refused(server, client):
    server.answers.append((200, b"<html>"))
    with pytest.raises(UndecodableAnswer):
        client.get(SERVICES, "web", "default", decode=Service)


def test_a_server_that_is_not_there_is_unreachable(server, client):
    server.stop()
    with pytest.raises(Unreachable) as error:
        client.get(NODES, "n1")
    assert str(error.value) == f"{server.url} does not answer: [Errno 111] Connection refused"
    assert not error.value.connected


def test_a_name_that_does_not_resolve_is_unreachable():
    with pytest.raises(Unreachable, match=r"api\.invalid:6443 does not answer"):
        Client(Connection(server="http://api.invalid:6443")).get(NODES, "n1")


def test_a_server_that_breaks_off_is_unreachable(server, client):
    stream = client.watch(SERVICES, query={"resourceVersion": str(server.version)})
    server.stop()
    with pytest.raises(Unreachable) as error:
        list(stream)
    assert error.value.connected


def test_something_else_than_http_is_unreachable():
    def greet(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        greeter = threading.Thread(target=greet, args=(listener,))
        greeter.start()
        with pytest.raises(Unreachable, match="SSH-2"):
            Client(Connection(server=f"http://127.0.0.1:{listener.getsockname()[1]}")).get(NODES, "n1")
        greeter.join(60)


def test_a_silent_watch_ends_when_it_should_have_ended(server, client, monkeypatch):
    monkeypatch.setattr("kube.http._WATCH_SLACK", 0.1)
    stream = client.watch(SERVICES, query={"resourceVersion": str(server.version), "timeoutSeconds": "0"})
    with pytest.raises(Unreachable, match="timed out"):
        list(stream)


def test_a_connection_that_dies_silently_is_noticed_by_tcp(server, client):
    client.list(SERVICES)
    with_keepalive = client._transport._pool.pool.get_nowait().sock
    assert with_keepalive.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert with_keepalive.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
    with_keepalive.close()


# --- whom it trusts


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self.name, self.key, authority=True)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool = False
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("kubernetes")]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return certificate.public_bytes(serialization.Encoding.PEM), private


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def tls_server(authority, tmp_path) -> Iterator[KubeServer]:
    """A server that wants a client certificate of the same authority."""
    certificate, key = authority.issue("server")
    both = tmp_path / "server.pem"
    both.write_bytes(certificate + key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.pem.decode())
    context.load_cert_chain(both)
    context.verify_mode = ssl.CERT_OPTIONAL
    with kube_server(context) as server:
        yield server


def test_a_server_of_the_given_authority_is_trusted(tls_server, authority):
    assert Client(Connection(server=tls_server.url, ca=authority.pem)).list(SERVICES)


def test_a_server_of_another_authority_is_not_trusted(tls_server):
    with pytest.raises(Unreachable, match="its certificate is not trusted"):
        Client(Connection(server=tls_server.url, ca=Authority().pem)).list(SERVICES)


def test_a_server_with_another_name_is_not_trusted(tls_server, authority):
    with pytest.raises(Unreachable, match="not trusted"):
        Client(Connection(server=tls_server.url, ca=authority.pem, server_name="somebody.else")).list(SERVICES)


def test_a_server_can_be_known_by_another_name(tls_server, authority):
    assert Client(Connection(server=tls_server.url, ca=authority.pem, server_name="kubernetes")).list(SERVICES)


def test_insecure_trusts_anybody_and_says_so(tls_server):
    with structlog.testing.capture_logs() as lines:
        assert Client(Connection(server=tls_server.url, insecure=True)).list(SERVICES)
    assert lines[0]["log_level"] == "warning"


def test_a_client_certificate_is_shown_and_touches_no_disk(tls_server, authority):
    certificate, key = authority.issue("node-1")
    before = set(os.listdir("/proc/self/fd"))
    client = Client(Connection(server=tls_server.url, ca=authority.pem, client_certificate=certificate, client_key=key))
    assert set(os.listdir("/proc/self/fd")) <= before
    client.list(SERVICES)
    assert tls_server.peers[-1]["subject"] == ((("commonName", "node-1"),),)


def test_stop_wakes_the_reader_of_a_tls_stream(tls_server, authority):
    stream = Client(Connection(server=tls_server.url, ca=authority.pem)).watch(
        SERVICES, query={"resourceVersion": str(tls_server.version)}
    )
    stream.stop()
    with pytest.raises(Unreachable):
        list(stream)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"ca": b"not PEM"}, "certificate-authority"),
        ({"client_certificate": b"x", "client_key": b"hush"}, "client-certificate, client-key"),
    ],
)
def test_unusable_certificates_are_refused_by_name(fields, named):
    with pytest.raises(ConnectionConfigError, match=named) as error:
        Client(Connection(server="https://127.0.0.1:1", **fields))
    assert "hush" not in str(error.value)


def test_a_key_of_another_certificate_is_refused(authority):
    certificate, _ = authority.issue("node-1")
    _, other_key = authority.issue("node-2")
    with pytest.raises(ConnectionConfigError, match="cannot be used together"):
        Client(Connection(server="https://127.0.0.1:1", client_certificate=certificate, client_key=other_key))


def test_an_encrypted_key_is_refused_without_asking(authority):
    certificate, _ = authority.issue("node-1")
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    with pytest.raises(ConnectionConfigError, match="cannot be used together"):
        Client(Connection(server="https://127.0.0.1:1", client_certificate=certificate, client_key=encrypted))


def test_no_token_in_a_log_or_an_error(server, client, caplog):
    caplog.set_level("DEBUG")
    server.answers.append((401, b""))
    with pytest.raises(ApiError) as error:
        client.get(NODES, "n1")
    assert TOKEN not in caplog.text + repr(error.value) + repr(client) + repr(vars(client))
