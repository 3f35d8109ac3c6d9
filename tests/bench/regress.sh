#!/usr/bin/env bash
# Does NEW need more instructions than OLD for the same recipes?
#
#     tests/bench/regress.sh [OPTION..] OLD NEW [RECIPE..]
#     tests/bench/regress.sh main HEAD
#     tests/bench/regress.sh ~/firebrand-before target/release/firebrand tests/bench/regress/lora.toml
#
# OLD and NEW are commits, which are built in worktrees of their own, or programs that are built already. Without recipes
# those of tests/bench/regress/ run: the shipped model, a few steps, no Python. Recipes, models and data are those of this
# checkout for both, and paths in recipes start at its root. Each round runs OLD, then NEW, on one thread, with an empty cache of rows.
# The result is a ratio for each recipe, of medians, with the spread of the rounds; the exit code is 1 when NEW is worse by more
# than the threshold, 2 when the arguments make no sense or something cannot be built or run.
#
# Options:
#   --by COUNT       perf: instructions:u of `perf stat`, all instruction sets.
#                    valgrind: instructions by cachegrind, which knows nothing beyond AVX2, so the kernels for AVX-512 are not seen.
#                    It needs half a minute for each step of 64 tokens; FIREBRAND_CPU=portable is three times as fast, and sees less.
#                    time: seconds of CPU, user and system; the machine should be idle. Recipes of regress/ then run 200 steps.
#                    auto, the default: the first of these that works here.
#   --rounds N       default: 2 for perf, 1 for valgrind, 7 for time
#   --threshold P    percent, default 3
#   --targets DIR    folder for builds, kept, and shared by both commits, so that dependencies are built once; default: a temporary one
#   --set KEY=VALUE  passed to `firebrand train`; may be repeated
set -euo pipefail
export LC_ALL=C

fail() {
    printf 'regress.sh: %s\n' "$*" >&2
    exit 2
}

by=auto rounds='' threshold=3 targets='' settings=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --by | --rounds | --threshold | --targets | --set)
            [[ $# -ge 2 ]] || fail "$1 needs a value"
            case $1 in
                --by) by=$2 ;;
                --rounds) rounds=$2 ;;
                --threshold) threshold=$2 ;;
                --targets) targets=$2 ;;
                --set) settings+=(--set "$2") ;;
            esac
            shift 2
            ;;
        -h | --help)
            sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "$0"
            exit 0
            ;;
        -*) fail "$1: not an option; --help lists them" ;;
        *) break ;;
    esac
