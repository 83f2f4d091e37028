"""A grid on a Ray cluster: workers as Ray tasks, one for each card. Needs the extra ``ray``, and equal paths on nodes.

A task reserves a card (``num_gpus=1``), or a few cores and runs ``grid_search.py --worker`` there. That takes
trials under their locks until none is left, by the same code as on one machine, and then returns its card to Ray. This
process only watches the nodes and the run directories.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cluebench.foundation import repository
from cluebench.foundation.command import INTERRUPTED
from cluebench.foundation.errors import LeftToOthers, UsageError, one_line
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Job, State
from cluebench.scheduler.processes import launch
from cluebench.scheduler.processes.engine import GRACE, Events, Interrupted, orphan_of
from cluebench.scheduler.run.planned_grid import PlannedGrid

#: Cores of a worker if the cluster has no cards and the user has given no number of workers.
_CORES_PER_WORKER = 2
#: Seconds between looks at nodes and run directories, and without any worker before a note.
_LOOK_EVERY, _PATIENCE = 2.0, 30.0
#: Flags that a worker does not get: they are this process's own, or have another value there.
_OWN = ("models", "demo", "engine", "ray_address", "devices", "worker", "run_root", "mrc_cards")


class Cluster:
    """The workers of a grid on a Ray cluster. Raises UsageError if there is no Ray, or no cluster at the address."""

    def __init__(self, grid: PlannedGrid):
        try:
            import ray
        except ImportError:
            raise UsageError("--engine ray: Ray is not installed; pip install -e '.[ray]' brings it") from None
        self._ray: Any = ray
        self._grid, flags = grid, grid.flags
        self._folders = [directory.private for directory in grid.directories.values()]
        host, _, port = (flags.ray_address or "").removeprefix("ray://").rpartition(":")
        try:
            if host and port.isdigit():  # Ray itself needs minutes to find out that nothing listens there
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address=flags.ray_address, log_to_driver=False)
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise UsageError(f"--ray_address {flags.ray_address}: {reason}") from None
        self._cards, self._cores, self._most = _wanted(flags, [node["Resources"] for node in self._nodes()])
        self._workers: dict[Any, tuple[str, float]] = {}  # Ray's answer to come → id of its node, when we asked for it
        self._unfit: dict[str, str] = {}  # id of a node → why it is not used
        self._seen = {job.key for job in grid.jobs() if job.is_settled}

    def run(self, events: Events, note: Callable[[str], None]) -> str | None:
        """Runs what is not done until nothing more can be; the name of the signal that ended it early, or None.

        Raises UsageError if no node can be used; waits while others have all cards.
        """
        self._note, begin, noted, interrupted = note, time.monotonic(), False, None
        try:
            while (left := self._left()) and interrupted is None:
                self._start(left)
                if not self._workers and not any(map(self._room, self._nodes())):
                    raise UsageError(f"--engine ray: {'; '.join(self._unfit.values()) or 'the cluster has no cores'}")
                if not noted and time.monotonic() - begin > _PATIENCE and not any(map(_is_running, left)):
                    noted = True
                    self._note("waiting until the Ray cluster has a card or core to spare for the grid")
                event = events.get(_LOOK_EVERY)
                interrupted = event.name if isinstance(event, Interrupted) else None
                self._collect()
        finally:
            self._end()
        return interrupted

    # Nodes and workers ------------------------------------------------------------------------------------------------

    def _nodes(self) -> list[dict]:
        """The living nodes, those with most cores first."""
        living = [node for node in self._ray.nodes() if node["Alive"]]
        return sorted(living, key=lambda node: -node["Resources"].get("CPU", 0))

    def _start(self, left: Sequence[Job]) -> None:
        """Asks for a worker on every card of every node, but for no more workers than there are trials to run."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        free = sum(job.state is State.WAITING and not _is_running(job) for job in left)
        now = time.monotonic()
        free -= sum(asked > now - _PATIENCE for _, asked in self._workers.values())  # these will take some
        for node in self._nodes():
            room, cores = self._room(node), node["Resources"].get("CPU", 0)
            cores = cores / max(1, room) if self._cards else min(cores, self._cores)
            wanted = {"num_gpus": self._cards, "num_cpus": min(cores, 1.0) if self._cards else cores}
            here = sum(on == node["NodeID"] for on, _ in self._workers.values())
            for _ in range(int(min(room - here, free, self._most - len(self._workers)))):
                free -= 1
                place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                task = self._ray.remote(_work).options(scheduling_strategy=place, max_retries=0, **wanted)
                threads = os.environ.get("OMP_NUM_THREADS", str(max(1, int(cores))))
                log = self._folders[0] / f"worker-{_name(node)}-{time.time_ns()}.log"
                needed = [sys.executable, *map(str, (repository.ROOT / "mrc", *self._folders))]
                answer = task.remote(self._command(), os.getcwd(), threads, str(log), needed)
                self._workers[answer] = node["NodeID"], now

    def _room(self, node: Mapping) -> int:
        """How many workers a node can have; 0 if none could work there."""
        cores, cards = (int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
        room = cards // self._cards if self._cards else _slots(cores, self._cores)
        return 0 if node["NodeID"] in self._unfit else room

    def _command(self) -> list[str]:
        """The worker's command: this grid's flags, except where it runs."""
        flags, usual = self._grid.flags, GridFlags()
        command = [sys.executable, "-u", str(repository.ROOT / "grid_search_tools" / "grid_search.py")]
        command += [*map(str, self._grid.directories), "--worker", "--run_root", str(self._folders[0].parent.parent)]
        command += ["--devices", "gpu" if self._cards else "cpu:1"]
        command += ["--mrc_cards", str(self._cards)] if self._cards else []
        for name in (flag.name for flag in fields(GridFlags) if flag.name not in _OWN):
            if (value := getattr(flags, name)) != getattr(usual, name):
                shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                command += [f"--{name}", *([] if value is True else [shown])]
        return command

    def _collect(self) -> None:
        """Removes the workers that have ended, and notes how."""
        for answer in self._wait([*self._workers], 0.0)[0]:
            node, _ = self._workers.pop(answer)
            name = next((_name(other) for other in self._ray.nodes() if other["NodeID"] == node), node)
            try:
                code, message = self._ray.get(answer)
            except self._ray.exceptions.RayTaskError as error:  # if imports fail there, Ray's last line says so
                kind, lines = type(error.cause).__name__, str(error.cause).strip().splitlines()[-1:]
                message = one_line(lines[0] if lines and kind == "RuntimeError" else f"{kind}: {' '.join(lines)}")
                code = UsageError.exit_code
            except self._ray.exceptions.RayError:
                self._note(f"a worker on {name} is lost; its trials go on elsewhere from their checkpoints")
                continue
            if code not in (0, 1, INTERRUPTED) and node not in self._unfit:
                why = "more trials are not started there" if code == LeftToOthers.exit_code else "it is not used"
                self._unfit[node] = f"node {name}: {message}; {why}"
                self._note(self._unfit[node])

    def _wait(self, answers: list, patience: float) -> tuple[list, list]:
        """The answers that are there after ``patience`` seconds, and the others."""
        return self._ray.wait(answers, num_returns=len(answers), timeout=patience) if answers else ([], [])

    def _end(self) -> None:
        """Ends the workers, whose trials write their checkpoints."""
        answers = [*self._workers]
        for force, patience in ((False, GRACE + 10), (True, 5.0)):
            for answer in answers:
                self._ray.cancel(answer, force=force)
            _, answers = self._wait(answers, patience)
        self._ray.shutdown()

    # The run directories ----------------------------------------------------------------------------------------------

    def _left(self) -> list[Job]:
        """The trials that wait or run. Notes what has ended since the last look."""
        jobs = self._grid.jobs()
        done = sum(job.is_settled for job in jobs)
        for job in jobs:
            if job.key not in self._seen and (job.is_settled or job.state is State.FAILED):
                self._seen.add(job.key)
                text = job.standing() if job.state is State.STOPPED else job.ending()
                self._note(f"[{done}/{len(jobs)}] {job.key} {text}")
        return [job for job in jobs if not job.is_settled and job.state is not State.FAILED]


def _is_running(job: Job) -> bool:
    return orphan_of(job.lock) is not None


def _work(command: list[str], directory: str, threads: str, log: str, needed: list[str]) -> tuple[int, str]:
    """The task: runs a worker to its end; returns its exit code, and the last line that it wrote."""
    if missing := [path for path in needed if not os.path.exists(path)]:
        return UsageError.exit_code, f"there is no {missing[0]}"
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": threads},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            preexec_fn=launch.end_with_parent,  # ``ray stop``, a driver that is killed
        )
    try:
        while process.poll() is None:  # Ray's cancel only arrives between two calls
            time.sleep(0.2)
    finally:
        process.terminate()
        process.wait()
    lines = Path(log).read_text(encoding="utf-8", errors="replace").split("\n")
    return process.returncode, next((line for line in reversed(lines) if line), "it printed nothing")


