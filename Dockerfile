# The worker with ComfyUI and the pinned node packs; no model files (see README, "Models").
FROM nvidia/cuda:12.8.1-runtime-ubuntu24.04

ENV DEBIAN_FRONTEND=noninteractive \
    PYTHONUNBUFFERED=1 \
    PATH=/opt/venv/bin:$PATH

# Python 3.12 is Ubuntu 24.04's own; ffmpeg is what VideoHelperSuite encodes with.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates ffmpeg git libgoogle-perftools4t64 python3 python3-dev python3-venv build-essential \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir uv

WORKDIR /app

# ComfyUI, the packs and torch change seldom: first, so that later layers are small.
COPY custom_nodes.txt ./
COPY scripts/install-comfyui scripts/install-comfyui
RUN python scripts/install-comfyui /opt/ComfyUI && uv cache clean

COPY pyproject.toml README.md LICENSE ./
COPY handler.py comfy_client.py model_manifest.yaml start.sh ./
COPY talkinghead talkinghead
COPY custom_nodes custom_nodes
COPY workflows workflows
RUN uv pip install --python /opt/venv/bin/python --no-cache --editable '.[draft]'

ENV COMFYUI_DIR=/opt/ComfyUI
CMD ["./start.sh"]
