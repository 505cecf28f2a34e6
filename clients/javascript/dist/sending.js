/** One call: requests within one deadline, tried again only where a second try can do no harm. */
import { DeadlineExceeded, NoregretError, PlatformUnavailable, Problem, Unreachable, problemOf } from "./errors.js";
const PASSING = new Set([408, 429, 500, 502, 503, 504]);
const NOTHING_DONE = new Set([408, 429, 503]);
/** Errors of Node's connections, before anything was sent. */
const NOT_SENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "ENETUNREACH", "EHOSTUNREACH", "UND_ERR_CONNECT_TIMEOUT"]);
/** The answer's JSON. Throws Problem, Unreachable, or the reason of an aborted `signal`. */
export function send(way, call, timeout, signal) {
    return repeated(way, call, timeout, (left) => sendOnce(way, call, left, signal), signal);
}
/** What a try gives, which is told how many milliseconds are left, tried again where that can do no harm. */
export async function repeated(way, call, timeout, once, signal) {
    const ends = Date.now() + timeout;
    for (let failures = 1;; failures++) {
        try {
            return await once(ends - Date.now());
        }
        catch (error) {
            if (!(error instanceof NoregretError) || failures >= way.retries.tries || !mayRepeat(error, call))
                throw error;
            const pause = pauseAfter(error, failures, way.retries);
            if (Date.now() + pause >= ends)
                throw error;
            await sleep(pause, signal);
        }
    }
}
export function pauseAfter(error, failures, retries) {
    const whole = Math.min(retries.longestPause, retries.firstPause * 2 ** Math.min(failures - 1, 30));
    const pause = whole * (0.5 + Math.random() / 2);
    if (error instanceof PlatformUnavailable && error.retryAfter !== null) {
        // Those who were told the same second don't come back in the same instant.
        return error.retryAfter + Math.min(pause, error.retryAfter / 10);
    }
    return pause;
}
/** One request. */
export function sendOnce(way, call, timeout, signal, keepalive = false) {
    const init = { method: "POST", headers: way.headers, body: call.body, keepalive };
    return exchanged(way, call.path, init, timeout, signal, async (answer) => {
        const text = await answer.text();
        if (!answer.ok)
            throw problemOf(answer.status, answer.statusText, text, answer.headers.get("Retry-After"));
        try {
            return JSON.parse(text);
        }
        catch (error) {
            throw new NoregretError(`${call.path} was answered by something that is no Noregret platform`, { cause: error });
        }
    });
}
/** What `read` makes of the answer of one request, all within `timeout`. */
export async function exchanged(way, path, init, timeout, signal, read) {
    signal?.throwIfAborted();
    const controller = new AbortController();
    const late = new DeadlineExceeded(`${path}: no answer in time`, true);
    const timer = setTimeout(() => controller.abort(late), Math.max(0, timeout));
    const forward = () => controller.abort(signal?.reason);
    signal?.addEventListener("abort", forward);
    try {
        const always = { signal: controller.signal, credentials: "omit", redirect: "error" };
        const answer = await way.fetch(way.url + path, { ...init, ...always });
        await way.heard?.(answer);
        return await read(answer);
    }
    catch (error) {
        if (controller.signal.aborted)
            throw controller.signal.reason;
        if (error instanceof NoregretError)
            throw error;
        throw new Unreachable(`${path}: ${String(error)}`, !wasNotSent(error), { cause: error });
    }
    finally {
        clearTimeout(timer);
        signal?.removeEventListener("abort", forward);
    }
}
function mayRepeat(error, call) {
    if (error instanceof DeadlineExceeded)
        return false;
    if (error instanceof Unreachable)
        return call.repeatable || !error.maybeDone;
    return error instanceof Problem && (call.repeatable ? PASSING : NOTHING_DONE).has(error.status);
}
function wasNotSent(error) {
    const cause = error instanceof Error ? error.cause : undefined;
    const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "";
    return NOT_SENT.has(code);
}
function sleep(milliseconds, signal) {
    return new Promise((resolve, reject) => {
        const stop = () => {
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
