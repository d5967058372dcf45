#!/usr/bin/env bash
# mini_librispeech: five hours of LibriSpeech (OpenSLR 31).
#
#   ./run.sh                                            # downloads 0.5 GB
#   ./run.sh --corpus-dir /path/to/LibriSpeech          # uses a copy that is already there
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with train-clean-5/ and dev-clean-2/ (default: download/mini_librispeech)
set -euo pipefail

corpus_dir=download/mini_librispeech
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --lhotse librispeech --option dataset_parts=mini_librispeech --to "$corpus_dir"

. "$root/utils/stages.sh"
