#!/usr/bin/env bash
# gigaspeech: ten thousand hours of English audiobooks, podcasts and YouTube (GigaSpeech, Chen et al., Interspeech 2021, arXiv:2106.06909).
#
# The corpus has to be fetched by hand: its publisher asks for an application (the form is on github.com/SpeechColab/GigaSpeech) and answers
# with a password. With it in SAFEBOX/password of that repository, utils/download_gigaspeech.sh DIR gets the raw release (1.2 TB while it
# unpacks), which is what is read here: GigaSpeech.json, and long recordings in Opus.
#
#   ./run.sh --corpus-dir DIR                                                                  # subset M, 1000 hours: one GPU
#   ./run.sh --corpus-dir DIR --set corpus.splits.train=S --set train.schedule.decay_epochs=6  # 250 hours; XS is 10, L 2500
#
# All 10000 hours (XL), on eight GPUs; from shards, since as many cuts do not fit into memory once for each process:
#   ./run.sh --corpus-dir DIR --config conf/full.yaml --stop-stage 2
#   python ../../local/export_shar.py --config conf/full.yaml
#   ./run.sh --corpus-dir DIR --config conf/full.yaml --stage 3 --processes 8
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with GigaSpeech.json and audio/ (default: download/gigaspeech)
set -euo pipefail

corpus_dir=download/gigaspeech
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --to "$corpus_dir"

. "$root/utils/stages.sh"
