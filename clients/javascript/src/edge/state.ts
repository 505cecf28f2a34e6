/**
 * What a device remembers: the bundle, its units' arms, and the events that are still to be told.
 */

import type { Context, Reward } from "./bundle.js";

/** A unit's arm by name, and how it was drawn. */
export interface KeptArm {
  arm: string | null;
  propensities: number[];
  receipt: string;
  context: Context | null;
}

/** Of a decision by its id, or of a reward by its decision's and its metric. */
export type EventKey = readonly [decision: string, metric: string | null];

/** Events of one receipt as JSON, decisions before rewards. */
export interface Batch {
  receipt: string;
  keys: EventKey[];
  events: string[];
}

/** Throws for what a decision with these rules can't have. */
export type RewardCheck = (rules: Reward | null) => void;

export interface KeptDecision {
  id: string;
  receipt: string;
  /** Unix time in milliseconds. */
  decidedAt: number;
  event: string;
  /** What its rewards must be, as the bundle says that it was made by; null where none can be. */
  reward?: Reward | null;
}

/**
 * Each operation is one transaction, whoever shares the state. At most `limit` decisions wait to be
 * told, and as many units are kept.
 */
export interface State {
  /** Values by name, null where there is none. */
  get(...names: string[]): Promise<(string | null)[]>;
  put(values: Readonly<Record<string, string>>): Promise<void>;
  /**
   * The unit's arm: the one that it keeps where that `isGood`, else what is drawn. Units of other
   * experiments, and the oldest past the limit, are dropped.
   */
  arm(experiment: number, unit: string, isGood: (kept: KeptArm) => boolean, draw: () => KeptArm): Promise<KeptArm>;
  /** False where as many wait as may. */
  addDecision(decision: KeptDecision): Promise<boolean>;
  /**
   * False where the decision is not known here, or this metric of it waits already. `check` throws
   * where the reward is not what the decision's must be (null: that is not known), and then nothing
   * is kept.
   */
  addReward(decision: string, metric: string, event: string, check?: RewardCheck): Promise<boolean>;
  /**
   * The oldest receipt's events, at most so many; null where all are told. A reward comes with or
   * after its decision. Events of the receipts `without` are left out.
   */
  batch(most: number, without?: ReadonlySet<string>): Promise<Batch | null>;
  /** These need not be told again. A decision is remembered for its rewards. */
  told(keys: readonly EventKey[]): Promise<void>;
  /**
   * At this Unix time in milliseconds decisions that were told get no rewards any more whose own
   * window is over; receipts that nothing names are dropped.
   */
  forget(now: number): Promise<void>;
  /** Events that are still to be told. */
  waiting(): Promise<number>;
}

/** Of a decision whose bundle says nothing of rewards. */
const OTHER_WINDOW = 86_400_000;

/** Milliseconds from a decision in which it may be rewarded, by what its own bundle says. */
export function windowOf(reward: Reward | null | undefined): number {
  return reward == null ? OTHER_WINDOW : reward.window_seconds * 1000;
}

/** Of a request's events: a receipt may be larger, and the platform takes a mebibyte. */
const BATCH_BYTES = 384 * 1024;
const encoder = new TextEncoder();

/** The first events that one body carries; at least one. */
export function batchOf(receipt: string, waiting: readonly { key: EventKey; event: string }[]): Batch {
  let [bytes, count] = [0, 0];
  for (const { event } of waiting) {
    bytes += encoder.encode(event).length;
    if (bytes > BATCH_BYTES && count > 0) break;
    count++;
  }
  const fitting = waiting.slice(0, count);
  return { receipt, keys: fitting.map((one) => one.key), events: fitting.map((one) => one.event) };
}
