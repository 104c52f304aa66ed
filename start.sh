#!/usr/bin/env bash
# The container's command: the worker, or `talkinghead serve`, which starts ComfyUI as its child and ends it again.
# exec leaves no shell between RunPod and the worker: SIGTERM reaches it, its exit status is ours.
set -euo pipefail
cd "$(dirname "$0")"

# glibc's allocator keeps what large frames leave behind; tcmalloc gives it back.
tcmalloc=$(ldconfig -p 2>/dev/null | awk '/libtcmalloc_minimal\.so/ {print $NF; exit}') || true

# ComfyUI's log beside the worker's, each line marked; of a progress bar, only its last state,
# and no colours, which newer ones write to files too.
# The worker keeps our process id; talkinghead/comfy/claim.py names ComfyUI's folder in this way.
boot=$(cut -d- -f1 /proc/sys/kernel/random/boot_id)
ids=$(readlink /proc/self/ns/pid | tr -dc 0-9)
comfyui_log="${WORK_DIR:-${TMPDIR:-/tmp}/talkinghead}/comfyui-${boot}-${ids}-$$/comfyui.log"
tail -F --lines=+1 --pid=$$ "${comfyui_log}" 2>/dev/null \
    | sed --unbuffered -e 's/.*\r//' -e 's/\x1b\[[0-9;]*m//g' -e 's/^/comfyui: /' &

if [ -n "${tcmalloc}" ]; then
    export LD_PRELOAD="${tcmalloc}${LD_PRELOAD:+:${LD_PRELOAD}}"
fi
program=(handler.py)
if [ "${1:-}" = serve ]; then # `talkinghead serve`: RunPod's API on this machine
    program=(-m talkinghead)
fi
exec "${PYTHON:-python3}" -u "${program[@]}" "$@"
