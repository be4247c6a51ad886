"""Airflow's REST interface, as far as this project asks and tells it anything."""

from __future__ import annotations

from typing import Any

import httpx

from pipeline.errors import EngineFailure
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stack.environment import airflow_url
from pipeline.stack.secrets import ADMIN, secrets_of

PAGE = 100
COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


class AirflowApi:
    """A client that signs in when it must. Raises EngineFailure when Airflow does not answer or says no."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._http = httpx.Client(base_url=airflow_url(settings), timeout=60.0)
        self._token = ""

    def unhealthy(self) -> list[str]:
        """The components that are not healthy by their own account; all of them when nobody answers."""
        try:
            answer = self._http.get("/api/v2/monitor/health", timeout=10.0)
            facts = answer.json() if answer.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            facts = {}
        return [name for name in COMPONENTS if (facts.get(name) or {}).get("status") != "healthy"]

    def dag_ids(self) -> set[str]:
        """The Dags that have been parsed."""
        return {dag["dag_id"] for dag in self._pages("/dags", "dags", {"exclude_stale": True})}

    def import_errors(self) -> list[str]:
        return [f"{e['filename']}: {e['stack_trace']}" for e in self._pages("/importErrors", "import_errors", {})]

    def set_pool(self, name: str, slots: int, description: str) -> None:
        """Make the pool, or give it this many slots."""
        body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        if self._ask("POST", "/pools", json=body, allowed=(409,)).status_code == 409:
            body = {"pool": name, "slots": slots, "description": description, "include_deferred": False}
            self._ask("PATCH", f"/pools/{name}", json=body, params={"update_mask": ["slots", "description"]})

    def create_backfill(self, dag_id: str, first: Day, last: Day, again: bool, conf: dict[str, str]) -> int | None:
        """What `airflow backfill create` does, one day at a time. None where no run had to be made.

        `conf` is what the runs are told, and is given always: a run that is made again would keep its earlier one.
        """
        body = {
            "dag_id": dag_id,
            "from_date": first.start.isoformat(),
            "to_date": last.start.isoformat(),
            "max_active_runs": 1,
            "dag_run_conf": conf,
            "reprocess_behavior": "completed" if again else "failed",
        }
        return self._ask("POST", "/backfills", json=body).json()["id"]

    def backfill_is_complete(self, backfill_id: int) -> bool:
        return self._ask("GET", f"/backfills/{backfill_id}").json()["completed_at"] is not None

    def open_backfills(self, dag_id: str) -> list[int]:
        answer = self._ask("GET", "/backfills", params={"dag_id": dag_id, "limit": PAGE}).json()
        return [found["id"] for found in answer["backfills"] if found["completed_at"] is None]

    def runs(self, dag_id: str = "~", **filters: Any) -> list[dict[str, Any]]:
        """Runs, oldest first."""
        return self._pages(f"/dags/{dag_id}/dagRuns", "dag_runs", {"order_by": "id", **filters})

    def tasks(self, dag_id: str = "~", run_id: str = "~", **filters: Any) -> list[dict[str, Any]]:
        return self._pages(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances", filters)

    def asset_events(self) -> list[dict[str, Any]]:
        """What the tasks have told the Dags below them."""
        return self._pages("/assets/events", "asset_events", {})

    def run_again(self, dag_id: str, run_id: str) -> None:
        """Clear the failed tasks of a run, so that the scheduler takes them up again."""
        self._ask("POST", f"/dags/{dag_id}/dagRuns/{run_id}/clear", json={"dry_run": False, "only_failed": True})

    def log_of(self, task: dict[str, Any]) -> list[str]:
        """The lines that the last try of a task wrote."""
        where = f"/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}"
        answer = self._ask(
            "GET",
            f"{where}/logs/{max(task['try_number'], 1)}",
            params={"full_content": True, "map_index": task.get("map_index", -1)},
            headers={"Accept": "application/json"},
            allowed=(404,),
        )
        content = answer.json().get("content", []) if answer.status_code == 200 else []
        lines = []
        for entry in content if isinstance(content, list) else str(content).splitlines():
            if isinstance(entry, str):
                lines.append(entry)
                continue
            lines.append(str(entry.get("event", "")))
            for error in entry.get("error_detail") or []:
                lines.append(f"{error.get('exc_type')}: {error.get('exc_value')}")
        return lines

    def _pages(self, path: str, field: str, filters: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self._ask("GET", path, params={**filters, "limit": PAGE, "offset": len(found)}).json()
            found += page[field]
            if not page[field] or len(found) >= page["total_entries"]:
                return found

    def _ask(self, method: str, path: str, allowed: tuple[int, ...] = (), **request: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, f"/api/v2{path}", **self._signed(request))
            if answer.status_code == 401:
                self._token = ""
                answer = self._http.request(method, f"/api/v2{path}", **self._signed(request))
        except httpx.HTTPError as error:
            raise EngineFailure(
                f"Airflow at {airflow_url(self._settings)} does not answer ({type(error).__name__}). "
                f"Its logs are in {self._settings.place('logs')}."
            ) from error
        if answer.is_error and answer.status_code not in allowed:
            raise EngineFailure(
                f"Airflow refused {method} {path} with {answer.status_code}: {answer.text[:300]}"
            )
        return answer

    def _signed(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self._token:
            kept = secrets_of(self._settings)
            answer = self._http.post("/auth/token", json={"username": ADMIN, "password": kept.admin_password})
            if answer.is_error:
                raise EngineFailure(
                    f"Port {self._settings.airflow.port} is answered by an Airflow that does not know this home "
                    f"folder's password. Stop it, or choose another port with the setting `airflow.port`."
                )
            self._token = answer.json()["access_token"]
        headers = {**request.get("headers", {}), "Authorization": f"Bearer {self._token}"}
        return {**request, "headers": headers}
