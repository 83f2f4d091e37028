"""Stands in for each of the fine-tuning scripts: same flags, log lines, result and exit codes, no model, milliseconds.

What else it does is set by <data_dir>/behaviour.json: {"<task>/<trial>" or "*": {"steps": 20, "seconds": 0.4,
"curve": [50, 60, …], "gate": "go", "attempts": [{"exit": 1, "log": "…"}, {"signal": 9}, {"hang": true}]}}; an attempt
without an entry succeeds. Evaluated after every step. With a gate it does not go on, to the last step or to its
misbehaviour, until that file is in <data_dir>.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cluebench.benchmark.tasks import Setting, task_named
from cluebench.data.source import open_source
from cluebench.foundation import atomic
from cluebench.foundation.flags import flag, parse
from cluebench.pretrained.model import Model
from cluebench.records import identity
from cluebench.records.log import RunLog, TrainingLine
from cluebench.records.paths import trial_name
from cluebench.records.result import DevPoint, Result
from cluebench.records.run_flags import RunFlags, resolved
from cluebench.training.configure import remove_leftovers


@dataclass
class Flags(RunFlags):
    task_name: str | None = flag(None, "of a classification trial")


def remember(folder, text):
    """One line in the book of everything that ever happened, written in one piece."""
    with open(folder / "book.txt", "a", encoding="utf-8") as stream:
        stream.write(text + "\n")


def main():
    flags = parse(Flags)
    if os.environ.get("PADDLE_TRAINER_ID", "0") != "0":
        sys.exit()  # only rank 0 writes
    task = task_named(flags.task_name or re.search(r"run_(\w+)\.py", sys.argv[0])[1])
    cards = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    name = trial_name(Setting(flags.learning_rate, flags.batch_size * cards, flags.dropout), flags.seed)
    data, key = Path(flags.data_dir), f"{task.name}/{name}"
    behaviour = json.loads((data / "behaviour.json").read_text()) if (data / "behaviour.json").exists() else {}
    behaviour = behaviour.get(key, behaviour.get("*", {}))

    running = open(data / f"{key.replace('/', '--')}.running", "a+")
    try:
        fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        remember(data, f"overlap {key}")
    attempts = data / f"{key.replace('/', '--')}.attempts"
    number = int(attempts.read_text()) if attempts.exists() else 0
    attempts.write_text(str(number + 1))
    remember(
        data,
        f"start {key} {os.getpid()} {time.time():.6f} cuda={os.environ.get('CUDA_VISIBLE_DEVICES')}"
        f" threads={os.environ.get('OMP_NUM_THREADS')} accumulation={flags.gradient_accumulation_steps}",
    )
    if "BROKEN_NODE" in os.environ:
        sys.exit("ImportError: libcudart.so: cannot open shared object file")
    log = RunLog()
    planned = behaviour.get("attempts", [])
    if number < len(planned):
        wait_at(behaviour, data)
        misbehave(planned[number], flags)

    flags = resolved(flags, task, cards)
    fingerprint = open_source(flags.data_dir, offline=True).fingerprint(task)
    settings = identity.configuration(
        task, flags, Model.of(flags.model_name_or_path).identity, fingerprint, cards=cards
    )
    steps, seconds = behaviour.get("steps", 4), behaviour.get("seconds", 0.04)
    checkpoint = Path(flags.output_dir) / "checkpoint"
    remove_leftovers(flags)
    first = int((checkpoint / "step").read_text()) if flags.resume and checkpoint.exists() else 0
    # Distinct for every setting, the same however often the trial was interrupted.
    percent = 50 + (flags.learning_rate * 1e5 * 7 + flags.batch_size * cards * 0.11 + flags.seed * 0.01) % 40
    curve = behaviour.get("curve") or [percent * (steps + step) / (2 * steps) for step in range(1, steps + 1)]
    points = [
        DevPoint(step, 0, (round(one, 2), round(one + 5, 2)) if task.metric == "em_f1" else (round(one, 2),))
        for step, one in enumerate(curve, start=1)
    ]
    result = Result(
        task=task.name,
        model=flags.model_name_or_path,
        configuration=settings,
        configuration_hash=identity.configuration_hash(settings),
        metric=task.metric,
        total_steps=steps,
        peak_memory_bytes=1 << 30,
        device=flags.device,
        cards=cards,
        accumulation_steps=flags.gradient_accumulation_steps,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    log.line(f"from step {first}")
    for step in range(1, steps + 1):
        result.add(points[step - 1])
        if step <= first:
            continue
        time.sleep(seconds / steps)
        if step == steps:
            wait_at(behaviour, data)
        log.train(TrainingLine(step, steps, 0, step - 1, 1.0 / step, flags.learning_rate, steps / seconds))
        log.evaluated(1.0, points[step - 1].score, 0.0)
        result.train_seconds = seconds * step / steps
        result.write(flags.result_json)
        time.sleep(behaviour.get("before_checkpoint", 0.0))
        with atomic.replacing(checkpoint) as temporary:
            temporary.mkdir()
            for name in ("weights", "step"):
                (temporary / name).write_text(str(step))
        if step < steps and flags.pause_at and result.curve.evaluations_at(flags.pause_at) is not None:
            result.status = "paused"
            result.spend()
            result.write(flags.result_json)
            remember(data, f"paused {key} {step}")
            return
    score = result.best_score
    kept = None
    if flags.save_best_model:
        kept = flags.output_dir
        with atomic.replacing(Path(kept) / "model.safetensors") as temporary:
            temporary.write_bytes(b"weights")
    result.status, result.best_model, result.finished = "done", kept, str(time.time())
    result.eval_seconds = 0.01
    result.spend()
    result.write(flags.result_json)
    shutil.rmtree(checkpoint)
    if kept is None:
        checkpoint.parent.rmdir()
    remember(data, f"done {key} {os.getpid()} {time.time():.6f}")
    log.best(task.format_score(score))


def wait_at(behaviour, data):
    while "gate" in behaviour and not (data / behaviour["gate"]).exists():
        time.sleep(0.02)


def misbehave(behaviour, flags):
    """What this attempt does instead of ending well."""
    if "log" in behaviour:
        print(behaviour["log"], flush=True)
    time.sleep(behaviour.get("after", 0.0))
    if behaviour.get("hang"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour["hang"] == "deaf" else signal.SIG_DFL)
        time.sleep(600)
    if "signal" in behaviour:
        os.kill(os.getpid(), behaviour["signal"])
    if "child" in behaviour:  # a worker in a session of its own, as the distributed launcher makes them
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        remember(Path(flags.data_dir), f"worker {worker.pid}")
    if "exit" in behaviour:
        sys.exit(behaviour["exit"])


if __name__ == "__main__":
    main()
