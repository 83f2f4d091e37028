"""ModernBERT (Warner et al. 2024, arXiv 2412.13663) on Paddle's layers; PaddleNLP has no class of it.

It computes what Hugging Face's Transformers 5.24 computes, and takes the same settings. Beside BERT: norms stand before
attention and feed-forward layers, positions are rotations of queries and keys, feed-forward layers are gated, and most
layers see only a window round each token. There are no token types.
"""

from typing import Any

import paddle
from paddle import nn
from paddlenlp.transformers import PretrainedConfig, PretrainedModel, register_base_model
from paddlenlp.transformers.activations import ACT2FN

#: What is added to the scores of keys that a query must not see; its exponential is 0 in every precision.
_UNSEEN = -1e4


#: Keys of config.json with Transformers' defaults.
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 50368, "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22,
    "num_attention_heads": 12, "max_position_embeddings": 8192, "pad_token_id": 50283, "initializer_range": 0.02,
    "norm_eps": 1e-5, "norm_bias": False, "embedding_dropout": 0.0,
    "attention_bias": False, "attention_dropout": 0.0, "local_attention": 128,
    "hidden_activation": "gelu", "mlp_bias": False, "mlp_dropout": 0.0,
    "classifier_pooling": "cls", "classifier_bias": False, "classifier_activation": "gelu",
}  # fmt: skip


class ModernBertConfig(PretrainedConfig):
    """The settings of config.json: a key of `_DEFAULTS`, or one that older or newer versions of Transformers write.

    Raises ValueError for scaled rotations, which long-context variants have.
    """

    model_type = "modernbert"
    attribute_map = {"num_classes": "num_labels"}

    def __init__(self, **settings: Any):
        every = settings.pop("global_attn_every_n_layers", 3)
        base = settings.pop("global_rope_theta", 160_000.0)
        bases = {"full_attention": base, "sliding_attention": settings.pop("local_rope_theta", 10_000.0) or base}
        written = settings.pop("rope_parameters", None) or {}
        dropout = settings.pop("classifier_dropout", None) or 0.0
        super().__init__(**{**_DEFAULTS, **settings}, classifier_dropout=dropout)
        self.layer_types = settings.get("layer_types") or [
            "sliding_attention" if layer % every else "full_attention" for layer in range(self.num_hidden_layers)
        ]
        self.rope_parameters = {
            kind: {"rope_type": "default", "rope_theta": base, **(written.get(kind) or {})}
            for kind, base in bases.items()
        }
        scaled = [rope["rope_type"] for rope in self.rope_parameters.values() if rope["rope_type"] != "default"]
        if scaled or settings.get("rope_scaling"):
            raise ValueError(f'rotations are scaled ("rope_type": {(scaled or ["…"])[0]}); only "default" is supported')


class ModernBertPretrainedModel(PretrainedModel):
    """What the backbone and the models with heads have in common."""

    config_class = ModernBertConfig
    base_model_prefix = "model"
    model_config_file = "config.json"
    resource_files_names = {"model_state": "model_state.pdparams"}

    def _init_weights(self, layer: nn.Layer) -> None:
        if isinstance(layer, (nn.Linear, nn.Embedding)):
            draw = nn.initializer.TruncatedNormal(std=self.config.initializer_range)
            draw(layer.weight)


class ModernBertEmbeddings(nn.Layer):
    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layer_norm = _norm(config)
        self.dropout = nn.Dropout(config.embedding_dropout)

    def forward(self, input_ids: paddle.Tensor) -> paddle.Tensor:
        """[rows, width] to [rows, width, hidden]; a token has no position here."""
        return self.dropout(self.layer_norm(self.word_embeddings(input_ids)))


class ModernBertAttention(nn.Layer):
    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.heads, self.head_size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias_attr=config.attention_bias)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size, bias_attr=config.attention_bias)
        self.attention_dropout = nn.Dropout(config.attention_dropout)
        self.out_dropout = nn.Dropout(config.attention_dropout)

    def forward(self, hidden: paddle.Tensor, unseen: paddle.Tensor, rotation: tuple) -> paddle.Tensor:
        """``unseen``: added to scores [rows, heads, width, width]; ``rotation``: of each position, see `_rotation`."""
        # In a reshape 0 keeps a size, which a static graph need not know.
        parts = self.qkv(hidden).reshape([0, 0, 3, self.heads, self.head_size]).transpose([2, 0, 3, 1, 4])
        query, key, value = _rotated(parts[0], *rotation), _rotated(parts[1], *rotation), parts[2]
        scores = paddle.matmul(query, key, transpose_y=True) * self.head_size**-0.5
        shares = nn.functional.softmax(scores + unseen.astype(scores.dtype))
        seen = paddle.matmul(self.attention_dropout(shares), value)
        return self.out_dropout(self.out_proj(seen.transpose([0, 2, 1, 3]).reshape([0, 0, -1])))


class ModernBertFeedForward(nn.Layer):
    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.wi = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias_attr=config.mlp_bias)
        self.wo = nn.Linear(config.intermediate_size, config.hidden_size, bias_attr=config.mlp_bias)
        self.activation = ACT2FN[config.hidden_activation]
        self.dropout = nn.Dropout(config.mlp_dropout)

    def forward(self, hidden: paddle.Tensor) -> paddle.Tensor:
        activated, gate = paddle.chunk(self.wi(hidden), 2, axis=-1)
        return self.wo(self.dropout(self.activation(activated) * gate))


