"""What podwire-node says of a kubeconfig it cannot use."""

import base64

import pytest
from click.testing import CliRunner

from node.__main__ import main

KUBECONFIG = """
apiVersion: v1
current-context: c
clusters: [{{name: c, cluster: {{server: "https://192.0.2.1:6443", certificate-authority-data: {authority}}}}}]
contexts: [{{name: c, context: {{cluster: c}}}}]
"""


def test_an_authority_that_is_no_certificate_is_one_clear_line(tmp_path):
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG.format(authority=base64.b64encode(b"no certificate").decode()))

    refused = CliRunner().invoke(main, ["--kubeconfig", str(path), "--node-name", "n1"])

    assert refused.exit_code == 1
    assert refused.output == f"Error: {path}: certificate-authority: is not PEM: SSLError\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("192.0.2.1,192.0.2.2", "one address of each family is enough"),
        ("192.0.2.1,::1", "other nodes cannot reach this one by it"),
        ("fe80::1", "other nodes cannot reach this one by it"),
        ("192.0.2.1,", "is not an IP address"),
    ],
)
def test_node_ips_that_cannot_be_used_are_refused(given, said):
    refused = CliRunner().invoke(main, ["--node-ip", given, "--node-name", "n1"])
    assert refused.exit_code == 2
    assert said in refused.output
