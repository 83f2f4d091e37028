"""What the leaderboard would accept, written from the protocol alone: no module of cluebench is used here."""

import json
import re
import zipfile
from pathlib import Path

LABELS = {
    "afqmc": {"0", "1"},
    "tnews": {str(n) for n in (100, 101, 102, 103, 104, 106, 107, 108, 109, 110, 112, 113, 114, 115, 116)},
    "iflytek": {str(n) for n in range(119)},
    "cmnli": {"contradiction", "entailment", "neutral"},
    "ocnli": {"contradiction", "entailment", "neutral"},
    "cluewsc2020": {"true", "false"},
    "csl": {"0", "1"},
}

#: name in the upload → folder and test file
CLASSIFICATION = {
    "afqmc_predict.json": ("afqmc", "test.json"),
    "tnews11_predict.json": ("tnews", "test.json"),
    "tnews10_predict.json": ("tnews", "test1.0.json"),
    "iflytek_predict.json": ("iflytek", "test.json"),
    "cmnli_predict.json": ("cmnli", "test.json"),
    "ocnli_50k_predict.json": ("ocnli", "test.json"),
    "cluewsc11_predict.json": ("cluewsc2020", "test.json"),
    "cluewsc10_predict.json": ("cluewsc2020", "test1.0.json"),
    "csl_predict.json": ("csl", "test.json"),
}
C3 = {"c311_predict.json": "test1.1.json", "c310_predict.json": "test1.0.json"}
CHID = {"chid11_predict.json": "test1.1.json", "chid10_predict.json": "test1.0.json"}

#: What a zip for each leaderboard holds.
VERSIONS = {
    "1.1": {
        "afqmc_predict.json", "tnews11_predict.json", "iflytek_predict.json", "cmnli_predict.json",
        "ocnli_50k_predict.json", "cluewsc11_predict.json", "csl_predict.json", "cmrc2018_predict.json",
        "chid11_predict.json", "c311_predict.json",
    },
    "1.0": {
        "afqmc_predict.json", "tnews10_predict.json", "iflytek_predict.json", "cmnli_predict.json",
        "ocnli_50k_predict.json", "cluewsc10_predict.json", "csl_predict.json", "cmrc2018_predict.json",
        "chid10_predict.json", "c310_predict.json",
    },
}  # fmt: skip


def accept(archive: Path, data: Path) -> set[str]:
    """The names in a zip, every file of which answers its test set in ``data`` as the protocol says."""
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        names = opened.namelist()
        assert len(names) == len(set(names)) and not any("/" in name for name in names)
        for name in names:
            text = opened.read(name).decode("utf-8")
            if name in CLASSIFICATION:
                task, file = CLASSIFICATION[name]
                accept_labels(text, task, data / f"{task}_public" / file)
            elif name in C3:
                accept_options(text, data / "c3_public" / C3[name])
            elif name in CHID:
                accept_tags(text, data / "chid_public" / CHID[name])
            else:
                assert name == "cmrc2018_predict.json"
                accept_answers(text, data / "cmrc2018_public" / "test.json")
    return set(names)


def accept_labels(text: str, task: str, test: Path) -> None:
    lines = text.rstrip("\n").split("\n")
    assert len(lines) == sum(bool(line.strip()) for line in test.read_text(encoding="utf-8").split("\n"))
    for number, line in enumerate(lines):
        row = json.loads(line)
        assert set(row) == {"id", "label"} and row["id"] == number and type(row["id"]) is int
        assert type(row["label"]) is str and row["label"] in LABELS[task]


def accept_options(text: str, test: Path) -> None:
    options = {q["id"]: len(q["choice"]) for item in json.loads(test.read_text(encoding="utf-8")) for q in item[1]}
    rows = [json.loads(line) for line in text.rstrip("\n").split("\n")]
    assert [row["id"] for row in rows] == list(options)
    assert all(set(row) == {"id", "label"} and type(row["label"]) is int for row in rows)
    assert all(0 <= row["label"] < options[row["id"]] for row in rows)


def accept_tags(text: str, test: Path) -> None:
    records = [json.loads(line) for line in test.read_text(encoding="utf-8").split("\n") if line.strip()]
    tags = [tag for record in records for passage in record["content"] for tag in re.findall(r"#idiom\d+#", passage)]
    answers = json.loads(text)
    assert set(answers) == set(tags) and len(answers) == len(tags)
    assert all(type(index) is int and 0 <= index <= 9 for index in answers.values())


def accept_answers(text: str, test: Path) -> None:
    data = json.loads(test.read_text(encoding="utf-8"))["data"]
    ids = [question["id"] for article in data for part in article["paragraphs"] for question in part["qas"]]
    answers = json.loads(text)
    assert set(answers) == set(ids) and len(answers) == len(ids)
    assert all(type(answer) is str for answer in answers.values())
