"""Rules of single corpora that their prepare.py or their config applies, and that every config of a recipe is valid."""
from __future__ import annotations

import gzip
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.config import load_config
from asr.data.manifests import read_cuts
from asr.experiment import ExperimentConfig
from tests.conftest import ROOT
from tests.recipes.layouts import write

CONFIGS = sorted(ROOT.glob("egs/*/conf/*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=[f"{path.parts[-3]}/{path.stem}" for path in CONFIGS])
def test_configs_of_recipes_are_valid(path: Path) -> None:
    load_config(ExperimentConfig, path)


def prepare(recipe: str, corpus: Path, out: Path) -> dict[str, list[Any]]:
    out.mkdir()
    made: dict[str, Path] = runpy.run_path(str(ROOT / "egs" / recipe / "prepare.py"))["prepare"](corpus, out)
    return {split: read_cuts(path) for split, path in made.items()}


def test_ml_superb_trains_on_five_utterances_of_some_languages(tmp_path: Path) -> None:
    for language in ("tur", "swa"):
        folder = tmp_path / "eighth_version/cv" / language
        for place, name in enumerate(("1h_train", "10min_dev", "10min_test")):
            ids = [f"cv_{language}_{95 + 10 * place + index:06d}" for index in range(3)]
            for id in ids:
                write(folder / f"wav/{id}.wav", np.zeros(1600, np.int16))
            (folder / f"transcript_{name}.txt").write_text("".join(f"{id}\toriginal.mp3\tbir [noise] iki\n" for id in ids))
    found = prepare("ml_superb", tmp_path / "eighth_version", tmp_path / "out")
    assert [cut.id for cut in found["train"]] == ["cv_swa_000095", "cv_swa_000096", "cv_swa_000097", "cv_tur_000095"]
    assert {split: len(cuts) for split, cuts in found.items()} == {"train": 4, "dev": 6, "test": 6}
    assert {tuple(cut.supervisions[0].text.split()) for cut in found["test"]} == {("bir", "iki")}


def test_voxpopuli_names_a_recording_that_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "transcribed_data/hr"
    folder.mkdir(parents=True)
    table = ("session_id|id_|vad|split|original_text|normed_text|speaker_id|gender|is_gold_transcript|accent\n"
             "20180206-0900-PLENARY-1|hr_1|[(0.5, 1.0)]|test|Da.|da.|7|male|False|None\n")
    (folder / "asr_hr.tsv.gz").write_bytes(gzip.compress(table.encode()))
    with pytest.raises(ValueError, match=r"original/2018/20180206-0900-PLENARY-1_original\.ogg: no such recording"):
        prepare("voxpopuli", folder, tmp_path / "out")
