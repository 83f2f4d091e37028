"""The doctor: every fault it knows from facts made up for it, what it finds out for real, and a run with Paddle broken."""

import dataclasses
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.data import source as source_module
from cluebench.data.source import DataSource
from cluebench.demo import synthetic
from cluebench.diagnosis import facts as found_out
from cluebench.diagnosis.checks import findings, report
from cluebench.diagnosis.facts import Disk, Facts, ModelFacts, TaskData, look_at_disk, look_at_task, pinned_versions
from cluebench.foundation import file_facts
from cluebench.machine.nvidia import DeviceLost, DriverFails, NvidiaDriver
from tests.conftest import ROOT

DOCTOR = "grid_search_tools/doctor.py"
PINNED = {
    "paddlenlp": "3.0.0b4", "paddlepaddle": "3.3.1", "paddlepaddle-gpu": "3.3.1", "numpy": "1.26.4",
    "huggingface-hub": "0.36.2", "tqdm": "4.70.1", "rich": "15.0.0",
}  # fmt: skip
CPU_SET = {name: version for name, version in PINNED.items() if name != "paddlepaddle-gpu"}
GPU_SET = {name: version for name, version in PINNED.items() if name != "paddlepaddle"}
GIB = 1 << 30


def healthy(**changes) -> Facts:
    """A CPU machine on which nothing is wrong."""
    facts = Facts(
        python=(3, 11, 7),
        executable="/venv/bin/python",
        repository=Path("/repository"),
        python_beside=None,
        installed=dict(CPU_SET),
        pinned=PINNED,
        required=["paddlenlp", "numpy", "tqdm", "rich"],
        environ={},
        cores=8,
        memory_bytes=32 * GIB,
        shared_memory_bytes=16 * GIB,
        paddle={"version": "3.3.1", "cuda": None, "cudnn": None, "cards": 0, "card_error": None},
        libraries={"libcuda": False, "libcudnn": False},
        disks=[
            Disk(
                "token ids (cache)",
                Path("/cache"),
                "--cache_dir",
                bytes_used=5 * GIB,
                bytes_free=50 * GIB,
                inodes_free=9999,
            )
        ],
        data_directory="/data",
        data_is_given=True,
        data=[TaskData(task.title, f"https://mirror/{task.name}.zip") for task in TASKS.values()],
    )
    return dataclasses.replace(facts, **changes)


def with_cards(**changes) -> Facts:
    """A machine with two cards on which nothing is wrong."""
    more = dict(
        installed={**GPU_SET, "nvidia-cudnn-cu12": "9.5.1.17"},
        paddle={"version": "3.3.1", "cuda": "12.6", "cudnn": "9.5.1", "cards": 2, "card_error": None},
        driver={"version": "550.54.15", "cuda": "12.4"},
        cards=["gpu 0: NVIDIA A100, 80 GiB", "gpu 1: NVIDIA A100, 80 GiB"],
        libraries={"libcuda": True, "libcudnn": False},
    )
    return healthy(**{**more, **changes})


@pytest.mark.parametrize("facts", [healthy(), with_cards()], ids=["cpu", "gpu"])
def test_nothing_wrong(facts):
    assert findings(facts) == []
    assert report(facts, []).endswith("nothing is wrong")


INSTALL = "cd /repository && /venv/bin/python -m pip install -r "
CACHE = healthy().disks[0]
C3 = TaskData("C3", "https://mirror/c3.zip")

