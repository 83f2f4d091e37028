"""Trials on the nodes of a Ray cluster. Needs the extra ``ray``, and the same paths on every node.

An actor holds each card (``num_gpus=1``), or a few cores, of a node for the grid; it says what the driver there knows
of the card, and runs trials on it. So Ray keeps other people's tasks and ours apart, while the loop sees cards that it
knows by name, as on one machine: it reads their memory, shares one among trials, sets them aside, and joins those of a
node for a trial on several, as a placement group of STRICT_PACK would without telling which they are. The price is that
a card stays with the grid until it ends. Where a node has no NVIDIA driver to ask, only Ray's account counts.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from cluebench.foundation.errors import UsageError
from cluebench.machine import devices, nvidia
from cluebench.machine.nvidia import Device, DeviceLost, NvidiaDriver, Reading
from cluebench.scheduler.plan.jobs import Job
from cluebench.scheduler.processes import launch, trial_process
from cluebench.scheduler.processes.engine import Changed, Events, Exited, Measured
from cluebench.scheduler.processes.trial_process import Orphan, StartOrder

#: Cores of a slot where the cluster has no cards and the user has named no number of slots.
_CORES_PER_SLOT = 2
#: MIG instances that one card can be cut into.
_MOST_INSTANCES = 7
#: Seconds between looks for nodes that have joined, and that the first answers may take before a word is said.
_NODE_RECHECK, _PATIENCE = 5.0, 30.0


class _Place:
    """The actor: a card or some cores of a node."""

    def __init__(self) -> None:
        self._driver: NvidiaDriver | None = None
        self._processes: dict[str, subprocess.Popen | None] = {}  # mark of an attempt → None: not to be started

    def cards(self, is_card: bool, paths: Sequence[str]) -> list[Device] | str:
        """The card, or the instances it is cut into; or why nothing can run on this node."""
        missing = [path for path in paths if not os.path.exists(path)]
        if missing or not is_card:
            return f"there is no {missing[0]}" if missing else []
        try:
            self._driver = nvidia.answered(NvidiaDriver.open)
            if self._driver is None:
                number = os.environ["CUDA_VISIBLE_DEVICES"]
                return [Device(number, f"gpu {number}", "gpu", joinable=True)]
            return nvidia.answered(partial(devices.find_devices, "gpu", os.environ, self._driver))
        except UsageError as error:
            return str(error)

    def read(self, card: str) -> Reading | DeviceLost:
        assert self._driver is not None, "only cards that the driver knows are read"
        try:
            return self._driver.read(card)
        except DeviceLost as error:
            return error

    def run(self, specified: dict, environment: dict[str, str], directory: str) -> int:
        """Runs a trial to its end; returns its exit code, negative for a signal. Raises OSError."""
        mark = environment[launch.TRIAL_VARIABLE]
        if mark in self._processes:
            return -signal.SIGTERM
        self._processes[mark] = process = trial_process.started_process(specified, environment, directory)
        code = process.wait()
        trial_process.end_all(mark)
        del self._processes[mark]
        return code

    def stop(self, mark: str, number: int) -> None:
        process = self._processes.setdefault(mark, None)
        if process is not None and process.poll() is None:
            os.killpg(process.pid, number)

    def stay(self) -> None:
        """Returns never, so that whoever waits for it hears of the actor's death."""
        threading.Event().wait()


@dataclass(eq=False)
class _Held:
    """A place that Ray has been asked for, and given to us once it has devices."""

    node: Mapping
    number: int
    cores: int
    actor: Any
    devices: list[Device] = field(default_factory=list)


