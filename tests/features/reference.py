"""Model inputs one example at a time, in the plainest way, straight from the protocol: what the fast way has to equal."""

import re

import numpy as np

QUOTES = {"“": '"', "”": '"', "‘": "'", "’": "'", "—": "-", "―": "-", "…": "..."}


def assert_batches(features, expected, pad_id):
    """``expected``: of each example, the (ids, token types) of each of its sequences, which batches fill up."""
    assert features.lengths.tolist() == [max(len(ids) for ids, _ in sequences) for sequences in expected]
    order = np.random.default_rng(0).permutation(len(features))
    for chosen in np.array_split(order, 5):
        batch, width = features.batch(chosen), features.lengths[chosen].max()
        for name, part, filling in (("input_ids", 0, pad_id), ("token_type_ids", 1, 0)):
            rows = [[one[part] + [filling] * (width - len(one[part])) for one in expected[index]] for index in chosen]
            assert batch[name].reshape(len(chosen), -1, width).tolist() == rows
        for name in {"labels", "start_positions", "end_positions"} & set(batch):
            assert batch[name].tolist() == getattr(features, name)[chosen].tolist()


def text_row(tokenizer, texts, length):
    """(ids, token types) of one text or two, truncated longest-first."""
    parts = [ids(tokenizer, text) for text in texts]
    while sum(map(len, parts)) > length - 1 - len(parts):
        # PaddleNLP takes from the second when both are as long.
        longer = 0 if len(parts) == 1 or len(parts[0]) > len(parts[1]) else 1
        parts[longer].pop()
    sequence, types = [tokenizer.cls_token_id], [0]
    for segment, part in enumerate(parts):
        sequence += part + [tokenizer.sep_token_id]
        types += [segment] * (len(part) + 1)
    return sequence, types


def question(tokenizer, context, asked, options, length):
    """(ids, token types) of each option, padded to four options."""
    options = list(options) + ["无效答案"] * (4 - len(options))
    context, asked = ids(tokenizer, context.lower()), ids(tokenizer, asked.lower())
    options = [ids(tokenizer, option.lower()) for option in options]
    longest = max(map(len, options))
    left = {"context": len(context), "question": len(asked), "option": longest}
    while sum(left.values()) > length - 4:
        left[max(left, key=left.get)] -= 1  # of equal ones max() takes the first
    cls, sep = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    made = []
    for option in options:
        first = cls + context[: left["context"]] + sep
        second = asked[: left["question"]] + sep + option[: left["option"]] + sep
        made.append((first + second, [0] * len(first) + [1] * len(second)))
    return made


def blank(tokenizer, passage, tag, candidates, length):
    """(ids, token types) of each candidate in one blank of a passage."""
    for mark, plain in QUOTES.items():
        passage = passage.replace(mark, plain)
    tokens = []
    for piece in re.split(r"(#idiom\d+#)", passage):
        tokens += [piece] if re.fullmatch(r"#idiom\d+#", piece) else tokenizer.tokenize(piece)
    place = tokens.index(tag)
    before, after = tokens[:place], tokens[place + 1 :]
    room = length - 8
    left, right = room // 2, room - room // 2
    if len(before) < left:
        right += left - len(before)
    elif len(after) < right:
        left += right - len(after)
    before, after = before[len(before) - min(left, len(before)) :], after[:right]
    before = unfold(before)[-len(before) :] if before else []
    after = unfold(after)[: len(after)]
    unused = "[unused1]"
    made = []
    for candidate in candidates:
        sequence = ["[CLS]", *tokenizer.tokenize(candidate), "[SEP]", *before, unused, *after, "[SEP]"]
        made.append((tokenizer.convert_tokens_to_ids(sequence), [0] * len(sequence)))
    return made


def unfold(tokens):
    return [part for token in tokens for part in (["[MASK]"] * 4 if token.startswith("#idiom") else [token])]


def windows(tokenizer, context, asked, answer, start, length, stride, encoder):
    """(ids, token types, start position, end position) of every window; ``encoder`` gives the characters of tokens."""
    asked = ids(tokenizer, asked)
    found, starts, ends = encoder.encode_with_offsets([context])
    tokens = found[0].tolist()
    room = length - 3 - len(asked)
    made, first = [], 0
    while True:
        inside = range(first, min(first + room, len(tokens)))
        head = [tokenizer.cls_token_id, *asked, tokenizer.sep_token_id]
        sequence = head + [tokens[i] for i in inside] + [tokenizer.sep_token_id]
        labels = (0, 0)
        end = start + len(answer)
        if len(inside) and starts[inside[0]] <= start and ends[inside[-1]] >= end:
            from_token = max(i for i in inside if starts[i] <= start)
            to_token = min(i for i in inside if ends[i] >= end)
            labels = (len(head) + from_token - first, len(head) + to_token - first)
        made.append((sequence, [0] * len(head) + [1] * (len(sequence) - len(head)), *labels))
        if first + room >= len(tokens):
            return made
        first += min(stride, room)


def ids(tokenizer, text):
    return tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
