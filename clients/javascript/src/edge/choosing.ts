/**
 * Which arm, by a bundle: the rules of docs/edge.md. The platform works the same probabilities out
 * when it is told, and refuses others.
 */

import { probabilityBest } from "./best-arm.js";
import { blake2b } from "./blake2b.js";
import type { Bundle, Context, ContextField } from "./bundle.js";
import { EdgeError } from "./errors.js";

/** Gives a number in [0, 1) a call. */
export type Uniform = () => number;

/** The position of the arm to serve, and every arm's probability, by position. */
export interface Route {
  position: number;
  propensities: number[];
  holdout: boolean;
}

/** A declared field of the context has a value of the wrong type. */
export class ContextInvalid extends EdgeError {
  override name = "ContextInvalid";
}

const BLOCK = 8;
const HOLDOUT = 2n ** 62n;
const SECOND = 2n ** 61n;
const SMALLEST_VARIANCE = 1e-18;
const ALPHAS: Readonly<Record<string, number>> = { "lin-thompson": 0.5, "logistic-thompson": 1 };
const NONE: ReadonlySet<number> = new Set();
const encoder = new TextEncoder();

/**
 * The arm of a request that the arms at the positions `excluded` are not for; null where none is
 * left. Of a sticky unit only its first: who keeps arms asks `first` and `keptAmong`.
 */
export function route(
  bundle: Bundle,
  unit: string | null,
  context: Context | null,
  excluded: ReadonlySet<number>,
  uniform: Uniform,
): Route | null {
  const heldOut = holdout(bundle, unit, excluded, uniform);
  if (heldOut !== null) return heldOut;
  const shares = sharesOf(bundle, context, excluded);
  if (shares === null) return null;
  const position =
    bundle.choice === "hash" && unit !== null ? hashed(BigInt(bundle.experiment_id), unit, shares) : drawn(shares, uniform);
  return { position, propensities: shares, holdout: false };
}

/** The control's, where the unit is held out. */
export function holdout(bundle: Bundle, unit: string | null, excluded: ReadonlySet<number>, uniform: Uniform): Route | null {
  const control = bundle.arms.findIndex((arm) => arm.control && arm.enabled);
  if (control < 0 || excluded.has(control) || !isHeldOut(bundle, unit, uniform)) return null;
  return { position: control, propensities: bundle.arms.map((_, i) => Number(i === control)), holdout: true };
}

/** Is it of the holdout, whatever its request excludes? Drawn where there is no unit. */
export function isHeldOut(bundle: Bundle, unit: string | null, uniform: Uniform): boolean {
  const split = [bundle.holdout, 1 - bundle.holdout];
  if (!(bundle.holdout > 0) || !bundle.arms.some((arm) => arm.control && arm.enabled)) return false;
  return (unit === null ? drawn(split, uniform) : hashed(HOLDOUT + BigInt(bundle.experiment_id), unit, split)) === 0;
}

/** The arm that a sticky unit gets which the device does not know, and keeps. */
export function first(bundle: Bundle, unit: string, context: Context | null): Route {
  const shares = sharesOf(bundle, context, NONE);
  if (shares === null) throw new EdgeError("no arm is enabled");
  return { position: hashed(BigInt(bundle.experiment_id), unit, shares), propensities: shares, holdout: false };
}

/**
 * What a unit gets that keeps an arm, of a request which excludes some; null where it could have
 * had none of the others.
 */
export function keptAmong(bundle: Bundle, unit: string, kept: Route, excluded: ReadonlySet<number>): Route | null {
  const left = bundle.arms.map((arm, i) => (arm.enabled && !excluded.has(i) ? (kept.propensities[i] ?? 0) : 0));
  const total = sum(left);
  if (total <= 0) return null;
  const shares = left.map((share) => share / total);
  const own = kept.position;
  const position = shares[own]! > 0 ? own : hashed(SECOND + BigInt(bundle.experiment_id), unit, shares);
  return { position, propensities: shares, holdout: false };
}

/**
 * Weighted rendezvous hashing: the position of the highest of the scores -w / ln(u), u being a
 * uniform hash of salt, unit and position.
 */
export function hashed(salt: bigint, unit: string, weights: readonly number[]): number {
  if (/\p{Surrogate}/u.test(unit)) throw new TypeError("unit: half a surrogate pair has no UTF-8");
  const body = encoder.encode(unit);
  const key = bigEndian(salt, 8);
  let [best, bestScore] = [0, -1];
  for (let block = 0; block < weights.length; block += BLOCK) {
    const salted = new Uint8Array(16);
    salted.set(bigEndian(BigInt(block), 8));
    const digest = new DataView(blake2b(body, key, salted).buffer);
    for (let i = block; i < Math.min(block + BLOCK, weights.length); i++) {
      const weight = weights[i]!;
      if (weight <= 0) continue;
      const number = Number(digest.getBigUint64(8 * (i - block)));
      const score = -weight / Math.log((number + 0.5) * 2 ** -64);
      if (score > bestScore) [best, bestScore] = [i, score];
    }
  }
  return best;
}

