"""A model's run directory as one HTML file: scores, dev curves, trials, failures. No scripts, no external assets."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from cluebench import atomic
from cluebench.published import ATTRIBUTION, PublishedModel, published_model
from cluebench.report import evidence, scores
from cluebench.report.evidence import Evidence
from cluebench.report.scores import Best, FinishedTrial
from cluebench.runlog import read_grid
from cluebench.statistics.budget import expected_best
from cluebench.statistics.uncertainty import error_of_average
from cluebench.tasks import TASKS, Task

#: Points of a curve that are drawn: more can't be told apart at this size.
_CURVE_POINTS = 120
#: Numbers of trials of which the best score to expect is shown.
_BUDGETS = (1, 2, 4, 8, 16, 32)
_CHART = {"width": 340, "height": 190, "left": 40, "right": 8, "top": 10, "bottom": 24}

_STYLE = """
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
"""


def write_report(folder: Path) -> None:
    """Writes ``<folder>/report.html`` from grid.json and the results beside it. Raises OSError when it can't."""
    atomic.write_text(folder / "report.html", report(folder))


def report(folder: Path) -> str:
    """The page."""
    grid = read_grid(folder)
    model = str(grid.get("model") or folder.name)
    trials = scores.finished_trials(folder)
    bests = scores.best_settings(trials)
    published = published_model(model)
    body = [
        _head(model, grid),
        "<h2>Best scores</h2>",
        _best_table(bests, scores.edges(trials, bests), evidence.of_run(trials)[0], published),
        _luck({name: scores.of_whole_grid(of_task) for name, of_task in trials.items()}),
        _failures(grid),
        _charts(trials, bests),
        _all_trials(trials, bests, grid),
    ]
    title = escape(Path(model).name)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>CLUE grid: {title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(filter(None, body)) + "\n</body></html>\n"
    )


def _head(model: str, grid: Mapping) -> str:
    counts: Mapping[str, int] = grid.get("counts", {})
    shown = "".join(f"<span>{count} {escape(state)}</span>" for state, count in counts.items() if count)
    status = escape(str(grid.get("status", "no grid.json")))
    updated = escape(str(grid.get("updated", "")))
    return (
        f"<h1>{escape(Path(model).name)}</h1>"
        f'<p class="dim">CLUE grid search, {status}{", " + updated if updated else ""}'
        f"{', model in ' + escape(model) if '/' in model else ''}</p>"
        f'<p class="counts">{shown}</p>'
    )


def _table(columns: Sequence[str], rows: Iterable[str], numbers: Container[str] = ()) -> str:
    """``rows`` are whole ``<tr>`` elements; the columns named in ``numbers`` have their heads set right."""
    heads = "".join(f"<th{' class=number' if name in numbers else ''}>{escape(name)}</th>" for name in columns)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _best_table(
    bests: Mapping[str, Best],
    edges: Mapping[tuple[str, str], str],
    known: Mapping[str, Evidence],
    published: PublishedModel | None,
) -> str:
    numbers = ["best dev score", "standard error", *(["published", "difference"] if published else [])]
    rows = [_best_row(task, bests.get(task.name), edges, known.get(task.name), published) for task in TASKS.values()]
    mean = scores.average(bests)
    error = error_of_average([one.error[0] for one in known.values()]) if len(known) == len(TASKS) else None
    average = ["AVG", "-" if mean is None else f"{mean:.2f}", "-" if error is None else f"±{error:.2f}"]
    if published:
        average += [published.average, "-" if mean is None else _signed(mean - float(published.average))]
    cells = "".join(f"<td{' class=number' if index else ''}>{cell}</td>" for index, cell in enumerate(average))
    rows.append(f'<tr class="best">{cells}<td></td><td></td><td></td></tr>')
    note = f'<p class="dim">Published scores: {escape(ATTRIBUTION)}.</p>' if published else ""
    return _table(["task", *numbers, "learning rate", "batch size", "dropout"], rows, numbers) + note


def _signed(value: float) -> str:
    rounded = round(value, 2) + 0.0
    return f'<span class="{"good" if rounded >= 0 else "bad"}">{rounded:+.2f}</span>'


def _best_row(
    task: Task,
    best: Best | None,
    edges: Mapping[tuple[str, str], str],
    known: Evidence | None,
    published: PublishedModel | None,
) -> str:
    scored = [escape(best.text(task)) if best else "-"]
    scored += ["/".join(f"±{error:.2f}" for error in known.error) if known else "-"]
    if published:
        theirs = published.score(task)
        scored.append(task.format_score(theirs) if theirs else "-")
        scored.append(_signed(best.score[0] - theirs[0]) if best and theirs else "-")
    row = f"<td>{task.title}</td>" + "".join(f'<td class="number">{cell}</td>' for cell in scored)
    for axis in ("learning_rate", "batch_size", "dropout"):
        edge = edges.get((task.name, axis))
        note = f' <span class="dim">the {edge} tried</span>' if edge else ""
        row += f"<td>{getattr(best.setting, axis) if best else '-'}{note}</td>"
    return f"<tr>{row}</tr>"


