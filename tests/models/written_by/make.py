"""Writes the model directories beside this file, by the libraries that people have them from. Run by hand, never in CI.

    python -m venv tf5 && tf5/bin/pip install torch==2.13.0 transformers==5.24.0 sentence-transformers==6.2.0 rjieba
    python -m venv tf4 && tf4/bin/pip install torch==2.13.0 transformers==4.57.6
    python -m venv pn2 && pn2/bin/pip install paddlenlp==2.8.1 paddlepaddle==2.6.2 "numpy<2" "setuptools<70"
    for python in tf5/bin/python tf4/bin/python pn2/bin/python .venv/bin/python; do $python make.py [NAME …]; done

Each of them writes the directories of the library that it has; the project's own environment has PaddleNLP 3.0.0b4.
A directory is what ``save_pretrained`` of model and tokenizer leave there, and ``expected.npz``:

    writer          the library and its version
    task            the CLUE task whose kind of head it has, or "" for a backbone
    texts           [rows, 2]; of multiple choice [questions, options, 2]
    input_ids, token_type_ids, attention_mask     [rows, width] or [questions, options, width], by its tokenizer
    hidden | logits | start, end                  what its model computes of them in float32, without dropout
    labels          of classification: what each column of the logits means, as the configuration says it
    factors         [outputs, …]: numbers, 0 at padding
    parameters, gradients      names, and one after another the `sums` of each gradient of the sum of factors times outputs

All weights are newly drawn and moved by N(0, 0.08), so that no norm, bias or padding row is 0 or 1.
"""

import copy
import importlib.metadata
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

HERE = Path(__file__).parent
PINS = {"transformers": ("5.24.0", "4.57.6"), "paddlenlp": ("2.8.1", "3.0.0b4"), "sentence-transformers": ("6.2.0",)}

CHINESE = "的一是不了人我在有他这中大来上国天气很好吗今明雨下"
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", *"abcefrtBCé，。？", *CHINESE]
TOKENS += [f"##{letter}" for letter in "aefrté"]
PIECES = ["▁", "▁今天", "▁我", "天气", "很好", *"abcefrtBCé,.?", *CHINESE]
PAIRS = [
    ["今天天气很好，Café 在中国", "明天下雨吗？"],
    ["我是中国人", "他在这"],
    ["BERT 有一人", "大雨来了，我不在，他在。"],
]
QUESTIONS = [
    [["今天天气很好。我在中国", option] for option in ("下雨", "很好", "天", "BERT")],
    [["他有雨", option] for option in ("是", "不是", "一", "有了")],
]

OCNLI = ("entailment", "contradiction", "neutral")
SIZES: dict[str, Any] = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=32
)
SMALL = dict(hidden_size=16, intermediate_size=16)
#: What a configuration needs beside or in place of the common sizes, by the prefix of its classes.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Albert": {"embedding_size": 16, "hidden_act": "gelu_new"},
    "Bart": dict(hidden_size=16, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
                 encoder_ffn_dim=16, decoder_ffn_dim=16),
    "ConvBert": {"embedding_size": 16, "conv_kernel_size": 3},
    "DebertaV2": dict(relative_attention=True, position_buckets=8, max_relative_positions=-1, norm_rel_ebd="layer_norm",
                      pos_att_type=["p2c", "c2p"], share_att_key=True, position_biased_input=False, type_vocab_size=0),
    "DistilBert": {"hidden_dim": 32},
    "Electra": {"embedding_size": 16},
    "GPT2": dict(hidden_size=16, n_layer=1, n_head=2, bos_token_id=2, eos_token_id=3),
    "ModernBert": dict(local_attention=8, cls_token_id=2, sep_token_id=3, pad_token_id=0, bos_token_id=2,
                       eos_token_id=3),
    "Qwen2": dict(SMALL, num_hidden_layers=1, num_key_value_heads=2),
    "Roberta": dict(type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2),
    "RoFormer": {"embedding_size": 32, "hidden_act": "gelu"},
    "T5": dict(hidden_size=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2),
    "XLMRoberta": dict(type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2),
}  # fmt: skip
#: Whose backbones are of the sizes above; all others are half as wide, since 5 MB are enough for all directories.
WIDE = ("Bert", "DebertaV2", "ModernBert")
KINDS = {"ForSequenceClassification": "ocnli", "ForMultipleChoice": "c3", "ForQuestionAnswering": "cmrc2018"}


