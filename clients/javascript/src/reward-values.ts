/** Which values a reward may have: the rules of the Python client's `reward_values.py`. */

import { checkMetric } from "./event-fields.js";

/** The greatest value, either way: beyond it whole numbers are not exact, and squares do not fit. */
export const MAX_VALUE = 1e15;

/** What a reward must be, as a bundle says it. */
export interface Reward {
  metric: string;
  kind: string;
  minimum: number | null;
  maximum: number | null;
  window_seconds: number;
  /** False: of a single deployment, whose values are any numbers or truths. */
  declared?: boolean;
}

/** Throws TypeError for a value or a metric that no reward can have. */
export function checkAnyReward(value: unknown, metric: unknown): void {
  checkMetric(metric);
  const isTaken = typeof value === "boolean" || (typeof value === "number" && Math.abs(value) <= MAX_VALUE);
  if (!isTaken) throw new TypeError(`value: true, false or a number between ${-MAX_VALUE} and ${MAX_VALUE} was expected`);
}

/** Throws TypeError for a value that a decision with these rules can't have. */
export function checkReward(value: number | boolean, metric: string | null, rules: Reward): void {
  if (metric !== null && metric !== rules.metric) {
    if (typeof value === "boolean") throw new TypeError(`value: must be a number for the metric ${metric}`);
    return;
  }
  const problem = valueProblem(value, rules);
  if (problem !== null) throw new TypeError(`value: ${problem}`);
}

/** What is wrong with a value of the experiment's reward, or null. */
function valueProblem(value: number | boolean, { kind, minimum, maximum, declared = true }: Reward): string | null {
  const number = Number(value);
  if (kind === "binary") return number === 0 || number === 1 ? null : "must be 0, 1, false or true: the reward is binary";
  if (typeof value === "boolean" && declared) return `must be a number: the reward is ${kind}`;
  if (kind === "count" && !(number >= 0 && Number.isInteger(number))) return "must be a whole number, 0 or more: the reward is a count";
  if (minimum !== null && number < minimum) return `must be at least ${minimum}`;
  if (maximum !== null && number > maximum) return `must be at most ${maximum}`;
  return null;
}
