#!/usr/bin/env bash
# librispeech: a thousand hours of read English from audiobooks (OpenSLR 12).
#
#   ./run.sh                                            # 100 hours: downloads 7 GB
#   ./run.sh --hours 960 --config conf/full.yaml        # all of it: 60 GB
#   ./run.sh --corpus-dir /path/to/LibriSpeech          # uses a copy that is already there
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with train-clean-100/, dev-clean/ and so on (default: download/librispeech)
#   --hours N           what is downloaded: 100 or 960 (default: 100)
set -euo pipefail

corpus_dir=download/librispeech
hours=100
. "$(dirname "$0")/../../utils/setup.sh"

train=train-clean-100
if [ "$hours" = 960 ]; then train=train-clean-100,train-clean-360,train-other-500; fi
stage 0 "the corpus" \
  python "$local/download_corpus.py" --lhotse librispeech --to "$corpus_dir" \
  --option "dataset_parts=[$train,dev-clean,dev-other,test-clean,test-other]"

test_splits=(test_clean test_other)
. "$root/utils/stages.sh"
