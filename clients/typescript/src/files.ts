// Local files in a request: within it as data: URIs while they are small, else uploaded first.
import { FileTooLarge } from "./errors.js";

/** A file of an <input>, a Blob, or its bytes with a name. */
export type LocalFile = Blob | { name: string; data: Uint8Array };
/**
 * By the field that they are for: `image_url`, `audio_urls.0`, `speakers.1.audio_url`; of a workflow
 * job `files.NAME`.
 */
export type Files = Record<string, LocalFile>;

/** Where a file may be put, and where the worker gets it from. */
export interface Presigned {
  putUrl: string;
  getUrl: string;
  headers?: Record<string, string>;
}

/** Asks your server for URLs of your own bucket, for a file of this name, type and size in bytes. */
export type Presign = (name: string, contentType: string, size: number) => Promise<Presigned>;

export interface Upload {
  name: string;
  data: Blob;
  where: Presigned;
}

/** /run takes 10 MiB, and base64 makes 4 bytes of 3; the rest is for the request itself. */
export const INLINE_BYTES = 7_000_000;
/** Of a workflow job: each by its name, which may have dots. */
const FILES = "files.";
const FIELD = /^[a-z]\w*(\.([a-z]\w*|[0-9]{1,3}))*$/;
const TYPES: Record<string, string> = {
  jpg: "image/jpeg", jpeg: "image/jpeg", png: "image/png", webp: "image/webp", gif: "image/gif",
  heic: "image/heic", avif: "image/avif", wav: "audio/x-wav", mp3: "audio/mpeg", m4a: "audio/mp4",
  ogg: "audio/ogg", opus: "audio/opus", flac: "audio/flac", mp4: "video/mp4", mov: "video/quicktime",
  webm: "video/webm",
};

interface Content {
  field: string;
  name: string;
  type: string;
  data: Blob;
}

/** A copy of the request with its files in it, and what has to be uploaded before it is sent. */
export async function attach(
  request: object,
  files: Files,
  presign: Presign | undefined,
): Promise<{ request: Record<string, unknown>; uploads: Upload[] }> {
  const made = JSON.parse(JSON.stringify(request)) as Record<string, unknown>;
  const uploads: Upload[] = [];
  const contents = Object.entries(files).map(([field, file]) => contentOf(field, file));
  const inline = thatFit(contents);
  for (const content of contents) {
    if (inline.has(content.field)) {
      setField(made, content.field, await dataUri(content));
      continue;
    }
    if (presign === undefined) {
      throw new FileTooLarge(
        `${content.name} has ${(content.data.size / 1e6).toFixed(1)} MB: requests take ` +
          `${INLINE_BYTES / 1e6} MB of files in all. Give presign to upload it, or its URL`,
      );
    }
    const where = await presign(content.name, content.type, content.data.size);
    uploads.push({ name: content.name, data: content.data, where });
    setField(made, content.field, where.getUrl);
  }
  return { request: made, uploads };
}

function contentOf(field: string, file: LocalFile): Content {
  const isBlob = file instanceof Blob;
  const own = field.startsWith(FILES) ? field.slice(FILES.length) : field.replaceAll(".", "-");
  const name = "name" in file ? String(file.name) : own;
  const data = isBlob ? file : new Blob([file.data as BlobPart]);
  const known = TYPES[name.split(".").pop()?.toLowerCase() ?? ""];
  return { field, name, data, type: (isBlob && file.type) || known || "application/octet-stream" };
}

/** The fields of the small ones, as many as the request holds. */
function thatFit(contents: Content[]): Set<string> {
  let room = INLINE_BYTES;
  const bySize = [...contents].sort((one, other) => one.data.size - other.data.size);
  return new Set(bySize.filter((each) => (room -= each.data.size) >= 0).map((each) => each.field));
}

async function dataUri(content: Content): Promise<string> {
  const bytes = new Uint8Array(await content.data.arrayBuffer());
  let text = "";
  for (let begin = 0; begin < bytes.length; begin += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(begin, begin + 0x8000));
  }
  return `data:${content.type};base64,${btoa(text)}`;
}

function stepsTo(name: string): string[] {
  if (name.startsWith(FILES) && name !== FILES) return ["files", name.slice(FILES.length)];
  if (FIELD.test(name)) return name.split(".");
  throw new TypeError(
    `"${name}" is no field of a request: image_url, audio_urls.0, speakers.1.audio_url, or ` +
      "files.NAME of a workflow job",
  );
}

/** Put the URL into the field; what leads to it is made. */
function setField(request: Record<string, unknown>, name: string, url: string): void {
  const steps = stepsTo(name);
  let inner = request;
  steps.forEach((step, index) => {
    const isIndex = /^\d+$/.test(step);
    if (typeof inner !== "object" || inner === null || (Array.isArray(inner) && !isIndex)) {
      throw new TypeError(`"${name}" is no field of a request: it leads into what is there`);
    }
    // Its own properties alone: what all objects inherit is not the request's to change.
    const after = steps[index + 1];
    const value = after === undefined ? url : /^\d+$/.test(after) ? [] : {};
    if (after === undefined || !Object.hasOwn(inner, step) || inner[step] == null) {
      Object.defineProperty(inner, step, {
        value, writable: true, enumerable: true, configurable: true,
      });
    }
    inner = inner[step] as Record<string, unknown>;
  });
}

/** The bytes of a data: URI. */
export function decode(uri: string): Uint8Array {
  const text = atob(uri.slice(uri.indexOf(",") + 1));
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