class Row(NamedTuple):
    """A directory: its name (behind the writer's), the class of its model, and its other properties."""

    name: str
    model: str
    config: dict[str, Any] = {}
    tokenizer: str = "wordpiece"
    labels: tuple[str, ...] = ()
    half: bool = True  # weights in float16, as many are published; PyTorch's only
    save: dict[str, Any] = {}  # arguments of save_pretrained
    after: Callable[[Path, Any], None] = lambda folder, model: None  # what the user did to it afterwards

    @property
    def prefix(self) -> str:
        match = re.match(r"(\w+?)(?:LMHeadModel|Model|For[A-Z]\w*)$", self.model)
        assert match
        return match[1]

    @property
    def task(self) -> str:
        return next((task for end, task in KINDS.items() if self.model.endswith(end)), "")


def architecture(name: str, kinds: str, tokenizer: str = "wordpiece", variant: str = "", **config: Any) -> list[Row]:
    """The rows of an architecture: B backbone, M masked language model, C classification, O options, Q spans."""
    ends = {"B": "Model", "M": "ForMaskedLM", "C": "ForSequenceClassification", "O": "ForMultipleChoice",
            "Q": "ForQuestionAnswering"}  # fmt: skip
    heads = {"B": "backbone", "M": "mlm", "C": "classification", "O": "choice", "Q": "span"}
    return [
        Row(
            "_".join(filter(None, [name.lower(), variant, heads[head]])),
            name + ends[head],
            config if head == "B" and name in WIDE else {**SMALL, **config},
            tokenizer,
            OCNLI if head == "C" else (),
        )
        for head in kinds
    ]


# What users do to a directory -----------------------------------------------------------------------------------------


def edited(file: str, **changes: Any) -> Callable[[Path, Any], None]:
    """Keys of a JSON file set."""

    def edit(folder: Path, model: Any) -> None:
        values = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps({**values, **changes}, indent=2, ensure_ascii=False), encoding="utf-8")

    return edit


def vocab_txt_of_other_case(folder: Path, model: Any) -> None:
    """The vocab.txt of older versions put beside; the tokenizer's configuration then names another case."""
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    edited("tokenizer_config.json", do_lower_case=False)(folder, model)


def special_tokens_with_type(folder: Path, model: Any) -> None:
    """As transformers 4.10 to 4.33 wrote them, which can't be installed beside Python 3.11 any more."""
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    rest = dict(lstrip=False, normalized=True, rstrip=False, single_word=False)
    written = {key: {"__type": "AddedToken", "content": token, **rest} for key, token in names.items()}
    edited("tokenizer_config.json", **written)(folder, model)


def only_tokenizer_json(folder: Path, model: Any) -> None:
    (folder / "tokenizer_config.json").unlink()


def saved_state(make: Callable[[Any, Any], Any], safe: bool = False) -> Callable[[Path, Any], None]:
    """Weights as ``torch.save`` of what ``make`` makes of torch and the model."""

    def save(folder: Path, model: Any) -> None:
        import torch
        from safetensors.torch import save_file

        (folder / "model.safetensors").unlink()
        state = make(torch, model)
        if safe:
            save_file({name: array.clone() for name, array in state.items()}, folder / "model.safetensors")
        else:
            torch.save(state, folder / "pytorch_model.bin")

    return save


def lightning(torch: Any, model: Any) -> Any:
    state = {f"model.{name}": array for name, array in model.state_dict().items()}
    return {"epoch": 2, "global_step": 30, "pytorch-lightning_version": "2.5.0", "state_dict": state}


