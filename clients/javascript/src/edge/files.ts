/**
 * Model files onto the device: each once, by its hash, gone on with where it broke off, and checked
 * before it stands under its name.
 */

import { PlatformUnavailable, problemOf, Unreachable } from "../errors.js";
import { exchanged, type Way } from "../sending.js";
import type { Artifact } from "./bundle.js";
import { WrongFile } from "./errors.js";
import { alone } from "./tabs.js";

/** Where files and their parts are kept, by name. */
export interface Shelf {
  get(name: string): Promise<Uint8Array | null>;
  put(name: string, body: Uint8Array): Promise<void>;
  names(): Promise<string[]>;
  delete(name: string): Promise<void>;
}

/** For as long as the process lives. */
export class MemoryShelf implements Shelf {
  readonly #files = new Map<string, Uint8Array>();

  async get(name: string): Promise<Uint8Array | null> {
    return this.#files.get(name) ?? null;
  }

  async put(name: string, body: Uint8Array): Promise<void> {
    this.#files.set(name, body);
  }

  async names(): Promise<string[]> {
    return [...this.#files.keys()];
  }

  async delete(name: string): Promise<void> {
    this.#files.delete(name);
  }
}

/** In the origin's Cache storage, where its pages and workers find them. */
export class CacheShelf implements Shelf {
  constructor(private readonly cacheName: string) {}

  async get(name: string): Promise<Uint8Array | null> {
    const answer = await (await caches.open(this.cacheName)).match(`/${name}`);
    return answer === undefined ? null : new Uint8Array(await answer.arrayBuffer());
  }

  async put(name: string, body: Uint8Array): Promise<void> {
    await (await caches.open(this.cacheName)).put(`/${name}`, new Response(body as BodyInit));
  }

  async names(): Promise<string[]> {
    const requests = await (await caches.open(this.cacheName)).keys();
    return requests.map((request) => new URL(request.url).pathname.slice(1));
  }

  async delete(name: string): Promise<void> {
    await (await caches.open(this.cacheName)).delete(`/${name}`);
  }
}

/**
 * What came is put away in parts of so many bytes, so that a page which is left loses no more than
 * one.
 */
const PART = 1 << 20;
const TRIES = 5;

/** Model files on a shelf, by their SHA-256. */
export class Files {
  constructor(
    private readonly shelf: Shelf,
    private readonly way: Way,
  ) {}

  async has(artifact: Artifact): Promise<boolean> {
    return (await this.shelf.names()).includes(nameOf(artifact));
  }

  /** Null where it is not there, or damaged: then it is removed. */
  async read(artifact: Artifact): Promise<Uint8Array | null> {
    const body = await this.shelf.get(nameOf(artifact));
    if (body === null || (await sha256(body)) === artifact.sha256) return body;
    await this.shelf.delete(nameOf(artifact));
    return null;
  }

