"""A model's run directory as one HTML file: scores, dev curves, trials, failures. No scripts, no external assets."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from cluebench import atomic
from cluebench.grid_file import GridFile, PlannedTrial, read_grid
from cluebench.published import ATTRIBUTION, PublishedModel, published_model
from cluebench.report import evidence, scores
from cluebench.report.evidence import Evidence
from cluebench.report.markup import Markup, fill, joined
from cluebench.report.scores import Best, FinishedTrial
from cluebench.statistics.budget import expected_best
from cluebench.tasks import TASKS, Task

#: Points of a curve that are drawn: more can't be told apart at this size.
_CURVE_POINTS = 120
#: Numbers of trials of which the best score to expect is shown.
_BUDGETS = (1, 2, 4, 8, 16, 32)
_CHART = {"width": 340, "height": 190, "left": 40, "right": 8, "top": 10, "bottom": 24}

_STYLE = Markup("""
:root { --ink: #1c2128; --dim: #656d76; --line: #d8dee4; --paper: #ffffff; --band: #f6f8fa; --accent: #0b5cad;
        --faint: #9db2c8; --bad: #b42318; --good: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9198a1; --line: #30363d; --paper: #0d1117;
        --band: #161b22; --accent: #6cb2ff; --faint: #3d5a78; --bad: #ff8a7a; --good: #57c06d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 28px 20px 60px; color: var(--ink); background: var(--paper);
       font: 15px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; overflow-wrap: anywhere; } h2 { font-size: 18px; margin: 36px 0 10px; }
p { margin: 4px 0; } .dim { color: var(--dim); } .bad { color: var(--bad); } .good { color: var(--good); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--dim); font-weight: 500; font-size: 13px; }
td.number, th.number { text-align: right; padding-right: 24px; }
td.wide { white-space: normal; min-width: 260px; overflow-wrap: anywhere; } tr.best td { font-weight: 600; }
details { margin: 6px 0; } summary { cursor: pointer; padding: 4px 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 18px; }
figure { margin: 0; } figcaption { font-size: 14px; } svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11px; fill: var(--dim); } .axis { stroke: var(--line); }
.curve { fill: none; stroke: var(--faint); stroke-width: 1; } .curve.best { stroke: var(--accent); stroke-width: 2; }
.counts span { margin-right: 18px; }
""")
_NONE = Markup()


#: In a run directory.
REPORT_FILE = "report.html"


def write_report(folder: Path) -> None:
    """Writes ``<folder>/report.html`` from grid.json and the results beside it. Raises OSError when it can't."""
    atomic.write_text(folder / REPORT_FILE, report(folder))


def report(folder: Path) -> str:
    """The page."""
    grid = read_grid(folder)
    model = grid.model if grid else folder.name
    trials = scores.finished_trials(folder)
    bests = scores.best_settings(trials)
    return fill(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>CLUE grid: {}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<style>{}</style></head>\n<body>\n{}\n<h2>Best scores</h2>\n{}\n{}\n{}\n{}\n{}\n</body></html>\n",
        Path(model).name,
        _STYLE,
        _head(model, grid),
        _best_table(bests, scores.edges(trials, bests), evidence.of_run(trials)[0], published_model(model)),
        _luck({name: scores.of_whole_grid(of_task) for name, of_task in trials.items()}),
        _failures(grid),
        _charts(trials, bests),
        _all_trials(trials, bests, grid),
    )


def _head(model: str, grid: GridFile | None) -> Markup:
    words = [grid.status, grid.updated] if grid else ["no grid.json"]
    words += [f"model in {model}"] if "/" in model else []
    counts = grid.counts.items() if grid else ()
    return fill(
        '<h1>{}</h1><p class="dim">CLUE grid search, {}</p><p class="counts">{}</p>',
        Path(model).name,
        ", ".join(filter(None, words)),
        [fill("<span>{} {}</span>", count, state) for state, count in counts if count],
    )


