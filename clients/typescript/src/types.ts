// What is sent and what comes back, written by scripts/write-docs from schemas.

/** One mistake of a request. */
export interface Problem {
  /** As in the request: speakers.0.audio_url */
  field?: string;
  /** What is wrong, in a sentence */
  message?: string;
  /** What came */
  got?: unknown;
  /** What is allowed */
  allowed?: unknown;
  /** Of a file's own fault */
  error_code?: "invalid_request" | "unsupported_combination" | "url_blocked" | "download_failed" | "media_invalid" | "media_too_large" | "models_missing" | "comfyui_unavailable" | "workflow_rejected" | "checkpoint_refused" | "out_of_memory" | "render_failed" | "render_defective" | "render_stalled" | "deadline_exceeded" | "cancelled" | "output_missing" | "result_too_large" | "delivery_failed" | "disk_full" | "internal_error";
  /** Of that file, without its query */
  url?: string;
}

/** More of an error; what there is depends on its code. */
export interface Details {
  /** All mistakes at once */
  problems?: Problem[];
  /** The field at fault */
  field?: string;
  /** Of the file at fault, without its query */
  url?: string;
  /** Where a video that was not delivered is kept */
  video_path?: string;
  /** The end of ComfyUI's log */
  log_tail?: unknown;
  /** What was tried before it was given up */
  tried?: unknown;
  /** What is wrong with the picture */
  seen?: unknown;
  /** Its frames, on the volume */
  contact_sheet?: string;
  /** Where a kept render is of another request */
  differs?: unknown;
}

/** What a render will take; null is what nobody knows. */
export interface Estimate {
  /** How it is rendered */
  way: "prompt" | "chain" | "frames" | "draft";
  /** That the model makes, at 25 a second */
  frames: number;
  /** That the model makes; 0 of a draft */
  windows: number;
  /** Of the file */
  delivered_frames: number;
  /** Of the file, pixels */
  width: number;
  /** Of the file, pixels */
  height: number;
  /** Of the file */
  duration_seconds: number;
  /** The GPU that the times are of */
  card: string | null;
  /** The render takes, with models loaded */
  seconds: number | null;
  /** Who says so */
  seconds_source: string | null;
  /** The same on other GPUs */
  seconds_by_card: Record<string, number>;
  /** In the currency of price_per_hour */
  price: number | null;
  /** Of the request or the worker */
  price_per_hour: number | null;
  /** Of frames in the host's memory, 10^9 bytes */
  ram_gb: number;
  /** That the host has */
  host_ram_gb: number | null;
  /** Of temporary files at most, 10^9 bytes */
  disk_gb: number;
  /** JOB_TIMEOUT_SECONDS */
  timeout_seconds: number | null;
  /** Whether the render ends within it */
  fits_timeout: boolean | null;
  /** Whether the frames fit into the memory */
  fits_ram: boolean | null;
  /** The settings to be used */
  generation_params: Record<string, unknown>;
}

/** What is told of a job that failed. On RunPod `error` stands beside `output`, which has the rest. */
export interface Failure {
  /** What went wrong, in a sentence */
  error?: string;
  /** Always failed */
  status?: "failed";
  /** For programs; docs/troubleshooting.md */
  error_code?: "invalid_request" | "unsupported_combination" | "url_blocked" | "download_failed" | "media_invalid" | "media_too_large" | "models_missing" | "comfyui_unavailable" | "workflow_rejected" | "checkpoint_refused" | "out_of_memory" | "render_failed" | "render_defective" | "render_stalled" | "deadline_exceeded" | "cancelled" | "output_missing" | "result_too_large" | "delivery_failed" | "disk_full" | "internal_error";
  /** Where in the job it happened */
  stage?: "understand" | "fetch" | "prepare" | "start" | "patch" | "render" | "collect" | "deliver" | "done";
  /** Whether the same request may succeed later */
  retryable?: boolean;
  /** RunPod's id of the job */
  job_id?: string;
  /** Seconds by stage */
  timings?: Record<string, number>;
  /** Of the job, as in a result */
  cost?: number;
  /** More, by code */
  details?: Details;
}

