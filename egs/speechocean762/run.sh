#!/usr/bin/env bash
# speechocean762: English sentences read by 250 native speakers of Mandarin, half of them children (OpenSLR 101).
#
# Training starts from the model of egs/numbers: run that first, or choose conf/scratch.yaml.
#
#   ./run.sh                                         # downloads the corpus (0.5 GB)
#   ./run.sh --corpus-dir /path/to/speechocean762    # uses a copy that is already there
#
# Options of this recipe:
#   --corpus-dir DIR    the folder with train/, test/, WAVE/ and resource/ (default: download/speechocean762)
set -euo pipefail

corpus_dir=download/speechocean762
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "the corpus" \
  python "$local/download_corpus.py" --url https://www.openslr.org/resources/101/speechocean762.tar.gz --to "$corpus_dir"

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
  python -m asr decode "${experiment[@]}" --splits test_adult test_child

stage 9 "score, ledger, RESULTS.md" \
  python -m asr score "${experiment[@]}" --splits test_adult test_child --results-dir "$results_dir"
