"""The facts about a machine and what is wrong with it, as text."""

from collections.abc import Iterator, Sequence

from cluebench.diagnosis.checks import Finding, size
from cluebench.diagnosis.facts import Facts, ModelFacts


def report(facts: Facts, found: Sequence[Finding]) -> str:
    """The facts, line by line, then what is wrong."""
    lines = [f"{name:<18}{value}" for name, value in inventory(facts)]
    problems = [f"{number}. {problem}\n   fix: {fix}" for number, (problem, fix) in enumerate(found, start=1)]
    return "\n".join([*lines, "", *(problems or ["nothing is wrong"])])


def inventory(facts: Facts) -> Iterator[tuple[str, str]]:
    """(name, value) pairs."""
    yield "python", f"{'.'.join(map(str, facts.python))} ({facts.executable})"
    for name in ("paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "numpy", "tokenizers", "huggingface-hub"):
        if name in facts.installed:
            yield name, facts.installed[name]
    if cuda := facts.paddle.get("cuda"):
        yield "CUDA build", f"CUDA {cuda}, cuDNN {facts.paddle['cudnn']}"
    driver = facts.driver_error or "none answers"
    if facts.driver is not None:
        driver = f"{facts.driver['version']} (CUDA {facts.driver['cuda']}), {len(facts.cards)} card(s)"
    yield "NVIDIA driver", driver
    for card in facts.cards:
        yield "", card
    yield "CPU", f"{facts.cores} core(s){', AMD' if facts.is_amd else ''}, {size(facts.memory_bytes)} of memory"
    for name in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE", "CUDA_VISIBLE_DEVICES", "CLUE_DATA_DIR", "PPNLP_HOME"):
        if name in facts.environ:
            yield name, facts.environ[name]
    for disk in facts.disks:
        used = f"{size(disk.bytes_used)} used, " if disk.bytes_used else ""
        yield disk.use, f"{disk.path} ({used}{size(disk.bytes_free)} free)"
    whole = [task.title for task in facts.data if not task.missing and not task.error]
    names = f" ({', '.join(whole)})" if whole else ""
    later = "" if facts.data_is_given else "; missing files are downloaded when they are needed"
    of_tasks = f"{facts.data_directory}: {len(whole)} of {len(facts.data)} tasks whole{names}{later}"
    yield "data", "none" if facts.data_error else of_tasks
    for model in facts.models:
        yield "model", f"{model.name}: {_model(facts, model)}"


def _model(facts: Facts, model: ModelFacts) -> str:
    if model.error:
        return "can't be loaded"
    if model.not_fetched:
        return "not here yet; warmup_dataset_and_model.py fetches it"
    if "error" in facts.paddle or facts.paddlenlp_error:
        return f"in {model.place}, not tried without PaddleNLP"
    cannot = f", except {', '.join(model.reasons)}" if model.reasons else ""
    return f"in {model.place}, can do all tasks{cannot}"
