#!/usr/bin/env bash
# Prints the path of a Python of the given version that can make virtual environments.
#
#   utils/find_python.sh 3.10
#
# Looks on PATH, then where pyenv, uv and conda keep theirs, then in the system's directories.
# Where none is found: exit 1, having said what was looked for, what was wrong with it, and how to get one.
set -euo pipefail
shopt -s nullglob

version=${1:?usage: find_python.sh VERSION, for example 3.10}
pyenv_root=${PYENV_ROOT:-$HOME/.pyenv}
uv_root=${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}
conda_roots=("$HOME"/miniconda3 "$HOME"/miniforge3 "$HOME"/mambaforge "$HOME"/anaconda3 "$HOME"/.conda)
[[ -n ${CONDA_EXE:-} ]] && conda_roots=("$(dirname "$(dirname "$CONDA_EXE")")" "${conda_roots[@]}")
system_dirs=${SYSTEM_PYTHON_DIRS-/usr/local/bin:/usr/bin:/opt/homebrew/bin:/opt/conda/bin}

candidates() {
    type -aP "python$version" python3 python || true
    printf '%s\n' "$pyenv_root/versions/$version".*/bin/"python$version"
    printf '%s\n' "$uv_root/cpython-$version".*/bin/"python$version"
    local root directory
    for root in "${conda_roots[@]}"; do
        printf '%s\n' "$root"/bin/"python$version" "$root"/envs/*/bin/"python$version"
    done
    for directory in ${system_dirs//:/ }; do printf '%s\n' "$directory/python$version"; done
}

# Prints the interpreter behind $1 (past any virtual environment or shim), or fails with one line on stderr.
probe() {
    "$1" - "$version" <<'PYTHON'
import sys
version = "%d.%d" % sys.version_info[:2]
if version != sys.argv[1]:
    sys.exit("is Python " + version)
try:
    import ensurepip, venv
except ImportError as error:
    sys.exit("%s: install the package python%s-venv of your system" % (error, version))
print(getattr(sys, "_base_executable", None) or sys.executable)
PYTHON
}

rejected=
while IFS= read -r candidate; do
    [[ -x $candidate ]] || continue
    if found=$(probe "$candidate" 2>&1); then
        echo "$found"
        exit 0
    fi
    rejected+="    $candidate: ${found%%$'\n'*}"$'\n'
done < <(candidates | awk 'NF && !seen[$0]++')

cat >&2 <<EOM
No usable Python $version was found. Looked for:
    python$version, python3 and python on PATH
    $pyenv_root/versions/$version.*  (pyenv)
    $uv_root/cpython-$version.*  (uv)
    bin/ and envs/*/bin/ in ${conda_roots[*]}  (conda)
    python$version in ${system_dirs//:/ }
${rejected:+  and refused:
$rejected}To get one, any of:
    pyenv install $version
    uv python install $version
    conda create -n python$version python=$version
    sudo apt install python$version python$version-venv     (Ubuntu: after 'sudo add-apt-repository ppa:deadsnakes/ppa')
EOM
exit 1
