"""The Ray engine on a stand-in for Ray: places that are given, refused, lost; trials that fail and that are lost."""

import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluebench.benchmark.tasks import Setting
from cluebench.foundation.errors import UsageError
from cluebench.machine.nvidia import Device, Reading
from cluebench.pretrained.model import Model
from cluebench.records.paths import TrialPaths
from cluebench.records.trial import Trial
from cluebench.scheduler.plan.jobs import Attempt, Job
from cluebench.scheduler.processes import ray_engine
from cluebench.scheduler.processes.engine import Changed, Events, Exited
from cluebench.scheduler.processes.local_engine import LocalEngine
from cluebench.scheduler.processes.trial_process import Holding, StartOrder
from tests.grid.conftest import until


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class Vanishing(dict):
    """A trial that its thread takes out as soon as the loop has seen it."""

    def __contains__(self, key):
        return super().pop(key, None) is not None


class Answer:
    """What a remote call will give: a value, or an exception; nothing until then."""

    def __init__(self):
        self.known, self.value = threading.Event(), None

    def give(self, value):
        self.value = value
        self.known.set()


class Actor:
    """Answers what the test has it answer; its death answers everything."""

    def __init__(self, options):
        self.options, self.asked = options, []
        self.killed = False

    def __getattr__(self, method):
        return SimpleNamespace(remote=lambda *arguments: self._ask(method))

    def _ask(self, method):
        self.asked.append((method, Answer()))
        if self.killed:
            self.asked[-1][1].give(RayActorError("killed"))
        return self.asked[-1][1]

    def answer(self, method, value):
        until(lambda: any(m == method and not a.known.is_set() for m, a in self.asked), what=method)
        next(a for m, a in self.asked if m == method and not a.known.is_set()).give(value)

    def die(self, said="The actor died because its node has died."):
        self.killed = True
        for _, answer in self.asked:
            if not answer.known.is_set():
                answer.give(RayActorError(said))


class StandIn:
    """The part of Ray's interface that the engine uses, on nodes of the test's making."""

    exceptions = SimpleNamespace(RayError=RayError, RayActorError=RayActorError)

    def __init__(self, **nodes):
        self.actors, self.table = [], []
        for name, resources in nodes.items():
            self.add(name, **resources)

    def add(self, name, **resources):
        self.table.append({"NodeID": f"id-of-{name}", "NodeName": name, "NodeManagerAddress": "10.0.0.1",
                           "NodeManagerHostname": "host", "Alive": True, "Resources": resources})  # fmt: skip

    def init(self, **arguments):
        pass

    def nodes(self):
        return self.table

    def remote(self, cls):
        def options(**options):
            self.actors.append(Actor(options))
            return SimpleNamespace(remote=lambda: self.actors[-1])

        return SimpleNamespace(options=options)

    def get(self, answer):
        answer.known.wait()
        if isinstance(answer.value, Exception):
            raise answer.value
        return answer.value

    def kill(self, actor):
        actor.die("killed by `ray.kill`")

    def shutdown(self):
        pass


@pytest.fixture
def start(monkeypatch):
    """Makes an engine on a stand-in, whose places answer as ``answers`` say of the node; a card is pretended."""
    monkeypatch.setattr(ray_engine, "_NODE_RECHECK", 0.05)
    monkeypatch.setattr(ray_engine, "_PATIENCE", 0.2)
    engines = []

    def make(ray, answers=None, request="auto"):
        strategies = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node_id, soft: node_id)
        modules = {"ray": ray, "ray.util": SimpleNamespace(scheduling_strategies=strategies)}
        for name, module in (modules | {"ray.util.scheduling_strategies": strategies}).items():
            monkeypatch.setitem(sys.modules, name, module)
        events, over = Events(), threading.Event()

        def answer():
            seen = 0
            while not over.wait(0.01):
                for actor in ray.actors[seen:]:
                    found = (answers or {}).get(actor.options["scheduling_strategy"].removeprefix("id-of-"))
                    if found != "held by others":
                        number = sum("num_gpus" in a.options for a in ray.actors[:seen])
                        cards = [Device(str(number), f"gpu {number}", "gpu", joinable=True)]
                        actor.answer("cards", found or (cards if "num_gpus" in actor.options else []))
                    seen += 1

        threading.Thread(target=answer, daemon=True).start()
        try:
            engine = ray_engine.RayEngine(request, None, 1, events, [Path("/repository")])
        except UsageError:
            over.set()
            raise
        engines.append((engine, over))
        return engine, events

    yield make
    for engine, over in engines:
        engine.close()
        over.set()


def heard(events, kind):
    while (event := events.get(timeout=5.0)) is not None:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__} was heard")


def test_every_card_of_every_node_is_held_where_it_is(start):
    ray = StandIn(a={"CPU": 9.0, "GPU": 2.0}, b={"CPU": 1.0, "GPU": 4.0}, head={"CPU": 8.0})
    engine, _ = start(ray)
    held = sorted((actor.options["scheduling_strategy"], actor.options["num_gpus"]) for actor in ray.actors)
    assert held == [("id-of-a", 1)] * 2 + [("id-of-b", 1)] * 4
    assert {device.node: device.cores for device in engine.devices} == {"id-of-a": 4, "id-of-b": 1}
    # four cards that shared one core could else never be held at once
    assert {actor.options["num_cpus"] for actor in ray.actors} == {1.0, 0.25}