def _cells(values: Iterable[object], kind: str = "") -> Markup:
    """Cells of a row; ``kind``: their class."""
    template = '<td class="{}">{}</td>' if kind else "{}<td>{}</td>"
    return joined(fill(template, kind, value) for value in values)


def _row(cells: Markup, kind: str = "") -> Markup:
    return fill('<tr class="{}">{}</tr>', kind, cells) if kind else fill("<tr>{}</tr>", cells)


def _table(columns: Sequence[str], rows: Iterable[Markup], numbers: Container[str] = ()) -> Markup:
    """``rows`` are whole ``<tr>`` elements; the columns named in ``numbers`` have their heads set right."""
    heads = [fill("<th class=number>{}</th>" if name in numbers else "<th>{}</th>", name) for name in columns]
    return fill(
        '<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>', heads, list(rows)
    )


def _best_table(
    bests: Mapping[str, Best],
    edges: Mapping[tuple[str, str], str],
    known: Mapping[str, Evidence],
    published: PublishedModel | None,
) -> Markup:
    numbers = ["best dev score", "standard error", *(["published", "difference"] if published else [])]
    rows = [_best_row(task, bests.get(task.name), edges, known.get(task.name), published) for task in TASKS.values()]
    mean = scores.average(bests)
    error = evidence.error_of_avg(known)
    average: list[object] = ["-" if mean is None else f"{mean:.2f}", "-" if error is None else f"±{error:.2f}"]
    if published:
        average += [published.average, "-" if mean is None else _signed(mean - float(published.average))]
    rows.append(_row(_cells(["AVG"]) + _cells(average, "number") + _cells([""] * 3), "best"))
    note = fill('<p class="dim">Published scores: {}.</p>', ATTRIBUTION) if published else _NONE
    return _table(["task", *numbers, "learning rate", "batch size", "dropout"], rows, numbers) + note


def _signed(value: float) -> Markup:
    rounded = round(value, 2) + 0.0
    return fill('<span class="{}">{}</span>', "good" if rounded >= 0 else "bad", f"{rounded:+.2f}")


def _best_row(
    task: Task,
    best: Best | None,
    edges: Mapping[tuple[str, str], str],
    known: Evidence | None,
    published: PublishedModel | None,
) -> Markup:
    scored: list[object] = [best.text(task) if best else "-"]
    scored += ["/".join(f"±{error:.2f}" for error in known.error) if known else "-"]
    if published:
        theirs = published.score(task)
        scored.append(task.format_score(theirs) if theirs else "-")
        scored.append(_signed(best.score[0] - theirs[0]) if best and theirs else "-")
    settings = []
    for axis in ("learning_rate", "batch_size", "dropout"):
        edge = edges.get((task.name, axis))
        note = fill(' <span class="dim">the {} tried</span>', edge) if edge else _NONE
        settings.append(fill("{}{}", getattr(best.setting, axis) if best else "-", note))
    return _row(_cells([task.title]) + _cells(scored, "number") + _cells(settings))


# Luck -----------------------------------------------------------------------------------------------------------------


def _luck(trials: Mapping[str, Sequence[FinishedTrial]]) -> Markup:
    """What selection adds to the best scores, and what smaller searches would have found."""
    rows = [_luck_row(task, trials[name]) for name, task in TASKS.items() if len(trials.get(name, ())) > 1]
    if not rows:
        return _NONE
    numbers = ["trials", "lead", "of it by selection", *(f"best of {budget}" for budget in _BUDGETS)]
    note = (
        "Lead: of the best trial over the average one. By selection: the part that does not show on dev rows the trial "
        "was not chosen on (chosen on one half, scored on the other, 200 splits); that each trial's checkpoint was "
        "chosen on dev too is not in it. Best of n: the best score to expect of n of these trials."
    )
    curves = [_budget_chart(task, trials[name]) for name, task in TASKS.items() if len(trials.get(name, ())) > 2]
    table = _table(["task", *numbers], rows, numbers)
    return fill('<h2>Luck</h2>{}<p class="dim">{}</p><div class="charts">{}</div>', table, note, curves)


