"""Made-up data sets in the official formats: deterministic, of any size, and learnable by a very small model.

They are for trying things out, for tests and for measurements where the real data sets are not at hand. Labels follow
from words in the texts (see `cluebench.demo.lexicon`), apart from a few that are noise, so that a two-layer model with
random weights gets well above chance within a few hundred steps, and no model gets everything right. Scores on them say
nothing about Chinese.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, TASKS, Task
from cluebench.data.source import SYNTHETIC_MARK
from cluebench.demo import lexicon as words
from cluebench.foundation import atomic

#: Share of the labels that are drawn at random.
NOISE = 0.04


@dataclass(frozen=True)
class Sizes:
    """How much of a task is made: rows of each split (C3 and CMRC2018: questions, CHID: records)."""

    train: int
    dev: int
    test: int  # of each test set
    sentences: int = 1  # sentences that mean nothing for the label, per text: longer texts
    blanks: float = 2.5  # CHID: blanks per record, on average


#: Small enough for a grid over all ten tasks to take minutes on two CPU cores, large enough for it to learn something.
DEMO_SIZES: dict[str, Sizes] = {
    "afqmc": Sizes(1200, 400, 200),
    "tnews": Sizes(1600, 400, 200),
    "iflytek": Sizes(4000, 400, 200),
    "cmnli": Sizes(1600, 400, 200),
    "ocnli": Sizes(800, 400, 200),
    "cluewsc2020": Sizes(128, 160, 200),
    "csl": Sizes(800, 400, 200),
    "cmrc2018": Sizes(600, 120, 60),
    "chid": Sizes(120, 60, 30),
    "c3": Sizes(100, 120, 60),
}
_USUAL_SIZES = Sizes(800, 400, 200)


def write_synthetic(
    folder: str | Path,
    tasks: Iterable[str] = TASKS,
    sizes: Mapping[str, Sizes] = DEMO_SIZES,
    seed: int = 0,
) -> None:
    """Writes ``<folder>/<task>_public/`` with every official file of each task, labels and all test sets included.

    ``tasks`` are lower-case names; a task that ``sizes`` lacks gets its size of DEMO_SIZES, or the usual one. The same
    arguments give the same bytes. Files that stand there are replaced. ``<folder>/synthetic.json`` says what was made.
    """
    folder, tasks = Path(folder), list(tasks)
    sizes = {name: sizes.get(name) or DEMO_SIZES.get(name, _USUAL_SIZES) for name in tasks}
    for name in tasks:
        for file, content in _FILES[TASKS[name].kind](TASKS[name], sizes[name], seed):
            atomic.write_text(folder / f"{name}_public" / file, content)
    made = {"seed": seed, "sizes": {name: asdict(size) for name, size in sizes.items()}}
    atomic.write_json(folder / SYNTHETIC_MARK, made)


def characters() -> str:
    """Every character outside ASCII that synthetic texts hold, in code point order, for a character vocabulary.

    Full-width letters are left out on purpose: a few CMRC2018 contexts hold them, as real ones hold characters that a
    vocabulary lacks.
    """
    return "".join(sorted({character for character in inspect.getsource(words) + _TEMPLATES if ord(character) > 127}))


# Sentences ------------------------------------------------------------------------------------------------------------

#: Characters of the sentence patterns below, which stand in no word list.
_TEMPLATES = (
    "在的和了是把被就都说这那里对于一款软件提供服务功能后它因为所以本文研究中提出种基方法结果表明该有效性作品完成"
    "年故事发生创者谁哪出版里英名部男女根据话可知道什么怎样样项正确真算得上认起来呢吗"
)


def _filling(rng: Random, sentences: int = 1) -> str:
    """Sentences that say nothing about any label."""
    pick = rng.choice
    return "".join(
        f"{pick(words.TIMES)}{pick(words.PEOPLE)}在{pick(words.PLACES)}{pick(words.VERBS)}了"
        f"{pick(words.QUALITIES)}{pick(words.THINGS)}，{pick(words.CLOSINGS)}。"
        for _ in range(sentences)
    )


def _noisy(rng: Random, label: Any, labels: Any) -> Any:
    return rng.choice(labels) if rng.random() < NOISE else label


# Classification -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """A classification task's rows: how one is made, and which of its keys the files hold, in their order."""

    make: Callable[[Random, int, int], dict]  # (random numbers, row number, sentences) → all keys
    keys: tuple[str, ...]
    test_keys: tuple[str, ...]
    disagreement: tuple[float, float] = (0.0, 0.0)  # share of rows labelled "-" in train and dev
    description: tuple[str, list[str]] | None = None  # labels.json: its second key, and what each label means


