#!/usr/bin/env bash
# ml_superb: an hour of speech from each source in 123 languages, and five sentences in each of twenty more (ML-SUPERB; Shi et al.
# 2023, arXiv 2305.10615), as the Interspeech 2024 challenge on discrete speech units takes it (Chang et al. 2024, arXiv 2406.07725).
#
# The corpus has to be fetched by hand: it is a collection with a licence for each of its sources (multilingual.superbbenchmark.org).
#
#   ./run.sh --corpus-dir /path/to/eighth_version                                     # Mel features
#   ./run.sh --corpus-dir /path/to/eighth_version --config conf/wavlm_units.yaml      # the units of the challenge's baseline
#   ./run.sh --corpus-dir /path/to/eighth_version --config conf/xls_r_units.yaml      # units of a multilingual model
#
# What counts is the CER over all languages; language tags are no words to it. The bitrate of units: asr unit-quality.
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with SOURCE/LANGUAGE/transcript_1h_train.txt and so on (default: download/ml_superb)
set -euo pipefail

corpus_dir=download/ml_superb
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --to "$corpus_dir"

. "$root/utils/stages.sh"
