/**
 * The events of a device: kept until the platform has committed them, sent when there is a network.
 * What is sent twice it takes once. A page that is hidden, which may be its end, sends what it
 * knows by `sendBeacon`; no answer comes, so that is sent again later.
 */

import { NoregretError, NotFound, Problem, Unreachable } from "../errors.js";
import { send, type Way } from "../sending.js";
import type { Batch, KeptDecision, RewardCheck, State } from "./state.js";
import { alone } from "./tabs.js";

/** How many events were told, by what became of them, and how many still wait. */
export interface Uploaded {
  told: Record<string, number>;
  waiting: number;
}

/** What a page's end may send: browsers let 64 KiB of a page's bodies outlive it. */
const BEACON_BYTES = 60_000;
/** Of one request: the platform takes twice as many. */
const MOST_EVENTS = 500;
const PATH = "/api/v1/edge/events";
/** Of one body, as the platform takes it. */
const MOST_BYTES = 1024 * 1024;
const TOO_LARGE = 413;
const NO_ENDPOINT = "/problems/not-found";
/** So many events that were told alone may fail before any is heard of: then it is no event's fault. */
const MOST_FAILURES = 8;
const LONGEST_PAUSE = 300_000;
const encoder = new TextEncoder();

/** A decision of this page, and its rewards that nobody has confirmed. */
interface Made {
  receipt: string;
  decision: string;
  told: boolean;
  rewards: Map<string, string>;
}

/** So many decisions that were told are remembered for their rewards. */
const REMEMBERED = 1000;

