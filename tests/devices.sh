#!/usr/bin/env bash
# Does a device compute what the processor and the reference implementations compute, and the same bytes again?
#
#     tests/devices.sh wgpu                      build with --features wgpu, and test what `auto` takes, else the software adapter
#     tests/devices.sh cuda --device cuda:1      another device of that feature
#     tests/devices.sh cuda --binary firebrand --tests it      programs that are built already, here or elsewhere
#
# It installs nothing and needs no Python: it says what is missing and ends with exit code 2. Every operation, runs of the goldens in
# tests/goldens/ (LoRA, full, quantized, preferences), `selftest`, the quickstart twice and after a resume run on the device. The last
# lines are one table with distances and seconds; the exit code is 1 when something does not hold.
#
# Options:
#   --device NAME    as `firebrand devices` lists it
#   --binary FILE    the program, built with the feature; nothing is built then
#   --tests FILE     the integration tests (target/debug/deps/it-*), built with the feature; without them only the program is tried
#   --steps N        steps of the quickstart, default 6
set -euo pipefail
export LC_ALL=C NO_COLOR=1
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stop() {
    printf 'devices.sh: %s\n' "$*" >&2
    exit 2
}

[[ $# -ge 1 && $1 != -* ]] || { sed -n '2,19p' "$0" | sed 's/^# \{0,1\}//'; exit 2; }
feature=$1 device='' binary='' tests='' steps=6
shift
while [[ $# -gt 0 ]]; do
    [[ $# -ge 2 ]] || stop "$1 needs a value"
    case $1 in
    --device) device=$2 ;;
    --binary) binary=$(realpath -e -- "$2") || stop "$2 is not there" ;;
    --tests) tests=$(realpath -e -- "$2") || stop "$2 is not there" ;;
    --steps) steps=$2 ;;
    *) stop "unknown option $1" ;;
    esac
    shift 2
done
case $feature in
wgpu | vulkan | metal | cuda | rocm) ;;
*) stop "unknown feature $feature: wgpu, vulkan, metal, cuda or rocm" ;;
esac

if [[ -z $binary ]]; then
    command -v cargo >/dev/null || stop "cargo is missing: install Rust, or name a program that is built with --binary"
    case $feature in
    cuda | rocm) command -v c++ >/dev/null || stop "a C++17 compiler is missing, which building with $feature needs (docs/devices.md)" ;;
    esac
    log=$(mktemp)
    cargo test --workspace --no-run --features "firebrand/$feature" 2>&1 | tee "$log" >&2 || stop "the build failed (docs/devices.md says what it needs)"
    tests=$(sed -n 's/.*Executable tests\/it\/main.rs (\(.*\))/\1/p' "$log")
    rm -f "$log"
    [[ -n $tests ]] || stop "cargo named no integration tests"
    tests=$(realpath -e -- "$tests")
    binary=$(dirname "$(dirname "$tests")")/firebrand-under-test
fi
[[ -x $binary ]] || stop "$binary cannot be run"

work=$(mktemp -d)
# Drivers of Mesa complain where it is not set.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$work}"
trap 'rm -rf "$work"' EXIT

listing=$("$binary" devices) || stop "$binary has no command \`devices\`"
printf '%s\n' "$listing"
grep -q "without.*\b$feature\b" <<<"$listing" && stop "$binary is built without $feature"
if [[ -z $device ]]; then
    # The first of the feature that is listed: hardware stands before programs on the processor.
    device=$(sed -n "s/^\($feature\(:[^ ]*\)\{0,1\}\)  .*/\1/p" <<<"$listing" | head -n 1)
fi
if [[ -z $device ]]; then
    case $feature in
    cuda) stop "no CUDA device: nvidia-smi must list the card" ;;
    rocm) stop "no ROCm device: rocminfo must list the card" ;;
    metal) stop "no Metal device" ;;
    *) stop "no adapter: install the card's Vulkan driver, or a software one (Debian: mesa-vulkan-drivers)" ;;
    esac