class ModernBertLayer(nn.Layer):
    def __init__(self, config: ModernBertConfig, number: int):
        super().__init__()
        self.kind = config.layer_types[number]
        self.attn_norm = _norm(config) if number else nn.Identity()  # the embeddings have a norm already
        self.attn = ModernBertAttention(config)
        self.mlp_norm = _norm(config)
        self.mlp = ModernBertFeedForward(config)

    def forward(self, hidden: paddle.Tensor, unseen: dict, rotations: dict) -> paddle.Tensor:
        hidden = hidden + self.attn(self.attn_norm(hidden), unseen[self.kind], rotations[self.kind])
        return hidden + self.mlp(self.mlp_norm(hidden))


class ModernBertEncoder(nn.Layer):
    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.layers = nn.LayerList([ModernBertLayer(config, number) for number in range(config.num_hidden_layers)])
        self.final_norm = _norm(config)

    def forward(self, hidden: paddle.Tensor, unseen: dict, rotations: dict) -> paddle.Tensor:
        for layer in self.layers:
            hidden = layer(hidden, unseen, rotations)
        return self.final_norm(hidden)


@register_base_model
class ModernBertModel(ModernBertPretrainedModel):
    """The encoder without a head."""

    def __init__(self, config: ModernBertConfig):
        super().__init__(config)
        self.pad_token_id = config.pad_token_id
        self.embeddings = ModernBertEmbeddings(config)
        self.encoder = ModernBertEncoder(config)

    def forward(self, input_ids: paddle.Tensor, attention_mask: paddle.Tensor | None = None) -> paddle.Tensor:
        """Ids [rows, width] to hidden states [rows, width, hidden]; hidden states at padding have no meaning.

        ``attention_mask``: true or 1 at real tokens [rows, width]; None leaves out padding.
        """
        if attention_mask is None:
            attention_mask = input_ids != self.pad_token_id
        seen = attention_mask.astype("bool").unsqueeze([1, 2])
        places = paddle.arange(seen.shape[-1])
        near = (places.unsqueeze(0) - places.unsqueeze(1)).abs() <= self.config.local_attention // 2
        visible = {"full_attention": seen, "sliding_attention": paddle.logical_and(seen, near)}
        unseen = {kind: (1.0 - keys.astype("float32")) * _UNSEEN for kind, keys in visible.items()}
        head_size = self.config.hidden_size // self.config.num_attention_heads
        rotations = {
            kind: _rotation(places, head_size, rope["rope_theta"]) for kind, rope in self.config.rope_parameters.items()
        }
        return self.encoder(self.embeddings(input_ids), unseen, rotations)


class _WithHead(ModernBertPretrainedModel):
    """The encoder, and the dense layer with a norm that stands before each kind of classifier.

    Models are called with ids and token types. Token types have no effect.
    """

    outputs: int | None = None  # of the classifier; None: a label each

    def __init__(self, config: ModernBertConfig):
        super().__init__(config)
        outputs = self.outputs or config.num_labels
        self.model = ModernBertModel(config)
        self.head = _Head(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, outputs)
        nn.initializer.TruncatedNormal(std=config.hidden_size**-0.5)(self.classifier.weight)

    def classified(self, input_ids: paddle.Tensor) -> paddle.Tensor:
        """Outputs [rows, outputs] of the first token, or of the mean over real tokens, as the configuration says."""
        hidden = self.model(input_ids)
        if self.config.classifier_pooling == "mean":
            real = (input_ids != self.model.pad_token_id).astype(hidden.dtype).unsqueeze(-1)
            pooled = (hidden * real).sum(axis=1) / real.sum(axis=1)
        else:
            pooled = hidden[:, 0]
        return self.classifier(self.dropout(self.head(pooled)))


class ModernBertForSequenceClassification(_WithHead):
    def forward(self, input_ids: paddle.Tensor, token_type_ids: paddle.Tensor | None = None) -> paddle.Tensor:
        """Logits [rows, labels] of ids [rows, width]."""
        return self.classified(input_ids)


class ModernBertForMultipleChoice(_WithHead):
    outputs = 1

    def forward(self, input_ids: paddle.Tensor, token_type_ids: paddle.Tensor | None = None) -> paddle.Tensor:
        """Scores [B, N] of ids [B, N, width]."""
        return self.classified(input_ids.flatten(0, 1)).reshape([-1, input_ids.shape[1]])


class ModernBertForQuestionAnswering(_WithHead):
    outputs = 2

    def forward(self, input_ids: paddle.Tensor, token_type_ids: paddle.Tensor | None = None) -> tuple:
        """(starts, ends), logits [rows, width] each, of ids [rows, width]."""
        logits = self.classifier(self.dropout(self.head(self.model(input_ids))))
        return tuple(paddle.unstack(logits, axis=-1))


class _Head(nn.Layer):
    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias_attr=config.classifier_bias)
        self.activation = ACT2FN[config.classifier_activation]
        self.norm = _norm(config)

    def forward(self, hidden: paddle.Tensor) -> paddle.Tensor:
        return self.norm(self.activation(self.dense(hidden)))


def _norm(config: ModernBertConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, config.norm_eps, bias_attr=config.norm_bias)


def _rotation(places: paddle.Tensor, size: int, base: float) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Cosines and sines [width, size] by which a query or key at each place is turned (Su et al. 2021)."""
    frequencies = base ** (-paddle.arange(0, size, 2, dtype="float32") / size)
    angles = places.astype("float32").unsqueeze(-1) * frequencies
    angles = paddle.concat([angles, angles], axis=-1)
    return angles.cos(), angles.sin()


def _rotated(vectors: paddle.Tensor, cosines: paddle.Tensor, sines: paddle.Tensor) -> paddle.Tensor:
    """Vectors [rows, heads, width, size], rotated: the halves of a vector are the two coordinates."""
    first, second = paddle.chunk(vectors, 2, axis=-1)
    turned = paddle.concat([-second, first], axis=-1)
    return (vectors * cosines + turned * sines).astype(vectors.dtype)
