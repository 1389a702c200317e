"""Connections to podwire-api that are many, slow, silent, gone or inherited; and certificates that must fit them."""

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time

import pytest

from tests.api_server import ADDRESS, PROGRAM, ApiServer, api_server
from tests.namespaces import connect, namespace
from tests.waiting import PATIENCE, eventually

LOOPBACK = ("127.0.0.1", 6443)
PATIENT = 250 * PATIENCE
NODE, CLIENT = "192.0.2.1", "192.0.2.2"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with api_server(tmp_path_factory.mktemp("connections")) as server:
        yield server


class Watch:
    """One watch on a socket of its own, read as it comes."""

    def __init__(self, api: ApiServer, path: str, *, receive_buffer: int = 0):
        _, context, token = api.credentials()
        plain = api.home.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        plain.settimeout(PATIENT)
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.connect(LOOPBACK)
        self.port = plain.getsockname()[1]
        self._tls = context.wrap_socket(plain, server_hostname=LOOPBACK[0])
        self._tls.sendall(f"GET {path} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        self._response = http.client.HTTPResponse(self._tls)
        self._response.begin()
        assert self._response.status == 200

    def next(self) -> dict:
        return json.loads(self._response.readline())

    def is_over(self) -> bool:
        return self._response.readline() == b""

    def close(self) -> None:
        self._response.close()
        self._tls.close()

    def vanish(self) -> None:
        """Reset the connection, as a machine that crashed and came back does."""
        self._tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.close()


NAMESPACES = "/api/v1/namespaces"
EVENTS = 30  # of 200 kB each: more than the 4 MB that net.ipv4.tcp_wmem lets a connection buffer


def watch_new(api: ApiServer) -> Watch:
    """A watch of namespaces that are made from now on."""
    version = api.request("GET", NAMESPACES).json()["metadata"]["resourceVersion"]
    return Watch(api, f"{NAMESPACES}?watch=true&resourceVersion={version}")


def make_namespace(api: ApiServer, name: str) -> None:
    answer = api.request("POST", NAMESPACES, {"metadata": {"name": name}})
    assert answer.status == 201, answer.data


def test_silent_clients_keep_nobody_out(api):
    """None is waited for. A busy machine gets more than one try, each with clients of its own."""

    def seconds_beside_silent_clients() -> float:
        with contextlib.ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(api.home.call(lambda: socket.create_connection(LOOPBACK, timeout=PATIENT)))
            began = time.monotonic()
            assert api.request("GET", "/readyz", timeout=PATIENT).status == 200
            return time.monotonic() - began

    assert eventually(lambda: seconds_beside_silent_clients() < 2, within=60)


def test_a_client_that_speaks_no_tls_is_dropped_and_the_next_is_served(api):
    with api.home.call(lambda: socket.create_connection(LOOPBACK, timeout=PATIENT)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while plain.recv(100):
                pass

    assert api.request("GET", "/readyz").status == 200


def test_an_event_reaches_a_watch_at_once(api):
    watch = watch_new(api)
    waits = []
    for number in range(10):
        began = time.monotonic()
        make_namespace(api, f"at-once-{number}")
        assert watch.next()["object"]["metadata"]["name"] == f"at-once-{number}"
        waits.append(time.monotonic() - began)
    watch.close()

    # What a busy machine takes for some; all of them would have to wait for a server that looks now and then.
    assert min(waits) < 0.5


def test_hundreds_of_watches_starve_nobody_and_all_see_the_event(api):
    watches = [watch_new(api) for _ in range(300)]
    make_namespace(api, "for-everybody")
    assert api.request("GET", "/readyz", timeout=PATIENT).status == 200

    assert {watch.next()["object"]["metadata"]["name"] for watch in watches} == {"for-everybody"}
    for watch in watches:
        watch.close()


@pytest.mark.parametrize("leave", [Watch.close, Watch.vanish], ids=["closed", "reset"])
def test_a_watch_whose_client_has_gone_ends_within_seconds(api, leave):
    told = len(api.log)
    watches = [watch_new(api) for _ in range(20)]
    ports = {watch.port for watch in watches}

    def served() -> set[int]:
        """The clients that the server still holds a connection for."""
        states = ("state", "established", "state", "close-wait")
        lines = api.home.run("ss", "-Htn", *states, "sport = :6443").splitlines()
        return ports & {int(line.split()[-1].rpartition(":")[2]) for line in lines}

    assert served() == ports
    for watch in watches:
        leave(watch)

    assert eventually(lambda: not served())
    assert "Traceback" not in api.log[told:]


def test_a_client_that_does_not_read_holds_nobody_up(api):
    version = api.request("GET", NAMESPACES).json()["metadata"]["resourceVersion"]
    path = f"{NAMESPACES}?watch=true&resourceVersion={version}"
    with contextlib.closing(Watch(api, path, receive_buffer=4096)), contextlib.closing(Watch(api, path)) as lively:
        large = {"metadata": {"name": "large", "annotations": {"text": "x" * 200_000}}}
        assert api.request("POST", NAMESPACES, large).status == 201
        for number in range(EVENTS):
            patch = {"metadata": {"labels": {"n": str(number)}}}
            headers = {"Content-Type": "application/merge-patch+json"}
            assert api.request("PATCH", f"{NAMESPACES}/large", patch, headers=headers, timeout=PATIENT).status == 200
            # Who did not read for half a minute would be taken for gone.
            while lively.next()["object"]["metadata"].get("labels", {}).get("n") != str(number):
                pass


def test_a_body_that_is_too_large_is_told_so(api):
    answer = api.request("POST", NAMESPACES, {"metadata": {"name": "x", "annotations": {"a": "x" * 4_000_000}}})

    assert (answer.status, answer.json()["reason"]) == (413, "RequestEntityTooLarge")


def test_sigterm_ends_watches_cleanly_and_quickly(tmp_path):
    """A busy machine gets more than one try, which would not help a server that waits for something."""
    with api_server(tmp_path) as api:

        def seconds_until_stopped() -> float:
            if api.process.poll() is not None:
                api.start()
            watches = [watch_new(api) for _ in range(50)]
            ended = []
            readers = [threading.Thread(target=lambda each=each: ended.append(each.is_over())) for each in watches]
            for reader in readers:
                reader.start()
            took = api.stop()
            for reader in readers:
                reader.join(PATIENT)
            assert ended == [True] * 50
            for each in watches:
                each.close()
            return took

        assert eventually(lambda: seconds_until_stopped() < 2, within=120)


def test_a_watch_resumes_across_kill_9(tmp_path):
    with api_server(tmp_path) as api:
        version = api.request("GET", NAMESPACES).json()["metadata"]["resourceVersion"]
        make_namespace(api, "before")
        api.kill()
        api.start()
        make_namespace(api, "after")
        watch = Watch(api, f"{NAMESPACES}?watch=true&resourceVersion={version}")

        assert [watch.next()["object"]["metadata"]["name"] for _ in range(2)] == ["before", "after"]
        watch.close()


def test_a_socket_inherited_from_another_namespace_is_served_there(tmp_path):
    with namespace("under") as underlay, namespace("client") as client, namespace("api") as home:
        connect(underlay, f"{NODE}/24", client, f"{CLIENT}/24")
        inherited = underlay.call(lambda: socket.create_server((NODE, 6443)))
        server = ApiServer(home=home, directory=tmp_path / "data", listen=(ADDRESS, f"fd:{inherited.fileno()}"))
        server.start(pass_fds=[inherited.fileno()])
        inherited.close()
        try:
            _, context, token = server.credentials()
            plain = client.call(lambda: socket.create_connection((NODE, 6443), timeout=PATIENT))
            with context.wrap_socket(plain, server_hostname=NODE) as tls:
                tls.sendall(f"GET {NAMESPACES} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
                assert tls.recv(20).startswith(b"HTTP/1.1 200")
            slices = server.get("-n", "default", "endpointslice", "kubernetes")
            assert slices["endpoints"][0]["addresses"] == [NODE]
            server.stop()
        finally:
            server.kill()


def test_a_new_address_renews_the_certificate_and_keeps_authority_and_token(tmp_path):
    with api_server(tmp_path) as api:
        before = api.credentials()
        authority = (api.directory / "pki" / "ca.crt").read_bytes()
        api.stop()
        api.home.run("ip", "address", "add", f"{NODE}/32", "dev", "lo")
        api.listen = (f"{NODE}:7443",)
        api.start()
        server, _, token = api.credentials()

        assert (server, token) == (f"https://{NODE}:7443", before[2])
        assert (api.directory / "pki" / "ca.crt").read_bytes() == authority


@pytest.mark.parametrize("name", ["localhost", "kubernetes.default.svc", "10.96.0.1", "127.0.0.1"])
def test_the_certificate_names_what_clients_call_the_server(api, name):
    _, context, _ = api.credentials()
    plain = api.home.call(lambda: socket.create_connection(LOOPBACK, timeout=PATIENT))

    with context.wrap_socket(plain, server_hostname=name) as tls:
        assert tls.version() == "TLSv1.3"


def test_a_name_that_is_not_the_servers_is_refused_by_clients(api):
    _, context, _ = api.credentials()
    plain = api.home.call(lambda: socket.create_connection(LOOPBACK, timeout=PATIENT))

    with plain, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(plain, server_hostname="example.com")


def test_secrets_are_readable_by_their_owner_only(api):
    secret = [
        api.kubeconfig,
        api.directory / "admin.token",
        *(api.directory / "pki").glob("*.key"),
        *(api.directory / "pki").glob("*.pem"),
    ]

    assert len(secret) == 4
    assert [path.name for path in secret if path.stat().st_mode & 0o077] == []


BAD_FLAGS = [
    (("--listen", "nonsense"), "--listen nonsense"),
    (("--listen", "127.0.0.1:99999"), "99999"),
    (("--listen", "fd:1"), "--listen fd:1"),
    (("--listen", "192.0.2.77:6443"), "Cannot assign requested address"),
    (("--cluster-cidr", "10.244.0.0/99"), "10.244.0.0/99"),
    (("--cluster-cidr", "10.244.0.0/16,10.245.0.0/16"), "one network of each family is enough"),
    (("--service-cidr", "10.96.0.0/16,fd00::1/112"), "has host bits set"),
    (("--service-cidr", "10.244.96.0/24"), "overlaps --cluster-cidr 10.244.0.0/16"),
    (("--service-cidr", "10.96.0.0/32"), "10.96.0.0/32"),
    (("--advertise-address", "here"), "here"),
]


@pytest.mark.parametrize(("flags", "words"), BAD_FLAGS, ids=[" ".join(flags) for flags, _ in BAD_FLAGS])
def test_bad_flags_are_one_clear_line_and_a_failure(api, tmp_path, flags, words):
    argv = api.home.argv(PROGRAM, "--data-dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0", *flags)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENT)

    assert done.returncode != 0
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_second_server_on_the_same_data_is_refused(api):
    argv = api.home.argv(PROGRAM, "--data-dir", str(api.directory), "--listen", "127.0.0.1:0")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENT)

    assert done.returncode != 0
    assert "another podwire-api uses it" in done.stderr


def test_a_damaged_store_is_named_and_left_as_it_is(tmp_path):
    with api_server(tmp_path) as api:
        api.kill()
        for extra in ("store.db-wal", "store.db-shm"):
            (api.directory / extra).unlink(missing_ok=True)
        (api.directory / "store.db").write_bytes(b"\x00garbage" * 4096)
        with pytest.raises(AssertionError, match=r"store\.db is damaged"):
            api.start()

        assert (api.directory / "store.db").read_bytes() == b"\x00garbage" * 4096
