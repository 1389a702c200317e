"""Every way to prove to an API server who the proxy is, and that with each it asks for no more than its role allows.

The server speaks TLS with an authority of the test's own; the requests it saw are held against deploy/proxy-rbac.yaml.
"""

import base64
import json
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.test_proxy_deploy import permissions, request
from tests.kube_server import KubeServer, service
from tests.namespaces import Namespace
from tests.unit.test_kube_http import Authority
from tests.waiting import PATIENCE, eventually

ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def node(make_namespace) -> Namespace:
    return make_namespace("node")


@pytest.fixture
def server(node, authority, tmp_path) -> Iterator[KubeServer]:
    (tmp_path / "server.pem").write_bytes(b"".join(authority.issue("server")))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.pem.decode())
    context.load_cert_chain(tmp_path / "server.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    made = node.call(lambda: KubeServer(context))
    made.put(service("good", clusterIP="10.96.0.10", ports=[{"port": 80}]))
    yield made
    made.stop()


def kubeconfig(directory: Path, server: KubeServer, authority: Authority, user: dict) -> list[str]:
    path = directory / "kubeconfig"
    cluster = {"server": server.url, "certificate-authority-data": base64.b64encode(authority.pem).decode()}
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": cluster}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "users": [{"name": "u", "user": user}],
                "current-context": "c",
            }
        )
    )
    return [sys.executable, "-m", "proxy", f"--kubeconfig={path}"]


def token(directory, server, authority) -> list[str]:
    return kubeconfig(directory, server, authority, {"token": "let-me-in"})


def token_file(directory, server, authority) -> list[str]:
    (directory / "token").write_text("let-me-in\n")
    return kubeconfig(directory, server, authority, {"tokenFile": str(directory / "token")})


def client_certificate(directory, server, authority) -> list[str]:
    certificate, key = (base64.b64encode(pem).decode() for pem in authority.issue("system:podwire-proxy"))
    user = {"client-certificate-data": certificate, "client-key-data": key}
    return kubeconfig(directory, server, authority, user)


def service_account(directory, server, authority) -> list[str]:
    """In a mount namespace in which the account's files are where the kubelet puts them."""
    (directory / "token").write_text("let-me-in")
    (directory / "ca.crt").write_bytes(authority.pem)
    files = f"mount -t tmpfs none /run && mkdir -p {ACCOUNT} && cp {directory}/token {directory}/ca.crt {ACCOUNT}/"
    address = f"KUBERNETES_SERVICE_HOST=127.0.0.1 KUBERNETES_SERVICE_PORT={server.url.rpartition(':')[2]}"
    return ["unshare", "--mount", "sh", "-c", f"{files} && {address} exec {sys.executable} -m proxy"]


@pytest.mark.parametrize("identity", [token, token_file, client_certificate, service_account])
def test_the_proxy_serves_with_this_identity_and_asks_for_no_more_than_its_role_allows(
    identity, node, server, authority, tmp_path
):
    argv = identity(tmp_path, server, authority)
    with (tmp_path / "log").open("wb") as log:
        process = node.start(*argv, stderr=log)
    try:
        eventually(lambda: "default/good" in node.run("nft", "list", "ruleset"), every=0.2)
        eventually(lambda: any(method == "POST" for method, *_ in list(server.requests)))
    finally:
        process.terminate()
        process.wait(30 * PATIENCE)
    seen = list(server.requests)

    assert {request(method, path, query) for method, path, query, *_ in seen} - permissions() == set()
    if identity is client_certificate:
        assert {peer["subject"] for peer in server.peers} == {((("commonName", "system:podwire-proxy"),),)}
    else:
        assert {headers.get("Authorization") for _, _, _, headers, _ in seen} == {"Bearer let-me-in"}
