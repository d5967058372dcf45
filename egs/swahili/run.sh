#!/usr/bin/env bash
# swahili: 463 utterances, 2.19 hours, speakers: none known.
#
#   ./run.sh                                  # fetches the corpus
#   ./run.sh --corpus-dir /path/to/swahili    # uses a copy that is already there
#
# Options of this recipe:
#   --corpus-dir DIR    where the corpus lies (default: download/swahili)
set -euo pipefail

corpus_dir=download/swahili
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --url https://github.com/CateGitau/Swahili-Speech/archive/HEAD.tar.gz --to "$corpus_dir"

stage 1 "manifests, validated" \
  python "$local/prepare_manifests.py" "${experiment[@]}" --corpus-dir "$corpus_dir"

stage 2 "features" \
  python "$local/compute_features.py" "${experiment[@]}"

stage 3 "tokens" \
  python "$local/train_tokens.py" "${experiment[@]}"

stage 4 "language directory: lexicon, L" \
  python "$local/prepare_lang.py" "${experiment[@]}"

stage 5 "n-gram language models" \
  python "$local/train_ngram.py" "${experiment[@]}"
stage 5 "graphs: LG, HLG" \
  python "$local/compile_graph.py" "${experiment[@]}"

stage 6 "train" \
  python -m asr train "${experiment[@]}"

stage 7 "decode dev, tune the scales there" \
  python -m asr decode "${experiment[@]}" --splits dev --tune

stage 8 "decode test once, with those scales" \
  python -m asr decode "${experiment[@]}" --splits test

stage 9 "score, ledger, RESULTS.md" \
  python -m asr score "${experiment[@]}" --splits test --results-dir "$results_dir"
