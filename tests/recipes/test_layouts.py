"""Every recipe of a corpus that is not at hand, all stages, on a corpus of a minute in the same layout."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.data import read_transcripts
from tests.conftest import ROOT
from tests.recipes.layouts import LAYOUTS
from tests.recipes.recipe import Recipe

AT_HAND = {"numbers", "numbers_multilingual", "yesno", "speechocean762", "swahili"}
TESTS = {"librispeech": ["test_clean", "test_other"], "wenetspeech": ["test_net", "test_meeting"]}
UNKNOWN_SPEAKERS = {"fleurs", "ml_superb"}
A_TRANSCRIPT = {
    "librispeech": "the boy was there when the sun rose", "mini_librispeech": "the soft cushion broke the man's fall",
    "aishell": "今 天 天 气 很 好", "commonvoice": "habari ya asubuhi rafiki yangu", "tedlium3": "the soft cushion broke the man's fall",
    "an4": "help the woman get back to her feet", "timit": "sil dh ah sil b oy w ah z sil", "fleurs": "watoto wanacheza nje",
    "gigaspeech": "the boy was there when the sun rose", "gigaspeech2": "วั น นี้ อ า ก า ศ ดี ม า ก", "wenetspeech": "OK 今 天 天 气 很 好",
    "mls": "kot śpi na starym krześle", "voxpopuli": "građani čekaju naš odgovor", "openslr_indic": "ગાડી ક્યારે આવશે",
    "ml_superb": "<lang:swa> HABARI YA ASUBUHI RAFIKI YANGU",
}


def test_no_recipe_is_without_a_run() -> None:
    recipes = {path.parent.name for path in ROOT.glob("egs/*/run.sh")}
    assert recipes == LAYOUTS.keys() | AT_HAND and A_TRANSCRIPT.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("name", LAYOUTS)
def test_all_stages(name: str, tmp_path: Path) -> None:
    recipe = Recipe(name, tmp_path / "run", corpus=LAYOUTS[name](tmp_path / "corpus"))
    finished = recipe.run()
    assert finished.returncode == 0, finished.stderr
    said = {item.text for item in read_transcripts(recipe.data / "manifests/train.jsonl.gz")}
    assert A_TRANSCRIPT[name] in said
    speakers = [{item.speaker for item in read_transcripts(recipe.data / f"manifests/{split}.jsonl.gz")}
                for split in ("train", "dev", *TESTS.get(name, ["test"]))]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) or name in UNKNOWN_SPEAKERS
    rows = [json.loads(line) for line in (recipe.results / "ledger.jsonl").read_text().splitlines()]
    assert {row["split"] for row in rows} == set(TESTS.get(name, ["test"]))
    assert {"greedy", "beam", "beam_ngram", "ctc_greedy"} <= {row["search"] for row in rows}
