/**
 * What a decision may say of its request, checked where it is made: the platform would refuse it
 * later, when nobody waits for an answer. The rules are those of the Python client's
 * `event_fields.py`, for the values that JavaScript has and as JSON tells them.
 */
export const LONGEST_TEXT = 256;
/** Characters as ASCII JSON: with its receipt a decision fits into a body of a mebibyte. */
export const LONGEST_CONTEXT = 256 * 1024;
export const MOST_EXCLUDED = 1000;
const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;
const LETTERS = "lower case letters, digits and ._-, at most 63 of them";
const WHOLE = /^-?\d+$/;
const [LEAST, GREATEST] = [-(2n ** 63n), 2n ** 63n - 1n];
/**
 * Throws TypeError for what is no text of 1 to 256 characters, or holds what the ledger can't;
 * null and undefined are none.
 */
export function checkText(name, value) {
    if (value === null || value === undefined)
        return;
    if (typeof value !== "string" || value === "" || isLong(value)) {
        throw new TypeError(`${name}: a text of 1 to ${LONGEST_TEXT} characters was expected`);
    }
    checkCharacters(name, value);
}
/**
 * A copy of the context, without members that are undefined. Throws TypeError for what is no plain
 * object of texts, finite numbers, truths and nulls, or is too large.
 */
export function checkContext(context) {
    if (context === null || context === undefined)
        return null;
    if (Object.prototype.toString.call(context) !== "[object Object]") {
        throw new TypeError("context: names and their values were expected, as a plain object");
    }
    const members = Object.entries(context).filter(([, value]) => value !== undefined);
    for (const [name, value] of members) {
        checkCharacters("context", name);
        if (typeof value === "string")
            checkCharacters(`context.${name}`, value);
        else if (!(value === null || typeof value === "boolean" || isNumber(value))) {
            throw new TypeError(`context.${name}: a text, a finite number (a whole one of 64 bits), a truth or null was expected`);
        }
    }
    const checked = Object.fromEntries(members);
    const length = lengthOf(checked, members.length);
    if (length > LONGEST_CONTEXT) {
        throw new TypeError(`context: at most ${LONGEST_CONTEXT} characters as JSON were expected, not ${length}`);
    }
    return checked;
}
/** The names of arms. Throws TypeError for what is no list of names. */
export function checkExclude(exclude) {
    if (exclude === null || exclude === undefined)
        return [];
    if (!Array.isArray(exclude))
        throw new TypeError("exclude: a list of arms' names was expected");
    if (exclude.length > MOST_EXCLUDED)
        throw new TypeError(`exclude: at most ${MOST_EXCLUDED} names were expected`);
    for (const name of exclude) {
        if (typeof name !== "string" || !NAME.test(name)) {
            throw new TypeError(`exclude: arms' names were expected, of ${LETTERS}`);
        }
    }
    return exclude;
}
/** Throws TypeError for what is no name that a metric can have; null and undefined are none. */
export function checkMetric(metric) {
    if (metric === null || metric === undefined)
        return;
    if (typeof metric !== "string" || !NAME.test(metric)) {
        throw new TypeError(`metric: a name was expected, of ${LETTERS}`);
    }
}
/** Throws TypeError for a text that no ledger can hold. */
export function checkCharacters(name, text) {
    if (text.includes("\0"))
        throw new TypeError(`${name}: holds NUL`);
    if (/\p{Surrogate}/u.test(text))
        throw new TypeError(`${name}: holds half a surrogate pair, which has no UTF-8`);
}
/** By characters, of which some have two units. */
function isLong(text) {
    return text.length > 2 * LONGEST_TEXT || [...text].length > LONGEST_TEXT;
}
/** JSON tells numbers up to 1e21 by their digits, as whole ones of which the platform takes 64 bits. */
function isNumber(value) {
    if (typeof value !== "number" || !Number.isFinite(value))
        return false;
    const told = JSON.stringify(value);
    return !WHOLE.test(told) || (LEAST <= BigInt(told) && BigInt(told) <= GREATEST);
}
/** Of the JSON that has a space after each colon and comma, and escapes all that is not ASCII. */
function lengthOf(context, members) {
    const text = JSON.stringify(context);
    return text.length + 5 * (text.match(/[^ -~]/g)?.length ?? 0) + Math.max(0, 2 * members - 1);
}