class RayEngine:
    """The loop's `Engine` on a Ray cluster. A node can be used where ``paths`` are.

    Raises UsageError when there is no Ray, no cluster at the address, or no node that can be used; waits while others
    have all cards.
    """

    silence = staticmethod(trial_process.silence)

    def __init__(self, request: str, address: str | None, jobs_per_device: int, events: Events, paths: Sequence[Path]):
        try:
            import ray
        except ImportError:
            raise UsageError("--engine ray: Ray is not installed; pip install -e '.[ray]' brings it") from None
        self._ray: Any = ray
        self._events, self._paths = events, [sys.executable, *map(str, paths)]
        self._at_once = 2 * jobs_per_device * _MOST_INSTANCES + 3  # calls: a trial and its end; cards, read and stay
        _check_reachable(address)
        try:
            ray.init(address=address, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(f"--ray_address {address}: {' '.join(str(error).split())}") from None
        self.devices: list[Device] = []
        self._actors: dict[str, Any] = {}  # device id → the actor that has it
        self._running: dict[str, tuple[Any, str]] = {}  # trial key → its actor and mark
        self._held: list[_Held] = []
        self._unfit: dict[str, str] = {}  # id of a node → why it is not used
        self._numbers = count()  # of places
        self._answered = threading.Event()
        self._closed = threading.Event()
        self._is_card, self._share, self._most = _wanted(request, [node["Resources"] for node in self._nodes()])
        self._wait_for_the_first()
        _thread(self._look_for_nodes)

    # Nodes ------------------------------------------------------------------------------------------------------------

    def _nodes(self) -> list[dict]:
        """The living nodes, those with most cores first."""
        living = [node for node in self._ray.nodes() if node["Alive"]]
        return sorted(living, key=lambda node: -node["Resources"].get("CPU", 0))

    def _look_for_nodes(self) -> None:
        while not self._closed.wait(_NODE_RECHECK):
            self._hold_what_there_is()

    def _hold_what_there_is(self) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        for node in self._nodes():
            resources = node["Resources"]
            cores, cards = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
            if self._is_card:
                places, own = cards, cores // max(1, cards)
                wanted = {"num_gpus": 1, "num_cpus": min(1.0, cores / max(1, cards))}
            else:
                places, own = _slots(cores, self._share), min(cores, self._share)
                wanted = {"num_cpus": own}
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options = {"scheduling_strategy": here, "max_restarts": 0, "max_concurrency": self._at_once, **wanted}
            there = sum(held.node["NodeID"] == node["NodeID"] for held in self._held)
            for _ in range(there, 0 if node["NodeID"] in self._unfit else places):
                if len(self._held) < self._most:
                    held = _Held(node, next(self._numbers), own, self._ray.remote(_Place).options(**options).remote())
                    self._held.append(held)
                    _thread(self._hold, held)

    def _hold(self, held: _Held) -> None:
        """Waits until Ray gives us a place on a node, and has its devices in the grid until it is lost."""
        try:
            found = self._ray.get(held.actor.cards.remote(self._is_card, self._paths))
            if isinstance(found, str):
                self._not_used(held.node, found)
            else:
                self._join(held, found or [Device(f"cpu:{held.number}", f"cpu {held.number}", "cpu")])
                self._ray.get(held.actor.stay.remote())
        except self._ray.exceptions.RayError as error:
            # The last line of what an actor says that can't even import this module there.
            wrong = re.findall(r"^\w*Error: .*", str(error), re.MULTILINE)
            labels = ", ".join(device.label for device in held.devices)
            if held.devices:
                self._events.put(Changed(f"{labels} has left the cluster", left=[device.id for device in held.devices]))
            elif wrong:
                self._not_used(held.node, wrong[-1])
        self._ray.kill(held.actor)
        self._held.remove(held)
        self._answered.set()

    def _join(self, held: _Held, found: Sequence[Device]) -> None:
        node, name, joining = held.node["NodeID"], _name(held.node), []
        ours = {"node": node, "cores": max(1, held.cores // len(found))}
        for device in found:
            ours |= {"id": f"{node[:8]} {device.id}", "label": f"{name} {device.label}"}
            joining.append(replace(device, **ours))
            self._actors[joining[-1].id] = held.actor
        self.devices += [device for device in joining if device not in self.devices]
        held.devices = joining  # at last: who waits for these takes all devices to be there
        self._answered.set()
        self._events.put(Changed(f"{', '.join(device.label for device in held.devices)} joins the grid", held.devices))

    def _not_used(self, node: Mapping, why: str) -> None:
        if self._unfit.setdefault(node["NodeID"], said := f"node {_name(node)} is not used: {why}") is said:
            self._events.put(Changed(said))

    def _wait_for_the_first(self) -> None:
        """Returns when all places have answered, or some have and the rest takes long: someone else may hold it."""
        begin, said = time.monotonic(), False
        while True:
            self._hold_what_there_is()
            if not self._held:
                raise UsageError(f"--engine ray: {'; '.join(self._unfit.values()) or 'the cluster has no cores'}")
            self._answered.wait(1.0)
            self._answered.clear()
            late = time.monotonic() - begin > _PATIENCE
            if self.devices and (late or all(held.devices for held in self._held)):
                return
            if late and not said:
                said = True
                print("waiting until the Ray cluster has a card or core to spare for the grid", file=sys.stderr)

    # Trials -----------------------------------------------------------------------------------------------------------

    def measure(self, device_id: str) -> None:
        _thread(self._ask, device_id)

    def _ask(self, device_id: str) -> None:
        try:
            answer = self._ray.get(self._actors[device_id].read.remote(device_id.rpartition(" ")[2]))
        except self._ray.exceptions.RayError:
            answer = DeviceLost("its Ray actor is dead")
        self._events.put(Measured(device_id, answer))

    def start(self, order: StartOrder) -> None:
        specified, mark = trial_process.prepared(order)
        # The node may be lost to us with the trial running on: it ends with the actor.
        specified["end_with_parent"] = True
        actor = self._actors[order.holding.devices[0]]
        self._running[order.job.key] = actor, mark
        environment = {**order.environment, launch.TRIAL_VARIABLE: mark}
        ended = actor.run.remote(specified, environment, str(order.directory))
        _thread(self._watch, order.job.key, ended)

    def _watch(self, key: str, ended: Any) -> None:
        code, lost = None, False
        try:
            code = self._ray.get(ended)
        except self._ray.exceptions.RayActorError:
            lost = True
        except self._ray.exceptions.RayError as error:
            code = 1
            self._events.put(Changed(f"{key} can't be started: {str(error).strip().splitlines()[-1]}"))
        actor, _ = self._running.pop(key)
        if lost:
            self._ray.kill(actor)  # should it only be out of reach, the trial ends with it
        self._events.put(Exited(key, code, lost))

    def stop(self, key: str, *, now: bool = False) -> None:
        if (found := self._running.get(key)) is not None:  # asked for once: the thread that watches may take it out
            actor, mark = found
            actor.stop.remote(mark, signal.SIGKILL if now else signal.SIGTERM)

    def allocated(self, key: str, reading: Reading) -> int:
        """Unknown: processes of a node are not told from others' by their ids here."""
        return 0

    def orphan(self, job: Job) -> Orphan | None:
        """Trials end with their actors, and these with their driver: one that still runs is only waited for."""
        orphan = trial_process.orphan_of(job.key, job.lock)
        return None if orphan is None else replace(orphan, pid=orphan.pid or -1, host=f"Ray node {orphan.host}")

    def adopt(self, orphan: Orphan) -> None:
        raise NotImplementedError("orphans of a Ray engine are waited for, never adopted")

    def close(self) -> None:
        self._closed.set()
        for held in list(self._held):
            self._ray.kill(held.actor)
        for thread in threading.enumerate():  # who waits for an answer while Ray shuts down ends the process
            if thread.name.startswith("ray-"):
                thread.join(timeout=10.0)
        self._ray.shutdown()


def _thread(target: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=target, args=arguments, name=f"ray-{target.__name__}", daemon=True).start()


def _name(node: Mapping) -> str:
    """What its owner has called it, else its host."""
    given = node["NodeName"]
    return node["NodeManagerHostname"] if given == node["NodeManagerAddress"] else given


def _check_reachable(address: str | None) -> None:
    """Raises UsageError when nothing listens at ``host:port``, which Ray itself takes minutes to find out."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto", "local" or a name that Ray looks up
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise UsageError(f"--ray_address {address}: {error.strerror or error}") from None


def _wanted(request: str, nodes: Sequence[Mapping[str, float]]) -> tuple[bool, int, float]:
    """Whether places are cards; else the cores of each; how many there may be. Raises UsageError."""
    cards, by_node = sum(int(node.get("GPU", 0)) for node in nodes), [int(node.get("CPU", 0)) for node in nodes]
    kind, _, number = request.partition(":")
    if kind in ("auto", "gpu") and not number and cards:
        return True, 0, float("inf")
    if kind == "gpu":
        raise UsageError(f"--devices {request}: under Ray give auto, gpu or cpu:N; the cluster has {cards} cards")
    if not number:
        return False, _CORES_PER_SLOT, float("inf")
    if not (number.isdigit() and 0 < int(number) <= sum(by_node)):
        raise UsageError(f"--devices {request}: the cluster has {sum(by_node)} cores")
    share = sum(by_node) // int(number)
    while sum(_slots(cores, share) for cores in by_node) < int(number):
        share -= 1
    return False, share, int(number)


def _slots(cores: int, share: int) -> int:
    """Slots of ``share`` cores on a node; a small one has one that gets less."""
    return max(min(cores, 1), cores // share)
