# Sourced by a recipe after its stage 0: stages 1 to 9, from the corpus in $corpus_dir to RESULTS.md, which are the same for every corpus.
# A recipe may set before:
#   text=(FILE ...)          text for the language models, beside the training transcripts and --lm-text (default: none)
#   test_splits=(NAME ...)   the sets to decode once, with the scales tuned on dev (default: test)
if [ -n "$lm_text" ]; then text+=("$lm_text"); fi
launch=(python)
if [ "$processes" != 1 ]; then launch=(torchrun --standalone --nproc_per_node "$processes"); fi

stage 1 "manifests, validated" \
  python "$local/prepare_manifests.py" "${experiment[@]}" --corpus-dir "$corpus_dir"

stage 2 "features" \
  in_jobs features python "$local/compute_features.py" "${experiment[@]}"

stage 3 "tokens" \
  python "$local/train_tokens.py" "${experiment[@]}"

stage 4 "language directory: lexicon, L" \
  python "$local/prepare_lang.py" "${experiment[@]}" ${text[@]+--text "${text[@]}"}

stage 5 "n-gram language models" \
  python "$local/train_ngram.py" "${experiment[@]}" ${text[@]+--text "${text[@]}"}
stage 5 "neural language models, where the config has any" \
  "${launch[@]}" -m asr train-lm "${experiment[@]}" ${text[@]+--text "${text[@]}"}
stage 5 "graphs: LG, HLG" \
  python "$local/compile_graph.py" "${experiment[@]}"

stage 6 "train" \
  "${launch[@]}" -m asr train "${experiment[@]}"

stage 7 "decode dev, tune the scales there" \
  in_jobs decode_dev python -m asr decode "${experiment[@]}" --splits dev --tune

stage 8 "decode test once, with those scales" \
  in_jobs decode_test python -m asr decode "${experiment[@]}" --splits "${test_splits[@]}"

stage 9 "score, ledger, RESULTS.md" \
  python -m asr score "${experiment[@]}" --splits "${test_splits[@]}" --results-dir "$results_dir"
stage 9 "a page about the errors of each search" \
  python -m asr report "${experiment[@]}" --splits "${test_splits[@]}"
