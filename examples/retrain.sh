#!/usr/bin/env bash
# Train on a folder per genre, calibrate, evaluate and classify with the result:
#   examples/retrain.sh SONGS MODEL [options of `acousticsense train`]
# At least 20 recordings must fall into the valid split (a fifth of the groups by default).
set -euo pipefail
if [ $# -lt 2 ] || [ "$1" = --help ]; then
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
fi
songs=$1 model=$2
shift 2
acousticsense train "$songs" --out "$model" "$@"
acousticsense calibrate "$model" "$songs"
acousticsense evaluate "$model" "$songs" --out "$model-report" --no-corruptions --cnn-crops 0
acousticsense classify "$songs" --model "$model" --csv > "$model-answers.csv"
echo "$model-report/evaluation.md and $model-answers.csv: written"
