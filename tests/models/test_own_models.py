"""Directories users bring: what is loaded from each layout, and the one line an incomplete or foreign one gets."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cluebench.benchmark.tasks import TASKS
from cluebench.demo import synthetic
from cluebench.foundation.errors import UsageError
from cluebench.pretrained.model import Model
from tests.models import conftest
from tests.models.conftest import ARCHITECTURES, SPECIAL, hidden, inputs, vocabulary, write_model
from tests.models.test_written_by import WRITTEN_BY

pytestmark = pytest.mark.slow

TNEWS, CHID = TASKS["tnews"], TASKS["chid"]


def changed(source, folder: Path, **settings) -> str:
    """A copy of a model directory with other settings; None removes a key."""
    shutil.copytree(source, folder)
    return str(conftest.changed(folder, **settings))


# Layouts --------------------------------------------------------------------------------------------------------------


def test_layer_norm_epsilon_of_hugging_face_counts_and_is_saved(models, tmp_path):
    """PaddleNLP's ERNIE has 1e-12 whatever the configuration says."""
    source = WRITTEN_BY / "tf5_ernie_backbone"
    folder = changed(source, tmp_path / "hf", layer_norm_eps=1e-3)
    loaded = models.load_model(TNEWS, Model.of(folder))
    models.save_model(loaded, models.load_tokenizer(Model.of(folder)), tmp_path / "saved")
    again = models.load_model(TNEWS, Model.of(tmp_path / "saved"), head_required=True)
    plain = models.load_model(TNEWS, Model.of(source))
    first, second, third = (hidden(model, *inputs(tokens=50)) for model in (loaded, again, plain))
    np.testing.assert_array_equal(first, second)
    assert abs(first - third).max() > 1e-4


@pytest.mark.parametrize("prefix", ARCHITECTURES)
def test_the_layout_before_config_json(models, prefix, architectures, tmp_path):
    """PaddleNLP's model_config.json; without tokenizer_config.json, too."""
    legacy = Path(shutil.copytree(architectures[prefix], tmp_path / "legacy"))
    config = json.loads((legacy / "config.json").read_text())
    for name in ("architectures", "model_type", "paddlenlp_version"):
        config.pop(name, None)
    (legacy / "config.json").unlink()
    written = {"init_args": [{**config, "init_class": f"{prefix}Model"}], "init_class": f"{prefix}ForMaskedLM"}
    (legacy / "model_config.json").write_text(json.dumps(written))
    loaded, expected = (models.load_model(TNEWS, Model.of(folder)) for folder in (legacy, architectures[prefix]))
    np.testing.assert_array_equal(hidden(loaded, *inputs()), hidden(expected, *inputs()))
    kind = f"{prefix}{'Chinese' * (prefix == 'Roberta')}Tokenizer"
    for folder in (architectures[prefix], legacy):
        assert type(models.load_tokenizer(Model.of(folder))).__name__ == kind
    (legacy / "tokenizer_config.json").unlink()
    assert type(models.load_tokenizer(Model.of(legacy))).__name__ == kind


def test_safetensors_go_before_pickles(models, architectures, tmp_path):
    """Also before PaddleNLP's own: nothing is unpickled where nothing has to be."""
    folder = tmp_path / "model"
    shutil.copytree(architectures["Bert"], folder)
    original = models.load_model(TNEWS, Model.of(folder))
    original.base_model.save_pretrained(str(folder), safe_serialization=True)
    (folder / "model_state.pdparams").write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    (folder / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    loaded = models.load_model(TNEWS, Model.of(folder))
    np.testing.assert_array_equal(hidden(loaded, *inputs()), hidden(original, *inputs()))
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"model_state.pdparams: the pickle asks for posix\.system"):
        models.load_model(TNEWS, Model.of(folder))


def test_half_precision_weights_train_in_float32(models, architectures, tmp_path):
    import paddlenlp.transformers as transformers

    folder = tmp_path / "half"
    transformers.BertModel.from_pretrained(architectures["Bert"]).to(dtype="float16").save_pretrained(str(folder))
    shutil.copy(Path(architectures["Bert"]) / "vocab.txt", folder)
    loaded = models.load_model(TNEWS, Model.of(folder))
    assert {str(parameter.dtype) for parameter in loaded.parameters()} == {"paddle.float32"}
    original = models.load_model(TNEWS, Model.of(architectures["Bert"]))
    np.testing.assert_allclose(hidden(loaded, *inputs()), hidden(original, *inputs()), atol=2e-2)


