// A video by the TypeScript client:  node call.ts me.jpg hello.wav me.mp4 [--draft]
//
// ENDPOINT_ID and RUNPOD_API_KEY name the endpoint; or TALKINGHEAD_URL that of `talkinghead serve`, and
// TALKINGHEAD_TOKEN its API_TOKEN, if it has one.
// Node 22.18 and newer run it as it is; before, npx tsx call.ts does.
import { readFile, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { Client, JobFailed, type ClientOptions, type JobState } from "talkinghead-client";

const { ENDPOINT_ID, RUNPOD_API_KEY, TALKINGHEAD_URL, TALKINGHEAD_TOKEN, POLL_SECONDS } = process.env;
const [picture, voice, out, ...options] = process.argv.slice(2);
if (!picture || !voice || !out || !(TALKINGHEAD_URL || ENDPOINT_ID)) {
  console.error("ENDPOINT_ID=… node call.ts me.jpg hello.wav me.mp4; or TALKINGHEAD_URL instead");
  process.exit(2);
}

const where: ClientOptions = TALKINGHEAD_URL
  ? { url: TALKINGHEAD_URL, apiKey: TALKINGHEAD_TOKEN ?? "" }
  : { endpointId: ENDPOINT_ID ?? "", apiKey: RUNPOD_API_KEY ?? "" };
const file = async (path: string) => ({ name: basename(path), data: await readFile(path) });
const show = ({ status, progress }: JobState) =>
  console.log(progress ? `${progress.percent} % ${progress.message}` : status);

const stop = new AbortController();
process.on("SIGINT", () => stop.abort(new Error("stopped"))); // it cancels the job

try {
  const client = new Client({ ...where, pollSeconds: Number(POLL_SECONDS ?? 2) });
  const result = await client.render(
    { draft: options.includes("--draft"), resolution: "480p" },
    {
      files: { image_url: await file(picture), wav_url: await file(voice) },
      onProgress: show,
      signal: stop.signal,
    },
  );
  await writeFile(out, await client.video(result));
  console.log(`${out}: ${result.output.video_info?.duration_seconds} s, cost ${result.cost}`);
  for (const warning of result.warnings) console.log(`note: ${warning}`);
} catch (error) {
  const code = error instanceof JobFailed ? `${error.code}: ` : "";
  console.error(`${code}${(error as Error).message}`);
  process.exitCode = 1;
}
