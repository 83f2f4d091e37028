"""Made-up data sets: the same for the same seed, sound for every loader, in the official formats, learnable."""

import hashlib
import json
from collections import Counter

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from cluebench.benchmark.tasks import TASKS
from cluebench.data.rows import IDIOM_TAG, IdiomRecord, load_rows
from cluebench.data.source import open_source
from cluebench.demo import synthetic
from cluebench.demo.synthetic import Sizes, write_synthetic

SMALL = {name: Sizes(60, 30, 40) for name in TASKS}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    write_synthetic(folder, sizes=SMALL, seed=3)
    return folder


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_bytes_depend_on_seed_and_task_alone(made, tmp_path):
    write_synthetic(tmp_path / "ocnli", ["ocnli"], SMALL, seed=3)
    write_synthetic(tmp_path / "other", sizes=SMALL, seed=4)
    first, again, other = map(_files, (made, tmp_path / "ocnli", tmp_path / "other"))
    assert again.keys() == {"synthetic.json", *(name for name in first if name.startswith("ocnli"))}
    assert all(again[name] == first[name] for name in again if name != "synthetic.json")
    assert first.keys() == other.keys()
    same = {name for name in first if first[name] == other[name]}
    assert {name.rsplit("/", 1)[-1] for name in same} == {"labels.json"}


def test_the_demo_never_changes(tmp_path):
    """Its scores were measured on these bytes, with a vocabulary of these characters."""
    write_synthetic(tmp_path)
    digest = hashlib.sha256(b"".join(name.encode() + content for name, content in _files(tmp_path).items()))
    assert digest.hexdigest()[:16] == "e7c54bb449927ab6"
    assert hashlib.sha256(synthetic.characters().encode()).hexdigest()[:16] == "ad1410d3bb7666fa"


def test_every_official_file_is_there(made):
    for task in TASKS.values():
        written = {path.name for path in (made / f"{task.name}_public").iterdir()}
        assert written - {"trial.json"} == set(task.files)
    assert (made / "cmrc2018_public" / "trial.json").exists()


@pytest.mark.parametrize("name", TASKS)
def test_every_split_loads_in_its_size(made, name, capsys):
    task, source = TASKS[name], open_source(made)
    for split, size in (("train", 60), ("dev", 30), *((f"test{test.version}", 40) for test in task.test_sets)):
        rows = load_rows(source, task, split)
        # A few OCNLI and CMNLI rows are without an agreed label.
        assert 0.8 * size <= len(rows) <= size, split
        if name not in ("ocnli", "cmnli"):
            assert len(rows) == size
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.is_classification])
def test_labels_and_keys_are_official(made, name):
    task, folder = TASKS[name], made / f"{name}_public"
    train = [json.loads(line) for line in (folder / task.train_files[0]).read_text().splitlines()]
    assert {row["label"] for row in train} <= {*task.labels, "-"}
    if len(task.labels) < 20:
        assert {row["label"] for row in train} - {"-"} == set(task.labels)
    for test in task.test_sets:
        rows = [json.loads(line) for line in (folder / test.file).read_text().splitlines()]
        assert all("label" not in row and "id" in row for row in rows)
    if task.label_file:
        listed = [json.loads(line)["label"] for line in (folder / task.label_file).read_text().splitlines()]
        assert listed == list(task.labels)


def test_rows_without_agreed_label(tmp_path):
    write_synthetic(tmp_path, ["ocnli", "cmnli"], {name: Sizes(1000, 1000, 10) for name in TASKS})
    source = open_source(tmp_path)
    counts = {
        (name, split): 1000 - len(load_rows(source, TASKS[name], split))
        for name in ("ocnli", "cmnli")
        for split in ("train", "dev")
    }
    assert counts.pop(("cmnli", "train")) == 0  # as in the official file
    assert all(0 < count < 60 for count in counts.values()), counts