# What PaddleNLP does otherwise ----------------------------------------------------------------------------------------


def test_chinese_roberta_counts_positions_from_zero(models, architectures, tmp_path):
    """As it was pretrained; so an input may be as long as there are positions. Saved models remember it."""
    import paddle
    import paddlenlp.transformers as transformers

    original = transformers.RobertaModel.from_pretrained(architectures["Roberta"])
    original.eval()
    ids, types = inputs()
    positions = paddle.arange(ids.shape[1]).unsqueeze(0).expand_as(ids)
    expected = original(ids, types, position_ids=positions)[0].numpy()[ids.numpy() != 0]
    loaded = models.load_model(TNEWS, Model.of(architectures["Roberta"]))
    np.testing.assert_allclose(hidden(loaded, ids, types), expected, atol=1e-6)
    longest = paddle.full([1, 64], 7, dtype="int64")
    loaded(longest, paddle.zeros_like(longest))
    with pytest.raises(ValueError, match="64 >= row_number:64"):
        original(longest)  # the reason for all this: PaddleNLP asks for a position that is not there
    models.save_model(loaded, models.load_tokenizer(Model.of(architectures["Roberta"])), tmp_path)
    again = models.load_model(TNEWS, Model.of(tmp_path), head_required=True)
    np.testing.assert_array_equal(hidden(again, ids, types), hidden(loaded, ids, types))


def test_english_roberta_counts_positions_from_the_padding_token(models, architectures, tmp_path):
    """By cls_token_id in PaddleNLP's layout, always in Hugging Face's; fewer positions are left for inputs."""
    import paddlenlp.transformers as transformers

    original = transformers.RobertaModel.from_pretrained(architectures["Roberta"])
    english = changed(architectures["Roberta"], tmp_path / "english", cls_token_id=0)
    for folder, longest in ((english, 63), (WRITTEN_BY / "tf5_roberta_backbone", 62)):
        before = set(Path(folder).iterdir())
        loaded = models.load_model(TNEWS, Model.of(folder), max_seq_length=longest)
        assert set(Path(folder).iterdir()) == before
        with pytest.raises(UsageError, match=f"--max_seq_length {longest + 1}: .* positions for {longest} tokens"):
            models.load_model(TNEWS, Model.of(folder), max_seq_length=longest + 1)
        if folder == english:  # test_written_by compares the other
            np.testing.assert_allclose(hidden(loaded, *inputs()), hidden(original, *inputs()), atol=1e-5)
        models.save_model(loaded, models.load_tokenizer(Model.of(folder)), tmp_path / str(longest))
        again = models.load_model(TNEWS, Model.of(tmp_path / str(longest)))
        np.testing.assert_array_equal(hidden(again, *inputs()), hidden(loaded, *inputs()))


@pytest.mark.parametrize("pad", [1, None])
def test_hugging_face_roberta_whose_padding_token_is_not_the_tokenizers(pad, models, tmp_path):
    """Positions follow the configuration (by default from 2), the attention mask the token that is padded with."""
    import paddle

    source = WRITTEN_BY / "tf5_roberta_classification"
    folder = changed(source, tmp_path / "model", pad_token_id=pad)
    tokenizer = models.load_tokenizer(Model.of(folder))
    assert tokenizer.pad_token_id == 0
    loaded = models.load_model(TNEWS, Model.of(folder), tokenizer=tokenizer, max_seq_length=30)
    plain = models.load_model(TNEWS, Model.of(source), tokenizer=tokenizer)
    plain.eval()
    ids, types = inputs(tokens=50)
    positions = (paddle.arange(ids.shape[1]) + 2).unsqueeze(0).expand_as(ids)
    expected = plain.base_model(ids, types, position_ids=positions)[0].numpy()[ids.numpy() != 0]
    np.testing.assert_allclose(hidden(loaded, ids, types), expected, atol=1e-5)


@pytest.mark.parametrize("prefix", ARCHITECTURES)
def test_one_token_type(prefix, models, tmp_path):
    """Pairs through a model with a single one, or none: it is used for both segments."""
    folder = write_model(tmp_path, prefix, type_vocab_size=0 if prefix == "Ernie" else 1)
    model = models.load_model(TNEWS, Model.of(folder))
    ids, types = inputs()
    np.testing.assert_array_equal(hidden(model, ids, types), hidden(model, ids, types * 0))


