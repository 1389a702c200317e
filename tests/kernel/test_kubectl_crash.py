"""podwire-api killed while it works, and written to from everywhere at once."""

import threading

from tests.api_server import ApiServer, api_server
from tests.waiting import eventually

WRITERS = 8
SERVICES = "/api/v1/namespaces/default/services"
NAMESPACES = "/api/v1/namespaces"


def service(name: str) -> dict:
    return {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}}


class Writer(threading.Thread):
    """Creates Services until the server is gone; remembers which ones it was told are there."""

    def __init__(self, api: ApiServer, label: str):
        super().__init__()
        self._api, self._label = api, label
        self.acknowledged: list[tuple[str, str]] = []

    def run(self) -> None:
        number = 0
        while True:
            number += 1
            try:
                answer = self._api.request("POST", SERVICES, service(f"{self._label}-{number}"), retries=False)
                made = answer.json()
            except Exception:  # noqa: BLE001 - however the server's death shows, the story ends here
                return
            assert answer.status == 201, made
            self.acknowledged.append((made["metadata"]["name"], made["spec"]["clusterIP"]))


def test_kill_9_during_writes_loses_nothing_and_doubles_nothing(tmp_path):
    with api_server(tmp_path) as api:
        acknowledged = {}
        for round_ in range(3):
            writers = [Writer(api, f"r{round_}w{number}") for number in range(WRITERS)]
            for writer in writers:
                writer.start()
            eventually(lambda: all(len(writer.acknowledged) > 5 for writer in writers), within=60)  # noqa: B023 - read now
            api.process.kill()
            for writer in writers:
                writer.join()
                acknowledged |= dict(writer.acknowledged)
            api.kill()
            api.start()

            there = {
                item["metadata"]["name"]: item["spec"]["clusterIP"]
                for item in api.request("GET", SERVICES).json()["items"]
            }
            assert acknowledged.items() <= there.items()
            assert len(set(there.values())) == len(there)


def test_addresses_of_deleted_services_are_free_again_after_a_crash(tmp_path):
    with api_server(tmp_path, flags=("--service-cidr", "10.96.0.0/29")) as api:
        names = [f"s{number}" for number in range(5)]
        for name in names:
            assert api.request("POST", SERVICES, service(name)).status == 201
        full = api.request("POST", SERVICES, service("too-many"))
        for name in names:
            api.request("DELETE", f"{SERVICES}/{name}")
        api.kill()
        api.start()

        assert full.status >= 400
        assert "10.96.0.0/29" in full.json()["message"]
        assert [api.request("POST", SERVICES, service(name)).status for name in names] == [201] * 5


def test_of_50_writers_over_one_version_exactly_one_wins(tmp_path):
    with api_server(tmp_path) as api:
        seen = api.request("POST", NAMESPACES, {"metadata": {"name": "contested"}}).json()
        answers = []

        def write(number: int) -> None:
            mine = seen | {"metadata": seen["metadata"] | {"labels": {"winner": f"w{number}"}}}
            answers.append(api.request("PUT", f"{NAMESPACES}/contested", mine))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [answer.json() for answer in answers if answer.status == 200]

        assert sorted(answer.status for answer in answers) == [200] + [409] * 49
        assert winners == [api.request("GET", f"{NAMESPACES}/contested").json()]


def test_thousands_of_objects_survive_a_restart_and_page_whole(tmp_path):
    with api_server(tmp_path) as api:
        count = 1000

        def fill(part: int) -> None:
            for number in range(part, count, WRITERS):
                made = {"metadata": {"name": f"e{number}"}, "involvedObject": {"namespace": "default"}}
                assert api.request("POST", "/api/v1/namespaces/default/events", made).status == 201

        threads = [threading.Thread(target=fill, args=(part,)) for part in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        api.kill()
        api.start()

        names = api.kubectl("get", "events", "--chunk-size=300", "-o", "name").split()
        assert len(set(names)) == count
