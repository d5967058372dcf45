#!/usr/bin/env bash
# voxpopuli: speeches in the European Parliament, in sixteen languages (VoxPopuli; Wang et al. 2021, arXiv 2101.00390).
#
#   ./run.sh                                              # Croatian, 43 hours
#   ./run.sh --language en --processes 8 --config conf/eight_gpus.yaml           # 543 hours
#   ./run.sh --corpus-dir /path/to/voxpopuli              # uses a copy that is already there
#
# The recordings are those of all languages, twelve years of plenary sessions: one download, of some 50 GB, serves all. The table
# of a language, which says who speaks when, is small. Each language wants a --data-dir and an --exp-dir of its own.
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with raw_audios/original/YEAR/ and transcribed_data/LANGUAGE/ (default: download/voxpopuli)
#   --language NAME     en, de, fr, es, pl, it, ro, hu, cs, nl, fi, hr, sk, sl, et or lt (default: hr)
set -euo pipefail

corpus_dir=download/voxpopuli
language=hr
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the recordings" \
  python "$local/download_corpus.py" --lhotse voxpopuli --option subset=asr --to "$corpus_dir"
corpus_dir=$corpus_dir/transcribed_data/$language
stage 0 "the transcripts" \
  python "$local/download_corpus.py" --to "$corpus_dir" \
  --url "https://dl.fbaipublicfiles.com/voxpopuli/annotations/asr/asr_$language.tsv.gz"

. "$root/utils/stages.sh"
