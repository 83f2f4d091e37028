"""Fine-tunes models over the CLUE tasks and their hyper-parameter grids, and ends in the table of best scores.

    python grid_search.py ernie-3.0-base-zh

Runs as many trials at once as there are devices, longest first. Stop it at any time: the same command goes on, and runs
nothing again that has finished. --dry_run shows the plan, --status where a running or stopped grid stands.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from extract_result import print_table

from cluebench import identity
from cluebench.data.source import open_source, split_files
from cluebench.errors import ClueError, UsageError
from cluebench.flags import flag, parse
from cluebench.model import Model
from cluebench.runlog import read_log
from cluebench.scheduler import commands, devices, plan
from cluebench.scheduler.estimates import DurationModel, MemoryModel
from cluebench.scheduler.jobs import Job, State
from cluebench.scheduler.ledger import Ledger
from cluebench.scheduler.local_engine import LocalEngine, strays
from cluebench.scheduler.loop import Engine, Events, Interrupted, Rules, Scheduler
from cluebench.scheduler.plan import RunSettings, Selection, Trial
from cluebench.scheduler.progress import Projections, display_for
from cluebench.scheduler.recorder import Observers, Recorder
from cluebench.scheduler.runner import Launch, Orphan
from cluebench.scheduler.state import RunDirectory
from cluebench.scheduler.status import print_plan, print_status
from cluebench.tasks import DEFAULT_SEED, TASKS

REPOSITORY = Path(__file__).resolve().parent.parent

#: The embedded model is no pretrained one: it needs larger steps than any published setting to learn its small data,
#: and has learnt most of it after so many of them.
DEMO_LEARNING_RATE, DEMO_BATCH_SIZE, DEMO_STEPS = 1e-3, 16, 100

INTERRUPTED = 130


@dataclass
class Flags:
    __doc__ = __doc__

    models: list[str] = flag(
        [], "published model names, or directories (PaddleNLP or Hugging Face layout)", positional=True
    )
    tasks: list[str] = flag([], "tasks to run", default_text="all ten")
    data_dir: str | None = flag(
        None, "official CLUE files, unpacked or zipped", default_text="CLUE_DATA_DIR, else they are downloaded"
    )
    cache_dir: str | None = flag(None, "where token ids are kept between runs", default_text="~/.cache/cluebench")
    run_root: str | None = flag(
        None, "directory of logs and results, one folder a model", default_text="runs/ in the repository"
    )
    devices: str = flag("auto", "auto, gpu, gpu:0,1, gpu:UUID, cpu, or cpu:N for N trials at once on the CPU")
    jobs_per_device: int = flag(1, "trials at once on one device, as far as its memory goes", minimum=1, maximum=64)
    learning_rates: list[float] = flag([], "peak learning rates", above=0, default_text="each task's grid")
    batch_sizes: list[int] = flag([], "batch sizes over all cards", minimum=1, default_text="each task's grid")
    dropouts: list[float] = flag([], "dropout probabilities", minimum=0, maximum=0.99, default_text="each task's grid")
    seeds: list[int] = flag(
        [DEFAULT_SEED], "seeds; with several the table shows mean ± standard deviation", minimum=0, maximum=2**32 - 1
    )
    best_only: bool = flag(False, "only the published best hyper-parameters of a published model: 10 trials")
    mrc_cards: int | None = flag(
        None, "cards of one reading comprehension trial", minimum=1, maximum=64,
        default_text="the published 2 or 4 when that many are free, else 1",
    )  # fmt: skip
    amp: str = flag("off", "mixed precision", choices=("off", "fp16", "bf16"))
    save_best_model: bool = flag(False, "keep the best model of each task")
    keep_all_models: bool = flag(False, "with save_best_model: keep the best model of every trial")
    max_attempts: int = flag(3, "attempts at a trial before it is given up", minimum=1)
    trial_timeout: float = flag(3600.0, "seconds without a new log line before a trial is ended; 0: never", minimum=0)
    num_train_epochs: int | None = flag(None, "passes over the train split", minimum=1, default_text="each task's")
    max_steps: int = flag(0, "stop each trial after this many optimizer steps; 0: no limit", minimum=0)
    limit: int | None = flag(None, "only the first N rows of every split, for a try", minimum=1)
    offline: bool = flag(False, "never touch the network")
    engine: str = flag("local", "where trials run: on this machine, or on a Ray cluster", choices=("local", "ray"))
    ray_address: str | None = flag(
        None, "with engine ray: address of the cluster", default_text="RAY_ADDRESS, else a cluster of this machine"
    )
    dry_run: bool = flag(False, "print the plan and stop")
    status: bool = flag(False, "print where a running or stopped grid stands, and stop")
    demo: bool = flag(False, "the embedded model and data, one setting a task unless others are given")


def main(argv: Sequence[str] | None = None, repository: Path = REPOSITORY) -> int:
    """The command; returns its exit code. ``repository`` is where the fine-tuning scripts are."""
    flags = parse(Flags, argv, prog="grid_search.py")
    signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        flags = _completed(flags, repository)
        trials = plan.build_plan([Model.of(typed, "model") for typed in flags.models], _selection(flags))
        directories = {model: RunDirectory(flags.run_root, model) for model in dict.fromkeys(t.model for t in trials)}
        if flags.status:
            print_status(directories.values())
            return 0
        for directory in directories.values():
            directory.refuse_other_model()
        if flags.dry_run:
            hashes = plan.configuration_hashes(trials, _settings(flags), _fingerprints(flags, trials))
            print_plan(trials, lambda trial: directories[trial.model].finished_result(trial, hashes.get(trial)))
            return 0
        with ExitStack() as locks:
            for directory in directories.values():
                directory.acquire()
                locks.callback(directory.release)
            return _run(flags, trials, directories, repository)
    except ClueError as error:
        print(f"grid_search.py: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _raise_interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


# From flags to a plan -------------------------------------------------------------------------------------------------


def _completed(flags: Flags, repository: Path) -> Flags:
    """The flags with what depends on other flags, paths made absolute. Raises UsageError."""
    if flags.keep_all_models and not flags.save_best_model:
        raise UsageError("--keep_all_models needs --save_best_model True")
    if flags.ray_address and flags.engine != "ray":
        raise UsageError("--ray_address needs --engine ray")
    if flags.best_only and (flags.learning_rates or flags.batch_sizes or flags.dropouts):
        raise UsageError(
            "--best_only takes no --learning_rates, --batch_sizes or --dropouts: its settings are published"
        )
    if flags.demo:
        flags = _with_demo(flags, repository)
    if not flags.models:
        raise UsageError("name a model or a model's directory, or try --demo")
    return replace(
        flags,
        run_root=_absolute(flags.run_root or str(repository / "runs")),
        data_dir=_absolute(flags.data_dir or os.environ.get("CLUE_DATA_DIR")),
        cache_dir=_absolute(flags.cache_dir),
    )


def _absolute(path: str | None) -> str | None:
    """Trials run in the repository's directory, wherever the command was typed."""
    return None if not path else str(Path(path).expanduser().resolve())


