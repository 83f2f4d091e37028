"""The facts about a machine and what is wrong with it, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluebench.diagnosis.checks import Finding, size
from cluebench.diagnosis.facts import Facts, ModelFacts


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
