/**
 * Which keys a device believes. Trust begins with those that the app gives its client, or else with
 * those that the platform tells when it is first asked. Each bundle that they signed tells those
 * that are believed from then on, so keys may change while devices look on.
 */

import { NoregretError } from "../errors.js";
import type { Bundle, PublicKey } from "./bundle.js";

/** Public keys in base64url, by id. */
export type Keys = Readonly<Record<string, string>>;

export interface Trust {
  keys: Keys;
  /** Where it began: the app's keys as `nameOf` has them, null for the platform's first. */
  from: string | null;
  /** When the bundle was issued that told the keys; empty before the first. */
  since: string;
}

const ALGORITHM = "Ed25519";

/** What was kept, if it began with the same keys; an app with others begins anew. */
export function trustOf(text: string | null | undefined, given: Keys | undefined): Trust | null {
  const kept = read(text);
  if (given === undefined) return kept;
  const from = nameOf(given);
  return kept?.from === from ? kept : { keys: given, from, since: "" };
}

/** Null also where it is damaged: then trust begins anew. */
function read(text: string | null | undefined): Trust | null {
  try {
    const { keys, from, since } = JSON.parse(text ?? "") as Trust;
    return { keys: { ...keys }, from, since };
  } catch {
    return null;
  }
}

/** Of the platform's answer at /api/v1/edge/key. Throws NoregretError where that is none. */
export function firstTrust(text: string): Trust {
  let told: PublicKey[] | undefined;
  try {
    told = (JSON.parse(text) as { keys: PublicKey[] }).keys;
    return { keys: byId(told), from: null, since: "" };
  } catch (error) {
    throw new NoregretError("the keys were told by something that is no Noregret platform", { cause: error });
  }
}

/** After a bundle that is signed with one of these keys: one that is over, or older, tells nothing. */
export function trustAfter(trust: Trust, { keys, key_id, issued_at, expires_at }: Bundle, now: number): Trust {
  const isNews = now < Date.parse(expires_at) && !(Date.parse(issued_at) < Date.parse(trust.since));
  if (keys === undefined || !isNews) return trust;
  const told = byId(keys);
  return Object.hasOwn(told, key_id) ? { ...trust, keys: told, since: issued_at } : trust;
}

function byId(keys: readonly PublicKey[]): Keys {
  // What signs in another way is of no use here. Earlier platforms name no way.
  return Object.fromEntries(keys.flatMap((key) => ((key.algorithm ?? ALGORITHM) === ALGORITHM ? [[key.id, key.public_key]] : [])));
}

function nameOf(keys: Keys): string {
  return JSON.stringify(Object.entries(keys).sort());
}