def _text_files(task: Task, sizes: Sizes, seed: int) -> Iterator[tuple[str, str]]:
    layout = _LAYOUTS.get(task.name) or _plain_layout(task)
    splits = [(task.train_files[0], sizes.train, layout.disagreement[0], layout.keys)]
    splits += [(task.dev_files[0], sizes.dev, layout.disagreement[1], layout.keys)]
    splits += [(test.file, sizes.test, 0.0, layout.test_keys) for test in task.test_sets]
    for file, rows, disagreement, keys in splits:
        rng = Random(f"{seed} {task.name} {file}")
        lines = []
        for number in range(rows):
            row = layout.make(rng, number, sizes.sentences)
            if rng.random() < disagreement:
                row["label"] = "-"
            lines.append({key: row[key] for key in keys})
        yield file, _json_lines(lines, final_newline=file in task.train_files)
    if task.label_file and layout.description:
        key, meanings = layout.description
        lines = [{"label": label, key: meaning} for label, meaning in zip(task.labels, meanings, strict=True)]
        yield task.label_file, _json_lines(lines, final_newline=False)


def _json_lines(rows: list[dict], final_newline: bool) -> str:
    """Official files end with a newline or not, just as they happen to."""
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + ("\n" if final_newline else "")


def _paraphrase(rng: Random, number: int, sentences: int) -> dict:
    """AFQMC: two questions to a payment service; the second asks the same politely, or asks to undo something."""
    label, topic, ask = rng.choice("01"), rng.choice(words.QUESTION_TOPICS), rng.choice(words.QUESTION_ASKS)
    if label == "1":
        second = f"{rng.choice(words.SAME_WORDS)}{topic}{ask}"
    else:
        second = f"{topic}{rng.choice(words.OTHER_WORDS)}后{rng.choice(words.QUESTION_ASKS)}"
    first = f"{_filling(rng, sentences - 1)}{topic}{ask}"
    return {"id": number, "sentence1": first, "sentence2": second, "label": _noisy(rng, label, "01")}


def _news(rng: Random, number: int, sentences: int) -> dict:
    """TNEWS: a headline with words of its topic."""
    label = rng.choice(list(words.NEWS))
    topic = rng.sample(words.NEWS[label][1].split(), 2)
    headline = f"{rng.choice(words.TIMES)}{rng.choice(words.PEOPLE)}{rng.choice(words.VERBS)}{topic[0]}和{topic[1]}的"
    sentence = f"{headline}{rng.choice(words.THINGS)}{'，' + _filling(rng, sentences - 1) if sentences > 1 else '！'}"
    label = _noisy(rng, label, list(words.NEWS))
    described = {"label_desc": words.NEWS[label][0], "keywords": ",".join(topic) if rng.random() < 0.8 else ""}
    return {"id": number, "label": label, "sentence": sentence, **described}


def _app(rng: Random, number: int, sentences: int) -> dict:
    """IFLYTEK: what an app says of itself. Some kinds are far more frequent than others."""
    label = int(len(words.APPS) * rng.random() ** 2)
    name, first, second = words.APPS[label].split()
    text = f"这是一款{name}软件，提供{first}和{second}功能，{first}{name}就用它。{_filling(rng, sentences)}"
    label = _noisy(rng, label, range(len(words.APPS)))
    return {"id": number, "label": str(label), "label_des": words.APPS[label].split()[0], "sentence": text}


def _inference(rng: Random, number: int, sentences: int) -> dict:
    """CMNLI, OCNLI: the hypothesis retells the premise with a word that tells their relation."""
    label = rng.choice(list(words.HYPOTHESIS_WORDS))
    person, verb, thing = rng.choice(words.PEOPLE), rng.choice(words.VERBS), rng.choice(words.THINGS)
    time, place = rng.choice(words.TIMES), rng.choice(words.PLACES)
    premise = f"{_filling(rng, sentences - 1)}{time}{person}在{place}{verb}了{thing}."
    hypothesis = f"{person}{rng.choice(words.HYPOTHESIS_WORDS[label])}{verb}{thing}"
    label = _noisy(rng, label, list(words.HYPOTHESIS_WORDS))
    votes = {f"label{vote}": label for vote in range(5)}
    about = {"level": rng.choice(("easy", "medium", "hard")), "genre": "phone", "prem_id": f"phone_{number // 3}"}
    return {"id": number, "sentence1": premise, "sentence2": hypothesis, "label": label, **votes, **about}


