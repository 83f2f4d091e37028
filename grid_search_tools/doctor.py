"""Says what there is on this machine, what is wrong with it, and the command that mends each fault.

    python grid_search_tools/doctor.py [MODEL …]

With models (names or directories), also which tasks they can do. Nothing is changed and nothing is fetched.
Exits 0 when nothing is wrong, else 1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

if sys.version_info[:2] < (3, 10):  # too old for what is imported below
    print(f"Python {sys.version.split()[0]} is too old")
    print(f"  mend: cd {REPOSITORY} && rm -rf .venv && make PYTHON=python3.11 quickstart")
    sys.exit(1)
try:
    from cluebench.diagnosis.checks import Finding, findings, size
    from cluebench.diagnosis.facts import Facts, ModelFacts, gather
    from cluebench.flags import flag, parse
except ImportError as error:
    print(f"the package is not installed for {sys.executable} ({error})")
    print(f"  mend: cd {REPOSITORY} && {sys.executable} -m pip install -r requirements-cpu.txt")
    print("  with GPUs: requirements.txt instead")
    sys.exit(1)


@dataclass
class DoctorFlags:
    __doc__ = __doc__

    models: list[str] = flag([], "model names or directories to try", positional=True)
    data_dir: str | None = flag(None, "official CLUE files", default_text="CLUE_DATA_DIR, else they are downloaded")
    cache_dir: str | None = flag(None, "where token ids are kept between runs", default_text="~/.cache/cluebench")
    run_root: str = flag(str(REPOSITORY / "runs"), "directory of the runs", default_text="runs/")


def main(argv: Sequence[str] | None = None) -> int:
    flags = parse(DoctorFlags, argv, prog="doctor.py")
    facts = gather(REPOSITORY, flags.models, flags.data_dir, flags.cache_dir, flags.run_root)
    found = findings(facts)
    print(report(facts, found))
    return 1 if found else 0


def report(facts: Facts, found: Sequence[Finding]) -> str:
    """What there is, line by line, then what is wrong."""
    lines = [f"{name:<18}{value}" for name, value in inventory(facts)]
    lines.append("")
    if not found:
        lines.append("nothing is wrong")
    for number, finding in enumerate(found, start=1):
        lines += [f"{number}. {finding.problem}", f"   mend: {finding.mend}"]
    return "\n".join(lines)


def inventory(facts: Facts) -> Iterator[tuple[str, str]]:
    """(what, how it is) pairs."""
    yield "python", f"{'.'.join(map(str, facts.python))} ({facts.executable})"
    for name in ("paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "numpy", "tokenizers", "huggingface-hub"):
        if name in facts.installed:
            yield name, facts.installed[name]
    if cuda := facts.paddle.get("cuda"):
        yield "CUDA build", f"CUDA {cuda}, cuDNN {facts.paddle['cudnn']}"
    yield "NVIDIA driver", _driver(facts)
    for card in facts.cards:
        yield "", card
    yield "CPU", f"{facts.cores} core(s){', AMD' if facts.is_amd else ''}, {size(facts.memory_bytes)} of memory"
    for name in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", "CUDA_VISIBLE_DEVICES", "CLUE_DATA_DIR", "PPNLP_HOME"):
        if name in facts.environ:
            yield name, facts.environ[name]
    for disk in facts.disks:
        held = f"{size(disk.bytes_held)} held, " if disk.exists and disk.bytes_held else ""
        yield disk.use, f"{disk.path} ({held}{size(disk.bytes_free)} free)"
    yield "data", _data(facts)
    for model in facts.models:
        yield "model", _model(facts, model)


def _driver(facts: Facts) -> str:
    if facts.driver is None:
        return facts.driver_error or "none answers"
    return f"{facts.driver['version']} (CUDA {facts.driver['cuda']}), {len(facts.cards)} card(s)"


def _data(facts: Facts) -> str:
    if facts.data_error:
        return "none"
    whole = [task.title for task in facts.data if not task.missing and not task.error]
    names = f" ({', '.join(whole)})" if whole else ""
    later = "" if facts.data_is_given else "; what is missing is downloaded when it is needed"
    return f"{facts.data_directory}: {len(whole)} of {len(facts.data)} tasks whole{names}{later}"


def _model(facts: Facts, model: ModelFacts) -> str:
    if model.error:
        return f"{model.name}: can't be loaded"
    if model.not_fetched:
        return f"{model.name}: not here yet; warmup_dataset_and_model.py fetches it"
    if "error" in facts.paddle or facts.paddlenlp_error:
        return f"{model.name}: in {model.place}, not tried without PaddleNLP"
    able = "all tasks" if not model.reasons else f"not {', '.join(model.reasons)}"
    return f"{model.name}: in {model.place}, can do {able}"


if __name__ == "__main__":
    sys.exit(main())
