# The worker with ComfyUI and the pinned node packs. No model files, unless
# --build-arg PROFILE=fp8 (or another of model_manifest.yaml) bakes those of a profile.

# torch's ordinary build carries CUDA 13.0 and kernels for Turing to Blackwell (sm_75 to sm_120).
# This base makes a host with an older driver refuse the container, instead of torch a job.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04

LABEL org.opencontainers.image.title="talkinghead" \
      org.opencontainers.image.description="A RunPod Serverless worker: a picture and one to four voices become a talking-head video" \
      org.opencontainers.image.licenses="Apache-2.0"

ENV DEBIAN_FRONTEND=noninteractive \
    PYTHONUNBUFFERED=1 \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    PATH=/opt/venv/bin:$PATH

# Python 3.12 is Ubuntu 24.04's own; ffmpeg is what VideoHelperSuite encodes with; Triton, which
# SageAttention needs, compiles with gcc at run time. Ubuntu's archive drops old versions of its
# packages, so pinned ones would soon not be found.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates ffmpeg gcc git libc6-dev libtcmalloc-minimal4t64 \
        python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv

# root is the default, because RunPod mounts its volume for root; docker-compose.yml takes `worker`.
RUN useradd --create-home --uid 10001 worker && install -d -o worker -g worker /models

WORKDIR /app

COPY requirements/installer.lock requirements/
RUN pip install --no-cache-dir --requirement requirements/installer.lock

# ComfyUI (the current one), the packs and all packages change seldom: first, so that later layers
# are small. Without its Git host install-comfyui would go on with the oldest supported one from a
# wheel, without the packs: good for drafts, not for this image.
# Bytecode is made here, where it can be kept; it only makes the start quicker, so no file has to
# compile.
COPY custom_nodes.txt ./
COPY requirements/worker.lock requirements/comfyui-current.in requirements/packs.in requirements/
COPY scripts/install-comfyui scripts/install-comfyui
RUN python scripts/install-comfyui /opt/ComfyUI \
    && grep -q "Git, with the node packs" /opt/ComfyUI/.install-comfyui.json \
    && find /opt/ComfyUI -name .git -prune -exec rm -rf {} + \
    && { python -m compileall -qq /opt/ComfyUI || true; }

COPY pyproject.toml README.md LICENSE handler.py comfy_client.py model_manifest.yaml start.sh ./
COPY talkinghead talkinghead
COPY custom_nodes custom_nodes
COPY workflows workflows
RUN uv pip install --python /opt/venv/bin/python --no-deps --editable . \
        --build-constraint requirements/worker.lock \
    && python -m compileall -q talkinghead custom_nodes

ENV COMFYUI_DIR=/opt/ComfyUI

# A layer keeps whole seconds of a file's time: with these the sums that verify takes stay known, and
# a worker that starts need not read all files again.
ARG PROFILE=""
RUN if [ -n "${PROFILE}" ]; then \
        talkinghead models fetch --profile "${PROFILE}" \
        && find /opt/ComfyUI/models -type f -exec touch --date=2026-01-01T00:00:00Z {} + \
        && talkinghead models verify --profile "${PROFILE}"; \
    fi

# Whether the worker has its ComfyUI. RunPod does not look at this.
HEALTHCHECK --interval=30s --timeout=5s --start-period=2m \
    CMD ["sh", "-c", "grep -qs 'main[.]py' /proc/[0-9]*/cmdline"]

CMD ["./start.sh"]
