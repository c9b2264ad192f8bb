"""Where the corpus's batches are trained: on this machine, or on a Ray cluster."""

from __future__ import annotations

from typing import Any, Literal

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from difflora.errors import BadParameter

Runner = Literal["processes", "ray"]


def task_runner(name: Runner, workers: int, address: str | None = None) -> TaskRunner[Any]:
    """The task runner of a setting.

    Args:
        name: ``processes``: each part is a process of this machine. ``ray``: each part is a process of some machine of
            the cluster; all of them see the workspace under the same path and have this repository installed.
        workers: parts at a time.
        address: of the cluster, such as ``ray://head:10001``; None for one on this machine.

    Raises:
        BadParameter: if Ray is asked for but not installed, or there are no workers.
    """
    if workers < 1:
        raise BadParameter(f"workers is {workers}: give at least 1")
    if name == "processes":
        return ThreadPoolTaskRunner(max_workers=workers)  # a thread waits for its part's process
    try:
        from prefect_ray import RayTaskRunner
    except ImportError as error:
        raise BadParameter("runner ray: needs the extra, `pip install 'difflora[ray]'`") from error
    runner: TaskRunner[Any] = RayTaskRunner(address=address, init_kwargs={} if address else {"num_cpus": workers})
    return runner
