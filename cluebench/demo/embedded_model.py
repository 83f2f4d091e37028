"""The embedded model: not pretrained, but small enough to run the whole tool in minutes, on data that it can learn."""

import os
import string
from pathlib import Path

import paddle
from paddlenlp.transformers import ErnieConfig, ErnieModel, ErnieTokenizer

from cluebench.models.loading import save_model


def write_demo_model(folder: str | os.PathLike, characters: str) -> None:
    """Writes a randomly initialised 2-layer, 128-wide ERNIE with a character vocabulary into ``folder``.

    ``characters``: what the vocabulary holds besides special tokens and ASCII, in order. Weights are always the same.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"] + [f"[unused{number}]" for number in range(1, 10)]
    letters = string.ascii_lowercase + string.digits
    ascii_pieces = list(letters + string.punctuation) + [f"##{letter}" for letter in letters]
    vocabulary = list(dict.fromkeys(special + ascii_pieces + list(characters)))
    vocabulary_file = folder / "vocab.txt"
    vocabulary_file.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config = ErnieConfig(
        vocab_size=len(vocabulary),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
        max_position_embeddings=512,
        type_vocab_size=2,
        initializer_range=0.05,
        use_task_id=False,
        pad_token_id=0,
    )
    before = paddle.get_rng_state()
    paddle.seed(0)
    model = ErnieModel(config)
    paddle.set_rng_state(before)
    save_model(model, ErnieTokenizer(str(vocabulary_file), do_lower_case=True), folder)