def test_the_padding_token_is_the_tokenizers(models, tmp_path):
    """ERNIE-like vocabularies may have [PAD] elsewhere; what is padded with must not be attended to."""
    import paddle

    tokens = vocabulary(synthetic.characters())
    tokens[0], tokens[20] = tokens[20], tokens[0]
    folder = write_model(tmp_path / "model", "Bert", tokens=tokens)
    tokenizer = models.load_tokenizer(Model.of(folder))
    assert tokenizer.pad_token_id == 20
    model = models.load_model(TNEWS, Model.of(folder), tokenizer=tokenizer)
    model.eval()
    ids = paddle.to_tensor([[2, 30, 31, 3]])
    padded = paddle.to_tensor([[2, 30, 31, 3, 20, 20, 20]])
    np.testing.assert_allclose(
        model(ids, paddle.zeros_like(ids)).numpy(), model(padded, paddle.zeros_like(padded)).numpy(), atol=1e-6
    )
    models.save_model(model, tokenizer, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["pad_token_id"] == 20


@pytest.mark.parametrize("prefix", ARCHITECTURES)
def test_dropout_rule(models, prefix, architectures):
    """After the embeddings and in every layer's residual and feed-forward branches; not in attention, not in the head."""
    model = models.load_model(TNEWS, Model.of(architectures[prefix]))
    models.set_dropout(model, 0.37)
    backbone = model.base_model
    layers = backbone.encoder.layers
    inside = [
        backbone.embeddings.dropout,
        *(getattr(layer, name) for layer in layers for name in ("dropout", "dropout1", "dropout2")),
    ]
    assert len(layers) == 2 and all(dropout.p == 0.37 for dropout in inside)
    attention = [layer.self_attn.dropout for layer in layers]
    assert [getattr(dropout, "p", dropout) for dropout in attention] == [0.1, 0.1]
    head = [
        layer for name, layer in model.named_sublayers() if type(layer).__name__ == "Dropout" and layer not in inside
    ]
    assert all(dropout.p == 0.1 for dropout in head)


def test_a_heads_dropout_of_zero_stays_zero(models, architectures, tmp_path):
    folder = changed(architectures["Bert"], tmp_path / "model", classifier_dropout=0.0)
    for directory, expected in ((folder, 0.0), (architectures["Bert"], 0.1)):
        model = models.load_model(TNEWS, Model.of(directory))
        models.set_dropout(model, 0.3)
        assert model.dropout.p == expected


# Directories that can't be loaded -------------------------------------------------------------------------------------


def without(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def config_with(**settings):
    return lambda folder: conftest.changed(folder, **settings)


def broken(name, content):
    return lambda folder: (folder / name).write_text(content)


def only_tokenizer_json(folder):
    (folder / "vocab.txt").rename(folder / "tokenizer.json")


def another_models_weights(folder):
    import paddle

    paddle.save({"stem.weight": paddle.zeros([3, 3])}, str(folder / "model_state.pdparams"))


def half_a_vocabulary(folder):
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (folder / "vocab.txt").write_text("\n".join(lines[: len(lines) // 2]), encoding="utf-8")


def vocabulary_without(token):
    def change(folder):
        path = folder / "vocab.txt"
        path.write_text(path.read_text(encoding="utf-8").replace(f"{token}\n", "nothing\n"), encoding="utf-8")

    return change


def a_vocabulary_twice(folder):
    (folder / "vocab.txt").write_text(2 * (folder / "vocab.txt").read_text(encoding="utf-8"), encoding="utf-8")


def weights_with(change):
    """The weights with one array of the backbone changed."""

    def spoil(folder):
        import paddle

        arrays = paddle.load(str(folder / "model_state.pdparams"), return_numpy=True)
        name = next(name for name in arrays if name.endswith("pooler.dense.weight"))
        with open(folder / "model_state.pdparams", "wb") as stream:
            pickle.dump({**arrays, name: change(arrays[name])}, stream)

    return spoil


WRONG = {
    "no configuration": (without("config.json"), "no config.json or model_config.json"),
    "no weights": (without("model_state.pdparams"), "no weights in this model directory; put model.safetensors or"),
    "no vocabulary": (without("vocab.txt"), "no vocab.txt or tokenizer.json in this model directory"),
    "a broken tokenizer.json": (only_tokenizer_json, "tokenizer.json, line 1: is broken JSON"),
    "configuration is no JSON": (broken("config.json", "{"), "config.json, line 1: is broken JSON"),
    "configuration is no object": (broken("config.json", "[]"), "config.json: Expected object, got array"),
    "tokenizer configuration is no JSON": (broken("tokenizer_config.json", "{"), "tokenizer_config.json, line 1: is broken JSON"),
    "unknown class": (config_with(architectures=["SwinModel"]), "SwinModel can't be fine-tuned here"),
    "no class": (config_with(architectures=None, model_type=None), "names no model class"),
    "relative positions": (config_with(position_embedding_type="relative_key"), '"position_embedding_type" is relative_key'),
    "more layers": (config_with(num_hidden_layers=3), "has num_hidden_layers 2, config.json 3"),
    "other width": (config_with(hidden_size=48), "model_state.pdparams has hidden_size 32, config.json 48"),
    "fewer layers": (config_with(num_hidden_layers=1), "has num_hidden_layers 2, config.json 1"),
    "a million layers": (config_with(num_hidden_layers=10**6), "num_hidden_layers: Expected int <= 1000"),
    "a thousand layers": (config_with(num_hidden_layers=1000), "has num_hidden_layers 2, config.json 1,000"),
    "a million wide": (config_with(hidden_size=10**6), "hidden_size: Expected int <= 65536"),
    "very wide": (config_with(hidden_size=65536, intermediate_size=1 << 20), "has hidden_size 32, config.json 65,536"),
    "very many positions": (config_with(max_position_embeddings=1 << 20), "has max_position_embeddings 64"),
    "very many tokens": (config_with(vocab_size=1 << 24), "the vocabulary was cut off|has vocab_size"),
    "sizes as text": (config_with(vocab_size="128"), "vocab_size: Expected int, got str"),
    "sizes in a list": (config_with(max_position_embeddings=[128]), "max_position_embeddings: Expected int, got arr"),
    "a dropout of 5": (config_with(hidden_dropout_prob=5), "hidden_dropout_prob: Expected float <= 0.999"),
    "a dropout of x": (config_with(attention_probs_dropout_prob="x"), "attention_probs_dropout_prob: Expected float"),
    "epsilon NaN": (broken("config.json", '{"layer_norm_eps": NaN}'), "holds NaN as layer_norm_eps, which is no finite number"),
    "a key twice": (broken("config.json", '{"vocab_size": 1, "vocab_size": 2}'), '"vocab_size" twice in one object'),
    "nested deep": (broken("config.json", "[" * 100_000), "config.json: is broken JSON: nested too deep"),
    "no unknown token": (broken("tokenizer_config.json", '{"unk_token": null}'), "unk_token: Expected str"),
    "half a vocabulary": (half_a_vocabulary, "the vocabulary was cut off"),
    "a vocabulary without [CLS]": (vocabulary_without("[CLS]"), r"its vocabulary has no \[CLS\]"),
    "a vocabulary twice": (a_vocabulary_twice, r"line\(s\) repeat earlier ones"),
    "weights with NaN": (weights_with(lambda array: array * np.nan), "holds NaN or infinite numbers"),
    "whole numbers": (weights_with(lambda array: array.astype(np.int64)), "pooler.dense.weight holds int64"),
    "other vocabulary": (broken("vocab.txt", "\n".join(SPECIAL + [f"token{n}" for n in range(9999)])), "tokenizer has .* tokens, the model embeddings for"),
    "unknown activation": (config_with(hidden_act="gelu_odd"), "the model can't be loaded .*gelu_odd"),
    "weights of another model": (another_models_weights, "lacks 37 of the 39 arrays"),
    "damaged weights": (broken("model_state.pdparams", "nothing"), "model_state.pdparams: damaged"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_directory_gets_one_line(models, wrong, architectures, tmp_path):
    spoil, message = WRONG[wrong]
    folder = tmp_path / "model"
    shutil.copytree(architectures["Bert"], folder)
    spoil(folder)
    with pytest.raises(UsageError, match=message) as refused:
        tokenizer = models.load_tokenizer(Model.of(folder))
        models.load_model(TNEWS, Model.of(folder), tokenizer=tokenizer, max_seq_length=32)
    assert "\n" not in str(refused.value) and str(folder) in str(refused.value)
    with pytest.raises(UsageError):
        reasons = models.preflight(Model.of(folder), [TNEWS, CHID])
        raise UsageError(str(reasons)) if all(reasons.values()) else AssertionError(reasons)


def test_a_longer_input_than_the_model_has_positions_for(models, architectures):
    for prefix, folder in architectures.items():
        with pytest.raises(UsageError, match="--max_seq_length 65: .* positions for 64 tokens only") as refused:
            models.load_model(TNEWS, Model.of(folder), max_seq_length=65)
        assert folder in str(refused.value), prefix


# Heads ----------------------------------------------------------------------------------------------------------------


def test_evaluating_needs_a_head_that_was_trained_for_this(models, architectures, tmp_path):
    bert = architectures["Bert"]
    with pytest.raises(UsageError, match="is a BertModel, not a BertForSequenceClassification"):
        models.load_model(TNEWS, Model.of(bert), head_required=True)
    tokenizer = models.load_tokenizer(Model.of(bert))
    models.save_model(models.load_model(TASKS["afqmc"], Model.of(bert)), tokenizer, tmp_path / "afqmc")
    models.load_model(TASKS["afqmc"], Model.of(tmp_path / "afqmc"), head_required=True)
    for other in ("csl", "cmrc2018", "c3"):
        with pytest.raises(UsageError, match=f"fine-tuned for AFQMC, so it can't be used for {TASKS[other].title}"):
            models.load_model(TASKS[other], Model.of(tmp_path / "afqmc"), head_required=True)
        models.load_model(TASKS[other], Model.of(tmp_path / "afqmc"))  # as a start for training it may be
    other_tool = changed(tmp_path / "afqmc", tmp_path / "other_tool", finetuning_task=None)
    with pytest.raises(UsageError, match=r"have another head \(classifier.weight of shape \[32, 2\]\)"):
        models.load_model(TNEWS, Model.of(other_tool), head_required=True)
    headless = changed(bert, tmp_path / "headless", architectures=["BertForSequenceClassification"])
    with pytest.raises(
        UsageError, match=r"have no head \(classifier.weight\): fine-tune on TNEWS first, or add --do_train"
    ):
        models.load_model(TNEWS, Model.of(headless), head_required=True)


def test_what_is_newly_drawn_is_reported(models, architectures, capsys):
    for folder, reported in (
        (architectures["Bert"], ""),
        (WRITTEN_BY / "tf5_bert_mlm", "not in the weights, so newly drawn: pooler\n"),
        (WRITTEN_BY / "tf5_bert_two_labels", "the weights have a head of another size; a new one is drawn\n"),
    ):
        models.load_model(TNEWS, Model.of(folder))
        assert capsys.readouterr().err == (f"{folder}: {reported}" if reported else "")


def test_rounded_positions_are_reported(models, tmp_path, capsys):
    """RoFormer's sines and cosines in half precision, which Transformers would compute with."""
    source, reported = WRITTEN_BY / "tf5_roformer_classification", "its table of positions is rounded"
    models.load_model(TNEWS, Model.of(source))
    assert reported in capsys.readouterr().err
    file = shutil.copytree(source, tmp_path / "model") / "model.safetensors"
    weights, name = load_file(file), "roformer.encoder.embed_positions.weight"
    angles = np.arange(32)[:, None] / 10000 ** (np.arange(4) / 4)
    save_file(weights | {name: np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)}, file)
    assert weights[name].shape == (32, 8)
    models.load_model(TNEWS, Model.of(file.parent))
    assert reported not in capsys.readouterr().err


def test_a_scripts_saved_model_is_not_shadowed(models, architectures, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="--output_dir .*: holds model.safetensors, another model's weights"):
        models.check_output(tmp_path)
    models.check_output(architectures["Bert"])


def test_hugging_face_weights_of_an_unknown_architecture(models, tmp_path):
    folder = changed(WRITTEN_BY / "tf5_bert_backbone", tmp_path / "model", architectures=["RoFormerv2Model"])
    with pytest.raises(UsageError, match="Hugging Face weights can't be converted for RoFormerv2"):
        models.load_model(TNEWS, Model.of(folder))


def test_a_saved_model_names_its_labels_and_is_used_for_another_task(models, tmp_path):
    """``id2label`` says what an index means; a model that was saved for one task still starts another."""
    folder = write_model(tmp_path / "model", "Bert")
    tokenizer = models.load_tokenizer(Model.of(folder))
    models.save_model(models.load_model(TNEWS, Model.of(folder)), tokenizer, tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["id2label"]["2"] == "102" and len(config["id2label"]) == 15 and config["label2id"]["102"] == 2
    saved = Model.of(tmp_path / "saved")
    models.load_model(TNEWS, saved, head_required=True)
    again = models.load_model(TASKS["ocnli"], saved)
    assert list(again.config.id2label.values()) == list(TASKS["ocnli"].labels)
    short = [replace(task, max_seq_length=32) for task in (TNEWS, TASKS["c3"], TASKS["cmrc2018"])]
    assert set(models.preflight(saved, short).values()) == {None}
