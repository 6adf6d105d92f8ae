#!/usr/bin/env bash
# Compares depeche with scikit-learn and fastText on a labelled data set of yours: training, scoring, agreement, and calls over gRPC.
#
#   bench/compare.sh DATA.jsonl[.gz] [--text-field text] [--title-field title] [--label-field label] [--rounds 3] [--folds 0]
#
# Needs Rust and Python 3.10 or later; installs the peers below target/, where they stay. What is measured stands in compare.py.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
manifest=$here/../Cargo.toml
target=$(cargo metadata --no-deps --format-version 1 --manifest-path "$manifest" | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
mkdir -p "$target"
work=$(mktemp -d "$target/bench.XXXXXX")
trap 'rm -rf "$work"' EXIT

# First, so that what is wrong with the data is said before anything is installed.
python3 "$here/compare.py" split "$@" --work "$work"
[ -e "$work/train.jsonl" ] || exit 0 # --help

venv=$target/bench-venv
python=$venv/bin/python
[ -x "$python" ] || python3 -m venv "$venv"
"$python" -m pip install --quiet --disable-pip-version-check scikit-learn numpy scipy grpcio grpcio-tools googleapis-common-protos
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$python" -m grpc_tools.protoc -I "$here/../proto" -I "$site" --python_out="$work" --grpc_python_out="$work" depeche/v1/classifier.proto
has_fasttext() { "$python" -c 'import fasttext' > "$work/log" 2>&1; }
for package in fasttext fasttext-wheel; do
  has_fasttext || "$python" -m pip install --quiet --disable-pip-version-check "$package" > "$work/pip.log" 2>&1 || true
done
has_fasttext || {
  echo "fastText is left out: neither fasttext nor fasttext-wheel can be installed here, since:" >&2
  tail -n 5 "$work/pip.log" >&2
}

cargo build --release --manifest-path "$manifest"
built() {
  cargo bench --bench "$1" --no-run --message-format json --manifest-path "$manifest" |
    sed -n 's/.*"executable":"\([^"]*\/'"$1"'-[^"\/]*\)".*/\1/p'
}
scorer=$(built dataset)
caller=$(built calls)

"$python" "$here/compare.py" compare "$@" --work "$work" --depeche "$target/release/depeche" --scorer "$scorer" --caller "$caller"
