"""Columns that several kinds of features store."""

from collections.abc import Mapping, Sequence

import numpy as np

from cluebench.features.ragged import Ragged, pack_strings, unpack_strings
from cluebench.features.tokenization import TextEncoder


def common_columns(
    encoder: TextEncoder,
    max_seq_length: int,
    ids: Sequence[int | str | None] = (None,),
    labels: Sequence[int | None] = (None,),
) -> dict[str, np.ndarray]:
    """Special tokens, the longest input, and ids and labels if every row has them.

    Ids are stored as whole numbers, or else as UTF-8.
    """
    columns = {**encoder.template.columns(encoder.pad_id), "max_seq_length": np.array(max_seq_length)}
    if all(isinstance(one, int) for one in ids):
        columns["ids"] = np.array(ids, np.int64)
    elif None not in ids:
        packed = pack_strings([str(one) for one in ids])
        columns |= {"ids": packed.values, "id_offsets": packed.offsets}
    if len(labels) and None not in labels:
        columns["labels"] = np.array(labels, np.int64)
    return columns


def unpack_ids(arrays: Mapping[str, np.ndarray]) -> list[int] | list[str] | None:
    """The ids given to `common_columns`; numbers among strings have become strings."""
    if "ids" not in arrays:
        return None
    if "id_offsets" not in arrays:
        return arrays["ids"].tolist()
    return unpack_strings(Ragged(arrays["ids"], arrays["id_offsets"]))
