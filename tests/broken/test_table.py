"""CONTRIBUTING's table of files that are read back, and the tests that break each of them: none without the other."""

import re

from tests.conftest import ROOT

FILES, MODELS, DATA = "broken/test_files.py", "broken/test_models.py", "broken/test_data.py"

#: First cell of a row → a module and a test in it that break the file.
TESTS = {
    "official data files, unpacked or in a zip": (DATA, "test_data_never_ends_in_a_traceback"),
    "copies: Parquet, Arrow, lines, `dataset_info.json`": ("data/test_copies.py", "test_what_is_wrong_with_a_copy"),
    "`rows/*.json` in the cache, `rows.json` of a bundle": (DATA, "test_facts_of_rows_never_end_in_a_traceback"),
    "`<task>_public.zip`": (FILES, "test_archives_never_end_in_a_traceback"),
    "a data file that changes between its md5 and its reading": (
        "data/test_source.py", "test_a_file_that_changes_between_its_md5_and_its_reading_is_not_read"),
    "`config.json`, `model_config.json`": (FILES, "test_files_of_a_model_never_end_in_a_traceback"),
    "`tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`": (
        MODELS, "test_a_broken_directory_never_ends_in_a_traceback"),
    "`tokenizer.json`": (MODELS, "test_a_broken_directory_never_ends_in_a_traceback"),
    "`vocab.txt`": (MODELS, "test_a_broken_directory_never_ends_in_a_traceback"),
    "`*.safetensors`, `*.pdparams`, `*.bin`, `*.index.json`": (MODELS, "test_broken_weights_never_end_in_a_traceback"),
    "`content/*.json` in the cache directory": ("test_model.py", "test_the_hash_of_large_weights_is_remembered"),
    "weights of other sizes than the configuration, or of more layers": (
        "models/test_preflight.py", "test_weights_are_checked_to_the_last_layer"),
    "entries of the feature cache": (FILES, "test_a_broken_cache_entry_gives_the_right_arrays"),
    "`checkpoint/` in `--output_dir`": (MODELS, "test_a_broken_checkpoint_is_used_whole_or_not_at_all"),
    "`checkpoint-N/` of PaddleNLP's Trainer": (MODELS, "test_a_broken_checkpoint_of_the_trainer_is_passed_over"),
    "`<trial>.json`, `result.json`": (FILES, "test_what_a_file_of_a_run_may_not_hold_is_reported"),
    "`<trial>.log`": (FILES, "test_logs_never_end_in_a_traceback"),
    "`<trial>.predictions`": (FILES, "test_what_a_file_of_a_run_may_not_hold_is_reported"),
    "`grid.json`": (FILES, "test_what_a_file_of_a_run_may_not_hold_is_reported"),
    "`submit.json`": (FILES, "test_what_a_file_of_a_run_may_not_hold_is_reported"),
    "submission files": (DATA, "test_submissions_never_end_in_a_traceback"),
    "`.predictions.json` beside a kept model": (FILES, "test_notes_of_predictions_never_end_in_a_traceback"),
    "locks in `.scheduler/`": (FILES, "test_locks_never_end_in_a_traceback"),
    "`.scheduler/settings`": (FILES, "test_settings_of_other_processes_never_end_in_a_traceback"),
    "`.scheduler/<trial>.failures`": (FILES, "test_noted_failures_never_end_in_a_traceback"),
    "promises in the temporary directory": (FILES, "test_broken_promises_are_none_and_do_not_stay"),
    "`made.json` of the demo": (MODELS, "test_a_demo_of_a_broken_record_is_made_again"),
    "`*.bundle.zip`": ("bundle/test_broken.py", "test_a_broken_member_never_ends_in_a_traceback"),
}  # fmt: skip


def test_every_file_that_is_read_back_is_broken_by_a_test():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split("## What is read back")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)
    assert rows[0] == "file" and rows[1:] == list(TESTS)
    for module, test in TESTS.values():
        assert f"\ndef {test}(" in (ROOT / "tests" / module).read_text(encoding="utf-8")


def test_every_module_that_reads_json_stands_in_the_table():
    """Whoever asks `json_files` for a file, or takes its content apart, is named as a reader."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split("## What is read back")[1].split("\n## ")[0]
    package = ROOT / "cluebench"
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).with_suffix("").as_posix()
        if name != "foundation/json_files" and re.search(
            r"json_files\.read|declared\(", path.read_text(encoding="utf-8")
        ):
            assert re.search(rf"`{name}[`.]", table), name
