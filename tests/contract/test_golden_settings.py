"""What each setting that renders quicker changes in the graph, as files that a reviewer can diff.

`plain_*.json` are the graphs without any; the others say what is added, taken out and set.
`UPDATE_GOLDEN=1 pytest tests/contract/test_golden_settings.py` writes them anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from talkinghead.workflow.check import check
from talkinghead.workflow.graph import Graph
from talkinghead.workflow.lint import lint_workflow, traps
from tests.unit.test_speedups import SCHEMAS, graph_of, planned, profile_of

GOLDEN = Path(__file__).parent / "golden" / "settings"
THIRTY_STEPS = {"use_speed_lora": False}
ONE_PROMPT, CHAIN, QUALITY = {"long": False}, {"long": True}, {"long": True, **THIRTY_STEPS}
PLAIN = {"plain_one_prompt": ONE_PROMPT, "plain_chain": CHAIN, "plain_chain_30_steps": QUALITY}
# Name -> the plain graph it is compared with, and the settings.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "attention_sageattn": ("plain_one_prompt", {"attention": "sageattn"}),
    "attention_sageattn_compiled": ("plain_chain", {"attention": "sageattn_compiled"}),
    "base_precision_fp16_fast": ("plain_one_prompt", {"base_precision": "fp16_fast"}),
    "base_precision_bf16": ("plain_one_prompt", {"base_precision": "bf16"}),
    "base_precision_fp32": ("plain_one_prompt", {"base_precision": "fp32"}),
    "fp8_distill": ("plain_one_prompt", {"model_profile": "fp8-distill"}),
    "fp8_distill_without_speed_lora": ("plain_chain_30_steps", {"model_profile": "fp8-distill"}),
    "fp8_matmul_false": ("plain_chain", {"model_profile": "fp8-distill", "fp8_matmul": False}),
    "torch_compile": ("plain_chain", {"torch_compile": True}),
    "torch_compile_one_prompt": ("plain_one_prompt", {"torch_compile": True}),
    "step_cache_teacache": ("plain_chain_30_steps", {"step_cache": "teacache"}),
    "step_cache_magcache": ("plain_chain_30_steps", {"step_cache": "magcache"}),
    "step_cache_easycache": ("plain_chain_30_steps", {"step_cache": "easycache"}),
    "light_vae": ("plain_chain", {"light_vae": True}),
    "all_that_go_together": (
        "plain_chain_30_steps",
        {
            **{"model_profile": "fp8-distill", "attention": "sageattn", "torch_compile": True},
            **{"base_precision": "fp16_fast", "step_cache": "teacache", "light_vae": True},
        },
    ),
}


def graph_with(plain: str, **settings: Any) -> Graph:
    asked = {"model_profile": "fp8", "attention": "sdpa", **settings}
    graph = graph_of(planned(**PLAIN[plain]), profile_of(**asked))
    assert check(graph, SCHEMAS) == [] and traps(graph, SCHEMAS) == []
    assert [each for each in lint_workflow(graph, SCHEMAS) if each.severity == "error"] == []
    return graph


def difference(plain: Graph, other: Graph) -> dict[str, Any]:
    """What is added and taken out, and what inputs are set to, by titles."""
    ours, theirs = _by_title(plain), _by_title(other)
    changed = {
        title: {
            name: theirs[title]["inputs"].get(name)
            for name in ours[title]["inputs"] | theirs[title]["inputs"]
            if ours[title]["inputs"].get(name) != theirs[title]["inputs"].get(name)
        }
        for title in ours.keys() & theirs.keys()
    }
    return {
        "added": {title: theirs[title] for title in sorted(theirs.keys() - ours.keys())},
        "taken out": sorted(ours.keys() - theirs.keys()),
        "set": {title: inputs for title, inputs in sorted(changed.items()) if inputs},
    }


def _by_title(graph: Graph) -> dict[str, dict[str, Any]]:
    return {each["_meta"]["title"]: {**each, "id": key} for key, each in graph.items()}


def compare(name: str, content: object) -> None:
    golden = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert content == json.loads(golden.read_text("utf-8"))


@pytest.mark.parametrize("name", PLAIN)
def test_the_graph_without_any_setting_is_the_reviewed_one(name: str) -> None:
    compare(name, graph_with(name))


@pytest.mark.parametrize("name", CASES)
def test_what_a_setting_changes_is_the_reviewed_difference(name: str) -> None:
    plain, settings = CASES[name]
    compare(name, difference(graph_with(plain), graph_with(plain, **settings)))
