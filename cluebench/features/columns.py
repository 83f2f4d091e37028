"""Columns that several kinds of features store: special tokens, and ids of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cluebench.features.ragged import Ragged, pack_strings, unpack_strings
from cluebench.features.tokenization import TextEncoder


def special_ids(encoder: TextEncoder) -> np.ndarray:
    """int64 [3]: ids of [CLS], [SEP] and [PAD]."""
    return np.array([encoder.cls_id, encoder.sep_id, encoder.pad_id], np.int64)


def pack_ids(ids: Sequence[int | str | None]) -> dict[str, np.ndarray]:
    """Ids as arrays: whole numbers as they are, strings as UTF-8; nothing when a row has none."""
    if any(one is None for one in ids):
        return {}
    if all(isinstance(one, int) for one in ids):
        return {"ids": np.array(ids, np.int64)}
    packed = pack_strings([str(one) for one in ids])
    return {"ids": packed.values, "id_offsets": packed.offsets}


def unpack_ids(arrays: Mapping[str, np.ndarray]) -> list[int] | list[str] | None:
    """What pack_ids was given; numbers among strings have become strings."""
    if "ids" not in arrays:
        return None
    if "id_offsets" not in arrays:
        return arrays["ids"].tolist()
    return unpack_strings(Ragged(arrays["ids"], arrays["id_offsets"]))
