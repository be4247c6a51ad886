"""Bring the embedded Airflow and the servers beside it up, healthy, and down again."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BadSetting, EngineFailure
from pipeline.settings import Settings
from pipeline.stack import processes
from pipeline.stack.airflow_api import AirflowApi
from pipeline.stack.environment import airflow_url, dags_folder, stack_environment, write_policy
from pipeline.stack.processes import Service
from pipeline.stack.secrets import write_private

AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer")
HEALTHY_WITHIN = 180.0
CATALOG_HOST = "127.0.0.1"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Address:
    """Where a server of the stack is found."""

    name: str
    url: str


@dataclass(frozen=True)
class Server:
    """A service that listens, and the setting that names its port."""

    service: Service
    host: str
    port: int
    setting: str


def start_airflow(settings: Settings, say: Say) -> bool:
    """Start Airflow and wait until it is healthy and has parsed the Dags. False where it was up before.

    Raises:
        BadSetting: its port is taken.
        EngineFailure: a part of it died or did not become healthy; everything is stopped again.
    """
    alive = processes.running(settings)
    if all(name in alive for name in AIRFLOW) and not AirflowApi(settings).unhealthy():
        return False
    processes.stop(settings, list(AIRFLOW))
    require_free(settings, settings.airflow.port, "airflow.port")
    environment = stack_environment(settings)
    _migrate(settings, environment)
    say(f"starting Airflow at {airflow_url(settings)}")
    write_policy(settings)
    try:
        _start_in_order(settings, environment)
        _wait_healthy(settings)
    except BaseException:
        processes.stop(settings, list(AIRFLOW))
        raise
    return True


def start_servers(settings: Settings, say: Say) -> bool:
    """Start MLflow's and Feast's servers and the catalogue's where they are not up; False where all were.

    Raises:
        BadSetting: a port is taken.
        EngineFailure: a server does not listen; it is stopped again.
    """
    alive = processes.running(settings)
    missing = [server for server in _servers(settings) if server.service.name not in alive]
    for server in missing:
        require_free(settings, server.port, server.setting, server.host)
    environment = stack_environment(settings)
    for server in missing:
        say(f"starting {server.service.name} at port {server.port}")
        processes.start(settings, server.service, environment)
    for server in missing:
        _wait_listening(settings, server)
    return bool(missing)


def addresses(settings: Settings) -> list[Address]:
    """Where everything is found once it is up."""
    host, ports = settings.airflow.host, settings.ports
    return [
        Address("Airflow", airflow_url(settings)),
        Address("MLflow", f"http://{host}:{ports.mlflow}"),
        Address("Feast features", f"http://{host}:{ports.feast}/get-online-features"),
        Address("Feast UI", f"http://{host}:{ports.feast_ui}"),
        Address("Catalogue", f"http://{CATALOG_HOST}:{ports.catalog}"),
    ]


def require_free(settings: Settings, port: int, setting: str, host: str = "") -> None:
    """Raises BadSetting when somebody else listens on `port`, or the host (Airflow's) is not this machine's."""
    host = host or settings.airflow.host
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            variable = f"INTEREST_{setting.upper().replace('.', '__')}"
            raise BadSetting(
                f"Port {port} on {host} cannot be used: {error.strerror}. Stop what listens there, "
                f"or choose another port with the setting `{setting}` ({variable}=...)."
            ) from error


def _airflow() -> list[str]:
    """Airflow's own command, of this environment, whether or not that is on the path."""
    return [sys.executable, str(Path(sys.executable).with_name("airflow"))]


def _airflow_services() -> list[Service]:
    airflow = _airflow()
    return [
        Service("api-server", [*airflow, "api-server"]),
        Service("dag-processor", [*airflow, "dag-processor"]),
        Service("triggerer", [*airflow, "triggerer", "--skip-serve-logs"]),
        Service("scheduler", [*airflow, "scheduler", "--skip-serve-logs"]),
    ]


def _servers(settings: Settings) -> list[Server]:
    from pipeline.stores.feature_store import ui_command

    mlflow = [sys.executable, "-m", "mlflow", "server", "--host", settings.airflow.host]
    mlflow += ["--port", str(settings.ports.mlflow), "--workers", "1"]
    mlflow += ["--backend-store-uri", settings.mlflow_uri, "--default-artifact-root", settings.artifacts_url]
    host, ports = settings.airflow.host, settings.ports
    feast = [sys.executable, "-m", "pipeline.cli.feature_server"]
    return [
        Server(Service("mlflow", mlflow), host, ports.mlflow, "ports.mlflow"),
        Server(Service("feast", feast), host, ports.feast, "ports.feast"),
        Server(Service("feast-ui", ui_command(settings)), host, ports.feast_ui, "ports.feast_ui"),
        catalog_server(settings),
    ]


def catalog_server(settings: Settings) -> Server:
    """A server of the catalogue's files. It knows no groups and the pages show values: only this machine is answered.

    To let others read it, put `<home>/catalog` behind a web server that asks who they are.
    """
    folder = settings.place("catalog")
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "http.server", str(settings.ports.catalog), "--bind", CATALOG_HOST]
    service = Service("catalog", [*command, "--directory", str(folder)])
    return Server(service, CATALOG_HOST, settings.ports.catalog, "ports.catalog")


