"""What a user's word for a model means: the same to the scheduler, to the scripts and to the tools."""

import hashlib
import os
import re

import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.demo import synthetic
from cluebench.foundation.errors import UsageError
from cluebench.pretrained.model import Model
from cluebench.records.run_flags import RunFlags
from cluebench.scheduler.plan.grid_flags import GridFlags
from cluebench.scheduler.plan.trials import build_plan, shared_flags
from cluebench.training.configure import configure

NAME = "ernie-3.0-base-zh"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(folder, configuration="config.json"):
    folder.mkdir(parents=True)
    (folder / configuration).write_text("{}")
    return folder


def test_a_published_name(here):
    for typed, name, folder in ((NAME, NAME, NAME), ("hfl/rbt3", "hfl/rbt3", "hfl--rbt3"), ("m/", "m", "m")):
        model = Model.of(typed)
        assert (model.name, model.directory, model.folder, model.identity) == (name, None, folder, name)
        assert model.typed == typed and str(model) == name


@pytest.mark.parametrize("configuration", ["config.json", "model_config.json"])
def test_a_directory_however_it_is_typed(here, configuration, monkeypatch):
    lies = make(here / "some" / "mine", configuration)
    monkeypatch.setenv("HOME", str(here))
    (here / "link").symlink_to(lies)
    found = {Model.of(typed) for typed in ("some/mine", "./some/mine/", str(lies), "~/some/mine", "link")}
    assert len(found) == 1  # as keys, too, they are one model
    (model,) = found
    assert (model.name, model.directory, model.folder) == (str(lies), lies, "mine")


def test_a_folder_of_logs_named_like_a_model_is_none(here):
    (here / NAME / "tnews").mkdir(parents=True)
    (here / "hfl" / "rbt3").mkdir(parents=True)
    assert Model.of(NAME).directory is None and Model.of("hfl/rbt3").folder == "hfl--rbt3"
    (here / NAME / "config.json").write_text("{}")
    assert Model.of(NAME).directory == here / NAME


@pytest.mark.parametrize(
    "typed, message",
    [
        ("", "--x '': name a published model or the directory of a model"),
        ("/", "--x '/': name a published model or the directory of a model"),
        ("./nowhere", "--x ./nowhere: no such directory"),
        ("~/nowhere", "--x ~/nowhere: no such directory"),
        ("~nobody-of-this-name/m", "--x ~nobody-of-this-name/m: no such directory"),
        ("a/b/c", "--x a/b/c: no such directory"),
        ("config.json", "--x config.json: a file; give the directory it lies in"),
        ("./empty", "empty: no config.json or model_config.json in this model directory"),
    ],
)
def test_what_is_no_model_gets_one_line(here, typed, message):
    (here / "empty").mkdir()
    (here / "config.json").write_text("{}")
    with pytest.raises(UsageError) as refused:
        Model.of(typed, "--x")
    assert str(refused.value) == message


def test_a_directory_is_known_by_its_content(here):
    folder = make(here / "mine")
    weights = folder / "model_state.pdparams"
    weights.write_bytes(os.urandom(5 << 20))
    first = Model.of("mine").identity
    os.utime(weights, (0, 0))
    (folder / "notes.md").write_text("no part of the model")
    (folder / ".hidden.json").write_text("nor this")
    assert Model.of("./mine").identity == Model.of(str(folder.rename(here / "moved"))).identity == first
    with open(here / "moved" / "model_state.pdparams", "r+b") as stream:
        stream.write(b"new weights")
    second = Model.of("moved").identity
    (here / "moved" / "vocab.txt").write_text("[PAD]\n")
    assert len({first, second, Model.of("moved").identity}) == 3


def test_every_byte_of_large_weights_counts(here):
    weights, size = make(here / "mine") / "model.safetensors", 9 << 20
    weights.write_bytes(bytes(size))
    model = Model.of("mine")
    of_samples = f"config.json:{{}}model.safetensors:{size}:".encode() + bytes(64 << 16)
    assert model.sampled_identity == f"directory:{hashlib.sha256(of_samples).hexdigest()[:16]}"  # results count by it
    found = {model.identity}
    for place in (0, 1 << 20, 5_000_003, size - 1):
        with open(weights, "r+b") as stream:
            stream.seek(place)
            stream.write(b"\1")
        os.utime(weights, ns=(place, place))
        found.add(Model.of("mine").identity)
    assert len(found) == 5


