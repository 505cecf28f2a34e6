/**
 * Feedback that is sent in batches. The queue is bounded; what fails is told. Where a page is hidden, which may be its end, what waits
 * goes at once: by a fetch with `keepalive`, which carries the key in its header, or without a key by `sendBeacon`.
 */

import type { Feedback, ItemResult } from "./documents.js";
import { NoregretError, PlatformUnavailable, Problem, Unreachable } from "./errors.js";
import { type Call, pauseAfter, sendOnce, type Way } from "./sending.js";

/** How feedback is sent in batches; times in milliseconds. */
export interface Batching {
  /** A batch goes when so many items wait, at most 1000, */
  size: number;
  /** or when the oldest has waited so long. */
  wait: number;
  /** With so many waiting a further one is not taken, and told as `queue_full`. */
  mostQueued: number;
  /** A batch that can't be sent is tried again for so long. */
  retryFor: number;
}

export type FailedStatus =
  | "late"
  | "conflict"
  | "not_learnable"
  | "unknown"
  | "invalid"
  | "refused"
  | "unreachable"
  | "queue_full";

/** Feedback that taught nothing, and why. */
export interface FailedFeedback {
  feedback: Feedback;
  status: FailedStatus;
  message: string;
}

/** Refusals that another body may not get. */
const OF_THE_BODY: ReadonlySet<number> = new Set([400, 413, 422]);

const TOLD = new Set(["late", "conflict", "not_learnable", "unknown", "invalid"]);
/** Browsers let 64 KiB of a page's bodies outlive it. */
const KEEPALIVE_BYTES = 60_000;

interface Answer {
  results?: ItemResult[];
}

export class FeedbackQueue {
  #waiting: Feedback[] = [];
  #sending: Feedback[] = [];
  #sentAgain: Feedback[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #running: Promise<void> | undefined;
  readonly #onHide = (): void => this.#sendBeforeEnd();
  readonly #onVisibility = (): void => {
    if (document.visibilityState === "hidden") this.#sendBeforeEnd();
  };

  constructor(
    private readonly way: Way,
    private readonly timeout: number,
    private readonly batching: Batching,
    private readonly hasKey: boolean,
    private readonly onFailed: (failed: FailedFeedback) => void,
  ) {
    if (typeof document !== "undefined") {
      document.addEventListener("visibilitychange", this.#onVisibility);
      addEventListener("pagehide", this.#onHide);
    }
  }

  /** Never waits. False where the queue is full, which is told, too. */
  put(item: Feedback): boolean {
    if (this.#waiting.length + this.#sending.length >= this.batching.mostQueued) {
      this.#tell({ feedback: item, status: "queue_full", message: `${this.batching.mostQueued} items wait already` });
      return false;
    }
    this.#waiting.push(item);
    if (this.#waiting.length >= this.batching.size) void this.flush();
    else this.#timer ??= setTimeout(() => void this.flush(), this.batching.wait);
    return true;
  }

  /** Resolves when everything that was put before is sent or told. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    await this.#running;
    if (this.#waiting.length > 0) await this.flush();
  }

  /** Sends what is left, and listens to the page no more. */
  async close(): Promise<void> {
    if (typeof document !== "undefined") {
      document.removeEventListener("visibilitychange", this.#onVisibility);
      removeEventListener("pagehide", this.#onHide);
    }
    await this.flush();
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, this.batching.size);
      this.#sending = batch;
      await this.#deliver(batch);
      this.#sending = [];
    }
  }

  async #deliver(batch: readonly Feedback[]): Promise<void> {
    const ends = Date.now() + this.batching.retryFor;
    for (let failures = 1; ; failures++) {
      try {
        const answer = await sendOnce<Answer>(this.way, callOf(batch), Math.min(this.timeout, ends - Date.now()));
        const rest = this.#told(batch, answer);
        if (rest.length > 0) await this.#deliver(rest);
        return;
      } catch (error) {
        const passing = error instanceof PlatformUnavailable || error instanceof Unreachable;
        const pause = pauseAfter(error, failures, { tries: 0, firstPause: 100, longestPause: 5000 });
        if (passing && Date.now() + pause < ends) {
          await new Promise((resolve) => setTimeout(resolve, pause));
        } else if (error instanceof Problem && OF_THE_BODY.has(error.status) && batch.length > 1) {
          await this.#deliver(batch.slice(0, batch.length >> 1));
          await this.#deliver(batch.slice(batch.length >> 1));
          return;
        } else {
          const status = passing ? "unreachable" : "refused";
          const message = error instanceof NoregretError ? error.message : String(error);
          for (const feedback of batch) this.#tell({ feedback, status, message });
          return;
        }
      }
    }
  }

  /** The page may end with this task: nothing is waited for. What comes back unsent waits again. */
  #sendBeforeEnd(): void {
    if (this.#sending !== this.#sentAgain) {
      // A fetch under way ends with the page. What it sent already is a duplicate, and who waits for it is told by it.
      this.#sentAgain = this.#sending;
      for (let rest = this.#sending; rest.length > 0; ) {
        const batch = rest.slice(0, fitting(rest));
        rest = rest.slice(batch.length);
        this.#sendOnceMore(batch, () => undefined, () => undefined);
      }
    }
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, fitting(this.#waiting));
      this.#sendOnceMore(
        batch,
        (answer) => {
          for (const item of this.#told(batch, answer)) this.put(item);
        },
        (error) => {
          if (error instanceof Problem && !(error instanceof PlatformUnavailable)) {
            for (const feedback of batch) this.#tell({ feedback, status: "refused", message: error.message });
          } else {
            for (const item of batch) this.put(item);
          }
        },
      );
    }
  }

  #sendOnceMore(
    batch: readonly Feedback[],
    done: (answer: Answer) => void,
    failed: (error: unknown) => void,
  ): void {
    const call = callOf(batch);
    if (!this.hasKey && navigator.sendBeacon) {
      const body = new Blob([call.body], { type: "application/json" });
      if (navigator.sendBeacon(this.way.url + call.path, body)) return;
    }
    sendOnce<Answer>(this.way, call, this.timeout, undefined, true).then(done, failed);
  }

  /** Tells what failed; the items of which the answer says nothing, which are to be sent again. */
  #told(batch: readonly Feedback[], { results }: Answer): readonly Feedback[] {
    if (!Array.isArray(results) || results.length === 0) {
      for (const feedback of batch) this.#tell({ feedback, status: "refused", message: "an answer came that says nothing of any item" });
      return [];
    }
    (results as ItemResult[]).forEach((result, i) => {
      const feedback = batch[i];
      if (feedback === undefined || !TOLD.has(result.status)) return;
      const message = result.error?.message ?? "the decision's window was over";
      this.#tell({ feedback, status: result.status as FailedStatus, message });
    });
    return batch.slice(results.length);
  }

  #tell(failed: FailedFeedback): void {
    try {
      this.onFailed(failed);
    } catch (error) {
      console.error("noregret-client: onFeedbackFailed threw", error);
    }
  }
}

function callOf(batch: readonly Feedback[]): Call {
  return { path: "/api/v1/feedback", body: JSON.stringify({ feedback: batch }), repeatable: true };
}

/** How many of the first items one body of a page's end can carry; at least one. */
function fitting(items: readonly Feedback[]): number {
  let bytes = 20;
  for (const [i, item] of items.entries()) {
    bytes += JSON.stringify(item).length * 3 + 1; // a character has at most three bytes a unit
    if (bytes > KEEPALIVE_BYTES || i >= 1000) return Math.max(1, i);
  }
  return items.length;
}
