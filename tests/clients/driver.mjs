// The TypeScript client behind lines of JSON: a call on each of stdin, what came of it on stdout.
import { createInterface } from "node:readline";

const module = await import(process.argv[2]);
const { Client, JobFailed, TalkingheadError, readWebhook, signedWebhook } = module;

class GaveUp extends Error {}

const stateOf = (state) => ({
  id: state.id, status: state.status, percent: state.progress?.percent ?? null,
});

const resultOf = (result) => ({
  job_id: result.jobId, request_id: result.requestId ?? null, status: result.status,
  cost: result.cost ?? null, video_url: result.videoUrl ?? null, warnings: result.warnings,
  output: result.output,
});

function errorOf(error) {
  const told = { class: error.constructor.name, message: error.message };
  if (error.cause instanceof TalkingheadError) {
    Object.assign(told, { cause: error.cause.constructor.name, left: error.cause.jobId });
  }
  if (error instanceof TalkingheadError) {
    Object.assign(told, { job_id: error.jobId ?? null, request_id: error.requestId ?? null });
  }
  if (error instanceof JobFailed) {
    const { code = null, retryable, stage = null, details } = error;
    Object.assign(told, { code, retryable, stage, details });
  }
  return told;
}

async function call(given, seen) {
  if (given.op === "sign") {
    return signedWebhook(given.hook, given.reference, given.secret, given.expires);
  }
  if (given.op === "read") {
    const { reference, state } = await readWebhook(given.hook, given.body, given.secret, {
      signature: given.signature, token: given.token,
    });
    return { reference, status: state.status };
  }
  const options = {
    url: given.url, pollSeconds: given.poll_seconds ?? 0.001,
    patienceSeconds: given.patience_seconds ?? 60,
  };
  if (given.key !== undefined) options.apiKey = given.key;
  if (given.presign) {
    options.presign = async (name, type) => ({
      putUrl: given.presign.put, getUrl: given.presign.get, headers: { "Content-Type": type },
    });
  }
  const client = new Client(options);
  const files = {};
  for (const [field, [name, size]] of Object.entries(given.files ?? {})) {
    files[field] = { name, data: new Uint8Array(size).fill("x".charCodeAt(0)) };
  }
  switch (given.op) {
    case "render": {
      const { policy, retries } = given;
      const more = { ...(policy && { policy }), ...(retries && { retries }) };
      return resultOf(await client.render(given.request, { files, onProgress: seen, ...more }));
    }
    case "submit": {
      const more = given.webhook ? { webhook: given.webhook } : {};
      const job = await client.submit(given.request, { files, ...more });
      return { id: job.id, request_id: job.requestId ?? null };
    }
    case "wait":
      return resultOf(await client.wait(given.job, seen));
    case "state":
      return stateOf(await client.state(given.job));
    case "cancel": {
      const state = await client.cancel(given.job);
      return state ? stateOf(state) : null;
    }
    case "estimate":
      return client.estimate(given.request, files);
    case "health":
      return client.health();
    default:
      return Buffer.from(await client.video(await client.render(given.request))).toString("base64");
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const given = JSON.parse(line);
  const states = [];
  const seen = async (state) => {
    states.push(stateOf(state));
    if (given.give_up === state.status) {
      throw given.own_error ? new JobFailed(given.own_error) : new GaveUp();
    }
  };
  let told;
  try {
    told = { value: (await call(given, seen)) ?? null };
  } catch (error) {
    told = { error: errorOf(error) };
  }
  process.stdout.write(`${JSON.stringify({ ...told, states })}\n`);
}
