"""Made-up data sets in the official formats: deterministic, of any size, and learnable by a very small model.

They are for trying things out, for tests and for measurements where the real data sets are not at hand. Labels follow
from words in the texts (see ``lexicon.json``), apart from a few that are noise, so that a two-layer model with random
weights gets well above chance within a few hundred steps, and no model gets everything right. Scores on them say
nothing about Chinese.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from cluebench.benchmark.tasks import CHOICE, IDIOM, PAIR, SINGLE, SPAN, TASKS, Task
from cluebench.data.source import SYNTHETIC_MARK
from cluebench.foundation import atomic

LEXICON_FILE = Path(__file__).with_name("lexicon.json")
_LEXICON: dict[str, Any] = json.loads(LEXICON_FILE.read_text(encoding="utf-8"))
_WORDS: dict[str, list[str]] = {name: words.split() for name, words in _LEXICON["words"].items()}
_NEWS: dict[str, list[str]] = {label: words.split() for label, words in _LEXICON["news"].items()}
_APPS: list[list[str]] = [words.split() for words in _LEXICON["apps"]]
_HYPOTHESIS_WORDS: dict[str, list[str]] = {name: words.split() for name, words in _LEXICON["hypothesis_words"].items()}
_IDIOM_THEMES: list[list[list[str]]] = [[words.split() for words in theme] for theme in _LEXICON["idiom_themes"]]

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
    """Writes ``<folder>/<task>_public/`` with every official file of each task, with labels and all test sets.

    ``tasks`` are lower-case names; a task that ``sizes`` lacks gets its size of DEMO_SIZES, or the usual size. The same
    arguments give the same bytes. Existing files are replaced. ``<folder>/synthetic.json`` records the arguments.
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
    return "".join(sorted({letter for letter in LEXICON_FILE.read_text(encoding="utf-8") if ord(letter) > 127}))


# Sentences ------------------------------------------------------------------------------------------------------------

_SLOT = re.compile("{([A-Z_]+)}")


def _fill(rng: Random, pattern: str) -> str:
    """The pattern with a random word of the lexicon's list ``NAME`` for each ``{NAME}``."""
    return _SLOT.sub(lambda slot: rng.choice(_WORDS[slot[1]]), pattern)


def _filling(rng: Random, sentences: int = 1) -> str:
    """Sentences that do not depend on any label."""
    return _fill(rng, "{TIMES}{PEOPLE}在{PLACES}{VERBS}了{QUALITIES}{THINGS}，{CLOSINGS}。" * sentences)


def _noisy(rng: Random, label: Any, labels: Any) -> Any:
    return rng.choice(labels) if rng.random() < NOISE else label


def _each_file(task: Task, sizes: Sizes, seed: int) -> Iterator[tuple[str, str, int, Random]]:
    """(split, file, its rows, its random numbers) of every file with rows."""
    splits = [("train", task.train_files, sizes.train), ("dev", task.dev_files, sizes.dev)]
    splits += [(test.split, (test.file,), sizes.test) for test in task.test_sets]
    for split, files, rows in splits:
        for index, file in enumerate(files):
            share = rows * (index + 1) // len(files) - rows * index // len(files)
            yield split, file, share, Random(f"{seed} {task.name} {file}")


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _json_lines(rows: Iterable[dict], split: str) -> str:
    """Official train files end with a newline, the others do not."""
    return "\n".join(map(_json, rows)) + ("\n" if split == "train" else "")


# Classification -------------------------------------------------------------------------------------------------------

#: Task → split → the share of its rows on which the annotators did not agree.
_DISAGREEMENT = {"cmnli": {"dev": 0.015}, "ocnli": {"train": 0.01, "dev": 0.02}}


def _text_files(task: Task, sizes: Sizes, seed: int) -> Iterator[tuple[str, str]]:
    make, keys, test_keys = _LAYOUTS.get(task.name) or _plain_layout(task)
    for split, file, number, rng in _each_file(task, sizes, seed):
        lines, disagreement = [], _DISAGREEMENT.get(task.name, {}).get(split, 0)
        for row_number in range(number):
            row = make(rng, row_number, sizes.sentences)
            if rng.random() < disagreement:
                row["label"] = "-"
            lines.append({key: row[key] for key in (test_keys if split.startswith("test") else keys).split()})
        yield file, _json_lines(lines, split)
    if task.label_file:
        key, meanings = _MEANINGS.get(task.name, ("label_desc", task.labels))
        lines = [{"label": label, key: meaning} for label, meaning in zip(task.labels, meanings, strict=True)]
        yield task.label_file, _json_lines(lines, "")


