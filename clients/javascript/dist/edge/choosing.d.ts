/**
 * Which arm, by a bundle: the rules of docs/edge.md. The platform works the same probabilities out
 * when it is told, and refuses others.
 */
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
export declare class ContextInvalid extends EdgeError {
    name: string;
}
/**
 * The arm of a request that the arms at the positions `excluded` are not for; null where none is
 * left. Of a sticky unit only its first: who keeps arms asks `first` and `keptAmong`.
 */
export declare function route(bundle: Bundle, unit: string | null, context: Context | null, excluded: ReadonlySet<number>, uniform: Uniform): Route | null;
/** The control's, where the unit is held out. */
export declare function holdout(bundle: Bundle, unit: string | null, excluded: ReadonlySet<number>, uniform: Uniform): Route | null;
/** Is it of the holdout, whatever its request excludes? Drawn where there is no unit. */
export declare function isHeldOut(bundle: Bundle, unit: string | null, uniform: Uniform): boolean;
/** The arm that a sticky unit gets which the device does not know, and keeps. */
export declare function first(bundle: Bundle, unit: string, context: Context | null): Route;
/**
 * What a unit gets that keeps an arm, of a request which excludes some; null where it could have
 * had none of the others.
 */
export declare function keptAmong(bundle: Bundle, unit: string, kept: Route, excluded: ReadonlySet<number>): Route | null;
/**
 * Weighted rendezvous hashing: the position of the highest of the scores -w / ln(u), u being a
 * uniform hash of salt, unit and position.
 */
export declare function hashed(salt: bigint, unit: string, weights: readonly number[]): number;
/** A position with these probabilities; one of probability 0 is never drawn. */
export declare function drawn(shares: readonly number[], uniform: Uniform): number;
/** Every arm's probability among those that are enabled and not excluded; null where none is. */
export declare function sharesOf(bundle: Bundle, context: Context | null, excluded: ReadonlySet<number>): number[] | null;
/**
 * The vector of a request, as declared: 1, then numbers scaled to [0, 1], and categories one-hot
 * with one more for what was not declared.
 */
export declare function features(fields: readonly ContextField[], context: Context | null): number[];
