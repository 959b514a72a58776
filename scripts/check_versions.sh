#!/usr/bin/env bash
# Does the package work by itself, and with all versions that pyproject.toml allows? Builds the sdist and the wheel,
# installs the wheel into a fresh environment, and runs the demo and tests on it, away from the checkout.
#
#   scripts/check_versions.sh oldest --python python3.10   # the oldest version of everything that pyproject.toml names
#   scripts/check_versions.sh newest --python python3.13   # the newest
#   scripts/check_versions.sh newest --all                 # all tests, in the place of those of some minutes
#   scripts/check_versions.sh newest tests/cli             # these tests
#
# It needs 8 GB in $TMPDIR, which are removed in the end. CPU=1 takes PyTorch for CPUs, as in the Makefile; JOBS=1 runs
# one test at a time.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
complain() { echo "$1: see the first lines of $0" >&2; exit 2; }

versions=${1:-} python=python3 tests=()
[[ $versions = oldest || $versions = newest ]] || complain "say oldest or newest"
shift
while [ $# -gt 0 ]; do
    case $1 in
        --python) python=${2:?--python needs a name}; shift ;;
        --all) tests=(tests) ;;
        -*) complain "no option $1" ;;
        *) tests+=("$1") ;;
    esac
    shift
done
[ ${#tests[@]} -gt 0 ] || tests=(tests/test_{package,options,doctor,house,images}.py tests/{app,aging,cli,networks,photos})

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip() { "$1/bin/python" -m pip --disable-pip-version-check install --quiet "${@:2}"; }

# All files of the checkout, without what builds before left there.
mkdir "$work/source"
git -C "$checkout" ls-files -z | tar -C "$checkout" --null --files-from - -c | tar -C "$work/source" -x

echo "--- build: the wheel is made from the sdist, and is what the checkout makes"
"$python" -m venv "$work/build"
pip "$work/build" build
for what in "" --wheel; do # without --wheel it makes an sdist, and the wheel from that
    "$work/build/bin/python" -m build $what --outdir "$work/dist$what" "$work/source" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
done
"$work/build/bin/python" "$checkout/scripts/same_wheels.py" "$work"/dist/*.whl "$work"/dist--wheel/*.whl

echo "--- install: the $versions versions, for $("$python" --version)"
"$python" -m venv "$work/env"
touch "$work/constraints.txt"
[ "$versions" = newest ] || "$work/build/bin/python" "$checkout/scripts/lower_bounds.py" >"$work/constraints.txt"
pip "$work/env" --upgrade pip
if [ "${CPU:-}" = 1 ]; then
    pip "$work/env" -c "$work/constraints.txt" --index-url https://download.pytorch.org/whl/cpu torch torchvision
fi
wheel=$(echo "$work"/dist/*.whl)
pip "$work/env" -c "$work/constraints.txt" "$wheel[dev]"
"$work/env/bin/python" -m pip check || true
"$work/env/bin/python" -m pip list --format=freeze |
    grep -iE '^(torch|torchvision|numpy|pillow|click|gradio|scipy|matplotlib|huggingface[-_]hub|facegen)=' | paste -sd ' '

echo "--- demo"
cd "$work"
"$work/env/bin/facegen" --version
"$work/env/bin/facegen" demo --outdir "$work/out"

echo "--- tests: ${tests[*]}"
# All that the tests look at, but the packages: these are found where pip put them.
cd "$work/source"
rm -r facegen dnnlib torch_utils build ./*.egg-info
"$work/env/bin/python" -c "import facegen; assert facegen.__file__.startswith('$work/env/'), facegen.__file__"
"$work/env/bin/python" -m pytest -o pythonpath= -p no:cacheprovider --basetemp "$work/pytest" \
    -n "${JOBS:-logical}" --maxprocesses 8 "${tests[@]}"
