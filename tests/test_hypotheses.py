from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from asr.hypotheses import Candidate, Header, Hypotheses, Utterance, read, write
from asr.types import Word

HEADER = Header(search="greedy", split="test", settings={"beam": 4}, seconds=1.5, audio_seconds=30.0, checkpoint="epoch 3", complete=True,
                scales={"ngram": 0.25}, tuned_on="dev")
UTTERANCES = (
    Utterance("a-1", "yes no", "yes", "a", 1.25, (Word("yes", 0.1, 0.4, 0.9),), -2.5, {"model": -2.0, "ngram": -0.5}, (4, 9)),
    Utterance("b-1", "", "три", words=(Word("три"),),
              nbest=(Candidate("три", -1.0, {"model": -1.5, "lm": 1.0}, (3,)), Candidate("", -2.0))),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "decode" / "greedy.jsonl", HEADER, UTTERANCES)
    return tmp_path / "decode" / "greedy.jsonl"


def test_read_gives_what_was_written(path: Path) -> None:
    assert read(path) == Hypotheses(HEADER, UTTERANCES)


def test_the_format_is_the_documented_one(path: Path) -> None:
    header, first, second = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert header == {"search": "greedy", "split": "test", "settings": {"beam": 4}, "seconds": 1.5, "audio_seconds": 30.0,
                      "checkpoint": "epoch 3", "complete": True, "scales": {"ngram": 0.25}, "tuned_on": "dev",
                      "encoder_seconds": 0.0, "fingerprint": ""}
    assert first["words"] == [{"text": "yes", "start": 0.1, "end": 0.4, "confidence": 0.9}] and first["tokens"] == [4, 9]
    assert second["speaker"] is None and "три" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("line", "message"), [
    ('{"id": "c", "ref": "x"', "not JSON"),
    ('["c"]', "expected an object"),
    ('{"id": "c", "ref": "x"}', "missing 1 required .* 'hyp'"),
    ('{"id": "c", "ref": "x", "hyp": "x", "colour": 1}', "unknown field 'colour'"),
    ('{"id": "c", "ref": "x", "hyp": "x", "words": [{"word": "x"}]}', "unknown field 'word' of Word"),
    ('{"id": "a-1", "ref": "x", "hyp": "x"}', "'a-1' occurs twice"),
])
def test_a_wrong_line_is_named(path: Path, line: str, message: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=f"greedy.jsonl:4: .*{message}"):
        read(path)


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none.jsonl: no such file"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ValueError, match="empty.jsonl: empty"):
        read(tmp_path / "empty.jsonl")


def test_an_error_while_writing_leaves_the_old_file(path: Path) -> None:
    def failing() -> object:
        yield UTTERANCES[0]
        raise OSError(errno.ENOSPC, "disk full")

    with pytest.raises(OSError, match="disk full"):
        write(path, HEADER, failing())  # type: ignore[arg-type]
    assert read(path) == Hypotheses(HEADER, UTTERANCES) and len(list(path.parent.iterdir())) == 1