/** RunPod's limits of this one job, in milliseconds. */
export interface Policy {
  /** A job that runs longer is ended; the endpoint has a default */
  executionTimeout?: number;
  /** A job that is older is ended, also in the queue. Default: 86400000 */
  ttl?: number;
  /** true: the job starts no worker. Default: false */
  lowPriority?: boolean;
}

/** How far a job is; on RunPod the `output` of /status while the job is IN_PROGRESS. */
export interface Progress {
  /** What the worker is doing */
  stage: "understand" | "fetch" | "prepare" | "start" | "patch" | "render" | "collect" | "deliver" | "done";
  /** Of the whole job */
  percent: number;
  /** The same for people */
  message: string;
  /** The window under way, from 1 */
  window: number | null;
  /** How many there are */
  windows: number | null;
  /** Until the last window is sampled and decoded; null before the first */
  eta_seconds: number | null;
  /** Where the finished windows can be watched, HLS */
  playlist_url?: string;
}

/** One of `speakers`; without a voice it is somebody who only listens. */
export interface Speaker {
  /** The voice; without one, somebody who listens */
  audio_url?: string | null;
  /** A picture, white where the person is */
  mask_url?: string | null;
  /** Where the person is: x0, y0, x1, y1 in pixels or all within 0 to 1 */
  box?: [number, number, number, number] | null;
}

/** One of `prompts`: a text, and from when on it holds. */
export interface TimedPrompt {
  /** Seconds of the video from which on the text holds */
  at: number;
  /** What the picture shall show from then on, up to 512 tokens */
  text: string;
}