# The tables -----------------------------------------------------------------------------------------------------------

CLASSIFIER = "BertForSequenceClassification"
TRANSFORMERS_5 = [
    *architecture("Bert", "BMCOQ"),
    *architecture("Ernie", "BCQ", use_task_id=True, task_type_vocab_size=3),
    *architecture("Roberta", "B", tokenizer="bpe", max_position_embeddings=64),
    *architecture("Roberta", "C", pad_token_id=0, bos_token_id=2, eos_token_id=3),
    *architecture("Electra", "BCOQ"),
    *architecture("Albert", "BCOQ"),
    *architecture("MegatronBert", "BCOQ"),
    *architecture("RoFormer", "B", tokenizer="words"),
    *architecture("RoFormer", "COQ"),
    *architecture("DistilBert", "BCOQ"),
    *architecture("DebertaV2", "BCOQ"),
    *architecture("XLMRoberta", "BCOQ", tokenizer="unigram"),
    *architecture("ModernBert", "BMCOQ"),
    Row("modernbert_bpe_mean_pooling", "ModernBertForSequenceClassification",
        dict(classifier_pooling="mean", norm_bias=True, attention_bias=True, mlp_bias=True), "bpe", OCNLI),
    *architecture("MPNet", "B"),
    *architecture("ConvBert", "B"),
    Row("electra_discriminator", "ElectraForPreTraining", dict(SMALL, embedding_size=16)),
    Row("bert_pretraining", "BertForPreTraining", SMALL),
    Row("bert_other_label_order", CLASSIFIER, SMALL, labels=("contradiction", "neutral", "entailment")),
    Row("bert_label_numbers", CLASSIFIER, SMALL, labels=("LABEL_0", "LABEL_1", "LABEL_2")),
    Row("bert_other_labels", CLASSIFIER, SMALL, labels=("positive", "negative", "mixed")),
    Row("bert_chinese_labels", CLASSIFIER, SMALL, labels=("蕴含", "矛盾", "中立")),
    Row("bert_capital_labels", CLASSIFIER, SMALL, labels=("NEUTRAL", "ENTAILMENT", "CONTRADICTION")),
    Row("bert_two_labels", CLASSIFIER, SMALL, labels=("no", "yes")),
    Row("bert_sharded", CLASSIFIER, SMALL, labels=OCNLI, save={"max_shard_size": "10KB"}),
    Row("bert_fp16_variant", CLASSIFIER, SMALL, labels=OCNLI, save={"variant": "fp16"}),
    Row("bert_is_decoder", "BertModel", dict(SMALL, is_decoder=True)),
    Row("bert_output_hidden_states", CLASSIFIER, dict(SMALL, output_hidden_states=True), labels=OCNLI),
    Row("bert_output_attentions", "BertForQuestionAnswering", dict(SMALL, output_attentions=True, attn_implementation="eager")),
    Row("bert_return_dict_off", "BertForMultipleChoice", dict(SMALL, return_dict=False)),
    Row("bert_gelu_new", "BertModel", dict(SMALL, hidden_act="gelu_new")),
    Row("bert_relu_eps", CLASSIFIER, dict(SMALL, hidden_act="relu", layer_norm_eps=1e-5), labels=OCNLI),
    Row("bert_cased", "BertModel", SMALL, tokenizer="cased"),
    Row("bert_lower_keeping_accents", "BertModel", SMALL, tokenizer="accents"),
    Row("bert_only_tokenizer_json", "BertModel", SMALL, tokenizer="cased", after=only_tokenizer_json),
    Row("bert_vocab_txt_of_other_case", "BertModel", SMALL, after=vocab_txt_of_other_case),
    Row("bert_added_words", "BertModel", SMALL, tokenizer="added"),
    Row("bert_regression", CLASSIFIER, SMALL, labels=("LABEL_0",)),
    *architecture("Bert", "COQ", variant="gelu_new", hidden_act="gelu_new", layer_norm_eps=1e-5),
    *architecture("Ernie", "COQ", variant="eps", layer_norm_eps=1e-5),
    *architecture("Electra", "COQ", variant="relu", hidden_act="relu"),
    *architecture("Albert", "COQ", variant="groups", num_hidden_groups=2, inner_group_num=2),
    *architecture("MegatronBert", "CQ", variant="eps", layer_norm_eps=1e-5),
    *architecture("RoFormer", "C", variant="plain", embedding_size=None),
    *architecture("RoFormer", "C", variant="value", rotary_value=True, hidden_act="relu"),
    *architecture("DebertaV2", "CQ", variant="convolution", position_buckets=4, pos_att_type="c2p|p2c",
                  conv_kernel_size=3, conv_act="tanh", hidden_act="gelu_new", pooler_hidden_act="relu",
                  share_att_key=False, layer_norm_eps=1e-5, type_vocab_size=2),
    *architecture("XLMRoberta", "C", "unigram", variant="eps", layer_norm_eps=1e-5),
    *architecture("ModernBert", "COQ", variant="biased", num_hidden_layers=4, norm_bias=True, attention_bias=True,
                  mlp_bias=True, classifier_bias=True, classifier_pooling="mean", local_attention=10),
    Row("gpt2_refused", "GPT2LMHeadModel"),
    Row("qwen2_refused", "Qwen2ForCausalLM", tokenizer="bpe"),
    Row("bart_refused", "BartForConditionalGeneration"),
    Row("t5_refused", "T5ForConditionalGeneration", tokenizer="unigram"),
]  # fmt: skip
SENTENCE_TRANSFORMERS = [
    Row("sentence_encoder", "BertModel", SMALL),
    Row("cross_encoder", CLASSIFIER, SMALL, labels=OCNLI),
]

