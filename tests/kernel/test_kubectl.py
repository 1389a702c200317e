"""The real kubectl against a real podwire-api: what people type works, and says what they expect."""

import itertools
import subprocess

import pytest

from tests.api_server import ApiServer, api_server

NUMBERS = itertools.count()
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: NAME, labels: {app: NAME}}
spec:
  selector: {app: NAME}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: dns, port: 53, protocol: UDP}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: NAME}}
spec:
  containers:
  - name: main
    image: podwire/echo
    ports: [{containerPort: 8080}]
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with api_server(tmp_path_factory.mktemp("kubectl")) as server:
        yield server


@pytest.fixture
def space(api: ApiServer):
    """A namespace for one test, as the -n flag."""
    name = f"test-{next(NUMBERS)}"
    assert api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).status == 201
    return ("-n", name)


def service(name="web"):
    return SERVICE.replace("NAME", name)


def pod(name="web"):
    return POD.replace("NAME", name)


def test_the_system_namespaces_are_there(api):
    assert {"default", "kube-system"} <= set(api.kubectl("get", "ns", "-o", "name").replace("namespace/", "").split())


def test_api_resources_are_discovered(api):
    listed = api.kubectl("api-resources", "-o", "name").split()

    assert {"namespaces", "nodes", "pods", "services", "events", "endpointslices.discovery.k8s.io"} <= set(listed)


def test_version_has_no_skew_warning(api):
    done = api.kubectl_process("version")

    assert "podwire" in done.stdout
    assert not done.stderr


def test_create_prints_and_a_second_create_fails_with_already_exists(api, space):
    assert api.kubectl(*space, "create", "-f", "-", stdin=service()) == "service/web created\n"
    assert "(AlreadyExists)" in api.kubectl(*space, "create", "-f", "-", stdin=service(), check=False)


def test_get_prints_the_columns_kubernetes_has(api, space):
    api.kubectl(*space, "create", "-f", "-", stdin=service())
    header, line = api.kubectl(*space, "get", "services").splitlines()

    assert header.split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert line.split()[0::4] == ["web", "80/TCP,53/UDP"]
    assert "SELECTOR" in api.kubectl(*space, "get", "services", "-o", "wide")


def test_get_has_every_output_format(api, space):
    api.kubectl(*space, "create", "-f", "-", stdin=service())

    assert api.get(*space, "service", "web")["spec"]["ports"][0]["targetPort"] == 8080
    assert "clusterIP: 10.96." in api.kubectl(*space, "get", "service", "web", "-o", "yaml")
    assert api.kubectl(*space, "get", "svc", "-o", "name") == "service/web\n"
    assert api.kubectl(*space, "get", "svc", "web", "-o", "jsonpath={.spec.type}") == "ClusterIP"
    assert api.kubectl(*space, "get", "svc", "-o", "custom-columns=N:.metadata.name").split() == ["N", "web"]


def test_get_selects_by_label_field_and_namespace(api, space):
    for name in ("a", "b"):
        api.kubectl(*space, "create", "-f", "-", stdin=pod(name))

    assert api.kubectl(*space, "get", "pods", "-l", "app in (a)", "-o", "name") == "pod/a\n"
    assert api.kubectl(*space, "get", "pods", "--field-selector", "metadata.name!=a", "-o", "name") == "pod/b\n"
    assert api.kubectl("get", "pods", "-A", "-l", "app=b", "--no-headers").split()[:2] == [space[1], "b"]
    assert api.kubectl(*space, "get", "all", "-o", "name").split() == ["pod/a", "pod/b"]


def test_get_of_what_is_not_there_fails_with_its_name(api, space):
    done = api.kubectl_process(*space, "get", "pod", "nobody")

    assert done.returncode == 1
    assert done.stderr == 'Error from server (NotFound): pods "nobody" not found\n'


def test_get_shows_more_than_one_page(api, space):
    many = "---".join(service(f"web-{number}") for number in range(7))
    api.kubectl(*space, "create", "-f", "-", stdin=many)

    assert len(api.kubectl(*space, "get", "svc", "--chunk-size=2", "--no-headers").splitlines()) == 7


def test_get_watch_prints_changes_as_they_come(api, space):
    argv = api.kubectl_argv(*space, "get", "pods", "-w", "--no-headers")
    with subprocess.Popen(argv, env=api.environment, stdout=subprocess.PIPE, text=True) as watch:
        try:
            api.kubectl(*space, "create", "-f", "-", stdin=pod("early"))
            assert watch.stdout.readline().split()[:3] == ["early", "0/1", "Pending"]
            api.kubectl(*space, "create", "-f", "-", stdin=pod("late"))
            while (line := watch.stdout.readline().split())[0] != "late":
                assert line[0] == "early"
        finally:
            watch.kill()


