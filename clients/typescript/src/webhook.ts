// Webhooks: RunPod signs none, so the URL that it calls carries a signature of ours.
import { WebhookForged } from "./errors.js";
import { hmac } from "./hashes.js";
import { readState, type JobState } from "./jobs.js";

/** The URL to give as `webhook`, for a reference of yours: an order's number, say. */
export async function signedWebhook(url: string, reference: string, secret: string): Promise<string> {
  const query = new URLSearchParams({ reference, signature: await hmac(secret, reference) });
  return `${url}${new URL(url).search ? "&" : "?"}${query}`;
}

/**
 * What a call of your webhook says; throws WebhookForged if it is not signed with this secret.
 *
 * Who knows the URL can send any body: what it is worth money for, ask `client.state` as well.
 */
export async function readWebhook(
  url: string,
  body: string,
  secret: string,
): Promise<{ reference: string; state: JobState }> {
  const query = new URL(url, "http://localhost").searchParams;
  const reference = query.get("reference") ?? "";
  if (!isEqual(query.get("signature") ?? "", await hmac(secret, reference))) {
    throw new WebhookForged("the call does not carry our signature");
  }
  try {
    return { reference, state: readState(JSON.parse(body)) };
  } catch {
    throw new WebhookForged("the call holds no job's state");
  }
}

/** In a time that tells nothing of where they differ. */
function isEqual(one: string, other: string): boolean {
  let difference = one.length ^ other.length;
  for (let index = 0; index < other.length; index++) {
    difference |= one.charCodeAt(index % (one.length || 1)) ^ other.charCodeAt(index);
  }
  return difference === 0;
}
