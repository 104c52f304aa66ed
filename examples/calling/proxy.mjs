// What stands between a page and the endpoint, so that the key stays here:  node proxy.mjs [port]
//
// It serves page.html and the client, and passes /api/run, /api/status, /api/cancel on with the key.
// A shop's own would ask who is there, and for what, before it passes a /run on.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

const { ENDPOINT_ID, RUNPOD_API_KEY, TALKINGHEAD_URL, TALKINGHEAD_TOKEN, CLIENT_DIST } = process.env;
if (!TALKINGHEAD_URL && !ENDPOINT_ID) {
  console.error("set ENDPOINT_ID and RUNPOD_API_KEY, or TALKINGHEAD_URL");
  process.exit(2);
}
const endpoint = TALKINGHEAD_URL || `https://api.runpod.ai/v2/${ENDPOINT_ID}`;
const key = TALKINGHEAD_URL ? TALKINGHEAD_TOKEN : RUNPOD_API_KEY; // RunPod's is for RunPod alone
const here = new URL(".", import.meta.url);
const client = new URL(CLIENT_DIST ? `file://${CLIENT_DIST}/` : "../../clients/typescript/dist/", here);
const MOST_BYTES = 10 * 1024 * 1024;
const PASSED = /^\/api\/(run|status\/[\w-]+|cancel\/[\w-]+)$/;

// Any page that is open in the browser can send a POST here, and would use the key.
const isOurs = ({ headers: { host, origin } }) =>
  /^(127\.0\.0\.1|localhost):\d+$/.test(host) && (!origin || origin === `http://${host}`);

/** What the page sent; undefined if it is more than /run takes. Of an endless one, no more is read. */
async function bodyOf(request) {
  if (Number(request.headers["content-length"]) > MOST_BYTES) return undefined;
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    if ((size += chunk.length) > MOST_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function passOn(request, path) {
  const body = await bodyOf(request);
  if (!body) return [413, "application/json", '{"error": "more than 10 MB: upload the files first"}'];
  const answer = await fetch(`${endpoint}/${path}`, {
    method: request.method,
    headers: { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) },
    ...(request.method === "POST" && { body }),
  });
  return [answer.status, "application/json", Buffer.from(await answer.arrayBuffer())];
}

async function file(path) {
  if (path === "/") return [200, "text/html", await readFile(new URL("page.html", here))];
  const name = /^\/client\/(\w+\.js)$/.exec(path)?.[1];
  if (name) return [200, "text/javascript", await readFile(new URL(name, client))];
  return [404, "text/plain", "not found"];
}

const server = createServer(async (request, response) => {
  let answer;
  try {
    const passed = PASSED.exec(request.url);
    if (!isOurs(request)) answer = [403, "application/json", '{"error": "not from this page"}'];
    else answer = await (passed ? passOn(request, passed[1]) : file(request.url));
  } catch (error) {
    answer = [502, "application/json", JSON.stringify({ error: String(error) })];
  }
  response.writeHead(answer[0], { "Content-Type": answer[1] }).end(answer[2]);
});
server.listen(Number(process.argv[2] ?? 8080), "127.0.0.1", () => {
  console.log(`open http://127.0.0.1:${server.address().port}`);
});
