// The client: a call's story, from the request to the video.
import {
  AnswerLost, BadRequest, EndpointUnavailable, JobFailed, JobLeft, JobNotFound, ResultDamaged,
  ResultElsewhere, TalkingheadError, Unauthorized, UploadFailed,
} from "./errors.js";
import { attach, decode, type Files, type Presign, type Upload } from "./files.js";
import { newId, sha256 } from "./hashes.js";
import { readState, resultOf, type JobState, type Result, type Submitted } from "./jobs.js";
import type { Estimate, Policy, Request, WorkflowRequest } from "./types.js";
import {
  endpointUrl, isJobId, SEND_SECONDS, Unanswered, Unheard, Wire, type Answer,
} from "./wire.js";

/** Ask again later. Only 429 says that a job was not taken: gateways say 503 when they lost it, too. */
const BUSY = [429, 503];
const REFUSED_KEY = [401, 403];
/** In a row: right after /run the platform may not know its own job yet. */
const UNKNOWN_POLLS = 5;
const REFUSED_POLLS = 3;
const CANCELS = 3;
const TRANSFERS = 3;
const LONGEST_PAUSE_SECONDS = 30;

export interface ClientOptions {
  /** Of a RunPod endpoint. */
  endpointId?: string;
  /** Instead of it: that of an endpoint, of `talkinghead serve`, or of your proxy. */
  url?: string;
  /** RunPod's key, or API_TOKEN of `talkinghead serve`. Not in a browser: your proxy adds it. */
  apiKey?: string;
  /** More headers, for your proxy. */
  headers?: Record<string, string>;
  /** Where files go that are too large for the request. */
  presign?: Presign;
  /** From one look at a job to the next. Default: 2 */
  pollSeconds?: number;
  /** How long an endpoint may say nothing of use. Default: 300 */
  patienceSeconds?: number;
}

export interface SubmitOptions {
  files?: Files;
  webhook?: string;
  policy?: Policy;
}

export type OnProgress = (state: JobState) => void | Promise<void>;

export interface RenderOptions {
  files?: Files;
  /** Is told every state that is seen, and waited for. */
  onProgress?: OnProgress;
  policy?: Policy;
  /** Aborted, it cancels the job. */
  signal?: AbortSignal;
  /** How often a job that failed, and may succeed later, is followed by another. Default: 0 */
  retries?: number;
}

export class Client {
  private readonly wire: Wire;
  private readonly presign: Presign | undefined;
  private readonly pollSeconds: number;
  private readonly patienceSeconds: number;

  constructor(options: ClientOptions) {
    if (!options.endpointId === !options.url) {
      throw new TypeError("give endpointId, or url: one of the two");
    }
    const url = options.url ? options.url : endpointUrl(String(options.endpointId));
    this.wire = new Wire(url, options.apiKey ?? "", options.headers ?? {});
    this.presign = options.presign;
    this.pollSeconds = options.pollSeconds ?? 2;
    this.patienceSeconds = options.patienceSeconds ?? 300;
  }

  /** Send a request, follow its job, and give its result; one that stopped early is continued. */
  async render(request: Request | WorkflowRequest, options: RenderOptions = {}): Promise<Result> {
    const { signal } = options;
    signal?.throwIfAborted();
    const body = await this.bodyOf(request, options);
    let retries = options.retries ?? 0;
    let isCallers = false; // an error of onProgress may look like one of the job's
    const told = async (state: JobState) => {
      isCallers = true;
      await options.onProgress?.(state);
      isCallers = false;
    };
    for (let done = -1; ; ) {
      const job = await this.send(body, signal);
      let result: Result;
      try {
        result = await this.follow(job, told, signal);
      } catch (error) {
        if (isCallers || !(error instanceof TalkingheadError)) {
          // Nobody waits for it any more, and it is paid for.
          if (!(await this.cancel(job.id))) tellOf(job, error);
          throw error;
        }
        error.requestId = job.requestId;
        if (!(error instanceof JobFailed && error.retryable) || retries-- <= 0) throw error;
        continue; // that job has ended: another one with this id is no second one
      }
      const made = result.output.windows_done ?? 0;
      if (result.status !== "incomplete" || made <= done) return result;
      done = made;
    }
  }

  /** Send a request and return at once: its job's id is for `wait`, `state` and `cancel`. */
  async submit(request: Request | WorkflowRequest, options: SubmitOptions = {}): Promise<Submitted> {
    return this.send(await this.bodyOf(request, options));
  }

  /** The result of a job that was sent before, by whomever; aborted, it leaves the job running. */
  async wait(
    jobId: string,
    onProgress?: OnProgress,
    signal?: AbortSignal,
  ): Promise<Result> {
    return this.follow({ id: jobId, requestId: undefined }, onProgress, signal);
  }

