"""Devices through the real pynvml package, on a C library that stands in for the driver."""

import ctypes
import os
import subprocess
import sys
import textwrap
import time

import pynvml
import pytest

from cluebench.foundation.errors import UsageError
from cluebench.foundation.resource_limits import usable_cores
from cluebench.machine.devices import child_environment, find_devices
from cluebench.machine.nvidia import Device, DeviceLost, NvidiaDriver, Reading
from cluebench.scheduler.allocation.ledger import Ledger, Need
from cluebench.scheduler.allocation.promises import Promise
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.jobs import Attempt
from cluebench.scheduler.processes.engine import Engine, Events
from tests.simulated import job_of, trials

GIB = 1 << 30
TWO_CARDS = """\
card GPU-aaaa1111 Test-24G 24576 24000 ok
process 4711 500
card GPU-bbbb2222 Old-Test-16G 16384 16384 ok
"""
WITH_INSTANCES = """\
card GPU-cccc3333 Test-80G 81920 81000 ok
mig MIG-aaaa Test-80G-MIG-1g.10gb 9856 9800 ok
mig MIG-bbbb Test-80G-MIG-1g.10gb 9856 9700 ok
card GPU-dddd4444 Test-24G 24576 24000 ok
"""


@pytest.fixture
def have(fake_driver, tmp_path, monkeypatch):
    """Called with the text of a cards file: the driver of a machine with these cards."""
    cards, drivers = tmp_path / "cards.txt", []
    monkeypatch.setenv("FAKE_NVML", str(cards))
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(fake_driver / "libnvidia-ml.so.1")))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    def opened(text):
        cards.write_text(text)
        drivers.append(NvidiaDriver.open())
        return drivers[-1]

    yield opened
    for driver in filter(None, drivers):
        driver.close()


@pytest.fixture
def change(have, tmp_path):
    """Replaces a text in the cards file."""
    cards = tmp_path / "cards.txt"
    return lambda old, new: cards.write_text(cards.read_text().replace(old, new))


def found(request, driver, visible=None):
    """The ids of the devices that are found, or the error."""
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    try:
        return [device.id for device in find_devices(request, environment, driver)]
    except UsageError as error:
        return str(error)


def test_cards_by_uuid_with_names_and_memory(have):
    driver = have(TWO_CARDS)
    assert find_devices("auto", {}, driver) == [
        Device("GPU-aaaa1111", "gpu 0", "gpu", "Test-24G", 24 * GIB, True),
        Device("GPU-bbbb2222", "gpu 1", "gpu", "Old-Test-16G", 16 * GIB, True),
    ]
    reading = driver.read("GPU-aaaa1111")
    assert (reading.total, reading.free, reading.processes) == (24 * GIB, 24000 << 20, {4711: 500 << 20})


@pytest.mark.parametrize(
    "visible, expected",
    [
        ("1,0", ["GPU-bbbb2222", "GPU-aaaa1111"]),
        ("GPU-bb", ["GPU-bbbb2222"]),
        ("0,7,1", ["GPU-aaaa1111"]),  # as in CUDA, nothing behind an invalid entry
        ("GPU-bbbb2222,GPU-aaaa1111", ["GPU-bbbb2222", "GPU-aaaa1111"]),
        ("0,0", ["GPU-aaaa1111"]),
    ],
)
def test_cuda_visible_devices_is_respected(have, visible, expected):
    assert found("auto", have(TWO_CARDS), visible) == expected


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles", "none", "void", "-1,0"])
def test_no_visible_card_means_cpu_slots_in_auto_and_an_error_otherwise(have, visible):
    driver = have(TWO_CARDS)
    assert found("auto", driver, visible)[0] == "cpu:0"
    none = f"CUDA_VISIBLE_DEVICES={visible} names no card of this machine, which has 2"
    assert found("gpu", driver, visible) == f"--devices gpu: {none}; try --devices cpu:2"


@pytest.mark.parametrize("visible", ["2,3", "GPU-9999", "cuda:0", "all", "MIG-GPU-aaaa1111/7/0"])
def test_a_variable_that_names_no_card_where_there_are_some_is_refused(have, visible):
    none = f"CUDA_VISIBLE_DEVICES={visible} names no card of this machine, which has 2"
    reported = found("auto", have(TWO_CARDS), visible)
    assert reported == f"--devices auto: {none}; repair it, or choose --devices cpu"
    assert found("auto", have(""), visible)[0] == "cpu:0"  # a machine without


@pytest.mark.parametrize(
    "failure, reported", [(999, "Unknown Error"), (18, "NVML/RM version mismatch"), (10, "Timeout")]
)
def test_a_driver_that_fails_to_start_is_no_machine_without_cards(have, failure, reported):
    with pytest.raises(UsageError, match=f"the NVIDIA driver fails: .*{reported}.*reboot"):
        have(f"fails {failure}\n")


