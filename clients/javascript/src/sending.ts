/** One call: requests within one deadline, tried again only where a second try can do no harm. */

import { DeadlineExceeded, NoregretError, PlatformUnavailable, Problem, Unreachable, problemOf } from "./errors.js";

export interface Retries {
  tries: number;
  /** Milliseconds; pauses double from the first, each drawn at random between half of it and all. */
  firstPause: number;
  longestPause: number;
}

export interface Call {
  path: string;
  body: string;
  /** May it be sent again though the platform may have carried it out? */
  repeatable: boolean;
}

export interface Way {
  url: string;
  headers: Record<string, string>;
  fetch: typeof fetch;
  retries: Retries;
  /** Told of each answer, before it is read. */
  heard?: (answer: Response) => Promise<void>;
}

const PASSING = new Set([408, 429, 500, 502, 503, 504]);
const NOTHING_DONE = new Set([408, 429, 503]);
/** Errors of Node's connections, before anything was sent. */
const NOT_SENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "ENETUNREACH", "EHOSTUNREACH", "UND_ERR_CONNECT_TIMEOUT"]);

/** The answer's JSON. Throws Problem, Unreachable, or the reason of an aborted `signal`. */
export function send<T>(way: Way, call: Call, timeout: number, signal?: AbortSignal): Promise<T> {
  return repeated(way, call, timeout, (left) => sendOnce<T>(way, call, left, signal), signal);
}

/** What a try gives, which is told how many milliseconds are left, tried again where that can do no harm. */
export async function repeated<T>(
  way: Way,
  call: Pick<Call, "repeatable">,
  timeout: number,
  once: (left: number) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const ends = Date.now() + timeout;
  for (let failures = 1; ; failures++) {
    try {
      return await once(ends - Date.now());
    } catch (error) {
      if (!(error instanceof NoregretError) || failures >= way.retries.tries || !mayRepeat(error, call)) throw error;
      const pause = pauseAfter(error, failures, way.retries);
      if (Date.now() + pause >= ends) throw error;
      await sleep(pause, signal);
    }
  }
}

export function pauseAfter(error: unknown, failures: number, retries: Retries): number {
  const whole = Math.min(retries.longestPause, retries.firstPause * 2 ** Math.min(failures - 1, 30));
  const pause = whole * (0.5 + Math.random() / 2);
  if (error instanceof PlatformUnavailable && error.retryAfter !== null) {
    // Those who were told the same second don't come back in the same instant.
    return error.retryAfter + Math.min(pause, error.retryAfter / 10);
  }
  return pause;
}

/** One request. */
export function sendOnce<T>(way: Way, call: Call, timeout: number, signal?: AbortSignal, keepalive = false): Promise<T> {
  const init: RequestInit = { method: "POST", headers: way.headers, body: call.body, keepalive };
  return exchanged(way, call.path, init, timeout, signal, async (answer) => {
    const text = await answer.text();
    if (!answer.ok) throw problemOf(answer.status, answer.statusText, text, answer.headers.get("Retry-After"));
    try {
      return JSON.parse(text) as T;
    } catch (error) {
      throw new NoregretError(`${call.path} was answered by something that is no Noregret platform`, { cause: error });
    }
  });
}

/** What `read` makes of the answer of one request, all within `timeout`. */
export async function exchanged<T>(
  way: Way,
  path: string,
  init: RequestInit,
  timeout: number,
  signal: AbortSignal | undefined,
  read: (answer: Response) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const controller = new AbortController();
  const late = new DeadlineExceeded(`${path}: no answer in time`, true);
  const timer = setTimeout(() => controller.abort(late), Math.max(0, timeout));
  const forward = (): void => controller.abort(signal?.reason);
  signal?.addEventListener("abort", forward);
  try {
    const always: RequestInit = { signal: controller.signal, credentials: "omit", redirect: "error" };
    const answer = await way.fetch(way.url + path, { ...init, ...always });
    await way.heard?.(answer);
    return await read(answer);
  } catch (error) {
    if (controller.signal.aborted) throw controller.signal.reason;
    if (error instanceof NoregretError) throw error;
    throw new Unreachable(`${path}: ${String(error)}`, !wasNotSent(error), { cause: error });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", forward);
  }
}

function mayRepeat(error: NoregretError, call: Pick<Call, "repeatable">): boolean {
  if (error instanceof DeadlineExceeded) return false;
  if (error instanceof Unreachable) return call.repeatable || !error.maybeDone;
  return error instanceof Problem && (call.repeatable ? PASSING : NOTHING_DONE).has(error.status);
}

function wasNotSent(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "";
  return NOT_SENT.has(code);
}

function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
