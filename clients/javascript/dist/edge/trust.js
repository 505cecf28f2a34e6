/**
 * Which keys a device believes. Trust begins with those that the app gives its client, or else with
 * those that the platform tells when it is first asked. Each bundle that they signed tells those
 * that are believed from then on, so keys may change while devices look on.
 */
import { NoregretError } from "../errors.js";
const ALGORITHM = "Ed25519";
/** What was kept, if it began with the same keys; an app with others begins anew. */
export function trustOf(text, given) {
    const kept = read(text);
    if (given === undefined)
        return kept;
    const from = nameOf(given);
    return kept?.from === from ? kept : { keys: given, from, since: "" };
}
/** Null also where it is damaged: then trust begins anew. */
function read(text) {
    try {
        const { keys, from, since } = JSON.parse(text ?? "");
        return { keys: { ...keys }, from, since };
    }
    catch {
        return null;
    }
}
/** Of the platform's answer at /api/v1/edge/key. Throws NoregretError where that is none. */
export function firstTrust(text) {
    let told;
    try {
        told = JSON.parse(text).keys;
        return { keys: byId(told), from: null, since: "" };
    }
    catch (error) {
        throw new NoregretError("the keys were told by something that is no Noregret platform", { cause: error });
    }
}
/** After a bundle that is signed with one of these keys: one that is over, or older, tells nothing. */
export function trustAfter(trust, { keys, key_id, issued_at, expires_at }, now) {
    const isNews = now < Date.parse(expires_at) && !(Date.parse(issued_at) < Date.parse(trust.since));
    if (keys === undefined || !isNews)
        return trust;
    const told = byId(keys);
    return Object.hasOwn(told, key_id) ? { ...trust, keys: told, since: issued_at } : trust;
}
function byId(keys) {
    // What signs in another way is of no use here. Earlier platforms name no way.
    return Object.fromEntries(keys.flatMap((key) => ((key.algorithm ?? ALGORITHM) === ALGORITHM ? [[key.id, key.public_key]] : [])));
}
function nameOf(keys) {
    return JSON.stringify(Object.entries(keys).sort());
}
