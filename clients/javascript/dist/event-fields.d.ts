/**
 * What a decision may say of its request, checked where it is made: the platform would refuse it
 * later, when nobody waits for an answer. The rules are those of the Python client's
 * `event_fields.py`, for the values that JavaScript has and as JSON tells them.
 */
export type Context = {
    readonly [name: string]: string | number | boolean | null;
};
export declare const LONGEST_TEXT = 256;
/** Characters as ASCII JSON: with its receipt a decision fits into a body of a mebibyte. */
export declare const LONGEST_CONTEXT: number;
export declare const MOST_EXCLUDED = 1000;
/**
 * Throws TypeError for what is no text of 1 to 256 characters, or holds what the ledger can't;
 * null and undefined are none.
 */
export declare function checkText(name: string, value: unknown): void;
/**
 * A copy of the context, without members that are undefined. Throws TypeError for what is no plain
 * object of texts, finite numbers, truths and nulls, or is too large.
 */
export declare function checkContext(context: unknown): Context | null;
/** The names of arms. Throws TypeError for what is no list of names. */
export declare function checkExclude(exclude: unknown): readonly string[];
/** Throws TypeError for what is no name that a metric can have; null and undefined are none. */
export declare function checkMetric(metric: unknown): void;
/** Throws TypeError for a text that no ledger can hold. */
export declare function checkCharacters(name: string, text: string): void;