TRANSFORMERS_4 = [
    Row("bert_backbone", "BertModel", SMALL),
    Row("bert_classification", CLASSIFIER, labels=OCNLI),
    Row("bert_choice", "BertForMultipleChoice", SMALL),
    Row("bert_span", "BertForQuestionAnswering", SMALL, tokenizer="fast"),
    *architecture("Nezha", "BCOQ"),
    *architecture("Nezha", "COQ", variant="near", max_relative_position=8, layer_norm_eps=1e-5),
    Row("albert_backbone", "AlbertModel", SMALL, tokenizer="fast", half=False),
    Row("debertav2_backbone", "DebertaV2Model", SMALL),
    Row("xlmroberta_classification", "XLMRobertaForSequenceClassification", SMALL, "unigram", OCNLI),
    Row("bert_bin", CLASSIFIER, SMALL, labels=OCNLI, half=False, save={"safe_serialization": False}),
    Row("bert_bin_sharded", CLASSIFIER, SMALL, labels=OCNLI, save=dict(safe_serialization=False, max_shard_size="10KB")),
    Row("bert_bin_half", CLASSIFIER, SMALL, labels=OCNLI, save={"safe_serialization": False}),
    Row("bert_data_parallel", CLASSIFIER, SMALL, labels=OCNLI,
        after=saved_state(lambda torch, model: torch.nn.DataParallel(model).state_dict())),
    Row("bert_compiled_safetensors", CLASSIFIER, SMALL, labels=OCNLI,
        after=saved_state(lambda torch, model: torch.compile(model).state_dict(), safe=True)),
    Row("bert_parallel_compiled", "BertModel", SMALL,
        after=saved_state(lambda torch, model: torch.nn.DataParallel(torch.compile(model)).state_dict())),
    Row("bert_state_in_dict", CLASSIFIER, SMALL, labels=OCNLI,
        after=saved_state(lambda torch, model: {"model": model.state_dict(), "epoch": 3, "best": 0.83})),
    Row("bert_lightning", CLASSIFIER, SMALL, labels=OCNLI, after=saved_state(lightning)),
    Row("bert_special_tokens_as_objects", "BertModel", SMALL, tokenizer="objects"),
    Row("bert_special_tokens_with_type", "BertModel", SMALL, after=special_tokens_with_type),
    Row("bert_added_words", "BertModel", SMALL, tokenizer="added"),
    Row("bert_relative_positions", "BertModel", dict(SMALL, position_embedding_type="relative_key")),
    Row("bert_decoder", "BertLMHeadModel", dict(SMALL, is_decoder=True)),
    Row("bert_pruned", "BertModel", dict(SMALL, pruned_heads={0: [1]})),
    Row("bert_fast_tokenizer_cased", "BertModel", SMALL, tokenizer="fast_cased"),
]  # fmt: skip