def test_cards_that_do_not_report_memory_are_used_one_trial_each(have, capsys):
    devices = find_devices("auto", {}, have(TWO_CARDS.replace("24000 ok", "24000 unified")))
    assert [device.total_bytes for device in devices] == [None, 16 * GIB]
    assert "gpu 0 (Test-24G) does not report its memory size" in capsys.readouterr().err
    ledger = Ledger(devices[:1], GridFlags(jobs_per_device=4))
    assert ledger.place(Need(1, 1 << 40), 0.0) == ["GPU-aaaa1111"]
    job = job_of(*trials("tnews"))
    job.attempts.append(Attempt(devices=["GPU-aaaa1111"]))
    ledger.reserve(job)
    assert ledger.place(Need(1, 0), 0.0) is None
    ledger.release(job)
    ledger.see([Promise(1, "", ["GPU-aaaa1111"], 0)])
    assert ledger.place(Need(1, 0), 0.0) is None


def test_npus_and_xpus_are_used_by_number_and_reported_to_all_who_look():
    for kind, variables in (
        ("npu", ("ASCEND_RT_VISIBLE_DEVICES", "NPU_VISIBLE_DEVICES")),
        ("xpu", ("XPULINK_VISIBLE_DEVICES", "XPU_VISIBLE_DEVICES")),
    ):
        found = find_devices(f"{kind}:1,3,1", {}, None)
        assert [(d.id, d.label, d.kind, d.total_bytes, d.joinable) for d in found] == [
            (f"{kind}:{number}", f"{kind} {number}", kind, None, False) for number in (1, 3)
        ]
        environment = child_environment(found[1:], 2)
        assert [environment[name] for name in variables] == ["3", "3"] and "CUDA_VISIBLE_DEVICES" not in environment
        for name in variables:
            assert [d.id for d in find_devices(f"{kind}:1,3", {name: "3, 4"}, None)] == [f"{kind}:3"]
            with pytest.raises(UsageError, match=f"{variables[0]} and {variables[1]} allow none of these cards"):
                find_devices(f"{kind}:1", {name: "3"}, None)
        for wrong in (kind, f"{kind}:", f"{kind}:x", f"{kind}:0,"):
            with pytest.raises(UsageError, match=f"--devices {wrong}: choose"):
                find_devices(wrong, {}, None)


@pytest.mark.parametrize(
    "request_, visible, expected",
    [
        ("gpu:1", None, ["GPU-bbbb2222"]),
        ("gpu:0,1", "1", ["GPU-bbbb2222"]),
        ("gpu:GPU-aaaa1111", None, ["GPU-aaaa1111"]),
        ("gpu:0", "1", "--devices gpu:0: CUDA_VISIBLE_DEVICES allows none of these cards"),
        ("gpu:2", None, "--devices gpu:2: there is no card '2' (this machine has 2)"),
    ],
)
def test_devices_flag_is_intersected(have, request_, visible, expected):
    assert found(request_, have(TWO_CARDS), visible) == expected


@pytest.mark.parametrize(
    "visible, expected",
    [
        (None, ["MIG-aaaa", "MIG-bbbb", "GPU-dddd4444"]),
        ("MIG-bbbb", ["MIG-bbbb"]),
        ("0", ["MIG-aaaa", "MIG-bbbb"]),
        ("MIG-GPU-cccc3333/7/0", ["MIG-bbbb"]),  # as drivers of before 2021 called it
    ],
)
def test_instances_of_a_card_are_devices(have, visible, expected):
    assert found("auto", have(WITH_INSTANCES), visible) == expected


def test_instances_are_named_by_their_card_and_never_joined(have):
    devices = find_devices("auto", {}, have(WITH_INSTANCES))
    assert [device.label for device in devices] == ["gpu 0 mig 0", "gpu 0 mig 1", "gpu 1"]
    assert [device.joinable for device in devices] == [False, False, True]


def test_card_that_fails_keeps_the_numbers_of_the_others(have, capsys):
    (card,) = find_devices("auto", {}, have(TWO_CARDS.replace("24000 ok", "24000 lost")))
    assert (card.id, card.label, card.joinable) == ("GPU-bbbb2222", "gpu 1", True)
    assert "gpu 0 does not answer (GPU is lost) and is left out" in capsys.readouterr().err


def test_lost_cards_are_no_reason_to_run_on_the_cpu(have):
    driver = have(TWO_CARDS.replace("ok", "lost"))
    assert found("auto", driver).startswith("--devices auto: 2 NVIDIA card(s) of this machine do not answer")
    assert found("auto", driver, "")[0] == "cpu:0"  # who hides them means the CPU


@pytest.mark.parametrize("text", ["no driver\n", ""])
def test_no_driver_or_no_card_means_cpu(have, text):
    driver = have(text)
    assert found("auto", driver)[0] == "cpu:0" and found("gpu:0", driver).startswith("--devices gpu:0: ")


