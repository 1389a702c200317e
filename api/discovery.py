"""What this server serves, in the three ways clients ask: group by group, in one document, and as OpenAPI."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from api.encoding import encode
from api.model import Object, Strategy
from kube.resources import ResourceType

_VERBS: Final = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_SUBRESOURCE_VERBS: Final = ["get", "patch", "update"]
# `kubectl get all`.
_IN_ALL: Final = frozenset({"pods", "services"})
# The level of the Kubernetes API that is spoken here; kubectl warns when it is far from its own.
_MAJOR, _MINOR = "1", "36"


def version() -> Object:
    return {
        "major": _MAJOR,
        "minor": _MINOR,
        "gitVersion": f"v{_MAJOR}.{_MINOR}.0+podwire",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux",
    }


class Discovery:
    """The documents, made once: what is served does not change while the server runs."""

    def __init__(self, strategies: Sequence[Strategy]) -> None:
        self._strategies = strategies
        self.groups = sorted({strategy.resource.group for strategy in strategies} - {""})

    def api_versions(self) -> Object:
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}

    def group_list(self) -> Object:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self._group(group) for group in self.groups]}

    def group(self, group: str) -> Object:
        return {"kind": "APIGroup", "apiVersion": "v1", **self._group(group)}

    def resource_list(self, group: str, version: str) -> Object:
        resources = [entry for strategy in self._of(group, version) for entry in _entries(strategy)]
        group_version = f"{group}/{version}" if group else version
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}

    def aggregated(self, groups: Iterable[str]) -> Object:
        """Everything about these groups in one answer (apidiscovery.k8s.io/v2)."""
        items = [{"metadata": {"name": group}, "versions": list(self._aggregated(group))} for group in groups]
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}

    def openapi_index(self) -> Object:
        """OpenAPI v3: one document a group and version, with its hash in the address so that clients cache it."""
        paths = {}
        for group, version in self.group_versions():
            digest = hashlib.sha256(encode(self.openapi(group, version))).hexdigest()[:32].upper()
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
        return {"paths": paths}

    def openapi(self, group: str, version: str) -> Object:
        """The operations of a group and version.

        kubectl reads from it that fieldValidation is the server's work, and does not validate on its own.
        """
        paths = {path: item for strategy in self._of(group, version) for path, item in _operations(strategy)}
        return {**_openapi_head(), "openapi": "3.0.0", "paths": paths, "components": {"schemas": {}}}

    def openapi_v2(self) -> Object:
        paths = {path: item for strategy in self._strategies for path, item in _operations(strategy)}
        return {**_openapi_head(), "swagger": "2.0", "paths": paths, "definitions": {}}

    def group_versions(self) -> list[tuple[str, str]]:
        return sorted({(strategy.resource.group, strategy.resource.version) for strategy in self._strategies})

    def _group(self, group: str) -> Object:
        versions = [
            {"groupVersion": f"{group}/{version}", "version": version}
            for name, version in self.group_versions()
            if name == group
        ]
        return {"name": group, "versions": versions, "preferredVersion": versions[-1]}

    def _of(self, group: str, version: str) -> Iterator[Strategy]:
        for strategy in self._strategies:
            if (strategy.resource.group, strategy.resource.version) == (group, version):
                yield strategy

    def _aggregated(self, group: str) -> Iterator[Object]:
        for name, version in self.group_versions():
            if name == group:
                resources = [_aggregated_entry(strategy) for strategy in self._of(group, version)]
                yield {"version": version, "resources": resources, "freshness": "Current"}


def _entries(strategy: Strategy) -> Iterator[Object]:
    resource = strategy.resource
    shared = {"namespaced": resource.namespaced, "kind": resource.kind}
    yield {
        **shared,
        "name": resource.plural,
        "singularName": resource.singular,
        "verbs": _VERBS,
        "shortNames": list(strategy.short_names),
        "categories": _categories(resource),
    }
    for subresource in strategy.subresources:
        name = f"{resource.plural}/{subresource}"
        yield {**shared, "name": name, "singularName": "", "verbs": _SUBRESOURCE_VERBS}


def _aggregated_entry(strategy: Strategy) -> Object:
    resource = strategy.resource
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    return {
        "resource": resource.plural,
        "responseKind": kind,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": _VERBS,
        "shortNames": list(strategy.short_names),
        "categories": _categories(resource),
        "subresources": [
            {"subresource": subresource, "responseKind": kind, "verbs": _SUBRESOURCE_VERBS}
            for subresource in strategy.subresources
        ],
    }


def _categories(resource: ResourceType) -> list[str]:
    return ["all"] if resource.plural in _IN_ALL else []


def _openapi_head() -> Object:
    return {"info": {"title": "podwire", "version": version()["gitVersion"]}}


def _operations(strategy: Strategy) -> Iterator[tuple[str, Object]]:
    resource = strategy.resource
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    collection = f"{resource.root}{scope}/{resource.plural}"
    yield collection, {"get": _operation(resource), "post": _operation(resource)}
    yield f"{collection}/{{name}}", {verb: _operation(resource) for verb in ("get", "put", "patch", "delete")}


def _operation(resource: ResourceType) -> Object:
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    parameters = [
        {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        for name in ("dryRun", "fieldManager", "fieldValidation")
    ]
    return {
        "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-group-version-kind": kind,
    }