fi
printf '\ntesting %s\n' "$device"

table=$work/table
failed=0

# A row of the table: what, distance or remark, seconds.
row() {
    printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$table"
}

# Runs a part and writes its row: what, remark if it holds, command. Its output is shown where it fails.
part() {
    local what=$1 remark=$2 start
    shift 2
    start=$(date +%s.%N)
    if "$@" >"$work/out" 2>&1; then
        row "$what" "$remark" "$(seconds_since "$start")"
    else
        failed=1
        row "$what" "FAILS" "$(seconds_since "$start")"
        printf '\n%s fails:\n' "$what"
        tail -n 40 "$work/out"
    fi
}

seconds_since() {
    awk -v start="$1" -v end="$(date +%s.%N)" 'BEGIN { printf "%.1f", end - start }'
}

quickstart() {
    local output=$1 on=$2
    shift 2
    "$binary" train recipes/quickstart.toml --device "$on" --output "$work/$output" --ui plain \
        --set "train.steps=$steps" --set sample.max_new_tokens=1 --set checkpoint.every=2 --set checkpoint.keep=100 --set log.tensorboard=false "$@"
}

# Lines of a log without what a clock says.
numbers() {
    sed -e 's/"elapsed_seconds":[^,}]*//' -e 's/"tokens_per_second":[^,}]*//' "$work/$1/metrics.jsonl"
}

same_run() {
    cmp "$work/$1/adapter/adapter_model.safetensors" "$work/$2/adapter/adapter_model.safetensors" &&
        diff <(numbers "$1") <(numbers "$2")
}

resumed() {
    cp -r "$work/first" "$work/resumed"
    rm -rf "$work/resumed/adapter" "$work/resumed/model"
    quickstart resumed "$device" --resume "$work/resumed/checkpoint-2"
    same_run first resumed
}

# The largest relative distance of two runs' losses.
losses_apart() {
    paste <(losses "$1") <(losses "$2") | awk '
        { apart = ($1 - $2) / $2; if (apart < 0) apart = -apart; if (apart > most) most = apart; count++ }
        END { if (!count) exit 1; printf "loss %.1e", most }'
}

losses() {
    sed -n 's/.*"loss":\([-0-9.e]*\).*/\1/p' "$work/$1/metrics.jsonl" | head -n "$steps"
}

part "selftest" "all claims hold" "$binary" selftest --device "$device"
part "quickstart, $steps steps, cpu" "" quickstart cpu cpu
part "quickstart, $steps steps" "" quickstart first "$device"
if distance=$(losses_apart first cpu); then
    row "quickstart against cpu" "$distance" ""
fi
quickstart_again() { quickstart second "$device" && same_run first second; }
part "quickstart again" "the same bytes" quickstart_again
part "quickstart resumed after step 2" "the same bytes" resumed
part "quickstart, quantized to NF4" "" quickstart nf4 "$device" --set 'quantization.kind="nf4"'

if [[ -n $tests ]]; then
    start=$(date +%s.%N)
    if FIREBRAND_TEST_DEVICE=$device FIREBRAND_REPOSITORY=$PWD "$tests" devices:: --nocapture --test-threads 1 >"$work/tests" 2>&1; then
        remark=$(sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1 hold/p' "$work/tests")
    else
        failed=1 remark=FAILS
        grep -v '^device-row' "$work/tests" | tail -n 60
    fi
    row "operations and goldens" "$remark" "$(seconds_since "$start")"
    sed -n 's/.*device-row\t//p' "$work/tests" >>"$table"
else
    row "operations and goldens" "not run: no --tests" ""
fi

printf '\n| on %s | distance | seconds |\n|---|---|---|\n' "$device"
awk -F '\t' '{ printf "| %s | %s | %s |\n", $1, $2, $3 }' "$table"
exit "$failed"
