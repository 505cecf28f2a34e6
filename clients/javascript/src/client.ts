/** The client: each call of the serving API. */

import type { Asked, Calling, Choice, Feedback, ItemResult, Json, Prediction, Row } from "./documents.js";
import { checkCharacters } from "./event-fields.js";
import { type Batching, type FailedFeedback, FeedbackQueue } from "./feedback-queue.js";
import { checkAnyReward } from "./reward-values.js";
import { type Retries, send, type Way } from "./sending.js";

export interface Options {
  /** As `https://noregret.example.com`; empty: the page's own origin. */
  url: string;
  /** A browser's key is public: give it the scopes `predict` and `feedback` alone, and its endpoints. None: a proxy adds it. */
  key?: string;
  /** Milliseconds of a whole call. */
  timeout?: number;
  retries?: Partial<Retries>;
  batching?: Partial<Batching>;
  /** Told of feedback that taught nothing; without it a warning is logged. */
  onFeedbackFailed?: (failed: FailedFeedback) => void;
  /** Send predict and decide again also where the answer was lost: the ledger may then hold a decision that nobody saw. */
  resendLostDecisions?: boolean;
  fetch?: typeof fetch;
}

/** What feedback has beside its decision and value. */
export interface Said {
  metric?: string;
  occurred_at?: Date | string;
}

export class NoregretClient {
  readonly #way: Way;
  readonly #timeout: number;
  readonly #resend: boolean;
  readonly #queue: FeedbackQueue;

  constructor(options: Options) {
    if (options.url !== "" && !/^https?:\/\//.test(options.url)) {
      throw new TypeError("url: an address as https://noregret.example.com was expected");
    }
    const headers: Record<string, string> = { "Content-Type": "application/json", Accept: "application/json" };
    if (options.key !== undefined) headers["Authorization"] = `Bearer ${options.key}`;
    this.#way = {
      url: options.url.replace(/\/+$/, ""),
      headers,
      // Bound: browsers refuse a fetch that is called as another object's method.
      fetch: options.fetch ?? ((input, init) => fetch(input, init)),
      retries: { tries: 3, firstPause: 50, longestPause: 2000, ...options.retries },
    };
    this.#timeout = options.timeout ?? 5000;
    this.#resend = options.resendLostDecisions ?? false;
    const batching: Batching = { size: 100, wait: 1000, mostQueued: 10_000, retryFor: 60_000, ...options.batching };
    if (!(batching.size >= 1 && batching.size <= 1000)) throw new RangeError("batching.size: from 1 to 1000 was expected");
    const warn = (failed: FailedFeedback): void =>
      console.warn(`noregret-client: feedback that taught nothing, ${failed.status}: ${failed.message}`);
    this.#queue = new FeedbackQueue(
      this.#way,
      this.#timeout,
      batching,
      options.key !== undefined,
      options.onFeedbackFailed ?? warn,
    );
  }

  /** Routes to an arm, which answers the rows. One decision, however many rows. */
  predict(endpoint: string, inputs: readonly Row[], asked: Asked & Calling = {}): Promise<Prediction> {
    return this.#decided<Prediction>(`${endpointPath(endpoint)}/predict`, asked, { inputs });
  }

  /** Routes to an arm, whose payload is answered. */
  decide<P = Json>(endpoint: string, asked: Asked & Calling = {}): Promise<Choice<P>> {
    return this.#decided<Choice<P>>(`${endpointPath(endpoint)}/decide`, asked, {});
  }

  /** Says that decisions made with `activate: false` were shown. */
  async activate(decisionIds: readonly string[], calling: Calling = {}): Promise<ItemResult[]> {
    const answer = await this.#send<{ results: ItemResult[] }>("/api/v1/activate", { decision_ids: decisionIds }, true, calling);
    return answer.results;
  }

  /** Says how a decision went, now: `recorded` (committed), `duplicate` or `late`. */
  async feedback(decisionId: string, value: number | boolean, said: Said & Calling = {}): Promise<string> {
    const answer = await this.#send<{ status: string }>("/api/v1/feedback", item(decisionId, value, said), true, said);
    return answer.status;
  }

  /** Says it in a batch, soon, also where the page is left before. Never waits; false where the queue is full. */
  feedbackLater(decisionId: string, value: number | boolean, said: Said = {}): boolean {
    return this.#queue.put(item(decisionId, value, { occurred_at: new Date(), ...said }));
  }

  /** Resolves when the feedback so far is sent or told. */
  flush(): Promise<void> {
    return this.#queue.flush();
  }

  /** Sends what waits, and listens to the page no more. */
  close(): Promise<void> {
    return this.#queue.close();
  }

  #decided<T>(path: string, asked: Asked & Calling, more: object): Promise<T> {
    const { timeout, signal, ...own } = asked;
    const calling: Calling = { ...(timeout !== undefined && { timeout }), ...(signal !== undefined && { signal }) };
    // A decision that waits for its activation teaches nothing: one more that nobody saw does no harm.
    const repeatable = this.#resend || own.activate === false;
    return this.#send<T>(path, { request_id: requestId(), ...own, ...more }, repeatable, calling);
  }

  #send<T>(path: string, body: unknown, repeatable: boolean, calling: Calling): Promise<T> {
    const call = { path, body: JSON.stringify(body, plain), repeatable };
    return send<T>(this.#way, call, calling.timeout ?? this.#timeout, calling.signal);
  }
}

function endpointPath(endpoint: string): string {
  return `/api/v1/endpoints/${encodeURIComponent(endpoint)}`;
}

function item(decisionId: string, value: number | boolean, said: Said): Feedback {
  if (typeof decisionId !== "string") throw new TypeError("decisionId: a text was expected");
  checkCharacters("decisionId", decisionId);
  checkAnyReward(value, said.metric);
  const at = said.occurred_at;
  if (at instanceof Date && Number.isNaN(at.getTime())) throw new TypeError("occurred_at: a time was expected");
  return {
    decision_id: decisionId,
    value,
    ...(said.metric !== undefined && { metric: said.metric }),
    ...(at !== undefined && { occurred_at: typeof at === "string" ? at : at.toISOString() }),
  };
}

/** `randomUUID` is there in secure contexts alone. */
function requestId(): string {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Arrays of numbers as lists; NaN is a gap, and what JSON has no form for is told rather than sent as null. */
function plain(name: string, value: unknown): unknown {
  if (value === Infinity || value === -Infinity) throw new TypeError(`${name}: infinity has no form in JSON`);
  return ArrayBuffer.isView(value) ? Array.from(value as Float64Array) : value;
}