def _luck_row(task: Task, trials: Sequence[FinishedTrial]) -> Markup:
    found = evidence.selection_of(trials)
    curve = expected_best([trial.score[0] for trial in trials])
    cells = [str(len(trials)), *([f"{found.lead:.2f}", f"{found.by_selection:.2f}"] if found else ["-", "-"])]
    cells += [f"{curve[budget - 1]:.2f}" if budget <= len(curve) else "-" for budget in _BUDGETS]
    return _row(_cells([task.title]) + _cells(cells, "number"))


def _budget_chart(task: Task, trials: Sequence[FinishedTrial]) -> Markup:
    expected = expected_best([trial.score[0] for trial in trials])
    low, high = _widened(expected[0], expected[-1])
    places = [_position(number, value, len(expected), low, high) for number, value in enumerate(expected, start=1)]
    path = " ".join(f"{x},{y}" for x, y in places)
    return _figure(
        fill("{} <span class=dim>best score to expect of n trials</span>", task.title),
        f"best score of {task.title} to expect of n trials",
        _axes(len(expected), low, high, "trials") + fill('<polyline class="curve best" points="{}"/>', path),
    )


def _widened(low: float, high: float) -> tuple[float, float]:
    """The range of an axis: at least a point."""
    return (low, high) if high - low >= 1 else (low - 0.5, high + 0.5)


def _figure(caption: Markup, label: str, drawing: Markup) -> Markup:
    return fill(
        '<figure><figcaption>{}</figcaption><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg></figure>',
        caption,
        _CHART["width"],
        _CHART["height"],
        label,
        drawing,
    )


# Failures -------------------------------------------------------------------------------------------------------------


def _failures(grid: GridFile | None) -> Markup:
    rows = []
    for trial in grid.trials if grid else ():
        for number, failure in enumerate(trial.failures, start=1):
            state = trial.state if number == len(trial.failures) else "tried again"
            then = _cells([state], "bad" if state == "failed" else "")
            said = _cells([failure.detail], "wide")
            rows.append(_row(_cells([trial.task, trial.name, number, failure.kind]) + then + said))
    columns = ["task", "trial", "failure", "kind", "then", "what was said"]
    return fill("<h2>Failures</h2>{}", _table(columns, rows)) if rows else _NONE


# Curves ---------------------------------------------------------------------------------------------------------------


def _charts(trials: Mapping[str, Sequence[FinishedTrial]], bests: Mapping[str, Best]) -> Markup:
    figures = [_chart(task, trials[name], bests[name]) for name, task in TASKS.items() if name in bests]
    if not any(figures):
        return _NONE
    return fill('<h2>Dev scores over the optimizer steps</h2><div class="charts">{}</div>', figures)


def _chart(task: Task, trials: Sequence[FinishedTrial], best: Best) -> Markup:
    curves = []
    for trial in trials:
        points = [(point.step, point.score[0]) for point in trial.result.dev_curve] if trial.result else []
        if len(points) > 1:
            curves.append((trial, points))
    if not curves:
        return _NONE
    # The best one last, so that it lies above the others.
    curves.sort(key=lambda pair: pair[0].setting == best.setting)
    last_step = max(step for _, points in curves for step, _ in points)
    values = [value for _, points in curves for _, value in points]
    low, high = _widened(min(values), max(values))
    lines = [_curve(trial, points, trial.setting == best.setting, last_step, low, high) for trial, points in curves]
    count = "1 trial" if len(curves) == 1 else f"{len(curves)} trials"
    return _figure(
        fill("{} <span class=dim>{}, best {}</span>", task.title, count, best.text(task)),
        f"dev scores of {task.title}",
        _axes(last_step, low, high, "steps") + joined(lines),
    )


def _position(step: float, value: float, last_step: int, low: float, high: float) -> tuple[float, float]:
    inner_width = _CHART["width"] - _CHART["left"] - _CHART["right"]
    inner_height = _CHART["height"] - _CHART["top"] - _CHART["bottom"]
    x = _CHART["left"] + inner_width * step / max(1, last_step)
    y = _CHART["top"] + inner_height * (high - value) / (high - low)
    return round(x, 1), round(y, 1)


