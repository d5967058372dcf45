#!/usr/bin/env bash
# Builds the virtual environment that everything else here uses, and ends with `asr doctor`.
#
#   make env                        the best stack this machine can have
#   make env STACK=k2               Python 3.10, torch 1.13, k2
#   make env STACK=modern           Python 3.11 or newer, a recent torch, no k2
#   utils/setup_env.sh --dry-run    says what would be built, and why
#   utils/setup_env.sh --rebuild    builds it anew, whatever state it is in
#   utils/setup_env.sh --if-missing builds only where there is no environment, or an interrupted one; else says nothing
#
# STACK=auto takes the first of these that can be had: a recent torch with k2 from k2's own page of wheels; the k2 stack;
# the modern stack. VENV is the directory (default .venv), K2_WHEELS the address of the page (file:// will do).
# Running it again is cheap: $VENV/.stamp, written last, tells a whole environment from an interrupted one ($VENV/.incomplete).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
stack=${STACK:-auto}
venv=${VENV:-.venv}
[[ $venv == /* ]] || venv=$root/$venv
log=$venv/build.log
k2_pages=https://k2-fsa.github.io/k2
modern_pythons=(3.11 3.12 3.13)   # the first is the one the pins were tested with
dry_run=false if_missing=false rebuild=false

fail() {
    echo "make env: $*" >&2
    exit 1
}

for argument in "$@"; do
    case $argument in
        --dry-run) dry_run=true ;;
        --if-missing) if_missing=true ;;
        --rebuild) rebuild=true ;;
        --help) sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//; p}' "$0"; exit 0 ;;
        *) fail "unknown option $argument; see utils/setup_env.sh --help" ;;
    esac
done
case $stack in auto | k2 | modern) ;; *) fail "STACK=$stack is not one of auto, k2, modern" ;; esac

# ---------------------------------------------------------------- what this machine can have
# Each plan_* sets `python` and `built`, says why on failure, and leaves everything else alone.

gpu_capability() {
    nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sort -n | head -n 1
}

plan_modern_k2() {
    local page=${K2_WHEELS:-$k2_pages/cpu.html} version found pythons=
    [[ -z ${K2_WHEELS:-} && -n $(gpu_capability) ]] && page=$k2_pages/cuda.html
    for version in "${modern_pythons[@]}"; do
        if found=$("$root/utils/find_python.sh" "$version" 2>/dev/null); then
            pythons+=${pythons:+,}$version
            python=$found
        fi
    done
    [[ -n $pythons ]] || { echo "no recent torch with k2: none of Python ${modern_pythons[*]} was found"; return 1; }
    if ! found=$("$python" "$root/utils/k2_wheels.py" "$page" --python "$pythons" 2>&1); then
        echo "no recent torch with k2: $found"
        return 1
    fi
    read -r version k2_torch k2_wheel <<<"$found"
    k2_page=$page k2_python=$version built=modern+k2
    python=$("$root/utils/find_python.sh" "$version")
    echo "stack: torch $k2_torch with k2, since $page has ${k2_wheel##*/}"
}

plan_k2() {
    local found capability
    if [[ "$(uname -s) $(uname -m)" != "Linux x86_64" ]]; then
        echo "no k2 stack: its wheels are for Linux on x86_64"
        return 1
    fi
    if ! found=$("$root/utils/find_python.sh" 3.10 2>&1); then
        echo "no k2 stack: $found"
        return 1
    fi
    capability=$(gpu_capability)
    if [[ $stack == auto && -n $capability && ${capability%%.*} -ge 9 ]]; then
        echo "no k2 stack: its torch has no kernels for this GPU (compute capability $capability); STACK=k2 would use the CPU only"
        return 1
    fi
    python=$found built=k2
    echo "stack: k2 (torch 1.13 with k2 from pinned requirements), since Python 3.10 is at $python"
}

plan_modern() {
    local version found
    for version in "${modern_pythons[@]}"; do
        if found=$("$root/utils/find_python.sh" "$version" 2>&1); then
            python=$found built=modern
            echo "stack: modern, without k2, since Python $version is at $python"
            return
        fi
    done
    echo "no modern stack: none of Python ${modern_pythons[*]} can be used"
    "$root/utils/find_python.sh" "${modern_pythons[0]}" || return 1
}

# ---------------------------------------------------------------- building one of them

ticker=
stop_ticker() {
    [[ -z $ticker ]] || kill "$ticker" 2>/dev/null || true
    ticker=
}

# step TITLE COMMAND...: runs it with its output in the log, and shows the seconds.
step() {
    local title=$1 begin=$SECONDS status=0
    shift
    printf '  %s ...' "$title"
    if [[ -t 1 ]]; then
        (while sleep 1; do printf '\r  %s ... %d s' "$title" $((SECONDS - begin)); done) &
        ticker=$!
    fi
    "$@" >>"$log" 2>&1 || status=$?
    stop_ticker
    [[ -t 1 ]] && printf '\r  %s ...' "$title"
    if ((status)); then
        printf ' failed after %d s\n' $((SECONDS - begin))
        grep -v "is ignored" "$log" | tail -n 15 | sed 's/^/    /'
        echo "    all output: $log"
        return 1
    fi
    printf ' %d s\n' $((SECONDS - begin))
}

