#!/usr/bin/env bash
# wenetspeech: ten thousand hours of Mandarin from YouTube and podcasts (WenetSpeech, Zhang et al., ICASSP 2022, arXiv:2110.03370).
#
# The corpus has to be fetched by hand: its publisher asks for an application (wenet-e2e.github.io/WenetSpeech) and answers with a password.
# With it in SAFEBOX/password of github.com/wenet-e2e/WenetSpeech, utils/download_wenetspeech.sh DOWNLOAD_DIR DIR gets all of it (500 GB,
# and as much again while it unpacks): WenetSpeech.json, and long recordings in Opus.
#
#   ./run.sh --corpus-dir DIR                                                                  # subset M, 1000 hours: one GPU
#   ./run.sh --corpus-dir DIR --set corpus.splits.train=S --set train.schedule.decay_epochs=6  # 100 hours
#
# All 10000 hours (L), on eight GPUs; from shards, since as many cuts do not fit into memory once for each process:
#   ./run.sh --corpus-dir DIR --config conf/full.yaml --stop-stage 2
#   python ../../local/export_shar.py --config conf/full.yaml
#   ./run.sh --corpus-dir DIR --config conf/full.yaml --stage 3 --processes 8
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with WenetSpeech.json and audio/ (default: download/wenetspeech)
set -euo pipefail

corpus_dir=download/wenetspeech
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --to "$corpus_dir"

test_splits=(test_net test_meeting)
. "$root/utils/stages.sh"
