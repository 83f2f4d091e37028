"""The doctor: every fault that it can find, what it finds out for real, and a run with Paddle broken."""

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data import source as source_module
from cluebench.data.source import DataSource
from cluebench.demo import synthetic
from cluebench.diagnosis import doctor as doctor_module
from cluebench.diagnosis import probes
from cluebench.diagnosis.doctor import Doctor
from cluebench.diagnosis.probes import Driver, ask_driver, pinned_versions, run_python
from cluebench.foundation import file_facts
from cluebench.foundation.errors import NetworkError, UsageError
from cluebench.machine.nvidia import Device, DeviceLost, DriverFails, NvidiaDriver
from cluebench.pretrained import model_files
from tests.conftest import ROOT

DOCTOR = "grid_search_tools/doctor.py"
PINNED = {
    "paddlenlp": "3.0.0b4", "paddlepaddle": "3.3.1", "paddlepaddle-gpu": "3.3.1", "numpy": "1.26.4",
    "huggingface-hub": "0.36.2", "tqdm": "4.70.1", "rich": "15.0.0",
}  # fmt: skip
CPU_SET = {name: version for name, version in PINNED.items() if name != "paddlepaddle-gpu"}
GPU_SET = {name: version for name, version in PINNED.items() if name != "paddlepaddle"}
NO_PADDLE = {name: version for name, version in GPU_SET.items() if name != "paddlepaddle-gpu"}
CPU_PADDLE = {"cuda": None, "cudnn": None, "cards": 0, "card_error": None}
GPU_PADDLE = {"cuda": "12.6", "cudnn": "9.5.1", "cards": 2, "card_error": None}
CARDS = ["gpu 0: NVIDIA A100, 80 GiB", "gpu 1: NVIDIA A100, 80 GiB"]
GIB = 1 << 30


def healthy(environ=None, **changes) -> dict:
    """What the probes answer on a CPU machine on which nothing is wrong; ``environ``: environment variables."""
    return dict(
        environ=environ or {}, python_beside=None, pinned_versions=PINNED, installed_versions=CPU_SET,
        required_packages=["paddlenlp", "numpy", "tqdm", "rich"], run_python=(CPU_PADDLE, None), ask_driver=Driver(),
        shared_memory=16 * GIB, has_amd_processor=False, libraries=(),
    ) | changes  # fmt: skip


def with_cards(**changes) -> dict:
    """The same of a machine with two cards."""
    more = dict(
        installed_versions={**GPU_SET, "nvidia-cudnn-cu12": "9.5.1.17"}, run_python=(GPU_PADDLE, None),
        ask_driver=Driver("550.54.15", "12.4", CARDS), libraries=["libcuda.so.1"],
    )  # fmt: skip
    return healthy(**{**more, **changes})


@pytest.fixture
def machine(monkeypatch):
    """Function: makes the probes give these answers, and a doctor in /repository."""

    def make(answers) -> Doctor:
        for name in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", "CUDA_VISIBLE_DEVICES", "CLUE_DATA_DIR", "PPNLP_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in answers["environ"].items():
            monkeypatch.setenv(name, value)
        for module in (probes, doctor_module.cluebench, doctor_module.environment):
            for name in vars(module).keys() & answers:
                monkeypatch.setattr(module, name, lambda *arguments, answer=answers[name]: answer)
        monkeypatch.setattr(probes, "loads", lambda *names: not set(names).isdisjoint(answers["libraries"]))
        monkeypatch.setattr(doctor_module, "usable_cores", lambda: 8)
        monkeypatch.setattr(sys, "executable", "/venv/bin/python")
        return Doctor(Path("/repository"))

    return make


