"""What a model is by the name of its file; a graph says nothing else of it."""

GGUF, SCALED, FP8, PLAIN = "GGUF", "scaled fp8", "unscaled fp8", "fp16 or bf16"


def weights_of(file: str) -> str:
    """How a model file holds its weights: GGUF, SCALED, FP8 or PLAIN."""
    name = file.lower()
    if name.endswith(".gguf"):
        return GGUF
    if "fp8" in name:
        return SCALED if "scaled" in name else FP8
    return PLAIN


def is_for_one_voice(file: str) -> bool:
    """Whether a talk model knows one speaker alone."""
    return "single" in file.lower()