def test_get_watch_shows_a_deletion_with_its_event_type(api, space):
    api.kubectl(*space, "create", "-f", "-", stdin=service())
    argv = api.kubectl_argv(*space, "get", "services", "-w", "--output-watch-events", "--no-headers")
    with subprocess.Popen(argv, env=api.environment, stdout=subprocess.PIPE, text=True) as watch:
        try:
            assert watch.stdout.readline().split()[:2] == ["ADDED", "web"]
            api.kubectl(*space, "delete", "service", "web")
            assert watch.stdout.readline().split()[:2] == ["DELETED", "web"]
        finally:
            watch.kill()


def test_apply_creates_then_is_unchanged_then_configures(api, space):
    changed = service().replace("8080", "9090")

    assert api.kubectl(*space, "apply", "-f", "-", stdin=service()) == "service/web created\n"
    assert api.kubectl(*space, "apply", "-f", "-", stdin=service()) == "service/web unchanged\n"
    assert api.kubectl(*space, "apply", "-f", "-", stdin=changed) == "service/web configured\n"
    assert api.get(*space, "service", "web")["spec"]["ports"][0]["targetPort"] == 9090


def test_apply_removes_what_is_no_longer_in_the_file(api, space):
    api.kubectl(*space, "apply", "-f", "-", stdin=service())
    api.kubectl(*space, "apply", "-f", "-", stdin=service().replace("  - {name: dns, port: 53, protocol: UDP}\n", ""))

    assert [port["name"] for port in api.get(*space, "service", "web")["spec"]["ports"]] == ["http"]


def test_apply_keeps_the_cluster_ip(api, space):
    api.kubectl(*space, "apply", "-f", "-", stdin=service())
    before = api.get(*space, "service", "web")["spec"]["clusterIP"]
    api.kubectl(*space, "apply", "-f", "-", stdin=service().replace("port: 80,", "port: 81,"))

    assert api.get(*space, "service", "web")["spec"]["clusterIP"] == before


def test_server_side_apply_creates_and_changes(api, space):
    argv = (*space, "apply", "--server-side", "-f", "-")

    assert api.kubectl(*argv, stdin=service()) == "service/web serverside-applied\n"
    assert api.kubectl(*argv, stdin=service().replace("8080", "9090")) == "service/web serverside-applied\n"
    assert api.get(*space, "service", "web")["spec"]["ports"][0]["targetPort"] == 9090


def test_server_side_apply_by_two_managers_conflicts_until_forced(api, space):
    argv = (*space, "apply", "--server-side", "-f", "-")
    api.kubectl(*argv, stdin=service())
    other = (*argv, "--field-manager", "other")
    changed = service().replace("8080", "9090")

    assert 'conflict with "kubectl"' in api.kubectl(*other, stdin=changed, check=False)
    api.kubectl(*other, "--force-conflicts", stdin=changed)
    assert api.get(*space, "service", "web")["spec"]["ports"][0]["targetPort"] == 9090


def test_client_side_apply_can_be_taken_over_by_the_server_side(api, space):
    api.kubectl(*space, "apply", "-f", "-", stdin=service())
    api.kubectl(*space, "apply", "--server-side", "-f", "-", stdin=service().replace("8080", "9090"))

    assert api.get(*space, "service", "web")["spec"]["ports"][0]["targetPort"] == 9090


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("json", '[{"op": "replace", "path": "/spec/ports/1/port", "value": 54}]'),
        (
            "merge",
            '{"spec": {"ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 54, "protocol": "UDP"}]}}',
        ),
        ("strategic", '{"spec": {"ports": [{"port": 53, "$patch": "delete"}, {"name": "dns", "port": 54}]}}'),
    ],
)
def test_patch_of_every_type(api, space, kind, patch):
    api.kubectl(*space, "create", "-f", "-", stdin=service())
    api.kubectl(*space, "patch", "service", "web", "--type", kind, "-p", patch)

    assert [port["port"] for port in api.get(*space, "service", "web")["spec"]["ports"]] == [80, 54]


def test_edit_writes_what_the_editor_saved(api, space):
    api.kubectl(*space, "create", "-f", "-", stdin=service())
    argv = api.kubectl_argv(*space, "edit", "service", "web")
    environment = api.environment | {"KUBE_EDITOR": "sed -i s/8080/7070/"}
    subprocess.run(argv, env=environment, check=True, capture_output=True, timeout=60)

    assert api.get(*space, "service", "web")["spec"]["ports"][0]["targetPort"] == 7070


def test_replace_over_a_newer_object_is_a_conflict(api, space):
    api.kubectl(*space, "create", "-f", "-", stdin=service())
    old = api.kubectl(*space, "get", "service", "web", "-o", "yaml")

    assert api.kubectl(*space, "replace", "-f", "-", stdin=old.replace("8080", "9090")) == "service/web replaced\n"
    assert "(Conflict)" in api.kubectl(*space, "replace", "-f", "-", stdin=old.replace("8080", "7070"), check=False)


def test_label_and_annotate(api, space):
    api.kubectl(*space, "create", "-f", "-", stdin=service())
    api.kubectl(*space, "label", "service", "web", "tier=front", "app-")
    api.kubectl(*space, "annotate", "service", "web", "note=hello there")
    metadata = api.get(*space, "service", "web")["metadata"]

    assert (metadata["labels"], metadata["annotations"]) == ({"tier": "front"}, {"note": "hello there"})