def _migrate(settings: Settings, environment: dict[str, str]) -> None:
    """Bring Airflow's own database up to date, once for each version of Airflow."""
    from importlib.metadata import version

    stamp = settings.place("airflow/migrated")
    if stamp.is_file() and stamp.read_text() == version("apache-airflow-core"):
        return
    done = subprocess.run(
        [*_airflow(), "db", "migrate"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = " ".join((done.stdout + done.stderr).splitlines()[-3:])
        raise EngineFailure(f"Airflow's database could not be prepared: {tail}")
    write_private(stamp, version("apache-airflow-core"))


def _start_in_order(settings: Settings, environment: dict[str, str]) -> None:
    """The scheduler comes last: a task that it starts must find the API server, or it burns a try."""
    *first, scheduler = _airflow_services()
    for service in first:
        processes.start(settings, service, environment)
    host, port = settings.airflow.host, settings.airflow.port
    processes.wait_until(lambda: _answers(host, port) or len(processes.running(settings)) < len(first), HEALTHY_WITHIN)
    processes.start(settings, scheduler, environment)


def _wait_healthy(settings: Settings) -> None:
    api = AirflowApi(settings)
    expected = {file.stem for file in dags_folder(settings).glob("*.py")}

    def died() -> list[str]:
        alive = processes.running(settings)
        return [name for name in AIRFLOW if name not in alive]

    if not processes.wait_until(lambda: bool(died()) or not api.unhealthy(), HEALTHY_WITHIN) or died():
        part = (died() or ["api-server"])[0]
        facts = f"{part} has ended" if died() else f"not healthy: {', '.join(api.unhealthy())}"
        raise EngineFailure(
            f"Airflow did not come up ({facts}). The end of {processes.log_file(settings, part)}: "
            f"{processes.log_tail(settings, part, 3)}"
        )
    api.set_pool("lake", max(settings.airflow.parallelism, 1), "Tasks that read and write the tables.")
    api.set_pool("gpu", 1, "Training: one at a time.")
    if not processes.wait_until(lambda: expected <= api.dag_ids(), HEALTHY_WITHIN):
        wrong = " ".join(api.import_errors()) or "no import error was reported"
        raise EngineFailure(f"Airflow did not parse {sorted(expected - api.dag_ids())}: {wrong}")


def _wait_listening(settings: Settings, server: Server) -> None:
    name, port = server.service.name, server.port

    def settled() -> bool:
        return _answers(server.host, port) or name not in processes.running(settings)

    if not processes.wait_until(settled, HEALTHY_WITHIN) or not _answers(server.host, port):
        tail = processes.log_tail(settings, name, 3)
        processes.stop(settings, [name])
        raise EngineFailure(f"{name} does not listen on port {port}. The end of its log: {tail}")


def _answers(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0
