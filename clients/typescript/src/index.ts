// A client of the worker: on a RunPod endpoint, on `talkinghead serve`, or through your own proxy.
export { Client, type ClientOptions, type RenderOptions, type SubmitOptions } from "./client.js";
export * from "./errors.js";
export type { Files, LocalFile, Presign, Presigned } from "./files.js";
export type { JobState, Result, Status, Submitted } from "./jobs.js";
export type {
  Estimate, Failure, Output, Policy, Problem, Progress, Request, Speaker, SpeakerFound,
  TimedPrompt, VideoInfo, WorkflowOutput, WorkflowRequest,
} from "./types.js";
export { readWebhook, signedWebhook, type SignedBody } from "./webhook.js";