def _with_demo(flags: Flags, repository: Path) -> Flags:
    """Writes the embedded model and data, and plans one setting a task where the user has not said otherwise."""
    if flags.models or flags.data_dir:
        raise UsageError("--demo brings its own model and data: leave out the models and --data_dir")
    folder = repository / "demo"
    if subprocess.run([sys.executable, "-m", "cluebench.demo", str(folder)], cwd=repository).returncode:
        raise ClueError("the embedded model and data could not be written; the error stands above")
    return replace(
        flags,
        models=[str(folder / "model")],
        data_dir=str(folder / "data"),
        run_root=flags.run_root or str(folder / "runs"),
        cache_dir=flags.cache_dir or str(folder / "cache"),
        learning_rates=flags.learning_rates or [DEMO_LEARNING_RATE],
        batch_sizes=flags.batch_sizes or [DEMO_BATCH_SIZE],
        dropouts=flags.dropouts or [0.1],
        max_steps=flags.max_steps or (0 if flags.num_train_epochs else DEMO_STEPS),
        save_best_model=True,  # tiny, and what make_submission.py predicts with
        offline=True,
    )


def _selection(flags: Flags) -> Selection:
    return Selection(flags.tasks, flags.learning_rates, flags.batch_sizes, flags.dropouts, flags.seeds, flags.best_only)


def _settings(flags: Flags) -> RunSettings:
    return RunSettings(
        num_train_epochs=flags.num_train_epochs,
        max_steps=flags.max_steps,
        limit=flags.limit,
        amp=flags.amp,
        save_best_model=flags.save_best_model,
        data_dir=flags.data_dir,
        cache_dir=flags.cache_dir,
        offline=flags.offline,
    )


def _fingerprints(flags: Flags, trials: Sequence[Trial], require: bool = False) -> dict[str, str]:
    """Task → fingerprint of its train and dev files, for the tasks whose files are here.

    With ``require`` a missing file raises DataError.
    """
    source = open_source(flags.data_dir, offline=True)
    found = {}
    for task in (TASKS[name] for name in dict.fromkeys(trial.task for trial in trials)):
        if require or all(source.has(task, file) for file in split_files(task, "train") + split_files(task, "dev")):
            found[task.name] = source.fingerprint(task)
    return found


# Running --------------------------------------------------------------------------------------------------------------


