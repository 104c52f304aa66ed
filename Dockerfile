# The worker with ComfyUI and the pinned node packs. No model files, unless
# --build-arg PROFILE=fp8 (or another of model_manifest.yaml) bakes those of a profile.

# torch's CUDA, which the base repeats: a host whose driver is older then refuses the container,
# instead of torch a job. 12.8 runs on drivers from 570 on, 13.0 from 580 on.
ARG CUDA=12.8
# The kernels of `ATTENTION=sageattn`: 1.0.6 is compiled on the card when it is first used, and
# `compiled` is 2.2, for which nvcc works half an hour.
ARG SAGEATTENTION=1.0.6

FROM nvidia/cuda:12.8.1-base-ubuntu24.04@sha256:133c78a0575303be34164d0b90137a042172bdf60696af01a3c424ab402d86e2 AS cuda-12.8
FROM nvidia/cuda:13.0.2-base-ubuntu24.04@sha256:2ab6381d970b211fb93853796dc6707eb8a72575a375c422b17cf4d8b2641701 AS cuda-13.0

# What is there at run time: Python 3.12 is Ubuntu 24.04's own; Triton, which SageAttention and
# torch.compile need, compiles with gcc and Python's headers. VideoHelperSuite encodes with the
# ffmpeg of imageio-ffmpeg. Ubuntu's archive drops old versions of its packages, so pinned ones
# would soon not be found.
# hadolint ignore=DL3006
FROM cuda-${CUDA} AS system
ENV DEBIAN_FRONTEND=noninteractive \
    PYTHONUNBUFFERED=1 \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    PATH=/opt/venv/bin:$PATH
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates gcc libc6-dev libtcmalloc-minimal4t64 python3 python3-dev \
    && rm -rf /var/lib/apt/lists/*
# root is the default, because RunPod mounts its volume for root; docker-compose.yml takes `worker`.
RUN useradd --create-home --uid 10001 worker && install -d -o worker -g worker /models

FROM system AS installed
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv
WORKDIR /app
COPY requirements/installer.lock requirements/
RUN pip install --no-cache-dir --requirement requirements/installer.lock
# ComfyUI (the current one), the packs and all packages, in one resolution. Without its Git host
# install-comfyui would go on with the oldest supported ComfyUI from a wheel, without the packs: good
# for drafts, not for this image.
# Bytecode is made here, where it can be kept; it only makes the start quicker, so no file has to
# compile. The pictures of ComfyUI's own template list are 0.4 GB that nobody opens here.
COPY custom_nodes.txt ./
COPY requirements/worker.lock requirements/comfyui-current.in requirements/packs.in requirements/
COPY scripts/install-comfyui scripts/install-comfyui
ARG CUDA
RUN python scripts/install-comfyui /opt/ComfyUI --cuda "${CUDA}" \
    && grep -q "Git, with the node packs" /opt/ComfyUI/.install-comfyui.json \
    && find /opt/ComfyUI -name .git -prune -exec rm -rf {} + \
    && rm -rf /opt/venv/.lock /tmp/uv-* \
        /opt/venv/lib/python3*/site-packages/comfyui_workflow_templates_media_*/templates \
    && { python -m compileall -qq /opt/ComfyUI || true; }

FROM installed AS sage-1.0.6
COPY requirements/sageattention.lock requirements/
RUN uv pip install --python /opt/venv/bin/python --no-deps --require-hashes \
        --requirement requirements/sageattention.lock

FROM nvidia/cuda:12.8.1-devel-ubuntu24.04@sha256:520292dbb4f755fd360766059e62956e9379485d9e073bbd2f6e3c20c270ed66 AS nvcc-12.8
FROM nvidia/cuda:13.0.2-devel-ubuntu24.04@sha256:5dc1bca23d05bd37b011be68ec470c03b403a5da07ec3a86e41af9470e9d0cc6 AS nvcc-13.0
# hadolint ignore=DL3006
FROM nvcc-${CUDA} AS kernels
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ git python3 python3-dev
COPY --from=installed /opt/venv /opt/venv
WORKDIR /src
ENV TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0;10.0;12.0"
RUN git init --quiet \
    && git fetch --quiet --depth=1 https://github.com/thu-ml/SageAttention d1a57a546c3d395b1ffcbeecc66d81db76f3b4b5 \
    && git checkout --quiet --detach FETCH_HEAD \
    && /opt/venv/bin/uv build --python /opt/venv/bin/python --wheel --no-build-isolation --out-dir /wheels

FROM installed AS sage-compiled
RUN --mount=type=bind,from=kernels,source=/wheels,target=/wheels \
    uv pip install --python /opt/venv/bin/python --no-deps /wheels/*.whl

# hadolint ignore=DL3006
FROM sage-${SAGEATTENTION} AS whole

FROM system
LABEL org.opencontainers.image.title="talkinghead" \
      org.opencontainers.image.description="A RunPod Serverless worker: a picture and one to four voices become a talking-head video" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=whole /opt/venv /opt/venv
COPY --from=whole /opt/ComfyUI /opt/ComfyUI
WORKDIR /app
COPY requirements/worker.lock requirements/
COPY pyproject.toml README.md LICENSE handler.py comfy_client.py model_manifest.yaml start.sh ./
COPY talkinghead talkinghead
COPY custom_nodes custom_nodes
COPY workflows workflows
COPY examples/portrait.jpg examples/voice.wav examples/
RUN uv pip install --python /opt/venv/bin/python --no-deps --editable . \
        --build-constraint requirements/worker.lock \
    && rm -rf /opt/venv/.lock /tmp/uv-* \
    && python -m compileall -q talkinghead custom_nodes

# The SDK's own checks would import torch into the worker, for as long as it lives, and end it where
# 8.8.8.8 does not answer; the worker's own look at the GPU, the disk, the models and ComfyUI.
ENV COMFYUI_DIR=/opt/ComfyUI \
    RUNPOD_SKIP_AUTO_SYSTEM_CHECKS=true

# A file a layer: registries take 10 GB in one, or upload it for hours. The largest profile has nine.
ARG PROFILE=""
# `auto` would take the profile that the card holds, which is not always the one that is baked.
ENV MODEL_PROFILE=${PROFILE:-auto}
RUN test -z "${PROFILE}" || talkinghead models fetch --profile "${PROFILE}" --most 1
RUN test -z "${PROFILE}" || talkinghead models fetch --profile "${PROFILE}" --most 1
RUN test -z "${PROFILE}" || talkinghead models fetch --profile "${PROFILE}" --most 1
RUN test -z "${PROFILE}" || talkinghead models fetch --profile "${PROFILE}" --most 1
RUN test -z "${PROFILE}" || talkinghead models fetch --profile "${PROFILE}" --most 1
RUN test -z "${PROFILE}" || talkinghead models fetch --profile "${PROFILE}" --most 1
RUN test -z "${PROFILE}" || talkinghead models fetch --profile "${PROFILE}" --most 1
RUN test -z "${PROFILE}" || talkinghead models fetch --profile "${PROFILE}" --most 1
RUN test -z "${PROFILE}" || talkinghead models fetch --profile "${PROFILE}" --most 1
RUN test -z "${PROFILE}" || talkinghead models verify --profile "${PROFILE}"

# Whether the worker has its ComfyUI. RunPod does not look at this.
HEALTHCHECK --interval=30s --timeout=5s --start-period=2m \
    CMD ["sh", "-c", "grep -qs 'main[.]py' /proc/[0-9]*/cmdline"]

CMD ["./start.sh"]