# Luck -----------------------------------------------------------------------------------------------------------------


def _luck(trials: Mapping[str, Sequence[FinishedTrial]]) -> str:
    """What selection adds to the best scores, and what smaller searches would have found."""
    rows = [_luck_row(task, trials[name]) for name, task in TASKS.items() if len(trials.get(name, ())) > 1]
    if not rows:
        return ""
    numbers = ["trials", "lead", "of it by selection", *(f"best of {budget}" for budget in _BUDGETS)]
    note = (
        "Lead: of the best trial over the average one. By selection: the part that does not show on dev rows the trial "
        "was not chosen on (chosen on one half, scored on the other, 200 splits); that each trial's checkpoint was "
        "chosen on dev too is not in it. Best of n: the best score to expect of n of these trials."
    )
    curves = "".join(_budget_chart(task, trials[name]) for name, task in TASKS.items() if len(trials.get(name, ())) > 2)
    return (
        f'<h2>Luck</h2>{_table(["task", *numbers], rows, numbers)}<p class="dim">{note}</p>'
        f'<div class="charts">{curves}</div>'
    )


def _luck_row(task: Task, trials: Sequence[FinishedTrial]) -> str:
    found = evidence.selection_of(trials)
    curve = expected_best([trial.score[0] for trial in trials])
    cells = [str(len(trials)), *([f"{found.lead:.2f}", f"{found.by_selection:.2f}"] if found else ["-", "-"])]
    cells += [f"{curve[budget - 1]:.2f}" if budget <= len(curve) else "-" for budget in _BUDGETS]
    return f"<tr><td>{task.title}</td>" + "".join(f'<td class="number">{cell}</td>' for cell in cells) + "</tr>"


def _budget_chart(task: Task, trials: Sequence[FinishedTrial]) -> str:
    expected = expected_best([trial.score[0] for trial in trials])
    low, high = _widened(expected[0], expected[-1])
    places = [_position(number, value, len(expected), low, high) for number, value in enumerate(expected, start=1)]
    path = " ".join(f"{x},{y}" for x, y in places)
    axes = _axes(len(expected), low, high, "trials")
    return _figure(
        f"{task.title} <span class=dim>best score to expect of n trials</span>",
        f"best score of {task.title} to expect of n trials",
        f'{axes}<polyline class="curve best" points="{path}"/>',
    )


def _widened(low: float, high: float) -> tuple[float, float]:
    """The range of an axis: at least a point."""
    return (low, high) if high - low >= 1 else (low - 0.5, high + 0.5)


def _figure(caption: str, label: str, drawing: str) -> str:
    return (
        f'<figure><figcaption>{caption}</figcaption><svg viewBox="0 0 {_CHART["width"]} {_CHART["height"]}" role="img" '
        f'aria-label="{label}">{drawing}</svg></figure>'
    )


# Failures -------------------------------------------------------------------------------------------------------------


def _failures(grid: Mapping) -> str:
    failed = [trial for trial in grid.get("trials", ()) if trial.get("failures")]
    if not failed:
        return ""
    rows = []
    for trial in failed:
        for number, failure in enumerate(trial["failures"], start=1):
            state = trial["state"] if number == len(trial["failures"]) else "tried again"
            mark = ' class="bad"' if state == "failed" else ""
            rows.append(
                f"<tr><td>{escape(trial['task'])}</td><td>{escape(trial['name'])}</td><td>{number}</td>"
                f"<td>{escape(failure['kind'])}</td><td{mark}>{escape(state)}</td>"
                f'<td class="wide">{escape(failure["detail"])}</td></tr>'
            )
    return "<h2>Failures</h2>" + _table(["task", "trial", "failure", "kind", "then", "what was said"], rows)


# Curves ---------------------------------------------------------------------------------------------------------------


def _charts(trials: Mapping[str, Sequence[FinishedTrial]], bests: Mapping[str, Best]) -> str:
    figures = [_chart(task, trials[name], bests[name]) for name, task in TASKS.items() if name in bests]
    figures = [figure for figure in figures if figure]
    if not figures:
        return ""
    return '<h2>Dev scores over the optimizer steps</h2><div class="charts">' + "".join(figures) + "</div>"


