PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo page gui draft-comfyui test test-fast check test-real test-current test-gui gpu-lab soak replay-soak \
	long-soak mutants test-types test-image comfyui chromium frontends typescript lock clean

# One request through a real ComfyUI on the CPU: out/demo.mp4
demo: draft-comfyui
	$(BIN)/talkinghead run examples/demo.json --out out/demo.mp4 --overwrite

# A page to try it on, with a ComfyUI of its own; Ctrl-C ends it
page: draft-comfyui $(VENV)/.page
	$(BIN)/talkinghead page

# ComfyUI's GUI on this machine, with the workflows in its list; Ctrl-C ends it
gui: draft-comfyui
	$(BIN)/talkinghead gui

test: comfyui chromium frontends typescript
	scripts/test

# What needs no ComfyUI, without the slowest.
test-fast: $(VENV)/.installed
	scripts/test --fast

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/zizmor --offline --quiet .github/workflows

# Our graphs on the real node packs with tiny random weights: docs/verification.md tells how.
test-real: $(VENV)/.installed
	$(BIN)/pytest tests/real -rA --timeout 1800

# What runs with a ComfyUI, on the one that COMFYUI_DIR names (COMFYUI_PYTHON: its Python): today's,
# say. With the doubles of the node packs and, where the real ones are in it, with those too.
test-current: $(VENV)/.installed
	$(BIN)/python scripts/test-current --timeout 3600

# Our conversion against the real frontend: all published workflows, many edits. `make test` runs a
# short form.
test-gui: comfyui chromium frontends
	GUI_LONG=1 $(BIN)/pytest tests/gui --durations=5

# What json-schema-to-typescript and datamodel-code-generator make of the schemas in docs/, and what
# n8n's packages say of examples/calling/n8n.json.
test-types: $(VENV)/.installed typescript
	$(BIN)/pytest tests/generated -rA

# The image built and tried, without Docker, a registry or a Git host: root on a Debian, 14 GB of
# disk. PACKS=DIR names a folder with the real ComfyUI and node packs.
test-image: $(VENV)/.installed
	$(BIN)/python scripts/test-image $(if $(PACKS),--packs $(PACKS))

# The archive for a bare GPU machine: benchmarks/README.md. PACKS names a folder with ComfyUI and the
# node packs; PYTHON_THERE is the version of that machine's Python.
gpu-lab: $(VENV)/.installed
	$(BIN)/python -m benchmarks.gpu_lab pack $(PACKS) --python $(or $(PYTHON_THERE),3.12)

# 200 good and bad jobs in a row; `make test` runs a short form.
soak: comfyui
	SOAK_JOBS=200 $(BIN)/pytest tests/comfy/test_soak.py -s

# 200 saved files over two servers, one of them killed half-way; `make test` runs a short form.
replay-soak: comfyui
	REPLAY_FILES=200 $(BIN)/pytest tests/comfy/test_replay.py -s

# A render of 200 windows, killed ten times and moved to another machine; `make test` runs a short
# form.
long-soak: comfyui
	SOAK_WINDOWS=200 $(BIN)/pytest tests/comfy/test_lost_worker.py -s

# 8,000 mangled workflows: findings, never a traceback; `make test` runs a short form.
mutants: $(VENV)/.installed
	WORKFLOW_MUTANTS=8000 $(BIN)/pytest tests/unit/test_mutated_workflows.py

comfyui: $(VENV)/.installed
	$(BIN)/python scripts/install-comfyui --cpu

# What a draft needs, and no tools of the tests: not all of those have wheels for every system.
draft-comfyui: $(VENV)/.drafts
	$(BIN)/python scripts/install-comfyui --cpu

$(VENV)/.drafts: pyproject.toml requirements/worker.lock | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[draft]' \
		--constraint requirements/worker.lock --build-constraint requirements/worker.lock
	touch $@

$(VENV)/.page: pyproject.toml requirements/test.lock | $(VENV)/.drafts
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[page]' \
		--constraint requirements/worker.lock --constraint requirements/test.lock
	touch $@

chromium: $(VENV)/.installed
	scripts/install-chromium

# ComfyUI's newest frontend, for the tests of the GUI, beside that of the ComfyUI in use.
frontends: $(VENV)/.installed
	$(BIN)/python scripts/install-frontends

# The compiler of the TypeScript client, from npm.
typescript: $(VENV)/.installed
	scripts/install-typescript

# The worker and the tests' tools at the versions of the locks, without ComfyUI.
$(VENV)/.installed: pyproject.toml requirements/worker.lock requirements/test.lock | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[test]' \
		--constraint requirements/worker.lock --constraint requirements/test.lock \
		--build-constraint requirements/worker.lock
	touch $@

$(BIN)/uv: requirements/installer.lock
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements/installer.lock
	touch $@

# The locks anew, after a change of what they are made from; UPGRADE=1 takes the newest of all.
lock: $(BIN)/uv
	$(BIN)/python scripts/lock $(if $(UPGRADE),--upgrade)

clean:
	rm -rf $(VENV) .comfyui .frontends clients/typescript/node_modules out