def _paraphrase(rng: Random, number: int, sentences: int) -> dict:
    """AFQMC: two questions to a payment service; the second asks the same politely, or asks to undo something."""
    label, topic, ask = rng.choice("01"), rng.choice(_WORDS["QUESTION_TOPICS"]), rng.choice(_WORDS["QUESTION_ASKS"])
    second = _fill(rng, f"{{SAME_WORDS}}{topic}{ask}" if label == "1" else f"{topic}{{OTHER_WORDS}}后{{QUESTION_ASKS}}")
    first = f"{_filling(rng, sentences - 1)}{topic}{ask}"
    return {"id": number, "sentence1": first, "sentence2": second, "label": _noisy(rng, label, "01")}


def _news(rng: Random, number: int, sentences: int) -> dict:
    """TNEWS: a headline with words of its topic."""
    label = rng.choice(list(_NEWS))
    meaning, *topics = _NEWS[label]
    topic = rng.sample(topics, 2)
    sentence = _fill(rng, f"{{TIMES}}{{PEOPLE}}{{VERBS}}{topic[0]}和{topic[1]}的{{THINGS}}")
    sentence += f"，{_filling(rng, sentences - 1)}" if sentences > 1 else "！"
    label = _noisy(rng, label, list(_NEWS))
    keywords = ",".join(topic) if rng.random() < 0.8 else ""
    return {"id": number, "label": label, "sentence": sentence, "label_desc": _NEWS[label][0], "keywords": keywords}


def _app(rng: Random, number: int, sentences: int) -> dict:
    """IFLYTEK: what an app says of itself. Some kinds are far more frequent than others."""
    label = int(len(_APPS) * rng.random() ** 2)
    name, first, second = _APPS[label]
    text = f"这是一款{name}软件，提供{first}和{second}功能，{first}{name}就用它。{_filling(rng, sentences)}"
    label = _noisy(rng, label, range(len(_APPS)))
    return {"id": number, "label": str(label), "label_des": _APPS[label][0], "sentence": text}


def _inference(rng: Random, number: int, sentences: int) -> dict:
    """CMNLI, OCNLI: the hypothesis retells the premise with a word that shows their relation."""
    label = rng.choice(list(_HYPOTHESIS_WORDS))
    person, verb, thing, time, place = _fill(rng, "{PEOPLE} {VERBS} {THINGS} {TIMES} {PLACES}").split(" ")
    premise = f"{_filling(rng, sentences - 1)}{time}{person}在{place}{verb}了{thing}."
    hypothesis = f"{person}{rng.choice(_HYPOTHESIS_WORDS[label])}{verb}{thing}"
    label = _noisy(rng, label, list(_HYPOTHESIS_WORDS))
    about = {"level": rng.choice(("easy", "medium", "hard")), "genre": "phone", "prem_id": f"phone_{number // 3}"}
    votes = {f"label{vote}": label for vote in range(5)}
    return {"id": number, "sentence1": premise, "sentence2": hypothesis, "label": label, **votes, **about}


def _coreference(rng: Random, number: int, sentences: int) -> dict:
    """CLUEWSC2020: the pronoun stands for the marked noun if that is a person. Some texts hold nouns of both sorts."""
    is_person = rng.random() < 0.45
    noun, other = rng.choice(_WORDS["PERSONS"]), rng.choice(_WORDS["OBJECTS"])
    if not is_person:
        noun, other = other, noun
    pronoun, thing = rng.choice(_WORDS["PRONOUNS"]), rng.choice(_WORDS["THINGS"])
    clauses = [_fill(rng, "{TIMES}在{PLACES}说起{noun}")]
    if rng.random() < 0.2:
        clauses.append(_fill(rng, f"{other}就在{{PLACES}}"))
    clauses.append(_fill(rng, f"{{pronoun}}{{VERBS}}了{thing}"))
    if rng.random() < 0.2:
        clauses.reverse()
    pattern = f"{'，'.join(clauses)}。{_filling(rng, sentences - 1)}"
    filled = {"noun": noun, "pronoun": pronoun}
    first, second = (len(pattern[: pattern.index(f"{{{name}}}")].format(**filled)) for name in filled)
    target = {"span2_index": second, "span1_index": first, "span1_text": noun, "span2_text": pronoun}
    label = _noisy(rng, "true" if is_person else "false", ("true", "false"))
    return {"target": target, "idx": number, "id": number, "label": label, "text": pattern.format(**filled)}


def _abstract(rng: Random, number: int, sentences: int) -> dict:
    """CSL: either all keywords name the subject, or some are words of any abstract."""
    terms = rng.sample(_WORDS["TERMS"], 4)
    method = "本文研究{}中的{}，提出一种基于{}的方法，对{}的{{GENERAL_WORDS}}作了说明。".format(*terms)
    text = f"{_fill(rng, method)}{_filling(rng, sentences)}结果表明该方法有效。"
    label, keywords = rng.choice("01"), rng.sample(terms, 3)
    if label == "0":
        for place in rng.sample(range(3), rng.choice((1, 2))):
            keywords[place] = rng.choice(_WORDS["GENERAL_WORDS"])
    # The ids of the official test set are those of a larger collection.
    return {"id": 2415 + 7 * number, "abst": text, "keyword": keywords, "label": _noisy(rng, label, "01")}


