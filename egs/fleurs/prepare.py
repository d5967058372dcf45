"""One language of FLEURS by lhotse's recipe, which wants the folder of all languages and somewhere to write."""
from __future__ import annotations

from pathlib import Path

from lhotse import CutSet
from lhotse.recipes import prepare_fleurs


def prepare(corpus_dir: Path, out: Path) -> dict[str, Path]:
    language = corpus_dir.name
    found = prepare_fleurs(corpus_dir.parent, out / "lhotse", languages=language)
    paths = {}
    for split, manifests in found[language].items():
        paths[split] = out / f"{split}.jsonl.gz"
        cuts = CutSet.from_manifests(recordings=manifests["recordings"], supervisions=manifests["supervisions"]).trim_to_supervisions()
        CutSet.from_cuts(cut.with_id(cut.supervisions[0].id) for cut in cuts).to_file(paths[split])
    return paths
