// One call of an endpoint over HTTP. It matters whether a call that failed was heard: only one that
// surely was not may be sent again.

export const ASK_SECONDS = 30;
/** The same of a job with 10 MB of files, over a slow line. */
export const SEND_SECONDS = 300;

export const RUNPOD_URL = "https://api.runpod.ai/v2";

/** That of a RunPod endpoint; throws a TypeError if it is no id. */
export function endpointUrl(endpointId: string): string {
  if (/^[A-Za-z0-9][\w-]*$/.test(endpointId)) return `${RUNPOD_URL}/${endpointId}`;
  throw new TypeError(`'${endpointId}' is no endpoint's id, such as abc123xyz: is it a url?`);
}

/** Whether it may be what /run answered, of whatever endpoint. */
export function isJobId(name: unknown): name is string {
  return typeof name === "string" && /^[A-Za-z0-9][\w.:~-]{0,199}$/.test(name);
}

/** The URL, if calls can be made below it. In a page it may be a path of the page's own host. */
function checked(url: string): string {
  let whole: URL | undefined;
  try {
    whole = /^[!-~]+$/.test(url) ? new URL(url, globalThis.location?.href) : undefined;
  } catch {
    // told below
  }
  if (whole && /^https?:$/.test(whole.protocol) && !/[?#]/.test(url)) return url;
  const shown = url.split("?", 1)[0]?.replace(/^.*@/, "");
  throw new TypeError(
    `url: '${shown}' is no http:// or https:// URL of an endpoint, such as http://127.0.0.1:8000`,
  );
}

/** Nobody was there: what was asked was not heard. */
export class Unheard extends Error {}
/** What was asked may have been heard; no answer came, or only a part of one. */
export class Unanswered extends Error {}

export interface Answer {
  status: number;
  ok: boolean;
  content: Record<string, unknown>;
  /** What a refusal says. */
  reason: string;
}

export class Wire {
  // Private in JavaScript, too: console.log of a client does not show the key.
  readonly #apiKey: string;
  readonly #headers: Record<string, string>;

  private readonly url: string;

  constructor(url: string, apiKey: string, headers: Record<string, string>) {
    this.url = checked(url).replace(/\/+$/, "");
    this.#apiKey = apiKey.trim(); // a file's last line ends
    this.#headers = headers;
    if (!/^[\x20-\x7e]*$/.test(this.#apiKey)) { // fetch's own error would show it
      throw new TypeError("the API key has a character that no key has");
    }
  }

  /** What to say where the endpoint does not take the key, or there is none. */
  keyRefused(reason: string): string {
    if (this.#apiKey) return `the endpoint does not take the key (${reason})`;
    return `the endpoint wants a key, and apiKey gives none (${reason})`;
  }

  /** Ask the endpoint; throws Unheard or Unanswered. */
  async ask(
    method: "GET" | "POST",
    path: string,
    body?: unknown,
    seconds = ASK_SECONDS,
  ): Promise<Answer> {
    const headers: Record<string, string> = { "Content-Type": "application/json", ...this.#headers };
    if (this.#apiKey) headers["Authorization"] = `Bearer ${this.#apiKey}`;
    const asked: RequestInit = {
      method,
      headers,
      redirect: "manual", // it would take the key with it to another host
      signal: AbortSignal.timeout(seconds * 1000),
    };
    if (method === "POST") asked.body = JSON.stringify(body ?? {});
    let answer: Response;
    let text: string;
    try {
      answer = await fetch(`${this.url}/${path}`, asked);
      text = await answer.text();
    } catch (error) {
      throw isUnheard(error) ? new Unheard(reasonOf(error)) : new Unanswered(reasonOf(error));
    }
    const content = objectIn(text);
    if (answer.ok && content === undefined) {
      throw new Unanswered("the answer is no JSON object, or half of one");
    }
    const said = content?.["error"] ?? content?.["message"] ?? content?.["title"];
    const reason = `HTTP ${answer.status}${said ? `: ${String(said)}` : ""}`;
    return { status: answer.status, ok: answer.ok, content: content ?? {}, reason };
  }
}

/** Node tells whether a connection came about; a browser never does. */
function isUnheard(error: unknown): boolean {
  const never = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"];
  return causes(error).some((each) => never.includes(String(each["code"])));
}

function causes(error: unknown): Record<string, unknown>[] {
  const cause = (error as { cause?: { errors?: unknown[] } }).cause;
  return [cause, ...(cause?.errors ?? [])].filter(Boolean) as Record<string, unknown>[];
}

function reasonOf(error: unknown): string {
  const cause = (error as { cause?: unknown }).cause;
  return cause instanceof Error && cause.message ? cause.message : String(error);
}

function objectIn(text: string): Record<string, unknown> | undefined {
  try {
    const found: unknown = JSON.parse(text);
    const isObject = typeof found === "object" && found !== null && !Array.isArray(found);
    return isObject ? (found as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
