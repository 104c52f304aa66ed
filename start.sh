#!/usr/bin/env bash
# The container's command: the worker, which starts ComfyUI as its child and ends it again.
# RunPod's SIGTERM reaches the worker itself, because exec leaves no shell between them.
set -euo pipefail
cd "$(dirname "$0")"

# glibc's allocator keeps what large frames leave behind; tcmalloc gives it back.
tcmalloc=$(ldconfig -p 2>/dev/null | awk '/libtcmalloc_minimal\.so/ {print $NF; exit}') || true
if [ -n "${tcmalloc}" ]; then
    export LD_PRELOAD="${tcmalloc}${LD_PRELOAD:+:${LD_PRELOAD}}"
fi

exec "${PYTHON:-python3}" -u handler.py "$@"