export class Outbox {
  /** What this page made, for its end: decisions that were told as well, for their rewards. */
  readonly #here = new Map<string, Made>();
  #running: Promise<Uploaded> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  /** Was the last failure an answer? Then the network is no reason to ask again sooner. */
  #isRefused = false;
  #closed = false;
  readonly #onOnline = (): void => this.#soon(0);
  readonly #onHide = (): void => this.#sendBeforeEnd();
  readonly #onVisibility = (): void => {
    if (document.visibilityState === "hidden") this.#sendBeforeEnd();
  };

  /**
   * `after`: milliseconds after an event, null for when `upload` is called alone. `now`: the time
   * by which decisions are forgotten that were told; null where it is not known well enough.
   */
  constructor(
    private readonly name: string,
    private readonly state: State,
    private readonly way: Way,
    private readonly key: string | undefined,
    private readonly timeout: number,
    private readonly after: number | null,
    private readonly now: () => number | null,
    private readonly onUploaded: (uploaded: Uploaded) => void,
  ) {
    if (after === null) return;
    globalThis.addEventListener?.("online", this.#onOnline);
    if (typeof document === "undefined") return;
    document.addEventListener("visibilitychange", this.#onVisibility);
    addEventListener("pagehide", this.#onHide);
  }

  /** False where as many wait as may. */
  async addDecision(decision: KeptDecision): Promise<boolean> {
    if (!(await this.state.addDecision(decision))) return false;
    if (this.after !== null) {
      this.#here.set(decision.id, { receipt: decision.receipt, decision: decision.event, told: false, rewards: new Map() });
    }
    this.#soon();
    return true;
  }

  /** False where the decision is not known here, or this metric of it waits already. */
  async addReward(decision: string, metric: string, event: string, check?: RewardCheck): Promise<boolean> {
    if (!(await this.state.addReward(decision, metric, event, check))) return false;
    this.#here.get(decision)?.rewards.set(metric, event);
    this.#soon();
    return true;
  }

  /** Tells what waits, in batches. Throws Problem, Unreachable. */
  upload(): Promise<Uploaded> {
    this.#running ??= alone(`noregret-events:${this.name}`, () => this.#upload()).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #upload(): Promise<Uploaded> {
    const told: Record<string, number> = {};
    const without = new Set<string>();
    let failure: NotFound | null = null;
    for (let batch = await this.#next(without); batch !== null; batch = await this.#next(without)) {
      try {
        await this.#tell(batch, told);
      } catch (error) {
        if (!(error instanceof NotFound) || error.type !== NO_ENDPOINT) throw error;
        failure = error; // that endpoint is no more, or not of this key: others tell
        without.add(batch.receipt);
      }
    }
    if (failure !== null) throw failure;
    const done = [...this.#here].filter(([, made]) => made.told && made.rewards.size === 0);
    for (const [id] of done.slice(0, -REMEMBERED)) this.#here.delete(id);
    const now = this.now();
    if (now !== null) await this.state.forget(now);
    const uploaded = { told, waiting: await this.state.waiting() };
    this.onUploaded(uploaded);
    return uploaded;
  }

  #next(without: ReadonlySet<string>): Promise<Batch | null> {
    return this.state.batch(MOST_EVENTS, without);
  }

  /**
   * A body that is refused whole, for one event of it, is told by halves: that event is `invalid`,
   * and holds up no other. What is told of a part is settled at once. Only what the platform itself
   * says of an event lets go of it: a refusal of anybody else, of the request, and a fault keep it.
   */
  async #tell(batch: Batch, told: Record<string, number>): Promise<void> {
    const parts: Batch[] = [batch];
    const failed = new Set<string>();
    let [failure, isHeard]: [Problem | null, boolean] = [null, false];
    for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
      let statuses: string[];
      try {
        statuses = await this.#statuses(part);
        isHeard = true;
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (isOfReceipt(error)) {
          statuses = part.events.map(() => "refused"); // signed with a secret that is no more: nobody takes them
        } else if (!mayBeOfOneEvent(error)) {
          throw error;
        } else if (part.events.length > 1) {
          const middle = part.events.length >> 1;
          parts.push(sliced(part, middle, part.events.length), sliced(part, 0, middle));
          continue;
        } else if (isJudgement(error, part)) {
          statuses = ["invalid"];
        } else {
          failure = error; // of the event, or of who answers: others tell
          failed.add(part.keys[0]![0]);
          if (!isHeard && failed.size >= MOST_FAILURES) throw error;
          continue;
        }
      }
      await this.#settle(part, statuses, told, failed);
    }
    if (failure !== null) throw failure;
  }

  /** What became of the first events, at least of one. */
  async #statuses({ receipt, events }: Batch): Promise<string[]> {
    const call = { path: PATH, body: bodyOf(receipt, events), repeatable: true };
    const results = (await send<{ results?: ({ status?: unknown } | null)[] } | null>(this.way, call, this.timeout))?.results;
    const statuses = (Array.isArray(results) ? results : []).map((one) => one?.status);
    const without = statuses.findIndex((status) => typeof status !== "string");
    const heard = (without < 0 ? statuses : statuses.slice(0, without)) as string[];
    if (heard.length === 0) throw new Unreachable(`an answer came without a status for any of ${events.length} events`, true);
    return heard;
  }

  /** What has no status still waits, and so does a reward whose decision could not be told. */
  async #settle(
    { keys }: Batch,
    statuses: readonly string[],
    told: Record<string, number>,
    failed: ReadonlySet<string>,
  ): Promise<void> {
    const heard = keys
      .slice(0, statuses.length)
      .flatMap((key, i) => (statuses[i] === "unknown" && failed.has(key[0]) ? [] : [{ key, status: statuses[i]! }]));
    await this.state.told(heard.map(({ key }) => key));
    for (const { key, status } of heard) {
      told[status] = (told[status] ?? 0) + 1;
      this.#confirmed(...key);
    }
  }

  #confirmed(decision: string, metric: string | null): void {
    const known = this.#here.get(decision);
    if (known === undefined) return;
    if (metric !== null) known.rewards.delete(metric);
    else known.told = true;
  }

  /** Uploads after a while, again and again where nobody answers. */
  #soon(wait = this.after): void {
    if (wait === null || this.after === null || this.#closed || (this.#timer !== undefined && wait !== 0)) return;
    if (globalThis.navigator?.onLine === false) return; // the browser tells when it is
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.upload().then(
        () => {
          [this.#failures, this.#isRefused] = [0, false];
        },
        (error: unknown) => {
          if (!(error instanceof NoregretError)) throw error;
          this.#isRefused = error instanceof Problem;
          const asked = error instanceof Problem ? (error.retryAfter ?? 0) : 0;
          this.#soon(Math.min(Math.max((this.after ?? 0) * 2 ** Math.min(++this.#failures, 20), asked), LONGEST_PAUSE));
        },
      );
    }, wait);
  }

  /**
   * Nothing can be waited for here. Each decision goes beside its rewards, for nobody hears whether
   * it was told.
   */
  #sendBeforeEnd(): void {
    const byReceipt = new Map<string, string[][]>();
    for (const { receipt, decision, told, rewards } of this.#here.values()) {
      if (told && rewards.size === 0) continue;
      byReceipt.set(receipt, [...(byReceipt.get(receipt) ?? []), [decision, ...rewards.values()]]);
    }
    let room = BEACON_BYTES;
    for (const [receipt, groups] of byReceipt) {
      room -= encoder.encode(bodyOf(receipt, [], this.key)).length;
      const fitting = groups.filter((events) => {
        const bytes = encoder.encode(events.join()).length + 1;
        if (bytes > room) return false;
        room -= bytes;
        return true;
      });
      const events = fitting.flat().slice(0, MOST_EVENTS);
      if (room >= 0 && events.length > 0) this.#beacon(receipt, events);
    }
  }

  #beacon(receipt: string, events: readonly string[]): void {
    const body = new Blob([bodyOf(receipt, events, this.key)], { type: "application/json" });
    if (navigator.sendBeacon?.(this.way.url + PATH, body)) return;
    const init: RequestInit = { method: "POST", headers: this.way.headers, body: bodyOf(receipt, events), keepalive: true };
    this.way.fetch(this.way.url + PATH, init).catch(() => undefined); // it is sent again
  }

  /** Sends no more by itself. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    globalThis.removeEventListener?.("online", this.#onOnline);
    if (typeof document === "undefined") return;
    document.removeEventListener("visibilitychange", this.#onVisibility);
    removeEventListener("pagehide", this.#onHide);
  }

  /** Begins to send what earlier pages left, and what could not be sent. What was refused waits its time. */
  start(): void {
    this.#soon(this.#isRefused ? undefined : 0);
  }
}

function isOfReceipt(error: Problem): boolean {
  return error.type === "/problems/invalid-fields" && error.field === "receipt";
}

/** Does the platform itself say this of a body's only event? */
function isJudgement({ type, field }: Problem, { receipt, events }: Batch): boolean {
  if (type === "/problems/invalid-fields") return field?.startsWith("events") === true;
  if (type === "/problems/too-large") return encoder.encode(bodyOf(receipt, events)).length > MOST_BYTES;
  return type === "/problems/invalid-json";
}

/** A smaller body may get another answer, also of a proxy that takes less than the platform. */
function mayBeOfOneEvent({ type, status, field }: Problem): boolean {
  if (type === "/problems/invalid-fields") return field?.startsWith("events") === true;
  return type === "/problems/invalid-json" || type === "/problems/internal" || status === TOO_LARGE;
}

function bodyOf(receipt: string, events: readonly string[], key?: string): string {
  return `{"receipt":${JSON.stringify(receipt)},"events":[${events.join()}]${key === undefined ? "" : `,"key":${JSON.stringify(key)}`}}`;
}

function sliced({ receipt, keys, events }: Batch, from: number, to: number): Batch {
  return { receipt, keys: keys.slice(from, to), events: events.slice(from, to) };
}
