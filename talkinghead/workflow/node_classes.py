"""The node classes that rules know, under the names that ComfyUI and the packs give them."""

LOADER, TALK_LOADER = "WanVideoModelLoader", "MultiTalkModelLoader"
LORA, SET_LORAS = "WanVideoLoraSelect", "WanVideoSetLoRAs"
EMBEDS, TALKING_IMAGE = "MultiTalkWav2VecEmbeds", "WanVideoImageToVideoMultiTalk"
COMPILE_SETTINGS = "WanVideoTorchCompileSettings"
TEA_CACHE, MAG_CACHE, EASY_CACHE = "WanVideoTeaCache", "WanVideoMagCache", "WanVideoEasyCache"
VAE_LOADER, TINY_VAE = "WanVideoVAELoader", "WanVideoTinyVAELoader"
SAMPLER, ENCODE = "WanVideoSampler", "WanVideoEncode"
WINDOW_IMAGE, WINDOW_AUDIO = "WanVideoImageToVideoEncode", "TalkingHeadWindowAudio"
CONTINUE, DECODE = "TalkingHeadContinueWindow", "TalkingHeadDecodeWindow"
KEEP_WEIGHTS, SPEAKER_BOXES = "TalkingHeadKeepWeights", "TalkingHeadSpeakerBoxes"
LOAD_IMAGE, LOAD_MASK, SCALE = "LoadImage", "LoadImageMask", "ImageScale"
DRAFT, SOUND_AND_LENGTH = "TalkingHeadDraft", "TalkingHeadSoundAndLength"
SPLIT, COMBINE, SAVE_VIDEO = "VHS_SplitImages", "VHS_VideoCombine", "SaveVideo"
# Nodes that make one mask or picture of each, and the input that they make it from.
ONE_FOR_ONE = {
    **{"ImageToMask": "image", "CropMask": "mask", "InvertMask": "mask", "ThresholdMask": "mask"},
    SPEAKER_BOXES: "masks",  # where they are linked
    **{SCALE: "image", "ImageCrop": "image", "ImageCropV2": "image", "ImageInvert": "image"},
}
LOAD_LATENT, LOAD_VHS_VIDEO, UPLOAD_VHS_AUDIO = "LoadLatent", "VHS_LoadVideo", "VHS_LoadAudioUpload"
VIDEO_LOADERS = (
    LOAD_VHS_VIDEO,
    "VHS_LoadVideoPath",
    "VHS_LoadVideoFFmpeg",
    "VHS_LoadVideoFFmpegPath",
)