@pytest.mark.parametrize(
    "answers",
    [
        healthy(),
        with_cards(),
        healthy(installed_versions={**CPU_SET, "paddlepaddle": "3.3.1+cpu"}),  # a build of the tested version
        healthy(environ={"OMP_NUM_THREADS": "8", "MKL_DEBUG_CPU_TYPE": "4"}),
        healthy(shared_memory=64 << 20),  # only cards need it
        with_cards(ask_driver=Driver("525.60", "12.0", CARDS)),  # an older minor version runs it
        with_cards(installed_versions=GPU_SET, libraries=["libcuda.so.1", "libcudnn.so.9"]),
    ],
)
def test_nothing_wrong(answers, machine):
    doctor = machine(answers)
    doctor.look_at_software()
    assert_problem(doctor, "", "")


INSTALL = "cd /repository && /venv/bin/python -m pip install -r "

#: Answers of the probes → words of the problem, words of the fix.
FAULTS = {
    "no Paddle": (healthy(installed_versions=NO_PADDLE, run_python=(None, "No module named 'paddle'")), "PaddlePaddle is not installed", INSTALL + "requirements-cpu.txt"),
    "another environment": (healthy(python_beside="/repository/.venv/bin/python", installed_versions=NO_PADDLE), "not installed", "source /repository/.venv/bin/activate"),
    "both Paddles": (healthy(installed_versions=PINNED), "overwrite each other's files", "uninstall -y paddlepaddle paddlepaddle-gpu && " + INSTALL),
    "missing package": (healthy(required_packages=["paddlenlp", "psutil"]), "not installed: psutil", INSTALL),
    "paddle of another version": (healthy(installed_versions={**CPU_SET, "paddlepaddle": "2.6.2"}), "paddlepaddle 2.6.2 (tested: 3.3.1)", INSTALL),
    "all others": (healthy(installed_versions=dict.fromkeys(CPU_SET, "0")), "tested together: huggingface-hub 0 (tested: 0.36.2), numpy 0 (tested: 1.26.4), paddlenlp 0 (tested: 3.0.0b4), paddlepaddle 0 (tested: 3.3.1), rich 0 (tested: 15.0.0) and 1 more", INSTALL),
    "Paddle broken": (healthy(run_python=(None, "ImportError: libgomp.so.1: cannot open")), "PaddlePaddle does not import: ImportError: libgomp.so.1", "uninstall -y paddlepaddle"),
    "PaddleNLP broken": (healthy(run_python=(CPU_PADDLE, "ImportError: cannot import name 'x'")), "PaddleNLP does not import: ImportError", INSTALL),
    "CPU build beside cards": (with_cards(installed_versions=CPU_SET, run_python=(CPU_PADDLE, None)), "2 NVIDIA card(s), but this PaddlePaddle was built for CPUs", INSTALL + "requirements.txt"),
    "GPU build without driver": (with_cards(ask_driver=Driver(), libraries=["libcudnn.so.8"]), "no NVIDIA driver answers and libcuda.so.1 is not there", "--gpus all"),
    "driver hangs": (healthy(ask_driver=Driver(error="the NVIDIA driver did not answer within 15 s")), "did not answer within 15 s", "nvidia-smi"),
    "card lost": (with_cards(ask_driver=Driver("550.54.15", "12.4", CARDS, ["gpu 2 does not answer: GPU is lost"])), "gpu 2 does not answer: GPU is lost", "rebooted"),
    "driver too old": (with_cards(ask_driver=Driver("470.10", "11.4", CARDS)), "driver 470.10 runs CUDA 11.4, PaddlePaddle was built for 12.6", "a build for CUDA 11 by changing cu126 in /repository/requirements.txt"),
    "no cuDNN": (with_cards(installed_versions=GPU_SET), "no libcudnn for this GPU build", INSTALL + "requirements.txt"),
    "card fails": (with_cards(run_python=({**GPU_PADDLE, "card_error": "no kernel image is available"}, None)), "can't compute on the first card: no kernel image", "nvidia-smi; "),
    "cards hidden": (with_cards(run_python=({**GPU_PADDLE, "cards": 0}, None), environ={"CUDA_VISIBLE_DEVICES": ""}), "the driver shows 2 card(s), PaddlePaddle none, as CUDA_VISIBLE_DEVICES is ''", "unset CUDA_VISIBLE_DEVICES"),
    "cards not seen": (with_cards(run_python=({**GPU_PADDLE, "cards": 0}, None)), "the driver shows 2 card(s), PaddlePaddle none", "pip uninstall"),
    "little shared memory": (with_cards(shared_memory=64 << 20), "/dev/shm holds only 64.0 MiB", "--shm-size=8g"),
    "no shared memory": (with_cards(shared_memory=0), "/dev/shm holds only 0 B", "--shm-size=8g"),
    "too many threads": (healthy(environ={"OMP_NUM_THREADS": "64"}), "OMP_NUM_THREADS is '64' on 8 core(s)", "unset OMP_NUM_THREADS"),
    "threads are no number": (healthy(environ={"OMP_NUM_THREADS": "all"}), "OMP_NUM_THREADS is 'all'", "unset OMP_NUM_THREADS"),
    "AMD switch": (healthy(has_amd_processor=True, environ={"MKL_DEBUG_CPU_TYPE": "4"}), "MKL_DEBUG_CPU_TYPE is '4'", "unset MKL_DEBUG_CPU_TYPE"),
}  # fmt: skip


