#!/usr/bin/env bash
# numbers: spoken numbers and short commands, synthesised here by eSpeak NG, from nothing to a table of word error rates.
#
#   ./run.sh                                  # all stages, about a quarter of an hour on two cores
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

text=("$corpus_dir/lm_text.txt")
. "$root/utils/stages.sh"