#: The row with this number, with more keys than a file may have; the keys of train and dev; those of test sets.
_Layout = tuple[Callable[[Random, int, int], dict], str, str]
_OCNLI_KEYS = "level sentence1 sentence2 label label0 label1 label2 label3 label4 genre prem_id id"
_LAYOUTS: dict[str, _Layout] = {
    "afqmc": (_paraphrase, "sentence1 sentence2 label", "id sentence1 sentence2"),
    "tnews": (_news, "label label_desc sentence keywords", "id sentence keywords"),
    "iflytek": (_app, "label label_des sentence", "id sentence"),
    "cmnli": (_inference, "sentence1 sentence2 label", "id sentence1 sentence2"),
    "ocnli": (_inference, _OCNLI_KEYS, "sentence1 sentence2 id"),
    "cluewsc2020": (_coreference, "target idx label text", "target id text"),
    "csl": (_abstract, "id abst keyword label", "id abst keyword"),
}
#: Task → the second key of its labels.json, and what each label means.
_MEANINGS = {"tnews": ("label_desc", [words[0] for words in _NEWS.values()]),
             "iflytek": ("label_des", [words[0] for words in _APPS])}  # fmt: skip


def _plain_layout(task: Task) -> _Layout:
    """The layout of any other task: each text begins with a term that stands for the label."""

    def make(rng: Random, number: int, sentences: int) -> dict:
        label, terms = rng.randrange(len(task.labels)), _WORDS["TERMS"]
        term = terms[label % len(terms)] + terms[label // len(terms)]
        texts: dict[str, Any] = {name: f"{term}，{_filling(rng, sentences)}" for name in task.text_fields}
        if task.joined_field:
            texts[task.joined_field] = [term, rng.choice(_WORDS["THINGS"])]
        return {"id": number, "label": _noisy(rng, task.labels[label], task.labels), **texts}

    fields = " ".join(task.text_fields)
    return make, f"{fields} label", f"id {fields}"


# CMRC2018 -------------------------------------------------------------------------------------------------------------


def _span_files(task: Task, sizes: Sizes, seed: int) -> Iterator[tuple[str, str]]:
    trial = ("trial", "trial.json", sizes.test, Random(f"{seed} {task.name} trial.json"))
    for split, file, questions, rng in (*_each_file(task, sizes, seed), trial):
        articles: list[dict] = []
        while questions:
            identity = f"{Path(file).stem.upper()}_{len(articles)}"
            article = _article(rng, identity, sizes.sentences, questions, split)
            questions -= len(article["paragraphs"][0]["qas"])
            articles.append(article)
        yield file, _json({"version": "v1.0", "data": articles}, indent=2)


def _article(rng: Random, identity: str, sentences: int, most_questions: int, split: str) -> dict:
    """A paragraph that states one to three facts about a work among other sentences, with a question for each."""
    work, year = rng.choice(_WORDS["WORKS"]), f"{rng.randrange(1900, 2020)}年"
    author = rng.choice(_WORDS["SURNAMES"]) + "".join(rng.sample(_WORDS["GIVEN_NAMES"], rng.choice((1, 2))))
    facts = [
        (_fill(rng, f"《{work}》是{author}创作的{{GENRES}}。"), author, f"《{work}》的作者是谁？"),
        (f"这部作品完成于{year}。", year, "这部作品是哪一年完成的？"),
        (f"故事发生在{(town := rng.choice(_WORDS['TOWNS']))}。", town, "故事发生在哪里？"),
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
        right = {"text": answer, "answer_start": context.index(text) + text.index(answer)}
        answers = [right] * (3 if split == "dev" else 1)
        if split.startswith("test"):  # as in the official test set
            answers = [{"text": f"FAKE_ANSWER_{number}", "answer_start": -1} for number in (1, 2, 3)]
        questions.append({"question": question, "id": f"{identity}_QUERY_{number}", "answers": answers})
    return {"paragraphs": [{"id": identity, "context": context, "qas": questions}], "id": identity, "title": work}


# CHID -----------------------------------------------------------------------------------------------------------------


def _idiom_files(task: Task, sizes: Sizes, seed: int) -> Iterator[tuple[str, str]]:
    tags = (f"#idiom{number:06d}#" for number in count())  # unique over all splits, as in the official files
    for split, file, records, rng in _each_file(task, sizes, seed):
        answers: dict[str, int] = {}
        lines = [_record(rng, sizes, task.num_choices, tags, answers) for _ in range(records)]
        yield file, _json_lines(lines, split)
        if file in task.answer_files:
            yield task.answer_files[file], json.dumps(answers)


#: Candidates that are no answer: idioms on a theme that its passages don't mean.
_WRONG_IDIOMS = [idiom for theme in _IDIOM_THEMES for idiom in theme[2]]


def _record(rng: Random, sizes: Sizes, num_candidates: int, tags: Iterator[str], answers: dict[str, int]) -> dict:
    """Passages with blanks; an idiom on its theme fills each. The right idioms are added to ``answers``."""
    blanks = min(max(1, round(rng.gauss(sizes.blanks, 1))), num_candidates - 1)
    themes = (rng.sample(_IDIOM_THEMES, len(_IDIOM_THEMES)) * 2)[:blanks]
    chosen: list[str] = []
    for theme in themes:
        chosen.append(rng.choice([idiom for idiom in theme[1] if idiom not in chosen]))
    candidates = chosen + rng.sample(_WRONG_IDIOMS, num_candidates - blanks)
    rng.shuffle(candidates)
    passages: list[str] = []
    for theme, idiom in zip(themes, chosen, strict=True):
        tag = next(tags)
        answers[tag] = _noisy(rng, candidates.index(idiom), range(num_candidates))
        text = _idiom_passage(rng, theme[0], tag, sizes.sentences)
        if passages and rng.random() < 0.4:
            passages[-1] += text
        else:
            passages.append(text)
    return {"content": passages, "candidates": candidates}


def _idiom_passage(rng: Random, theme: list[str], tag: str, sentences: int) -> str:
    before, after = rng.sample(theme, 2)
    person, thing = rng.choice(_WORDS["PEOPLE"]), rng.choice(_WORDS["THINGS"])
    quoted = f"“{before}”" if rng.random() < 0.2 else before
    dash = rng.choice(("，", "，", "——", "……"))
    passage = _fill(rng, f"{{TIMES}}{person}说起{quoted}{dash}这里的{after}真算得上{tag}，{thing}都被提到了。")
    parts = [_filling(rng) for _ in range(sentences - 1)] + [passage]
    rng.shuffle(parts)
    return "".join(parts)


# C3 -------------------------------------------------------------------------------------------------------------------


def _choice_files(task: Task, sizes: Sizes, seed: int) -> Iterator[tuple[str, str]]:
    for split, file, questions, rng in _each_file(task, sizes, seed):
        is_test = split.startswith("test")
        items = _choice_items(rng, questions, sizes.sentences, is_test, 10 if split == "test1.1" else 4)
        # The official train and dev files have Windows line ends.
        yield file, _json(items, indent=2) if is_test else _json(items, indent=1).replace("\n", "\r\n")


def _choice_items(rng: Random, questions: int, sentences: int, is_test: bool, most_options: int) -> list[list]:
    """Dialogues and passages with one or two questions each; one question in twenty has more than four options."""
    items: list[list] = []
    made = 0
    while made < questions:
        subjects = rng.sample(_WORDS["OPTION_SUBJECTS"], 2)
        context = [
            _fill(rng, f"男：{{DIALOGUE_OPENINGS}}{subjects[0]}和{subjects[1]}怎么样？"),
            f"女：{_filling(rng, sentences)}",
        ]
        if rng.random() < 0.5:
            context = ["".join(line[2:] for line in context)]
        asked: list[dict] = []
        for subject in subjects[: min(rng.choice((1, 2)), questions - made)]:
            options = rng.choice((2, 3, 4, 4, 4)) if rng.random() < 0.95 else most_options
            question = _choice_question(rng, subject, options)
            if is_test:
                del question["answer"]
                question["id"] = made + len(asked)
            asked.append(question)
        made += len(asked)
        items.append([context, asked] if is_test else [context, asked, f"m{len(items) % 40}-{len(items)}"])
    return items


def _choice_question(rng: Random, subject: str, options: int) -> dict:
    """The right option hedges, the wrong ones exaggerate."""
    wrong = [f"{other}{word}" for other in _WORDS["OPTION_SUBJECTS"] for word in _WORDS["EXAGGERATED"]]
    right = f"{subject}{rng.choice(_WORDS['HEDGED'])}"
    choices = [right, *rng.sample(wrong, options - 1)]
    rng.shuffle(choices)
    question = rng.choice((f"根据对话，{subject}怎么样？", "可以知道什么？", f"关于{subject}，哪一项正确？"))
    return {"question": question, "choice": choices, "answer": _noisy(rng, right, choices)}


#: By kind of task.
_FILES: dict[str, Callable[[Task, Sizes, int], Iterator[tuple[str, str]]]] = {
    SINGLE: _text_files, PAIR: _text_files, SPAN: _span_files, IDIOM: _idiom_files, CHOICE: _choice_files
}  # fmt: skip
