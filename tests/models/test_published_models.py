"""Published models by name: fetched from PaddleNLP's server, kept, and found again without a network."""

import functools
import os
import shutil
import sys
import threading
import time
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cluebench.benchmark.published import published_models
from cluebench.benchmark.tasks import TASKS
from cluebench.foundation.errors import NetworkError, UsageError
from cluebench.pretrained import model_files
from cluebench.pretrained.model import Model
from cluebench.pretrained.model_files import REACH
from tests.models.conftest import ARCHITECTURES, COMMON, hidden, inputs

NAME, COMMUNITY = "ernie-3.0-nano-zh", "somebody/tiny-roberta"
#: Nothing listens there.
CLOSED = "http://127.0.0.1:9/paddlenlp"


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str] = []

    def log_message(self, *arguments):
        Quiet.asked.append(self.path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """(its directory, its address); PaddleNLP's home is an empty directory."""
    folder = tmp_path / "server"
    folder.mkdir()
    running = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{running.server_port}"
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PPNLP_ENDPOINT", address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Quiet.asked.clear()
    yield folder, address
    running.shutdown()
    running.server_close()


@pytest.fixture
def published(server, architectures, monkeypatch):
    """The tiny ERNIE under a published name, on the server."""
    from paddlenlp.transformers import ErnieModel, ErnieTokenizer

    folder, address = server
    source = Path(architectures["Ernie"])
    shutil.copy(source / "model_state.pdparams", folder / "nano.pdparams")
    shutil.copy(source / "vocab.txt", folder / "nano_vocab.txt")
    vocabulary = len((source / "vocab.txt").read_text(encoding="utf-8").splitlines())
    settings = {**COMMON, **ARCHITECTURES["Ernie"], "vocab_size": vocabulary}
    monkeypatch.setitem(ErnieModel.pretrained_init_configuration, NAME, settings)
    monkeypatch.setitem(ErnieModel.pretrained_resource_files_map["model_state"], NAME, f"{address}/nano.pdparams")
    monkeypatch.setitem(ErnieTokenizer.pretrained_resource_files_map["vocab_file"], NAME, f"{address}/nano_vocab.txt")
    return str(source)


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_published_model_has_its_classes_and_room_for_every_task():
    """26 of the 27 are built into PaddleNLP; mengzi is one of its community's. All have positions for 512 tokens."""
    from cluebench.foundation import environment

    environment.import_paddle()
    from cluebench.models import classes, configuration

    found: Counter[str | None] = Counter()
    for name in published_models():
        prefix = classes.published_prefix(name)
        found[prefix] += 1
        if prefix is None:
            assert name == "Langboat/mengzi-bert-base"
            continue
        tokenizer = classes.published_tokenizer(name).__name__
        assert tokenizer == ("RobertaChineseTokenizer" if prefix == "Roberta" else f"{prefix}Tokenizer")
        files = model_files.ModelFiles(Model.of(name), Path(), None, (), None)
        for task in TASKS.values():
            config = configuration.configured(configuration.Target(files, task), hugging_face=False)
            assert configuration.longest_input(config) >= task.max_seq_length
    assert found == {"Ernie": 9, "Bert": 7, "Roberta": 6, "ErnieGram": 1, "TinyBert": 2, "RoFormerv2": 1, None: 1}


@pytest.mark.slow
def test_fetched_once_then_found_offline(models, published, server, architectures):
    task = TASKS["tnews"]
    tokenizer = models.load_tokenizer(Model.of(NAME))
    assert not any("pdparams" in path for path in Quiet.asked)  # the tokenizer alone was wanted
    model = models.load_model(task, Model.of(NAME), tokenizer=tokenizer)
    asked = len(Quiet.asked)
    again = models.load_model(
        task, Model.of(NAME), tokenizer=models.load_tokenizer(Model.of(NAME), offline=True), offline=True
    )
    assert models.preflight(Model.of(NAME), [TASKS["chid"]], offline=True) == {"chid": None}
    assert len(Quiet.asked) == asked
    original = models.load_model(task, Model.of(architectures["Ernie"]))
    for one in (model, again):
        np.testing.assert_array_equal(hidden(one, *inputs()), hidden(original, *inputs()))
    home = model_files.model_home() / NAME
    assert {path.name for path in home.iterdir()} == {"model_state.pdparams", "nano_vocab.txt"}


@pytest.mark.slow
def test_the_tokenizer_is_paddlenlps(models, published, server):
    from paddlenlp.transformers import AutoTokenizer

    ours = models.load_tokenizer(Model.of(NAME))
    theirs = AutoTokenizer.from_pretrained(NAME, cache_dir=str(model_files.model_home()))
    texts = ["他说：[MASK]号Iphone７。", "ABC[SEP]def", "２０１６年\u3000Café"]
    assert type(ours) is type(theirs)
    assert [ours.tokenize(text) for text in texts] == [theirs.tokenize(text) for text in texts]
    assert ours.unique_no_split_tokens == theirs.unique_no_split_tokens
    assert [ours.convert_tokens_to_ids(t) for t in ours.all_special_tokens] == theirs.all_special_ids


@pytest.mark.slow
def test_a_community_model(models, server, architectures, monkeypatch):
    folder, address = server
    there = folder / "models" / "community" / COMMUNITY
    shutil.copytree(architectures["Roberta"], there)
    download = sys.modules["paddlenlp.utils.download.bos_download"]
    template = address + "/{repo_type}/community/{repo_id}/{filename}"
    monkeypatch.setattr(download, "BOS_URL_TEMPLATE_WITHOUT_REVISION", template)
    tokenizer = models.load_tokenizer(Model.of(COMMUNITY))
    assert type(tokenizer).__name__ == "RobertaChineseTokenizer"
    model = models.load_model(TASKS["tnews"], Model.of(COMMUNITY), tokenizer=tokenizer)
    original = models.load_model(TASKS["tnews"], Model.of(architectures["Roberta"]))
    np.testing.assert_array_equal(hidden(model, *inputs()), hidden(original, *inputs()))
    shutil.rmtree(there)
    models.load_model(TASKS["tnews"], Model.of(COMMUNITY), offline=True)
    with pytest.raises(
        UsageError, match="somebody/other: neither a directory nor a model that PaddleNLP knows .none of the 27"
    ):
        models.load_tokenizer(Model.of("somebody/other"))


@pytest.mark.slow
def test_a_download_that_breaks_off_is_no_model(models, published, server):
    (server[0] / "nano.pdparams").unlink()
    with pytest.raises(NetworkError, match=f"{NAME}: could not be fetched from .*try again") as failed:
        models.load_model(TASKS["tnews"], Model.of(NAME))
    assert "\n" not in str(failed.value)
    assert model_files.in_home(Model.of(NAME)) is None


@pytest.mark.slow
def test_a_damaged_file_in_paddlenlps_home_is_named(models, published, server):
    models.load_model(TASKS["tnews"], Model.of(NAME))
    path = model_files.model_home() / NAME / "model_state.pdparams"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match=f"{path}: damaged; remove it, and it is fetched again"):
        models.load_model(TASKS["tnews"], Model.of(NAME))