def _curve(
    trial: FinishedTrial, points: Sequence[tuple[int, float]], is_best: bool, last_step: int, low: float, high: float
) -> Markup:
    stride = max(1, -(-len(points) // _CURVE_POINTS))
    shown = [*points[:-1:stride], points[-1]]
    placed = [_position(step, value, last_step, low, high) for step, value in shown]
    setting = trial.setting
    return fill(
        '<polyline class="{}" points="{}"><title>{}</title></polyline>',
        "curve best" if is_best else "curve",
        " ".join(f"{x},{y}" for x, y in placed),
        f"{setting.learning_rate}, {setting.batch_size}, {setting.dropout}, seed {trial.seed}: {trial.score[0]:.2f}",
    )


def _axes(last_step: int, low: float, high: float, unit: str) -> Markup:
    left, bottom = _CHART["left"], _CHART["height"] - _CHART["bottom"]
    right = _CHART["width"] - _CHART["right"]
    parts = []
    for value in (low, (low + high) / 2, high):
        _, y = _position(0, value, last_step, low, high)
        parts.append(fill('<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/>', left, y, right, y))
        parts.append(fill('<text x="{}" y="{}" text-anchor="end">{}</text>', left - 5, y + 4, f"{value:.1f}"))
    parts.append(fill('<text x="{}" y="{}">0</text>', left, bottom + 16))
    parts.append(fill('<text x="{}" y="{}" text-anchor="end">{} {}</text>', right, bottom + 16, last_step, unit))
    return joined(parts)


# All trials -----------------------------------------------------------------------------------------------------------

_COLUMNS = ["lr", "batch", "dropout", "seed", "state", "best step", "train", "eval", "peak", "on", "dev score"]


def _all_trials(
    trials: Mapping[str, Sequence[FinishedTrial]], bests: Mapping[str, Best], grid: GridFile | None
) -> Markup:
    parts = []
    for name, task in TASKS.items():
        found = sorted(trials.get(name, ()), key=lambda trial: scores.rank(trial.score, trial.setting), reverse=True)
        rest = [trial for trial in (grid.trials if grid else ()) if trial.task == name and trial.state != "done"]
        if found or rest:
            best = bests.get(name)
            rows = [_trial_row(trial, best is not None and trial.setting == best.setting) for trial in found]
            rows += [_pending_row(trial) for trial in rest]
            parts.append(
                fill(
                    "<details><summary>{} <span class=dim>{} done{}</span></summary>{}</details>",
                    task.title,
                    len(found),
                    f", {len(rest)} not" if rest else "",
                    _table(_COLUMNS, rows, ["dev score"]),
                )
            )
    return fill("<h2>All trials</h2>{}", parts) if parts else _NONE


def _trial_row(trial: FinishedTrial, is_best: bool) -> Markup:
    setting, result, task = trial.setting, trial.result, TASKS[trial.task]
    cells: list[object] = [setting.learning_rate, setting.batch_size, setting.dropout, trial.seed, "done"]
    if result is None:
        cells += ["-", "-", "-", "-", "log only"]
    else:
        peak = f"{result.peak_memory_bytes / 2**30:.1f} GiB" if result.peak_memory_bytes else "-"
        where = f"{result.cards} cards" if result.cards > 1 else result.device
        cells += [
            f"{result.best_step}/{result.total_steps}",
            f"{result.train_seconds:.0f} s",
            f"{result.eval_seconds:.0f} s",
            peak,
            f"{where}, accumulation {result.accumulation_steps}" if result.accumulation_steps > 1 else where,
        ]
    return _row(_cells(cells) + _cells([task.format_score(trial.score)], "number"), "best" if is_best else "")


def _pending_row(trial: PlannedTrial) -> Markup:
    known = [trial.learning_rate, trial.batch_size, trial.dropout, trial.seed, trial.state]
    return _row(_cells([*known, *"-----"]) + _cells(["-"], "number"), "dim")