done
[[ $# -ge 2 ]] || fail "expected OLD and NEW: commits, or programs that are built already"
old=$1 new=$2
shift 2

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
recipes=()
for recipe in "$@"; do
    [[ -f $recipe ]] || fail "$recipe: no such recipe"
    recipes+=("$(realpath "$recipe")")
done
shipped=no
if [[ ${#recipes[@]} -eq 0 ]]; then
    recipes=("$root"/tests/bench/regress/*.toml)
    shipped=yes
fi

scratch=$(mktemp -d)
clean() {
    local side
    for side in old new; do
        [[ ! -d $scratch/tree-$side ]] || git -C "$root" worktree remove --force "$scratch/tree-$side"
    done
    rm -rf "$scratch"
}
trap clean EXIT

# The program of a commit, or the program itself, as $scratch/old or $scratch/new.
provide() {
    local side=$1 what=$2 tree=$scratch/tree-$1
    if [[ -f $what && -x $what ]]; then
        cp "$what" "$scratch/$side"
        return
    fi
    git -C "$root" rev-parse --quiet --verify "$what^{commit}" >/dev/null || fail "$what: neither a commit nor a program"
    git -C "$root" worktree add --quiet --detach "$tree" "$what"
    local into=${targets:-$scratch/target}
    mkdir -p "$into"
    into=$(realpath "$into")
    printf 'building %s, %s\n' "$side" "$(git -C "$tree" log -1 --format='%h %s')" >&2
    (cd "$tree" && CARGO_TARGET_DIR=$into cargo build --release --quiet) || fail "$what cannot be built"
    cp "$into/release/firebrand" "$scratch/$side"
}
provide old "$old"
provide new "$new"

counts_with_perf() {
    command -v perf >/dev/null && perf stat -x, -e instructions:u -o "$scratch/perf" true 2>/dev/null &&
        awk -F, '/instructions/ { good = $1 ~ /^[0-9]+$/ } END { exit !good }' "$scratch/perf"
}
case $by in
    auto)
        if counts_with_perf; then
            by=perf
        elif command -v valgrind >/dev/null; then
            by=valgrind
        else
            by=time
        fi
        ;;
    perf) counts_with_perf || fail "perf counts no instructions here; --by valgrind or time" ;;
    valgrind) command -v valgrind >/dev/null || fail "valgrind is not installed; --by perf or time" ;;
    time) ;;
    *) fail "--by $by: expected auto, perf, valgrind or time" ;;
esac
case $by in
    perf) rounds=${rounds:-2} ;;
    valgrind) rounds=${rounds:-1} ;;
    time)
        rounds=${rounds:-7}
        # Before what the caller sets, which counts.
        [[ $shipped == no ]] || settings=(--set train.steps=200 "${settings[@]}")
        ;;
esac
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds $rounds: expected a number from 1"

export RAYON_NUM_THREADS=1
# Valgrind has no more than AVX2 on x86; on other machines the program chooses.
[[ $by != valgrind || $(uname -m) != x86_64 ]] || export FIREBRAND_CPU=${FIREBRAND_CPU:-avx2}

# Prints what a run of a recipe cost.
cost() {
    local side=$1 recipe=$2
    local log=$scratch/log counter=()
    rm -rf "$scratch/run" "$scratch/cache"
    case $by in
        perf) counter=(perf stat -x, -e instructions:u -o "$scratch/perf") ;;
        valgrind) counter=(valgrind --tool=cachegrind --cache-sim=no --cachegrind-out-file="$scratch/cachegrind") ;;
        time) ;;
    esac
    local TIMEFORMAT='%U %S'
    {
        time (
            cd "$root"
            FIREBRAND_CACHE=$scratch/cache "${counter[@]}" "$scratch/$side" train "$recipe" --ui plain \
                --output "$scratch/run" "${settings[@]}" >"$log" 2>&1
        )
    } 2>"$scratch/time" || {
        tail -n 20 "$log" >&2
        fail "$side fails with $recipe"
    }
    case $by in
        perf) awk -F, '/instructions/ { print $1 }' "$scratch/perf" ;;
        valgrind) awk '/^summary:/ { print $2 }' "$scratch/cachegrind" ;;
        time) awk '{ print $1 + $2 }' "$scratch/time" ;;
    esac
}

# Median and spread (largest over smallest, in percent) of lines of numbers.
middle() {
    sort -g | awk '{ all[NR] = $1 } END {
        half = int((NR + 1) / 2)
        print (NR % 2 ? all[half] : (all[half] + all[half + 1]) / 2), (all[NR] / all[1] - 1) * 100
    }'
}

case $by in
    perf) unit='instructions' ;;
    valgrind) unit="instructions, ${FIREBRAND_CPU:-as chosen}" ;;
    time) unit='CPU seconds' ;;
esac
printf '%s against %s, %s rounds in turn, one thread, by %s; worse than %s %% fails\n\n' "$new" "$old" "$rounds" "$by" "$threshold"
printf '| recipe | old, %s | spread | new | spread | new / old |\n|---|---|---|---|---|---|\n' "$unit"
worse=0
for recipe in "${recipes[@]}"; do
    : >"$scratch/old.costs"
    : >"$scratch/new.costs"
    for ((round = 0; round < rounds; round++)); do
        for side in old new; do
            # A command substitution of its own, so that a failure ends the script.
            found=$(cost "$side" "$recipe")
            printf '%s\n' "$found" >>"$scratch/$side.costs"
        done
    done
    read -r old_middle old_spread < <(middle <"$scratch/old.costs")
    read -r new_middle new_spread < <(middle <"$scratch/new.costs")
    verdict=$(awk -v old="$old_middle" -v new="$new_middle" -v most="$threshold" \
        'BEGIN { ratio = new / old; print ratio, (ratio > 1 + most / 100) }')
    read -r ratio is_worse <<<"$verdict"
    printf '| %s | %.6g | %.2f %% | %.6g | %.2f %% | %.4f%s |\n' "$(basename "$recipe" .toml)" "$old_middle" "$old_spread" \
        "$new_middle" "$new_spread" "$ratio" "$([[ $is_worse == 0 ]] || printf ', worse')"
    [[ $is_worse == 0 ]] || worse=1
done
exit "$worse"