def _chart(task: Task, trials: Sequence[FinishedTrial], best: Best) -> str:
    curves = []
    for trial in trials:
        points = [(point.step, point.score[0]) for point in trial.result.dev_curve] if trial.result else []
        if len(points) > 1:
            curves.append((trial, points))
    if not curves:
        return ""
    # The best one last, so that it lies above the others.
    curves.sort(key=lambda pair: pair[0].setting == best.setting)
    last_step = max(step for _, points in curves for step, _ in points)
    values = [value for _, points in curves for _, value in points]
    low, high = _widened(min(values), max(values))
    lines = "".join(
        _curve(trial, points, trial.setting == best.setting, last_step, low, high) for trial, points in curves
    )
    count = "1 trial" if len(curves) == 1 else f"{len(curves)} trials"
    return _figure(
        f"{task.title} <span class=dim>{count}, best {escape(best.text(task))}</span>",
        f"dev scores of {task.title}",
        _axes(last_step, low, high, "steps") + lines,
    )


def _position(step: float, value: float, last_step: int, low: float, high: float) -> tuple[float, float]:
    inner_width = _CHART["width"] - _CHART["left"] - _CHART["right"]
    inner_height = _CHART["height"] - _CHART["top"] - _CHART["bottom"]
    x = _CHART["left"] + inner_width * step / max(1, last_step)
    y = _CHART["top"] + inner_height * (high - value) / (high - low)
    return round(x, 1), round(y, 1)


def _curve(
    trial: FinishedTrial, points: Sequence[tuple[int, float]], is_best: bool, last_step: int, low: float, high: float
) -> str:
    stride = max(1, -(-len(points) // _CURVE_POINTS))
    shown = [*points[:-1:stride], points[-1]]
    placed = [_position(step, value, last_step, low, high) for step, value in shown]
    setting = trial.setting
    name = f"{setting.learning_rate}, {setting.batch_size}, {setting.dropout}, seed {trial.seed}: {trial.score[0]:.2f}"
    kind = "curve best" if is_best else "curve"
    path = " ".join(f"{x},{y}" for x, y in placed)
    return f'<polyline class="{kind}" points="{path}"><title>{escape(name)}</title></polyline>'


def _axes(last_step: int, low: float, high: float, unit: str) -> str:
    left, bottom = _CHART["left"], _CHART["height"] - _CHART["bottom"]
    right = _CHART["width"] - _CHART["right"]
    parts = []
    for value in (low, (low + high) / 2, high):
        _, y = _position(0, value, last_step, low, high)
        parts.append(f'<line class="axis" x1="{left}" y1="{y}" x2="{right}" y2="{y}"/>')
        parts.append(f'<text x="{left - 5}" y="{y + 4}" text-anchor="end">{value:.1f}</text>')
    parts.append(f'<text x="{left}" y="{bottom + 16}">0</text>')
    parts.append(f'<text x="{right}" y="{bottom + 16}" text-anchor="end">{last_step} {unit}</text>')
    return "".join(parts)


# All trials -----------------------------------------------------------------------------------------------------------


def _all_trials(trials: Mapping[str, Sequence[FinishedTrial]], bests: Mapping[str, Best], grid: Mapping) -> str:
    pending: dict[str, list[Mapping]] = {}
    for trial in grid.get("trials", ()):
        if trial["state"] != "done":
            pending.setdefault(trial["task"], []).append(trial)
    parts = ["<h2>All trials</h2>"]
    for name, task in TASKS.items():
        found = sorted(trials.get(name, ()), key=lambda trial: scores.rank(trial.score, trial.setting), reverse=True)
        rest = pending.get(name, [])
        if found or rest:
            best = bests.get(name)
            rows = [_trial_row(trial, best is not None and trial.setting == best.setting) for trial in found]
            rows += [_pending_row(trial) for trial in rest]
            columns = [
                "lr",
                "batch",
                "dropout",
                "seed",
                "state",
                "best step",
                "train",
                "eval",
                "peak",
                "on",
                "dev score",
            ]
            summary = f"{task.title} <span class=dim>{len(found)} done{f', {len(rest)} not' if rest else ''}</span>"
            parts.append(f"<details><summary>{summary}</summary>{_table(columns, rows, ['dev score'])}</details>")
    return "".join(parts) if len(parts) > 1 else ""


def _trial_row(trial: FinishedTrial, is_best: bool) -> str:
    setting, result, task = trial.setting, trial.result, TASKS[trial.task]
    cells = [setting.learning_rate, setting.batch_size, setting.dropout, trial.seed, "done"]
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
    row = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
    score = task.format_score(trial.score)
    return f'<tr{" class=best" if is_best else ""}>{row}<td class="number">{score}</td></tr>'


def _pending_row(trial: Mapping) -> str:
    cells = [trial["learning_rate"], trial["batch_size"], trial["dropout"], trial["seed"], trial["state"]]
    row = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
    return f'<tr class="dim">{row}{"<td>-</td>" * 5}<td class="number">-</td></tr>'
