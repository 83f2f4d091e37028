"""Bundles: what goes into one, what verification says of a whole one, and forgeries, each of which is found."""

import gzip
import hashlib
import io
import json
import pickle
import re
import stat
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from cluebench.records.finished_trials import OpenedRun
from cluebench.records.identity import configuration_hash
from cluebench.records.result import Result
from tests.bundle.conftest import SECRETS
from tests.bundle.editing import FIRST, SECOND, best_log, edit, members, rewrite, write

COMMAND = "grid_search_tools/bundle.py"
GRID_OF = b'{"format": 1, "model": "m", "status": "done", "trials": %s}'
TRIAL = {"task": "../x", "name": "y", "learning_rate": 1.0, "batch_size": 1, "dropout": 0.1, "seed": 1}
TRIAL |= {"configuration_hash": "", "state": "done"}


@pytest.fixture
def verify(run_command, data):
    return lambda bundle, *more: run_command(COMMAND, "verify", bundle, "--data_dir", data, *more)


def reconfigure(files, trial, **settings):
    """Another configuration everywhere that it is written, hashed as it should be."""

    def change(value):
        value["configuration"].update(settings)
        value["configuration_hash"] = configuration_hash(value["configuration"])

    edit(files, f"{trial}.json", change)
    digest = json.loads(files[f"{trial}.json"])["configuration_hash"]
    edit(files, f"{trial}.predictions", lambda value: value["configuration"].update(settings))

    def plan(value):
        for entry in value["trials"]:
            if f"{entry['task']}/{entry['name']}" == trial:
                entry["configuration_hash"] = digest

    edit(files, "grid.json", plan)


# A whole one ----------------------------------------------------------------------------------------------------------


def test_a_whole_bundle_is_verified(bundle, verify):
    ended = verify(bundle)
    assert (ended.code, ended.err) == (0, ""), ended.out
    assert [line.split()[:2] for line in ended.lines[1:]] == [
        [name, "verified:"] for name in ("AFQMC", "CMRC2018", "CHID", "C3")
    ]
    assert "12 trials" in ended.lines[1] and "settings" not in ended.lines[1]
    assert "2 of the 6 settings of the published grid" in ended.lines[-1]


def test_without_data_nothing_is_verified_and_forgeries_of_the_protocol_are_still_found(
    bundle, run_command, tmp_path, data
):
    (tmp_path / "none").mkdir()
    ended = run_command(COMMAND, "verify", bundle, "--data_dir", tmp_path / "none")
    assert ended.code == 0
    assert all("not verifiable here" in line and "not here: see --data_dir" in line for line in ended.lines[1:])
    rewrite(bundle, settings(epochs=10))
    assert run_command(COMMAND, "verify", bundle, "--data_dir", tmp_path / "none").code == 1


def test_nothing_of_the_machine_is_in_a_bundle(bundle, run, tmp_path):
    files = members(bundle)
    content = b"".join(
        gzip.decompress(value) if name.endswith("predictions") else value for name, value in files.items()
    )
    for secret in (*SECRETS, str(tmp_path), str(run)):
        assert secret.encode() not in content, secret
    manifest = json.loads(files["manifest.json"])
    assert manifest["command"] == "grid_search.py hfl/rbt3 --tasks afqmc"
    assert manifest["model"]["identity"] == "hfl/rbt3" and set(manifest["data"]) == {"afqmc", "c3", "chid", "cmrc2018"}
    assert sum(name.endswith(".log") for name in files) == 4


def test_a_setting_with_a_path_is_not_packed(run, data, run_command):
    path = run / f"{FIRST}.json"
    value = json.loads(path.read_text())
    value["configuration"]["lexicon"] = "/home/zhangsan/lexicon.txt"
    for other in (run / "grid.json", *(run / "afqmc").glob("*")):
        other.unlink()
    path.write_text(json.dumps(value))
    ended = run_command(COMMAND, "pack", run, "--data_dir", data)
    assert ended.code == 2 and "its setting lexicon names a path of this machine" in ended.err