  /** Fetches it unless it is there and whole; false where it was. Throws Problem, Unreachable, WrongFile. */
  fetch(artifact: Artifact, timeout: number): Promise<boolean> {
    return alone(`noregret-file:${nameOf(artifact)}`, () => this.#fetch(artifact, timeout));
  }

  async #fetch(artifact: Artifact, timeout: number): Promise<boolean> {
    const name = nameOf(artifact);
    const there = await this.shelf.get(name);
    if (there !== null) {
      if ((await sha256(there)) === name) return false;
      await this.shelf.delete(name); // damaged: fetched anew
    }
    const ends = Date.now() + timeout;
    for (let tries = 1; ; tries++) {
      try {
        await this.#goOn(artifact, ends - Date.now());
        break;
      } catch (error) {
        const isPassing = error instanceof Unreachable || error instanceof PlatformUnavailable;
        if (!isPassing || tries >= TRIES || Date.now() >= ends) throw error;
      }
    }
    const body = joined((await this.#parts(name)).map(([, part]) => part));
    const isRight = (await sha256(body)) === name;
    if (isRight) await this.shelf.put(name, body);
    await this.#dropParts(name);
    if (!isRight) throw new WrongFile(`the file of ${name.slice(0, 12)} came with another hash`);
    return true;
  }

  /** Removes the files of all others, and their parts. */
  async keepOnly(sha256s: ReadonlySet<string>): Promise<void> {
    for (const name of await this.shelf.names()) if (!sha256s.has(name.slice(0, 64))) await this.shelf.delete(name);
  }

  async #goOn(artifact: Artifact, timeout: number): Promise<void> {
    const name = nameOf(artifact);
    let there = (await this.#parts(name)).reduce((sum, [, part]) => sum + part.length, 0);
    if (there > artifact.bytes) {
      await this.#dropParts(name);
      there = 0;
    }
    if (there === artifact.bytes) return;
    const headers: Record<string, string> = { ...this.way.headers, Accept: "application/octet-stream" };
    delete headers["Content-Type"];
    if (there > 0) Object.assign(headers, { Range: `bytes=${there}-`, "If-Range": `"${name}"` });
    // No cache beside the shelf's: the file would be kept twice.
    const init: RequestInit = { headers, cache: "no-store" };
    await exchanged(this.way, artifact.url, init, timeout, undefined, async (answer) => {
      if (!answer.ok) {
        if (answer.status === 416) await this.#dropParts(name);
        throw problemOf(answer.status, answer.statusText, await answer.text(), answer.headers.get("Retry-After"));
      }
      if (answer.status === 200 && there > 0) {
        await this.#dropParts(name);
        there = 0;
      } else if (there > 0 && !answer.headers.get("Content-Range")?.startsWith(`bytes ${there}-`)) {
        throw new Unreachable("another range came than was asked for", false);
      }
      there += await this.#put(answer, name, there, artifact.bytes);
      if (there < artifact.bytes) throw new Unreachable(`${there} of ${artifact.bytes} bytes came`, false);
    });
  }

  /** Puts away what comes, in parts; how many bytes that was. */
  async #put(answer: Response, name: string, from: number, size: number): Promise<number> {
    const reader = answer.body!.getReader();
    let [waiting, length, there]: [Uint8Array[], number, number] = [[], 0, from];
    const flush = async (): Promise<void> => {
      if (length > 0) await this.shelf.put(`${name}/${there}`, joined(waiting));
      there += length;
      [waiting, length] = [[], 0];
    };
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        waiting.push(value);
        length += value.length;
        if (there + length > size) throw new WrongFile(`more came than the ${size} bytes of ${name.slice(0, 12)}`);
        if (length >= PART) await flush();
      }
    } catch (error) {
      if (error instanceof WrongFile) {
        await reader.cancel();
        await this.#dropParts(name);
        throw error;
      }
      await flush();
      throw error;
    }
    await flush();
    return there - from;
  }

  /** Those that follow each other from the file's beginning, by offset. */
  async #parts(name: string): Promise<[number, Uint8Array][]> {
    const offsets = (await this.shelf.names()).filter((one) => one.startsWith(`${name}/`)).map((one) => Number(one.slice(65)));
    const parts: [number, Uint8Array][] = [];
    let next = 0;
    for (const offset of offsets.sort((left, right) => left - right)) {
      const part = offset === next ? await this.shelf.get(`${name}/${offset}`) : null;
      if (part === null) continue;
      parts.push([offset, part]);
      next += part.length;
    }
    return parts;
  }

  async #dropParts(name: string): Promise<void> {
    for (const one of await this.shelf.names()) if (one.startsWith(`${name}/`)) await this.shelf.delete(one);
  }
}

function nameOf(artifact: Artifact): string {
  if (!/^[0-9a-f]{64}$/.test(artifact.sha256)) throw new TypeError("a SHA-256 in hexadecimal was expected");
  return artifact.sha256;
}

async function sha256(body: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body as BufferSource));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
