"""Each kind of source reads the same little corpus; real ones where they are at hand."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.data import prepare_corpus, read_cuts, read_dropped, read_transcripts
from tests.data.corpora import corpus_config, table_corpus, write_wav

SCRIPT = '''
from pathlib import Path

def prepare(corpus_dir: Path, out: Path) -> dict[str, Path]:
    from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
    cuts = []
    for path in sorted(corpus_dir.rglob("*.wav")):
        recording = Recording.from_file(path)
        words = SupervisionSegment(path.stem, recording.id, 0, recording.duration, text="YES", speaker=path.parent.name)
        cuts.append(MonoCut(path.stem, 0, recording.duration, 0, recording=recording, supervisions=[words]))
    CutSet.from_cuts(cuts).to_file(out / "cuts.jsonl.gz")
    return {"everything": out / "cuts.jsonl.gz"}
'''


def test_table(tmp_path: Path) -> None:
    corpus = table_corpus(tmp_path / "corpus")
    prepare_corpus(corpus_config(text={"case": "upper"}), corpus, tmp_path / "manifests")
    train = read_cuts(tmp_path / "manifests/train.jsonl.gz")
    assert [cut.id for cut in train] == [f"u{k:03d}" for k in range(16)]
    first = train[0].supervisions[0]
    assert (first.text, first.speaker, first.gender, first.custom) == ("ONE", "s0", "m", {"age": 10})
    assert train[0].load_audio().shape == (1, 8000)
    assert len(read_transcripts(tmp_path / "manifests/test.jsonl.gz")) == 8
    assert read_dropped(tmp_path / "manifests/dropped.jsonl") == []


def kaldi_corpus(directory: Path, segments: bool) -> Path:
    data = directory / "data" / "train"
    data.mkdir(parents=True)
    ids = ["a-1", "a-2", "b-1"]
    for id in ids:
        write_wav(directory / f"audio/{id}.wav", 1.5)
    (data / "wav.scp").write_text("".join(f"{id} audio/{id}.wav\n" for id in ids))
    utterances = {"a-1": "A-1", "a-2": "A-2", "b-1": "B-1"} if segments else {id: id for id in ids}
    (data / "text").write_text("".join(f"{id}\tsome words\n" for id in utterances.values()))
    (data / "utt2spk").write_text("".join(f"{id} {id[0].lower()}\n" for id in utterances.values()))
    (data / "spk2gender").write_text("a f\nb m\n")
    (data / "spk2age").write_text("a 31\nb 9\n")
    (data / "utt2level").write_text("".join(f"{id} {id[-1]}.5\n" for id in utterances.values()))
    if segments:
        (data / "segments").write_text("".join(f"{id} {recording} 0.25 1.25\n" for recording, id in utterances.items()))
    return directory


@pytest.mark.parametrize("segments", [False, True])
def test_kaldi(tmp_path: Path, segments: bool) -> None:
    corpus = kaldi_corpus(tmp_path / "corpus", segments)
    splits = {"train": "data/train", "child": {"from": "data/train", "where": {"age": {"below": 18}}}}
    prepare_corpus(corpus_config(source={"type": "kaldi"}, splits=splits), corpus, tmp_path / "manifests")
    train = read_cuts(tmp_path / "manifests/train.jsonl.gz")
    assert [cut.id.lower() for cut in train] == ["a-1", "a-2", "b-1"]
    assert train[0].supervisions[0].custom == {"age": 31, "level": 1.5} and train[0].supervisions[0].gender == "f"
    assert (train[0].start, train[0].duration) == ((0.25, 1.0) if segments else (0.0, 1.5))
    assert train[0].load_audio().shape[1] == (16000 if segments else 24000)
    assert [cut.id.lower() for cut in read_cuts(tmp_path / "manifests/child.jsonl.gz")] == ["b-1"]


def test_kaldi_runs_no_commands(tmp_path: Path) -> None:
    corpus = kaldi_corpus(tmp_path / "corpus", segments=False)
    with open(corpus / "data/train/wav.scp", "a") as file:
        file.write(f"c-1 touch {tmp_path}/ran |\n")
    with pytest.raises(ValueError, match="'c-1' is a command"):
        prepare_corpus(corpus_config(source={"type": "kaldi"}, splits={"train": "data/train"}), corpus, tmp_path / "manifests")
    assert not (tmp_path / "ran").exists()


def test_kaldi_with_holes(tmp_path: Path) -> None:
    corpus = kaldi_corpus(tmp_path / "corpus", segments=False)
    data = corpus / "data/train"
    (data / "wav.scp").write_text("a-1 audio/a-1.wav\na-2 audio/a-2.wav\nb-1 audio/gone.wav\na-1 audio/a-2.wav\n")
    (data / "text").write_text("a-1 some words\nb-1 some words\n")
    prepare_corpus(
        corpus_config(source={"type": "kaldi"}, splits={"train": "data/train"}, max_dropped=1), corpus, tmp_path / "manifests"
    )
    assert [cut.id for cut in read_cuts(tmp_path / "manifests/train.jsonl.gz")] == ["a-1"]
    reasons = [(item.id, item.reason) for item in read_dropped(tmp_path / "manifests/dropped.jsonl")]
    assert [id for id, _ in reasons] == ["a-1", "a-2", "b-1"]
    assert "duplicate id" in reasons[0][1] and "no transcript" in reasons[1][1] and "gone.wav" in reasons[2][1]


def talks(directory: Path) -> Path:
    """Two recordings as GigaSpeech and WenetSpeech list them, one of which is not there."""
    write_wav(directory / "audio/a.wav", 3.0)
    segments = [{"sid": "a0", "begin_time": 0.5, "end_time": 1.25, "text": "one", "subsets": ["{L}", "{S}"], "speaker": "N/A"},
                {"sid": "a1", "begin_time": 1.5, "end_time": 2.0, "text": "two", "subsets": ["{L}"], "confidence": 0.9, "speaker": "ann"},
                {"sid": "a2", "begin_time": 2.5, "end_time": 4.0, "text": "three", "subsets": ["{L}"]},
                {"sid": "a3", "begin_time": 2.0, "end_time": 2.5, "text": "four", "subsets": ["DEV"]}]
    gone = {"aid": "b", "path": "audio/b.wav", "segments": [{**segments[0], "sid": "b0", "subsets": ["L"]}]}
    audios = [{"aid": "a", "path": "audio/a.wav", "duration": 3.0, "segments": segments}, gone]
    (directory / "talks.json").write_text(json.dumps({"audios": audios, "version": "1"}, indent=1))
    return directory


def test_segments_json(tmp_path: Path) -> None:
    config = corpus_config(source={"type": "segments_json", "file": "talks.json"}, splits={"train": "L", "dev": "DEV"}, max_dropped=1)
    prepare_corpus(config, talks(tmp_path / "corpus"), tmp_path / "manifests")
    cuts = read_cuts(tmp_path / "manifests/train.jsonl.gz")
    assert [(cut.id, cut.start, cut.duration, cut.supervisions[0].text, cut.supervisions[0].speaker) for cut in cuts] == [
        ("a0", 0.5, 0.75, "one", "a"), ("a1", 1.5, 0.5, "two", "ann")]
    assert cuts[1].supervisions[0].custom == {"confidence": 0.9} and cuts[1].load_audio().shape == (1, 8000)
    assert [cut.id for cut in read_cuts(tmp_path / "manifests/dev.jsonl.gz")] == ["a3"]
    reasons = {item.id: item.reason for item in read_dropped(tmp_path / "manifests/dropped.jsonl")}
    assert reasons.keys() == {"a2", "b0"} and "outside its recording" in reasons["a2"] and "no such audio file" in reasons["b0"]


@pytest.mark.parametrize("values, cut_off, message", [
    ({"splits": {"train": "XS"}}, 0, "no split 'XS'; it has DEV, L, S"),
    ({"source": {"type": "segments_json", "file": "talks.json", "text": "text_tn"}}, 0, "recording 1 of 'audios' .*KeyError: 'text_tn'"),
    ({}, 20, "not JSON, or not all of it"),  # behind the last recording
    ({}, 60, "not JSON, or not all of it"),
    ({}, 10**6, "no list 'audios'"),
])
def test_segments_json_with_faults(tmp_path: Path, values: dict, cut_off: int, message: str) -> None:
    path = talks(tmp_path / "corpus") / "talks.json"
    path.write_text(path.read_text()[:-cut_off or None])
    config = corpus_config(**{"source": {"type": "segments_json", "file": "talks.json"}, "splits": {"train": "L"}, **values})
    with pytest.raises(ValueError, match=message):
        prepare_corpus(config, path.parent, tmp_path / "manifests")


def test_script(tmp_path: Path) -> None:
    corpus = table_corpus(tmp_path / "corpus", utterances=4)
    (tmp_path / "prepare.py").write_text(SCRIPT)
    source = {"type": "script", "file": str(tmp_path / "prepare.py")}
    prepare_corpus(corpus_config(source=source, splits={"test": "everything"}), corpus, tmp_path / "manifests")
    assert [item.text for item in read_transcripts(tmp_path / "manifests/test.jsonl.gz")] == ["YES"] * 4


def test_lhotse_recipe_yesno(tmp_path: Path, shared: Path) -> None:
    halves = ["train", "test"]
    splits = {"train": {"from": halves, "range": [0, 30]}, "test": {"from": halves, "range": [30, 60]}}
    config = corpus_config(source={"type": "lhotse", "recipe": "yesno"}, splits=splits, sample_rate=8000)
    prepare_corpus(config, shared / "corpora/yesno", tmp_path / "manifests")
    ids = [[item.id for item in read_transcripts(tmp_path / f"manifests/{split}.jsonl.gz")] for split in ("train", "test")]
    assert ids[0] + ids[1] == sorted(path.stem for path in (shared / "corpora/yesno").glob("*.wav"))
    for item in read_transcripts(tmp_path / "manifests/test.jsonl.gz"):
        assert item.text == " ".join("YES" if digit == "1" else "NO" for digit in item.id.split("_"))


def test_speechocean_is_read_by_the_kaldi_import(tmp_path: Path, shared: Path) -> None:
    """Its own tables; of the audio, a few packed files stand in for the whole."""
    packed = shared / "corpora/speechocean762"
    corpus = tmp_path / "corpus"
    lines = (packed / "test/wav.scp").read_text().splitlines()[:40:8]
    ids = [line.split()[0] for line in lines]
    (corpus / "test").mkdir(parents=True)
    for table in ("text", "utt2spk"):
        rows = (packed / "test" / table).read_text().splitlines()
        (corpus / "test" / table).write_text("".join(f"{row}\n" for row in rows if row.split()[0] in ids))
    for table in ("spk2age", "spk2gender"):
        (corpus / "test" / table).write_text((packed / "test" / table).read_text())
    (corpus / "test/wav.scp").write_text("".join(f"{line}\n" for line in lines))
    for line in lines:
        path = corpus / line.split()[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((packed / line.split()[1]).with_suffix(".ogg").read_bytes())
    prepare_corpus(corpus_config(source={"type": "kaldi"}, splits={"test": "test"}), corpus, tmp_path / "manifests")
    cuts = read_cuts(tmp_path / "manifests/test.jsonl.gz")
    assert [cut.id for cut in cuts] == ids
    assert all(cut.supervisions[0].custom["age"] > 0 and cut.supervisions[0].gender in "mf" for cut in cuts)


@pytest.mark.parametrize("config, message", [
    ({"source": {"type": "lhotse", "recipe": "yesnoo"}}, "near ones: yesno"),
    ({"source": {"type": "lhotse", "recipe": "yesno"}}, "cannot read this corpus"),
    ({"source": {"type": "script", "file": "nowhere.py"}}, "no such Python file"),
    ({"source": {"type": "table", "file": "nowhere.tsv"}}, "no such file"),
    ({"splits": {"train": "trian"}}, "no split 'trian'; it has test, train"),
    ({"source": {"type": "table", "columns": {"text": "words"}}}, "no column 'words'"),
    ({"source": {"type": "table", "file": "{split}.tsv"}}, "no split 'train'; it has speakers, transcripts"),
    ({"source": {"type": "folder", "text": "nowhere.txt"}}, "no file nowhere.txt here"),
])
def test_wrong_source(tmp_path: Path, config: dict, message: str) -> None:
    corpus = table_corpus(tmp_path / "corpus", utterances=4)
    with pytest.raises(ValueError, match=message):
        prepare_corpus(corpus_config(**config), corpus, tmp_path / "manifests")


@pytest.mark.parametrize("content, message", [
    ("", "no column 'audio'"),
    ("id\taudio\nu\tx.wav\n", "no column 'text'"),
    ("id\taudio\ttext\nu\tx.wav\n", ":2: 2 columns where the header has 3"),
    (b"id\taudio\ttext\nu\tx.wav\t\xff\n", "not UTF-8: 1 of 3 lines are not .line 2.: .* would read .*ÿ"),
    ("id\taudio\ttext\n".encode("utf-16"), "mark UTF-16; if so, set the encoding"),
])
def test_bad_table(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "transcripts.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        prepare_corpus(corpus_config(), tmp_path, tmp_path / "manifests")


def test_broken_json_lines(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 1.0)
    source = {"type": "table", "file": "list.jsonl"}
    for line, message in (("{", r"list\.jsonl:2: not a JSON object"), ('{"audio": "b.wav"}', r"list\.jsonl:2: no 'text'")):
        (tmp_path / "list.jsonl").write_text('{"audio": "a.wav", "text": "one"}\n' + line)
        with pytest.raises(ValueError, match=message):
            prepare_corpus(corpus_config(source=source, splits={"train": "all"}), tmp_path, tmp_path / "manifests")


def test_folder_with_faults(tmp_path: Path) -> None:
    """Two files of one name, a transcript of another encoding, one without, and one that is read in spite of its byte order mark."""
    corpus = tmp_path / "corpus"
    texts = {"s1/a": b"one", "s2/a": "two".encode("utf-8-sig"), "s1/b": "drei für".encode("latin-1"), "s2/c": None}
    for path, text in texts.items():
        write_wav(corpus / f"{path}.wav", 1.0)
        if text is not None:
            (corpus / f"{path}.txt").write_bytes(text)
    source = {"type": "folder", "path": r"^(?P<speaker>\w+)/"}
    config = corpus_config(source=source, splits={"train": "all"}, max_dropped=1)
    prepare_corpus(config, corpus, tmp_path / "manifests")
    assert [(item.id, item.text, item.speaker) for item in read_transcripts(tmp_path / "manifests/train.jsonl.gz")] == [
        ("s1-a", "one", "s1"), ("s2-a", "two", "s2")]
    assert {item.id: item.reason.partition(":")[0] for item in read_dropped(tmp_path / "manifests/dropped.jsonl")} == {
        "b": "transcript not UTF-8", "c": "no transcript"}


def test_lines_of_a_folder(tmp_path: Path) -> None:
    """More fields than two, a line without a separator, one for no file, one twice."""
    corpus = tmp_path / "corpus"
    for name in "abc":
        write_wav(corpus / f"wav/{name}.wav", 1.0)
    (corpus / "list.txt").write_text("wav/a.wav|f|one|two\nb.wav|m|three\n\nc\nb|m|four\nd|f|five\n")
    source = {"type": "folder", "text": "list.txt", "separator": "|", "fields": ["id", "gender", "text"]}
    prepare_corpus(corpus_config(source=source, splits={"train": "all"}, max_dropped=1), corpus, tmp_path / "manifests")
    cuts = read_cuts(tmp_path / "manifests/train.jsonl.gz")
    assert [(cut.id, cut.supervisions[0].text, cut.supervisions[0].gender) for cut in cuts] == [("a", "one|two", "f"), ("b", "three", "m")]
    dropped = [(item.id, item.reason) for item in read_dropped(tmp_path / "manifests/dropped.jsonl")]
    assert dropped == [("b", "duplicate id: list.txt:5; the first line was kept"), ("c", "no transcript: not in list.txt"),
                       ("d", "no audio file: list.txt:6"), ("list.txt:4", "not a line of id, gender, text: there is no '|' in it")]


@pytest.mark.parametrize("values, message", [
    ({"path": "("}, "corpus.source.path: .*not a regular expression"),
    ({"fields": ["id", "words"]}, "corpus.source.fields: .*'id' and 'text' must be among the fields"),
])
def test_wrong_settings_of_a_folder(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("corpus.", "")):
        corpus_config(source={"type": "folder", **values})