def test_the_same_run_gives_the_same_bundle(bundle, run, data, run_command, tmp_path):
    again = run_command(COMMAND, "pack", run, "--data_dir", data, "--output", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()
    assert again.lines == [f"{tmp_path / 'again.zip'}: 4 tasks, 18 trials, 4 logs"]


def test_weights_that_were_kept_are_hashed(run, data, run_command, tmp_path):
    folder = run / FIRST
    folder.mkdir()
    (folder / "model_state.pdparams").write_bytes(b"weights")
    run_command(COMMAND, "pack", run, "--data_dir", data, "--output", tmp_path / "b.zip")
    kept = json.loads(members(tmp_path / "b.zip")["manifest.json"])["kept"]
    assert kept == {f"{FIRST}/model_state.pdparams": hashlib.sha256(b"weights").hexdigest()}


def test_merged_bundles_stand_on_one_leaderboard(bundle, data, run_command, tmp_path):
    root, other = tmp_path / "merged", tmp_path / "other.zip"
    rewrite(bundle, forged("manifest.json", lambda value: value.update(packed_by="0.3.0")), to=other)
    for message in (str(root), "already"):
        ended = run_command(COMMAND, "merge", bundle, other, "--data_dir", data, "--run_root", root)
        assert ended.code == 0 and message in ended.lines[-1], ended.err
    names = sorted(path.name for path in root.iterdir())
    assert names[0] == "hfl--rbt3" and names[1].startswith("hfl--rbt3--") and len(names) == 2
    board = run_command("grid_search_tools/leaderboard.py", root, "--format", "csv")
    assert board.code == 0 and [line.split(",")[1] for line in board.lines[1:3]] == [
        f"hfl/rbt3 (merged/{name})" for name in names
    ]


def test_a_bundle_that_does_not_fit_is_not_merged(bundle, data, run_command, tmp_path):
    rewrite(bundle, result(best_score=[99.0]))
    ended = run_command(COMMAND, "merge", bundle, "--data_dir", data, "--run_root", tmp_path / "merged")
    assert ended.code == 1 and not (tmp_path / "merged").exists()


# Forgeries that are sealed again: something does not fit --------------------------------------------------------


SPANS, BLANKS = "cmrc2018/2e-05_24_0.1", "chid/2e-05_24_0.1"


def forged(name, change):
    return lambda files: edit(files, name, change)


def in_result(change, trial=FIRST):
    return forged(f"{trial}.json", change)


def result(trial=FIRST, **values):
    return in_result(lambda value: value.update(values), trial)


def settings(trial=FIRST, **values):
    return lambda files: reconfigure(files, trial, **values)


def predictions(trial=FIRST, **values):
    return forged(f"{trial}.predictions", lambda value: value.update(values))


def fewer_steps(number, trial=FIRST):
    return in_result(lambda value: value.update(total_steps=value["total_steps"] - number), trial)


def data_in_the_manifest(task):
    return forged("manifest.json", lambda value: value["data"][task].update({"dev.json": "0" * 32}))


def in_log(pattern, replacement):
    """Another line in the log of the best trial."""

    def forge(files):
        name = best_log(files)
        files[name], number = re.subn(pattern, replacement, files[name], count=1)
        assert number

    return forge


def other_point(**values):
    """The first point of the curve that is not the best."""
    return in_result(
        lambda value: next(one for one in value["dev_curve"] if one["step"] != value["best_step"]).update(values)
    )


@in_result
def score_and_curve(value):
    value["best_score"] = [99.5]
    next(one for one in value["dev_curve"] if one["step"] == value["best_step"])["score"] = [99.5]


def predictions_scored_against_other_answers(files):
    score_and_curve(files)
    name = f"{FIRST}.predictions"
    edit(files, name, lambda v: v.update(gold=[*v["predicted"][:-1], 1 - v["predicted"][-1]]))


def dropped_trial(files):
    for suffix in ("json", "predictions", "log"):
        files.pop(f"{FIRST}.{suffix}", None)


def swapped_predictions(files):
    first, second = f"{FIRST}.predictions", f"{SECOND}.predictions"
    files[first], files[second] = files[second], files[first]


def swapped_predictions_with_their_heads(files):
    first = json.loads(gzip.decompress(files[f"{FIRST}.predictions"]))
    swapped_predictions(files)
    predictions(configuration=first["configuration"], step=first["step"])(files)


def cut_later(change):
    """Forges a cut point behind the first evaluation of a trial with eight; ``change``: (result, point)."""

    def changed(value):
        point = next(one for one in value["dev_curve"][1:] if one["step"] != value["best_step"])
        point.update(cut_after=16, loss=None)
        change(value, point)

    return in_result(changed, "c3/2e-05_24_0.1")


@cut_later
def cut_above_the_best_before(value, point):
    """A point is cut once it can't be better than the best so far: a higher bound is no reason to stop."""
    point["score"] = [max(one["score"][0] for one in value["dev_curve"] if one["step"] < point["step"]) + 2]


@cut_later
def best_score_of_a_cut_point(value, point):
    point["score"], value["best_step"] = value["best_score"], point["step"]


def fewer_windows_than_its_neighbour(files):
    def change(value):
        value["total_steps"] -= 2
        value["dev_curve"] = [{**one, "step": one["step"] - one["epoch"] - 1} for one in value["dev_curve"]]
        value["best_step"] = max(value["dev_curve"], key=lambda one: (one["score"], -one["step"]))["step"]

    edit(files, f"{SPANS}.json", change)
    predictions(SPANS, step=json.loads(files[f"{SPANS}.json"])["best_step"])(files)
    files.pop(f"{SPANS}.log", None)


def losses_of_another_trial(files):
    losses = [point["loss"] for point in json.loads(files[f"{SPANS}.json"])["dev_curve"]]

    def change(value):
        for point, loss in zip(value["dev_curve"], losses, strict=True):
            point["loss"] = loss

    edit(files, "cmrc2018/2e-05_32_0.1.json", change)


def other_twins(value):
    value["afqmc"]["twins"] = sorted({*range(200)} - {*value["afqmc"]["twins"]})


def other_answers(value):
    value["predicted"] = ["错"] * len(value["predicted"])


#: A forgery, and part of what verification reports.
FORGERIES = {
    "score": (result(best_score=[99.0]), "its best score is (99.0,)"),
    "twin in train": (forged("rows.json", other_twins), "rows.json: its list of dev rows that are also in train is wrong"),
    "score and curve": (score_and_curve, "its result 99.5000"),
    "other answers": (predictions_scored_against_other_answers, "of the official dev files, its result says 99.5000"),
    "dropped trial": (dropped_trial, "the plan says that it is done"),
    "no result": (lambda files: files.pop(f"{FIRST}.json"), "belongs to no trial with a result"),
    "swapped predictions": (swapped_predictions, "its dev predictions are of another trial"),
    "with their heads": (swapped_predictions_with_their_heads, "its dev predictions give"),
    "another step": (predictions(step=1), "its dev predictions are of step 1"),
    "other rows": (predictions(rows="0" * 16), "of other rows than the official dev files"),
    "another span": (forged(f"{SPANS}.predictions", other_answers), "it predicted 0.0000/0.0000 of the official dev files"),
    "more epochs": (settings(epochs=10), "another protocol: epochs is 10 (published: 3)"),
    "fewer rows": (settings(limit=100), "another protocol: limit is 100 (published: None)"),
    "another flag": (settings(SPANS, doc_stride=64), "another protocol: doc_stride is 64 (published: None)"),
    "longer warm-up": (settings(warmup=0.2), "another protocol: warmup is 0.2 (published: 0.1)"),
    "another hash": (in_result(lambda value: value["configuration"].update(seed=43)), "its hash is not the hash of its configuration"),
    "renamed trial": (settings(learning_rate=5e-5), "; its name says otherwise"),
    "other data": (settings(data="0" * 16), "trained on other files than the official ones"),
    "other data in the manifest": (data_in_the_manifest("chid"), "it was trained on other files than those of the manifest"),
    "other official data there": (data_in_the_manifest("afqmc"), "it was trained on other files than those of the manifest"),
    "another model": (settings(model="hfl/rbt6"), "it is of another model than the manifest's"),
    "point dropped": (in_result(lambda value: value["dev_curve"].pop(0)), "points instead of one after every 100 of"),
    "point raised": (other_point(score=[99.0]), "of its curve (99.0,)"),
    "first point cut": (in_result(lambda value: value["dev_curve"][0].update(cut_after=64, loss=None)), "was cut at "),
    "cut above the best before": (cut_above_the_best_before, "though nothing before was as good"),
    "best score of a cut point": (best_score_of_a_cut_point, "its best score is"),
    "stopped": (result(status="stopped"), "it is not a finished trial of AFQMC"),
    "no whole epochs": (fewer_steps(1, SPANS), "steps are not 2 epochs"),
    "another precision": (settings(amp="fp16"), "another protocol than the plan, or several"),
    "score that rows do not allow": (other_point(score=[12.34567]), "12.34567 % is not a whole number of 200 rows"),
    "another epoch": (in_result(lambda value: value["dev_curve"][0].update(epoch=0)), "is not of epoch 0"),
    "fewer steps": (fewer_steps(3), "3 epochs of 700 examples by 16 are 132"),
    "fewer steps of blanks": (fewer_steps(3, BLANKS), "examples by 24 are"),
    "fewer windows": (fewer_windows_than_its_neighbour, "no number of training examples gives the steps of all its trials"),
    "uneven micro-batches": (result(accumulation_steps=3), "can't be cut into 3 micro-batches"),
    "losses of another trial": (losses_of_another_trial, "to the last digit"),
    "warm-up in the log": (in_log(rb"(global step 10/.*lr: )0", rb"\g<1>9"), "with a warm-up of 0.1"),
    "evaluation in the log": (in_log(b"eval loss: ", b"eval loss: 9"), "which is not in its curve"),
    "score in the log": (in_log(b"best_result.*", b"best_result: 99.00"), "its log does not end in its score"),
    "settings of the wrong kind": (settings(batch_size="many"), "; its name says otherwise"),
    "no seed": (in_result(lambda value: value["configuration"].pop("seed")), "a value of the wrong kind"),
    "values of the wrong kind": (result(total_steps="many", cards=None), "its result is not whole"),
    "empty result": (lambda files: files.update({f"{FIRST}.json": b"{}"}), "its result is not whole"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_a_sealed_forgery_is_found(bundle, verify, name):
    forge, message = FORGERIES[name]
    rewrite(bundle, forge)
    ended = verify(bundle)
    assert (ended.code, ended.err) == (1, ""), ended.out
    assert "does not fit" in ended.out and message in ended.out


def test_what_is_left_out_is_reported(bundle, verify):
    """Without its predictions, its log, or its place in the plan a trial may be right: nobody can tell."""
    files = members(bundle)
    del files[f"{FIRST}.predictions"], files[best_log(files)]
    write(bundle, files)
    ended = verify(bundle)
    assert ended.code == 0 and "AFQMC        not verifiable here: 12 trials" in ended.out
    rewrite(bundle, dropped_trial)
    rewrite(bundle, forged("grid.json", lambda value: value["trials"].pop(0)))
    assert "11 of the 12 settings of the published grid" in verify(bundle).out


# Files that mean harm -------------------------------------------------------------------------------------------------


class Harm:
    def __reduce__(self):
        return exec, ("raise SystemExit('run')",)


def pickled_array():
    stream = io.BytesIO()
    np.savez(stream, scores=np.array([Harm()], dtype=object))
    return stream.getvalue()


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("../escaped.json", b"{}", "which is not a file of a bundle"),
        ("rows.json", b'{"afqmc": {"twins": [3, 3]}}', "rows.json"),
        ("rows.json", b'{"../afqmc": null}', "rows.json"),
        ("/tmp/escaped.json", b"{}", "which is not a file of a bundle"),
        ("afqmc/../../escaped.json", b"{}", "which is not a file of a bundle"),
        ("afqmc\\..\\escaped.json", b"{}", "which is not a file of a bundle"),
        ("afqmc/1e-5_16_0.1.json", b"{}", "which is not a file of a bundle"),
        ("afqmc/scores.npz", pickled_array(), "which is not a file of a bundle"),
        ("afqmc/1e-05_8_0.1/model_state.pdparams", pickle.dumps(Harm()), "which is not a file of a bundle"),
        ("afqmc/1e-05_8_0.1.json", b"\0" * (17 << 20), "unpacks to more than 16 MiB"),
        ("afqmc/1e-05_8_0.1.json", b"[" * 200_000, "nested too deep"),
        ("afqmc/1e-05_8_0.1.json", b'{"best_score": [NaN]}', "NaN as best_score[0], which is no finite number"),
        ("afqmc/1e-05_8_0.1.log", b"loading /home/zhangsan/models\n", "lines that no run writes"),
        ("grid.json", GRID_OF % (b"[%s]" % json.dumps(TRIAL).encode()), "is no trial"),
        ("grid.json", GRID_OF % b'[], "protocols": []', "Expected object, got array"),
    ],
)
def test_a_member_that_means_harm_is_refused(bundle, verify, tmp_path, name, content, message):
    write(bundle, {**members(bundle), name: content})
    before = sorted(tmp_path.rglob("*"))
    ended = verify(bundle)
    assert ended.code == 2 and message in ended.err and len(ended.err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", [pickle.dumps(Harm()), pickled_array(), gzip.compress(b"\0" * (65 << 20))])
def test_predictions_that_mean_harm_are_none(bundle, verify, content):
    write(bundle, {**members(bundle), f"{FIRST}.predictions": content})
    ended = verify(bundle)
    assert ended.code == 1 and "its dev predictions are not a whole file" in ended.out


def test_a_name_that_stands_twice_is_refused(bundle, verify):
    with pytest.warns(UserWarning), zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr(f"{FIRST}.json", b"{}")
    ended = verify(bundle)
    assert ended.code == 2 and "holds a name twice" in ended.err


def test_a_link_is_refused(bundle, verify):
    files = members(bundle)
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, value in files.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = ((stat.S_IFLNK if name == f"{FIRST}.json" else stat.S_IFREG) | 0o777) << 16
            archive.writestr(info, value)
    ended = verify(bundle)
    assert ended.code == 2 and "is a link or a device" in ended.err


def test_too_many_files_and_bytes_are_refused(bundle, verify, monkeypatch):
    monkeypatch.setattr("cluebench.bundle.contents.MOST_MEMBERS", 10)
    assert "unpacks to more than 10 files" in verify(bundle).err
    monkeypatch.setattr("cluebench.bundle.contents.MOST_BYTES", 1000)
    assert verify(bundle).code == 2


@pytest.mark.parametrize("change", [lambda value: value[:-100], lambda value: b"PK", lambda value: b""])
def test_a_broken_archive_is_refused_in_one_line(bundle, verify, change):
    bundle.write_bytes(change(bundle.read_bytes()))
    ended = verify(bundle)
    assert ended.code == 2 and len(ended.err.splitlines()) == 1


def test_an_edit_that_is_not_sealed_is_refused(bundle, verify):
    rewrite(bundle, result(train_seconds=1.0), seal=False)
    ended = verify(bundle)
    assert ended.code == 2 and f"other files than its manifest lists: '{FIRST}.json'" in ended.err


@pytest.mark.parametrize(
    "model, message",
    [
        ({"name": "../../etc", "identity": "../../etc"}, "manifest.json: model.name: Expected str matching"),
        ({"name": "..", "identity": ".."}, "manifest.json: model.name: Expected str matching"),
        ({"name": "ernie-3.0-xbase-zh", "identity": "hfl/rbt3"}, "it is of ernie-3.0-xbase-zh, and this is 'hfl/rbt3'"),
        ({"name": 3, "identity": 3}, "manifest.json: model.name: Expected str, got int"),
        ({"name": "m", "identity": "directory:\x1b[2J"}, "it is of m, and this is 'directory:\\x1b[2J'"),
    ],
)
def test_a_manifest_names_one_model(bundle, verify, model, message):
    rewrite(bundle, forged("manifest.json", lambda value: value.update(model={**model, "weights": {}})))
    ended = verify(bundle)
    assert ended.code == 2 and message in ended.err


@pytest.mark.parametrize(
    "words",
    [
        {"model": "m/\x1b[2J"},
        {"model": "/home/victim/model", "model_identity": "directory:0123456789abcdef"},
        {"command": ["-c", "import os"]},
        {"data_dir": "/home/victim"},
        {"status": "\x1b[2J"},
        {"devices": ["gpu-node-17 gpu 0"]},
        {"trials": {"state": "failed", "failures": [{"kind": "crash", "detail": "\x1b[2J"}]}},
    ],
)
def test_a_plan_tells_nothing_but_what_is_packed(bundle, verify, words):
    def change(grid):
        grid["trials"][0].update(words.pop("trials", {}))
        grid.update(words)

    rewrite(bundle, forged("grid.json", change))
    ended = verify(bundle)
    assert ended.code == 2 and "grid.json of another model, or with texts that no bundle may hold" in ended.err


def test_a_strangers_words_do_not_steer_the_terminal(bundle, verify):
    rewrite(bundle, settings(**{"\x1b[2J": "\x1b]0;x\x07"}))
    assert "\x1b" not in verify(bundle).out


def test_a_bundle_of_a_halving_says_so_packed_verified_and_merged(run, data, run_command, tmp_path):
    stopped = sorted((run / "afqmc").glob("*.json"))[:3]
    for path in stopped:
        replace(Result.read(path), status="stopped").write(path)
    grid = json.loads((run / "grid.json").read_text())
    for trial in grid["trials"]:
        trial["state"] = "stopped" if trial["name"] in {path.stem for path in stopped} else "done"
    (run / "grid.json").write_text(json.dumps(grid))
    mark = OpenedRun(run).halving_mark
    bundle, root = tmp_path / "halved.zip", tmp_path / "merged"
    assert mark == f"halving: 3 of {len(grid['trials'])} trials stopped early"
    assert run_command(COMMAND, "pack", run, "--data_dir", data, "--output", bundle).code == 0
    ended = run_command(COMMAND, "merge", bundle, "--data_dir", data, "--run_root", root)
    assert ended.code == 0 and ended.out.splitlines()[0] == f"{bundle}: hfl/rbt3 ({mark})"
    assert OpenedRun(root / "hfl--rbt3").halving_mark == mark