def test_memory_over_time_and_a_card_that_is_lost_and_comes_back(have, change):
    driver, free = have(TWO_CARDS), []
    for old, new in (
        (" 16384 ok", " 16384 ok"),
        (" 16384 ok", " 1000 ok"),
        (" 1000 ok", " 1000 lost"),
        (" 1000 lost", " 9000 ok"),
    ):
        change(old, new)
        try:
            free.append(driver.read("GPU-bbbb2222").free >> 20)
        except DeviceLost as error:
            free.append(str(error))
    assert free == [16384, 1000, "GPU is lost", 9000] and driver.read("GPU-aaaa1111").free >> 20 == 24000
    for status, certain in (("lost", True), ("trouble", False)):
        change("24000 ok", f"24000 {status}")
        with pytest.raises(DeviceLost) as lost:
            driver.read("GPU-aaaa1111")
        assert lost.value.certain is certain
        change(f"24000 {status}", "24000 ok")


def test_driver_that_hangs_holds_only_the_monitor(have, change):
    events, driver = Events(), have(TWO_CARDS)
    change("16384 ok", "16384 hang")
    begin = time.monotonic()
    Engine([], driver, events).measure("GPU-bbbb2222")
    assert time.monotonic() - begin < 0.1 and events.get(0.3) is None
    change("16384 hang", "16384 ok")
    assert events.get(30.0).device_id == "GPU-bbbb2222"


# Without any driver ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", ["cpu:0", "cpu:x", "cpu:", "auto:1", "tpu", "gpu:", "cpu:-1"])
def test_wrong_requests_name_the_flag(request_):
    with pytest.raises(UsageError, match=f"--devices {request_}: "):
        find_devices(request_, {}, None)


def test_cpu_slots_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    slots = find_devices("cpu:2", {}, None)
    assert [slot.id for slot in slots] == ["cpu:0", "cpu:1"]
    environment = child_environment(slots[:1], 2)
    assert environment["OMP_NUM_THREADS"] == str(max(1, usable_cores() // 2))
    assert environment["CUDA_VISIBLE_DEVICES"] == "" and environment["PYTHONUNBUFFERED"] == "1"


def test_a_slurm_job_that_was_given_cards_never_falls_back_to_the_cpu():
    with pytest.raises(UsageError, match="Slurm has given this job GPU 1 of n7, but no card answers there"):
        find_devices("auto", {"SLURM_JOB_GPUS": "1", "SLURMD_NODENAME": "n7", "CUDA_VISIBLE_DEVICES": "0"}, None)
    assert find_devices("cpu:1", {"SLURM_JOB_GPUS": "1"}, None)


def test_children_get_uuids_in_the_order_of_the_bus():
    cards = [Device("GPU-b", "gpu 1", "gpu", "", GIB, True), Device("GPU-a", "gpu 0", "gpu", "", GIB, True)]
    environment = child_environment(cards, 2)
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-b,GPU-a"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_the_engine_posts_readings_and_losses():
    class Driver:
        def read(self, device_id):
            if device_id == "bad":
                raise DeviceLost("gone")
            return reading

    reading, events = Reading(2, 1, {}), Events()
    for device in ("good", "bad"):
        Engine([], Driver(), events).measure(device)
    answers = {event.device_id: event.answer for event in (events.get(5.0), events.get(5.0))}  # in any order
    assert answers["good"] == reading and str(answers["bad"]) == "gone"


# A real card ----------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.slow
def test_real_card_shows_what_a_program_allocates():
    """On a machine with an NVIDIA card: memory a program takes with cudaMalloc is missing from what is free."""
    driver = NvidiaDriver.open()
    cards = [device for devices in driver.cards() for device in devices] if driver else []
    if not cards:
        pytest.skip("no NVIDIA card")
    cards = find_devices("gpu", os.environ, driver)
    before = driver.read(cards[0].id)
    assert 0 < before.free <= before.total == cards[0].total_bytes
    allocate = """
        import ctypes, sys
        cuda = ctypes.CDLL("libcuda.so.1")
        check = lambda status: status and sys.exit(f"CUDA error {status}")
        device, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
        check(cuda.cuInit(0)); check(cuda.cuDeviceGet(ctypes.byref(device), 0))
        check(cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device))
        check(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(2 << 30)))
        print("ready", flush=True); sys.stdin.read()
    """
    environment = {**os.environ, **child_environment(cards[:1], 1)}
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(allocate)],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert program.stdout.readline() == "ready\n"
        during = driver.read(cards[0].id)
        assert before.free - during.free >= 2 << 30
    finally:
        program.communicate()
    after = driver.read(cards[0].id)
    assert after.free - during.free >= 2 << 30
