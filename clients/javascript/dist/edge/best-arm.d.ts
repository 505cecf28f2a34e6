/**
 * How probable it is that each of several arms has the greatest value, their values being
 * independent normals: what a Thompson policy chooses by. P(k best) is the integral of arm k's
 * density times the others' distributions: Gauss-Legendre on panels between every arm's own
 * quantiles, so that narrow and wide arms are summed equally well.
 */
/** P(best) of each of K arms, summing to 1; deviations are positive. */
export declare function probabilityBest(means: readonly number[], deviations: readonly number[]): number[];
/** The standard normal's distribution function. */
export declare function below(z: number): number;
