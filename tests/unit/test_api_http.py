"""The API over HTTP: paths, answers, errors as Status, tables, paging, discovery."""

import json

import pytest

from api import http
from api.auth import Authenticator
from tests import widgets
from tests.widgets import WIDGETS, widget

ALL = "/apis/test.podwire/v1/widgets"
HOME = "/apis/test.podwire/v1/namespaces/home/widgets"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
JSON = "application/json"


class Client:
    """Talks to the application as a client would, without a network."""

    def __init__(self):
        self.registry = widgets.registry()
        self._flask = http.create_app(self.registry, Authenticator("secret")).test_client()

    def __call__(self, method, path, body=None, **headers):
        """The answer's code and body; a body that is not bytes is sent as JSON."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Authorization": "Bearer secret"} | {key.replace("_", "-"): value for key, value in headers.items()}
        if content is not None:
            sent.setdefault("Content-Type", JSON)
        answer = self._flask.open(path, method=method, data=content, headers=sent)
        answered = answer.get_data()
        return answer.status_code, json.loads(answered) if answer.mimetype == JSON else answered

    def lines(self, path):
        """The events of a watch that ends by itself."""
        answer = self._flask.get(path, headers={"Authorization": "Bearer secret"})
        return [json.loads(line) for line in answer.get_data().splitlines()]

    def fill(self, count):
        for number in range(count):
            self.registry.create(WIDGETS, "home", widget(f"w{number:03}", colour="red" if number % 2 else "blue"))


@pytest.fixture
def client():
    return Client()


def names(answer):
    return [item["metadata"]["name"] for item in answer["items"]]


def test_the_whole_life_of_an_object(client):
    code, made = client("POST", HOME, widget("a"))
    assert (code, made["kind"], made["spec"]["seat"]) == (201, "Widget", 0)
    assert client("GET", f"{HOME}/a") == (200, made)
    code, replaced = client("PUT", f"{HOME}/a", made | {"spec": {"colour": "red", "seat": 0}})
    assert (code, replaced["spec"]["colour"]) == (200, "red")
    code, patched = client(
        "PATCH", f"{HOME}/a", {"spec": {"colour": "blue"}}, Content_Type="application/merge-patch+json"
    )
    assert (code, patched["spec"]["colour"]) == (200, "blue")
    code, gone = client("DELETE", f"{HOME}/a")
    assert (code, gone["kind"], gone["status"], gone["details"]["uid"]) == (
        200,
        "Status",
        "Success",
        made["metadata"]["uid"],
    )
    assert client("GET", f"{HOME}/a")[0] == 404


ERRORS = [
    ("no such path", "GET", "/apis/nothing", None, {}, 404, "NotFound"),
    ("no such kind", "GET", "/api/v1/gizmos", None, {}, 404, "NotFound"),
    ("no such object", "GET", f"{HOME}/x", None, {}, 404, "NotFound"),
    ("a verb a path does not have", "PATCH", HOME, {}, {}, 405, "MethodNotAllowed"),
    ("POST to all namespaces", "POST", ALL, {}, {}, 405, "MethodNotAllowed"),
    ("malformed JSON", "POST", HOME, b'{"metadata": ', {}, 400, "BadRequest"),
    ("empty body", "POST", HOME, b"", {}, 400, "BadRequest"),
    ("another kind", "POST", HOME, {"kind": "Pod", "apiVersion": "v1"}, {}, 400, "BadRequest"),
    ("another name", "PUT", f"{HOME}/there", widget("other"), {}, 400, "BadRequest"),
    ("invalid field", "POST", HOME, widget("x", colour=""), {}, 422, "Invalid"),
    ("taken name", "POST", HOME, widget("there"), {}, 409, "AlreadyExists"),
    ("old version", "PUT", f"{HOME}/there", {"metadata": {"resourceVersion": "1"}}, {}, 409, "Conflict"),
    ("YAML", "POST", HOME, b"kind: Widget", {"Content_Type": "application/yaml"}, 415, "UnsupportedMediaType"),
    ("JSON as a patch", "PATCH", f"{HOME}/there", {}, {}, 415, "UnsupportedMediaType"),
    ("only protobuf back", "GET", HOME, None, {"Accept": "application/vnd.kubernetes.protobuf"}, 406, "NotAcceptable"),
    ("bad limit", "GET", f"{HOME}?limit=many", None, {}, 400, "BadRequest"),
    ("bad continue", "GET", f"{HOME}?continue=nonsense", None, {}, 400, "BadRequest"),
    ("bad version", "GET", f"{HOME}?watch=1&resourceVersion=x", None, {}, 400, "BadRequest"),
    ("bad selector", "GET", f"{HOME}?labelSelector=a%20in", None, {}, 400, "BadRequest"),
    ("unknown field", "GET", f"{HOME}?fieldSelector=spec.weight=1", None, {}, 400, "BadRequest"),
    ("bad dry run", "POST", f"{HOME}?dryRun=Some", widget("x"), {}, 400, "BadRequest"),
    ("version from the future", "GET", f"{HOME}?watch=1&resourceVersion=99999", None, {}, 410, "Expired"),
    ("negative grace", "DELETE", f"{HOME}/there", {"gracePeriodSeconds": -1}, {}, 422, "Invalid"),
    (
        "apply without manager",
        "PATCH",
        f"{HOME}/there",
        {},
        {"Content_Type": "application/apply-patch+yaml"},
        400,
        "BadRequest",
    ),
    ("too large", "POST", HOME, b" " * (3 * 1024 * 1024 + 1), {}, 413, "RequestEntityTooLarge"),
    ("no token", "GET", HOME, None, {"Authorization": ""}, 401, "Unauthorized"),
    ("wrong token", "GET", HOME, None, {"Authorization": "Bearer secres"}, 401, "Unauthorized"),
    ("basic authentication", "GET", HOME, None, {"Authorization": "Basic secret"}, 401, "Unauthorized"),
    ("unreadable token", "GET", HOME, None, {"Authorization": "Bearer \xff\xfe"}, 401, "Unauthorized"),
    (
        "a path that needs a token even to be absent",
        "GET",
        "/nothing",
        None,
        {"Authorization": ""},
        401,
        "Unauthorized",
    ),
]


@pytest.mark.parametrize("row", ERRORS, ids=[row[0] for row in ERRORS])
def test_every_error_is_a_status(client, row):
    _, method, path, body, headers, code, reason = row
    client.registry.create(WIDGETS, "home", widget("there"))
    answered, status = client(method, path, body, **headers)

    assert (answered, status["kind"], status["code"], status["reason"]) == (code, "Status", code, reason)
    assert status["status"] == "Failure"
    assert status["message"]


def test_a_bug_is_a_status_too(client):
    client.registry.find = None
    code, status = client("GET", f"{HOME}/a")

    assert (code, status["reason"]) == (500, "InternalError")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_health_needs_no_token(client, path):
    assert client("GET", path, Authorization="") == (200, b"ok")


def test_a_stopping_server_is_alive_but_not_ready(client):
    client.registry.close()

    assert client("GET", "/readyz")[0] == 503
    assert client("GET", "/livez")[0] == 200


def test_a_list_names_its_kind_and_revision(client):
    client.fill(2)
    code, answer = client("GET", ALL)

    assert (code, answer["kind"], answer["apiVersion"]) == (200, "WidgetList", "test.podwire/v1")
    assert answer["metadata"] == {"resourceVersion": str(client.registry.hub.revision)}
    assert answer["items"] == client.registry.list(WIDGETS)


def test_an_empty_list_is_a_list(client):
    assert client("GET", HOME)[1]["items"] == []


def test_pages_show_one_revision_whatever_happens_between_them(client):
    client.fill(7)
    _, first = client("GET", f"{HOME}?limit=3")
    client.registry.delete(WIDGETS, "home", "w005")
    client.registry.create(WIDGETS, "home", widget("w0001"))
    _, second = client("GET", f"{HOME}?limit=3&continue={first['metadata']['continue']}")
    _, third = client("GET", f"{HOME}?limit=3&continue={second['metadata']['continue']}")

    assert names(first) + names(second) + names(third) == [f"w{number:03}" for number in range(7)]
    assert [page["metadata"].get("remainingItemCount") for page in (first, second, third)] == [4, 1, None]
    assert len({page["metadata"]["resourceVersion"] for page in (first, second, third)}) == 1


def test_pages_count_only_what_is_selected(client):
    client.fill(10)
    _, page = client("GET", f"{HOME}?limit=2&fieldSelector=spec.colour%3Dred")

    assert names(page) == ["w001", "w003"]
    assert "remainingItemCount" not in page["metadata"]


def test_deleting_a_collection_deletes_what_its_list_shows(client):
    client.fill(6)
    client("DELETE", f"{HOME}?fieldSelector=spec.colour%3Dred")

    assert names(client("GET", HOME)[1]) == ["w000", "w002", "w004"]


def test_a_table_has_the_columns_of_the_kind(client):
    client.fill(1)
    _, table = client("GET", HOME, Accept=TABLE)

    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [(column["name"], column["format"], column["priority"]) for column in table["columnDefinitions"]] == [
        ("Name", "name", 0),
        ("Colour", "", 0),
        ("Seat", "", 1),
    ]
    assert table["rows"][0]["cells"] == ["w000", "blue", 0]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


def test_the_first_shape_we_know_is_served(client):
    client.fill(1)
    newer = "application/json;as=Table;v=v9;g=meta.k8s.io"

    assert client("GET", HOME, Accept=f"{newer},{TABLE}")[1]["kind"] == "Table"
    assert client("GET", HOME, Accept=f"{newer},application/json")[1]["kind"] == "WidgetList"
    assert client("GET", HOME, Accept="application/vnd.kubernetes.protobuf, */*;q=0.1")[1]["kind"] == "WidgetList"


def test_metadata_alone_can_be_asked_for(client):
    client.fill(1)
    _, answer = client("GET", HOME, Accept="application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")

    assert answer["kind"] == "PartialObjectMetadataList"
    assert set(answer["items"][0]) == {"kind", "apiVersion", "metadata"}


@pytest.mark.parametrize(
    ("query", "types"),
    [
        ("", ["ADDED"]),
        ("&resourceVersion=0", ["ADDED"]),
        (
            "&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan",
            ["ADDED", "BOOKMARK", "BOOKMARK"],
        ),
        ("&sendInitialEvents=false&resourceVersionMatch=NotOlderThan", []),
    ],
    ids=["any version", "version 0", "with initial events", "without initial events"],
)
def test_a_watch_begins_as_it_is_asked_to(client, query, types):
    client.fill(1)
    lines = client.lines(f"{HOME}?watch=true&timeoutSeconds=1{query}")

    assert [line["type"] for line in lines] == types


def test_discovery_lists_kinds_with_verbs_short_names_and_subresources(client):
    _, listed = client("GET", "/apis/test.podwire/v1")
    by_name = {resource["name"]: resource for resource in listed["resources"]}

    assert set(by_name) == {"widgets", "widgets/status"}
    assert by_name["widgets"]["shortNames"] == ["wd"]
    assert {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"} == set(
        by_name["widgets"]["verbs"]
    )


def test_aggregated_discovery_says_the_same(client):
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    _, answer = client("GET", "/apis", Accept=accept)
    (group,) = answer["items"]

    assert group["metadata"]["name"] == "test.podwire"
    assert [resource["resource"] for resource in group["versions"][0]["resources"]] == ["widgets"]
    assert client("GET", "/apis")[1]["kind"] == "APIGroupList"


def test_openapi_says_that_fields_are_validated_here(client):
    _, index = client("GET", "/openapi/v3")
    url = index["paths"]["apis/test.podwire/v1"]["serverRelativeURL"]
    _, document = client("GET", url)
    patch = document["paths"]["/apis/test.podwire/v1/namespaces/{namespace}/widgets/{name}"]["patch"]

    assert patch["x-kubernetes-group-version-kind"]["kind"] == "Widget"
    assert "fieldValidation" in {parameter["name"] for parameter in patch["parameters"]}