/** What is asked for. */
export interface Request {
  /** Which of `image_url` and `video_url` counts; if unset the one given */
  input_type?: "image" | "video" | null;
  /** Contract A: "multi" for two voices; if unset "single" */
  person_count?: "single" | "multi" | null;
  /** The picture of who speaks */
  image_url?: string | null;
  /** A video of who speaks, in its place */
  video_url?: string | null;
  /** Contract A: the voice */
  wav_url?: string | null;
  /** Contract A: the second voice */
  wav_url_2?: string | null;
  /** The file itself, for `image_url` */
  image_base64?: string | null;
  /** The file itself, for `video_url` */
  video_base64?: string | null;
  /** The file itself, for `wav_url` */
  wav_base64?: string | null;
  /** The file itself, for `wav_url_2` */
  wav_base64_2?: string | null;
  /** Contract B: the voices */
  audio_urls?: string[] | null;
  /** `image_url`, as contract C calls it */
  image?: string | null;
  /** Contract C: the voice */
  audio?: string | null;
  /** `resolution`, as contract C calls it */
  size?: "480p" | "720p" | null;
  /** Contract C: taken, and of no effect: this worker checks no content */
  enable_safety_checker?: boolean | null;
  /** Native: the people, each `{audio_url, box or mask_url}` */
  speakers?: Speaker[] | null;
  /** What the picture shall show, up to 512 tokens; each contract has one */
  prompt?: string | null;
  /** `prompt`, as contract B calls it */
  positive_prompt?: string | null;
  /** More prompts over a long video, each `{at: seconds, text}`, which holds from then on, [window by window](docs/long.md#more-than-one-prompt) */
  prompts?: TimedPrompt[] | null;
  /** Of the video, with `resolution`; "auto": the source's; if unset "9:16", or the source's if that would leave out a speaker's face or cut one of several heads, and with contract C */
  aspect_ratio?: "16:9" | "9:16" | "auto" | null;
  /** Of the video, with `aspect_ratio`; if unset "480p" */
  resolution?: "480p" | "720p" | null;
  /** Of the video, in pixels, instead of the two above; by contract; without `height` the source's shape */
  width?: number | null;
  /** Of the video, in pixels; by contract; alone as `width` is */
  height?: number | null;
  /** 0, -1 or none chooses one; the result tells which */
  seed?: number | null;
  /** The talk model (MultiTalk: pictures only); by contract */
  mode?: "infinitetalk" | "multitalk" | null;
  /** Several voices begin together, or follow one another; by contract */
  audio_mode?: "parallel" | "sequential" | null;
  /** Keep a part of the model in the host's memory; if unset [as the GPU needs](docs/tuning.md) */
  use_block_swap?: boolean | null;
  /** How many of the 40 blocks, with `use_block_swap`. Default: 20 */
  blocks_to_swap?: number | null;
  /** Render with the LoRA that needs 4 steps instead of 30. Default: true */
  use_speed_lora?: boolean | null;
  /** Of that LoRA; 0 is without it. Default: 1.0 */
  speed_lora_strength?: number | null;
  /** What the picture shall not show, up to 512 tokens; the template has one */
  negative_prompt?: string | null;
  /** Of the delivered file; the model renders 25 frames a second. Default: 25 */
  fps?: number | null;
  /** Of the sampler; if unset 4 with the speed LoRA, 30 without */
  steps?: number | null;
  /** How closely the prompt is followed; if unset 1 with the LoRA, 5 without */
  cfg_scale?: number | null;
  /** How closely the voice is followed, as a multiple of `cfg_scale`; other than 1 costs a pass of the model more a step; if unset 1 with the LoRA, 4 / `cfg_scale` without */
  audio_cfg_scale?: number | null;
  /** How strongly the voice moves the face; if unset 1, and 1.5 with `video_method` "denoise" */
  audio_scale?: number | null;
  /** Shifts the sampler's noise schedule: higher gives more to the rough form; if unset 11, and 7 at 480p without the speed LoRA */
  shift?: number | null;
  /** Of the sampler; if unset `flowmatch_distill` with the speed LoRA in 4 steps, `dpm++_sde` with it in others, `unipc` without */
  scheduler?: "unipc" | "unipc/beta" | "dpm++" | "dpm++/beta" | "dpm++_sde" | "dpm++_sde/beta" | "euler" | "euler/beta" | "deis" | "lcm" | "lcm/beta" | "res_multistep" | "er_sde" | "sa_ode_stable" | "flowmatch_distill" | null;
  /** Cuts the sound: the most frames of the delivered file */
  max_frame?: number | null;
  /** Cuts the sound: the longest video, in seconds */
  max_audio_duration?: number | null;
  /** "speech": [all but speech](docs/quality.md#what-the-model-hears), singing and laughter too, is silence to the model; the delivered sound stays as it is */
  voice_filter?: "speech" | null;
  /** Which part of the source stays where its shape is another; "faces": the middle, moved as little as the speakers' faces ask for. Default: "faces" */
  crop?: "faces" | "center" | "top" | "left" | "right" | "bottom" | null;
  /** What a source video gives. "keyframes", for dubbing: a frame of it every 2.88 s guides the model. "denoise": camera and motion stay; up to 40 s. Default: "keyframes" */
  video_method?: "keyframes" | "denoise" | null;
  /** With `video_url`: the source's own pixels around the speakers, feathered; with keyframes its camera has to stand still. A draft does so anyway. Default: false */
  keep_outside?: boolean | null;
  /** A quick preview on the CPU, without the model. Default: false */
  draft?: boolean | null;
  /** When the GPU's memory does not suffice: free memory, swap blocks, tile the VAE, make smaller windows. false: fail at once. Default: true */
  retry_out_of_memory?: boolean | null;
  /** A [picture](docs/quality.md) that is black, of one colour or noise: `fail` renders it again in safer ways, and at last fails; `warn` delivers it; `off` does not look at it; if unset `fail` */
  check_picture?: "fail" | "warn" | "off" | null;
  /** true: window by window, in constant memory; false: in one prompt, up to 400 s; if unset as length, size and memory [ask for](docs/long.md) */
  long?: boolean | null;
  /** Every window gets the colours of its reference picture. Default: false */
  color_match?: boolean | null;
  /** Where the video goes, of what the worker has; if unset `s3` if that is configured, else `inline` */
  delivery?: "s3" | "volume" | "inline" | null;
  /** A presigned PUT URL, signed for `Content-Type: video/mp4`; instead of `delivery` */
  upload_url?: string | null;
  /** A replay bundle goes with the video; if unset as `BUNDLE` says */
  bundle?: boolean | null;
  /** The video carries its workflow, prompts included; dropped on ComfyUI's GUI, it opens. Default: false */
  embed_workflow?: boolean | null;
  /** An HLS playlist to watch the video with while it is rendered. Default: false */
  playlist?: boolean | null;
  /** A job that would take longer than `JOB_TIMEOUT_SECONDS` stops in time; the next one with this `request_id` goes on. Default: false */
  continue_later?: boolean | null;
  /** 1 to 64 letters, digits, `_`, `-`: jobs of one id are one render; what one leaves, the next continues; if unset the job's id */
  request_id?: string | null;
  /** Nothing is rendered; the result is an [estimate](docs/long.md#what-it-will-take) of windows, time, price, memory and disk. Default: false */
  dry_run?: boolean | null;
  /** What an hour of the worker costs, for the estimate and the result's `cost`; if unset as `PRICE_PER_HOUR` says */
  price_per_hour?: number | null;
}

