"""Run directories written by hand: logs of the published tool, results."""

from cluebench.benchmark.tasks import TASKS
from cluebench.records.result import DevPoint, Result

#: The published example table, score and setting of each task.
PUBLISHED_EXAMPLE = {
    "afqmc": ("75.93", "3e-05_16_0.1"),
    "tnews": ("58.26", "3e-05_32_0.1"),
    "iflytek": ("61.56", "5e-05_32_0.0"),
    "cmnli": ("83.02", "3e-05_32_0.1"),
    "ocnli": ("80.10", "2e-05_64_0.1"),
    "cluewsc2020": ("86.18", "2e-05_16_0.0"),
    "csl": ("82.63", "2e-05_32_0.1"),
    "cmrc2018": ("70.71/90.41", "2e-05_24_0.1"),
    "chid": ("84.26", "3e-05_24_0.1"),
    "c3": ("77.88", "2e-05_32_0.1"),
}


def write_log(folder, task, name, score, prefix=""):
    lines = [
        "global step 100/20010, epoch: 0, batch: 99, rank_id: 0, loss: 2.734340, lr: 0.0000014993, speed: 8.8 step/s"
    ]
    lines += ["eval loss: 2.720359, acc: 0.0827, eval done total : 25.71 s"]
    lines += [f"best_result: {score}"] if score else []
    (folder / task).mkdir(parents=True, exist_ok=True)
    (folder / task / f"{name}.log").write_text("".join(f"{prefix}{line}\n" for line in lines))


def write_result(folder, task, name, score, seed=42, status="done", curve=None, **more):
    """``curve``: dev scores after every 100 steps; without it, the score twice."""
    learning_rate, batch, dropout = name.split("_")[:3]
    configuration = {
        "task": task, "learning_rate": float(learning_rate), "batch_size": int(batch), "dropout": float(dropout),
        "seed": seed, "epochs": more.pop("epochs", 3), **more.pop("settings", {}),
    }  # fmt: skip
    (folder / task).mkdir(parents=True, exist_ok=True)
    scores = curve or ([tuple(score)] * 2 if score else [])
    points = [DevPoint(100 * number, number - 1, point) for number, point in enumerate(scores, 1)]
    Result(
        task=task, model="m", metric=TASKS[task].metric, configuration=configuration, configuration_hash="0" * 16, status=status,
        best_score=tuple(score) if score else None, dev_curve=points, best_step=200, **{"total_steps": 200, **more},
    ).write(folder / task / (name + (f"_seed{seed}" if seed != 42 else "") + ".json"))  # fmt: skip
