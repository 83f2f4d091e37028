"""A tiny random model of every published architecture, in PaddleNLP's layout, made once a session."""

import json
from pathlib import Path

import numpy as np
import pytest

from cluebench.benchmark.tasks import TASKS
from cluebench.demo import synthetic
from tests.models.tokenizer_files import write_byte_pairs, write_unigram
from tests.scripts.conftest import run, start_script  # noqa: F401

#: Prefix of PaddleNLP's classes → what the configuration needs beside the common settings.
ARCHITECTURES = {
    "Bert": {},
    "Ernie": {"use_task_id": True, "task_type_vocab_size": 3},
    "ErnieGram": {"embedding_size": 32},
    "Roberta": {},
    "RoFormerv2": {},
    "TinyBert": {"fit_size": 48},
}
#: The same of those that PaddleNLP published no scores of.
LATER = {
    "Electra": {"embedding_size": 16},
    "Albert": {"embedding_size": 16},
    "NeZha": {"use_relative_position": True},
    "MegatronBert": {},
    "RoFormer": {"embedding_size": 32},
    "DistilBert": {},
    "DebertaV2": {
        "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "conv_kernel_size": 3,
        "conv_act": "gelu", "share_att_key": True, "norm_rel_ebd": "layer_norm", "pooler_hidden_size": 32,
    },
    "XLMRoberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "ModernBert": {"local_attention": 8, "pad_token_id": 1},
}  # fmt: skip
COMMON = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
    type_vocab_size=2,
    pad_token_id=0,
)
TOKENIZERS = {
    "Roberta": "RobertaChineseTokenizer", "Albert": "BertTokenizer", "DebertaV2": "BertTokenizer",
    "RoFormer": "BertTokenizer",
}  # fmt: skip
TOKENIZER_FILES = {"XLMRoberta": write_unigram, "ModernBert": write_byte_pairs}

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]"]


def vocabulary(characters: str) -> list[str]:
    ascii_pieces = [chr(code) for code in range(33, 127)] + [f"##{chr(code)}" for code in range(97, 123)]
    return list(dict.fromkeys(SPECIAL + ascii_pieces + list(characters)))


def write_model(folder: Path, prefix: str, head: str = "Model", seed: int = 0, **settings) -> Path:
    """A model as PaddleNLP's own save_pretrained leaves it, tokenizer included; returns its directory.

    XLM-RoBERTa and ModernBERT get a tokenizer.json.
    """
    import paddle
    import paddlenlp.transformers as transformers

    from cluebench.models import modernbert

    folder.mkdir(parents=True, exist_ok=True)
    if of_file := TOKENIZER_FILES.get(prefix):
        tokens = of_file(folder, synthetic.characters())
    else:
        tokens = settings.pop("tokens", None) or vocabulary(synthetic.characters())
        (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    classes = modernbert if prefix == "ModernBert" else transformers
    config = getattr(classes, f"{prefix}Config")(
        **{"vocab_size": len(tokens), **COMMON, **{**ARCHITECTURES, **LATER}[prefix], **settings}
    )
    paddle.seed(seed)
    model = getattr(classes, prefix + head)(config)
    for parameter in model.parameters():
        if parameter.ndim == 1:  # biases and norms start at 0 and 1, which would hide one used as another
            parameter.set_value(parameter + 0.1 * paddle.randn(parameter.shape))
    model.save_pretrained(str(folder))
    if prefix not in TOKENIZER_FILES:
        kind = TOKENIZERS.get(prefix, f"{prefix}Tokenizer")
        getattr(transformers, kind)(str(folder / "vocab.txt")).save_pretrained(str(folder))
    return folder


def changed(folder: Path, **settings) -> Path:
    """The model directory, with other settings; None removes a key."""
    path = folder / "config.json"
    written = {**json.loads(path.read_text()), **settings}
    path.write_text(json.dumps({name: value for name, value in written.items() if value is not None}))
    return folder


def inputs(tokens=200):
    """Ids below ``tokens`` and token types; two of three rows end in padding."""
    import paddle

    rng = np.random.default_rng(0)
    ids = rng.integers(6, tokens, (3, 17))
    ids[0, 12:] = ids[1, 5:] = 0
    types = np.where(np.arange(17) > 4, 1, 0)[None].repeat(3, axis=0)
    return paddle.to_tensor(ids), paddle.to_tensor(types)


def hidden(model, ids, types) -> np.ndarray:
    """Hidden states of the tokens that are no padding."""
    model.eval()
    states = model.base_model(ids, types)
    states = states[0] if isinstance(states, (tuple, list)) else states
    return states.numpy()[ids.numpy() != 0]


@pytest.fixture(scope="session")
def models():
    """The package, which imports Paddle."""
    from cluebench.foundation import environment

    environment.import_paddle()
    from cluebench import models

    return models


@pytest.fixture(scope="session")
def architectures(models, tmp_path_factory):
    """Prefix → model directory."""
    folder = tmp_path_factory.mktemp("architectures")
    return {prefix: str(write_model(folder / prefix, prefix)) for prefix in ARCHITECTURES}


@pytest.fixture(scope="session")
def little_data(tmp_path_factory):
    """Official formats, a handful of rows."""
    folder = tmp_path_factory.mktemp("little_data")
    synthetic.write_synthetic(folder, sizes={name: synthetic.Sizes(12, 8, 4) for name in TASKS})
    return str(folder)


@pytest.fixture(scope="session")
def demo(little_data):
    """For `run`: its tests name a model themselves."""
    return "", little_data
