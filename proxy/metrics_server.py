"""What the metrics address serves, on the paths kube-proxy serves it: figures, mode and configuration."""

from http import HTTPStatus

from proxy.http_server import NOT_FOUND, Answer
from proxy.metrics import CONTENT_TYPE, Metrics


class MetricsPages:
    """/metrics, /proxyMode and /healthz."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, path: str) -> Answer:
        match path:
            case "/metrics":
                return Answer(HTTPStatus.OK, self._metrics.expose(), CONTENT_TYPE)
            case "/proxyMode":
                return Answer(HTTPStatus.OK, b"nftables")
            case "/healthz":
                return Answer(HTTPStatus.OK, b"ok")
        return NOT_FOUND