PADDLENLP = [
    Row("bert_classification", CLASSIFIER, SMALL, labels=OCNLI),
    Row("ernie_classification", "ErnieForSequenceClassification", dict(SMALL, use_task_id=True), labels=OCNLI),
    Row("roberta_classification", "RobertaForSequenceClassification", SMALL, labels=OCNLI),
    Row(
        "nezha_classification", "NeZhaForSequenceClassification", dict(SMALL, use_relative_position=True), labels=OCNLI
    ),
]
PADDLENLP_3 = [
    *PADDLENLP,
    Row("erniegram_backbone", "ErnieGramModel", dict(SMALL, embedding_size=16)),
    Row("bert_choice", "BertForMultipleChoice", SMALL),
    Row("ernie_span", "ErnieForQuestionAnswering", SMALL),
    Row("ernie_safetensors", "ErnieForSequenceClassification", SMALL, labels=OCNLI, save={"safe_serialization": True}),
    Row("ernie_sharded", "ErnieModel", SMALL, save={"max_shard_size": "10KB"}),
    Row("roformerv2_backbone", "RoFormerv2Model", SMALL),
    Row("tinybert_backbone", "TinyBertModel", dict(SMALL, fit_size=24)),
    Row("albert_span", "AlbertForQuestionAnswering", dict(SMALL, embedding_size=16)),
    Row("megatronbert_classification", "MegatronBertForSequenceClassification", SMALL, labels=OCNLI),
    Row("roformer_classification", "RoFormerForSequenceClassification", dict(SMALL, embedding_size=16), labels=OCNLI),
]


# Transformers ---------------------------------------------------------------------------------------------------------


def torch_tokenizer(kind: str, folder: Path) -> Any:
    """One of transformers' tokenizers, with the vocabularies above."""
    import tokenizers
    import transformers

    if kind == "unigram":
        pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
        pieces += [(piece, -2.0 - 0.01 * index) for index, piece in enumerate(PIECES)] + [("<mask>", 0.0)]
        if transformers.__version__ > "5":
            return transformers.XLMRobertaTokenizer(vocab=pieces)
        backend = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=3))
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
        ends = [("<s>", 0), ("</s>", 2)]
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
        )
        return transformers.XLMRobertaTokenizerFast(tokenizer_object=backend)
    if kind == "bpe":
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=290, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], initial_alphabet=alphabet
        )
        backend = tokenizers.Tokenizer(tokenizers.models.BPE())
        backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.train_from_iterator([text for pair in PAIRS for text in pair] * 4, trainer)
        model = json.loads(backend.to_str())["model"]
        return transformers.RobertaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    if kind == "words":
        words = [token for token in TOKENS if "é" not in token] + ["明天", "下雨", "中国", "##国"]
        return transformers.RoFormerTokenizer(vocab={token: row for row, token in enumerate(words)})
    vocabulary = folder / "made_vocab.txt"
    vocabulary.write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    settings: dict[str, Any] = {"do_lower_case": "cased" not in kind}
    if kind == "accents":
        settings["strip_accents"] = False
    if kind == "objects":
        names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
        settings |= {key: transformers.AddedToken(token, lstrip=False) for key, token in names.items()}
    name = "BertTokenizerFast" if "fast" in kind else "BertTokenizer"
    first = {"vocab": str(vocabulary)} if transformers.__version__ > "5" else {"vocab_file": str(vocabulary)}
    made = getattr(transformers, name)(**first, **settings)
    if kind == "added":
        made.add_tokens(["天气", "中国人"])
    vocabulary.unlink()
    return made


