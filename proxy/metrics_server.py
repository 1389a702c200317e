"""What the metrics address serves, on the paths kube-proxy serves it: figures, mode and configuration."""

from http import HTTPStatus

import msgspec

from proxy.configuration import KubeProxyConfiguration, to_builtins
from proxy.http_server import JSON, NOT_FOUND, Answer
from proxy.metrics import CONTENT_TYPE, Metrics


class MetricsPages:
    """/metrics, /proxyMode, /configz and /healthz."""

    def __init__(self, metrics: Metrics, configuration: KubeProxyConfiguration) -> None:
        self._metrics = metrics
        self._configuration = msgspec.json.encode({"kubeproxy.config.k8s.io": to_builtins(configuration)})

    def __call__(self, path: str) -> Answer:
        match path:
            case "/metrics":
                return Answer(HTTPStatus.OK, self._metrics.expose(), CONTENT_TYPE)
            case "/proxyMode":
                return Answer(HTTPStatus.OK, b"nftables")
            case "/configz":
                return Answer(HTTPStatus.OK, self._configuration, JSON)
            case "/healthz":
                return Answer(HTTPStatus.OK, b"ok")
        return NOT_FOUND