  /** How a job is now. */
  async state(jobId: string, signal?: AbortSignal): Promise<JobState> {
    checkId(jobId);
    const deadline = Date.now() + this.patienceSeconds * 1000;
    for (let troubles = 1, row = 0, last = 0; ; troubles++) {
      const answer = await this.heard(() => this.wire.ask("GET", `status/${jobId}`));
      let problem = answer instanceof Error ? answer.message : answer.reason;
      if (!(answer instanceof Error)) {
        if (answer.ok) {
          try {
            return readState({ id: jobId, ...answer.content });
          } catch (error) {
            problem = (error as Error).message;
          }
        }
      }
      const status = answer instanceof Error ? 0 : answer.status;
      row = status === last ? row + 1 : 1; // the same, so often one after the other
      last = status;
      if (status === 404 && row >= UNKNOWN_POLLS) {
        throw new JobNotFound(
          `the endpoint does not know the job ${jobId}: it never did, or its result has expired`,
          { jobId },
        );
      }
      if (REFUSED_KEY.includes(status) && row >= REFUSED_POLLS) {
        throw new Unauthorized(this.wire.keyRefused(problem), { jobId });
      }
      const isRefused = status >= 300 && status < 500 && status !== 404 && !BUSY.includes(status);
      if (isRefused && row >= REFUSED_POLLS) {
        throw new BadRequest(`nobody says how the job ${jobId} is: ${problem}`, { jobId });
      }
      if (Date.now() > deadline) {
        throw new EndpointUnavailable(`nobody says how the job ${jobId} is: ${problem}`, { jobId });
      }
      await pause(this.pauseAfter(troubles), signal);
    }
  }

  /** Have a job end; undefined if nobody heard it: that is no failure. */
  async cancel(jobId: string): Promise<JobState | undefined> {
    checkId(jobId);
    for (let number = 0; number < CANCELS; number++) {
      if (number) await pause(this.pauseAfter(number));
      const answer = await this.heard(() => this.wire.ask("POST", `cancel/${jobId}`));
      if (answer instanceof Error) continue;
      try {
        if (answer.ok) return readState({ id: jobId, ...answer.content });
      } catch {
        continue;
      }
      if (answer.status < 500 && !BUSY.includes(answer.status)) return undefined;
    }
    return undefined;
  }

  /** What a render would take; nothing is rendered. */
  async estimate(request: Request, files: Files = {}): Promise<Estimate> {
    const result = await this.render({ ...request, dry_run: true }, { files });
    const { estimate } = result.output;
    if (estimate) return estimate;
    const text = `the endpoint gave no estimate: its answer is ${result.status}`;
    throw new TalkingheadError(text, { jobId: result.jobId, requestId: result.requestId });
  }

  /** How many jobs and workers the endpoint has. */
  async health(): Promise<Record<string, unknown>> {
    const answer = await this.heard(() => this.wire.ask("GET", "health"));
    if (answer instanceof Error) {
      throw new EndpointUnavailable(`the endpoint does not answer: ${answer.message}`);
    }
    if (REFUSED_KEY.includes(answer.status)) {
      throw new Unauthorized(this.wire.keyRefused(answer.reason));
    }
    if (!answer.ok) throw new EndpointUnavailable(`the endpoint does not answer: ${answer.reason}`);
    return answer.content;
  }

  /** A result's video, compared with the sum that the result has. */
  async video(result: Result): Promise<Uint8Array> {
    const url = result.videoUrl;
    if (url === undefined) throw elsewhere(result);
    const data = url.startsWith("data:") ? decode(url) : await this.download(url, result);
    const wanted = result.output.video_info?.sha256;
    const found = wanted && (await sha256(data));
    if (found && found !== wanted) {
      throw new ResultDamaged("the video that came is not the one that was made");
    }
    return data;
  }

  private async bodyOf(
    request: Request | WorkflowRequest,
    options: SubmitOptions,
  ): Promise<Record<string, unknown>> {
    const { request: fields, uploads } = await attach(request, options.files ?? {}, this.presign);
    for (const each of uploads) await this.upload(each);
    if (!("workflow" in fields) && !fields["request_id"]) fields["request_id"] = newId();
    const body: Record<string, unknown> = { input: fields };
    if (options.webhook !== undefined) body["webhook"] = options.webhook;
    if (options.policy !== undefined) body["policy"] = options.policy;
    return body;
  }

