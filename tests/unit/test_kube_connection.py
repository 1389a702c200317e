import base64

import pytest

from kube.connection import Connection, ConnectionConfigError, from_kubeconfig, in_cluster

SERVER = "https://192.0.2.1:6443"
CA = b"-----BEGIN CERTIFICATE-----\nca\n-----END CERTIFICATE-----\n"
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nclient\n-----END CERTIFICATE-----\n"
KEY = b"-----BEGIN PRIVATE KEY-----\nhush-key\n-----END PRIVATE KEY-----\n"
TOKEN = "hush-token"


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def kubeconfig(cluster: str = f"server: {SERVER}", user: str = f"token: {TOKEN}", current: str = "lab") -> str:
    return f"""
apiVersion: v1
kind: Config
current-context: "{current}"
preferences: {{}}
contexts:
- name: lab
  context: {{cluster: lab, user: admin, namespace: default}}
- name: other
  context: {{cluster: other}}
- name: dangling
  context: {{cluster: nowhere, user: admin}}
clusters:
- name: lab
  cluster: {{{cluster}}}
- name: other
  cluster: {{server: "http://192.0.2.2:8080/prefix/"}}
users:
- name: admin
  user: {{{user}}}
"""


@pytest.fixture
def write(tmp_path):
    def write(content: str):
        path = tmp_path / "kubeconfig"
        path.write_text(content)
        return path

    return write


def test_the_current_context_chooses_cluster_and_user(write):
    connection = from_kubeconfig(write(kubeconfig()))
    assert (connection.server, connection.token) == (SERVER, TOKEN)


def test_another_context_can_be_chosen(write):
    connection = from_kubeconfig(write(kubeconfig()), "other")
    assert (connection.server, connection.token) == ("http://192.0.2.2:8080/prefix", None)


def test_inline_certificates(write):
    connection = from_kubeconfig(
        write(
            kubeconfig(
                f'server: "{SERVER}", certificate-authority-data: {encoded(CA)}',
                f"client-certificate-data: {encoded(CERTIFICATE)}, client-key-data: {encoded(KEY)}",
            )
        )
    )
    assert (connection.ca, connection.client_certificate, connection.client_key) == (CA, CERTIFICATE, KEY)


def test_files_are_found_beside_the_kubeconfig(write, tmp_path):
    (tmp_path / "pki").mkdir()
    for name, content in (("ca.crt", CA), ("admin.crt", CERTIFICATE), ("admin.key", KEY), ("token", b"t")):
        (tmp_path / "pki" / name).write_bytes(content)
    connection = from_kubeconfig(
        write(
            kubeconfig(
                f'server: "{SERVER}", certificate-authority: pki/ca.crt',
                "client-certificate: pki/admin.crt, client-key: pki/admin.key, tokenFile: pki/token",
            )
        )
    )
    assert (connection.ca, connection.client_certificate, connection.client_key) == (CA, CERTIFICATE, KEY)
    assert connection.token_file == tmp_path / "pki/token"


def test_a_token_file_goes_before_a_token_and_need_not_be_there_yet(write, tmp_path):
    connection = from_kubeconfig(write(kubeconfig(user=f"token: {TOKEN}, tokenFile: renewed")))
    assert (connection.token, connection.token_file) == (TOKEN, tmp_path / "renewed")


def test_a_token_file_that_cannot_be_read_is_named_instead_of_going_without(write, tmp_path):
    with pytest.raises(
        ConnectionConfigError, match=rf"users\[admin\]\.user\.tokenFile: {tmp_path}/absent cannot be read"
    ):
        from_kubeconfig(write(kubeconfig(user="tokenFile: absent")))


def test_server_name_and_insecure(write):
    cluster = f'server: "{SERVER}", tls-server-name: kubernetes, insecure-skip-tls-verify: true'
    connection = from_kubeconfig(write(kubeconfig(cluster)))
    assert (connection.server_name, connection.insecure) == ("kubernetes", True)


