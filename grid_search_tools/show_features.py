"""Prints a model's inputs for the first rows of a data set, as tokens.

    python show_features.py --task c3 --model_name_or_path ernie-3.0-base-zh --split dev --limit 3

Prints every option of a question, every blank of a record and every window of a context.
"""

import json
from dataclasses import dataclass, replace

from cluebench.benchmark.tasks import TASKS, task_named
from cluebench.data.official import split_files
from cluebench.data.source import open_source
from cluebench.features import TextEncoder
from cluebench.foundation import command, environment
from cluebench.foundation.errors import UsageError
from cluebench.foundation.flags import data_dir_flag, flag, offline_flag, parse
from cluebench.foundation.text import printable
from cluebench.pretrained.model import Model
from cluebench.report.inputs import described, shown_examples


@dataclass
class Flags:
    __doc__ = __doc__

    task: str = flag(..., "task, in any case: " + ", ".join(task.title for task in TASKS.values()))
    model_name_or_path: str = flag(..., "published model name, or directory; only its tokenizer is used")
    data_dir: str | None = data_dir_flag()
    split: str = flag("dev", "train, dev, test1.1, test1.0, or test: the task's first test set")
    limit: int = flag(3, "rows of the file to print: questions, records of CHID", minimum=1)
    max_seq_length: int | None = flag(
        None, "longest input in tokens, special tokens included", minimum=8, default_text="the task's"
    )
    doc_stride: int | None = flag(
        None, "tokens between the starts of two windows", minimum=1, default_text="the task's"
    )
    json: bool = flag(False, "one JSON object a line: an example, or a blank of CHID")
    offline: bool = offline_flag()


def main() -> None:
    flags = parse(Flags)
    task = task_named(flags.task)
    if flags.doc_stride and task.doc_stride is None:
        raise UsageError(f"--doc_stride {flags.doc_stride}: {task.title} has no windows")
    split = task.test_sets[0].split if flags.split == "test" else flags.split
    try:
        split_files(task, split)
    except ValueError as error:
        raise UsageError(f"--split: {error}") from None
    source = open_source(flags.data_dir, offline=flags.offline)
    environment.import_paddle()  # only now: wrong flags are reported within a second
    from cluebench import models

    encoder = TextEncoder(models.load_tokenizer(Model.of(flags.model_name_or_path), offline=flags.offline))
    length, stride = flags.max_seq_length or task.max_seq_length, flags.doc_stride or task.doc_stride
    task = replace(task, max_seq_length=length, doc_stride=stride)
    shown = shown_examples(task, split, source, encoder, flags.limit)
    for example in shown:
        if flags.json:
            print(json.dumps(example, ensure_ascii=False))
        else:
            print("\n".join(map(printable, described(task, example))) + "\n")


if __name__ == "__main__":
    command.run(main, "show_features.py")