def test_the_hash_of_large_weights_is_remembered(here, monkeypatch):
    weights = make(here / "mine") / "model.safetensors"
    weights.write_bytes(os.urandom(5 << 20))
    monkeypatch.setenv("CLUEBENCH_CACHE", str(here / "cache"))
    first, opened, plain = Model.of("mine").identity, [], open
    monkeypatch.setattr("builtins.open", lambda path, *rest: opened.append(path) or plain(path, *rest))
    assert Model.of("mine").identity == first and weights.resolve() not in opened
    os.utime(weights, ns=(1, 1))
    assert Model.of("mine").identity == first and weights.resolve() in opened
    for memory in (here / "cache" / "content").iterdir():
        memory.write_text("{}")
    assert Model.of("mine").identity == first


def test_without_a_place_for_a_memory_weights_are_hashed_every_time(here, monkeypatch):
    (make(here / "mine") / "model.bin").write_bytes(bytes(5 << 20))
    (here / "file").write_text("")
    first = Model.of("mine").identity
    monkeypatch.setenv("CLUEBENCH_CACHE", str(here / "file"))
    assert Model.of("mine").identity == first


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.model", "vocab.txt", "a.pdparams", "a.safetensors", "a.bin"]
)
def test_every_kind_of_file_that_makes_a_model_counts(here, name):
    folder, found = make(here / "mine"), set()
    for content in ("{}", '{"a": 1}', '{"a": 2}'):
        (folder / name).write_text(content)
        found.add(Model.of("mine").identity)
    assert len(found) == 3


def test_identities_stay_what_they_were(here):
    """Of small files: every byte, names before content, in the order of names. Finished trials count by it."""
    folder = make(here / "mine")
    (folder / "model_state.pdparams").write_bytes(b"weights")
    (folder / "vocab.txt").write_bytes(b"[PAD]\n")
    content = b"config.json:{}" + b"model_state.pdparams:7:weights" + b"vocab.txt:[PAD]\n"
    assert Model.of("mine").identity == f"directory:{hashlib.sha256(content).hexdigest()[:16]}"


def test_plan_and_script_mean_the_same_model(here, monkeypatch):
    """Also where the working directory has a folder of the published model's name, with logs in it."""
    folder = here / "home" / "models" / NAME
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("[PAD]\n")
    (folder / "model_state.pdparams").write_bytes(b"weights")
    (here / NAME).mkdir()
    (here / NAME / "notes.txt").write_text("of an earlier grid")
    monkeypatch.setenv("PPNLP_HOME", str(here / "home"))
    synthetic.write_synthetic(here / "data", sizes={name: synthetic.Sizes(4, 4, 4) for name in TASKS})
    make(here / "mine")
    (here / "mine" / "vocab.txt").write_text("[PAD]\n")
    (here / "mine" / "model_state.pdparams").write_bytes(b"weights")
    for typed in (NAME, "mine"):
        (trial,) = build_plan(
            [Model.of(typed)], GridFlags(tasks=["tnews"], learning_rates=[3e-5], batch_sizes=[32], dropouts=[0.1])
        )
        flags = RunFlags(trial.model.name, do_train=True, dropout=0.1, data_dir=str(here / "data"), offline=True)
        run = configure(flags, TASKS["tnews"])
        planned = trial.configuration(shared_flags(GridFlags()), run.source.fingerprint(run.task))
        assert run.result.configuration == planned
        assert run.result.configuration["model"] == trial.model.identity


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("vocab.txt", b"\xe9\xe9", "vocab.txt: is not UTF-8 text"),
        ("config.json", b'{"vocab_size": "128"}', "config.json: vocab_size: Expected int"),
        ("tokenizer_config.json", b'{"unk_token": null}', "tokenizer_config.json: unk_token"),
        ("config.json", b'{"max_position_embeddings": 64}', "has positions for 64 tokens only"),
    ],
)
def test_what_is_wrong_with_a_model_is_reported_before_data_and_paddle(here, file, content, message, monkeypatch):
    folder = make(here / "mine")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    (folder / "model_state.pdparams").write_bytes(b"weights")
    (folder / file).write_bytes(content)
    monkeypatch.setattr("cluebench.training.configure.open_source", lambda *_, **__: pytest.fail("data came first"))
    flags = RunFlags("mine", do_train=True, max_seq_length=128, output_dir=str(here / "out"))
    with pytest.raises(UsageError, match=re.escape(message)):
        configure(flags, TASKS["tnews"])
