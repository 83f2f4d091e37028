"""VisualDL shows the newest file of a directory: it has the whole curve of one run."""

from visualdl import LogReader

from cluebench.training.progress import Scalars

OWN, OTHER = "a" * 16, "b" * 16


def written(directory, run, steps, since=0):
    scalars = Scalars(str(directory), run)
    if since:
        scalars.go_on_from(since)
    for step in steps:
        scalars.add(step, train_loss=step / 10, train_lr=0.1)
    scalars.close()


def curve(directory):
    """The steps that VisualDL shows."""
    newest = max(path for path in directory.iterdir() if path.is_file())
    return [point.id for point in LogReader(file_path=str(newest)).get_data("scalar", "train/loss")]


def test_a_run_that_goes_on_has_its_whole_curve_once(tmp_path):
    written(tmp_path, OWN, range(1, 16))
    written(tmp_path, OWN, range(11, 21), since=10)  # killed after step 15, its checkpoint after step 10
    assert curve(tmp_path) == list(range(1, 21))


def test_a_run_that_starts_again_has_nothing_of_the_one_before(tmp_path):
    written(tmp_path, OWN, range(1, 16))
    written(tmp_path, OWN, range(1, 4))
    assert curve(tmp_path) == [1, 2, 3]


def test_another_run_has_a_directory_of_its_own(tmp_path, capsys):
    written(tmp_path, OWN, range(1, 6))
    written(tmp_path, OTHER, range(1, 3))
    assert curve(tmp_path) == [1, 2, 3, 4, 5] and curve(tmp_path / "bbbbbbbb") == [1, 2]
    assert "has the curves of another run" in capsys.readouterr().err
    written(tmp_path, OTHER, range(3, 6), since=2)
    assert curve(tmp_path / "bbbbbbbb") == [1, 2, 3, 4, 5]


def test_a_file_that_was_cut_off_is_named(tmp_path, capsys):
    written(tmp_path, OWN, range(1, 6))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    file.rename(file.with_name(file.name.replace("vdlrecords.1", "vdlrecords.0")))
    written(tmp_path, OWN, range(6, 8), since=5)
    assert curve(tmp_path) == [6, 7] and "unreadable" in capsys.readouterr().err
