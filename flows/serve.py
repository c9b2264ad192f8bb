"""All deployments of ``prefect.yaml`` from one process, without pool and worker: ``python -m flows.serve``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import yaml
from prefect import serve
from prefect.client.schemas.schedules import CronSchedule

ROOT = Path(__file__).parents[1]
_HERE = "{{ here.stdout }}"


def deployments(root: Path = ROOT) -> list[Any]:
    """Each deployment of ``prefect.yaml``, for ``prefect.serve``.

    Args:
        root: the folder of ``prefect.yaml``, which is the workspace as well.
    """
    made = []
    for known in yaml.safe_load((root / "prefect.yaml").read_text())["deployments"]:
        path, _, name = known["entrypoint"].partition(":")
        chosen = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        schedules = [
            {"schedule": CronSchedule(cron=one["cron"], timezone=one["timezone"]), "active": one["active"]}
            for one in known["schedules"]
        ]
        values = {key: str(root) if value == _HERE else value for key, value in known["parameters"].items()}
        made.append(
            chosen.to_deployment(
                name=known["name"],
                description=known["description"],
                tags=known["tags"],
                parameters=values,
                schedules=schedules,
                concurrency_limit=known["concurrency_limit"]["limit"],
            )
        )
    return made


def main() -> None:
    """Serves until it is stopped, one flow run at a time."""
    serve(*deployments(), limit=1)


if __name__ == "__main__":
    main()
