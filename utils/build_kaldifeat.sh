#!/usr/bin/env bash
# Compiles kaldifeat, an optional engine for features, for the torch of the virtual environment (about five minutes).
#
#   [VENV=.venv] [JOBS=2] utils/build_kaldifeat.sh
#
# Needs a C++20 compiler, cmake (brought by pip where the system has none) and torch >= 2 (the build of older ones insists on CUDA). kaldifeat's own build would
# fetch pybind11 from the network; it is handed the source distribution that pip brings instead.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-.venv}
[[ $venv == /* ]] || venv=$root/$venv
python=$venv/bin/python
kaldifeat=1.24
pybind11=3.0.4
log=$venv/kaldifeat.log

fail() {
    echo "make kaldifeat: $*" >&2
    exit 1
}

[[ -x $python && ! -e $venv/.incomplete ]] || fail "there is no whole environment in $venv: run 'make env' first"
torch=$("$python" -c 'import torch; print(torch.__version__)') || fail "torch cannot be imported in $venv: run 'asr doctor'"
(( ${torch%%.*} >= 2 )) || fail "kaldifeat does not compile against torch $torch; build a modern stack first: make env STACK=modern VENV=.venv-modern"
command -v "${CXX:-c++}" >/dev/null || fail "no C++ compiler: install g++ or clang, or name one in CXX"
if "$python" -c "import kaldifeat, importlib.metadata as m; assert m.version('kaldifeat') == '$kaldifeat'" 2>/dev/null; then
    echo "kaldifeat $kaldifeat is already in $venv"
    exit 0
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/kaldifeat.XXXXXX")
trap 'rm -rf "$work"' EXIT
started=$SECONDS
echo "compiling kaldifeat $kaldifeat for torch $torch (about five minutes; output in $log)"
{
    command -v cmake || "$python" -m pip install -q "cmake<4"
    "$python" -m pip download -q --no-deps --no-binary pybind11 -d "$work" "pybind11==$pybind11"
    mkdir "$work/pybind11"
    tar -xzf "$work/pybind11-$pybind11.tar.gz" -C "$work/pybind11" --strip-components 1
    export PATH=$venv/bin:$PATH KALDIFEAT_MAKE_ARGS="-j${JOBS:-$(getconf _NPROCESSORS_ONLN)}"
    export KALDIFEAT_CMAKE_ARGS="-DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_STANDARD=20 -DPYTHON_EXECUTABLE=$python \
-DPython_EXECUTABLE=$python -DFETCHCONTENT_SOURCE_DIR_PYBIND11=$work/pybind11"
    "$python" -m pip install --no-build-isolation --no-deps --no-binary kaldifeat "kaldifeat==$kaldifeat"
} >"$log" 2>&1 || {
    grep -v "is ignored" "$log" | tail -25 >&2
    fail "the build failed; all of its output is in $log"
}
"$python" -c 'import kaldifeat' || fail "kaldifeat was built but cannot be imported"
echo "kaldifeat $kaldifeat is ready in $venv after $((SECONDS - started)) s"