def _coreference(rng: Random, number: int, sentences: int) -> dict:
    """CLUEWSC2020: the pronoun stands for the marked noun if that is a person. Some texts hold nouns of both sorts."""
    is_person = rng.random() < 0.45
    noun, other = rng.choice(words.PERSONS), rng.choice(words.OBJECTS)
    if not is_person:
        noun, other = other, noun
    pronoun, thing = rng.choice(words.PRONOUNS), rng.choice(words.THINGS)
    clauses = [f"{rng.choice(words.TIMES)}在{rng.choice(words.PLACES)}说起{{noun}}"]
    if rng.random() < 0.2:
        clauses.append(f"{other}就在{rng.choice(words.PLACES)}")
    clauses.append(f"{{pronoun}}{rng.choice(words.VERBS)}了{thing}")
    if rng.random() < 0.2:
        clauses.reverse()
    pattern = f"{'，'.join(clauses)}。{_filling(rng, sentences - 1)}"
    # The one that comes first keeps its place while the other is filled in.
    noun_index, pronoun_index = pattern.index("{noun}"), pattern.index("{pronoun}")
    if noun_index < pronoun_index:
        pronoun_index += len(noun) - len("{noun}")
    else:
        noun_index += len(pronoun) - len("{pronoun}")
    target = {"span2_index": pronoun_index, "span1_index": noun_index, "span1_text": noun, "span2_text": pronoun}
    label = _noisy(rng, "true" if is_person else "false", ("true", "false"))
    text = pattern.replace("{noun}", noun).replace("{pronoun}", pronoun)
    return {"target": target, "idx": number, "id": number, "label": label, "text": text}


def _abstract(rng: Random, number: int, sentences: int) -> dict:
    """CSL: keywords that all name the subject, or some of which are words of any abstract."""
    terms = rng.sample(words.TERMS, 4)
    text = (
        f"本文研究{terms[0]}中的{terms[1]}，提出一种基于{terms[2]}的方法，对{terms[3]}的"
        f"{rng.choice(words.GENERAL_WORDS)}作了说明。{_filling(rng, sentences)}结果表明该方法有效。"
    )
    label, keywords = rng.choice("01"), rng.sample(terms, 3)
    if label == "0":
        for place in rng.sample(range(3), rng.choice((1, 2))):
            keywords[place] = rng.choice(words.GENERAL_WORDS)
    # The ids of the official test set are those of a larger collection.
    return {"id": 2415 + 7 * number, "abst": text, "keyword": keywords, "label": _noisy(rng, label, "01")}


_PAIR_KEYS = ("sentence1", "sentence2")
_VOTES = tuple(f"label{vote}" for vote in range(5))

_LAYOUTS: dict[str, _Layout] = {
    "afqmc": _Layout(_paraphrase, (*_PAIR_KEYS, "label"), ("id", *_PAIR_KEYS)),
    "tnews": _Layout(
        _news,
        ("label", "label_desc", "sentence", "keywords"),
        ("id", "sentence", "keywords"),
        description=("label_desc", [name for name, _ in words.NEWS.values()]),
    ),
    "iflytek": _Layout(
        _app,
        ("label", "label_des", "sentence"),
        ("id", "sentence"),
        description=("label_des", [app.split()[0] for app in words.APPS]),
    ),
    "cmnli": _Layout(_inference, (*_PAIR_KEYS, "label"), ("id", *_PAIR_KEYS), disagreement=(0.0, 0.015)),
    "ocnli": _Layout(
        _inference,
        ("level", *_PAIR_KEYS, "label", *_VOTES, "genre", "prem_id", "id"),
        (*_PAIR_KEYS, "id"),
        disagreement=(0.01, 0.02),
    ),
    "cluewsc2020": _Layout(_coreference, ("target", "idx", "label", "text"), ("target", "id", "text")),
    "csl": _Layout(_abstract, ("id", "abst", "keyword", "label"), ("id", "abst", "keyword")),
}