function bigEndian(value: bigint, bytes: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(bytes));
  view.setBigUint64(0, value);
  return new Uint8Array(view.buffer);
}

/** A position with these probabilities; one of probability 0 is never drawn. */
export function drawn(shares: readonly number[], uniform: Uniform): number {
  const point = uniform() * sum(shares);
  let [passed, last] = [0, 0];
  for (const [position, share] of shares.entries()) {
    if (share <= 0) continue;
    passed += share;
    last = position;
    if (point < passed) break;
  }
  return last;
}

/** Every arm's probability among those that are enabled and not excluded; null where none is. */
export function sharesOf(bundle: Bundle, context: Context | null, excluded: ReadonlySet<number>): number[] | null {
  const x = bundle.context.length > 0 ? features(bundle.context, context) : [];
  const eligible = bundle.arms.map((arm, i) => arm.enabled && !excluded.has(i));
  const left = eligible.filter(Boolean).length;
  if (left === 0) return null;
  if (bundle.choice === "context") return inContext(bundle, x, eligible);
  const shares = bundle.arms.map((arm, i) => (eligible[i] ? (arm.propensity ?? 0) : 0));
  const total = sum(shares);
  if (total > 0) return excluded.size === 0 ? shares : shares.map((share) => share / total);
  return bundle.choice === "hash" ? null : eligible.map((can) => Number(can) / left);
}

/**
 * The vector of a request, as declared: 1, then numbers scaled to [0, 1], and categories one-hot
 * with one more for what was not declared.
 */
export function features(fields: readonly ContextField[], context: Context | null): number[] {
  const vector = [1];
  for (const field of fields) {
    const value = context !== null && Object.hasOwn(context, field.name) ? context[field.name] : null;
    if (field.type === "number") {
      vector.push(scaled(field, value ?? null));
      continue;
    }
    if (value !== null && value !== undefined && typeof value !== "string") throw new ContextInvalid(`${field.name}: must be a text`);
    for (const level of field.values) vector.push(Number(value === level));
    vector.push(Number(!field.values.includes(value as string)));
  }
  return vector;
}

function scaled(field: { name: string; min: number; max: number }, value: unknown): number {
  if (value === null) return 0.5;
  if (typeof value !== "number" || !Number.isFinite(value)) throw new ContextInvalid(`${field.name}: must be a finite number`);
  const part = (0.5 * value - 0.5 * field.min) / (0.5 * field.max - 0.5 * field.min);
  return Math.min(Math.max(part, 0), 1);
}

function inContext(bundle: Bundle, x: readonly number[], eligible: readonly boolean[]): number[] {
  const { policy, belief } = bundle;
  if (policy === null || belief === null) throw new EdgeError("the bundle has no policy or no belief");
  const places = eligible.flatMap((can, i) => (can ? [i] : []));
  const means = places.map((i) => dot(belief.mean[i]!, x));
  const deviations = places.map((i) => {
    const variance = dot(x, belief.covariance[i]!.map((row) => dot(row, x)));
    return Math.sqrt(Math.max(variance, SMALLEST_VARIANCE));
  });
  const alpha = Number(policy.params["alpha"] ?? ALPHAS[policy.name] ?? 1);
  let weights: number[];
  if (policy.name === "lin-ucb") {
    const index = means.map((mean, i) => mean + alpha * deviations[i]!);
    const leads = index.map((one) => Number(one >= Math.max(...index)));
    weights = leads.map((one) => one / sum(leads));
  } else if (policy.name in ALPHAS) {
    weights = probabilityBest(means, deviations.map((deviation) => alpha * deviation));
  } else {
    throw new EdgeError(`the policy ${policy.name} is not known to this version of the client`);
  }
  weights = withBurnIn(weights, places.map((i) => belief.counts[i]! < policy.burn_in));
  const floored = weights.map((weight) => policy.floor + (1 - places.length * policy.floor) * weight);
  const total = sum(floored);
  const shares = eligible.map(() => 0);
  places.forEach((place, i) => (shares[place] = floored[i]! / total));
  return shares;
}

/** Young arms get an even share each, and the others the rest in proportion to their weights. */
function withBurnIn(weights: readonly number[], young: readonly boolean[]): number[] {
  const arms = weights.length;
  const mature = young.filter((isYoung) => !isYoung).length;
  if (mature === arms) return [...weights];
  const left = sum(weights.map((weight, i) => (young[i] ? 0 : weight)));
  const rest = mature / arms;
  return weights.map((weight, i) => (young[i] ? 1 / arms : rest * (left > 0 ? weight / left : 1 / mature)));
}

function dot(left: readonly number[], right: readonly number[]): number {
  return sum(left.map((value, i) => value * right[i]!));
}

/** With what each addition lost (Neumaier). */
function sum(values: readonly number[]): number {
  let [total, lost] = [0, 0];
  for (const value of values) {
    const next = total + value;
    lost += Math.abs(total) >= Math.abs(value) ? total - next + value : value - next + total;
    total = next;
  }
  return total + lost;
}