def test_traits_of_the_official_files(made):
    files = _files(made)
    assert not files["csl_public/test.json"].endswith(b"\n") and files["csl_public/train.json"].endswith(b"\n")
    assert b"\r\n" in files["c3_public/d-train.json"]
    ids = [json.loads(line)["id"] for line in files["csl_public/test.json"].decode().splitlines()]
    assert ids != list(range(len(ids))) and len(set(ids)) == len(ids)
    squad = json.loads(files["cmrc2018_public/test.json"])
    answer = squad["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]
    assert answer == {"text": "FAKE_ANSWER_1", "answer_start": -1}


def test_idiom_records_have_several_blanks_in_a_passage(tmp_path):
    write_synthetic(tmp_path, ["chid"], {"chid": Sizes(300, 10, 10, blanks=6.8)})
    records: list[IdiomRecord] = load_rows(open_source(tmp_path), TASKS["chid"], "train")
    blanks = [len(record.answers) for record in records]
    assert 6.4 < sum(blanks) / len(blanks) < 7.2 and max(blanks) <= 9
    assert any(len(IDIOM_TAG.findall(passage)) > 1 for record in records for passage in record.passages)
    assert all(len(set(record.candidates)) == 10 for record in records)
    tags = [tag for record in records for tag in record.answers]
    assert len(set(tags)) == len(tags)


def test_questions_with_few_and_many_options(tmp_path):
    write_synthetic(tmp_path, ["c3"], {"c3": Sizes(200, 50, 200)})
    source = open_source(tmp_path)
    train = Counter(len(row.options) for row in load_rows(source, TASKS["c3"], "train"))
    assert set(train) == {2, 3, 4}
    test = Counter(len(row.options) for row in load_rows(source, TASKS["c3"], "test1.1"))
    assert set(test) == {2, 3, 4, 10}
    assert max(len(row.options) for row in load_rows(source, TASKS["c3"], "test1.0")) == 4


def test_some_contexts_are_longer_than_a_window(tmp_path):
    write_synthetic(tmp_path, ["cmrc2018"], {"cmrc2018": Sizes(2000, 20, 20)})
    rows = load_rows(open_source(tmp_path), TASKS["cmrc2018"], "train")
    assert 0 < sum(len(row.context) > 512 for row in rows) < 40
    assert all(row.context.startswith(row.answers[0], row.answer_starts[0]) for row in rows)


def test_texts_grow_with_sentences(tmp_path):
    lengths = {}
    for sentences in (1, 12):
        sizes = {name: Sizes(20, 5, 5, sentences=sentences) for name in TASKS}
        write_synthetic(tmp_path / str(sentences), sizes=sizes)
        for name in TASKS:
            folder = tmp_path / str(sentences) / f"{name}_public"
            lengths[name, sentences] = sum(len(path.read_text()) for path in folder.iterdir())
    for name in TASKS:
        assert lengths[name, 12] > lengths[name, 1] * 1.2, name


def test_characters_cover_all_but_what_vocabularies_lack(made):
    allowed, found = set(synthetic.characters()), set()
    for name, content in _files(made).items():
        if name != "synthetic.json":
            found |= {character for character in content.decode() if ord(character) > 127}
    assert found - allowed <= set("ＴＬＮ")


def pairs_of_characters():
    """A naive Bayes classifier of texts."""
    counts = CountVectorizer(analyzer="char", ngram_range=(2, 2), binary=True)
    return make_pipeline(counts, MultinomialNB(alpha=0.1))


FLOORS = dict(afqmc=0.9, tnews=0.9, iflytek=0.6, cmnli=0.9, ocnli=0.9, cluewsc2020=0.8, csl=0.8)


@pytest.mark.parametrize("name", FLOORS)
def test_labels_follow_from_words_but_not_all_of_them(tmp_path, name):
    write_synthetic(tmp_path, [name], {name: Sizes(800, 200, 1)})
    train, dev = (load_rows(open_source(tmp_path), TASKS[name], split) for split in ("train", "dev"))
    texts, labels = (["|".join(row.texts) for row in train], [row.label for row in train])
    model = pairs_of_characters().fit(texts, labels)
    assert FLOORS[name] < model.score(["|".join(row.texts) for row in dev], [row.label for row in dev]) < 0.995


@pytest.mark.parametrize(("name", "floor"), [("c3", 0.8), ("chid", 0.25)])
def test_right_options_and_idioms_have_their_own_words(tmp_path, name, floor):
    write_synthetic(tmp_path, [name], {name: Sizes(600, 300, 1)})

    def questions(split):
        for row in load_rows(open_source(tmp_path), TASKS[name], split):
            options = row.options if name == "c3" else row.candidates
            yield from ((options, answer) for answer in ([row.answer] if name == "c3" else row.answers.values()))

    marked = [
        (option, place == answer) for options, answer in questions("train") for place, option in enumerate(options)
    ]
    model = pairs_of_characters().fit(*zip(*marked))
    right = [model.predict_proba(options)[:, 1].argmax() == answer for options, answer in questions("dev")]
    assert floor < sum(right) / len(right) < 0.995
