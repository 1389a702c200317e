"""The Flask application: paths, authentication, and every error as a Kubernetes Status."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from api import discovery, negotiation
from api.auth import Authenticator
from api.encoding import encode
from api.model import Object, Strategy
from api.negotiation import Shape
from api.protobuf import openapi
from api.registry import Registry
from api.store.store import StoreDamaged, StoreUnavailable
from api.views import Views, json_response
from kube import errors

log = structlog.get_logger(__name__)

# kube-apiserver's limit for a request's body.
MAX_BODY: Final = 3 * 1024 * 1024
_OPEN_PATHS: Final = frozenset({"/healthz", "/livez", "/readyz", "/version"})
_AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def create_app(
    registry: Registry, authenticator: Authenticator, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Flask:
    """Everything the server answers, over one registry."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.before_request(functools.partial(_authenticate, authenticator))
    _add_errors(app)
    _add_health(app, registry)
    _add_discovery(app, discovery.Discovery(registry.strategies))
    for strategy in registry.strategies:
        _add_kind(app, strategy, Views(registry, strategy.resource, now))
    return app


def _authenticate(authenticator: Authenticator) -> None:
    if request.path not in _OPEN_PATHS:
        authenticator.check(request.headers.get("Authorization"))


def _add_kind(app: Flask, strategy: Strategy, views: Views) -> None:
    """The paths of one kind."""
    resource = strategy.resource
    scope = "/namespaces/<namespace>" if resource.namespaced else ""
    many = f"{resource.root}{scope}/{resource.plural}"
    one = f"{many}/<name>"
    add = functools.partial(_add, app, resource.plural)
    if resource.namespaced:
        add("GET", f"{resource.root}/{resource.plural}", views.list_or_watch, "all")
    add("GET", many, views.list_or_watch)
    add("POST", many, views.create)
    add("DELETE", many, views.delete_all)
    add("GET", one, views.get)
    add("PUT", one, views.replace)
    add("PATCH", one, views.patch)
    add("DELETE", one, views.delete)
    for subresource in strategy.subresources:
        path = f"{one}/{subresource}"
        add("GET", path, views.get, subresource)
        add("PUT", path, functools.partial(views.replace, subresource=subresource), subresource)
        add("PATCH", path, functools.partial(views.patch, subresource=subresource), subresource)


def _add(app: Flask, plural: str, method: str, path: str, view: Callable[..., Response], of: str = "") -> None:
    endpoint = f"{plural}-{method}-{path.replace('.', '-')}-{of}"
    app.add_url_rule(path, endpoint, view, methods=[method], provide_automatic_options=False)


def _add_health(app: Flask, registry: Registry) -> None:
    def alive() -> Response:
        return Response("ok", content_type="text/plain")

    def ready() -> Response:
        if registry.is_closed:
            raise errors.ServiceUnavailable("the server is stopping")
        return alive()

    app.add_url_rule("/livez", "livez", alive)
    app.add_url_rule("/healthz", "healthz", ready)
    app.add_url_rule("/readyz", "readyz", ready)


def _add_discovery(app: Flask, documents: discovery.Discovery) -> None:
    add = app.add_url_rule
    add("/version", "version", lambda: _document(discovery.version()))
    add("/api", "api", lambda: _either(documents.api_versions, lambda: documents.aggregated([""])))
    add("/apis", "apis", lambda: _either(documents.group_list, lambda: documents.aggregated(documents.groups)))
    add("/openapi/v2", "openapi-v2", lambda: _openapi_v2(documents))
    add("/openapi/v3", "openapi-v3", lambda: _document(documents.openapi_index()))
    for group in documents.groups:
        add(f"/apis/{group}", f"group-{group.replace('.', '-')}", functools.partial(_serve, documents.group, group))
    for group, version in documents.group_versions():
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        name = path.replace(".", "-")
        add(f"/{path}", f"resources-{name}", functools.partial(_serve, documents.resource_list, group, version))
        add(f"/openapi/v3/{path}", f"openapi-{name}", functools.partial(_serve, documents.openapi, group, version))


def _serve(make: Callable[..., Object], *arguments: str) -> Response:
    return _document(make(*arguments))


def _document(document: Object) -> Response:
    negotiation.accepted(request.headers.get("Accept"))
    return json_response(encode(document))


def _openapi_v2(documents: discovery.Discovery) -> Response:
    if openapi.ASKED_FOR in request.headers.get("Accept", ""):
        version = discovery.version()["gitVersion"]
        return Response(openapi.document("podwire", version), content_type=openapi.CONTENT_TYPE)
    return _document(documents.openapi_v2())


def _either(plain: Callable[[], Object], aggregated: Callable[[], Object]) -> Response:
    if negotiation.accepted(request.headers.get("Accept"), Shape.DISCOVERY) is Shape.DISCOVERY:
        return json_response(encode(aggregated()), content_type=_AGGREGATED)
    return json_response(encode(plain()))


def _add_errors(app: Flask) -> None:
    app.register_error_handler(errors.ApiError, _status)
    app.register_error_handler(HTTPException, lambda error: _status(_from_http(error)))
    app.register_error_handler(StoreUnavailable, lambda error: _status(_from_store(error)))
    app.register_error_handler(Exception, lambda error: _status(_from_bug(error)))


def _status(error: errors.ApiError) -> Response:
    if error.code >= 500:
        log.warning("failed", method=request.method, path=request.path, code=error.code, reason=error.message)
    response = json_response(encode(errors.to_status(error)), error.code)
    if isinstance(error, errors.Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="podwire"'
    return response


def _from_http(error: HTTPException) -> errors.ApiError:
    """What Flask refused on its own."""
    match error.code:
        case 404:
            details = errors.Details()
            return errors.NotFound("the server could not find the requested resource", details=details)
        case 405:
            message = f"the server does not allow {request.method} on {request.path}"
            return errors.MethodNotAllowed(message)
        case 413:
            return errors.TooLarge(f"limit is {MAX_BODY} bytes")
    return errors.BadRequest(error.description or "bad request", code=error.code or 400)


def _from_store(error: StoreUnavailable) -> errors.ApiError:
    kind: type[errors.ApiError] = errors.InternalError if isinstance(error, StoreDamaged) else errors.ServiceUnavailable
    return kind(str(error))


def _from_bug(error: Exception) -> errors.ApiError:
    log.error("bug", method=request.method, path=request.path, exc_info=error)
    return errors.InternalError(f"internal error: {type(error).__name__}; see the server's log")