#: Facts → words of the problem, words of the fix.
FAULTS = {
    "old Python": (healthy(python=(3, 9, 2)), "Python 3.9.2", "make PYTHON=python3.11"),
    "new Python": (healthy(python=(3, 13, 0)), "Python 3.13.0", "make PYTHON=python3.11"),
    "no Paddle": (healthy(installed={n: v for n, v in CPU_SET.items() if n != "paddlepaddle"}), "PaddlePaddle is not installed", INSTALL + "requirements-cpu.txt"),
    "another environment": (healthy(python_beside="/repository/.venv/bin/python", installed={n: v for n, v in CPU_SET.items() if n != "paddlepaddle"}), "not installed", "source /repository/.venv/bin/activate"),
    "both Paddles": (healthy(installed=dict(PINNED)), "overwrite each other's files", "uninstall -y paddlepaddle paddlepaddle-gpu && " + INSTALL),
    "missing package": (healthy(required=["paddlenlp", "psutil"]), "not installed: psutil", INSTALL),
    "paddlenlp of another version": (healthy(installed={**CPU_SET, "paddlenlp": "2.8.1"}), "paddlenlp 2.8.1 (tested: 3.0.0b4)", INSTALL),
    "paddle of another version": (healthy(installed={**CPU_SET, "paddlepaddle": "2.6.2"}), "paddlepaddle 2.6.2 (tested: 3.3.1)", INSTALL),
    "numpy 2": (healthy(installed={**CPU_SET, "numpy": "2.1.0"}), "other versions than those tested together: numpy 2.1.0 (tested: 1.26.4)", INSTALL),
    "huggingface_hub 1": (healthy(installed={**CPU_SET, "huggingface-hub": "1.2.0"}), "huggingface-hub 1.2.0 (tested: 0.36.2)", INSTALL),
    "Paddle broken": (healthy(paddle={"error": "ImportError: libgomp.so.1: cannot open"}), "PaddlePaddle does not import: ImportError: libgomp.so.1", "uninstall -y paddlepaddle"),
    "PaddleNLP broken": (healthy(paddlenlp_error="ImportError: cannot import name 'x'"), "PaddleNLP does not import: ImportError", INSTALL),
    "CPU build beside cards": (with_cards(installed=dict(CPU_SET), paddle=healthy().paddle), "2 NVIDIA card(s), but this PaddlePaddle was built for CPUs", INSTALL + "requirements.txt"),
    "GPU build without driver": (with_cards(driver=None, cards=[], libraries={"libcuda": False, "libcudnn": True}), "no NVIDIA driver answers and libcuda.so.1 is not there", "--gpus all"),
    "driver hangs": (healthy(driver_error="the NVIDIA driver did not answer within 15 s"), "did not answer within 15 s", "nvidia-smi"),
    "card lost": (with_cards(lost_cards=["gpu 1 does not answer: GPU is lost"]), "gpu 1 does not answer: GPU is lost", "rebooted"),
    "driver too old": (with_cards(driver={"version": "470.10", "cuda": "11.4"}), "driver 470.10 runs CUDA 11.4, PaddlePaddle was built for 12.6", "changing cu126 in /repository/requirements.txt"),
    "no cuDNN": (with_cards(installed=dict(GPU_SET)), "no libcudnn for this GPU build", INSTALL + "requirements.txt"),
    "card fails": (with_cards(paddle={**with_cards().paddle, "card_error": "no kernel image is available"}), "can't compute on the first card: no kernel image", "nvidia-smi; "),
    "cards hidden": (with_cards(paddle={**with_cards().paddle, "cards": 0}, environ={"CUDA_VISIBLE_DEVICES": ""}), "the driver shows 2 card(s), PaddlePaddle none, as CUDA_VISIBLE_DEVICES is ''", "unset CUDA_VISIBLE_DEVICES"),
    "cards not seen": (with_cards(paddle={**with_cards().paddle, "cards": 0}), "the driver shows 2 card(s), PaddlePaddle none", "pip uninstall"),
    "little shared memory": (with_cards(shared_memory_bytes=64 << 20), "/dev/shm holds 64.0 MiB", "--shm-size=8g"),
    "no shared memory": (with_cards(shared_memory_bytes=None), "/dev/shm holds 0 B", "--shm-size=8g"),
    "too many threads": (healthy(environ={"OMP_NUM_THREADS": "64"}), "OMP_NUM_THREADS is '64' on 8 core(s)", "unset OMP_NUM_THREADS"),
    "threads are no number": (healthy(environ={"OMP_NUM_THREADS": "all"}), "OMP_NUM_THREADS is 'all'", "unset OMP_NUM_THREADS"),
    "AMD switch": (healthy(is_amd=True, environ={"MKL_DEBUG_CPU_TYPE": "4"}), "MKL_DEBUG_CPU_TYPE is '4'", "unset MKL_DEBUG_CPU_TYPE"),
    "full disk": (healthy(disks=[dataclasses.replace(CACHE, bytes_free=200 << 20)]), "token ids (cache) in /cache: 200.0 MiB free", "rm -r /cache (it is made again when needed), or name another place by --cache_dir"),
    "full disk of runs": (healthy(disks=[dataclasses.replace(CACHE, use="runs", bytes_free=0)]), "0 B free", "free some space, or name another place"),
    "no inodes": (healthy(disks=[dataclasses.replace(CACHE, inodes_free=0)]), "no more files can be made", "rm -r /cache"),
    "read-only disk": (healthy(disks=[dataclasses.replace(CACHE, writable=False)]), "/cache: can't be written", "name another place by --cache_dir, or make this one writable"),
    "no data directory": (healthy(data_error="CLUE_DATA_DIR /nowhere is not a directory"), "/nowhere is not a directory", "export CLUE_DATA_DIR="),
    "missing files": (healthy(data=[dataclasses.replace(C3, missing=["m-dev.json"])]), "C3: m-dev.json missing in /data", "https://mirror/c3.zip"),
    "other files": (healthy(data=[dataclasses.replace(C3, other=["d-dev.json"])]), "C3: d-dev.json differ from the official files", "unless these are meant"),
    "unreadable data": (healthy(data=[dataclasses.replace(C3, error="/data/c3_public.zip is no zip archive")]), "C3: /data/c3_public.zip is no zip archive", "https://mirror/c3.zip"),
    "broken model": (healthy(models=[ModelFacts("m", error="m: no vocab.txt in this model directory")]), "model m: no vocab.txt", "repair that directory"),
    "model out of reach": (healthy(models=[ModelFacts("m", error="m: can't be reached", not_fetched=True)]), "model m: can't be reached", "copy the model here"),
    "task beyond the model": (healthy(models=[ModelFacts("m", reasons={"C3": "its inputs have up to 512 tokens"})]), "m can't do C3: its inputs", "--tasks"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_reported_once_with_its_fix(fault):
    facts, problem, fix = FAULTS[fault]
    found = findings(facts)
    assert len(found) == 1, found
    assert problem in found[0].problem and fix in found[0].fix
    assert "\n" not in found[0].problem + found[0].fix
    text = report(facts, found)
    assert f"1. {found[0].problem}\n   fix: {found[0].fix}" in text and "nothing is wrong" not in text


@pytest.mark.parametrize(
    "facts",
    [
        healthy(installed={**CPU_SET, "paddlepaddle": "3.3.1+cpu"}),  # a build of the tested version
        healthy(
            data_is_given=False, data=[dataclasses.replace(C3, missing=list(TASKS["c3"].files))]
        ),  # downloaded later
        healthy(models=[ModelFacts("ernie-3.0-base-zh", not_fetched=True)]),  # fetched later
        healthy(environ={"OMP_NUM_THREADS": "8", "MKL_DEBUG_CPU_TYPE": "4"}),
        healthy(shared_memory_bytes=64 << 20),  # only cards need it
        with_cards(driver={"version": "525.60", "cuda": "12.0"}),  # an older minor version runs it
        with_cards(installed=dict(GPU_SET), libraries={"libcuda": True, "libcudnn": True}),
    ],
)
def test_what_is_no_fault(facts):
    assert findings(facts) == []


def test_exit_codes_and_report(monkeypatch, run_command):
    monkeypatch.setattr(found_out, "gather", lambda *arguments: healthy())
    assert run_command(DOCTOR).code == 0
    monkeypatch.setattr(found_out, "gather", lambda *arguments: with_cards(shared_memory_bytes=64 << 20, models=[
        ModelFacts("a", place="/a"), ModelFacts("b", reasons={"C3": "no"}), ModelFacts("c", not_fetched=True),
    ]))  # fmt: skip
    ended = run_command(DOCTOR)
    assert ended.code == 1
    for line in (
        "python            3.11.7 (/venv/bin/python)",
        "paddlepaddle-gpu  3.3.1",
        "CUDA build        CUDA 12.6, cuDNN 9.5.1",
        "NVIDIA driver     550.54.15 (CUDA 12.4), 2 card(s)",
        "                  gpu 1: NVIDIA A100, 80 GiB",
        "token ids (cache) /cache (5.0 GiB used, 50.0 GiB free)",
        "model             a: in /a, can do all tasks",
        "model             b: in , can do all tasks, except C3",
        "model             c: not here yet; warmup_dataset_and_model.py fetches it",
    ):
        assert line in ended.lines


# What it finds out ----------------------------------------------------------------------------------------------------


def test_pins_are_read_for_the_running_python():
    versions = [pinned_versions(ROOT, (3, minor)) for minor in (10, 11, 12)]
    assert {pins["paddlenlp"] for pins in versions} == {"3.0.0b4"}
    assert versions[0]["pandas"] != versions[1]["pandas"] == versions[2]["pandas"]
    assert versions[0]["exceptiongroup"] and "tomli" in versions[0] and "tomli" not in versions[2]
    assert versions[1]["huggingface-hub"] and versions[1]["paddlepaddle"] == versions[1]["paddlepaddle-gpu"]
    assert len(versions[1]) > 100


def test_what_the_package_needs_is_found_without_a_file_of_pins(tmp_path, monkeypatch):
    """As for a package that was installed from a wheel."""
    for name in ("_try_paddle", "_ask_driver", "_look_at_data"):
        monkeypatch.setattr(found_out, name, lambda *arguments: None)
    facts = found_out.gather(tmp_path, [], None, str(tmp_path), str(tmp_path))
    assert facts.pinned == {} and "msgspec" in facts.required and {*facts.required} <= {*facts.installed}


def test_disks(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_bytes(b"x" * 1000)
    there = look_at_disk("runs", tmp_path / "there", "--run_root")
    assert there.bytes_used == 1000 and there.writable and there.bytes_free > 0
    later = look_at_disk("runs", tmp_path / "not" / "yet", "--run_root")
    assert later.bytes_used == 0 and later.writable
    assert abs(later.bytes_free - there.bytes_free) < GIB
    behind_a_file = look_at_disk("runs", tmp_path / "there" / "file" / "runs", "--run_root")
    assert not behind_a_file.writable
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert not look_at_disk("runs", tmp_path / "there", "--run_root").writable


def test_data(tmp_path, capsys):
    synthetic.write_synthetic(
        tmp_path, tasks=["tnews", "c3"], sizes={"tnews": synthetic.Sizes(4, 4, 4), "c3": synthetic.Sizes(4, 4, 4)}
    )
    (tmp_path / "c3_public" / "m-dev.json").unlink()
    source = DataSource(tmp_path)
    c3, tnews, csl = (look_at_task(source, TASKS[name]) for name in ("c3", "tnews", "csl"))
    assert (c3.missing, c3.other, c3.error) == (["m-dev.json"], [], None)
    assert not tnews.missing and not tnews.other and csl.missing == list(TASKS["csl"].files)
    assert csl.address.endswith("csl_public.zip")
    (tmp_path / "synthetic.json").unlink()  # now they pass themselves off as official
    tnews = look_at_task(DataSource(tmp_path), TASKS["tnews"])
    assert "train.json" in tnews.other
    (tmp_path / "csl_public.zip").write_bytes(b"PK\x03\x04 cut off")
    assert "csl_public.zip" in look_at_task(DataSource(tmp_path), TASKS["csl"]).error
    assert capsys.readouterr().err == ""


def test_data_is_read_although_its_md5_is_remembered(tmp_path, monkeypatch):
    """A disk may lose bytes of a file whose size and times stay the same."""
    for module in (file_facts, source_module):
        monkeypatch.setattr(module, "version_of", lambda *files: "the same")
    path, tnews = tmp_path / "tnews_public.zip", TASKS["tnews"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("dev.json", "x" * 100)
    DataSource(tmp_path).md5(tnews, "dev.json")
    path.write_bytes(path.read_bytes().replace(b"x" * 100, b"x" * 99 + b"y"))
    monkeypatch.setattr(source_module, "_md5_sums", {})  # as in another process
    assert len(DataSource(tmp_path).md5(tnews, "dev.json")) == 32
    assert (
        "tnews_public.zip can't be read as a zip archive (Bad CRC-32" in look_at_task(DataSource(tmp_path), tnews).error
    )


def test_driver_versions():
    class Error(Exception):
        pass

    nvml = SimpleNamespace(
        NVMLError=Error, nvmlSystemGetDriverVersion=lambda: b"550.54.15", nvmlSystemGetCudaDriverVersion=lambda: 12040
    )
    assert NvidiaDriver(nvml).versions() == ("550.54.15", "12.4")
    nvml.nvmlSystemGetDriverVersion = lambda: (_ for _ in ()).throw(Error("driver not loaded"))
    with pytest.raises(DeviceLost, match="not loaded"):
        NvidiaDriver(nvml).versions()


def driver_that(**methods):
    base = dict(versions=lambda: ("550.1", "12.4"), cards=list, lost={}, close=lambda: None)
    return SimpleNamespace(open=lambda: SimpleNamespace(**{**base, **methods}))


def fail(*arguments):
    raise DeviceLost("GPU is lost")


def fail_to_start():
    raise DriverFails(Exception("Unknown Error"))


@pytest.mark.parametrize(
    "driver, error, versions",
    [
        (driver_that(), None, {"version": "550.1", "cuda": "12.4"}),
        (SimpleNamespace(open=fail_to_start), str(DriverFails(Exception("Unknown Error"))), None),
        (driver_that(cards=fail), "the NVIDIA driver fails: GPU is lost", None),
        (driver_that(versions=lambda: time.sleep(5)), "the NVIDIA driver did not answer within 0.2 s", None),
        (SimpleNamespace(open=lambda: None), None, None),
    ],
)
def test_a_driver_in_trouble_stops_nothing(driver, error, versions, monkeypatch):
    monkeypatch.setattr(found_out, "NvidiaDriver", driver)
    monkeypatch.setattr(found_out, "_DRIVER_PATIENCE", 0.2)
    facts = healthy()
    found_out._ask_driver(facts)
    assert facts.driver_error == error and facts.driver == versions


def test_processes_that_fail_are_one_line():
    assert found_out._in_process("import json; print('chatter'); print(json.dumps({'a': 1}))") == ({"a": 1}, None)
    assert found_out._in_process("raise ValueError('no\\nuse')") == (None, "use")
    assert found_out._in_process("import os; os._exit(7)") == (None, "the process ended with exit code 7")
    assert found_out._in_process("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")[1].startswith(
        "the process ended"
    )


# For real -------------------------------------------------------------------------------------------------------------


def run_doctor(*arguments, before=""):
    """The command, with modules in ``before`` instead of the installed ones."""
    command = [sys.executable, str(ROOT / DOCTOR), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(before)}
    )


@pytest.fixture
def broken_paddle(tmp_path):
    (tmp_path / "paddle").mkdir()
    (tmp_path / "paddle" / "__init__.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file')\n"
    )
    return tmp_path


@pytest.mark.slow
def test_it_works_where_paddle_does_not(broken_paddle, tmp_path):
    ended = run_doctor("--data_dir", tmp_path, "--run_root", tmp_path, before=broken_paddle)
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
    ended = run_doctor(
        tmp_path / "model",
        tmp_path / "broken",
        "--data_dir",
        tmp_path / "data",
        "--cache_dir",
        tmp_path,
        "--run_root",
        tmp_path,
    )
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert f"model             {tmp_path / 'model'}: in {tmp_path / 'model'}, can do all tasks" in lines
    assert any(line.startswith("data ") and "10 of 10 tasks whole" in line for line in lines)
    assert any("broken: no vocab.txt or tokenizer.json in this model directory" in line for line in lines)
    assert ended.returncode == 1
