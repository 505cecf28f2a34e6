/**
 * A device's state for as long as its process lives: in Node, and where a browser has no IndexedDB.
 */

import { type Batch, batchOf, type EventKey, type KeptArm, type KeptDecision, type RewardCheck, type State, windowOf } from "./state.js";

interface Reward {
  decision: string;
  metric: string;
  receipt: string;
  event: string;
}

export class MemoryState implements State {
  readonly #settled = new Map<string, string>();
  readonly #units = new Map<string, KeptArm>();
  readonly #decisions = new Map<string, Omit<KeptDecision, "event"> & { event: string | null }>();
  readonly #rewards = new Map<string, Reward>();
  #experiment = 0;
  #untold = 0;

  constructor(private readonly limit: number) {}

  async get(...names: string[]): Promise<(string | null)[]> {
    return names.map((name) => this.#settled.get(name) ?? null);
  }

  async put(values: Readonly<Record<string, string>>): Promise<void> {
    for (const [name, value] of Object.entries(values)) this.#settled.set(name, value);
  }

  async arm(experiment: number, unit: string, isGood: (kept: KeptArm) => boolean, draw: () => KeptArm): Promise<KeptArm> {
    if (experiment !== this.#experiment) this.#units.clear();
    this.#experiment = experiment;
    const kept = this.#units.get(unit);
    if (kept !== undefined && isGood(kept)) return kept;
    const drawn = draw();
    this.#units.delete(unit);
    this.#units.set(unit, drawn);
    const [oldest] = this.#units.keys();
    if (this.#units.size > this.limit) this.#units.delete(oldest!);
    return drawn;
  }

  async addDecision(decision: KeptDecision): Promise<boolean> {
    if (this.#untold >= this.limit) return false;
    this.#decisions.set(decision.id, { ...decision });
    this.#untold++;
    return true;
  }

  async addReward(decision: string, metric: string, event: string, check?: RewardCheck): Promise<boolean> {
    const key = JSON.stringify([decision, metric]);
    const known = this.#decisions.get(decision);
    if (known === undefined) return false;
    check?.(known.reward ?? null);
    if (this.#rewards.has(key)) return false;
    this.#rewards.set(key, { decision, metric, receipt: known.receipt, event });
    return true;
  }

  async batch(most: number, without: ReadonlySet<string> = new Set()): Promise<Batch | null> {
    const decisions = [...this.#decisions.values()].flatMap(({ id, receipt, event }) =>
      event === null ? [] : [{ receipt, key: [id, null] as EventKey, event }],
    );
    const rewards = [...this.#rewards.values()].map(({ decision, metric, receipt, event }) => ({
      receipt,
      key: [decision, metric] as EventKey,
      event,
    }));
    const waiting = [...decisions, ...rewards].filter(({ receipt }) => !without.has(receipt));
    const receipt = waiting[0]?.receipt;
    return receipt === undefined ? null : batchOf(receipt, waiting.filter((one) => one.receipt === receipt).slice(0, most));
  }

  async told(keys: readonly EventKey[]): Promise<void> {
    for (const [id, metric] of keys) {
      const decision = this.#decisions.get(id);
      if (metric !== null) {
        this.#rewards.delete(JSON.stringify([id, metric]));
      } else if (decision !== undefined && decision.event !== null) {
        decision.event = null;
        this.#untold--;
      }
    }
  }

  async forget(now: number): Promise<void> {
    const rewarded = new Set([...this.#rewards.values()].map((reward) => reward.decision));
    for (const { id, event, decidedAt, reward } of [...this.#decisions.values()]) {
      if (event === null && decidedAt + windowOf(reward) < now && !rewarded.has(id)) this.#decisions.delete(id);
    }
  }

  async waiting(): Promise<number> {
    return this.#untold + this.#rewards.size;
  }
}
