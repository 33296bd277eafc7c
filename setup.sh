#!/bin/sh
# Makes the virtual environment .venv beside this file and installs the project into it, with the exact versions of
# constraints.txt. `sh setup.sh` is enough to use it; `sh setup.sh test` adds what the tests need, `sh setup.sh fleet`
# what several machines need (docs/deploy.md).
# What Debian itself lacks is installed with apt-get when that is possible, and said.
set -eu
cd "$(dirname "$0")"

debian() {
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "setup.sh: installing the Debian package $1"
        (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1") >/dev/null
    else
        echo "setup.sh: the Debian package $1 is missing; install it with: sudo apt-get install $1" >&2
        return 1
    fi
}

python=${PYTHON:-python3}
command -v "$python" >/dev/null || debian python3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) or sys.version_info >= (3, 15))' || {
    echo "setup.sh: $python is not Python 3.11 to 3.14; name one of these with PYTHON=python3.12 sh setup.sh" >&2
    exit 1
}
"$python" -c 'import ensurepip, venv' 2>/dev/null || debian python3-venv
[ -x .venv/bin/python ] || "$python" -m venv .venv

extra=
case "${1:-}" in
test)
    extra='[test]'
    command -v chromium >/dev/null || debian chromium || echo "setup.sh: without it the tests of the page are skipped" >&2
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || debian postgresql ||
        echo "setup.sh: without it the tests of Dagster's history in Postgres are skipped" >&2
    ;;
fleet) extra='[fleet]' ;;
'') ;;
*)
    echo "setup.sh: $1 is not known; there are test and fleet" >&2
    exit 1
    ;;
esac
echo "setup.sh: installing into .venv (about a minute on first use)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".$extra"

# Machine code and fonts are kept for every later command. Nothing that is set for real runs reaches this one.
echo "setup.sh: compiling what computes, by a run over one simulated day (some 15 seconds on first use)"
trial=$(mktemp -d)
env -i PATH="$PATH" HOME="${HOME:-$trial}" HEATMAP_SYMBOLS=BTCUSDT ${NUMBA_CACHE_DIR:+NUMBA_CACHE_DIR="$NUMBA_CACHE_DIR"} \
    ${MPLCONFIGDIR:+MPLCONFIGDIR="$MPLCONFIGDIR"} .venv/bin/heatmap demo --days 1 --home "$trial" >"$trial.log" 2>&1 ||
    echo "setup.sh: that failed, so the first run compiles; its last line was: $(tail -n 1 "$trial.log")" >&2
rm -rf "$trial" "$trial.log"