def assert_problem(doctor: Doctor, problem: str, fix: str) -> None:
    """The doctor has found one problem with these words, or nothing for ``""``; in the report it is one line, and its fix."""
    found = doctor.problems
    assert len(found) == bool(problem)
    assert all(problem in one and fix in repair and "\n" not in one + repair for one, repair in found)
    assert doctor.report().endswith(
        "".join(f"\n\n1. {one}\n   fix: {repair}" for one, repair in found) or "\n\nnothing is wrong"
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_reported_once_with_its_fix(fault, machine):
    answers, problem, fix = FAULTS[fault]
    doctor = machine(answers)
    doctor.look_at_software()
    assert_problem(doctor, problem, fix)


def test_lines_on_the_machine(machine, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=32 * GIB))
    monkeypatch.setattr(doctor_module, "memory_limit", lambda: None)
    doctor = machine(with_cards(environ={"CUDA_VISIBLE_DEVICES": "0,1"}, has_amd_processor=True))
    doctor.look_at_software()
    assert doctor.report().splitlines()[:-2] == [
        "python            3.11.7 (/venv/bin/python)",
        "paddlepaddle-gpu  3.3.1",
        "paddlenlp         3.0.0b4",
        "numpy             1.26.4",
        "huggingface-hub   0.36.2",
        "CUDA build        CUDA 12.6, cuDNN 9.5.1",
        "NVIDIA driver     550.54.15 (CUDA 12.4), 2 card(s)",
        "                  gpu 0: NVIDIA A100, 80 GiB",
        "                  gpu 1: NVIDIA A100, 80 GiB",
        "CPU               8 core(s), AMD, 32.0 GiB of memory",
        "CUDA_VISIBLE_DEVICES 0,1",
    ]


# Disks, data, models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variable, status, problem, fix",
    [
        ("--cache_dir", {}, "", ""),
        ("--cache_dir", {"f_bavail": 200}, "200.0 MiB free", "rm -r {} (it is made again when needed), or name"),
        ("--run_root", {"f_bavail": 0}, "0 B free", "free some space, or name another place by --run_root"),
        ("--cache_dir", {"f_favail": 0}, "no more files can be made on that disk", "rm -r {}"),
        ("--cache_dir", {"f_favail": 0, "f_files": 0}, "", ""),  # a file system without inodes
    ],
)
def test_disks(variable, status, problem, fix, machine, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"x" * 5120)
    status = {"f_frsize": 1 << 20, "f_bavail": 50 << 10, "f_files": 99999, "f_favail": 9999} | status
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(**status))
    doctor = machine(healthy())
    doctor.look_at_disk("files", tmp_path, variable)
    free = {0: "0 B", 200: "200.0 MiB"}.get(status["f_bavail"], "50.0 GiB")
    assert doctor.lines == [("files", f"{tmp_path} (5.0 KiB used, {free} free)")]
    assert_problem(doctor, problem, fix.format(tmp_path))


