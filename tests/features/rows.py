"""Made-up rows that look like the real ones: every length from nothing to too long, marks, blanks next to each other."""

import random

from cluebench.data.rows import ChoiceRow, IdiomRecord, SpanRow, TextRow

WORDS = "我们 今天 北京 2016年 iPhone7 “他说” 经济 —— … A股 Hello 。 ， （注） 3.5% 鑫 Café α ㎡".split()


def text(draw, most):
    return "".join(draw.choice(WORDS) for _ in range(draw.randint(0, most)))


def text_rows(number, segments, seed=0):
    draw = random.Random(seed)
    pool = [text(draw, 12) for _ in range(number // 2)]
    return [TextRow(tuple(draw.choice(pool) for _ in range(segments)), draw.randrange(2), i) for i in range(number)]


def choice_rows(number, seed=0, most_options=4):
    draw = random.Random(seed)
    contexts = ["\n".join(text(draw, 9) for _ in range(3)) for _ in range(number // 2)]
    rows = []
    for index in range(number):
        options = tuple(text(draw, 6) for _ in range(draw.randint(2, most_options)))
        rows.append(ChoiceRow(draw.choice(contexts), text(draw, 6), options, draw.randrange(len(options)), index))
    return rows


def idiom_records(number, seed=0):
    draw = random.Random(seed)
    idioms = ["".join(draw.choices("东西南北上下左右前后一二三四", k=4)) for _ in range(30)]
    tag = 0
    records = []
    for _ in range(number):
        passages, answers = [], {}
        candidates = tuple(draw.sample(idioms, 10))
        for _ in range(draw.randint(1, 3)):
            passage = ""
            for _ in range(draw.randint(0, 4)):
                passage += text(draw, draw.choice([0, 2, 12])) + f"#idiom{tag:06d}#"
                answers[f"#idiom{tag:06d}#"] = draw.randrange(10)
                tag += 1
            passages.append(passage + text(draw, draw.choice([0, 2, 12])))
        records.append(IdiomRecord(tuple(passages), candidates, answers))
    return records


def span_rows(number, seed=0, answered=True):
    draw = random.Random(seed)
    contexts = [text(draw, most).strip() or "。" for most in (3, 10, 40, 80) for _ in range(max(1, number // 8))]
    rows = []
    for index in range(number):
        context = draw.choice(contexts)
        start = draw.randrange(len(context))
        answer = context[start : start + draw.randint(1, 20)]
        answers = ((answer, "别的"), (start, 0)) if answered else ((), ())
        rows.append(SpanRow(f"DEV_{index}_QUERY_0", context, text(draw, 4), *answers))
    return rows
