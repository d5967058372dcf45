#!/usr/bin/env bash
# numbers: spoken numbers and short commands, synthesised here by eSpeak NG, from nothing to a table of word error rates.
#
#   ./run.sh                                  # all stages, about ten minutes on two cores
#   ./run.sh --stage 6 --set name=zipformer --set 'model.encoder={type: zipformer}'   # another encoder; decode and score it too
#
# Options of this recipe:
#   --lang CODE         any language that eSpeak NG and num2words both know (default: en)
#   --utterances N      training utterances to synthesise (default: 8000)
#   --dev-utterances N, --test-utterances N, --speakers N, --lm-sentences N
#                       other sizes of the corpus (default: 200, 350, 400, 20000)
#   --corpus-dir DIR    where the corpus is written (default: corpus)
set -euo pipefail

lang=en
utterances=8000
dev_utterances=200
test_utterances=350
speakers=400
lm_sentences=20000
corpus_dir=corpus
. "$(dirname "$0")/../../utils/setup.sh"

stage 0 "synthesise the corpus" \
  python "$local/synthesise_corpus.py" --out "$corpus_dir" --lang "$lang" --utterances "$utterances" \
  --dev-utterances "$dev_utterances" --test-utterances "$test_utterances" --speakers "$speakers" \
  --lm-sentences "$lm_sentences"

stage 1 "manifests, validated" \
  python "$local/prepare_manifests.py" "${experiment[@]}" --corpus-dir "$corpus_dir"

stage 2 "features" \
  python "$local/compute_features.py" "${experiment[@]}"

stage 3 "tokens" \
  python "$local/train_tokens.py" "${experiment[@]}"

stage 4 "language directory: lexicon, L" \
  python "$local/prepare_lang.py" "${experiment[@]}" --text "$corpus_dir/lm_text.txt"

stage 5 "n-gram language models" \
  python "$local/train_ngram.py" "${experiment[@]}" --text "$corpus_dir/lm_text.txt"
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
