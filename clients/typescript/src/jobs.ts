// What is known of a job, and its result.
import { CODES, JobCancelled, JobFailed, JobTimedOut } from "./errors.js";
import type { Failure, Output, Progress } from "./types.js";

export type Status =
  | "IN_QUEUE" | "IN_PROGRESS" | "COMPLETED" | "FAILED" | "CANCELLED" | "TIMED_OUT";
const FINAL = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];

/** A job that was taken: RunPod's id of it, and the request's. */
export interface Submitted {
  id: string;
  requestId: string | undefined;
}

/** A job as RunPod tells of it. */
export interface JobState {
  id: string;
  status: Status;
  isFinal: boolean;
  /** How far the job is, if it runs and has said so. */
  progress: Progress | undefined;
  /** Progress while it runs, then the result, or more of the failure. */
  output: Record<string, unknown> | undefined;
  error: string | undefined;
  delayMs: number | undefined;
  executionMs: number | undefined;
}

/** What a job made: `output` is all that the worker says. */
export interface Result {
  jobId: string;
  requestId: string | undefined;
  status: "completed" | "incomplete" | "estimated";
  output: Output;
  /** Where the video can be had: a URL, or a data: URI of the video itself. */
  videoUrl: string | undefined;
  /** What the job's time cost, where the price of an hour is known. */
  cost: number | undefined;
  warnings: string[];
}

/** From the body of /status, or of a webhook; throws if it is none. */
export function readState(body: Record<string, unknown>): JobState {
  const { status, output } = body;
  if (typeof status !== "string") throw new Error("it does not say how the job is");
  const isObject = typeof output === "object" && output !== null && !Array.isArray(output);
  const said = isObject ? (output as Record<string, unknown>) : undefined;
  const runs = status === "IN_PROGRESS" && said !== undefined && "percent" in said;
  return {
    id: String(body["id"] ?? ""),
    status: status as Status,
    isFinal: FINAL.includes(status),
    progress: runs ? (said as unknown as Progress) : undefined,
    output: said,
    error: body["error"] == null ? undefined : String(body["error"]),
    delayMs: body["delayTime"] as number | undefined,
    executionMs: body["executionTime"] as number | undefined,
  };
}

/** The result of a job that ended well; throws what went wrong. */
export function resultOf(state: JobState, requestId: string | undefined): Result {
  const output = (state.output ?? {}) as Output & Failure;
  if (state.status !== "COMPLETED" || "error" in output) throw failureOf(state, output, requestId);
  return {
    jobId: state.id,
    requestId,
    status: (output.status as Result["status"] | undefined) ?? "completed",
    output,
    videoUrl: output.video_url ?? output.video ?? undefined,
    cost: output.cost ?? undefined,
    warnings: output.warnings ?? [],
  };
}

function failureOf(state: JobState, output: Failure, requestId: string | undefined): Error {
  const about = { jobId: state.id, requestId };
  const message = state.error ?? output.error ?? `the job is ${state.status}`;
  if (state.status === "CANCELLED") return new JobCancelled("the job was cancelled", about);
  if (state.status === "TIMED_OUT") return new JobTimedOut(message, about);
  const kind = (output.error_code && CODES[output.error_code]) || JobFailed;
  return new kind(message, output, about);
}
