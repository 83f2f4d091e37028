"""Writes the copies in this folder from official.zip, as Hugging Face's `clue` hands the official files on.

    pip install datasets==5.2.0
    python write_copies.py        # writes datasets_5.2.0.zip: parquet/, saved/ and lines/, a folder a configuration

It needs `datasets` alone, in an environment of its own: releases that the project does not pin are the point of it. Rows
and features are made as the data set's last loading script made them. official.zip holds made-up rows:

    python tests/data/copies/write_official.py
"""

import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import datasets
from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value

HERE = Path(__file__).resolve().parent
NLI = ["neutral", "entailment", "contradiction"]
CODES = [str(code) for code in range(100, 117) if code not in (105, 111)]
TEXT, INT = Value("string"), Value("int32")
FILES = {"train": "train.json", "validation": "dev.json", "test": "test.json"}


def text_features(names, *fields):
    return Features({**dict.fromkeys(fields, TEXT), "label": ClassLabel(names=names), "idx": INT})


SPANS = {"span1_text": TEXT, "span2_text": TEXT, "span1_index": INT, "span2_index": INT}
FEATURES = {
    "afqmc": text_features(["0", "1"], "sentence1", "sentence2"),
    "tnews": text_features(CODES, "sentence"),
    "iflytek": text_features([str(code) for code in range(119)], "sentence"),
    "cmnli": text_features(NLI, "sentence1", "sentence2"),
    "ocnli": text_features(NLI, "sentence1", "sentence2"),
    "cluewsc2020": Features({"idx": INT, "text": TEXT, "label": ClassLabel(names=["true", "false"]), "target": SPANS}),
    "csl": Features(
        {"idx": INT, "corpus_id": INT, "abst": TEXT, "label": ClassLabel(names=["0", "1"]), "keyword": Sequence(TEXT)}
    ),
    "cmrc2018": Features(
        {"id": TEXT, "context": TEXT, "question": TEXT, "answers": Sequence({"text": TEXT, "answer_start": INT})}
    ),
    "chid": Features(
        {
            "idx": INT,
            "candidates": Sequence(TEXT),
            "content": Sequence(TEXT),
            "answers": Sequence({"text": TEXT, "candidate_id": INT}),
        }
    ),
    "c3": Features({"id": INT, "context": Sequence(TEXT), "question": TEXT, "choice": Sequence(TEXT), "answer": TEXT}),
}


def text_rows(config, folder, split):
    names = {**FILES, "train": "train.50k.json"} if config == "ocnli" else FILES
    for number, line in enumerate(open(folder / names[split], encoding="utf-8")):
        row = json.loads(line)
        if row.get("label") == "-":
            continue
        row |= {"idx": number, "corpus_id": row.get("id"), "label": row.get("label", -1)}
        yield {name: row[name] for name in FEATURES[config]}


def span_rows(config, folder, split):
    for article in json.loads((folder / FILES[split]).read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                texts = {"context": paragraph["context"].strip(), "question": asked["question"].strip()}
                starts = [answer["answer_start"] for answer in asked["answers"]]
                answers = {"text": [answer["text"].strip() for answer in asked["answers"]], "answer_start": starts}
                yield {"id": asked["id"], **texts, "answers": answers}


def idiom_rows(config, folder, split):
    name = {"train": "train", "validation": "dev", "test": "test1.1"}[split]
    answers = {} if split == "test" else json.loads((folder / f"{name}_answer.json").read_text(encoding="utf-8"))
    for number, line in enumerate(open(folder / f"{name}.json", encoding="utf-8")):
        row = json.loads(line)
        tags = re.findall(r"#idiom\d+#", "".join(row["content"])) if answers else []
        chosen = [answers[tag] for tag in tags]
        answered = {"text": [row["candidates"][index] for index in chosen], "candidate_id": chosen}
        yield {"idx": number, "candidates": row["candidates"], "content": row["content"], "answers": answered}


def choice_rows(config, folder, split):
    names = {"train": ["d-train.json", "m-train.json"], "validation": ["d-dev.json", "m-dev.json"]}
    files = names.get(split, ["test1.1.json"])
    items = [item for name in files for item in json.loads((folder / name).read_text(encoding="utf-8"))]
    for number, (context, questions, *_) in enumerate(items):
        for asked in questions:
            texts = {"question": asked["question"], "choice": asked["choice"], "answer": asked.get("answer", "")}
            yield {"id": asked.get("id", number), "context": context, **texts}


ROWS = {"cmrc2018": span_rows, "chid": idiom_rows, "c3": choice_rows}


def write(official, output):
    for config, features in FEATURES.items():
        splits = DatasetDict()
        for split in FILES:
            rows = list(ROWS.get(config, text_rows)(config, official / f"{config}_public", split))
            splits[split] = Dataset.from_list(rows, features=features)
            for folder in ("parquet", "lines"):
                (output / folder / config).mkdir(parents=True, exist_ok=True)
            splits[split].to_parquet(output / "parquet" / config / f"{split}-00000-of-00001.parquet")
            splits[split].to_json(output / "lines" / config / f"{split}.json", force_ascii=False)
        splits.save_to_disk(output / "saved" / config)
        shutil.copy(output / "saved" / config / "train" / "dataset_info.json", output / "lines" / config)


def main():
    with tempfile.TemporaryDirectory() as folder:
        official, output = Path(folder, "official"), Path(folder, "copies")
        zipfile.ZipFile(HERE / "official.zip").extractall(official)
        write(official, output)
        with zipfile.ZipFile(HERE / f"datasets_{datasets.__version__}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(output.rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(output))


if __name__ == "__main__":
    main()
