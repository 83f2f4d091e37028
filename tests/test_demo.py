import pytest

from cluebench.demo import __main__ as demo
from cluebench.foundation import environment


@pytest.mark.slow
def test_made_once_and_again_when_what_makes_it_changes(tmp_path, monkeypatch):
    environment.import_paddle()
    from cluebench.demo import embedded_model

    made = []
    monkeypatch.setattr(demo.synthetic, "write_synthetic", lambda folder: made.append(folder))
    monkeypatch.setattr(embedded_model, "write_demo_model", lambda folder, characters: made.append(folder))
    for _ in range(2):
        assert demo.write(tmp_path) == (tmp_path / "model", tmp_path / "data")
        assert made == [tmp_path / "data", tmp_path / "model"]
    monkeypatch.setattr(demo, "_code_fingerprint", lambda: "other code")
    demo.write(tmp_path)
    assert len(made) == 4
