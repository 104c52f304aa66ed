// Webhooks: RunPod signs none, so the URL that it calls carries a signature of ours. It covers a
// reference and when it expires. `talkinghead serve` with API_TOKEN signs the body, too: by a header.
import { WebhookForged } from "./errors.js";
import { hmac } from "./hashes.js";
import { readState, type JobState } from "./jobs.js";

/** A job may wait for a day, or for what its ttl says. */
const EXPIRES_SECONDS = 7 * 86_400;
/** How old a signed body may be: clocks differ, and networks wait. */
const BODY_SECONDS = 300;

export interface SignedBody {
  /** The call's header Talkinghead-Signature. */
  signature?: string | undefined;
  /** API_TOKEN of the `talkinghead serve` that calls: body and header have to fit it. */
  token?: string | undefined;
}

/**
 * The URL to give as `webhook`, for a reference of yours: an order's number, say.
 *
 * From `expires` on it is not taken any more: seconds since 1970; in a week if unset.
 */
export async function signedWebhook(
  url: string,
  reference: string,
  secret: string,
  expires?: number,
): Promise<string> {
  const end = String(Math.floor(expires ?? now() + EXPIRES_SECONDS));
  const signature = await signatureOf(reference, end, secret);
  const query = new URLSearchParams({ reference, expires: end, signature });
  return `${url}${new URL(url).search ? "&" : "?"}${query}`;
}

/**
 * What a call of your webhook says; throws WebhookForged if it is not signed with this secret, or no
 * longer.
 *
 * Without a token the body is not signed: who knows the URL can send any. What it is worth money for,
 * ask `client.state` of the id that `submit` gave.
 */
export async function readWebhook(
  url: string,
  body: string,
  secret: string,
  { signature, token }: SignedBody = {},
): Promise<{ reference: string; state: JobState }> {
  const query = new URL(url, "http://localhost").searchParams;
  const reference = query.get("reference") ?? "";
  const end = query.get("expires");
  if (!isEqual(query.get("signature") ?? "", await signatureOf(reference, end, secret))) {
    throw new WebhookForged("the call does not carry our signature");
  }
  if (end !== null && Number(end) < now()) {
    throw new WebhookForged("the call's signature has expired");
  }
  if (token !== undefined) await checkBody(body, signature ?? "", token);
  try {
    return { reference, state: readState(JSON.parse(body)) };
  } catch {
    throw new WebhookForged("the call holds no job's state");
  }
}

async function checkBody(body: string, header: string, token: string): Promise<void> {
  const [, sent, found] = /^t=([0-9]{1,12}),v1=([0-9a-f]{64})$/.exec(header) ?? [];
  if (!found || !isEqual(found, await hmac(token, `${sent}.${body}`))) {
    throw new WebhookForged("the call's body does not carry the signature of this token");
  }
  if (Math.abs(now() - Number(sent)) > BODY_SECONDS) {
    throw new WebhookForged("the call's body was signed at another time");
  }
}

/** Of a URL. Those of earlier clients have no end, and another key: none passes for another. */
async function signatureOf(reference: string, end: string | null, secret: string): Promise<string> {
  if (end === null || !secret) return hmac(secret, reference);
  return hmac(`expires:${secret}`, `${end}.${reference}`);
}

function now(): number {
  return Date.now() / 1000;
}

/** In a time that tells nothing of where they differ. */
function isEqual(one: string, other: string): boolean {
  let difference = one.length ^ other.length;
  for (let index = 0; index < other.length; index++) {
    difference |= one.charCodeAt(index % (one.length || 1)) ^ other.charCodeAt(index);
  }
  return difference === 0;
}