@pytest.mark.parametrize(
    "request_, slots",
    [("cpu", {"a": [2, 2], "b": [1]}), ("cpu:1", {"a": [5]}), ("cpu:3", {"a": [2, 2], "b": [1]}),
     ("cpu:6", {"a": [1] * 5, "b": [1]})],
)  # fmt: skip
def test_cores_are_held_in_slots_on_nodes_large_enough_for_them(start, request_, slots):
    ray = StandIn(b={"CPU": 1.0}, a={"CPU": 5.0}, head={})
    engine, _ = start(ray, request=request_)
    found = {name: [d.cores for d in engine.devices if d.node == f"id-of-{name}"] for name in slots}
    assert found == slots and len(engine.devices) == sum(map(len, slots.values()))


def test_more_slots_than_cores_and_cards_by_number_are_refused(start):
    for request in ("cpu:7", "cpu:x", "gpu", "gpu:0"):
        with pytest.raises(UsageError, match=f"--devices {request}: "):
            start(StandIn(a={"CPU": 6.0}), request=request)


def test_a_node_that_is_not_fit_is_named_once_and_never_asked_again(start):
    bare = RayActorError("died\n  File x\nModuleNotFoundError: No module named 'cluebench'")
    ray = StandIn(a={"CPU": 1.0, "GPU": 3.0}, b={"CPU": 1.0, "GPU": 1.0})
    engine, events = start(ray, {"a": bare})
    assert [device.node for device in engine.devices] == ["id-of-b"]
    threading.Event().wait(0.3)  # six looks for nodes
    assert len(ray.actors) == 4
    notes = []
    while (event := events.get(timeout=0.0)) is not None:
        notes += [] if event.joined else [event.note]
    assert notes == ["node a is not used: ModuleNotFoundError: No module named 'cluebench'"]
    with pytest.raises(UsageError, match="node a is not used: there is no /repository"):
        start(StandIn(a={"CPU": 1.0}), {"a": "there is no /repository"})


def test_what_a_node_lacks_is_found_out_there(tmp_path):
    assert ray_engine._Place().cards(False, [str(tmp_path), str(tmp_path / "mrc")]) == f"there is no {tmp_path}/mrc"
    assert ray_engine._Place().cards(False, [str(tmp_path)]) == []


def test_a_card_that_others_hold_joins_when_it_is_free_and_one_that_dies_leaves_and_is_asked_for_again(start):
    ray = StandIn(a={"CPU": 1.0, "GPU": 1.0}, b={"CPU": 1.0, "GPU": 1.0})
    answers = {"b": "held by others"}
    engine, events = start(ray, answers)
    assert [device.label for device in engine.devices] == ["a gpu 0"]
    assert heard(events, Changed).note == "a gpu 0 joins the grid"
    ray.actors[1].answer("cards", [Device("0", "gpu 0", "gpu", joinable=True)])
    assert heard(events, Changed).note == "b gpu 0 joins the grid"
    ray.actors[1].die()
    left = heard(events, Changed)
    assert left.note == "b gpu 0 has left the cluster" and left.left == ["id-of-b 0"]
    until(lambda: len(ray.actors) == 3, what="another actor")
    ray.add("c", CPU=1.0, GPU=1.0)
    assert heard(events, Changed).note == "c gpu 3 joins the grid"


@pytest.mark.parametrize("ends, exited", [
    (-9, Exited("m/t/3e-05_32_0.1", -9)), (RayActorError("node has died"), Exited("m/t/3e-05_32_0.1", None, lost=True)),
    (RayError("remote traceback\nFileNotFoundError: /repository"), Exited("m/t/3e-05_32_0.1", 1)),
])  # fmt: skip
def test_a_trial_is_lost_with_its_actor_and_by_nothing_else(start, tmp_path, ends, exited):
    ray = StandIn(a={"CPU": 1.0, "GPU": 1.0})
    engine, events = start(ray)
    job = Job(Trial(Model.of("m"), "t", Setting(3e-5, 32, 0.1)), 0, TrialPaths(tmp_path, "x"), tmp_path / "lock", "h")
    job.attempts.append(Attempt(1, [], 1, 1, 0.0))
    engine.start(StartOrder(job, Holding((engine.devices[0].id,)), ["true"], {}, tmp_path))
    ray.actors[0].answer("run", ends)
    assert heard(events, Exited) == exited


@pytest.mark.parametrize("kind, held", [(LocalEngine, "_processes"), (ray_engine.RayEngine, "_running")])
def test_a_trial_that_ends_while_it_is_asked_to_stops_nothing(kind, held):
    engine = object.__new__(kind)
    setattr(engine, held, Vanishing(one=(SimpleNamespace(stop=Actor({}).stop), "mark")))
    if kind is LocalEngine:
        engine._processes = Vanishing(one=(2**22 + 1, "no such start", "no such mark"))
    engine.stop("one")
    engine.allocated("one", Reading(100, 100, {1: 5}))
    engine.stop("one", now=True)