def with_transformers(row: Row, folder: Path) -> dict[str, Any]:
    """Writes the directory; returns what is expected of it."""
    import torch
    import transformers

    tokenizer = torch_tokenizer(row.tokenizer, folder)
    config = getattr(transformers, f"{row.prefix}Config")(
        **{"vocab_size": len(tokenizer), **SIZES, **ARCHITECTURES.get(row.prefix, {}), **row.config}
    )
    if row.labels:
        config.id2label, config.label2id = dict(enumerate(row.labels)), {x: i for i, x in enumerate(row.labels)}
    torch.manual_seed(crc32(row.name.encode()))
    model = getattr(transformers, row.model)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # sinusoids do not
                parameter += 0.08 * torch.randn_like(parameter)
            if row.half:
                parameter.copy_(parameter.half().float())
    saved = copy.deepcopy(model).half() if row.half else model
    saved.save_pretrained(folder, **row.save)
    tokenizer.save_pretrained(folder)
    row.after(folder, saved)
    if row.after is not only_tokenizer_json:  # from that alone transformers makes a tokenizer of other case
        tokenizer = type(tokenizer).from_pretrained(folder)
    expected = torch_expected(row, model, tokenizer)
    return expected | {"writer": f"transformers {transformers.__version__}"}


def torch_expected(row: Row, model: Any, tokenizer: Any) -> dict[str, Any]:
    import torch

    found = tokenized(row, lambda first, second: tokenizer(first, second, padding=True, return_token_type_ids=True))
    if re.search("ConditionalGeneration|CausalLM|LMHead", row.model):  # which are refused
        return found
    fed = {name: torch.tensor(found[name]) for name in ("input_ids", "token_type_ids", "attention_mask")}
    if row.prefix in ("DistilBert", "ModernBert", "MPNet") or getattr(model.config, "type_vocab_size", 2) == 1:
        del fed["token_type_ids"]
    called = model if row.task else getattr(model, model.base_model_prefix, model)
    outputs = called(**fed, return_dict=True)
    names = {"hidden": "last_hidden_state", "logits": "logits", "start": "start_logits", "end": "end_logits"}
    made = {name: outputs[key] for name, key in names.items() if key in outputs}
    found |= {name: output.detach().numpy() for name, output in made.items()}
    if row.task and row.labels in ((), OCNLI):
        stacked = torch.stack(list(made.values()))
        random = np.random.default_rng(0)
        factors = random.normal(size=stacked.shape) * (found["attention_mask"] if "start" in found else 1)
        (stacked * torch.tensor(factors, dtype=torch.float32)).sum().backward()
        gradients = {name: array.grad.numpy() for name, array in model.named_parameters() if array.grad is not None}
        found |= {"factors": factors.astype(np.float32), "parameters": list(gradients)}
        found["gradients"] = np.concatenate([sums(gradient) for gradient in gradients.values()])
    return found


def sums(gradient: np.ndarray) -> np.ndarray:
    """A vector; of an array with more axes, the sums over all axes but one, for each axis."""
    axes = range(gradient.ndim)
    return np.concatenate([gradient.sum(axis=tuple(axis for axis in axes if axis != kept)) for kept in axes])


def tokenized(row: Row, tokenize: Callable[[list[str], list[str]], Any]) -> dict[str, Any]:
    texts = np.array(QUESTIONS if row.task == "c3" else PAIRS)
    flat = texts.reshape(-1, 2).tolist()
    made = tokenize([pair[0] for pair in flat], [pair[1] for pair in flat])
    names = ("input_ids", "token_type_ids", "attention_mask")
    shape = (*texts.shape[:-1], -1)
    return {"texts": texts} | {name: np.array(made[name]).reshape(shape) for name in names}


