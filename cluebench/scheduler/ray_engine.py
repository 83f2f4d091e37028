"""Trials on the nodes of a Ray cluster. Needs the extra ``ray``, and the repository and run root on a shared disk.

Ray chooses the node and the card; the ledger only counts how many trials fit. Each trial gets one card (a trial on
several would have to wait for a node with that many free), or an even share of the cluster's cores.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cluebench.errors import UsageError
from cluebench.scheduler import launch
from cluebench.scheduler.devices import Device, Reading
from cluebench.scheduler.jobs import Job
from cluebench.scheduler.loop import Events, Exited
from cluebench.scheduler.runner import Orphan, StartOrder, end_all, orphan_of, specification, started_process

#: Cores of a slot where the cluster has no cards and the user has named no number.
_CORES_PER_SLOT = 2


class _AttemptActor:
    """A Ray actor: one attempt of a trial, on the node and card Ray gave it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._stopped = False

    def run(self, specified: dict, environment: dict[str, str]) -> int:
        """Runs the trial to its end; returns its exit code, negative for a signal."""
        if self._stopped:
            return -signal.SIGTERM
        self._process = started_process(specified, environment, specified["directory"])
        code = self._process.wait()
        end_all(environment[launch.TRIAL_VARIABLE])
        return code

    def stop(self, number: int) -> None:
        """Signals the trial's process group."""
        self._stopped = True
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)


class RayEngine:
    """The loop's `Engine` on a Ray cluster. Raises UsageError when there is no Ray, or no cluster at the address."""

    def __init__(self, request: str, address: str | None, jobs_per_device: int, events: Events):
        try:
            import ray
        except ImportError:
            raise UsageError("--engine ray: Ray is not installed; pip install -e '.[ray]' brings it") from None
        self._ray: Any = ray
        self._events = events
        _check_reachable(address)
        try:
            ray.init(address=address, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(f"--ray_address {address}: {' '.join(str(error).split())}") from None
        resources = ray.cluster_resources()
        self.devices = _slots(request, int(resources.get("GPU", 0)), int(resources.get("CPU", 1)))
        places = len(self.devices) * jobs_per_device
        self._cores = max(1, int(resources.get("CPU", 1)) // places)
        self._card_share = 1 / jobs_per_device
        self._actors: dict[str, Any] = {}

    def measure(self, device_id: str) -> None:
        """Ray accounts for the cards itself."""

    def start(self, order: StartOrder, device_ids: Sequence[str]) -> None:
        for folder in (order.lock.parent, order.log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        on_card = not device_ids[0].startswith("cpu:")
        environment = dict(order.environment)
        if on_card:  # Ray sets CUDA_VISIBLE_DEVICES where the trial runs
            environment.pop("CUDA_VISIBLE_DEVICES", None)
            environment.pop("CUDA_DEVICE_ORDER", None)
        specified, mark = specification(order)
        # The node may be lost to us with the trial running on: it ends with the actor.
        specified |= {"directory": str(order.directory), "end_with_parent": True}
        environment[launch.TRIAL_VARIABLE] = mark
        wanted = {"num_gpus": self._card_share, "num_cpus": 1} if on_card else {"num_cpus": self._cores}
        actor = self._ray.remote(_AttemptActor).options(max_concurrency=2, max_restarts=0, **wanted).remote()
        self._actors[order.key] = actor
        reference = actor.run.remote(specified, environment)
        threading.Thread(target=self._watch, args=(order.key, actor, reference), daemon=True).start()

    def _watch(self, key: str, actor: Any, reference: Any) -> None:
        lost = False
        try:
            code = self._ray.get(reference)
        except self._ray.exceptions.RayError:
            code, lost = None, True
        self._actors.pop(key, None)
        self._ray.kill(actor)
        self._events.put(Exited(key, code, lost))

    def stop(self, key: str, *, now: bool = False) -> None:
        actor = self._actors.get(key)
        if actor is not None:
            actor.stop.remote(signal.SIGKILL if now else signal.SIGTERM)

    def allocated(self, key: str, reading: Reading) -> int:
        return 0

    def silence(self, job: Job) -> float:
        """Since the trial's log grew, where it has been started already: it may be waiting for its turn in Ray."""
        try:
            written = job.paths.log.stat().st_mtime
        except OSError:
            return 0.0
        return max(0.0, time.time() - max(written, job.attempt.started))

    def orphan(self, job: Job) -> Orphan | None:
        """Trials end with their actors, and these with their driver: one that still runs is only waited for."""
        orphan = orphan_of(job.key, job.lock)
        return None if orphan is None else replace(orphan, pid=orphan.pid or -1, host=f"Ray node {orphan.host}")

    def adopt(self, orphan: Orphan) -> None:
        raise NotImplementedError("orphans of a Ray engine are waited for, never adopted")

    def close(self) -> None:
        self._ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raises UsageError when nothing listens at ``host:port``, which Ray itself takes minutes to find out."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto", "local" or a name that Ray looks up
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UsageError(f"--ray_address {address}: {error.strerror or error}") from None


def _slots(request: str, cards: int, cores: int) -> list[Device]:
    """The cluster's cards as devices without memory accounts, or CPU slots. Raises UsageError."""
    kind, _, number = request.partition(":")
    if kind in ("auto", "gpu") and not number and cards:
        return [Device(f"card:{index}", f"ray card {index}", "gpu") for index in range(cards)]
    if kind == "gpu":
        raise UsageError(f"--devices {request}: under Ray give auto, gpu or cpu:N; the cluster has {cards} cards")
    if number and not (number.isdigit() and 0 < int(number) <= cores):
        raise UsageError(f"--devices {request}: the cluster has {cores} cores")
    count = int(number) if number else max(1, cores // _CORES_PER_SLOT)
    return [Device(f"cpu:{index}", f"ray slot {index}", "cpu") for index in range(count)]