/** Somebody in the source picture; boxes are x0, y0, x1, y1 in its pixels. */
export interface SpeakerFound {
  /** The request's field of who speaks; null: who stays still */
  speaker: string | null;
  /** The face, if one was found */
  face: [number, number, number, number] | null;
  /** The region that moves */
  box: [number, number, number, number] | null;
}

/** What the delivered file is; read from it. */
export interface VideoInfo {
  /** Pixels */
  width: number;
  /** Pixels */
  height: number;
  /** Frames a second */
  fps: number;
  /** How many frames it has */
  frames: number;
  /** How long it is */
  duration_seconds: number;
  /** Samples a second of its sound */
  audio_rate: number | null;
  /** Channels of its sound */
  audio_channels: number | null;
  /** 10^6 bytes */
  file_size_mb: number;
  /** Of the file, hex digits */
  sha256: string;
  /** The talk model: infinitetalk or multitalk */
  mode: string;
  /** How many of the voices are in it */
  audio_files_used: number;
}

/** One thing that a job with a workflow of its own made: a file, or a text. */
export interface WorkflowOutput {
  /** The title of the node that made it */
  node?: string;
  /** image, video, audio, text or file */
  kind?: string;
  /** Where it is, in a bucket */
  url?: string;
  /** The file as a data: URI */
  data?: string;
  /** Where it is, on the volume */
  path?: string;
  /** The text itself */
  text?: string;
  /** The file's name */
  filename?: string;
  /** Of the file, hex digits */
  sha256?: string;
  /** Bytes */
  size?: number;
}

/** What a job gives that ended well; on RunPod the `output` of a COMPLETED job. Where the video is depends on `delivery`: one of `video_url`, `video`, `video_path` and `uploaded_to` tells. */
export interface Output {
  /** "incomplete": the next job with this request_id goes on; "estimated": a dry run */
  status?: "completed" | "incomplete" | "estimated";
  /** RunPod's id of the job */
  job_id?: string;
  /** The video, in a bucket */
  video_url?: string;
  /** The same, as contract B calls it */
  output_video_url?: string;
  /** The video itself, as a data: URI */
  video?: string;
  /** The video, on the worker's network volume */
  video_path?: string;
  /** upload_url without its query */
  uploaded_to?: string;
  /** The replay bundle, or where it was uploaded to */
  bundle?: unknown;
  /** The replay bundle, in a bucket */
  bundle_url?: string;
  /** The replay bundle, on the volume */
  bundle_path?: string;
  /** What the job's time on the worker cost, in the currency of the hour's price; only where that is known */
  cost?: number;
  /** The job took on the worker */
  processing_time_seconds?: number;
  /** Of these, the render */
  generation_time_seconds?: number;
  /** What the file is */
  video_info?: VideoInfo;
  /** Figures of the picture, and of lips and sound */
  quality?: Record<string, unknown>;
  /** All that was really used, such as the seed */
  generation_params?: Record<string, unknown>;
  /** Seconds by stage */
  timings?: Record<string, number>;
  /** Who speaks where */
  speakers_found?: SpeakerFound[];
  /** What the caller should know */
  warnings?: string[];
  /** Whether it is the CPU's preview */
  draft?: boolean;
  /** Of a dry run */
  estimate?: Estimate;
  /** By which an incomplete render goes on */
  request_id?: string;
  /** Of an incomplete render: all of them */
  windows?: number;
  /** Of an incomplete render: those made */
  windows_done?: number;
  /** Where its windows can be watched, HLS */
  playlist_url?: string;
  /** All that a workflow job made */
  outputs?: WorkflowOutput[];
}
