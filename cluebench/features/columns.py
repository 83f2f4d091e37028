"""Ids of rows, as several kinds of features store them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cluebench.features.ragged import Ragged, pack_strings, unpack_strings


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
