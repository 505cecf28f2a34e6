/**
 * How probable it is that each of several arms has the greatest value, their values being
 * independent normals: what a Thompson policy chooses by. P(k best) is the integral of arm k's
 * density times the others' distributions: Gauss-Legendre on panels between every arm's own
 * quantiles, so that narrow and wide arms are summed equally well.
 */

/** Standard deviations from an arm's mean at which panels end. */
const LEVELS = [
  -8.5, -7, -5.75, -4.75, -4, -3.25, -2.5, -1.75, -1, -0.35, 0.35, 1, 1.75, 2.5, 3.25, 4, 4.75, 5.75, 7, 8.5,
];
/** Positive nodes of the rule of eight points, and their weights. */
const RULE = [
  [0.1834346424956498, 0.362683783378362],
  [0.525532409916329, 0.3137066458778873],
  [0.7966664774136267, 0.2223810344533745],
  [0.9602898564975363, 0.1012285362903763],
] as const;
const DENSITY = 1 / Math.sqrt(2 * Math.PI);

/** P(best) of each of K arms, summing to 1; deviations are positive. */
export function probabilityBest(means: readonly number[], deviations: readonly number[]): number[] {
  if (means.length === 1) return [1];
  if (means.length === 2) {
    // The difference of two normals is one.
    const apart = (means[0]! - means[1]!) / Math.hypot(...deviations);
    return [below(apart), below(-apart)];
  }
  const best = means.map(() => 0);
  for (const [x, weight] of nodes(means, deviations)) {
    const z = means.map((mean, i) => (x - mean) / deviations[i]!);
    productsWithoutEach(z.map(below)).forEach((rest, i) => {
      best[i]! += (weight * rest * DENSITY * Math.exp(-0.5 * z[i]! * z[i]!)) / deviations[i]!;
    });
  }
  const total = best.reduce((sum, one) => sum + one, 0);
  return best.map((one) => one / total);
}

/** Points and weights. Below the highest of the arms' lower ends nobody is best. */
function nodes(means: readonly number[], deviations: readonly number[]): [number, number][] {
  const all = means.flatMap((mean, i) => LEVELS.map((level) => mean + level * deviations[i]!));
  const ends = [...new Set(all)].sort((left, right) => left - right);
  const low = Math.max(...means.map((mean, i) => mean + LEVELS[0]! * deviations[i]!));
  const points: [number, number][] = [];
  for (let i = 1; i < ends.length; i++) {
    const [left, right] = [ends[i - 1]!, ends[i]!];
    if (right <= low) continue;
    const [middle, half] = [(left + right) / 2, (right - left) / 2];
    for (const [point, weight] of RULE) points.push([middle - half * point, half * weight], [middle + half * point, half * weight]);
  }
  return points;
}

/** The products of all but one: a quotient would divide by 0. */
function productsWithoutEach(values: readonly number[]): number[] {
  const products: number[] = new Array(values.length);
  for (let i = 0, before = 1; i < values.length; before *= values[i++]!) products[i] = before;
  for (let i = values.length - 1, after = 1; i >= 0; after *= values[i--]!) products[i]! *= after;
  return products;
}

const ROOT_HALF = Math.sqrt(0.5);
/** From here on the fraction has the fewer terms. */
const FAR = 2.5;

/** The standard normal's distribution function. */
export function below(z: number): number {
  const x = Math.abs(z) * ROOT_HALF;
  const tail = 0.5 * (x < FAR ? 1 - nearby(x) : farOff(x));
  return z > 0 ? 1 - tail : tail;
}

/**
 * erf(x) = 2/sqrt(pi) exp(-x^2) (x + 2x^3/3 + 4x^5/15 + ...), whose terms are all positive
 * (Abramowitz and Stegun, 7.1.6).
 */
function nearby(x: number): number {
  let [term, sum] = [x, x];
  for (let n = 1; term > 1e-17 * sum; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/**
 * erfc(x) = exp(-x^2)/sqrt(pi) / (x + 1/2/(x + 1/(x + 3/2/(x + ...)))) (7.1.14), from a depth at
 * which it has settled.
 */
function farOff(x: number): number {
  let fraction = x;
  for (let n = 60; n > 0; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * fraction);
}
