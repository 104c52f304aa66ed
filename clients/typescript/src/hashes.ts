// SHA-256, in Node and in browsers.

/** Node 18 has it in a module; its name is a variable, so that bundlers leave it alone. */
async function subtle(): Promise<SubtleCrypto> {
  if (globalThis.crypto?.subtle) return globalThis.crypto.subtle;
  const name = "node:crypto";
  const module = (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as {
    webcrypto: Crypto;
  };
  return module.webcrypto.subtle;
}

/** null where there is nothing to compute it with: in a page over plain http. */
export async function sha256(data: Uint8Array): Promise<string | null> {
  const crypto = await subtle().catch(() => null);
  return crypto && hex(await crypto.digest("SHA-256", data as BufferSource));
}

export async function hmac(secret: string, text: string): Promise<string> {
  if (!secret) throw new TypeError("the secret is empty: anybody could sign");
  const encoder = new TextEncoder();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const crypto = await subtle();
  const key = await crypto.importKey("raw", encoder.encode(secret), algorithm, false, ["sign"]);
  return hex(await crypto.sign("HMAC", key, encoder.encode(text)));
}

/** 32 hex digits that nobody had before. */
export function newId(): string {
  const random = () => Math.floor(Math.random() * 0x100000000).toString(16).padStart(8, "0");
  const uuid = globalThis.crypto?.randomUUID?.();
  return uuid ? uuid.replaceAll("-", "") : random() + random() + random() + random();
}

function hex(buffer: ArrayBuffer): string {
  return [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
