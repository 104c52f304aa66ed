"""The model files the doubles pretend to have: what the file lists of /object_info offer."""

FILES: dict[str, list[str]] = {
    "clip_vision": ["clip_vision_h.safetensors"],
    "diffusion_models": [
        "Wan2_1-I2V-14B-480P_fp8_e4m3fn.safetensors",
        "Wan2_1-I2V-14B-480p_fp8_e4m3fn_scaled_KJ.safetensors",
        "Wan2_1-InfiniTetalk-Single_fp16.safetensors",
        "Wan2_1-InfiniteTalk-Multi_fp16.safetensors",
        "Wan2_1-InfiniteTalk-Multi_fp8_e4m3fn_scaled_KJ.safetensors",
        "Wan2_1-InfiniteTalk-Single_fp8_e4m3fn_scaled_KJ.safetensors",
        "Wan2_1-InfiniteTalk_Multi_Q8.gguf",
        "Wan2_1-InfiniteTalk_Single_Q8.gguf",
        "WanVideo_2_1_Multitalk_14B_fp8_e4m3fn.safetensors",
        "wan2.1-i2v-14b-480p-Q4_K_M.gguf",
        "wan2.1-i2v-14b-480p-Q8_0.gguf",
        "wan2.1_i2v_480p_14B_fp8_scaled.safetensors",
        "wan2.1_i2v_480p_scaled_fp8_e4m3_lightx2v_4step_comfyui.safetensors",
    ],
    "loras": ["lightx2v_I2V_14B_480p_cfg_step_distill_rank64_bf16.safetensors"],
    "text_encoders": [
        "umt5-xxl-enc-fp8_e4m3fn.safetensors",
        "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    ],
    "vae_approx": ["lighttaew2_1.safetensors"],
    "vae": ["Wan2_1_VAE_bf16.safetensors", "wan_2.1_vae.safetensors"],
    "wav2vec2": ["wav2vec2-chinese-base_fp16.safetensors"],
}

FOLDER_OF_INPUT: dict[tuple[str, str], str] = {
    ("CLIPLoader", "clip_name"): "text_encoders",
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("LoadWanVideoT5TextEncoder", "model_name"): "text_encoders",
    ("MultiTalkModelLoader", "model"): "diffusion_models",
    ("Wav2VecModelLoader", "model"): "wav2vec2",
    ("WanVideoLoraSelect", "lora"): "loras",
    ("WanVideoModelLoader", "model"): "diffusion_models",
    ("WanVideoTextEncodeCached", "model_name"): "text_encoders",
    ("WanVideoTinyVAELoader", "model_name"): "vae_approx",
    ("WanVideoVAELoader", "model_name"): "vae",
}


def files_for(class_type: str, input_name: str) -> list[str] | None:
    """The names one input offers, None for an input that lists no model files."""
    folder = FOLDER_OF_INPUT.get((class_type, input_name))
    return None if folder is None else list(FILES[folder])
