// Every way in which a call can fail. The classes of JobFailed are the worker's error codes.
import type { Failure } from "./types.js";

export interface About {
  jobId?: string | undefined;
  requestId?: string | undefined;
}

/** A call failed; `message` says why, in a sentence. */
export class TalkingheadError extends Error {
  /** RunPod's id of the job, if there is one. */
  jobId: string | undefined;
  /** Who sends the same request with it goes on with that render. */
  requestId: string | undefined;

  constructor(message: string, about: About = {}) {
    super(message);
    this.name = new.target.name;
    this.jobId = about.jobId;
    this.requestId = about.requestId;
  }
}

/** The endpoint does not take the key. */
export class Unauthorized extends TalkingheadError {}
/** The endpoint refused the call; no job was started. */
export class BadRequest extends TalkingheadError {}
/** Nobody answers, or nothing of use; a job may still be running. */
export class EndpointUnavailable extends TalkingheadError {}
/** A job was sent, and no answer came: it may have been started, so it is not sent again. */
export class AnswerLost extends TalkingheadError {}
/**
 * Who waited gave up, and the job may still be running: `cancel` ends it, `wait` follows it.
 * It is the `cause` of what ended the wait.
 */
export class JobLeft extends TalkingheadError {}
/** The endpoint does not know the job: never, or no longer, since results expire. */
export class JobNotFound extends TalkingheadError {}
/** A file does not fit into the request, and there is no storage to upload it to. */
export class FileTooLarge extends TalkingheadError {}
/** The storage did not take a file; no job was started. */
export class UploadFailed extends TalkingheadError {}
/** The video is where this client cannot get it. */
export class ResultElsewhere extends TalkingheadError {}
/** The video that came is not the one that was made. */
export class ResultDamaged extends TalkingheadError {}
/** A call of the webhook does not carry our signature. */
export class WebhookForged extends TalkingheadError {}
/** The job was cancelled. */
export class JobCancelled extends TalkingheadError {}
/** RunPod ended the job: its executionTimeout or ttl was over. */
export class JobTimedOut extends TalkingheadError {}

/** The job failed. `code` is undefined where the worker itself said nothing, as when it died. */
export class JobFailed extends TalkingheadError {
  readonly code: string | undefined;
  readonly stage: string | undefined;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  readonly details: NonNullable<Failure["details"]>;

  constructor(message: string, readonly output: Failure = {}, about: About = {}) {
    super(message, about);
    this.code = output.error_code;
    this.stage = output.stage;
    this.retryable = output.retryable ?? output.error_code === undefined;
    this.details = output.details ?? {};
  }
}

export class InvalidRequest extends JobFailed {}
export class UnsupportedCombination extends JobFailed {}
export class UrlBlocked extends JobFailed {}
export class DownloadFailed extends JobFailed {}
export class MediaInvalid extends JobFailed {}
export class MediaTooLarge extends JobFailed {}
export class ModelsMissing extends JobFailed {}
export class ComfyUIUnavailable extends JobFailed {}
export class WorkflowRejected extends JobFailed {}
export class CheckpointRefused extends JobFailed {}
export class OutOfMemory extends JobFailed {}
export class RenderFailed extends JobFailed {}
export class RenderDefective extends JobFailed {}
export class RenderStalled extends JobFailed {}
export class DeadlineExceeded extends JobFailed {}
export class Cancelled extends JobFailed {}
export class OutputMissing extends JobFailed {}
export class ResultTooLarge extends JobFailed {}
export class DeliveryFailed extends JobFailed {}
export class DiskFull extends JobFailed {}
export class InternalError extends JobFailed {}

/** By the worker's error_code; a code that a newer worker has makes a plain JobFailed. */
export const CODES: Record<NonNullable<Failure["error_code"]>, typeof JobFailed> = {
  invalid_request: InvalidRequest,
  unsupported_combination: UnsupportedCombination,
  url_blocked: UrlBlocked,
  download_failed: DownloadFailed,
  media_invalid: MediaInvalid,
  media_too_large: MediaTooLarge,
  models_missing: ModelsMissing,
  comfyui_unavailable: ComfyUIUnavailable,
  workflow_rejected: WorkflowRejected,
  checkpoint_refused: CheckpointRefused,
  out_of_memory: OutOfMemory,
  render_failed: RenderFailed,
  render_defective: RenderDefective,
  render_stalled: RenderStalled,
  deadline_exceeded: DeadlineExceeded,
  cancelled: Cancelled,
  output_missing: OutputMissing,
  result_too_large: ResultTooLarge,
  delivery_failed: DeliveryFailed,
  disk_full: DiskFull,
  internal_error: InternalError,
};