def _run(flags: Flags, trials: Sequence[Trial], directories: Mapping[Model, RunDirectory], repository: Path) -> int:
    """Runs what is not done, prints the tables, returns the exit code."""
    jobs = _jobs(flags, trials, directories)
    if any(job.state is State.WAITING for job in jobs):
        _warm_up(flags, trials, repository)
        jobs = _jobs(flags, trials, directories, all_data=True)
    if any(job.state is State.WAITING for job in jobs):
        interrupted = _search(flags, jobs, directories, repository)
    else:
        print(f"all {len(jobs)} trials are done already", file=sys.stderr)
        interrupted = None
    _print_tables(directories)
    failed = [job for job in jobs if job.state is not State.DONE]
    if interrupted is not None:
        print(f"stopped by {interrupted} with {len(failed)} trials left; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    _print_failures(failed)
    return 1 if failed else 0


def _jobs(
    flags: Flags, trials: Sequence[Trial], directories: Mapping[Model, RunDirectory], all_data: bool = False
) -> list[Job]:
    """A job a trial, done where its result is on disk. With ``all_data`` missing data raises DataError."""
    configured = plan.configurations(trials, _settings(flags), _fingerprints(flags, trials, require=all_data))
    factors = _remembered_factors(directories)
    jobs = []
    for number, trial in enumerate(trials):
        directory, configuration = directories[trial.model], configured.get(trial, {})
        digest = identity.configuration_hash(configuration) if configuration else ""
        job = Job(trial, number, directory.paths(trial), directory.trial_lock(trial), digest, configuration)
        job.memory_factor = factors.get(digest, 1)
        job.result = directory.finished_result(trial, digest or None)
        job.state = State.WAITING if job.result is None else State.DONE
        jobs.append(job)
    return jobs


def _remembered_factors(directories: Mapping[Model, RunDirectory]) -> dict[str, int]:
    """Configuration hash → how far an earlier start had to cut the trial's micro-batches."""
    grids = [directory.read_grid() or {} for directory in directories.values()]
    return {
        entry["configuration_hash"]: int(entry.get("memory_factor", 1))
        for grid in grids
        for entry in grid.get("trials", ())
    }


def _warm_up(flags: Flags, trials: Sequence[Trial], repository: Path) -> None:
    """Fetches models and data and fills the cache before any device is taken. Raises UsageError where it fails."""
    models, tasks = (list(dict.fromkeys(values)) for values in zip(*((t.model, t.task) for t in trials)))
    script = repository / "grid_search_tools" / "warmup_dataset_and_model.py"
    command = [sys.executable, "-u", str(script), *(model.name for model in models), "--tasks", *tasks]
    for name, value in (("--data_dir", flags.data_dir), ("--cache_dir", flags.cache_dir), ("--limit", flags.limit)):
        command += [name, str(value)] if value else []
    command += ["--offline"] if flags.offline else []
    code = subprocess.run(command, cwd=repository, stdout=sys.stderr).returncode
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        error = ClueError("the warm-up failed, so no trial was started; its error stands above")
        error.exit_code = code if code > 0 else 1
        raise error


def _search(
    flags: Flags, jobs: Sequence[Job], directories: Mapping[Model, RunDirectory], repository: Path
) -> str | None:
    """Runs the loop; returns the name of the signal that ended it early, or None."""
    events = Events()
    display = display_for(sys.stderr)
    settings = _settings(flags)
    engine = _engine(flags, events)
    chosen = engine.devices
    _check_cards(flags, jobs, chosen)
    recorders = [_recorder(flags, directory, jobs, chosen, display.note) for directory in directories.values()]
    scheduler = Scheduler(
        jobs,
        engine,
        Ledger(chosen, flags.jobs_per_device),
        DurationModel(settings),
        MemoryModel(flags.amp),
        lambda job: _launch(flags, job, directories[job.trial.model], chosen, settings, repository),
        lambda job: directories[job.trial.model].finished_result(job.trial, job.configuration_hash),
        Observers([display, *recorders]),
        events,
        Rules(flags.max_attempts, flags.trial_timeout, flags.mrc_cards),
        strays=[stray for directory in directories.values() for stray in _strays(flags, directory, jobs)],
        project=Projections().update,
    )
    for job in jobs:
        if job.state is State.DONE:
            scheduler.learn(job)
    print(_opening(jobs, chosen), file=sys.stderr)
    with _signals(events):
        display.attach(scheduler)
        try:
            scheduler.run()
        finally:
            display.close()
            engine.close()
            for recorder in recorders:
                recorder.finish(_final_status(scheduler))
    return scheduler.interrupted


def _engine(flags: Flags, events: Events) -> Engine:
    if flags.engine == "ray":
        from cluebench.scheduler.ray_engine import RayEngine

        return RayEngine(flags.devices, flags.ray_address, flags.jobs_per_device, events)
    driver = devices.NvidiaDriver.open()
    return LocalEngine(devices.find_devices(flags.devices, os.environ, driver, many_small=flags.demo), driver, events)


def _final_status(scheduler: Scheduler) -> str:
    if all(job.state is State.DONE for job in scheduler.jobs):
        return "done"
    return "failed" if all(job.state in (State.DONE, State.FAILED) for job in scheduler.jobs) else "stopped"


def _check_cards(flags: Flags, jobs: Sequence[Job], chosen: Sequence[devices.Device]) -> None:
    """Raises UsageError when --mrc_cards can't be had, or does not cut a batch evenly."""
    if flags.mrc_cards is None or flags.mrc_cards == 1:
        return
    joinable = sum(device.joinable for device in chosen)
    if flags.mrc_cards > joinable:
        raise UsageError(f"--mrc_cards {flags.mrc_cards}: the grid has {joinable} card(s) that can work together")
    for job in jobs:
        if job.trial.row.cards > 1:
            try:
                job.trial.row.accumulation_steps(job.trial.batch_size, flags.mrc_cards)
            except ValueError as error:
                raise UsageError(f"--mrc_cards {flags.mrc_cards}: {error}") from None


def _recorder(
    flags: Flags, directory: RunDirectory, jobs: Sequence[Job], chosen: Sequence[devices.Device], complain
) -> Recorder:
    details = {
        "command": sys.argv,
        "data_dir": flags.data_dir,
        "devices": [f"{device.label} {device.name}".strip() for device in chosen],
    }
    return Recorder(
        directory,
        jobs,
        details,
        keep_only_best=flags.save_best_model and not flags.keep_all_models,
        complain=complain,
    )


def _launch(
    flags: Flags,
    job: Job,
    directory: RunDirectory,
    chosen: Sequence[devices.Device],
    settings: RunSettings,
    repository: Path,
) -> Launch:
    """The process of a job's next attempt, on the devices it has been given."""
    taken = [device for device in chosen if device.id in job.device_ids]
    launcher_logs = directory.launcher_logs(job.trial)
    return Launch(
        key=job.key,
        command=commands.trial_command(job, taken, settings, repository, launcher_logs),
        environment=devices.child_environment(taken, len(chosen), flags.jobs_per_device),
        directory=repository,
        log=job.paths.log,
        result=job.paths.result,
        lock=job.lock,
        configuration_hash=job.configuration_hash,
        record={
            "devices": job.device_ids,
            "labels": job.attempt.devices,
            "cards": job.attempt.cards,
            "accumulation": job.attempt.accumulation,
            "promised_bytes": job.promised_bytes,
        },
    )


def _strays(flags: Flags, directory: RunDirectory, jobs: Sequence[Job]) -> list[Orphan]:
    """Processes of a dead scheduler on this machine whose trials are not in this plan."""
    if flags.engine != "local":
        return []
    planned = [job.lock for job in jobs if job.trial.model == directory.model]
    return strays(directory.private, planned, directory.path.name)


@contextmanager
def _signals(events: Events) -> Iterator[None]:
    """Turns Ctrl-C, SIGTERM and a closed terminal into events while the loop runs."""
    earlier = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            continue  # as under nohup
        name = signal.Signals(number).name
        earlier[number] = signal.signal(number, lambda *_, name=name: events.put(Interrupted(name)))
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


# What is printed ------------------------------------------------------------------------------------------------------


def _opening(jobs: Sequence[Job], chosen: Sequence[devices.Device]) -> str:
    done = sum(job.state is State.DONE for job in jobs)
    labels = ", ".join(f"{device.label} ({device.name})" if device.name else device.label for device in chosen)
    return f"{len(jobs)} trials, {done} done already, on {labels}"


def _print_tables(directories: Mapping[Model, RunDirectory]) -> None:
    for model, directory in directories.items():
        if len(directories) > 1:
            print(f"{model}:")
        print_table(directory.path, model.name)


def _print_failures(failed: Sequence[Job]) -> None:
    if not failed:
        return
    print(f"\n{len(failed)} trials failed:\ntrial\tattempts\twhy\twhat was said")
    for job in failed:
        failure = job.failures[-1] if job.failures else None
        why = f"{failure.kind.value}\t{failure.detail}" if failure else "-\t-"
        print(f"{job.key}\t{len(job.attempts)}\t{why}")
    for job in failed:
        try:
            lines = read_log(job.paths.log).last_lines[-10:]
        except OSError:
            continue
        print(f"\nthe last lines of {job.paths.log}:")
        print("\n".join(f"    {line}" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
