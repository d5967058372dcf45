"""TIMIT by lhotse's recipe, with the phones for a transcript."""
from __future__ import annotations

from pathlib import Path

from lhotse import CutSet, MonoCut
from lhotse.recipes import prepare_timit


def prepare(corpus_dir: Path, out: Path) -> dict[str, Path]:
    paths = {}
    for split, manifests in prepare_timit(corpus_dir, num_phones=39).items():
        recordings = {recording.id: recording for recording in manifests["recordings"]}
        cuts = []
        for segment in manifests["supervisions"]:
            if "-SA" in segment.id.upper():
                continue
            phones = [item.symbol for item in segment.alignment["phone"] if item.symbol]  # a glottal stop has none
            segment.text = " ".join(phone for phone, before in zip(phones, ["", *phones]) if not phone == before == "sil")
            cuts.append(MonoCut(segment.id, 0.0, segment.duration, 0, supervisions=[segment], recording=recordings[segment.id]))
        paths[split] = out / f"{split}.jsonl.gz"
        CutSet.from_cuts(sorted(cuts, key=lambda cut: cut.id)).to_file(paths[split])
    return paths
