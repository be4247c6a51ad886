"""The catalogue's pages over HTTP, from the server that `interest up` starts."""

import socket

import httpx
import pytest

from pipeline.errors import BadSetting
from pipeline.settings import Settings
from pipeline.stack import processes
from pipeline.stack.embedded import _wait_listening, addresses, catalog_server, require_free
from pipeline.stack.environment import stack_environment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_catalogue_is_served_to_this_machine_alone_and_stopped_with_the_rest(home):
    settings = Settings.load(home=home, ports={"catalog": free_port()}, airflow={"host": "0.0.0.0"})
    server = catalog_server(settings)
    (home / "catalog/index.html").write_text("<h1>Feature catalogue</h1>")
    (home / "catalog/catalog.json").write_text("{}")
    require_free(settings, server.port, server.setting, server.host)
    processes.start(settings, server.service, stack_environment(settings))
    try:
        _wait_listening(settings, server)
        url = next(address.url for address in addresses(settings) if address.name == "Catalogue")
        with httpx.Client(trust_env=False) as client:
            assert "Feature catalogue" in client.get(f"{url}/").text
            assert client.get(f"{url}/catalog.json").headers["content-type"] == "application/json"
            assert client.get(f"{url}/../settings.toml").status_code == 404
        listening = [c.laddr.ip for c in processes.running(settings)["catalog"].net_connections("tcp")]
        assert set(listening) == {"127.0.0.1"}
        with pytest.raises(BadSetting, match=rf"{server.port}.*`ports\.catalog`.*INTEREST_PORTS__CATALOG"):
            require_free(settings, server.port, server.setting, server.host)
    finally:
        assert processes.stop(settings) == ["catalog"]