def with_sentence_transformers(row: Row, folder: Path) -> dict[str, Any]:
    """A cross encoder, or the backbone of a sentence encoder, as it stands at the root of its directory."""
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    inner = folder / "inner"
    inner.mkdir()
    expected = with_transformers(row, inner)
    if row.task:
        encoder = CrossEncoder(str(inner), num_labels=3)
    else:
        encoder = SentenceTransformer(modules=[Transformer(str(inner)), Pooling(SMALL["hidden_size"])])
    encoder.save(str(folder))
    shutil.rmtree(inner)
    return expected | {"writer": "sentence-transformers 6.2.0"}


# PaddleNLP ------------------------------------------------------------------------------------------------------------


def with_paddlenlp(row: Row, folder: Path) -> dict[str, Any]:
    import paddle
    import paddlenlp

    transformers = paddlenlp.transformers
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    settings = {"vocab_size": len(TOKENS), "pad_token_id": 0, "type_vocab_size": 2, "num_choices": 4, **SIZES}
    settings |= row.config
    config = getattr(transformers, f"{row.prefix}Config")(**settings)
    if row.labels:
        config.id2label, config.label2id = dict(enumerate(row.labels)), {x: i for i, x in enumerate(row.labels)}
    paddle.seed(crc32(row.name.encode()) % (1 << 31))
    model = getattr(transformers, row.model)(config)
    model.eval()
    for parameter in model.parameters():
        parameter.set_value(parameter + 0.08 * paddle.randn(parameter.shape))
    names = {"Roberta": "RobertaChineseTokenizer", "Albert": "AlbertChineseTokenizer"}
    tokenizer = getattr(transformers, names.get(row.prefix, f"{row.prefix}Tokenizer"))(str(vocabulary))
    model.save_pretrained(str(folder), **row.save)
    tokenizer.save_pretrained(str(folder))

    def tokenize(first: list[str], second: list[str]) -> Any:
        made = tokenizer(first, second, padding=True)
        return made | {"attention_mask": (np.array(made["input_ids"]) != 0).astype(int)}

    found = tokenized(row, tokenize)
    fed = {name: paddle.to_tensor(found[name]) for name in ("input_ids", "token_type_ids", "attention_mask")}
    if row.prefix == "MegatronBert":
        fed["attention_mask"] = ((1 - fed["attention_mask"].astype("float32")) * -1e4).unsqueeze([1, 2])
    with paddle.no_grad():
        outputs = model(**fed)
    if row.task == "cmrc2018":
        found["start"] = outputs[0].numpy()
        if row.prefix != "Albert":  # whose ends PaddleNLP copies from its starts
            found["end"] = outputs[1].numpy()
    else:
        name = "logits" if row.task else "hidden"
        found[name] = (outputs[0] if isinstance(outputs, (list, tuple)) else outputs).numpy()
    return found | {"writer": f"paddlenlp {version_of('paddlenlp')}"}


# All of them ----------------------------------------------------------------------------------------------------------


def version_of(package: str) -> str | None:
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    assert found in PINS[package], f"{package} {found}: the directories are of {PINS[package]}"
    return found


def write(writer: str, rows: list[Row], make: Callable[[Row, Path], dict[str, Any]]) -> None:
    for row in rows:
        name = f"{writer}_{row.name}"
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        np.savez_compressed(folder / "expected.npz", task=row.task, labels=list(row.labels), **make(row, folder))
        for useless in ("README.md", "1_Pooling/README.md"):
            (folder / useless).unlink(missing_ok=True)
        print(name, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))


def main() -> None:
    if paddlenlp := version_of("paddlenlp"):  # the project's environment has transformers too, without PyTorch
        write(f"pn{paddlenlp[0]}", PADDLENLP if paddlenlp < "3" else PADDLENLP_3, with_paddlenlp)
        return
    major = str(version_of("transformers"))[0]
    write(f"tf{major}", TRANSFORMERS_5 if major == "5" else TRANSFORMERS_4, with_transformers)
    if version_of("sentence-transformers"):
        write("st6", SENTENCE_TRANSFORMERS, with_sentence_transformers)


if __name__ == "__main__":
    main()
