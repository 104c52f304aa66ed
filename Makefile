PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check test-real soak comfyui clean

# One request through a real ComfyUI on the CPU: out/demo.mp4
demo: comfyui
	$(BIN)/talkinghead run examples/demo.json --out out/demo.mp4

test: comfyui
	$(BIN)/pytest

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Our graphs on the real node packs with tiny random weights: docs/verification.md tells how.
test-real: $(VENV)/.installed
	$(BIN)/pytest tests/real -rA --timeout 1800

# Sixty good and bad jobs in a row; `make test` runs a short form.
soak: comfyui
	SOAK_JOBS=60 $(BIN)/pytest tests/comfy/test_soak.py -s

comfyui: $(VENV)/.installed
	$(BIN)/python scripts/install-comfyui --cpu

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .comfyui out