pip_install() {
    "$venv/bin/python" -m pip install --disable-pip-version-check "$@"
}

# The k2 1.23 wheel bears a tag that pip 24 and newer refuse.
old_pip() {
    "$venv/bin/python" -c 'import pip; raise SystemExit(int(pip.__version__.split(".")[0]) >= 24)' || pip_install "pip<24"
}

# The requirements of the modern stack with another torch: the one k2 was compiled with.
requirements_but_torch() {
    sed -e '/^torch==/d' -e "s#^-r #-r $root/requirements/#" "$root/requirements/modern.txt" >"$venv/requirements.txt"
    pip_install -r "$venv/requirements.txt" "torch==$k2_torch"
}

k2_for_installed_torch() {
    local cuda found
    local choose=("$venv/bin/python" "$root/utils/k2_wheels.py" "$k2_page" --python "$k2_python" --torch "$k2_torch" --cuda)
    cuda=$("$venv/bin/python" -c 'import torch; print(torch.version.cuda or "")') || return 1
    found=$("${choose[@]}" "$cuda" || "${choose[@]}" "") || return 1   # one for the CPU works with any torch, on the CPU
    pip_install graphviz && pip_install --no-deps "${found##* }"
}

requirements_hash() {
    local files=(base.txt dev.txt modern.txt)
    [[ $1 == k2 ]] && files=(base.txt dev.txt k2.txt)
    (cd "$root/requirements" && cat "${files[@]}" ../setup.py | cksum)
}

# What must be the same for an environment to be kept: otherwise it is built anew.
identity() {
    echo "$built $venv $root"
}

ours() {
    [[ -e $venv/.stamp || -e $venv/.incomplete ]]
}

prepare_directory() {
    if [[ -d $venv ]] && ! ours; then
        fail "$venv exists and was not made by this script: remove it, or choose another place with VENV=directory"
    fi
    if $rebuild || [[ -e $venv/.incomplete || "$(head -n 1 "$venv/.stamp" 2>/dev/null)" != "$(identity)" ]] || ! "$venv/bin/python" -c '' 2>/dev/null; then
        rm -rf "$venv"
    fi
    mkdir -p "$venv"
    touch "$venv/.incomplete"
    rm -f "$venv/.stamp"
    : >"$log"
    local free_gb
    free_gb=$(df -Pk "$venv" | awk 'NR == 2 {print int($4 / 1048576)}')
    ((free_gb >= 6)) || fail "$venv needs about 6 GB while it is built, and the disk has $free_gb GB free: make room, or set VENV to another disk"
}

build() {
    local begin=$SECONDS imports="torch, lhotse, asr"
    prepare_directory
    echo "building $venv (output in $log)"
    [[ -x $venv/bin/python ]] || step "virtual environment from $python" "$python" -m venv "$venv" || return 1
    case $built in
        modern+k2)
            step "torch $k2_torch and the requirements" requirements_but_torch || return 1
            step "k2" k2_for_installed_torch || return 1
            imports+=", k2"
            ;;
        k2)
            step "pip before version 24" old_pip || return 1
            step "torch, k2 and the requirements (3.4 GB)" pip_install -r "$root/requirements/k2.txt" || return 1
            imports+=", k2"
            ;;
        modern) step "torch and the requirements" pip_install -r "$root/requirements/modern.txt" || return 1 ;;
    esac
    step "tools for development" pip_install -r "$root/requirements/dev.txt" || return 1
    step "this project, editable" pip_install --no-deps --no-build-isolation -e "$root" || return 1
    step "importing $imports" "$venv/bin/python" -c "import $imports" || return 1
    { identity; requirements_hash "$built"; } >"$venv/.stamp"
    rm "$venv/.incomplete"
    echo "$venv is ready after $((SECONDS - begin)) s"
}

# Whether what stands there is whole, of the wanted stack, and made from the requirements as they are now.
up_to_date() {
    [[ -e $venv/.stamp && ! -e $venv/.incomplete ]] && ! $rebuild || return 1
    built=$(sed -n '1s/ .*//p' "$venv/.stamp")
    [[ $stack == auto || $stack == "$built" ]] || return 1
    [[ "$(cat "$venv/.stamp")" == "$(identity; requirements_hash "$built")" ]] && "$venv/bin/python" -c '' 2>/dev/null
}

exec 3>&2   # the terminal, also while a step's output goes to the log
interrupted() {
    stop_ticker
    printf '\nmake env: interrupted; run it again to finish (the half-built %s will not be used)\n' "$venv" >&3
    exit 130
}

main() {
    trap interrupted INT TERM
    trap stop_ticker EXIT
    if $if_missing && [[ -x $venv/bin/python && ! -e $venv/.incomplete ]]; then return; fi
    if up_to_date; then
        echo "$venv is up to date (stack $built)"
        $dry_run || exec "$venv/bin/asr" doctor
        return
    fi
    local plans=("plan_$stack") plan
    [[ $stack == auto ]] && plans=(plan_modern_k2 plan_k2 plan_modern)
    for plan in "${plans[@]}"; do
        "$plan" || continue
        if $dry_run; then
            echo "would build $venv with $python"
            return
        fi
        if build; then exec "$venv/bin/asr" doctor; fi
    done
    fail "nothing could be built; the reasons are above"
}

main
