"""What podwire-node says of a kubeconfig it cannot use."""

import base64

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
    assert refused.output == "Error: certificate-authority: is not PEM: SSLError\n"