def _name(node: Mapping) -> str:
    """The name that its owner gave it, else its host."""
    given = node["NodeName"]
    return node["NodeManagerHostname"] if given == node["NodeManagerAddress"] else given


def _wanted(flags: GridFlags, nodes: Sequence[Mapping[str, float]]) -> tuple[int, int, float]:
    """Cards of each worker; if none, its cores; the largest number of workers. Raises UsageError."""
    request, cards = flags.devices, sum(int(node.get("GPU", 0)) for node in nodes)
    by_node = [int(node.get("CPU", 0)) for node in nodes]
    kind, _, number = request.partition(":")
    if kind in ("auto", "gpu") and not number and cards:
        most = max(int(node.get("GPU", 0)) for node in nodes)
        if flags.mrc_cards and flags.mrc_cards > most:
            raise UsageError(f"--mrc_cards {flags.mrc_cards}: no node of the cluster has more than {most} card(s)")
        return flags.mrc_cards or 1, 0, float("inf")
    if kind == "gpu":
        raise UsageError(f"--devices {request}: under Ray give auto, gpu or cpu:N; the cluster has {cards} cards")
    if not number:
        return 0, _CORES_PER_WORKER, float("inf")
    if not (number.isdigit() and 0 < int(number) <= sum(by_node)):
        raise UsageError(f"--devices {request}: the cluster has {sum(by_node)} cores")
    share = sum(by_node) // int(number)
    while sum(_slots(cores, share) for cores in by_node) < int(number):
        share -= 1
    return 0, share, int(number)


def _slots(cores: int, share: int) -> int:
    """Workers of ``share`` cores on a node; a small node has one worker with fewer."""
    return max(min(cores, 1), cores // share)