def test_no_secret_in_a_repr():
    connection = Connection(server=SERVER, ca=CA, token=TOKEN, client_certificate=CERTIFICATE, client_key=KEY)
    assert "hush" not in repr(connection)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (kubeconfig(current=""), "current-context: not set"),
        (kubeconfig(current="nope"), "contexts: no entry named 'nope'; there are: lab, other, dangling"),
        (kubeconfig(current="dangling"), "clusters: no entry named 'nowhere'"),
        (kubeconfig("insecure-skip-tls-verify: true"), "clusters[lab].cluster.server: '' is not a URL"),
        (kubeconfig('server: "192.0.2.1:6443"'), "clusters[lab].cluster.server: '192.0.2.1:6443' is not a URL"),
        (kubeconfig('server: "https://a:99999"'), "clusters[lab].cluster.server"),
        (kubeconfig('server: "https://u:p@192.0.2.1"'), "clusters[lab].cluster.server: must not carry"),
        (kubeconfig(f'server: "{SERVER}", proxy-url: "http://192.0.2.9"'), "proxy-url: not supported"),
        (kubeconfig(f'server: "{SERVER}", certificate-authority: gone.crt'), "gone.crt cannot be read"),
        (kubeconfig(f'server: "{SERVER}", certificate-authority-data: "%%"'), "certificate-authority-data"),
        (kubeconfig(user="exec: {command: aws}"), "users[admin].user.exec: not supported"),
        (kubeconfig(user="auth-provider: {name: gcp}"), "users[admin].user.auth-provider: not supported"),
        (kubeconfig(user="username: admin, password: x"), "users[admin].user.username: not supported"),
        (kubeconfig(user=f"client-certificate-data: {encoded(CERTIFICATE)}"), "users[admin].user.client-key: missing"),
        (kubeconfig(user='token: "two\\nlines"'), "users[admin].user.token"),
        (kubeconfig(user="token: 7"), "$.users[0].user.token"),
        ("clusters: 7", "kubeconfig: Expected"),
        ("a: [", "kubeconfig: is not YAML"),
        ("", "kubeconfig: "),
    ],
)
def test_a_bad_kubeconfig_is_refused_by_file_and_field(write, content, named):
    path = write(content)
    with pytest.raises(ConnectionConfigError) as error:
        from_kubeconfig(path)
    assert str(error.value).startswith(f"{path}: ")
    assert named in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        kubeconfig(user=f"token: {TOKEN}, client-key-data: {encoded(KEY)}"),
        kubeconfig(user=f"token: {TOKEN}, exec: {{command: hush-helper}}"),
        kubeconfig(user=f"token: {TOKEN}, username: 7"),
        kubeconfig(user=f"token: {TOKEN}, ["),
        kubeconfig(user='token: "hush\\u0007"'),
    ],
)
def test_no_secret_in_an_error(write, content):
    with pytest.raises(ConnectionConfigError) as error:
        from_kubeconfig(write(content))
    assert "hush" not in str(error.value)


def test_a_missing_kubeconfig_is_named(tmp_path):
    with pytest.raises(ConnectionConfigError, match="missing: kubeconfig: cannot be read: No such file"):
        from_kubeconfig(tmp_path / "missing")


# --- service account


@pytest.fixture
def account(tmp_path):
    (tmp_path / "ca.crt").write_bytes(CA)
    (tmp_path / "token").write_text(TOKEN)
    return tmp_path


@pytest.mark.parametrize(
    ("host", "server"), [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
def test_a_pod_finds_the_api_by_its_environment(account, host, server):
    connection = in_cluster({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}, account)
    assert (connection.server, connection.ca, connection.token_file) == (server, CA, account / "token")


def test_outside_a_pod_there_is_no_service_account(account):
    with pytest.raises(ConnectionConfigError, match="give a kubeconfig"):
        in_cluster({}, account)


@pytest.mark.parametrize("name", ["token", "ca.crt"])
def test_a_missing_file_of_the_service_account_is_named(account, name):
    (account / name).unlink()
    with pytest.raises(ConnectionConfigError, match=name):
        in_cluster({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}, account)