def test_where_nothing_can_be_written(machine, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    problem, fix = ": can't be written", "name another place by --run_root, or make this one writable"
    for place, *expected in (("not yet/there", "", ""), ("file/runs", problem, fix), ("", problem, fix)):
        if not place:
            monkeypatch.setattr(os, "access", lambda path, mode: False)
        doctor = machine(healthy())
        doctor.look_at_disk("runs", tmp_path / place, "--run_root")
        assert_problem(doctor, *expected)
        assert "used" not in doctor.report()


@pytest.fixture
def data(machine, tmp_path, monkeypatch):
    """A folder of all files of two tasks, and a function: looks at the data, gives the doctor's lines on a task."""
    sizes = dict.fromkeys(["tnews", "c3"], synthetic.Sizes(4, 4, 4))
    synthetic.write_synthetic(tmp_path, tasks=list(sizes), sizes=sizes)

    def look(title):
        doctor = machine(healthy())
        doctor.look_at_data(str(tmp_path))
        return doctor, [pair for pair in doctor.problems if pair[0].startswith(f"{title}: ")]

    return look


def test_data(data, tmp_path, capsys):
    (tmp_path / "c3_public" / "m-dev.json").unlink()
    doctor, [(problem, fix)] = data("C3")
    assert problem == f"C3: m-dev.json missing in {tmp_path}"
    assert fix.startswith("put the official archive https://") and fix.endswith("/c3_public.zip there as it is")
    assert doctor.lines == [("data", f"{tmp_path}: 1 of 10 tasks whole (TNEWS)")]
    assert data("TNEWS")[1] == [] and "train.json, dev.json, test.json missing" in data("CSL")[1][0][0]
    (tmp_path / "synthetic.json").unlink()  # now they pass themselves off as official
    _, [(problem, fix)] = data("TNEWS")
    assert "train.json" in problem and problem.endswith("differ from the official files, so scores can't be compared")
    assert fix.endswith("tnews_public.zip in their place, unless these are meant")
    (tmp_path / "csl_public.zip").write_bytes(b"PK\x03\x04 cut off")
    doctor, [(problem, fix)] = data("CSL")
    assert "csl_public.zip" in problem and fix.endswith("csl_public.zip there again")
    assert "CSL" not in doctor.lines[0][1]
    assert capsys.readouterr().err == ""


def test_data_that_is_downloaded_later(machine, tmp_path, monkeypatch):
    """Without a place given, all files of a task may be missing, not some."""
    home = tmp_path / "datasets" / "clue"
    monkeypatch.setattr(source_module, "data_home", lambda: home)
    doctor = machine(healthy())
    doctor.look_at_data(None)
    assert doctor.lines[0][1].endswith("0 of 10 tasks whole; missing files are downloaded when they are needed")
    assert_problem(doctor, "", "")
    synthetic.write_synthetic(home, tasks=["c3"], sizes={"c3": synthetic.Sizes(4, 4, 4)})
    (home / "c3_public" / "m-dev.json").unlink()
    doctor.look_at_data(None)
    assert_problem(doctor, f"C3: m-dev.json missing in {home}", "c3_public.zip there as it is")


def test_no_data_directory(machine):
    doctor = machine(healthy())
    doctor.look_at_data("/nowhere")
    assert doctor.lines == [("data", "none")]
    assert_problem(doctor, "/nowhere", "export CLUE_DATA_DIR=")


HERE = SimpleNamespace(folder="/m")


def refuse(error):
    raise error


@pytest.mark.parametrize(
    "files, answer, line, problem, fix",
    [
        (HERE, ({"reasons": {}}, None), "in /m, can do all tasks", "", ""),
        (HERE, ({"reasons": {"C3": "its inputs have up to 512 tokens"}}, None),
         "in /m, can do all tasks, except C3", "m can't do C3: its inputs have up to 512 tokens", "--tasks"),
        (HERE, ({"error": "m: no"}, None), "can't be loaded", "model m: no", "repair that directory"),
        (HERE, (None, "killed"), "can't be loaded", "model killed", "repair that directory"),
        (HERE, None, "in /m, not tried without PaddleNLP", "", ""),
        (None, None, "not here yet; warmup_dataset_and_model.py fetches it", "", ""),
        (UsageError("m: no vocab.txt"), None, "can't be loaded", "model m: no vocab.txt", "repair that directory"),
        (NetworkError("m: can't be reached"), None, "can't be loaded", "model m: can't be reached", "copy the model here"),
    ],
)  # fmt: skip
def test_models(files, answer, line, problem, fix, machine, monkeypatch):
    doctor = machine(healthy())
    doctor._loads_models = bool(answer)
    monkeypatch.setattr(model_files, "find", lambda model: refuse(files) if isinstance(files, Exception) else files)
    monkeypatch.setattr(probes, "run_python", lambda code, name: answer)
    doctor.look_at_model("m")
    assert doctor.lines == [("model", f"m: {line}")]
    assert_problem(doctor, problem, fix)


def test_exit_codes(monkeypatch, run_command):
    monkeypatch.setattr(Doctor, "examine", lambda self, *flags: None)
    ended = run_command(DOCTOR)
    assert (ended.code, ended.lines) == (0, ["", "nothing is wrong"])
    monkeypatch.setattr(Doctor, "examine", lambda self, *flags: self.problems.append(("no disk", "buy one")))
    ended = run_command(DOCTOR)
    assert (ended.code, ended.lines) == (1, ["", "1. no disk", "   fix: buy one"])


# What it finds out ----------------------------------------------------------------------------------------------------


def test_pins_are_read_for_the_running_python():
    versions = [pinned_versions(ROOT, (3, minor)) for minor in (10, 11, 12)]
    assert {pins["paddlenlp"] for pins in versions} == {"3.0.0b4"}
    assert versions[0]["pandas"] != versions[1]["pandas"] == versions[2]["pandas"]
    assert versions[0]["exceptiongroup"] and "tomli" in versions[0] and "tomli" not in versions[2]
    assert versions[1]["huggingface-hub"] and versions[1]["paddlepaddle"] == versions[1]["paddlepaddle-gpu"]
    assert len(versions[1]) > 100


def test_what_the_package_needs_is_found_without_a_file_of_pins(tmp_path):
    """As for a package that was installed from a wheel."""
    required = probes.required_packages()
    assert pinned_versions(tmp_path, (3, 11)) == {} and "msgspec" in required
    assert probes.installed_versions(required).keys() == {*required}


def test_data_is_read_although_its_md5_is_remembered(data, tmp_path, monkeypatch):
    """A disk may lose bytes of a file whose size and times stay the same."""
    for module in (file_facts, source_module):
        monkeypatch.setattr(module, "version_of", lambda *files: "the same")
    path, csl = tmp_path / "csl_public.zip", TASKS["csl"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("dev.json", "x" * 100)
    DataSource(tmp_path).md5(csl, "dev.json")
    path.write_bytes(path.read_bytes().replace(b"x" * 100, b"x" * 99 + b"y"))
    monkeypatch.setattr(source_module, "_md5_sums", {})  # as in another process
    assert len(DataSource(tmp_path).md5(csl, "dev.json")) == 32
    _, [(problem, _)] = data("CSL")
    assert "csl_public.zip can't be read as a zip archive (Bad CRC-32" in problem


def test_driver_versions():
    class Error(Exception):
        pass

    nvml = SimpleNamespace(
        NVMLError=Error, nvmlSystemGetDriverVersion=lambda: "550.54.15", nvmlSystemGetCudaDriverVersion=lambda: 12040
    )
    assert NvidiaDriver(nvml).versions() == ("550.54.15", "12.4")
    nvml.nvmlSystemGetDriverVersion = lambda: (_ for _ in ()).throw(Error("driver not loaded"))
    with pytest.raises(DeviceLost, match="not loaded"):
        NvidiaDriver(nvml).versions()


def driver_that(**methods):
    base = dict(versions=lambda: ("550.1", "12.4"), cards=list, lost={}, close=lambda: None)
    return SimpleNamespace(open=lambda: SimpleNamespace(**{**base, **methods}))


CARD = Device("GPU-a", "gpu 0", "gpu", "A100", 80 * GIB)
FAILS = DriverFails(Exception("Unknown Error"))


@pytest.mark.parametrize(
    "driver, answer",
    [
        (driver_that(cards=lambda: [[CARD], []], lost={1: "x"}),
         Driver("550.1", "12.4", ["gpu 0: A100, 80 GiB"], ["gpu 1 does not answer: x"])),
        (SimpleNamespace(open=lambda: refuse(FAILS)), Driver(error=str(FAILS))),
        (driver_that(cards=lambda: refuse(DeviceLost("GPU is lost"))), Driver(error="the NVIDIA driver fails: GPU is lost")),
        (driver_that(versions=lambda: time.sleep(5)), Driver(error="the NVIDIA driver did not answer within 0.2 s")),
        (SimpleNamespace(open=lambda: None), Driver()),
    ],
)  # fmt: skip
def test_a_driver_in_trouble_stops_nothing(driver, answer, monkeypatch):
    monkeypatch.setattr(probes, "NvidiaDriver", driver)
    monkeypatch.setattr(probes, "_DRIVER_PATIENCE", 0.2)
    assert ask_driver() == answer


def test_processes_that_fail_are_one_line():
    assert run_python("import json; print('chatter'); print(json.dumps({'a': 1}))") == ({"a": 1}, None)
    assert run_python("raise ValueError('no\\nuse')") == (None, "use")
    assert run_python("import os; os._exit(7)") == (None, "the process ended with exit code 7")
    assert run_python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")[1].startswith("the process ended")


# For real -------------------------------------------------------------------------------------------------------------


def run_doctor(*arguments, before=""):
    """The command, with modules in ``before`` instead of the installed ones."""
    command = [sys.executable, str(ROOT / DOCTOR), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(before)}
    )


@pytest.mark.slow
def test_it_works_where_paddle_does_not(tmp_path):
    (tmp_path / "paddle.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')\n")
    ended = run_doctor("--data_dir", tmp_path, "--run_root", tmp_path, before=tmp_path)
    assert ended.returncode == 1 and ended.stderr == ""
    assert "PaddlePaddle does not import: ImportError: libcudart.so.12" in ended.stdout
    assert "AFQMC: train.json, dev.json, test.json missing" in ended.stdout
    assert f"{sys.executable} -m pip" in ended.stdout


@pytest.mark.slow
def test_a_real_model_and_real_data(tmp_path):
    from cluebench.foundation import environment

    environment.import_paddle()
    from cluebench.demo.embedded_model import write_demo_model

    write_demo_model(tmp_path / "model", synthetic.characters())
    synthetic.write_synthetic(tmp_path / "data", sizes={name: synthetic.Sizes(4, 4, 4) for name in TASKS})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    places = ["--data_dir", tmp_path / "data", "--cache_dir", tmp_path, "--run_root", tmp_path]
    ended = run_doctor(tmp_path / "model", tmp_path / "broken", *places)
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert f"model             {tmp_path / 'model'}: in {tmp_path / 'model'}, can do all tasks" in lines
    assert any(line.startswith("data ") and "10 of 10 tasks whole" in line for line in lines)
    assert any("broken: no vocab.txt or tokenizer.json in this model directory" in line for line in lines)
    assert ended.returncode == 1
