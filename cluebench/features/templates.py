"""Where a model's special tokens stand: ``[CLS] a [SEP] b [SEP]`` of BERT, ``<s> a </s></s> b </s>`` of RoBERTa, ….

Sequences of this project are written down for BERT. For any other model the special tokens change, and nothing else:
those before the first text stand for [CLS], those between a pair's texts for each [SEP] between two texts, those after
the second for the last [SEP]. So C3's are ``<s> context </s></s> question </s></s> option </s>``, CHID's
``<s> idiom </s></s> left blank right </s>``, where the blank is [unused1], else the unknown token.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Template(NamedTuple):
    """Ids of special tokens, and the token type of all texts behind the first (0 or 1)."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    second_type: int = 1

    def special_tokens(self, texts: int) -> int:
        """The number of special tokens in a sequence of this many texts."""
        return len(self.before) + (texts - 1) * len(self.between) + len(self.after)

    def columns(self, pad_id: int) -> dict[str, np.ndarray]:
        """What features store of it, with the id of padding."""
        parts = [self.before, self.between, self.after]
        return {
            "special": np.array([token for part in parts for token in part], np.int64),
            "special_lengths": np.array([len(part) for part in parts], np.int64),
            "second_type": np.array(self.second_type),
            "pad": np.array(pad_id, np.int64),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> "Template":
        """From the `columns`."""
        before, between, after = np.split(arrays["special"], np.cumsum(arrays["special_lengths"])[:-1])
        return cls(tuple(before.tolist()), tuple(between.tolist()), tuple(after.tolist()), int(arrays["second_type"]))

    @classmethod
    def read_off(cls, tokenizer: Any) -> "Template":
        """From what a slow tokenizer makes of a pair."""
        first, second = -1, -2  # no token's ids
        try:
            ids = tokenizer.build_inputs_with_special_tokens([first], [second])
            types = tokenizer.create_token_type_ids_from_sequences([first], [second])
            one, two = ids.index(first), ids.index(second)
            return cls(tuple(ids[:one]), tuple(ids[one + 1 : two]), tuple(ids[two + 1 :]), int(types[two]))
        except (AttributeError, ValueError, IndexError, NotImplementedError):
            return cls((tokenizer.cls_token_id,), (tokenizer.sep_token_id,), (tokenizer.sep_token_id,))
