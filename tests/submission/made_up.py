"""Submission files without a defect, the rows they are for, and finished trials with kept models."""

import json
from collections.abc import Sequence
from pathlib import Path

from cluebench import submission
from cluebench.benchmark.tasks import CHOICE, SPAN, TASKS, Task
from cluebench.data.rows import IDIOM_TAG, ChoiceRow, IdiomRecord, SpanRow, TextRow
from cluebench.records.paths import TrialPaths
from cluebench.records.result import Result

NEWS = [TextRow((f"新闻{number}",), None, number) for number in range(4)]


PRONOUNS = [TextRow((f"_他_和[他]{number}",), None, number + 1) for number in range(3)]  # the file's ids count from 1


QUESTIONS = [
    ChoiceRow("男：走吧。\n女：好。", "去哪儿？", ("家", "店", "山"), None, 508),
    ChoiceRow("天黑了。", "什么时候？", tuple("一二三四五六七八九十"), None, 12),
    ChoiceRow("天黑了。", "几点？", ("七", "八"), None, 13),
]


RECORDS = [
    IdiomRecord(("他#idiom000000#地#idiom000001#。", "她#idiom000002#。"), tuple("甲乙丙丁戊己庚辛壬癸"), None),
    IdiomRecord(("没有空格。", "天#idiom000010#地"), tuple("甲乙丙丁戊己庚辛壬癸"), None),
]


SPANS = [SpanRow(f"TEST_0_QUERY_{number}", "罗亚尔港号是巡洋舰。", "是什么？", (), ()) for number in range(3)]


ROWS = {"tnews": NEWS, "iflytek": NEWS, "cluewsc2020": PRONOUNS, "c3": QUESTIONS, "chid": RECORDS, "cmrc2018": SPANS}


SOUND = {
    "tnews": ["101", "102", "116", "100"],
    "iflytek": ["0", "118", "7", "7"],
    "cluewsc2020": ["true", "false", "true"],
    "c3": [2, 9, 0],
    "chid": {"#idiom000000#": 0, "#idiom000001#": 0, "#idiom000002#": 9, "#idiom000010#": 4},  # an idiom twice is legal
    "cmrc2018": {"TEST_0_QUERY_0": "巡洋舰", "TEST_0_QUERY_1": "", "TEST_0_QUERY_2": "罗亚尔\n港号"},
}


def sound(task: str) -> str:
    answers = SOUND[task]
    if isinstance(answers, dict):
        return json.dumps(answers, ensure_ascii=False, indent=0) + "\n"
    ids = [row.id for row in QUESTIONS] if task == "c3" else range(len(answers))
    return "".join(json.dumps({"id": number, "label": label}) + "\n" for number, label in zip(ids, answers))


def write_predictions(path: Path, task: Task, rows: Sequence) -> None:
    """A sound file for a test set: the first label, last option or candidate, or first characters, for each row."""
    if task.is_classification:
        submission.write_labels(path, range(len(rows)), [task.labels[0]] * len(rows))
    elif task.kind == CHOICE:
        submission.write_labels(path, [row.id for row in rows], [len(row.options) - 1 for row in rows])
    elif task.kind == SPAN:
        submission.write_answers(path, {row.id: row.context[:2] for row in rows})
    else:
        tags = [tag for row in rows for passage in row.passages for tag in IDIOM_TAG.findall(passage)]
        assert len(tags) == len(set(tags)) > 0
        submission.write_answers(path, dict.fromkeys(tags, 9))


def kept(run_root: Path, task: str, name: str, score, *, model: bool = True, **more) -> Path:
    """A finished trial in the layout of a run, and the directory of its model."""
    paths = TrialPaths(Path(run_root) / "some-model" / task, name)
    configuration = {"task": task, "max_seq_length": 64, **more}
    scores = score if isinstance(score, tuple) else (score,)
    Result(
        task, "some-model", configuration, "0" * 16, "done", TASKS[task].metric, best_score=scores, best_step=1
    ).write(paths.result)
    if model:
        paths.output_dir.mkdir(parents=True)
        (paths.output_dir / "config.json").write_text("{}")
        (paths.output_dir / "model_state.pdparams").write_bytes(name.encode())
    return paths.output_dir