def test_delete_waits_until_the_object_is_gone(api, space):
    api.kubectl(*space, "create", "-f", "-", stdin=service() + "---" + pod())
    api.kubectl(*space, "delete", "service,pod", "web", "--timeout=50s")

    assert api.kubectl(*space, "get", "services,pods", "-o", "name") == ""


def test_delete_by_label_and_delete_all(api, space):
    api.kubectl(*space, "create", "-f", "-", stdin="---".join(service(name) for name in "abc"))
    api.kubectl(*space, "delete", "services", "-l", "app=a")
    assert api.kubectl(*space, "get", "services", "-o", "name").split() == ["service/b", "service/c"]
    api.kubectl(*space, "delete", "services", "--all")
    assert api.kubectl(*space, "get", "services", "-o", "name") == ""


def test_deleting_a_namespace_takes_everything_in_it(api):
    assert api.kubectl("create", "namespace", "full") == "namespace/full created\n"
    api.kubectl("-n", "full", "create", "-f", "-", stdin=service() + "---" + pod())
    api.kubectl("delete", "namespace", "full", "--timeout=50s")

    assert "(NotFound)" in api.kubectl("get", "namespace", "full", check=False)
    assert api.kubectl("-n", "full", "get", "services,pods", "-o", "name") == ""


def test_describe_a_service_and_a_pod(api, space):
    api.kubectl(*space, "create", "-f", "-", stdin=service() + "---" + pod())

    assert "TargetPort:               8080/TCP" in api.kubectl(*space, "describe", "service", "web")
    assert "Image:        podwire/echo" in api.kubectl(*space, "describe", "pod", "web")


def test_create_service_and_run_need_no_file(api, space):
    api.kubectl(*space, "create", "service", "clusterip", "plain", "--tcp=80:8080")
    api.kubectl(*space, "run", "echo", "--image=podwire/echo", "--port=8080")
    api.kubectl(*space, "expose", "pod", "echo", "--port=80")

    assert api.kubectl(*space, "get", "svc", "-o", "name").split() == ["service/echo", "service/plain"]


def test_dry_run_on_the_server_changes_nothing(api, space):
    assert "dry run" in api.kubectl(*space, "apply", "--dry-run=server", "-f", "-", stdin=service())
    assert api.kubectl(*space, "get", "services", "-o", "name") == ""


def test_diff_shows_what_apply_would_change(api, space):
    api.kubectl(*space, "apply", "-f", "-", stdin=service())
    shown = api.kubectl(*space, "diff", "-f", "-", stdin=service().replace("8080", "9090"), check=False)

    assert "-    targetPort: 8080" in shown
    assert "+    targetPort: 9090" in shown


def test_wait_returns_when_the_condition_holds(api, space):
    api.kubectl(*space, "create", "-f", "-", stdin=pod())

    api.kubectl(*space, "wait", "pod/web", "--for=jsonpath={.status.phase}=Pending", "--timeout=50s")


def test_a_port_out_of_range_names_field_and_value(api, space):
    refused = api.kubectl(
        *space, "create", "-f", "-", stdin=service().replace("port: 80,", "port: 80000,"), check=False
    )

    assert 'The Service "web" is invalid: spec.ports[0].port: Invalid value: 80000' in refused


def test_a_misspelt_field_is_named(api, space):
    refused = api.kubectl(*space, "apply", "-f", "-", stdin=service().replace("targetPort", "targetport"), check=False)

    assert 'strict decoding error: unknown field "spec.ports[0].targetport"' in refused
    assert api.kubectl(*space, "get", "services", "-o", "name") == ""


def test_a_cluster_ip_that_is_taken_is_refused(api, space):
    clash = service().replace("spec:", "spec:\n  clusterIP: 10.96.0.1")

    assert "10.96.0.1" in api.kubectl(*space, "create", "-f", "-", stdin=clash, check=False)
    assert api.kubectl(*space, "get", "services", "-o", "name") == ""


def test_a_wrong_token_is_told_so(api):
    refused = api.kubectl("--token=wrong", "get", "pods", check=False)

    assert "Unauthorized" in refused


def test_a_list_of_objects_is_applied_and_its_mistakes_are_named(api, space):
    def items(*documents: str) -> str:
        indented = "".join("- " + document.strip().replace("\n", "\n  ") + "\n" for document in documents)
        return f"apiVersion: v1\nkind: List\nitems:\n{indented}"

    listed = items(service("one"), service("two"))
    assert "service/two created" in api.kubectl("apply", *space, "-f", "-", stdin=listed)
    assert "service/one unchanged" in api.kubectl("apply", *space, "-f", "-", stdin=listed)
    refused = api.kubectl(
        "apply", *space, "-f", "-", stdin=items(service("three").replace("selector:", "selektor:")), check=False
    )
    assert "selektor" in refused
