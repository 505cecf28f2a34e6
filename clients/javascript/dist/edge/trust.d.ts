/**
 * Which keys a device believes. Trust begins with those that the app gives its client, or else with
 * those that the platform tells when it is first asked. Each bundle that they signed tells those
 * that are believed from then on, so keys may change while devices look on.
 */
import type { Bundle } from "./bundle.js";
/** Public keys in base64url, by id. */
export type Keys = Readonly<Record<string, string>>;
export interface Trust {
    keys: Keys;
    /** Where it began: the app's keys as `nameOf` has them, null for the platform's first. */
    from: string | null;
    /** When the bundle was issued that told the keys; empty before the first. */
    since: string;
}
/** What was kept, if it began with the same keys; an app with others begins anew. */
export declare function trustOf(text: string | null | undefined, given: Keys | undefined): Trust | null;
/** Of the platform's answer at /api/v1/edge/key. Throws NoregretError where that is none. */
export declare function firstTrust(text: string): Trust;
/** After a bundle that is signed with one of these keys: one that is over, or older, tells nothing. */
export declare function trustAfter(trust: Trust, { keys, key_id, issued_at, expires_at }: Bundle, now: number): Trust;