  /** Send a job, and again only while it surely was not taken. */
  private async send(body: Record<string, unknown>, signal?: AbortSignal): Promise<Submitted> {
    const input = body["input"] as Record<string, unknown>;
    const requestId = input["request_id"] as string | undefined;
    const deadline = Date.now() + this.patienceSeconds * 1000;
    for (let troubles = 1; ; troubles++) {
      signal?.throwIfAborted(); // before it is sent: from then on it has to be cancelled
      const answer = await this.heard(() => this.wire.ask("POST", "run", body, SEND_SECONDS));
      if (answer instanceof Unanswered) throw lost(answer.message, requestId);
      if (!(answer instanceof Error)) {
        const id = answer.content["id"];
        if (answer.ok && isJobId(id)) return { id, requestId };
        if (answer.ok) throw lost("the answer gives the job no id", requestId);
        if (REFUSED_KEY.includes(answer.status)) {
          throw new Unauthorized(this.wire.keyRefused(answer.reason));
        }
        if (answer.status !== 429) throw refusal(answer, requestId);
      }
      if (Date.now() > deadline) {
        const problem = answer instanceof Error ? answer.message : answer.reason;
        throw new EndpointUnavailable(`the endpoint took no job: ${problem}`);
      }
      await pause(this.pauseAfter(troubles), signal);
    }
  }

  private async follow(
    job: Submitted,
    onProgress: OnProgress | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Result> {
    for (;;) {
      signal?.throwIfAborted();
      const state = await this.state(job.id, signal);
      await onProgress?.(state);
      if (state.isFinal) return resultOf(state, job.requestId);
      await pause(this.pollSeconds, signal);
    }
  }

  private async heard(ask: () => Promise<Answer>): Promise<Answer | Unheard | Unanswered> {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof Unheard || error instanceof Unanswered) return error;
      throw error;
    }
  }

  private async upload(upload: Upload): Promise<void> {
    const { putUrl, headers } = upload.where;
    const sent: RequestInit = { method: "PUT", body: upload.data };
    if (headers !== undefined) sent.headers = headers;
    const problem = await this.transfer(() => fetch(putUrl, sent));
    if (typeof problem === "string") {
      throw new UploadFailed(`the storage did not take ${upload.name}: ${problem}`);
    }
  }

  private async download(url: string, result: Result): Promise<Uint8Array> {
    const found = await this.transfer(() => fetch(url));
    if (typeof found !== "string") return found;
    throw new EndpointUnavailable(`the video did not come: ${found}`, { jobId: result.jobId });
  }

  /** What came, or what went wrong each time. */
  private async transfer(ask: () => Promise<Response>): Promise<Uint8Array | string> {
    let problem = "";
    for (let number = 0; number < TRANSFERS; number++) {
      if (number) await pause(this.pauseAfter(number));
      try {
        const answer = await ask();
        if (answer.ok) return new Uint8Array(await answer.arrayBuffer());
        problem = `HTTP ${answer.status}`;
      } catch (error) {
        problem = String(error);
      }
    }
    return problem;
  }

  private pauseAfter(troubles: number): number {
    const shortest = Math.min(1, this.pollSeconds);
    return Math.min(shortest * 2 ** Math.min(troubles - 1, 10), LONGEST_PAUSE_SECONDS);
  }
}

function checkId(jobId: string): void {
  if (isJobId(jobId)) return;
  const shown = String(jobId).slice(0, 40);
  throw new JobNotFound(`'${shown}' is no job's id, such as submit() gives`, { jobId });
}

function lost(problem: string, requestId: string | undefined): AnswerLost {
  const text = "the job may have been started, but no answer came";
  return new AnswerLost(`${text} (${problem}): it was not sent again`, { requestId });
}

function refusal(answer: Answer, requestId: string | undefined): TalkingheadError {
  // A gateway's: what is behind it may have the job.
  if (answer.status >= 500) return lost(answer.reason, requestId);
  if (answer.status === 404) return new BadRequest(`there is no such endpoint (${answer.reason})`);
  return new BadRequest(answer.reason);
}

/** Give what ended the wait the id of the job that nobody could end. */
function tellOf(job: Submitted, error: unknown): void {
  if (!(error instanceof Error) || error.cause !== undefined) return;
  const text = `the job ${job.id} was sent and may still be running: cancel() ends it, by this id`;
  error.cause = new JobLeft(text, { jobId: job.id, requestId: job.requestId });
}

function elsewhere(result: Result): ResultElsewhere {
  const where = result.output.video_path ?? result.output.uploaded_to;
  const text = where ? `the video is at ${where}` : `the result has no video: it is ${result.status}`;
  return new ResultElsewhere(text, { jobId: result.jobId });
}

function pause(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