# Without a network ----------------------------------------------------------------------------------------------------


def test_offline_never_asks(server):
    with pytest.raises(UsageError, match=f"{NAME}: not in .*{NAME}, and --offline forbids fetching it"):
        model_files.find(Model.of(NAME), offline=True)
    assert Quiet.asked == []


@pytest.mark.parametrize(
    "typed, meant",
    [("ernie-3.0-bas-zh", "ernie-3.0-base-zh"), ("bert-base-chinise", "bert-base-chinese"), ("rbt3", "hfl/rbt3"),
     ("my/model", None)],
)  # fmt: skip
def test_a_name_that_is_not_published_gets_a_suggestion(typed, meant, server, monkeypatch):
    """Whether the name or the way to the server is wrong."""
    monkeypatch.setenv("PPNLP_ENDPOINT", CLOSED)
    message = f"{typed} (none of the 27 published models, which README.md lists"
    message += f"; did you mean {meant}" if meant else "): not in "
    for error, offline in ((UsageError, True), (NetworkError, False)):
        with pytest.raises(error) as raised:
            model_files.find(Model.of(typed), offline=offline)
        assert str(raised.value).startswith(message) and len(str(raised.value)) < 500
    assert "so it is unknown whether it has this model" in str(raised.value)


def test_a_server_that_cannot_be_reached(tmp_path, monkeypatch):
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path))
    monkeypatch.setenv("PPNLP_ENDPOINT", CLOSED)
    start = time.monotonic()
    with pytest.raises(
        NetworkError, match=f"{NAME}: not in .*, and {CLOSED} can't be reached .*copy .* or give the directory"
    ):
        model_files.find(Model.of(NAME))
    assert time.monotonic() - start < REACH + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "script, more, code, named",
    [
        ("classification/run_clue_classifier.py", (), 5, "can't be reached"),
        ("grid_search_tools/warmup_dataset_and_model.py", ("--offline",), 2, "--offline forbids"),
    ],
)
def test_a_missing_model_ends_a_real_process_within_ten_seconds(
    script, more, code, named, start_script, little_data, tmp_path
):
    arguments = ["--model_name_or_path", NAME, "--task_name", "tnews", "--do_train"] if "run_" in script else [NAME]
    environment = dict(PPNLP_HOME=str(tmp_path), PPNLP_ENDPOINT=CLOSED, no_proxy="127.0.0.1")
    start = time.monotonic()
    process = start_script(script, *arguments, "--data_dir", little_data, *more, **environment)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - start < 10
    assert process.returncode == code
    assert out == "" and err.count("\n") == 1 and named in err and NAME in err
    assert os.listdir(tmp_path) == []
