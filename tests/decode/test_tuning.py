from __future__ import annotations

import pytest
from pydantic import ValidationError

from asr.decode.modified_beam import ModifiedBeam
from asr.decode.tuning import Errors, GridPoint, Tuned, best, grid, read_tuned, word_errors, write_tuned


def test_grid_is_every_combination():
    assert grid({"a": [1, 2], "b.c": [3, 4]}) == [{"a": 1, "b.c": 3}, {"a": 1, "b.c": 4}, {"a": 2, "b.c": 3}, {"a": 2, "b.c": 4}]


def test_values_go_where_the_key_says():
    scorers = {"lm": {"type": "ngram", "scale": 0.1}}
    config = ModifiedBeam.Config.model_validate({"scorers": scorers, "tune": {"scorers.lm.scale": [0.2, 0.4]}})
    assert config.with_values({"scorers.lm.scale": 0.4, "beam": 8}).model_dump()["scorers"]["lm"]["scale"] == 0.4
    assert config.scorers["lm"].scale == 0.1
    assert config.lang_files() == ("token.arpa",)


@pytest.mark.parametrize("tune, message", [
    ({"scorers.lm.scale": [0.2]}, "'scorers.lm.scale' is not a key of this search"),
    ({"beam": []}, "'beam' has no values"),
    ({"beam": [0]}, "greater than or equal to 1"),
])
def test_a_grid_that_cannot_be_is_refused_with_the_config(tune, message):
    with pytest.raises(ValidationError, match=message):
        ModifiedBeam.Config.model_validate({"tune": tune})


def test_word_errors():
    assert word_errors([("a b c", "a x c d"), ("a", ""), ("", "b")]) == Errors(4, 4)
    assert Errors(1, 4).wer == 25.0


def test_the_first_of_the_best_points_is_taken():
    points = [GridPoint({"a": v}, errors, 100, errors) for v, errors in [(0.1, 5), (0.2, 3), (0.3, 3)]]
    assert best(points).values == {"a": 0.2}


def test_tuned_values_survive_their_file(tmp_path):
    path = tmp_path / "decode" / "tuned.json"
    assert read_tuned(path) == {}
    tuned = {"beam": Tuned({"a": 0.2}, "dev", "c", "b", [GridPoint({"a": 0.2}, 3, 100, 3.0)])}
    write_tuned(path, tuned)
    assert read_tuned(path) == tuned
    path.write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        read_tuned(path)