def _plain_layout(task: Task) -> _Layout:
    """Of a task that has none of its own: all of a row's texts begin with a term that stands for its label."""

    def make(rng: Random, number: int, sentences: int) -> dict:
        label = rng.randrange(len(task.labels))
        term = words.TERMS[label % len(words.TERMS)] + words.TERMS[label // len(words.TERMS)]
        texts: dict[str, Any] = {field: f"{term}，{_filling(rng, sentences)}" for field in task.text_fields}
        if task.joined_field:
            texts[task.joined_field] = [term, rng.choice(words.THINGS)]
        return {"id": number, "label": _noisy(rng, task.labels[label], task.labels), **texts}

    return _Layout(
        make, (*task.text_fields, "label"), ("id", *task.text_fields), description=("label_desc", list(task.labels))
    )


# CMRC2018 -------------------------------------------------------------------------------------------------------------


def _span_files(task: Task, sizes: Sizes, seed: int) -> Iterator[tuple[str, str]]:
    tests = {test.file for test in task.test_sets}
    splits = [(task.train_files[0], sizes.train, 1), (task.dev_files[0], sizes.dev, 3)]
    splits += [(file, sizes.test, 3) for file in sorted(tests)] + [("trial.json", sizes.test, 1)]
    for file, questions, annotators in splits:
        rng, prefix = Random(f"{seed} {task.name} {file}"), Path(file).stem.upper()
        articles: list[dict] = []
        made = 0
        while made < questions:
            article = _article(rng, f"{prefix}_{len(articles)}", sizes.sentences, questions - made, annotators)
            made += len(article["paragraphs"][0]["qas"])
            if file in tests:
                _hide_answers(article)
            articles.append(article)
        yield file, json.dumps({"version": "v1.0", "data": articles}, ensure_ascii=False, indent=2)


def _article(rng: Random, identity: str, sentences: int, most_questions: int, annotators: int) -> dict:
    """One paragraph that tells one to three facts about a work among other sentences, with a question for each."""
    work, year = rng.choice(words.WORKS), f"{rng.randrange(1900, 2020)}年"
    author = rng.choice(words.SURNAMES) + "".join(rng.sample(words.GIVEN_NAMES, rng.choice((1, 2))))
    facts = [
        (f"《{work}》是{author}创作的{rng.choice(words.GENRES)}。", author, f"《{work}》的作者是谁？"),
        (f"这部作品完成于{year}。", year, "这部作品是哪一年完成的？"),
        (f"故事发生在{(town := rng.choice(words.TOWNS))}。", town, "故事发生在哪里？"),
    ]
    facts = rng.sample(facts, min(rng.choice((1, 1, 2, 3)), most_questions))
    # One paragraph in 150 is longer than a model's window; more would make most batches as long as it.
    filling = [_filling(rng) for _ in range(sentences if rng.random() > 1 / 150 else sentences + 22)]
    if rng.random() < 0.1:
        filling.append("它的英文名是 The Long Night（ＴＬＮ）。")
    parts = [text for text, _, _ in facts] + filling
    rng.shuffle(parts)
    context = "".join(parts)
    questions = []
    for number, (text, answer, question) in enumerate(facts):
        found = {"text": answer, "answer_start": context.index(text) + text.index(answer)}
        answers = [dict(found) for _ in range(annotators)]
        questions.append({"question": question, "id": f"{identity}_QUERY_{number}", "answers": answers})
    return {"paragraphs": [{"id": identity, "context": context, "qas": questions}], "id": identity, "title": work}


def _hide_answers(article: dict) -> None:
    """As the official test set does."""
    for question in article["paragraphs"][0]["qas"]:
        question["answers"] = [{"text": f"FAKE_ANSWER_{number}", "answer_start": -1} for number in (1, 2, 3)]


# CHID -----------------------------------------------------------------------------------------------------------------


def _idiom_files(task: Task, sizes: Sizes, seed: int) -> Iterator[tuple[str, str]]:
    tags = (f"#idiom{number:06d}#" for number in count())  # unique over all splits, as in the official files
    splits = [(task.train_files[0], sizes.train), (task.dev_files[0], sizes.dev)]
    for file, records in splits + [(test.file, sizes.test) for test in task.test_sets]:
        rng = Random(f"{seed} {task.name} {file}")
        answers: dict[str, int] = {}
        lines = [_record(rng, sizes, task.num_choices, tags, answers) for _ in range(records)]
        yield file, _json_lines(lines, final_newline=file in task.train_files)
        if file in task.answer_files:
            yield task.answer_files[file], json.dumps(answers)


#: Idioms that are candidates without being an answer: those on a theme that its passages don't mean.
_WRONG_IDIOMS = [idiom for theme in words.IDIOM_THEMES for idiom in theme[2].split()]


def _record(rng: Random, sizes: Sizes, num_candidates: int, tags: Iterator[str], answers: dict[str, int]) -> dict:
    """Passages with blanks, each of which an idiom on its theme fills; ``answers`` takes the right ones."""
    blanks = min(max(1, round(rng.gauss(sizes.blanks, 1))), num_candidates - 1)
    themes = rng.sample(words.IDIOM_THEMES, len(words.IDIOM_THEMES))
    themes = (themes * 2)[:blanks]
    chosen: list[str] = []
    for theme in themes:
        chosen.append(rng.choice([idiom for idiom in theme[1].split() if idiom not in chosen]))
    candidates = chosen + rng.sample(_WRONG_IDIOMS, num_candidates - blanks)
    rng.shuffle(candidates)
    passages: list[str] = []
    for theme, idiom in zip(themes, chosen, strict=True):
        tag = next(tags)
        answers[tag] = _noisy(rng, candidates.index(idiom), range(num_candidates))
        text = _idiom_passage(rng, theme[0].split(), tag, sizes.sentences)
        if passages and rng.random() < 0.4:
            passages[-1] += text
        else:
            passages.append(text)
    return {"content": passages, "candidates": candidates}


def _idiom_passage(rng: Random, theme: list[str], tag: str, sentences: int) -> str:
    before, after = rng.sample(theme, 2)
    person, thing = rng.choice(words.PEOPLE), rng.choice(words.THINGS)
    quoted = f"“{before}”" if rng.random() < 0.2 else before
    dash = rng.choice(("，", "，", "——", "……"))
    passage = f"{rng.choice(words.TIMES)}{person}说起{quoted}{dash}这里的{after}真算得上{tag}，{thing}都被提到了。"
    extra = [_filling(rng) for _ in range(sentences - 1)] + [passage]
    rng.shuffle(extra)
    return "".join(extra)


# C3 -------------------------------------------------------------------------------------------------------------------


def _choice_files(task: Task, sizes: Sizes, seed: int) -> Iterator[tuple[str, str]]:
    for files, rows in ((task.train_files, sizes.train), (task.dev_files, sizes.dev)):
        for index, file in enumerate(files):
            share = rows * (index + 1) // len(files) - rows * index // len(files)
            items = _choice_items(Random(f"{seed} {task.name} {file}"), share, sizes.sentences, True, 4)
            # The official train and dev files have Windows line ends.
            yield file, json.dumps(items, ensure_ascii=False, indent=1).replace("\n", "\r\n")
    for test in task.test_sets:
        most = 10 if test.version == "1.1" else 4
        items = _choice_items(Random(f"{seed} {task.name} {test.file}"), sizes.test, sizes.sentences, False, most)
        yield test.file, json.dumps(items, ensure_ascii=False, indent=2)


def _choice_items(rng: Random, questions: int, sentences: int, labelled: bool, most_options: int) -> list[list]:
    """Dialogues and passages with one or two questions each; one question in twenty has more than four options."""
    items: list[list] = []
    made = 0
    while made < questions:
        subjects = rng.sample(words.OPTION_SUBJECTS, 2)
        opening = rng.choice(words.DIALOGUE_OPENINGS)
        context = [f"男：{opening}{subjects[0]}和{subjects[1]}怎么样？", f"女：{_filling(rng, sentences)}"]
        if rng.random() < 0.5:
            context = ["".join(line[2:] for line in context)]
        asked = []
        for subject in subjects[: min(rng.choice((1, 2)), questions - made)]:
            options = rng.choice((2, 3, 4, 4, 4)) if rng.random() < 0.95 else most_options
            asked.append(_choice_question(rng, subject, options))
            if not labelled:
                del asked[-1]["answer"]
                asked[-1]["id"] = made + len(asked) - 1
        made += len(asked)
        items.append([context, asked, f"m{len(items) % 40}-{len(items)}"] if labelled else [context, asked])
    return items


def _choice_question(rng: Random, subject: str, options: int) -> dict:
    """The right option hedges, the wrong ones exaggerate."""
    wrong = [f"{other}{word}" for other in words.OPTION_SUBJECTS for word in words.EXAGGERATED]
    right = f"{subject}{rng.choice(words.HEDGED)}"
    choices = [right, *rng.sample(wrong, options - 1)]
    rng.shuffle(choices)
    question = rng.choice((f"根据对话，{subject}怎么样？", "可以知道什么？", f"关于{subject}，哪一项正确？"))
    return {"question": question, "choice": choices, "answer": _noisy(rng, right, choices)}


#: By kind of task.
_FILES: dict[str, Callable[[Task, Sizes, int], Iterator[tuple[str, str]]]] = {
    SINGLE: _text_files,
    PAIR: _text_files,
    SPAN: _span_files,
    IDIOM: _idiom_files,
    CHOICE: _choice_files,
}
