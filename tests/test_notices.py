from cluebench.foundation.notices import notice


def test_one_line_on_stderr_for_all_cards(monkeypatch, capsys):
    notice("the disk is full")
    monkeypatch.setenv("PADDLE_TRAINER_ID", "1")
    notice("the disk is full")
    assert capsys.readouterr() == ("", "the disk is full\n")
